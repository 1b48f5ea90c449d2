//! Which thread this is, what another one is called, and its end.

use std::{
    cell::Cell,
    fs,
    os::unix::thread::JoinHandleExt,
    ptr,
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use rustix::thread::gettid;

thread_local! {
    static ID: Cell<u32> = const { Cell::new(0) };
}

/// The number of the calling thread, never 0. It is asked for once in the life of a thread.
pub(crate) fn thread_id() -> u32 {
    ID.with(|id| {
        if id.get() == 0 {
            id.set(gettid().as_raw_nonzero().get().unsigned_abs());
        }
        id.get()
    })
}

/// What a thread of this process is called, as the kernel knows it: the first 15 bytes. `None` if there is no
/// such thread any more.
pub(crate) fn thread_name(id: u32) -> Option<String> {
    let name = fs::read(format!("/proc/self/task/{id}/comm")).ok()?;
    Some(String::from_utf8_lossy(&name).trim_end().to_owned())
}

/// Waits until a thread has ended as a whole, with all that C has left to run there, at most until `deadline`. Says
/// whether it has: else it is left to itself.
///
/// It asks again and again: to wait for the end in the kernel has a limit by the clock of the day alone, which may be set.
/// The thread is at its last lines, so that it is hardly ever asked for long.
pub(crate) fn join_until(thread: JoinHandle<()>, deadline: Instant) -> bool {
    let thread = thread.into_pthread_t();
    for n in 0u32.. {
        // SAFETY: `into_pthread_t` has given away a thread that nobody has joined or detached, and nobody else can do
        // that. Its result is not asked for.
        if unsafe { libc::pthread_tryjoin_np(thread, ptr::null_mut()) } != libc::EBUSY {
            return true;
        }
        let left = deadline.saturating_duration_since(Instant::now());
        match n {
            _ if left.is_zero() => break,
            0..YIELDS => thread::yield_now(),
            _ => thread::sleep(PAUSE.min(left)),
        }
    }
    // SAFETY: as above; who is not at its end was left as it was.
    unsafe { libc::pthread_detach(thread) };
    false
}

const YIELDS: u32 = 50;
const PAUSE: Duration = Duration::from_millis(1);
