//! What is sent, and what has to come of it, in words.

use std::time::Instant;

use super::{Received, Transport};

pub(super) fn send(from: &mut Transport, packet: &[u8]) {
    if let Err(error) = from.sender.send(packet) {
        panic!("sending a packet of {} bytes failed: {error}", packet.len());
    }
}

pub(super) fn receive(to: &mut Transport) -> Received {
    receive_until(to, None)
}

pub(super) fn receive_until(to: &mut Transport, deadline: Option<Instant>) -> Received {
    to.receiver.receive(deadline).unwrap_or_else(|error| panic!("receiving failed: {error}"))
}

pub(super) fn try_receive(to: &mut Transport) -> Option<Received> {
    to.receiver.try_receive().unwrap_or_else(|error| panic!("trying to receive failed: {error}"))
}

#[track_caller]
pub(super) fn expect(received: Received, expected: &Received) {
    if received != *expected {
        panic!("expected {}, received {}", in_words(expected), in_words(&received));
    }
}

#[track_caller]
pub(super) fn expect_packet(to: &mut Transport, packet: &[u8]) {
    match receive(to) {
        Received::Packet(received) if received == packet => {}
        other => panic!("expected {}, received {}", bytes_in_words(packet), in_words(&other)),
    }
}

#[track_caller]
pub(super) fn expect_nothing(to: &mut Transport) {
    if let Some(received) = try_receive(to) {
        panic!("expected nothing, received {}", in_words(&received));
    }
}

fn in_words(received: &Received) -> String {
    match received {
        Received::Packet(packet) => bytes_in_words(packet),
        other => format!("{other:?}"),
    }
}

fn bytes_in_words(packet: &[u8]) -> String {
    format!("a packet of {} bytes that begins with {:?}", packet.len(), &packet[..packet.len().min(12)])
}

/// A frame that can be told from others.
pub(super) fn pattern(len: usize, number: u64) -> Vec<u8> {
    let mut bytes = vec![0; len];
    let mut word = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    for eight in bytes.chunks_mut(8) {
        eight.copy_from_slice(&word.to_le_bytes()[..eight.len()]);
        word = word.rotate_left(9).wrapping_mul(31);
    }
    announcing(bytes)
}

/// A frame of these bytes: its length stands at their start.
pub(super) fn announcing(mut frame: Vec<u8>) -> Vec<u8> {
    let len = (frame.len() - 4) as u32;
    frame[..4].copy_from_slice(&len.to_le_bytes());
    frame
}
