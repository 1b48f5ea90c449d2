//! A small program of two processes, with a system call of it made to fail or to be its last: each in turn, by
//! the injection of strace.
//!
//! Whatever is injected, the program ends in time; each of its calls ends once, and truly says whether it may
//! have run; and nothing of it is left. `cargo test` tries a sample, `.ci/long kill faults` all of it:
//!
//! ```text
//! cargo test --test sweep -- kill      the Neck, and then the Head, is killed at each of its system calls
//! cargo test --test sweep -- faults    each system call fails in the ways that it can
//! cargo test --test sweep -- one Pipe Neck poll:error=EINTR:when=3    the run that went wrong, again
//! ```

#![allow(unreachable_pub, reason = "no item of a test is reachable from anywhere")]

mod program;
mod run;

use std::{env, ops::RangeInclusive, process::ExitCode};

use run::{Outcome, Run, Side};

const WIRES: [&str; 3] = ["Ipc", "Pipe", "Shm"];

/// System calls, and how each can fail. What the kernel never does is not in here, such as a wake-up of a futex
/// or a write to an event that fails: it would be a wake-up that is lost.
const FAULTS: &[(&str, &[&str])] = &[
    ("recvfrom,recvmsg", &["EINTR", "EAGAIN"]),
    ("read", &["EINTR"]),
    ("sendto,sendmsg", &["EINTR", "EAGAIN", "EPIPE", "ENOBUFS"]),
    ("poll,ppoll,epoll_wait", &["EINTR"]),
    ("futex_waitv", &["EINTR", "EAGAIN"]),
    ("connect,accept4", &["EINTR", "EMFILE"]),
    ("socket,socketpair", &["EMFILE", "ENFILE"]),
    ("pipe2", &["EMFILE"]),
    ("eventfd2", &["EMFILE", "ENFILE"]),
    ("pidfd_open", &["EMFILE", "ENOSYS"]),
    ("memfd_create", &["EMFILE"]),
    ("fallocate,ftruncate", &["ENOSPC", "EINTR"]),
    ("mmap", &["ENOMEM"]),
    ("clone,clone3,vfork", &["EAGAIN", "ENOMEM"]),
    ("openat", &["EMFILE"]),
    ("waitid,wait4", &["EINTR"]),
    ("getrandom", &["EINTR"]),
    ("fcntl,dup,dup3", &["EMFILE"]),
    ("setsockopt", &["EINVAL"]),
];

/// What waits, or may.
const INTERRUPTED: [&str; 4] = [
    "recvfrom,recvmsg,sendto,sendmsg",
    "poll,ppoll,epoll_wait,futex_waitv",
    "connect,accept,accept4",
    "waitid,wait4,getrandom",
];

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["head", wire] => return program::head(wire),
        ["neck"] => return program::neck(),
        ["one", wire, side, inject] => {
            println!("{:?}", Run::named(wire, side, inject).run());
            return ExitCode::SUCCESS;
        }
        // Whoever lists the tests finds one.
        ["--list", ..] => {
            println!("sweep: test");
            return ExitCode::SUCCESS;
        }
        _ => {}
    }
    if !run::has_strace() {
        println!("sweep: skipped, since there is no strace that can inject");
        return ExitCode::SUCCESS;
    }
    let named = |name: &str| arguments.iter().any(|argument| argument == name);
    let all = [named("kill"), named("faults")];
    let mut tally = Tally::default();
    for wire in WIRES {
        tally.add(Run::plain(wire).run());
    }
    if all == [false, false] {
        sample(&mut tally);
    }
    if all[0] {
        kills(&mut tally);
    }
    if all[1] {
        interruptions(&mut tally);
        faults(&mut tally);
    }
    tally.report()
}

