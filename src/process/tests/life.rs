//! How one side learns that the other is gone, and what a child inherits.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use super::*;
use crate::process::child::ChildHandle;
use crate::{
    error::{CloseReason, Exit},
    os::{self, Attendant},
    soak::slow_rounds,
};

on_every_wire_to_a_child! {
    a_killed_child_is_noticed_at_once,
    p_23_dropping_the_handle_ends_the_child,
    a_child_is_told_when_it_is_given_up,
    p_26_a_child_sees_its_head_killed,
    only_the_child_itself_is_a_neck_and_only_once,
    p_28_a_child_inherits_what_it_is_given_and_nothing_else,
    p_28_children_started_at_the_same_time_do_not_hold_each_other_up,
    the_token_is_in_no_argument,
}

/// Waits for the end as the keeper of a link does.
fn watch(child: &mut ChildHandle) -> CloseReason {
    let attendant: &mut dyn Attendant = child;
    loop {
        if let Some(reason) = attendant.look() {
            assert!(attendant.descriptors().is_empty(), "there is nothing left to wait for");
            return reason;
        }
        os::wait_readable(&attendant.descriptors(), None).unwrap();
    }
}

fn exit(reason: &CloseReason) -> Exit {
    let CloseReason::Died(death) = reason else { panic!("{reason:?} instead of a death") };
    death.exit
}

fn a_killed_child_is_noticed_at_once(wire: Wire) {
    let _watchdog = Watchdog::new();
    for _ in 0..5 {
        let mut launch = start(wire, role("echo"));
        let process = launch.child.process();
        let killed = Instant::now();
        process.kill().unwrap();
        assert_eq!(exit(&watch(&mut launch.child)), Exit::Signal(9));
        assert!(killed.elapsed() < 5 * Duration::from_millis(100), "{:?}", killed.elapsed());
        // Reaped already, so its number may be somebody else's: nobody is hurt.
        launch.child.kill().unwrap();
        process.kill().unwrap();
        assert!(process.has_ended());
        assert_eq!(launch.child.reap(Duration::ZERO).unwrap().exit, Exit::Signal(9));
    }
}

fn p_23_dropping_the_handle_ends_the_child(wire: Wire) {
    let _watchdog = Watchdog::new();
    let launch = start(wire, role("echo"));
    let pid = launch.child.pid();
    drop(launch);
    assert!(!std::fs::exists(format!("/proc/{pid}")).unwrap(), "it is reaped, not only killed");
}

#[test]
fn p_24_a_child_that_does_not_end_is_not_waited_for() {
    let _watchdog = Watchdog::new();
    let mut launch = start(Wire::Ipc, role("echo"));
    let start = Instant::now();
    assert!(launch.child.reap(Duration::from_millis(50)).is_none());
    assert!(start.elapsed() >= Duration::from_millis(50));
    assert!(launch.child.look().is_none(), "it still runs");
}

#[test]
fn a_child_with_pipes_keeps_them() {
    let _watchdog = Watchdog::new();
    let mut command = role("echo");
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut launch = start(Wire::Ipc, command);
    assert!(launch.child.take_stdin().is_some() && launch.child.take_stdin().is_none());
    assert!(launch.child.take_stdout().is_some() && launch.child.take_stdout().is_none());
}

#[test]
fn p_29_a_grandchild_that_holds_stderr_delays_nothing() {
    let _watchdog = Watchdog::new();
    let mut command = role("leave-a-holder");
    command.stdin(Stdio::piped());
    let mut launch = start(Wire::Ipc, command);
    // Held to the end of the test; so long does the grandchild live.
    let _stdin = launch.child.take_stdin();
    launch.say("now");
    let start = Instant::now();
    let CloseReason::Died(death) = watch(&mut launch.child) else { panic!("it died") };
    assert_eq!((death.exit, &*death.stderr), (Exit::Code(0), "left behind\n"));
    assert!(start.elapsed() < Duration::from_secs(5));
}

fn a_child_is_told_when_it_is_given_up(wire: Wire) {
    let _watchdog = Watchdog::new();
    let mut launch = start(wire, role("watch"));
    drop(launch.lifeline);
    assert_eq!(hear(&mut launch.transport), "gone");
    assert!(launch.child.look().is_none());
}

fn p_26_a_child_sees_its_head_killed(wire: Wire) {
    let _watchdog = Watchdog::new();
    // In the second case a shell is the parent, so that the child has nothing but the lifeline.
    for (name, watched) in [("middle", 1 + PIDFDS), ("middle-with-shell", 1)] {
        let mut head = role(name);
        head.env(roles::WIRE_OF_THE_MIDDLE, format!("{wire:?}"));
        let mut head = head.stdout(Stdio::piped()).spawn().unwrap();
        let mut said = reports(head.stdout.take().unwrap());
        assert_eq!(said.next().unwrap(), format!("watching {watched} descriptors"));
        let killed = Instant::now();
        head.kill().unwrap();
        assert_eq!(said.next().unwrap(), "gone");
        assert!(killed.elapsed() < 5 * Duration::from_secs(1));
        // The pipe ends when the child has.
        assert_eq!(said.next(), None);
        head.wait().unwrap();
    }
}

fn only_the_child_itself_is_a_neck_and_only_once(wire: Wire) {
    let _watchdog = Watchdog::new();
    let mut launch = start(wire, role("parent"));
    let said = launch.hear();
    let (second, grandchild) = said.split_once('\n').unwrap();
    assert!(second.contains("taken already"), "{second}");
    assert!(grandchild.contains("meant for another process"), "{grandchild}");
}

