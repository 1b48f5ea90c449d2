//! A child that never becomes ready: the error says why, in time.

use std::{
    io::ErrorKind,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use nape::{CloseReason, Config, Error, Exit, Head, StartError, Wire};

use super::{five_times, victim};
use crate::soak::slow_rounds;

on_every_wire_to_a_child! {
    ac_79_a_child_that_exits_early_is_quoted,
    ac_79_a_child_that_ends_after_it_has_connected_is_quoted,
    ac_79_a_child_that_closes_before_it_is_ready_is_refused,
    ac_79_a_program_that_is_no_neck_times_out_or_ends,
    ac_79_a_program_that_cannot_be_started_is_an_error_of_the_system,
    ac_79_a_child_that_hangs_before_it_connects_times_out,
    ac_79_a_child_that_connects_and_never_is_ready_times_out,
}

fn ac_79_a_child_that_exits_early_is_quoted(wire: Wire) {
    for _ in 0..slow_rounds() {
        let StartError::Died { program, death } = start(wire, victim::command("exit-early")) else {
            panic!()
        };
        assert!(program.contains("it-"), "{program} is this binary");
        assert_eq!(death.exit, Exit::Code(3));
        assert!(death.stderr.contains("no license"), "{death}");
    }
}

fn ac_79_a_child_that_ends_after_it_has_connected_is_quoted(wire: Wire) {
    for _ in 0..slow_rounds() {
        let StartError::Died { death, .. } = start(wire, victim::command("connect-and-exit")) else {
            panic!()
        };
        assert_eq!(death.exit, Exit::Code(4));
        assert!(death.stderr.contains("changed my mind"), "{death}");
    }
}

fn ac_79_a_child_that_hangs_before_it_connects_times_out(wire: Wire) {
    for _ in 0..slow_rounds() {
        times_out(wire, victim::command("hang"), "connected", "thinking");
    }
}

fn ac_79_a_child_that_connects_and_never_is_ready_times_out(wire: Wire) {
    for _ in 0..slow_rounds() {
        times_out(wire, victim::command("connect-and-hang"), "ready", "still thinking");
    }
}

fn ac_79_a_child_that_closes_before_it_is_ready_is_refused(wire: Wire) {
    for _ in 0..slow_rounds() {
        let error = start(wire, victim::command("connect-and-close"));
        let StartError::Refused { reason, .. } = error else { panic!("{error:?}") };
        assert!(matches!(*reason, CloseReason::Peer), "{reason:?}");
    }
}

fn ac_79_a_program_that_is_no_neck_times_out_or_ends(wire: Wire) {
    for _ in 0..slow_rounds() {
        let mut cat = Command::new("/bin/cat");
        cat.stdin(Stdio::piped());
        times_out(wire, cat, "connected", "");
        let StartError::Died { death, .. } = start(wire, Command::new("/bin/true")) else { panic!() };
        assert_eq!((death.exit, &*death.stderr), (Exit::Code(0), ""));
    }
}

fn ac_79_a_program_that_cannot_be_started_is_an_error_of_the_system(wire: Wire) {
    for _ in 0..slow_rounds() {
        cannot_start(wire, "/nowhere/at/all", ErrorKind::NotFound);
        cannot_start(wire, env!("CARGO_MANIFEST_DIR"), ErrorKind::PermissionDenied);
        cannot_start(wire, concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"), ErrorKind::PermissionDenied);
    }
}

/// What becomes of a child that has much time.
#[track_caller]
fn start(wire: Wire, command: Command) -> StartError {
    unwrap(Head::builder().wire(wire).spawn(command).unwrap_err())
}

#[track_caller]
fn unwrap(error: Error) -> StartError {
    let Error::Start(error) = error else { panic!("no failure to start: {error:?}") };
    error
}

#[track_caller]
fn times_out(wire: Wire, command: Command, told: &str, words: &str) {
    let limit = Duration::from_secs(2);
    let begin = Instant::now();
    let error =
        Head::builder().wire(wire).config(Config::new().start_timeout(limit)).spawn(command).unwrap_err();
    let took = begin.elapsed();
    let StartError::TimedOut { after, state, stderr, .. } = unwrap(error) else { panic!() };
    assert_eq!(after, limit);
    assert!(state.contains(told), "{state}");
    assert!(stderr.contains(words), "{stderr}");
    assert!(took >= limit, "{took:?}");
    assert!(took < limit + five_times(200), "{took:?}");
}

#[track_caller]
fn cannot_start(wire: Wire, program: &str, kind: ErrorKind) {
    let error = start(wire, Command::new(program));
    let StartError::Spawn { program: named, error } = error else { panic!("{error:?}") };
    assert_eq!(&*named, program);
    assert_eq!(error.kind(), kind);
}
