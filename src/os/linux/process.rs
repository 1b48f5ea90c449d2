//! Processes, by descriptors that stand for them.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    process::Child,
};

use rustix::{
    io::{Errno, retry_on_intr},
    process::{Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, pidfd_open, pidfd_send_signal, waitid},
};

use super::super::unix::exit;
use crate::error::Exit;

/// A process. Its descriptor becomes readable when the process ends, and never stands for another process that
/// gets the same number later.
#[derive(Debug)]
pub(crate) struct ProcessWatch(OwnedFd);

impl ProcessWatch {
    /// Of a child that nobody else reaps, or that was reaped already: then it is an error.
    pub(crate) fn of(child: &Child) -> io::Result<ProcessWatch> {
        ProcessWatch::open(child.id())
    }

    /// Of the process that is the parent of this one. `None` where there is no such thing.
    pub(crate) fn of_parent(pid: u32) -> Option<ProcessWatch> {
        ProcessWatch::open(pid).ok()
    }

    /// Shows whether there is room for one, and keeps the room until it is dropped.
    pub(crate) fn place() -> io::Result<ProcessWatch> {
        ProcessWatch::open(std::process::id())
    }

    pub(super) fn open(pid: u32) -> io::Result<ProcessWatch> {
        let pid = i32::try_from(pid).ok().filter(|&pid| pid > 0).and_then(Pid::from_raw);
        Ok(ProcessWatch(pidfd_open(pid.ok_or(Errno::SRCH)?, PidfdFlags::empty())?))
    }

    /// Ends the process at once; one that has ended already is fine.
    pub(crate) fn kill(&self) -> io::Result<()> {
        match pidfd_send_signal(&self.0, Signal::KILL) {
            Ok(()) | Err(Errno::SRCH) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// How the child ended; `None` while it has not. Reaps it, so the answer comes once.
    ///
    /// [`Exit::Unknown`] stands for a process that is no unreaped child of ours: somebody else has reaped
    /// it, or the kernel has because nobody wants to hear of children.
    pub(crate) fn exit(&self) -> io::Result<Option<Exit>> {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
        match retry_on_intr(|| waitid(WaitId::PidFd(self.0.as_fd()), options)) {
            Ok(status) => Ok(status.map(|status| exit(&status))),
            Err(Errno::CHILD) => Ok(Some(Exit::Unknown)),
            Err(error) => Err(error.into()),
        }
    }
}

impl AsFd for ProcessWatch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        os::unix::process::ExitStatusExt,
        process::{Command, Stdio},
    };

    use rustix::process::kill_process;

    use super::*;

    #[test]
    fn no_process_has_an_impossible_number() {
        for pid in [0, u32::MAX, i32::MAX as u32] {
            assert!(ProcessWatch::open(pid).is_err(), "{pid}");
        }
        assert!(ProcessWatch::open(std::process::id()).is_ok());
    }

    #[test]
    fn what_is_no_child_of_ours_has_no_status() {
        let ours = ProcessWatch::place().unwrap();
        assert_eq!(ours.exit().unwrap(), Some(Exit::Unknown));
    }

    fn sleeper() -> Child {
        Command::new("sleep").arg("600").stdin(Stdio::null()).spawn().unwrap()
    }

    /// Red when a process is killed by its number. Only root may say which number comes next; for others the
    /// stranger has another one.
    #[test]
    fn row_36_a_stranger_with_the_number_of_a_child_is_let_alone() {
        for _ in 0..200 {
            let mut child = sleeper();
            let watch = ProcessWatch::of(&child).unwrap();
            watch.kill().unwrap();
            assert_eq!(child.wait().unwrap().signal(), Some(Signal::KILL.as_raw()));
            let _ = fs::write("/proc/sys/kernel/ns_last_pid", (child.id() - 1).to_string());
            let mut stranger = sleeper();
            watch.kill().unwrap();
            assert_eq!(watch.exit().unwrap(), Some(Exit::Unknown));
            // Who was killed before dies of that.
            kill_process(Pid::from_child(&stranger), Signal::TERM).unwrap();
            assert_eq!(stranger.wait().unwrap().signal(), Some(Signal::TERM.as_raw()));
            if stranger.id() == child.id() {
                return;
            }
        }
    }
}