/// Rows 16 and 17: what a signal interrupts, or what was woken for nothing, is done again, and nothing shows.
/// `read` is not among it: what loads a program does not try that again. Nor does ipc-channel where it looks whether
/// something is there: to that, nothing to be had yet is an answer.
///
/// Red when the first packet over ipc-channel is not sent again.
fn interruptions(tally: &mut Tally) {
    for wire in WIRES {
        for side in [Side::Head, Side::Neck] {
            for calls in INTERRUPTED {
                tally.add(Run::fault_at(wire, side, calls, "EINTR", "1+2").run_cleanly());
            }
            // Every third, since who waits and looks in turn would else wait in vain each time, which no kernel does.
            tally.add(Run::woken_at(wire, side, "poll,ppoll", "1+3").run_cleanly());
        }
    }
    for side in [Side::Head, Side::Neck] {
        tally.add(Run::fault_at("Pipe", side, INTERRUPTED[0], "EAGAIN", "2+2").run_cleanly());
        tally.add(Run::fault_at("Shm", side, "futex_waitv", "EAGAIN", "1+2").run_cleanly());
    }
}

/// What every run of the tests tries: a few of each.
fn sample(tally: &mut Tally) {
    interruptions(tally);
    for (wire, when) in WIRES.into_iter().cycle().zip([2, 3, 4, 5, 7, 9, 11, 13, 15]) {
        tally.add(Run::kill(wire, Side::Neck, "all", when).run());
    }
    for (wire, when) in WIRES.into_iter().cycle().zip([10, 20, 30, 40, 50, 60]) {
        tally.add(Run::kill(wire, Side::Head, "all", when).run());
    }
    // Each was a finding once.
    tally.add(Run::fault("Ipc", Side::Head, "clone,clone3,vfork", "ENOMEM", 2).run());
    tally.add(Run::fault("Ipc", Side::Neck, "connect", "EMFILE", 1).run());
    for (index, (calls, errors)) in FAULTS.iter().enumerate() {
        let side = if index % 2 == 0 { Side::Head } else { Side::Neck };
        tally.add(Run::fault(WIRES[1 + index % 2], side, calls, errors[0], 2).run());
    }
}

fn kills(tally: &mut Tally) {
    for wire in WIRES {
        for side in [Side::Neck, Side::Head] {
            for call in run::system_calls(wire, side) {
                tally.sweep(1..=MOST, |when| Run::kill(wire, side, &call, when));
            }
        }
    }
}

fn faults(tally: &mut Tally) {
    for wire in WIRES {
        for side in [Side::Head, Side::Neck] {
            for (calls, errors) in FAULTS {
                for error in *errors {
                    // The first thing that the Head receives comes from a child that cannot start, and is the
                    // standard library's: over a socket that blocks, so that there is no such error.
                    let from = if *error == "EAGAIN" && side == Side::Head { 2 } else { 1 };
                    tally.sweep(from..=MOST_FAULTS, |when| Run::fault(wire, side, calls, error, when));
                }
            }
        }
    }
}

/// How many runs ended in which way.
#[derive(Default)]
struct Tally {
    clean: usize,
    hit: usize,
    early: usize,
    wrong: Vec<String>,
}

impl Tally {
    /// Injects at the first system call, the second, and so on, until there is none any more to inject at.
    fn sweep(&mut self, times: RangeInclusive<usize>, run: impl Fn(usize) -> Run) {
        let (mut untouched, mut last) = (0, String::new());
        for when in times {
            let run = run(when);
            last = run.name();
            let (outcome, touched) = run.try_it();
            self.add(outcome);
            // The next run may take a few more system calls than this one.
            untouched = if touched { 0 } else { untouched + 1 };
            if untouched >= ENOUGH {
                break;
            }
        }
        println!("{last} is the last: {} runs so far, {} wrong", self.n(), self.wrong.len());
    }

    fn add(&mut self, outcome: Outcome) {
        match outcome {
            Outcome::Clean => self.clean += 1,
            Outcome::Hit => self.hit += 1,
            Outcome::Early => self.early += 1,
            Outcome::Wrong(what) => {
                println!("WRONG {what}");
                self.wrong.push(what);
            }
        }
    }

    fn n(&self) -> usize {
        self.clean + self.hit + self.early + self.wrong.len()
    }

    fn report(&self) -> ExitCode {
        println!(
            "sweep: {} runs: {} came through, {} were cut off rightly, {} never began, {} went wrong",
            self.n(),
            self.clean,
            self.hit,
            self.early,
            self.wrong.len()
        );
        if self.wrong.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}

/// After so many runs in a row that were not touched, there is nothing more to touch.
const ENOUGH: usize = 3;
const MOST: usize = 2_000;
/// The same call in a loop fails like the ones before it.
const MOST_FAULTS: usize = 25;
