//! What nape is to reach, as ratios of medians.

use crate::{
    report::Summary,
    rivals::{ipc, ipc_rpc},
    work::Work,
};

/// Prints the ratio of each pair of which both were measured, and whether it is good enough.
pub(crate) fn print(summary: &Summary) {
    for Reach { work, ours, theirs, limit } in REACHES {
        let figure = |name| summary.figure(*work, name);
        let (Some(our_figure), Some(their_figure)) = (figure(ours), figure(theirs)) else { continue };
        let ratio = our_figure / their_figure;
        let (word, bound, reached) = match *limit {
            Limit::AtMost(bound) => ("at most", bound, ratio <= bound),
            Limit::AtLeast(bound) => ("at least", bound, ratio >= bound),
        };
        let verdict = if reached { "reached" } else { "MISSED" };
        println!(
            "{:9} {ours:24} to {theirs:28} {ratio:6.2}, {word} {bound:.1} wanted: {verdict}",
            work.name()
        );
    }
}

struct Reach {
    work: Work,
    ours: &'static str,
    theirs: &'static str,
    limit: Limit,
}

/// Of times, or of rates.
enum Limit {
    AtMost(f64),
    AtLeast(f64),
}

const REACHES: &[Reach] = &[
    Reach { work: Work::Call, ours: "nape ipc", theirs: ipc::READY_MADE, limit: Limit::AtMost(1.2) },
    Reach { work: Work::Call, ours: "nape ipc", theirs: ipc_rpc::NAME, limit: Limit::AtMost(0.3) },
    Reach {
        work: Work::Call,
        ours: "nape channel (threads)",
        theirs: "crossbeam-channel (threads)",
        limit: Limit::AtMost(1.5),
    },
    Reach { work: Work::InFlight, ours: "nape ipc", theirs: ipc::READY_MADE, limit: Limit::AtLeast(3.0) },
    Reach { work: Work::Threads, ours: "nape ipc", theirs: ipc::READY_MADE, limit: Limit::AtLeast(1.0) },
    Reach { work: Work::Events, ours: "nape ipc", theirs: ipc::READY_MADE, limit: Limit::AtLeast(2.0) },
    Reach { work: Work::Echo1, ours: "nape ipc", theirs: ipc::READY_MADE, limit: Limit::AtLeast(3.0) },
    Reach { work: Work::Echo1, ours: "nape ipc", theirs: ipc::SHARED_MEMORY, limit: Limit::AtLeast(3.0) },
    Reach { work: Work::Echo16, ours: "nape ipc", theirs: ipc::READY_MADE, limit: Limit::AtLeast(3.0) },
    Reach { work: Work::Echo16, ours: "nape ipc", theirs: ipc::SHARED_MEMORY, limit: Limit::AtLeast(3.0) },
    Reach {
        work: Work::Echo1,
        ours: "nape pipe",
        theirs: "bare socketpair, poll",
        limit: Limit::AtLeast(0.8),
    },
    Reach {
        work: Work::Echo16,
        ours: "nape pipe",
        theirs: "bare socketpair, poll",
        limit: Limit::AtLeast(0.8),
    },
];
