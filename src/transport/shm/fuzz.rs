//! Both ends of a lane on the heap, and a peer that writes whatever it likes into it, as the bytes of a fuzzer
//! say.

use std::time::Duration;

use super::{
    bell::OwnBell,
    lane::{HeapLane, Lane},
    receiver::ShmReceiver,
    sender::ShmSender,
};
use crate::{
    sync::modelled::Ordering::Relaxed,
    transport::{FrameSender, Received},
    wire::{FRAME_LIMIT, Feed},
};

/// Reads, writes and scribbles.
///
/// # Panics
///
/// When a packet comes out that is larger than one may be, or a rest of one that was sent whole.
pub(crate) fn ring(data: &[u8]) {
    let mut feed = Feed(data);
    let choice = feed.byte();
    let lane = HeapLane::new(1 << (choice % 8 + 1));
    let mut sender = ShmSender::new(lane.clone(), OwnBell::new());
    sender.be_patient_for(Duration::ZERO);
    let own = OwnBell::new();
    let mut receiver = ShmReceiver::new(lane.clone(), own.clone());
    receiver.never_spin();
    if choice & 8 != 0 {
        receiver.never_join();
    }
    // While nobody scribbles, what is sent is what comes.
    let (mut honest, mut sent, mut came) = (true, Vec::new(), Vec::new());
    while !feed.is_empty() {
        let op = feed.byte();
        match op % 8 {
            0 | 1 => {
                let bytes = feed.bytes(usize::from(op >> 3) + 1);
                // No more than there is room for: nobody reads meanwhile.
                if bytes.is_empty() || (bytes.len().div_ceil(8) + 1) > free(&lane) {
                    continue;
                }
                match sender.send(bytes) {
                    Ok(()) => sent.extend_from_slice(bytes),
                    Err(error) => assert!(!honest, "{error}"),
                }
            }
            2 | 3 => match receiver.look() {
                Ok(Some(Received::Packet(packet))) => {
                    assert!((1..=FRAME_LIMIT).contains(&packet.len()));
                    came.extend(packet);
                }
                Ok(_) => {}
                Err(error) => {
                    assert!(!honest, "{error}");
                    return;
                }
            },
            4 => own.nudge(lane.control()),
            place => {
                honest = false;
                let value = match op & 8 {
                    0 => u64::from(feed.byte()),
                    _ => feed.long(),
                };
                scribble(&lane, place, op >> 4, value);
            }
        }
        assert!(!honest || sent.starts_with(&came), "what came is not what was sent");
    }
}

/// How many words the producer could publish as far as the two indices say.
fn free(lane: &HeapLane) -> usize {
    let used =
        lane.control().producer.tail.load(Relaxed).wrapping_sub(lane.control().consumer.head.load(Relaxed));
    lane.words().len().saturating_sub(usize::try_from(used).unwrap_or(usize::MAX))
}

fn scribble(lane: &HeapLane, place: u8, which: u8, value: u64) {
    let control = lane.control();
    match (place, which % 4) {
        (5, _) => lane.words()[value as usize % lane.words().len()].store(value >> 8, Relaxed),
        (6, 0) => control.producer.tail.store(value, Relaxed),
        (6, 1) => drop(control.producer.tail.fetch_add(value, Relaxed)),
        (6, 2) => control.consumer.head.store(value, Relaxed),
        (6, _) => drop(control.consumer.head.fetch_add(value, Relaxed)),
        (_, 0) => control.producer.bell.store(value as u32, Relaxed),
        (_, 1) => control.producer.core.store(value as u32, Relaxed),
        (_, at) => lane.words()[usize::from(at) % lane.words().len()].store(value, Relaxed),
    }
}
