//! Small blocking calls there and back: what each way of making them costs.
//!
//! ```text
//! cargo bench                          everything: one core and two, 9 repetitions
//! cargo bench -- --quick               a few calls each, to see that it runs
//! cargo bench -- --filter ipc          only what has `ipc` in its name
//! cargo bench -- --reps 15 --calls N   more of it
//! cargo bench -- --counts              also system calls a call, where `strace` is installed
//! ```
//!
//! # How it measures
//!
//! The driver starts a fresh process for each measurement. That process, the *caller*, connects to a
//! callee, which is a process of its own or a thread; warms up; and makes its calls one after the other,
//! timing each. The contenders take turns, and the order is rotated from one repetition to the next, so
//! that what changes on the machine meets them all. Everything runs pinned: caller and callee both on one
//! core, then on two. Of each contender the table gives the median over the repetitions of its p50 and
//! p99, with the least and the greatest, and the ratio of medians to its baseline.
//!
//! Each `... B` is the very same code as its `... A`: the ratio between them is the resolution of the run,
//! and a difference finer than that means nothing.
//!
//! A time includes one reading of the clock (about 40 ns) and the making of the arguments.
//!
//! # To add a contender
//!
//! Write one function that gives a [`Pair`](contender::Pair), and name it in a row of
//! [`CONTENDERS`](contender::CONTENDERS):
//!
//! ```text
//! fn connect(place: &Place) -> Pair {
//!     let head = Head::spawn(place.callee("nape ipc")).unwrap();      // its own process
//!     let add = head.api("bench").action(..);
//!     let callee = head.pid();
//!     Pair::new(move |i| add.call(Args::number(i)), Callee::Elsewhere(Some(callee)))
//! }
//! ```
//!
//! - A callee in its own process: `place.callee(name)` is the command that starts it; the same row
//!   names a second function, `serve`, which is what runs there until the caller goes. It is pinned
//!   already.
//! - A callee on a thread: start it within `place.on_callee(|| ..)`. A thread stays on the core of
//!   the one that started it, so whatever is started in there belongs to the callee.
//! - The closure takes the number of the call, makes [`Args::number`](contender::Args::number) from it,
//!   and gives what came back, which has to be [`Args::answer`](contender::Args::answer).
//! - `baseline` names the row that the ratio refers to.

mod allocations;
mod bare;
mod contender;
mod counts;
mod driver;
mod machine;
mod options;
mod ours;
mod place;
mod report;
mod ring;
mod roles;
mod socket;
mod statistics;

use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.first().map(String::as_str) {
        Some(roles::CALLER) => roles::call(&args[1..]),
        Some(roles::CALLEE) => roles::serve(&args[1..]),
        _ => return driver::run(&options::Options::parse(&args)),
    }
    ExitCode::SUCCESS
}
