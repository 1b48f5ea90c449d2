//! A Neck in a process of its own: how it starts, how it lives, how it dies, and what remains.
//!
//! Children are this test binary, executed again: see [`victim`].

mod beside;
mod between;
mod death;
mod fileless;
mod group;
mod held_up;
mod host;
mod inherited;
mod life;
mod logged;
mod loggers;
mod neighbours;
mod parted;
mod pulse;
mod remains;
mod rows;
mod standard;
mod start;
mod states;
mod streams;
mod subscribed;
mod supervised;
mod sweep;
mod together;
pub mod victim;

use std::{
    error::Error,
    os::fd::OwnedFd,
    sync::mpsc,
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use nape::{ApiHandle, CallError, Config, Death, Executed, Head, Wire};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal},
};

/// A Head and its child, which serves the victim's API.
fn head(wire: Wire) -> Head {
    Head::builder().wire(wire).spawn(victim::command("serve")).unwrap()
}

/// The same; closing may take no longer than this.
fn head_with_grace(wire: Wire, verb: &str, grace: Duration) -> Head {
    let builder = Head::builder().wire(wire).config(Config::new().grace(grace));
    builder.spawn(victim::command(verb)).unwrap()
}

/// A process that is watched, and perhaps sent a signal, but never reaped here.
pub struct Watch(OwnedFd);

impl Watch {
    pub fn of(pid: u32) -> Watch {
        let pid = Pid::from_raw(pid.try_into().unwrap()).unwrap();
        Watch(pidfd_open(pid, PidfdFlags::empty()).unwrap())
    }

    pub fn child_of(head: &Head) -> Watch {
        Watch::of(head.child_id().unwrap())
    }

    /// Waits for its end; when that was seen, or `None` if it still runs after `limit`.
    pub fn wait_end(&self, limit: Duration) -> Option<Instant> {
        let limit = Timespec::try_from(limit).unwrap();
        let mut descriptors = [PollFd::new(&self.0, PollFlags::IN)];
        let n = poll(&mut descriptors, Some(&limit)).unwrap();
        (n > 0).then(Instant::now)
    }

    pub fn has_ended(&self) -> bool {
        self.wait_end(Duration::ZERO).is_some()
    }

    pub fn send(&self, signal: Signal) {
        pidfd_send_signal(&self.0, signal).unwrap();
    }
}

/// The death that cut a call off.
#[track_caller]
fn death(error: &CallError) -> Death {
    let death = error.death().unwrap_or_else(|| panic!("no death: {error:?}"));
    assert_eq!(error.executed(), Executed::Maybe, "it had left");
    let told = error.source().map(ToString::to_string).unwrap_or_default();
    assert!(told.contains(&death.exit.to_string()), "{told:?} does not tell how");
    death.clone()
}

/// A call to the child and back: what was sent before it has been read when it returns.
#[track_caller]
fn echo(head: &Head) {
    assert_eq!(head.api("victim").action("echo", 4711u64).call::<u64>().unwrap(), 4711);
}

/// Threads that call without a pause until they cannot. They have begun.
fn call_for_ever(head: &Head) -> Vec<JoinHandle<CallError>> {
    let (sender, calling) = mpsc::channel();
    let call = |victim: ApiHandle, sender: mpsc::Sender<()>| {
        for number in 0u64.. {
            match victim.action("echo", number).call::<u64>() {
                Ok(echo) => assert_eq!(echo, number),
                Err(error) => return error,
            }
            if number == 10 {
                sender.send(()).unwrap();
            }
        }
        unreachable!("there are many numbers")
    };
    let caller = |_| {
        let (victim, sender) = (head.api("victim"), sender.clone());
        thread::spawn(move || call(victim, sender))
    };
    let callers: Vec<_> = (0..4).map(caller).collect();
    callers.iter().for_each(|_| calling.recv().unwrap());
    callers
}

/// Holds a process until whoever started it is gone, or closes its stdin.
fn until_stdin_ends() {
    let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
}

/// A promised limit is tested with a factor of five, for busy machines.
fn five_times(milliseconds: u64) -> Duration {
    crate::support::patience() * Duration::from_millis(5 * milliseconds)
}
