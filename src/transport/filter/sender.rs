//! The way out: the hello as it is, then records.

use std::{
    collections::VecDeque,
    io,
    time::{Duration, Instant},
};

use super::{record::Packer, session::Session};
use crate::{
    sync::Arc,
    transport::FrameSender,
    wire::{Kind, Taken, take_frame},
};

pub(super) struct FilterSender {
    to: Box<dyn FrameSender>,
    session: Arc<Session>,
    /// The hello has gone.
    greeted: bool,
    packer: Option<Packer>,
    /// Records that wait behind one for which there was no room.
    waiting: VecDeque<Vec<u8>>,
    /// A part of a record is left to the sender inside.
    stuck: bool,
}

impl FilterSender {
    pub(super) fn new(to: Box<dyn FrameSender>, session: Arc<Session>) -> FilterSender {
        FilterSender { to, session, greeted: false, packer: None, waiting: VecDeque::new(), stuck: false }
    }

    /// Sends what may go past the filters: the hello, which comes first, and a bye as long as nothing is agreed on. A
    /// link sends nothing else before that; should it, it must not leave. Gives back the rest.
    fn send_bare<'a>(&mut self, mut packet: &'a [u8]) -> io::Result<&'a [u8]> {
        while !packet.is_empty() && (!self.greeted || !self.session.is_agreed()) {
            let may_go = |kind| kind == Kind::Bye || kind == Kind::Hello && !self.greeted;
            let (frame, rest) = match take_frame(packet) {
                Ok(Taken::Frame(header, len)) if may_go(header.kind) => packet.split_at(len),
                _ => return Err(io::Error::other("a frame was about to go past the filters of its link")),
            };
            self.to.send(frame)?;
            self.greeted = true;
            packet = rest;
        }
        Ok(packet)
    }
}

impl FrameSender for FilterSender {
    fn send(&mut self, packet: &[u8]) -> io::Result<()> {
        let mut whole = self.try_send(packet)?;
        while !whole {
            whole = self.go_on(Instant::now() + TURN)?;
        }
        Ok(())
    }

    fn try_send(&mut self, packet: &[u8]) -> io::Result<bool> {
        let packet = if self.packer.is_some() { packet } else { self.send_bare(packet)? };
        if packet.is_empty() {
            return Ok(true);
        }
        if self.packer.is_none() {
            self.packer = self.session.packer();
        }
        let Some(packer) = &mut self.packer else {
            return Err(io::Error::other("the filters of a link are not agreed on"));
        };
        packer.pack(packet, |record| {
            if self.stuck {
                self.waiting.push_back(record.to_vec());
            } else {
                self.stuck = !self.to.try_send(record)?;
            }
            Ok(())
        })?;
        Ok(!self.stuck)
    }

    fn go_on(&mut self, until: Instant) -> io::Result<bool> {
        while self.stuck {
            if !self.to.go_on(until)? {
                return Ok(false);
            }
            self.stuck = false;
            while !self.stuck
                && let Some(record) = self.waiting.pop_front()
            {
                self.stuck = !self.to.try_send(&record)?;
            }
        }
        Ok(true)
    }

    fn be_patient_for(&mut self, limit: Duration) {
        self.to.be_patient_for(limit);
    }
}

/// How long to wait before looking again. The sender inside knows how long it may take.
const TURN: Duration = Duration::from_secs(1);
