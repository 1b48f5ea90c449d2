//! Which thread this is, what another one is called, and its end.

use std::{
    cell::Cell,
    fs,
    os::unix::thread::JoinHandleExt,
    ptr,
    thread::JoinHandle,
    time::{Duration, Instant},
};

use rustix::{
    thread::gettid,
    time::{ClockId, clock_gettime},
};

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
pub(crate) fn join_until(thread: JoinHandle<()>, deadline: Instant) -> bool {
    let thread = thread.into_pthread_t();
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let until = on_the_clock_of_the_day(left);
        // SAFETY: `into_pthread_t` has given away a thread that nobody has joined or detached, and nobody else can do
        // that. Its result is not asked for, and `until` lives as long as the call.
        match unsafe { libc::pthread_timedjoin_np(thread, ptr::null_mut(), &until) } {
            libc::ETIMEDOUT if left.is_zero() => break,
            // That clock may be set.
            libc::ETIMEDOUT => {}
            _ => return true,
        }
    }
    // SAFETY: as above; a join that was too late has left it as it was.
    unsafe { libc::pthread_detach(thread) };
    false
}

/// So long from now on, as that function takes it.
fn on_the_clock_of_the_day(left: Duration) -> libc::timespec {
    let now = clock_gettime(ClockId::Realtime);
    // A wait that is too long to be counted goes round again.
    let left = left.min(LONGEST);
    let nanos = now.tv_nsec as u64 + u64::from(left.subsec_nanos());
    let seconds = now.tv_sec as u64 + left.as_secs() + nanos / NANOS;
    // SAFETY: it is made of numbers, all of which may be 0.
    let mut until: libc::timespec = unsafe { std::mem::zeroed() };
    until.tv_sec = seconds as _;
    until.tv_nsec = (nanos % NANOS) as _;
    until
}

const NANOS: u64 = 1_000_000_000;
const LONGEST: Duration = Duration::from_secs(3600);
