//! Packets into a lane.

use std::{
    io,
    time::{Duration, Instant},
};

use super::{bell::OwnBell, copy::WORD, lane::Lane, ring::Producer, sleep};
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
    /// A packet for which there is no room, how much of it was put, and until when it may wait. The ring holds more
    /// than the window of a link: no peer that counts what it has read right ever lets us come to this.
    left: Option<Left>,
}

struct Left {
    packet: Vec<u8>,
    /// The word with the length counts as the first 8 bytes.
    put: usize,
    until: Instant,
}

impl<L: Lane> ShmSender<L> {
    pub(super) fn new(lane: L, own: OwnBell) -> ShmSender<L> {
        ShmSender { ring: Producer::new(lane), own, patience: PATIENCE, left: None }
    }

    #[cfg(all(any(test, fuzzing), not(loom)))]
    pub(super) fn be_patient_for(&mut self, patience: Duration) {
        self.patience = patience;
    }

    pub(super) fn send_packet(&mut self, packet: &[u8]) -> io::Result<()> {
        let mut whole = self.try_send_packet(packet)?;
        while !whole {
            whole = self.go_on_sending(Instant::now() + PATIENCE)?;
        }
        Ok(())
    }

    fn try_send_packet(&mut self, packet: &[u8]) -> io::Result<bool> {
        if packet.is_empty() || packet.len() > FRAME_LIMIT {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        self.check_peer()?;
        let words = 1 + packet.len().div_ceil(WORD);
        if self.ring.room(words)? < words {
            let until = Instant::now() + self.patience;
            self.left = Some(Left { packet: packet.to_vec(), put: 0, until });
            return Ok(false);
        }
        self.ring.put_word(packet.len() as u64)?;
        self.ring.put(packet)?;
        self.hand_over()?;
        Ok(true)
    }

    /// Puts more of the packet that is left.
    fn put_more(ring: &mut Producer<L>, left: &mut Left) -> io::Result<bool> {
        if left.put == 0 && ring.put_word(left.packet.len() as u64)? {
            left.put = WORD;
        }
        if left.put > 0 {
            left.put += ring.put(&left.packet[left.put - WORD..])?;
        }
        Ok(left.put == WORD + left.packet.len())
    }

    /// The patience is one for the whole packet: a peer that reads word by word has no more of it.
    #[cold]
    fn go_on_sending(&mut self, until: Instant) -> io::Result<bool> {
        let Some(mut left) = self.left.take() else { return Ok(true) };
        for round in 0.. {
            let whole = Self::put_more(&mut self.ring, &mut left)?;
            self.hand_over()?;
            if whole {
                return Ok(true);
            }
            self.check_peer()?;
            let now = Instant::now();
            if now >= left.until {
                return Err(io::Error::new(io::ErrorKind::TimedOut, "the other side does not read"));
            }
            if now >= until {
                break;
            }
            wait_a_little(round);
        }
        self.left = Some(left);
        Ok(false)
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
}

impl<L: Lane + Send> FrameSender for ShmSender<L> {
    fn send(&mut self, packet: &[u8]) -> io::Result<()> {
        self.send_packet(packet)
    }

    fn try_send(&mut self, packet: &[u8]) -> io::Result<bool> {
        self.try_send_packet(packet)
    }

    fn go_on(&mut self, until: Instant) -> io::Result<bool> {
        self.go_on_sending(until)
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
