//! Processes, by descriptors that stand for them.

use std::{
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    process::Child,
};

use rustix::{
    io::{Errno, retry_on_intr},
    process::{
        Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, kill_process_group, pidfd_open, pidfd_send_signal,
        waitid,
    },
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

    /// Ends every process of the group that the child leads, and which may outlive it; an empty one is fine. To be
    /// called before the child is reaped: `pid` is its number.
    pub(crate) fn kill_group(&self, pid: u32) -> io::Result<()> {
        const PIDFD_SIGNAL_PROCESS_GROUP: libc::c_uint = 4;
        let (fd, no_details) = (self.0.as_raw_fd(), std::ptr::null::<libc::siginfo_t>());
        // SAFETY: it takes a descriptor that is open, numbers, and no details.
        let sent = unsafe {
            libc::syscall(
                libc::SYS_pidfd_send_signal,
                fd,
                libc::SIGKILL,
                no_details,
                PIDFD_SIGNAL_PROCESS_GROUP,
            )
        };
        let error = io::Error::last_os_error();
        match error.raw_os_error() {
            _ if sent == 0 => Ok(()),
            Some(libc::ESRCH) => Ok(()),
            // A kernel before 6.9.
            Some(libc::EINVAL) => self.kill_group_by_number(pid),
            _ => Err(error),
        }
    }

    /// The number is the child's, and its group's, for as long as nobody has reaped the child.
    fn kill_group_by_number(&self, pid: u32) -> io::Result<()> {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        match retry_on_intr(|| waitid(WaitId::PidFd(self.0.as_fd()), options)) {
            // Somebody else has reaped it. Whom the number belongs to now, nobody knows.
            Err(Errno::CHILD) => return Ok(()),
            looked => looked?,
        };
        let group = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or(Errno::SRCH)?;
        match kill_process_group(group, Signal::KILL) {
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

    /// As on a kernel that cannot do it by descriptor. Red when nobody looks whether the child was reaped.
    #[test]
    fn p_27_a_group_is_killed_by_its_number_only_while_that_is_its_own() {
        use std::os::unix::process::CommandExt;
        let mut leader =
            Command::new("sleep").arg("600").stdin(Stdio::null()).process_group(0).spawn().unwrap();
        let watch = ProcessWatch::of(&leader).unwrap();
        let id = i32::try_from(leader.id()).unwrap();
        let mut follower =
            Command::new("sleep").arg("600").stdin(Stdio::null()).process_group(id).spawn().unwrap();
        watch.kill_group_by_number(leader.id()).unwrap();
        assert_eq!(follower.wait().unwrap().signal(), Some(Signal::KILL.as_raw()));
        assert_eq!(leader.wait().unwrap().signal(), Some(Signal::KILL.as_raw()));
        // This could be anybody's now: here it is a stranger's, as a number that was used again would be.
        let mut stranger =
            Command::new("sleep").arg("600").stdin(Stdio::null()).process_group(0).spawn().unwrap();
        watch.kill_group_by_number(stranger.id()).unwrap();
        watch.kill_group(stranger.id()).unwrap();
        kill_process(Pid::from_child(&stranger), Signal::TERM).unwrap();
        assert_eq!(stranger.wait().unwrap().signal(), Some(Signal::TERM.as_raw()));
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
