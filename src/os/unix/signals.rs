//! Which threads handle signals.

#![allow(unsafe_code)]

use std::{mem::MaybeUninit, ptr};

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

#[cfg(all(target_os = "linux", test))]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn row_16_a_thread_that_cannot_try_again_is_interrupted_by_no_signal() {
        let blocked = || {
            let status = fs::read_to_string("/proc/thread-self/status").unwrap();
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
