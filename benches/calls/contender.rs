//! What takes part.

use std::{process::Child, thread::JoinHandle, time::Instant};

use serde::{Deserialize, Serialize};

use crate::{bare, ours, place::Place, ring, socket};

/// Everything that can be measured. How to add a row stands at the top of `main.rs`.
pub(crate) const CONTENDERS: &[Contender] = &[
    Contender {
        name: "bare ipc A",
        baseline: "bare ipc A",
        connect: bare::ipc,
        serve: Some(bare::serve_ipc),
    },
    Contender {
        name: "bare ipc B",
        baseline: "bare ipc A",
        connect: bare::ipc,
        serve: None, // Its callee is that of A.
    },
    Contender { name: "bare ipc (threads)", baseline: "bare ipc A", connect: bare::ipc_threads, serve: None },
    Contender {
        name: "bare crossbeam A",
        baseline: "bare crossbeam A",
        connect: bare::crossbeam,
        serve: None,
    },
    Contender {
        name: "bare crossbeam B",
        baseline: "bare crossbeam A",
        connect: bare::crossbeam,
        serve: None,
    },
    Contender {
        name: "bare ring A",
        baseline: "bare ring A",
        connect: ring::processes,
        serve: Some(ring::serve),
    },
    Contender {
        name: "bare ring B",
        baseline: "bare ring A",
        connect: ring::processes,
        serve: None, // Its callee is that of A.
    },
    Contender { name: "bare ring (threads)", baseline: "bare ring A", connect: ring::threads, serve: None },
    Contender {
        name: "nape ipc, caller only calls",
        baseline: "bare ipc A",
        connect: ours::ipc,
        serve: Some(ours::serve_ipc),
    },
    Contender {
        name: "nape ipc, caller also serves",
        baseline: "bare ipc A",
        connect: ours::ipc_serving,
        serve: None, // Its callee is that of the one that only calls.
    },
    Contender {
        name: "bare socket A",
        baseline: "bare socket A",
        connect: socket::bare,
        serve: Some(socket::serve_bare),
    },
    Contender {
        name: "bare socket B",
        baseline: "bare socket A",
        connect: socket::bare,
        serve: None, // Its callee is that of A.
    },
    Contender {
        name: "raw socket",
        baseline: "bare socket A",
        connect: socket::raw,
        serve: Some(socket::serve_raw),
    },
    Contender {
        name: "nape pipe, caller only calls",
        baseline: "bare socket A",
        connect: ours::pipe,
        serve: None, // Its callee is that over ipc: it takes what it is given.
    },
    Contender {
        name: "nape pipe, caller also serves",
        baseline: "bare socket A",
        connect: ours::pipe_serving,
        serve: None,
    },
    Contender {
        name: "nape shm, caller only calls",
        baseline: "bare ring A",
        connect: ours::shm,
        serve: None,
    },
    Contender {
        name: "nape shm, caller also serves",
        baseline: "bare ring A",
        connect: ours::shm_serving,
        serve: None,
    },
    Contender {
        name: "nape ipc (threads)",
        baseline: "bare ipc (threads)",
        connect: ours::ipc_threads,
        serve: None,
    },
    Contender {
        name: "nape shm (threads)",
        baseline: "bare ring (threads)",
        connect: ours::shm_threads,
        serve: None,
    },
    Contender { name: "nape channel", baseline: "bare crossbeam A", connect: ours::channel, serve: None },
    Contender { name: "nape encoded", baseline: "bare crossbeam A", connect: ours::encoded, serve: None },
];

/// One way of making calls.
pub(crate) struct Contender {
    pub(crate) name: &'static str,
    /// The contender that the ratio refers to.
    pub(crate) baseline: &'static str,
    /// Makes a fresh pair. Runs in the caller's process, pinned.
    pub(crate) connect: fn(&Place) -> Pair,
    /// What the callee's process does, if there is one, with the arguments that `connect` added.
    pub(crate) serve: Option<fn(&[String])>,
}

impl Contender {
    /// The contender of that name.
    pub(crate) fn named(name: &str) -> &'static Contender {
        CONTENDERS.iter().find(|it| it.name == name).unwrap_or_else(|| panic!("no contender `{name}`"))
    }
}

/// A caller that is connected to its callee. Dropping it ends both.
pub(crate) struct Pair {
    // The callee ends when the caller's channels are gone, so the order of these two matters.
    call: Box<dyn FnMut(u64) -> u64>,
    callee: Callee,
}

/// Who answers.
pub(crate) enum Callee {
    /// A process, to be waited for.
    Process(Child),
    /// A thread of this process, to be waited for.
    Thread(Option<JoinHandle<()>>),
    /// What the call owns ends it; a process, if there is an id.
    Elsewhere(Option<u32>),
}

impl Pair {
    /// `call` makes the call of that number and gives the answer.
    pub(crate) fn new(call: impl FnMut(u64) -> u64 + 'static, callee: Callee) -> Pair {
        Pair { call: Box::new(call), callee }
    }

    /// Makes `n` calls and gives the nanoseconds that each took.
    pub(crate) fn run(&mut self, n: u64) -> Vec<u64> {
        let mut times = Vec::with_capacity(n as usize);
        let mut before = Instant::now();
        for i in 0..n {
            let answer = (self.call)(i);
            // The end of one call is the start of the next: one reading of the clock a call.
            let now = Instant::now();
            times.push((now - before).as_nanos() as u64);
            before = now;
            assert_eq!(answer, Args::expected(i), "a wrong answer");
        }
        times
    }

    /// The id of the callee's process, if it has one of its own.
    pub(crate) fn callee_id(&self) -> Option<u32> {
        match &self.callee {
            Callee::Process(child) => Some(child.id()),
            Callee::Thread(_) => None,
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
            Callee::Thread(thread) => {
                let ended = thread.take().map(JoinHandle::join);
                assert!(!matches!(ended, Some(Err(_))), "the callee panicked");
            }
            Callee::Elsewhere(_) => {}
        }
    }
}

/// What goes in: two integers and a short text.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Args {
    a: u64,
    b: u64,
    text: String,
}

impl Args {
    /// The arguments of a call.
    pub(crate) fn number(i: u64) -> Args {
        Args { a: i, b: 1_000_000, text: String::from(TEXT) }
    }

    /// What comes out.
    pub(crate) fn answer(&self) -> u64 {
        self.a + self.b + self.text.len() as u64
    }

    fn expected(i: u64) -> u64 {
        i + 1_000_000 + TEXT.len() as u64
    }
}

const TEXT: &str = "thumbs/2013/neck.png";
