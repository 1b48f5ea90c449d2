//! Which thread this is, what another one is called, and which of them handle signals.

#![allow(unsafe_code)]

use std::{cell::Cell, fs, mem::MaybeUninit, ptr};

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

/// From here on the handlers of signals run on other threads than the calling one, so that none of its system calls
/// is interrupted.
pub(crate) fn ignore_signals() {
    let mut all = MaybeUninit::uninit();
    // SAFETY: the first call fills the set in, and cannot fail; the second one reads it, and may be given nowhere to
    // write the set from before. Both concern the calling thread alone.
    unsafe {
        libc::sigfillset(all.as_mut_ptr());
        libc::pthread_sigmask(libc::SIG_BLOCK, all.as_ptr(), ptr::null_mut());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn row_16_a_thread_that_cannot_try_again_is_interrupted_by_no_signal() {
        let blocked = || {
            let status = fs::read_to_string(format!("/proc/self/task/{}/status", thread_id())).unwrap();
            let mask = status.lines().find_map(|line| line.strip_prefix("SigBlk:")).unwrap().trim();
            u64::from_str_radix(mask, 16).unwrap()
        };
        let thread = std::thread::spawn(move || {
            let before = blocked();
            ignore_signals();
            (before, blocked())
        });
        let (before, after) = thread.join().unwrap();
        // Two cannot be blocked, and two more are the C library's own.
        assert!(before.count_ones() < 8 && after.count_ones() >= 60, "{before:x} {after:x}");
    }
}
