//! The place where a child finds its Head: a name, and a thread that waits there.
//!
//! ipc-channel accepts one connection under a name, and can neither be given a time limit nor be
//! waited for together with anything else. So a thread waits in its place, and is freed by a
//! connection of our own when nobody else comes.

use std::{
    io,
    sync::Arc,
    thread::{self, JoinHandle},
    time::Duration,
};

use ipc_channel::{IpcError, ipc::IpcOneShotServer};

use crate::{
    logging::say,
    os::{
        self, Wakeup,
        fd::{AsFd, BorrowedFd},
    },
};

use super::{caught::caught, invitation::Arrival, name};

/// A name under which one child can come.
pub(crate) struct Meeting {
    server: IpcOneShotServer<Arrival>,
    name: String,
}

impl Meeting {
    /// Makes the name. On Linux it is a socket in a new directory of its own, which only our user can enter.
    pub(crate) fn new() -> io::Result<Meeting> {
        name::check()?;
        let (server, name) = caught("the temporary directory cannot be used", IpcOneShotServer::new)?;
        Ok(Meeting { server, name })
    }

    /// What a child connects to.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Begins to wait.
    pub(crate) fn open(self) -> io::Result<Waiting> {
        let Meeting { server, name } = self;
        let done = Arc::new(Wakeup::new()?);
        let call = WakeAtEnd(done.clone());
        let wait = move || {
            // Wakes also when ipc-channel panics over what a stranger sent.
            let _call = call;
            // It could not wait again: the name is gone with the first attempt.
            os::ignore_signals();
            server.accept().map(|(_, arrival)| arrival)
        };
        let thread = thread::Builder::new().name("nape-accept".to_owned()).spawn(wait)?;
        Ok(Waiting { name, done, thread: Some(thread) })
    }
}

/// The thread that waits for the child. Dropping this frees and joins it.
pub(crate) struct Waiting {
    name: String,
    done: Arc<Wakeup>,
    thread: Option<JoinHandle<Result<Arrival, IpcError>>>,
}

impl Waiting {
    /// Takes what came. Blocks as long as nothing has: the descriptor says when it has.
    pub(crate) fn join(mut self) -> Result<Arrival, NoArrival> {
        let Some(Ok(result)) = self.thread.take().map(JoinHandle::join) else {
            return Err(NoArrival::Garbage);
        };
        result.map_err(|error| match error {
            IpcError::Disconnected => NoArrival::HungUp,
            IpcError::Io(error) if error.kind() == io::ErrorKind::ConnectionReset => NoArrival::HungUp,
            IpcError::Io(error) => NoArrival::Io(error),
            IpcError::SerializationError(_) => NoArrival::Garbage,
        })
    }
}

/// Becomes readable when the wait is over.
impl AsFd for Waiting {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.done.as_fd()
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let Some(thread) = self.thread.take() else { return };
        // Whoever connected before us and still lives keeps the thread. It cannot be freed then, and
        // waits until that one goes; nothing here waits with it.
        name::knock(&self.name);
        match os::wait_readable(&[self.done.as_fd()], Some(FREED_WITHIN)) {
            Ok(ready) if ready.any() => drop(thread.join()),
            _ => say!(Warn, "somebody connected to {} and is silent; a thread is left with it", self.name),
        }
    }
}

/// Why nobody came.
#[derive(Debug)]
pub(crate) enum NoArrival {
    /// Somebody connected and went without a word.
    HungUp,
    /// Somebody connected and said something else.
    Garbage,
    /// Waiting failed.
    Io(io::Error),
}

struct WakeAtEnd(Arc<Wakeup>);

impl Drop for WakeAtEnd {
    fn drop(&mut self) {
        self.0.wake();
    }
}

/// How long the thread may take to notice our connection.
const FREED_WITHIN: Duration = Duration::from_secs(1);
