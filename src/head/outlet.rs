//! The thread on which the callback for a child's output runs.

use std::{
    fmt, io,
    panic::{AssertUnwindSafe, catch_unwind},
    time::Duration,
};

use crate::{
    api::Endpoint,
    process::{Lines, OutputLine},
    sync::{Arc, hold_nothing},
    workers::{Thread, discard, forget_panic, panic_text},
};

/// What is called with each line that a child writes.
#[derive(Clone)]
pub(crate) struct OnOutput(Arc<dyn Fn(&OutputLine) + Send + Sync>);

/// What takes the lines of one child, or of several that follow each other.
pub(crate) struct Outlet {
    lines: Arc<Lines>,
    thread: Option<Thread>,
    /// Whom it belongs to.
    endpoint: Endpoint,
}

impl OnOutput {
    pub(crate) fn new(hook: impl Fn(&OutputLine) + Send + Sync + 'static) -> OnOutput {
        OnOutput(Arc::new(hook))
    }
}

impl Outlet {
    /// Starts the thread. Panics of the callback are told to the endpoint.
    pub(crate) fn start(endpoint: &Endpoint, hook: OnOutput) -> io::Result<Outlet> {
        let lines = Arc::new(Lines::default());
        let (theirs, endpoint) = (lines.clone(), endpoint.clone());
        let (owner, name) = (endpoint.clone(), format!("{}-output", endpoint.0.config.name));
        let pass_on = move || {
            while let Some(line) = theirs.next() {
                hold_nothing();
                if let Err(panic) = catch_unwind(AssertUnwindSafe(|| (hook.0)(&line))) {
                    endpoint.0.callback_panicked_elsewhere(panic_text(&*panic));
                    forget_panic(panic);
                }
            }
            // Whoever ends waits for what follows, whatever this does.
            discard(hook);
            discard(endpoint);
        };
        let thread = Thread::start(name, pass_on)?;
        Ok(Outlet { lines, thread: Some(thread), endpoint: owner })
    }

    /// Where the lines go.
    pub(crate) fn lines(&self) -> &Arc<Lines> {
        &self.lines
    }

    /// Nothing more comes. Waits for nobody.
    pub(crate) fn close(&self) {
        self.lines.close();
    }

    /// Nothing more comes. Waits for the callback to see the last line, for at most `limit`; not on its own
    /// thread.
    pub(crate) fn end(&mut self, limit: Duration) {
        self.close();
        if !self.thread.take().is_none_or(|thread| thread.join(limit)) {
            // Behind the line that the callback is with it is told of no other one.
            self.lines.abandon();
            let inner = &self.endpoint.0;
            inner.tally.leave_behind(1, &inner.config.name, "output");
        }
    }
}

impl Drop for Outlet {
    fn drop(&mut self) {
        self.end(LAST_LINES);
    }
}

impl fmt::Debug for OnOutput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OnOutput(..)")
    }
}

/// How long a callback may take for what is left when nobody else waits for it.
const LAST_LINES: Duration = Duration::from_secs(1);
