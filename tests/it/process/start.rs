//! A child that never becomes ready: the error says why, in time.

use std::{
    io::ErrorKind,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use nape::{CloseReason, Config, Error, Exit, Head, StartError};

use super::{five_times, victim};
use crate::support::watched;

#[test]
fn ac_79_a_child_that_exits_early_is_quoted() {
    watched(|| {
        let StartError::Died { program, death } = start(victim::command("exit-early")) else { panic!() };
        assert!(program.contains("it-"), "{program} is this binary");
        assert_eq!(death.exit, Exit::Code(3));
        assert!(death.stderr.contains("no license"), "{death}");
    });
}

#[test]
fn ac_79_a_child_that_ends_after_it_has_connected_is_quoted() {
    watched(|| {
        let StartError::Died { death, .. } = start(victim::command("connect-and-exit")) else { panic!() };
        assert_eq!(death.exit, Exit::Code(4));
        assert!(death.stderr.contains("changed my mind"), "{death}");
    });
}

#[test]
fn ac_79_a_child_that_hangs_before_it_connects_times_out() {
    watched(|| times_out(victim::command("hang"), "connected", "thinking"));
}

#[test]
fn ac_79_a_child_that_connects_and_never_is_ready_times_out() {
    watched(|| times_out(victim::command("connect-and-hang"), "ready", "still thinking"));
}

#[test]
fn ac_79_a_child_that_closes_before_it_is_ready_is_refused() {
    watched(|| {
        let error = start(victim::command("connect-and-close"));
        let StartError::Refused { reason, .. } = error else { panic!("{error:?}") };
        assert!(matches!(*reason, CloseReason::Peer), "{reason:?}");
    });
}

#[test]
fn ac_79_a_program_that_is_no_neck_times_out_or_ends() {
    watched(|| {
        let mut cat = Command::new("/bin/cat");
        cat.stdin(Stdio::piped());
        times_out(cat, "connected", "");
        let StartError::Died { death, .. } = start(Command::new("/bin/true")) else { panic!() };
        assert_eq!((death.exit, &*death.stderr), (Exit::Code(0), ""));
    });
}

#[test]
fn ac_79_a_program_that_cannot_be_started_is_an_error_of_the_system() {
    watched(|| {
        cannot_start("/nowhere/at/all", ErrorKind::NotFound);
        cannot_start(env!("CARGO_MANIFEST_DIR"), ErrorKind::PermissionDenied);
        cannot_start(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"), ErrorKind::PermissionDenied);
    });
}

/// What becomes of a child that has much time.
#[track_caller]
fn start(command: Command) -> StartError {
    unwrap(Head::spawn(command).unwrap_err())
}

#[track_caller]
fn unwrap(error: Error) -> StartError {
    let Error::Start(error) = error else { panic!("no failure to start: {error:?}") };
    error
}

#[track_caller]
fn times_out(command: Command, told: &str, words: &str) {
    let limit = Duration::from_secs(2);
    let begin = Instant::now();
    let error = Head::builder().config(Config::new().start_timeout(limit)).spawn(command).unwrap_err();
    let took = begin.elapsed();
    let StartError::TimedOut { after, state, stderr, .. } = unwrap(error) else { panic!() };
    assert_eq!(after, limit);
    assert!(state.contains(told), "{state}");
    assert!(stderr.contains(words), "{stderr}");
    assert!(took >= limit, "{took:?}");
    assert!(took < limit + five_times(200), "{took:?}");
}

#[track_caller]
fn cannot_start(program: &str, kind: ErrorKind) {
    let error = start(Command::new(program));
    let StartError::Spawn { program: named, error } = error else { panic!("{error:?}") };
    assert_eq!(&*named, program);
    assert_eq!(error.kind(), kind);
}
