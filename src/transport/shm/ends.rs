//! The two ends of a connection, and what it takes to make one of them in another process.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
};

use super::{
    bell::OwnBell,
    copy::WORD,
    lane::Lane,
    mapping::{self, LANE, MappedLane},
    receiver::ShmReceiver,
    sender::ShmSender,
};
use crate::{
    sync::Arc,
    transport::{Nudge, Transport, Window},
    wire::{FRAME_LIMIT, Side},
};

/// Both ends of a connection over shared memory, within this process.
///
/// # Errors
///
/// When there is no memory for it, or no descriptor.
pub fn shm_pair() -> io::Result<(Transport, Transport)> {
    let ends = ShmEnds::new()?;
    Ok((ends.ours.into_transport()?, ends.theirs.into_transport()?))
}

/// A connection before one end of it is sent to where it belongs.
#[derive(Debug)]
pub struct ShmEnds {
    /// The Head's.
    pub ours: ShmParts,
    /// The Neck's.
    pub theirs: ShmParts,
}

/// What one end needs.
#[derive(Debug)]
pub struct ShmParts {
    memory: OwnedFd,
    side: Side,
}

impl ShmEnds {
    /// Fresh memory, and a descriptor of it for each end.
    ///
    /// # Errors
    ///
    /// When there is no memory for it, or no descriptor.
    pub fn new() -> io::Result<ShmEnds> {
        let ours = mapping::new_memory()?;
        let theirs = ours.try_clone()?;
        let parts = |memory, side| ShmParts { memory, side };
        Ok(ShmEnds { ours: parts(ours, Side::Head), theirs: parts(theirs, Side::Neck) })
    }
}

impl ShmParts {
    /// The end at this side of memory that came from another process. Nothing about it is trusted.
    ///
    /// # Errors
    ///
    /// When the descriptor is no memory of the right size whose size is sealed, is laid out differently,
    /// or cannot be mapped.
    pub fn from_fd(memory: OwnedFd, side: Side) -> io::Result<Transport> {
        ShmParts { memory, side }.into_transport()
    }

    /// The descriptor to send, which is closed on exec: for [`from_fd`](ShmParts::from_fd) over there.
    pub fn into_fd(self) -> OwnedFd {
        self.memory
    }

    #[cfg(test)]
    pub(super) fn memory(&self) -> std::os::fd::BorrowedFd<'_> {
        self.memory.as_fd()
    }

    /// The end itself. The descriptor is closed: the mapping does not need it.
    ///
    /// # Errors
    ///
    /// As for [`from_fd`](ShmParts::from_fd).
    pub fn into_transport(self) -> io::Result<Transport> {
        self.into_watched().map(|(end, _)| end)
    }

    /// The same, with a means to tell it that the other process is dead: a process that was killed has no
    /// time to say so itself.
    ///
    /// # Errors
    ///
    /// As for [`from_fd`](ShmParts::from_fd).
    pub fn into_watched(self) -> io::Result<(Transport, DeathNotice)> {
        let (out, inward) = mapping::lanes(self.memory.as_fd(), self.side)?;
        let own = OwnBell::new();
        let notice = DeathNotice { lane: inward.clone(), own: own.clone() };
        let end = Transport {
            sender: Box::new(ShmSender::new(out, own.clone())),
            nudge: Arc::new(ShmNudge { lane: inward.clone(), own: own.clone() }),
            receiver: Box::new(ShmReceiver::new(inward, own)),
            window: WINDOW,
            wakes_at_deadlines: true,
            sees_the_end: true,
            name: "shm",
        };
        Ok((end, notice))
    }
}

/// Tells one end that the process at the other one is dead.
#[derive(Clone, Debug)]
pub struct DeathNotice {
    lane: MappedLane,
    own: OwnBell,
}

impl DeathNotice {
    /// Makes whoever receives get what was sent, and then the end; sending becomes an error. Never blocks.
    pub fn give(&self) {
        self.own.end(self.lane.control());
    }
}

struct ShmNudge {
    lane: MappedLane,
    own: OwnBell,
}

impl Nudge for ShmNudge {
    fn nudge(&self) {
        self.own.nudge(self.lane.control());
    }
}

/// The usual window, one frame over it, and what goes beside it fit into a lane, each packet with its
/// length and filled up to a whole word: an honest peer never makes a send wait.
const WINDOW: Window = Window { frames: 128, bytes: 128 * 1024, large: 1 };
const BESIDE: usize = 8;
const _: () = {
    let bytes = WINDOW.bytes as usize + FRAME_LIMIT + BESIDE * 320;
    let packets = WINDOW.frames as usize + BESIDE;
    assert!(bytes + packets * 2 * WORD <= LANE);
};
