//! What takes part is made of these.

use std::{process::Child, thread::JoinHandle};

use crate::{place::Place, work::Work};

/// One way of making calls: a row of the table in `table.rs`.
pub(crate) struct Contender {
    pub(crate) name: &'static str,
    /// What it can do. The rest shows as a dash.
    pub(crate) works: &'static [Work],
    /// Makes a fresh pair for one kind of work. Runs in the caller's process, pinned.
    pub(crate) connect: fn(&Place, Work) -> Pair,
    /// What the callee's process does, if there is one, with the arguments that `connect` added.
    pub(crate) serve: Option<fn(Work, &[String])>,
}

/// A caller that is connected to its callee. Dropping it ends both.
pub(crate) struct Pair {
    // The callee ends when the caller's channels are gone, so the order of these two matters.
    pub(crate) body: Body,
    pub(crate) callee: Callee,
}

/// What the caller does; which of these depends on the work.
pub(crate) enum Body {
    /// Makes the call of that number; `None` when the answer was lost.
    Call(Box<Call>),
    /// Does so many, and comes back when all have ended; gives how many of them were lost.
    Batch(Box<dyn FnMut(u64) -> u64>),
    /// Calls for each thread.
    Threads(Vec<Box<ThreadCall>>),
    /// Sends bytes and shows what came back to whoever checks it; false when nothing did.
    Echo(Box<Echo>),
}

/// Makes a call.
pub(crate) type Call = dyn FnMut(u64) -> Option<u64>;
/// Makes a call on a thread of its own.
pub(crate) type ThreadCall = dyn FnMut(u64) -> Option<u64> + Send;
/// Sends bytes there and back.
pub(crate) type Echo = dyn FnMut(&[u8], &dyn Fn(&[u8])) -> bool;

/// Who answers.
pub(crate) enum Callee {
    /// A process that ends with the caller's channels, to be waited for.
    Process(Child),
    /// A process that does not end by itself.
    Killed(Child),
    /// Threads of this process, to be waited for.
    Threads(Vec<JoinHandle<()>>),
    /// What the body owns ends it; a process, if there is an id.
    Elsewhere(Option<u32>),
}

impl Pair {
    /// The id of the callee's process, if it has one of its own.
    pub(crate) fn callee_id(&self) -> Option<u32> {
        match &self.callee {
            Callee::Process(child) | Callee::Killed(child) => Some(child.id()),
            Callee::Threads(_) => None,
            Callee::Elsewhere(id) => *id,
        }
    }
}

impl Drop for Callee {
    fn drop(&mut self) {
        match self {
            Callee::Process(child) => {
                let status = child.wait().expect("a child can be waited for");
                assert!(status.success(), "the callee ended with {status}");
            }
            Callee::Killed(child) => {
                // It may have ended by itself after all.
                let _ = child.kill();
                child.wait().expect("a child can be waited for");
            }
            Callee::Threads(threads) => {
                for thread in threads.drain(..) {
                    thread.join().expect("the callee does not panic");
                }
            }
            Callee::Elsewhere(_) => {}
        }
    }
}
