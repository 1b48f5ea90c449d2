//! Waking a thread that waits for sockets, where nothing else can be waited for.

use std::{
    io,
    net::{Ipv4Addr, UdpSocket},
};

use rustix::fd::{AsFd, BorrowedFd};

/// Makes a thread that waits in [`wait_readable`](super::wait_readable) return, from any other thread.
///
/// A socket that is connected to itself: it hears nobody else.
#[derive(Debug)]
pub(crate) struct Wakeup(UdpSocket);

impl Wakeup {
    pub(crate) fn new() -> io::Result<Wakeup> {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        socket.connect(socket.local_addr()?)?;
        socket.set_nonblocking(true)?;
        let wakeup = Wakeup(socket);
        // What somebody else sent between the first two lines.
        wakeup.drain();
        Ok(wakeup)
    }

    /// Makes the socket readable until it is drained. Never blocks.
    pub(crate) fn wake(&self) {
        // It fails when there is no more room, and then it is readable already.
        let _ = self.0.send(&[1]);
    }

    /// Forgets all wake-ups so far. Whoever drains looks afterwards at what it was woken for.
    pub(crate) fn drain(&self) {
        while self.0.recv(&mut [0; 8]).is_ok() {}
    }
}

impl AsFd for Wakeup {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::os::{is_readable, wait_readable};

    #[test]
    fn a_wakeup_lasts_until_it_is_drained() {
        let wakeup = Wakeup::new().unwrap();
        assert!(!is_readable(wakeup.as_fd()));
        for _ in 0..10_000 {
            wakeup.wake();
        }
        assert!(wait_readable(&[wakeup.as_fd()], Some(Duration::from_secs(30))).unwrap().contains(0));
        wakeup.drain();
        assert!(!is_readable(wakeup.as_fd()));
        wakeup.drain();
    }

    #[test]
    fn a_stranger_wakes_nobody() {
        let wakeup = Wakeup::new().unwrap();
        let stranger = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let _ = stranger.send_to(&[1], wakeup.0.local_addr().unwrap());
        assert!(!wait_readable(&[wakeup.as_fd()], Some(Duration::from_millis(20))).unwrap().any());
    }
}
