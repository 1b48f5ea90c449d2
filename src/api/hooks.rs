//! What users hear of without having asked: states, failures that no caller sees, and what nobody
//! handles.

use std::{fmt, time::Duration};

use crate::{
    error::CallError,
    link::{Link, LinkState},
    sync::{Arc, Mutex, RwLock},
    wire::Path,
    workers::{Job, discard, discard_all},
};

use super::task::Target;

/// Something that no caller is told about.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Report {
    /// The handler of an event failed or panicked.
    EventFailed {
        /// The full path.
        path: Path,
        /// How.
        error: CallError,
    },
    /// An event found no handler, or a full queue.
    EventDropped {
        /// The full path.
        path: Path,
        /// Why.
        error: CallError,
    },
    /// A callback or a listener panicked.
    CallbackPanicked {
        /// The text of the panic.
        text: String,
    },
    /// A reply came for a call that had ended, and was dropped.
    LateReply,
    /// A handler has run for longer than the [watchdog](crate::Config::watchdog) allows. It is told once.
    SlowHandler {
        /// The full path.
        path: Path,
        /// How long it has run.
        age: Duration,
        /// The first 15 bytes of the name of its thread.
        thread: Option<String>,
    },
    /// A call of this side has been under way for longer than the [watchdog](crate::Config::watchdog) allows.
    /// It is told once.
    SlowCall {
        /// The full path.
        path: Path,
        /// How long ago it was made.
        age: Duration,
        /// The thread that blocks for it, if one does: the first 15 bytes of its name.
        thread: Option<String>,
    },
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Report::EventFailed { path, error } => write!(f, "the event {path} failed: {error}"),
            Report::EventDropped { path, error } => write!(f, "the event {path} was dropped: {error}"),
            Report::CallbackPanicked { text } => write!(f, "a callback panicked: {text}"),
            Report::LateReply => f.write_str("an answer came to a call that had ended"),
            Report::SlowHandler { path, age, .. } => write!(f, "the handler of {path} has run for {age:.3?}"),
            Report::SlowCall { path, age, .. } => {
                write!(f, "the call of {path} has been under way for {age:.3?}")
            }
        }
    }
}

pub(crate) type StateListener = Arc<dyn Fn(LinkState) + Send + Sync>;
pub(crate) type ErrorHook = Arc<dyn Fn(&Report) + Send + Sync>;

/// Whom an endpoint tells.
#[derive(Default)]
pub(crate) struct Hooks {
    states: Mutex<States>,
    errors: RwLock<Option<ErrorHook>>,
    unhandled: RwLock<Option<Arc<Target>>>,
}

#[derive(Default)]
struct States {
    listeners: Vec<StateListener>,
    /// The states that the current link has been in.
    passed: Vec<LinkState>,
}

impl Hooks {
    /// Adds a listener; it is told of the states that the current link has been in already.
    pub(crate) fn add_listener(&self, listener: StateListener, link: Option<&Arc<Link>>) {
        let mut states = self.states.lock();
        states.listeners.push(listener.clone());
        let Some(link) = link else { return };
        // They line up under the lock, so that it is told of no later state before these.
        let told = states.passed.iter().copied().filter_map(|state| {
            let listener = listener.clone();
            link.line_up_listener(Box::new(move || listener(state)))
        });
        let jobs: Vec<_> = told.collect();
        drop(states);
        jobs.into_iter().for_each(|job| link.submit(job));
    }

    /// Tells everybody, in order: what comes back does, on a thread of the link.
    pub(crate) fn changed(&self, link: &Link, state: LinkState) -> Vec<Job> {
        let mut states = self.states.lock();
        states.passed.push(state);
        let listeners = states.listeners.iter().cloned();
        let told = listeners.filter_map(|listener| link.line_up_listener(Box::new(move || listener(state))));
        told.collect()
    }

    /// Another link is about to be made, which has been in no state.
    pub(crate) fn begin_anew(&self) {
        self.states.lock().passed.clear();
    }

    /// Tells nobody any more. Who was told goes without a lock.
    pub(crate) fn clear(&self) {
        let listeners = std::mem::take(&mut self.states.lock().listeners);
        let (errors, unhandled) = (self.errors.write().take(), self.unhandled.write().take());
        discard_all(listeners);
        discard(errors);
        discard(unhandled);
    }

    pub(crate) fn set_error_hook(&self, hook: ErrorHook) {
        let before = self.errors.write().replace(hook);
        // What it holds may ask when it is dropped: not under the lock.
        discard(before);
    }

    pub(crate) fn set_unhandled(&self, target: Arc<Target>) {
        let before = self.unhandled.write().replace(target);
        discard(before);
    }

    /// What takes what no API takes.
    pub(crate) fn unhandled(&self) -> Option<Arc<Target>> {
        self.unhandled.read().clone()
    }

    /// Tells the error hook, if there is one, on a thread of the link.
    pub(crate) fn report(&self, link: &Link, report: impl FnOnce() -> Report) {
        let Some(hook) = self.errors.read().clone() else { return };
        let report = report();
        link.run_error_hook(Box::new(move || hook(&report)));
    }
}

impl fmt::Debug for Hooks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hooks(..)")
    }
}
