//! Children, each watched by a thread of its own that sleeps until it ends.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd},
    process::Child,
    thread::{self, Builder, JoinHandle},
    time::Duration,
};

use rustix::{
    io::{Errno, retry_on_intr},
    process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, kill_process_group, waitid},
};

use super::{super::unix::exit, Wakeup};
use crate::{
    error::Exit,
    logging::say,
    sync::{Arc, Mutex},
};

/// A child of this process. Its descriptor becomes readable when it ends.
///
/// It is known by its number, which belongs to it until it has been reaped: nobody does that but [`exit`], under
/// the lock under which it is killed. A program that reaps the children of others breaks that.
///
/// [`exit`]: ProcessWatch::exit
#[derive(Debug)]
pub(crate) struct ProcessWatch {
    pid: Pid,
    ended: Arc<Wakeup>,
    reaped: Mutex<bool>,
    thread: Option<JoinHandle<()>>,
}

impl ProcessWatch {
    /// Of a child that nobody else reaps, or that was reaped already: then it is an error.
    pub(crate) fn of(child: &Child) -> io::Result<ProcessWatch> {
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).ok_or(Errno::SRCH)?;
        match look(pid, WaitIdOptions::NOHANG) {
            Err(Errno::CHILD) => return Err(Errno::SRCH.into()),
            looked => looked?,
        };
        let ended = Arc::new(Wakeup::new()?);
        let theirs = ended.clone();
        let wait = move || {
            let waited = wait_for(pid);
            theirs.wake();
            if let Err(error) = waited {
                say!(Warn, "cannot wait for process {}: {error}", pid.as_raw_nonzero());
            }
        };
        let thread = Builder::new().name("nape-child".into()).spawn(wait)?;
        Ok(ProcessWatch { pid, ended, reaped: Mutex::new(false), thread: Some(thread) })
    }

    /// Of the process that is the parent of this one. `None`: only a parent can be told of an end.
    pub(crate) fn of_parent(_: u32) -> Option<ProcessWatch> {
        None
    }

    /// Shows whether there is room for one, and keeps the room until it is dropped.
    pub(crate) fn place() -> io::Result<Wakeup> {
        Wakeup::new()
    }

    /// Ends the process at once; one that has ended already is fine.
    pub(crate) fn kill(&self) -> io::Result<()> {
        let reaped = self.reaped.lock();
        if *reaped {
            return Ok(());
        }
        match kill_process(self.pid, Signal::KILL) {
            Ok(()) | Err(Errno::SRCH) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Ends every process of the group that the child leads, and which may outlive it; an empty one is fine. To be
    /// called before the child is reaped.
    pub(crate) fn kill_group(&self, _: u32) -> io::Result<()> {
        let reaped = self.reaped.lock();
        if *reaped {
            return Ok(());
        }
        match kill_process_group(self.pid, Signal::KILL) {
            // That of a group of which only the dead are left is refused on macOS.
            Ok(()) | Err(Errno::SRCH | Errno::PERM) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// How the child ended; `None` while it has not. Reaps it, so the answer comes once.
    ///
    /// [`Exit::Unknown`] stands for a process that is no unreaped child of ours: somebody else has reaped
    /// it, or the kernel has because nobody wants to hear of children.
    pub(crate) fn exit(&self) -> io::Result<Option<Exit>> {
        let mut reaped = self.reaped.lock();
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
        let status = match retry_on_intr(|| waitid(WaitId::Pid(self.pid), options)) {
            Ok(status) => status.map(|status| exit(&status)),
            Err(Errno::CHILD) => Some(Exit::Unknown),
            Err(error) => return Err(error.into()),
        };
        *reaped |= status.is_some();
        Ok(status)
    }
}

impl AsFd for ProcessWatch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.ended.as_fd()
    }
}

impl Drop for ProcessWatch {
    fn drop(&mut self) {
        // The thread ends with the process. One that does not end although it was killed keeps it.
        let over = super::super::is_readable(self.ended.as_fd());
        if let Some(thread) = self.thread.take().filter(|_| over) {
            let _ = thread.join();
        }
    }
}

/// Blocks until the child has ended, and leaves it to be reaped.
fn wait_for(pid: Pid) -> Result<(), Errno> {
    loop {
        match look(pid, WaitIdOptions::empty()) {
            // macOS also comes back for one that was stopped.
            Ok(false) => thread::sleep(STOPPED),
            Ok(true) | Err(Errno::CHILD) => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}

/// Whether the child has ended.
fn look(pid: Pid, options: WaitIdOptions) -> Result<bool, Errno> {
    let options = options | WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
    let status = retry_on_intr(|| waitid(WaitId::Pid(pid), options))?;
    Ok(status.is_some_and(|status| !status.stopped()))
}

/// How long to leave a child alone that was stopped.
const STOPPED: Duration = Duration::from_millis(50);
