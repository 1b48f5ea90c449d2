//! Frames under way, as the link counts them.

use std::collections::VecDeque;

use crossbeam_channel::{Receiver, Sender};

use super::{
    FrameReceiver, FrameSender, Received, Transport, Window,
    expect::{expect, pattern, receive, send},
    expect_all,
};
use crate::wire::FRAME_LIMIT;

/// Numbers with the sizes of frames in an order without a pattern.
pub(super) fn mixed_sizes() -> impl Iterator<Item = (u64, usize)> {
    (0u64..).map(|number| {
        let random = (number + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        (number, FRAME_SIZES[random as usize % FRAME_SIZES.len()])
    })
}

/// The size of the frame with this number, when small ones leave just room for one of the largest.
pub(super) fn small_then_large(window: Window, small: usize, number: u64) -> usize {
    let next = number as usize + 1;
    let is_last = next == window.frames as usize || next * small >= window.bytes as usize;
    if is_last { FRAME_LIMIT } else { small }
}

/// What is under way and unread, as the link counts it.
pub(super) struct Flight {
    window: Window,
    pub(super) under_way: VecDeque<Vec<u8>>,
    bytes: usize,
}

impl Flight {
    pub(super) fn new(window: Window) -> Flight {
        Flight { window, under_way: VecDeque::new(), bytes: 0 }
    }

    pub(super) fn start(&mut self, number: u64, len: usize) -> &[u8] {
        self.bytes += len;
        self.under_way.push_back(pattern(len, number));
        self.under_way.back().expect("it was just put there")
    }

    pub(super) fn land(&mut self) -> Vec<u8> {
        let packet = self.under_way.pop_front().expect("something is under way");
        self.bytes -= packet.len();
        packet
    }

    pub(super) fn has_room(&self) -> bool {
        self.window.has_room(self.under_way.len() as u32, self.bytes as u32)
    }
}

/// Fills both windows, nudges both receivers, and receives it all.
pub(super) fn fill_both(left: &mut Transport, right: &mut Transport, frame: impl Fn(u64) -> (u64, usize)) {
    let mut rightward = fill(left, &frame);
    let mut leftward = fill(right, &frame);
    for (end, flight) in [(right, &mut rightward), (left, &mut leftward)] {
        end.nudge.nudge();
        expect_all(end, flight);
        expect(receive(end), &Received::Nudge);
    }
}

fn fill(from: &mut Transport, frame: impl Fn(u64) -> (u64, usize)) -> Flight {
    let mut flight = Flight::new(from.window);
    for (number, len) in (0..).map(frame) {
        if !flight.has_room() {
            break;
        }
        send(from, flight.start(number, len));
    }
    (0..ON_TOP).for_each(|number| send(from, flight.start(number, SMALL)));
    flight
}

/// Sends as far as the window allows; `taken` says when a packet was received.
pub(super) fn pump(mut sender: Box<dyn FrameSender>, window: Window, taken: &Receiver<()>) {
    let mut flight = Flight::new(window);
    for (number, len) in mixed_sizes().take(PACKETS) {
        while !flight.has_room() {
            taken.recv().expect("the receiver goes on");
            flight.land();
        }
        sender.send(flight.start(number, len)).expect("the packet is sent");
    }
    // The sender stays until all has arrived, since its end is not what is tried here.
    while !flight.under_way.is_empty() {
        taken.recv().expect("the receiver goes on");
        flight.land();
    }
}

pub(super) fn drain(mut receiver: Box<dyn FrameReceiver>, taken: &Sender<()>) {
    for (number, len) in mixed_sizes().take(PACKETS) {
        let received = receiver.receive(None).expect("receiving goes on");
        expect(received, &Received::Packet(pattern(len, number)));
        // The sender is gone only after an error of its own.
        let _ = taken.send(());
    }
}

/// Frames for windows: among them the sizes at which a kernel's buffers cost the most for a byte.
pub(super) const FRAME_SIZES: [usize; 8] = [24, 100, 720, 1000, 1800, 4000, 20_000, FRAME_LIMIT];
/// How many packets of what size go beside a full window.
const ON_TOP: u64 = 8;
const SMALL: usize = 320;
/// How many packets go each way while both halves work.
const PACKETS: usize = 1000;
