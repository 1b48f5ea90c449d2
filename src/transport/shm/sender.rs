//! Packets into a lane.

use std::{
    io,
    time::{Duration, Instant},
};

use super::{bell::OwnBell, lane::Lane, ring::Producer, sleep};
use crate::{
    sync::modelled::{Ordering, yield_now},
    transport::FrameSender,
    wire::FRAME_LIMIT,
};

/// The sending half. A packet is a word with its length in bytes, and as many words as that fills.
pub(super) struct ShmSender<L: Lane> {
    ring: Producer<L>,
    /// That of the receiving half, which is told when the peer is dead.
    own: OwnBell,
    /// How long a packet waits for a peer that makes no room.
    patience: Duration,
}

impl<L: Lane> ShmSender<L> {
    pub(super) fn new(lane: L, own: OwnBell) -> ShmSender<L> {
        ShmSender { ring: Producer::new(lane), own, patience: PATIENCE }
    }

    #[cfg(all(any(test, fuzzing), not(loom)))]
    pub(super) fn be_patient_for(&mut self, patience: Duration) {
        self.patience = patience;
    }

    pub(super) fn send_packet(&mut self, packet: &[u8]) -> io::Result<()> {
        if packet.is_empty() || packet.len() > FRAME_LIMIT {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        self.check_peer()?;
        let mut until = None;
        while !self.ring.put_word(packet.len() as u64)? {
            self.make_room(&mut until)?;
        }
        let mut rest = &packet[self.ring.put(packet)?..];
        while !rest.is_empty() {
            self.make_room(&mut until)?;
            rest = &rest[self.ring.put(rest)?..];
        }
        self.hand_over()
    }

    fn check_peer(&self) -> io::Result<()> {
        let is_gone = self.ring.lane.control().is_deaf() || self.own.is_ended();
        if is_gone { Err(io::ErrorKind::BrokenPipe.into()) } else { Ok(()) }
    }

    /// Shows the peer what was put, and wakes it if it sleeps.
    fn hand_over(&self) -> io::Result<()> {
        let control = self.ring.lane.control();
        // Nothing depends on when it is seen, nor on whether it is true.
        control.producer.core.store(sleep::current_core().wrapping_add(1), Ordering::Relaxed);
        self.ring.publish();
        if control.ring() { Ok(()) } else { Err(io::ErrorKind::BrokenPipe.into()) }
    }

    /// Hands over what there is so far, and waits until there is room for more. The ring holds more than
    /// the window of a link: no peer that counts what it has read right ever lets us come here.
    ///
    /// The patience is one for the whole packet: a peer that reads word by word has no more of it.
    #[cold]
    fn make_room(&mut self, until: &mut Option<Instant>) -> io::Result<()> {
        self.hand_over()?;
        let until = *until.get_or_insert_with(|| Instant::now() + self.patience);
        for round in 0.. {
            if self.ring.room(1)? > 0 {
                return Ok(());
            }
            self.check_peer()?;
            if Instant::now() >= until {
                return Err(io::Error::new(io::ErrorKind::TimedOut, "the other side does not read"));
            }
            wait_a_little(round);
        }
        unreachable!("the range has no end")
    }
}

impl<L: Lane + Send> FrameSender for ShmSender<L> {
    fn send(&mut self, packet: &[u8]) -> io::Result<()> {
        self.send_packet(packet)
    }
}

impl<L: Lane> Drop for ShmSender<L> {
    fn drop(&mut self) {
        self.ring.lane.control().hang_up();
    }
}

/// Waits longer from round to round.
fn wait_a_little(round: u32) {
    match round {
        0..YIELDS => yield_now(),
        _ => std::thread::sleep(NAP),
    }
}

/// Long enough for a peer that was stopped for a moment, and short enough for our own close.
const PATIENCE: Duration = Duration::from_secs(1);
const YIELDS: u32 = 100;
const NAP: Duration = Duration::from_millis(1);
