//! The ties of a child that inherits nothing.

use std::{
    io::{self, ErrorKind},
    time::Duration,
};

use ipc_channel::ipc::{IpcBytesSender, bytes_channel};
use serde::{Deserialize, Serialize};

use crate::{
    error::{CloseReason, StartError},
    os::{
        self, Attendant, Wakeup,
        fd::{AsFd, BorrowedFd},
    },
    process::{
        Launch, LaunchOptions, Program,
        bootstrap::{MALFORMED, connect, not_spawned},
        invitation::{Invitation, VARIABLE, WireEnd},
    },
    sync::{Arc, AtomicBool, Ordering},
    transport::Transport,
    wire::Token,
};

use super::channel::lifeline;

/// What the Head holds for as long as the child may live: once that has come, the sender of a channel.
pub(crate) struct Lifeline(Option<IpcBytesSender>);

impl Lifeline {
    /// The child has come.
    pub(in super::super) fn with(self, Brought(sender): Brought) -> Lifeline {
        Lifeline(Some(sender))
    }
}

impl Drop for Lifeline {
    fn drop(&mut self) {
        // The child sees it. Nothing is ever sent.
        drop(self.0.take());
    }
}

/// What the child brings besides its end of the wire.
#[derive(Serialize, Deserialize)]
pub(in super::super) struct Brought(IpcBytesSender);

impl Brought {
    /// What a stranger brings.
    pub(in super::super) fn nothing() -> io::Result<Brought> {
        Ok(Brought(bytes_channel()?.0))
    }
}

impl Program {
    /// Tells the child where to connect to. The lifeline comes with it.
    pub(in super::super) fn invite(&mut self, wire: WireEnd, token: Token) -> Result<Lifeline, StartError> {
        let invitation = Invitation { token, lifeline: None, head: std::process::id(), wire };
        self.command.env(VARIABLE, invitation.to_text());
        Ok(Lifeline(None))
    }
}

/// Nothing can be inherited here.
///
/// # Errors
///
/// Always.
pub(in super::super) fn launch_to_inherit(
    _: &mut Program,
    _: Token,
    _: LaunchOptions,
) -> Result<Launch, StartError> {
    let why = "on Windows a child is met over `Wire::Ipc` only";
    Err(StartError::setup("wire to the child")(io::Error::new(ErrorKind::Unsupported, why)))
}

/// The wire to the Head, and what sees its end.
pub(in super::super) fn reach(invitation: &Invitation) -> Result<(HeadWatch, Transport), StartError> {
    let WireEnd::Ipc(name) = &invitation.wire else { return Err(not_spawned(MALFORMED)) };
    if !once() {
        return Err(not_spawned("it was taken already, and a process is a Neck once"));
    }
    let (sender, ended) = lifeline().map_err(StartError::setup("lifeline"))?;
    let transport = connect(invitation.token, name, Brought(sender))?;
    Ok((HeadWatch(ended), transport))
}

fn once() -> bool {
    static TAKEN: AtomicBool = AtomicBool::new(false);
    // SYNC: taken. Of two threads that come here at the same time only one sees `false`.
    !TAKEN.swap(true, Ordering::AcqRel)
}

/// Sees the end of the Head.
pub(crate) struct HeadWatch(Arc<Wakeup>);

impl HeadWatch {
    /// Whether the Head has ended, or has given this process up.
    pub(crate) fn gone(&self) -> bool {
        os::is_readable(self.0.as_fd())
    }
}

impl Attendant for HeadWatch {
    fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        vec![self.0.as_fd()]
    }

    fn look(&mut self) -> Option<CloseReason> {
        self.gone().then_some(CloseReason::Gone)
    }

    fn farewell(&mut self, _grace: Duration) {}
}
