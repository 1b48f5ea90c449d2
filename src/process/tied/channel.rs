//! A lifeline of ipc-channel: its receiver sees the end of whoever has the sender.

use std::{io, thread::Builder};

use ipc_channel::{
    IpcError,
    ipc::{IpcBytesSender, bytes_channel},
};

use crate::{os::Wakeup, sync::Arc};

/// Makes one: what to give away, and what becomes readable when that is gone. A thread waits for it, for as long.
pub(super) fn lifeline() -> io::Result<(IpcBytesSender, Arc<Wakeup>)> {
    let (theirs, ours) = bytes_channel()?;
    let ended = Arc::new(Wakeup::new()?);
    let call = ended.clone();
    let wait = move || {
        while goes_on(&ours.recv()) {}
        call.wake();
    };
    Builder::new().name("nape-head".into()).spawn(wait)?;
    Ok((theirs, ended))
}

/// Nobody sends anything, and a signal is no end.
fn goes_on(received: &Result<Vec<u8>, IpcError>) -> bool {
    match received {
        Ok(_) => true,
        Err(IpcError::Io(error)) => error.kind() == io::ErrorKind::Interrupted,
        Err(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::os::{fd::AsFd, is_readable, wait_readable};

    #[test]
    fn who_holds_the_receiver_sees_the_end_of_the_sender() {
        let (sender, ended) = lifeline().unwrap();
        assert!(!is_readable(ended.as_fd()));
        sender.send(b"whatever").unwrap();
        let again = sender.clone();
        drop(sender);
        assert!(!wait_readable(&[ended.as_fd()], Some(Duration::from_millis(20))).unwrap().any());
        drop(again);
        assert!(wait_readable(&[ended.as_fd()], Some(Duration::from_secs(30))).unwrap().any());
    }
}
