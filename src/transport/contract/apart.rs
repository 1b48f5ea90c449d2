//! A receiver that hands out one frame at a time, so that transports of packets and streams look alike.

use std::{collections::VecDeque, io, time::Instant};

use super::{FrameReceiver, Received, Transport};
use crate::wire::FRAME_LIMIT;

/// Both ends, which hand out one frame at a time.
pub(super) fn apart((left, right): (Transport, Transport)) -> (Transport, Transport) {
    let one_by_one = |end: Transport| {
        let receiver = Box::new(OneByOne { packets: end.receiver, frames: VecDeque::new() });
        Transport { receiver, ..end }
    };
    (one_by_one(left), one_by_one(right))
}

/// Takes packets apart.
struct OneByOne {
    packets: Box<dyn FrameReceiver>,
    frames: VecDeque<Vec<u8>>,
}

impl OneByOne {
    fn first_of(&mut self, received: Received) -> Received {
        let Received::Packet(packet) = received else { return received };
        assert!((1..=FRAME_LIMIT).contains(&packet.len()), "a packet of {} bytes", packet.len());
        let mut rest = &packet[..];
        while let Some(len) = rest.first_chunk() {
            let len = u32::from_le_bytes(*len) as usize + 4;
            assert!(len <= rest.len(), "a packet of {} bytes is cut off within a frame", packet.len());
            let (frame, behind) = rest.split_at(len);
            self.frames.push_back(frame.to_vec());
            rest = behind;
        }
        assert!(rest.is_empty(), "a packet of {} bytes ends with a part of a frame", packet.len());
        Received::Packet(self.frames.pop_front().expect("no packet is empty"))
    }
}

impl FrameReceiver for OneByOne {
    fn receive(&mut self, deadline: Option<Instant>) -> io::Result<Received> {
        if let Some(frame) = self.frames.pop_front() {
            return Ok(Received::Packet(frame));
        }
        let received = self.packets.receive(deadline)?;
        Ok(self.first_of(received))
    }

    fn try_receive(&mut self) -> io::Result<Option<Received>> {
        if let Some(frame) = self.frames.pop_front() {
            return Ok(Some(Received::Packet(frame)));
        }
        let received = self.packets.try_receive()?;
        Ok(received.map(|received| self.first_of(received)))
    }
}
