//! How a child finds the Head that started it.

use std::{
    env, io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::Path,
    time::Duration,
};

use ipc_channel::{IpcError, ipc::IpcSender};

use crate::{
    error::{CloseReason, StartError},
    os::{self, Attendant},
    transport::{IpcEnds, PipeEnd, ShmParts, Transport},
    wire::{Side, Token},
};

use super::{
    caught::uninterrupted,
    invitation::{Arrival, Handed, Invitation, VARIABLE, WireEnd, prepare_ipc},
};

/// The way back to the Head.
pub(crate) struct Bootstrap {
    pub(crate) transport: Transport,
    /// Both sides show it again in their greeting.
    pub(crate) token: Token,
    pub(crate) guard: HeadWatch,
}

/// Connects to the Head that started this process.
///
/// A process is a Neck once: this takes what the Head has handed down, and a second call finds it
/// taken. A program that a Neck starts inherits the variable and nothing else, and is no Neck.
///
/// # Errors
///
/// [`StartError::NotSpawned`] when there is no Head; [`StartError::Setup`] when there was one and it
/// cannot be reached.
pub(crate) fn from_env() -> Result<Bootstrap, StartError> {
    let text = env::var(VARIABLE).map_err(|error| match error {
        env::VarError::NotPresent => not_spawned("is not set"),
        env::VarError::NotUnicode(_) => not_spawned(MALFORMED),
    })?;
    let invitation = Invitation::parse(&text).ok_or_else(|| not_spawned(MALFORMED))?;
    let (lifeline, transport) = match &invitation.wire {
        WireEnd::Ipc(name) => meet(&invitation, name)?,
        WireEnd::Pipe(socket) => inherit(&invitation, *socket)?,
        WireEnd::Shm(memory) => share(&invitation, *memory)?,
    };
    let guard = HeadWatch::new(lifeline, invitation.head);
    Ok(Bootstrap { transport, token: invitation.token, guard })
}

fn meet(invitation: &Invitation, name: &str) -> Result<(OwnedFd, Transport), StartError> {
    // What can fail for want of room comes first: it may be tried again.
    prepare_ipc()?;
    let [lifeline] = take([invitation.lifeline])?;
    Ok((lifeline, connect(invitation.token, name)?))
}

fn inherit(invitation: &Invitation, socket: Handed) -> Result<(OwnedFd, Transport), StartError> {
    // As above: it comes first because it can fail.
    let wakeup = os::Wakeup::new().map_err(StartError::setup("event"))?;
    let [lifeline, socket] = take([invitation.lifeline, socket])?;
    Ok((lifeline, PipeEnd::from(socket).with_nudge(wakeup)))
}

fn share(invitation: &Invitation, memory: Handed) -> Result<(OwnedFd, Transport), StartError> {
    let [lifeline, memory] = take([invitation.lifeline, memory])?;
    let transport = ShmParts::from_fd(memory, Side::Neck).map_err(StartError::setup("shared memory"))?;
    Ok((lifeline, transport))
}

fn take<const N: usize>(handed: [Handed; N]) -> Result<[OwnedFd; N], StartError> {
    os::take_inherited(handed.map(|Handed { number, file }| (number, file))).map_err(not_spawned)
}

/// Sees the end of the Head.
pub(crate) struct HeadWatch {
    /// Ends when the last process goes that holds the other end.
    lifeline: OwnedFd,
    /// Sees the Head alone, even where a fork of it holds the lifeline.
    head: Option<OwnedFd>,
}

impl HeadWatch {
    fn new(lifeline: OwnedFd, head: u32) -> HeadWatch {
        let is_parent = || os::parent_id() == head;
        // Looked up by number, which is safe only while the Head is our parent. It is asked for again
        // afterwards: if the Head had ended in between, somebody else could have its number, but
        // would not be our parent.
        let head = is_parent().then(|| os::open_process(head).ok()).flatten().filter(|_| is_parent());
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

/// Makes the connection, and brings the Head its end of it.
fn connect(token: Token, name: &str) -> Result<Transport, StartError> {
    let meeting = uninterrupted(|| IpcSender::<Arrival>::connect(name.to_owned()));
    // A Head that still waits there needs the name itself until somebody has come, to free its thread.
    let is_over = |error: &io::Error| error.kind() == io::ErrorKind::ConnectionRefused;
    if meeting.as_ref().err().is_none_or(is_over) {
        remove(name);
    }
    let meeting = meeting.map_err(StartError::setup("connection to the Head"))?;
    let ours = uninterrupted(|| {
        let ends = IpcEnds::new()?;
        meeting.send(Arrival::new(token, ends.theirs)).map(|()| ends.ours).map_err(|error| match error {
            IpcError::Io(error) => error,
            error => io::Error::other(error),
        })
    });
    Ok(ours.map_err(StartError::setup("connection to the Head"))?.into_transport())
}

/// The name has served, and whoever still holds the socket does not need it. A Head that is killed
/// before it can remove the name itself leaves nothing behind in this way.
fn remove(name: &str) {
    let socket = Path::new(name);
    let _ = std::fs::remove_file(socket);
    let _ = socket.parent().map(std::fs::remove_dir);
}

fn not_spawned(why: &str) -> StartError {
    StartError::NotSpawned(format!("{VARIABLE}: {why}").into())
}

const MALFORMED: &str = "it is not understood";

#[cfg(test)]
mod tests {
    use std::{env, fs, os::unix::net::UnixDatagram, process};

    use super::*;

    /// Found by a sweep of failing system calls: the Head could not free its thread any more.
    #[test]
    fn p_22_the_name_outlives_a_connection_that_cannot_be_made() {
        let folder = env::temp_dir().join(format!("nape-nobody-{}", process::id()));
        fs::create_dir(&folder).unwrap();
        let name = folder.join("socket");
        // It is there, and speaks otherwise.
        let _other = UnixDatagram::bind(&name).unwrap();
        let outcome = connect(Token::default(), name.to_str().unwrap()).map(|_| ());
        assert!(matches!(outcome, Err(StartError::Setup { .. })), "{outcome:?}");
        assert!(name.exists());
        fs::remove_dir_all(&folder).unwrap();
    }
}