/// Red when what is open here is not marked to be closed.
fn p_28_a_child_inherits_what_it_is_given_and_nothing_else(wire: Wire) {
    let _watchdog = Watchdog::new();
    // Left open for children by somebody careless.
    let (careless, _other) = rustix::pipe::pipe().unwrap();
    let mut launch = start(wire, role("descriptors"));
    check_descriptors(wire, &launch.hear());
    drop(careless);
}

/// The standard streams and the lifeline before, and then a process and three sockets more; or a socket
/// before, and then a process and an event more; or memory before, and then a process in its place.
fn check_descriptors(wire: Wire, said: &str) {
    let (n_before, n_after, n_sockets) = match wire {
        Wire::Ipc => (4, 7 + PIDFDS, 3),
        // An event is one descriptor, or both ends of a pipe.
        Wire::Pipe => (5, 7, 1),
        Wire::Shm => (5, 4 + PIDFDS, 0),
    };
    let mut lines = said.lines();
    let lifeline = lines.next().unwrap();
    let (before, after) = (lines.next().unwrap(), lines.next().unwrap());
    let numbers = |list: &str| list.matches(", \"").count();
    assert_eq!(numbers(before), n_before, "{said}");
    assert!(before.contains(&format!("({lifeline}, \"pipe:")), "{said}");
    assert_eq!(numbers(after), n_after, "{said}");
    assert_eq!(after.matches("\"socket:").count(), n_sockets, "{said}");
    assert_eq!(after.matches("pidfd]\"").count() + after.matches("\"pidfd:").count(), PIDFDS, "{said}");
}

fn p_28_children_started_at_the_same_time_do_not_hold_each_other_up(wire: Wire) {
    let _watchdog = Watchdog::new();
    for _ in 0..slow_rounds() {
        let threads: Vec<_> = (0..8).map(|_| thread::spawn(move || start_three(wire))).collect();
        let mut launches: Vec<Launch> =
            threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
        // Each sees the end of its own lifeline while all the others live.
        for launch in &mut launches {
            check_descriptors(wire, &launch.hear());
            let lifeline = std::mem::replace(&mut launch.lifeline, os::pipe().unwrap().1.into());
            drop(lifeline);
            assert_eq!(exit(&watch(&mut launch.child)), Exit::Code(0));
        }
    }
}

fn start_three(wire: Wire) -> Vec<Launch> {
    (0..3).map(|_| start(wire, role("descriptors"))).collect()
}

/// Red when the status of a process that somebody else has reaped is made up.
#[test]
fn p_27_where_children_are_ignored_their_end_is_seen_all_the_same() {
    let _watchdog = Watchdog::new();
    run(role("ignoring"));
}

pub(super) fn with_children_ignored() {
    os::ignore_children();
    let StartError::Died { death, .. } = fail(role("exit"), LONG) else { panic!("it died") };
    assert_eq!((death.exit, &*death.stderr), (Exit::Unknown, "last words\n"));
    let mut launch = start(Wire::Ipc, role("echo"));
    launch.child.kill().unwrap();
    assert_eq!(exit(&watch(&mut launch.child)), Exit::Unknown);
    assert!(matches!(fail(Command::new("/nonexistent"), LONG), StartError::Spawn { .. }));
}

#[test]
fn p_27_somebody_who_reaps_every_child_does_no_harm() {
    let _watchdog = Watchdog::new();
    run(role("robbed"));
}

pub(super) fn with_somebody_who_reaps() {
    use rustix::process::{WaitOptions, wait};
    let over = Arc::new(AtomicBool::new(false));
    let seen = over.clone();
    let thief = thread::spawn(move || {
        while !seen.load(Ordering::Relaxed) {
            let _ = wait(WaitOptions::NOHANG);
            thread::yield_now();
        }
    });
    for _ in 0..10 {
        let mut launch = start(Wire::Ipc, role("echo"));
        launch.child.kill().unwrap();
        assert!(matches!(exit(&watch(&mut launch.child)), Exit::Unknown | Exit::Signal(9)));
        let StartError::Died { death, .. } = fail(role("exit"), LONG) else { panic!("it died") };
        assert!(matches!(death.exit, Exit::Unknown | Exit::Code(7)));
    }
    over.store(true, Ordering::Relaxed);
    thief.join().unwrap();
}

/// Red when stderr is not read.
#[test]
fn p_29_a_flood_on_stderr_holds_nobody_up() {
    let _watchdog = Watchdog::new();
    let mut open = role("flooded");
    open.stderr(Stdio::null());
    run(open);
    // The second time nobody reads what is passed on.
    let (_unread, full) = os::pipe().unwrap();
    let mut stuck = role("flooded");
    stuck.stderr(full);
    run(stuck);
}

/// Answers must come although 64 MiB go to stderr first.
pub(super) fn with_a_flood() {
    let Launch { mut transport, mut child, .. } = start(Wire::Ipc, role("flood"));
    let process = child.process();
    let hearer = thread::spawn(move || {
        assert_eq!(hear(&mut transport), "done");
        process.kill().unwrap();
    });
    let CloseReason::Died(death) = watch(&mut child) else { panic!("it died") };
    hearer.join().unwrap();
    assert_eq!(death.exit, Exit::Signal(9));
    assert!(death.stderr.ends_with("x\nthe end\n") && death.stderr.len() <= 4096);
}

fn the_token_is_in_no_argument(wire: Wire) {
    let _watchdog = Watchdog::new();
    let launch = start(wire, role("echo"));
    let arguments = std::fs::read(format!("/proc/{}/cmdline", launch.child.pid())).unwrap();
    let arguments = String::from_utf8_lossy(&arguments).into_owned();
    assert!(!arguments.contains(&launch.token.to_hex()), "{arguments}");
}

/// How many descriptors for processes a child has: one for its Head, where there is such a thing.
const PIDFDS: usize = if cfg!(nape_portable) { 0 } else { 1 };
