//! On macOS and on Windows a name belongs to the system, which removes it with the process that made it.

// The tests on Linux try a part of it.
#![cfg_attr(target_os = "linux", allow(dead_code))]

use std::io;

use ipc_channel::ipc::IpcSender;

use crate::{
    error::StartError,
    process::{invitation::Arrival, tied::Brought},
    transport::IpcEnds,
    wire::Token,
};

/// Nothing has to be there for a name.
pub(in super::super) fn check() -> io::Result<()> {
    Ok(())
}

/// There is nothing to remove.
pub(in super::super) fn remove(_: &str) {}

/// There is nothing to prepare.
pub(in super::super) fn prepare_ipc() -> Result<(), StartError> {
    Ok(())
}

/// Comes as a stranger, and goes, to free a thread that waits there. Where that cannot be done nobody waits there any
/// more.
pub(in super::super) fn knock(name: &str) {
    let Ok(meeting) = IpcSender::<Arrival>::connect(name.to_owned()) else { return };
    let (Ok(ends), Ok(brought)) = (IpcEnds::new(), Brought::nothing()) else { return };
    let _ = meeting.send(Arrival::new(Token::default(), ends.theirs, brought));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::meeting::Meeting;

    #[test]
    fn a_stranger_frees_who_waits() {
        let meeting = Meeting::new().unwrap();
        let name = meeting.name().to_owned();
        let waiting = meeting.open().unwrap();
        knock(&name);
        // Else it would wait for ever.
        let arrival = waiting.join().unwrap();
        assert!(arrival.is_ours() && !arrival.carries(&Token([1; 16])));
    }
}
