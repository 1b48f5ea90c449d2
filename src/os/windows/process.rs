//! Processes, by handles that stand for them, each watched by a thread of its own that sleeps until it ends.

use std::{
    io,
    os::windows::io::{AsHandle, AsRawHandle, OwnedHandle},
    process::Child,
    thread::{Builder, JoinHandle},
};

use rustix::fd::{AsFd, BorrowedFd};
use windows_sys::Win32::{
    Foundation::{HANDLE, WAIT_OBJECT_0},
    System::Threading::{
        GetCurrentProcess, GetExitCodeProcess, INFINITE, TerminateProcess, WaitForSingleObject,
    },
};

use super::Wakeup;
use crate::{error::Exit, sync::Arc};

/// A child of this process. Its descriptor becomes readable when it ends. The handle never stands for another
/// process that gets the same number later.
#[derive(Debug)]
pub(crate) struct ProcessWatch {
    handle: Arc<OwnedHandle>,
    ended: Arc<Wakeup>,
    thread: Option<JoinHandle<()>>,
}

impl ProcessWatch {
    /// Of a child.
    pub(crate) fn of(child: &Child) -> io::Result<ProcessWatch> {
        let handle = Arc::new(child.as_handle().try_clone_to_owned()?);
        let ended = Arc::new(Wakeup::new()?);
        let (theirs, call) = (handle.clone(), ended.clone());
        let wait = move || {
            has_ended(&theirs, INFINITE);
            call.wake();
        };
        let thread = Builder::new().name("nape-child".into()).spawn(wait)?;
        Ok(ProcessWatch { handle, ended, thread: Some(thread) })
    }

    /// Shows whether there is room for one, and keeps the room until it is dropped.
    pub(crate) fn place() -> io::Result<Wakeup> {
        Wakeup::new()
    }

    /// Ends the process at once; one that has ended already is fine.
    pub(crate) fn kill(&self) -> io::Result<()> {
        // SAFETY: the handle is open for the whole call, which takes a number besides.
        let killed = unsafe { TerminateProcess(raw(&self.handle), KILLED) };
        let error = io::Error::last_os_error();
        if killed != 0 || has_ended(&self.handle, 0) { Ok(()) } else { Err(error) }
    }

    /// There are no such groups.
    pub(crate) fn kill_group(&self, _: u32) -> io::Result<()> {
        Ok(())
    }

    /// How the child ended; `None` while it has not.
    pub(crate) fn exit(&self) -> io::Result<Option<Exit>> {
        if !has_ended(&self.handle, 0) {
            return Ok(None);
        }
        let mut code = 0;
        // SAFETY: the handle is open for the whole call, which writes a number to a number.
        match unsafe { GetExitCodeProcess(raw(&self.handle), &mut code) } {
            0 => Err(io::Error::last_os_error()),
            // As `std` has it: what a program ends with, and what ends a program that crashes, is one number.
            _ => Ok(Some(Exit::Code(code.cast_signed()))),
        }
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
        let over = has_ended(&self.handle, 0);
        if let Some(thread) = self.thread.take().filter(|_| over) {
            let _ = thread.join();
        }
    }
}

/// Waits for the end of a process, for so many milliseconds, and says whether it has come.
fn has_ended(process: &OwnedHandle, limit: u32) -> bool {
    // SAFETY: the handle is open for the whole call, which takes a number besides.
    unsafe { WaitForSingleObject(raw(process), limit) == WAIT_OBJECT_0 }
}

fn raw(process: &OwnedHandle) -> HANDLE {
    process.as_raw_handle()
}

/// Ends this process without running anything: no destructor, no handler registered for the exit.
pub(crate) fn exit_now(code: i32) -> ! {
    // SAFETY: the handle that stands for this process is always good, and the other argument is a number.
    unsafe { TerminateProcess(GetCurrentProcess(), code.cast_unsigned()) };
    // It does not come to this.
    std::process::exit(code)
}

/// What a process ends with that was killed.
const KILLED: u32 = 1;
