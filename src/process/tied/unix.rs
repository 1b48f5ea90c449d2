//! The ties of a child that inherits descriptors.

use std::{
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    time::Duration,
};

use serde::{Deserialize, Serialize};

use crate::{
    error::{CloseReason, StartError},
    os::{self, Attendant, ProcessWatch},
    process::{
        Launch, LaunchOptions, Program, Wire,
        bootstrap::{MALFORMED, connect, not_spawned},
        invitation::{Handed, Invitation, VARIABLE, WireEnd},
        name,
    },
    transport::{PipeEnd, ShmEnds, ShmParts, Transport},
    wire::{Side, Token},
};

/// What the Head holds for as long as the child may live: the writing end of a pipe to which nobody writes.
#[derive(Debug)]
pub(crate) struct Lifeline(#[allow(dead_code, reason = "what counts is that it closes")] OwnedFd);

impl Lifeline {
    /// The child has come.
    pub(in super::super) fn with(self, _: Brought) -> Lifeline {
        self
    }
}

#[cfg(test)]
impl From<OwnedFd> for Lifeline {
    fn from(writer: OwnedFd) -> Lifeline {
        Lifeline(writer)
    }
}

/// What the child brings besides its end of the wire: it has inherited the rest.
#[derive(Clone, Serialize, Deserialize)]
pub(in super::super) struct Brought;

#[cfg(any(not(target_os = "linux"), test))]
impl Brought {
    /// What a stranger brings.
    pub(in super::super) fn nothing() -> io::Result<Brought> {
        Ok(Brought)
    }
}

impl Handed {
    /// What the child will have under the number that it has here.
    pub(in super::super) fn of(fd: &(impl AsFd + AsRawFd)) -> io::Result<Handed> {
        Ok(Handed { number: fd.as_raw_fd(), file: os::identity(fd.as_fd())? })
    }
}

impl Program {
    /// Makes the lifeline, and tells the child of it and of all the rest. Gives back our end.
    pub(in super::super) fn invite(&mut self, wire: WireEnd, token: Token) -> Result<Lifeline, StartError> {
        self.invite_with(wire, None, token)
    }

    fn invite_with(
        &mut self,
        wire: WireEnd,
        inherited: Option<OwnedFd>,
        token: Token,
    ) -> Result<Lifeline, StartError> {
        let (theirs, ours) = os::pipe().map_err(StartError::setup("lifeline"))?;
        let lifeline = Handed::of(&theirs).map_err(StartError::setup("lifeline"))?;
        let invitation = Invitation { token, lifeline: Some(lifeline), head: std::process::id(), wire };
        self.command.env(VARIABLE, invitation.to_text());
        self.hand_down.give(inherited.into_iter().chain([theirs]).collect());
        Ok(Lifeline(ours))
    }
}

pub(in super::super) fn launch_to_inherit(
    program: &mut Program,
    token: Token,
    options: LaunchOptions,
) -> Result<Launch, StartError> {
    let (transport, theirs) = ends(options.wire)?;
    let handed = Handed::of(&theirs).map_err(StartError::setup("wire to the child"))?;
    let wire = match options.wire {
        Wire::Shm => WireEnd::Shm(handed),
        _ => WireEnd::Pipe(handed),
    };
    let lifeline = program.invite_with(wire, Some(theirs), token)?;
    let child = program.spawn(&options)?;
    Ok(Launch { transport, child, token, lifeline })
}

/// Our end of a wire, and what the child inherits of it.
fn ends(wire: Wire) -> Result<(Transport, OwnedFd), StartError> {
    if wire == Wire::Shm {
        let ends = ShmEnds::new().map_err(StartError::setup("shared memory"))?;
        return Ok((
            ends.ours.into_transport().map_err(StartError::setup("shared memory"))?,
            ends.theirs.into_fd(),
        ));
    }
    let (ours, theirs) = PipeEnd::pair().map_err(StartError::setup("pair of sockets"))?;
    Ok((ours.into_transport().map_err(StartError::setup("event"))?, OwnedFd::from(theirs)))
}

/// What the Head has handed down, and the wire to it.
pub(in super::super) fn reach(invitation: &Invitation) -> Result<(HeadWatch, Transport), StartError> {
    let (lifeline, transport) = match &invitation.wire {
        WireEnd::Ipc(name) => meet(invitation, name)?,
        WireEnd::Pipe(socket) => inherit(invitation, *socket)?,
        WireEnd::Shm(memory) => share(invitation, *memory)?,
    };
    Ok((HeadWatch::new(lifeline, invitation.head), transport))
}

fn meet(invitation: &Invitation, name: &str) -> Result<(OwnedFd, Transport), StartError> {
    // What can fail for want of room comes first: it may be tried again.
    name::prepare_ipc()?;
    let [lifeline] = take([handed(invitation)?])?;
    Ok((lifeline, connect(invitation.token, name, Brought)?))
}

fn inherit(invitation: &Invitation, socket: Handed) -> Result<(OwnedFd, Transport), StartError> {
    // As above: it comes first because it can fail.
    let wakeup = os::Wakeup::new().map_err(StartError::setup("event"))?;
    let [lifeline, socket] = take([handed(invitation)?, socket])?;
    Ok((lifeline, PipeEnd::from(socket).with_nudge(wakeup)))
}

fn share(invitation: &Invitation, memory: Handed) -> Result<(OwnedFd, Transport), StartError> {
    let [lifeline, memory] = take([handed(invitation)?, memory])?;
    let transport = ShmParts::from_fd(memory, Side::Neck).map_err(StartError::setup("shared memory"))?;
    Ok((lifeline, transport))
}

fn handed(invitation: &Invitation) -> Result<Handed, StartError> {
    invitation.lifeline.ok_or_else(|| not_spawned(MALFORMED))
}

fn take<const N: usize>(handed: [Handed; N]) -> Result<[OwnedFd; N], StartError> {
    os::take_inherited(handed.map(|Handed { number, file }| (number, file))).map_err(not_spawned)
}

/// Sees the end of the Head.
pub(crate) struct HeadWatch {
    /// Ends when the last process goes that holds the other end.
    lifeline: OwnedFd,
    /// Sees the Head alone, even where a fork of it holds the lifeline.
    head: Option<ProcessWatch>,
}

impl HeadWatch {
    fn new(lifeline: OwnedFd, head: u32) -> HeadWatch {
        let is_parent = || os::parent_id() == head;
        // Looked up by number, which is safe only while the Head is our parent. It is asked for again
        // afterwards: if the Head had ended in between, somebody else could have its number, but
        // would not be our parent.
        let head = is_parent().then(|| ProcessWatch::of_parent(head)).flatten().filter(|_| is_parent());
        HeadWatch { lifeline, head }
    }

    /// Readable at the end of the Head.
    pub(crate) fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        [Some(self.lifeline.as_fd()), self.head.as_ref().map(AsFd::as_fd)].into_iter().flatten().collect()
    }

    /// Whether the Head has ended, or has given this process up.
    pub(crate) fn gone(&self) -> bool {
        os::has_hung_up(self.lifeline.as_fd())
            || self.head.as_ref().is_some_and(|head| os::is_readable(head.as_fd()))
    }
}

impl Attendant for HeadWatch {
    fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        HeadWatch::descriptors(self)
    }

    fn look(&mut self) -> Option<CloseReason> {
        self.gone().then_some(CloseReason::Gone)
    }

    fn farewell(&mut self, _grace: Duration) {}
}
