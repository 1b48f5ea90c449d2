//! How a child finds the Head that started it.

use std::{env, io};

use ipc_channel::ipc::IpcSender;

use crate::{
    error::StartError,
    transport::{IpcEnds, Transport},
    wire::Token,
};

use super::{
    invitation::{Arrival, Invitation, VARIABLE},
    name,
    tied::{self, Brought, HeadWatch},
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
    let (guard, transport) = tied::reach(&invitation)?;
    Ok(Bootstrap { transport, token: invitation.token, guard })
}

/// Makes the connection, and brings the Head its end of it.
pub(super) fn connect(token: Token, name: &str, brought: Brought) -> Result<Transport, StartError> {
    let meeting = IpcSender::<Arrival>::connect(name.to_owned());
    // A Head that still waits there needs the name itself until somebody has come, to free its thread.
    let is_over = |error: &io::Error| error.kind() == io::ErrorKind::ConnectionRefused;
    if meeting.as_ref().err().is_none_or(is_over) {
        name::remove(name);
    }
    let meeting = meeting.map_err(StartError::setup("connection to the Head"))?;
    let ends = IpcEnds::new().map_err(StartError::setup("channel"))?;
    let arrival = Arrival::new(token, ends.theirs, brought);
    meeting
        .send(arrival)
        .map_err(|error| StartError::setup("connection to the Head")(io::Error::other(error)))?;
    Ok(ends.ours.into_transport())
}

pub(super) fn not_spawned(why: &str) -> StartError {
    StartError::NotSpawned(format!("{VARIABLE}: {why}").into())
}

pub(super) const MALFORMED: &str = "it is not understood";

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
        let outcome = connect(Token::default(), name.to_str().unwrap(), Brought).map(|_| ());
        assert!(matches!(outcome, Err(StartError::Setup { .. })), "{outcome:?}");
        assert!(name.exists());
        fs::remove_dir_all(&folder).unwrap();
    }
}
