//! The way out: the hello as it is, then records.

use std::{io, time::Duration};

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
}

impl FilterSender {
    pub(super) fn new(to: Box<dyn FrameSender>, session: Arc<Session>) -> FilterSender {
        FilterSender { to, session, greeted: false, packer: None }
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
        let packet = if self.packer.is_some() { packet } else { self.send_bare(packet)? };
        if packet.is_empty() {
            return Ok(());
        }
        if self.packer.is_none() {
            self.packer = self.session.packer();
        }
        match &mut self.packer {
            Some(packer) => packer.pack(packet, |record| self.to.send(record)),
            None => Err(io::Error::other("the filters of a link are not agreed on")),
        }
    }

    fn be_patient_for(&mut self, limit: Duration) {
        self.to.be_patient_for(limit);
    }
}
