//! Waiting for descriptors, on every system the same way. On Windows they are sockets, the only ones there that can
//! be waited for together.

use std::{
    io,
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
};

use crate::sync::hold_nothing;

use super::fd::{AsFd, BorrowedFd};

/// Which of the descriptors given to [`wait_readable`] have something to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ready(u32);

impl Ready {
    /// Whether the descriptor at this place has.
    pub(crate) fn contains(self, index: usize) -> bool {
        index < MOST_WAITED_FOR && self.0 & (1 << index) != 0
    }

    /// Whether any has; none has when the time is over.
    pub(crate) fn any(self) -> bool {
        self.0 != 0
    }
}

/// Waits until one of the descriptors is readable, has ended or has failed, or the time is over.
///
/// `None` waits without limit, and so does a time too long to be counted. Zero only looks.
///
/// # Errors
///
/// What the operating system says; more than [`MOST_WAITED_FOR`] descriptors are invalid input.
pub(crate) fn wait_readable(fds: &[BorrowedFd<'_>], timeout: Option<Duration>) -> io::Result<Ready> {
    wait_readable_until(fds, timeout.and_then(after))
}

/// The same until an instant; one that has passed only looks.
pub(crate) fn wait_readable_until(fds: &[BorrowedFd<'_>], deadline: Option<Instant>) -> io::Result<Ready> {
    let Some(&filler) = fds.first() else {
        sleep_until(deadline);
        return Ok(Ready(0));
    };
    if fds.len() > MOST_WAITED_FOR {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // On the stack, so that a wait allocates nothing; what is beyond `fds` is not polled.
    let mut polled: [PollFd<'_>; MOST_WAITED_FOR] = std::array::from_fn(|index| {
        PollFd::from_borrowed_fd(*fds.get(index).unwrap_or(&filler), PollFlags::IN)
    });
    let polled = &mut polled[..fds.len()];
    poll_until(polled, deadline)?;
    let bits = polled.iter().enumerate().filter(|(_, fd)| !fd.revents().is_empty());
    Ok(Ready(bits.fold(0, |bits, (index, _)| bits | 1 << index)))
}

/// Waits until the descriptor takes bytes, has ended or has failed, at most until `deadline`. Says whether
/// it does.
pub(crate) fn wait_writable_until(fd: BorrowedFd<'_>, deadline: Option<Instant>) -> io::Result<bool> {
    let mut polled = [PollFd::from_borrowed_fd(fd, PollFlags::OUT)];
    poll_until(&mut polled, deadline)?;
    Ok(!polled[0].revents().is_empty())
}

/// Whether the descriptor is readable, has ended or has failed; does not wait.
pub(crate) fn is_readable(fd: BorrowedFd<'_>) -> bool {
    !state(fd, PollFlags::IN).is_empty()
}

/// Whether every writer of this pipe is gone; does not wait.
#[cfg(unix)]
pub(crate) fn has_hung_up(fd: BorrowedFd<'_>) -> bool {
    state(fd, PollFlags::IN).contains(PollFlags::HUP)
}

/// Whether a write of up to 4,096 bytes would not wait. A reader that is gone is no reason to write:
/// that could raise a signal.
#[cfg(unix)]
pub(crate) fn can_take(fd: BorrowedFd<'_>) -> bool {
    state(fd, PollFlags::OUT) == PollFlags::OUT
}

fn state(fd: BorrowedFd<'_>, interest: PollFlags) -> PollFlags {
    let mut polled = [PollFd::from_borrowed_fd(fd, interest)];
    match poll_until(&mut polled, after(Duration::ZERO)) {
        Ok(()) => polled[0].revents(),
        Err(_) => PollFlags::empty(),
    }
}

/// One poll, begun again with what is left of the time when a signal handler ran in between.
fn poll_until(fds: &mut [PollFd<'_>], deadline: Option<Instant>) -> io::Result<()> {
    loop {
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        // Linux takes nanoseconds; elsewhere they are rounded up to milliseconds. So no wait ends too early.
        let time = left.map(|left| left.min(LONGEST)).and_then(|left| Timespec::try_from(left).ok());
        if left != Some(Duration::ZERO) {
            hold_nothing();
        }
        match poll(fds, time.as_ref()) {
            Err(Errno::INTR) => {}
            Ok(0) if left.is_none_or(|left| left > LONGEST) => {}
            done => return Ok(done.map(drop)?),
        }
    }
}

/// Windows does not wait for nothing.
fn sleep_until(deadline: Option<Instant>) {
    loop {
        match deadline.map(|deadline| deadline.saturating_duration_since(Instant::now())) {
            Some(Duration::ZERO) => return,
            left => std::thread::sleep(left.unwrap_or(LONGEST)),
        }
    }
}

/// None for a time too long to be counted, which is no limit.
fn after(time: Duration) -> Option<Instant> {
    Instant::now().checked_add(time)
}

/// Waits until one of any number of descriptors is readable, has ended or has failed, at most until
/// `deadline`. Says of each whether it is.
pub(crate) fn wait_for_any(fds: &[BorrowedFd<'_>], deadline: Option<Instant>) -> io::Result<Vec<bool>> {
    let mut polled: Vec<_> =
        fds.iter().map(|fd| PollFd::from_borrowed_fd(fd.as_fd(), PollFlags::IN)).collect();
    poll_until(&mut polled, deadline)?;
    Ok(polled.iter().map(|fd| !fd.revents().is_empty()).collect())
}

/// The most descriptors that one [`wait_readable`] takes.
pub(crate) const MOST_WAITED_FOR: usize = 16;
/// What every system can count.
const LONGEST: Duration = Duration::from_secs(1 << 20);
