//! What is done over every contender, and what goes over the wire.

use serde::{Deserialize, Serialize};

/// One kind of work: a row of the result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Work {
    /// Small calls, one after the other.
    Call,
    /// The same, each after a millisecond in which nothing happens.
    Silence,
    /// Small calls from one thread, of which [`IN_FLIGHT`] are always under way.
    InFlight,
    /// Small calls from [`THREADS`] threads, each with one under way.
    Threads,
    /// Messages without an answer, until the receiver has counted all.
    Events,
    /// 1 MiB of bytes there and back.
    Echo1,
    /// 16 MiB of bytes there and back.
    Echo16,
}

/// How many calls are in flight at once.
pub(crate) const IN_FLIGHT: u64 = 64;
/// How many threads call at once.
pub(crate) const THREADS: u64 = 4;

impl Work {
    pub(crate) const ALL: [Work; 7] =
        [Work::Call, Work::Silence, Work::InFlight, Work::Threads, Work::Events, Work::Echo1, Work::Echo16];
    /// Calls with one, with many, and from many.
    pub(crate) const EVERY_CALL: &[Work] = &[Work::Call, Work::Silence, Work::InFlight, Work::Threads];
    /// Everything but several threads, for what has one lane.
    pub(crate) const ONE_LANE: &[Work] =
        &[Work::Call, Work::Silence, Work::InFlight, Work::Events, Work::Echo1, Work::Echo16];
    /// Everything but events.
    pub(crate) const NO_EVENTS: &[Work] =
        &[Work::Call, Work::Silence, Work::InFlight, Work::Threads, Work::Echo1, Work::Echo16];
    /// Without bytes, which nobody would copy in one process.
    pub(crate) const IN_PROCESS: &[Work] =
        &[Work::Call, Work::Silence, Work::InFlight, Work::Threads, Work::Events];
    /// Nothing but bytes.
    pub(crate) const ECHOES: &[Work] = &[Work::Echo1, Work::Echo16];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Work::Call => "call",
            Work::Silence => "silence",
            Work::InFlight => "in-flight",
            Work::Threads => "threads",
            Work::Events => "events",
            Work::Echo1 => "echo-1",
            Work::Echo16 => "echo-16",
        }
    }

    /// The work of that name.
    pub(crate) fn named(name: &str) -> Option<Work> {
        Work::ALL.into_iter().find(|work| work.name() == name)
    }

    /// What a figure of it is counted in.
    pub(crate) fn unit(self) -> &'static str {
        match self {
            Work::Call | Work::Silence => "p50 us",
            Work::InFlight | Work::Threads => "calls/s",
            Work::Events => "events/s",
            Work::Echo1 | Work::Echo16 => "GB/s",
        }
    }

    /// Whether less of it is better.
    pub(crate) fn is_time(self) -> bool {
        matches!(self, Work::Call | Work::Silence)
    }

    /// How many bytes go there, and back.
    pub(crate) fn bytes(self) -> Option<usize> {
        match self {
            Work::Echo1 => Some(1 << 20),
            Work::Echo16 => Some(16 << 20),
            _ => None,
        }
    }

    /// How often it is done in one measurement, where a small call is made `calls` times: so that every
    /// kind takes about as long.
    pub(crate) fn times(self, calls: u64) -> u64 {
        match self {
            Work::Call => calls,
            Work::Silence => (calls / 25).max(20),
            Work::InFlight | Work::Threads => 4 * calls,
            Work::Events => 20 * calls,
            Work::Echo1 => (calls / 50).max(5),
            Work::Echo16 => (calls / 1000).max(3),
        }
    }
}

/// What goes into a call: two integers and a short text.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Args {
    pub(crate) a: u64,
    pub(crate) b: u64,
    pub(crate) text: String,
}

impl Args {
    /// The arguments of a call.
    pub(crate) fn number(i: u64) -> Args {
        Args { a: i, b: B, text: String::from(TEXT) }
    }

    /// What comes out.
    pub(crate) fn answer(&self) -> u64 {
        self.a + self.b + self.text.len() as u64
    }

    /// The answer to the call of that number.
    pub(crate) fn expected(i: u64) -> u64 {
        i + B + TEXT.len() as u64
    }
}

const B: u64 = 1_000_000;
/// The text that goes into every call.
pub(crate) const TEXT: &str = "thumbs/2013/neck.png";

/// What is sent where the contender knows messages only.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Message {
    /// To be answered with a sum.
    Call(Args),
    /// To be counted.
    Event(Args),
    /// To be answered with the number of events so far.
    Count,
}

impl Message {
    /// What its receiver answers; `counted` is where it counts events.
    pub(crate) fn answer(&self, counted: &mut u64) -> Option<u64> {
        match self {
            Message::Call(args) => Some(args.answer()),
            Message::Event(args) => {
                // The sum is made here too, so that an event costs its handler what a call does.
                *counted += u64::from(args.answer() > 0);
                None
            }
            Message::Count => Some(*counted),
        }
    }
}
