//! What is called between two starts of a program, in numbers, and who waits over them.

use std::{panic, sync::mpsc, thread, time::Duration};

use nape::{
    AsyncResult, CallError, Config, Head, Limits, LinkState, Restarts, Supervisor, Timeout, Transition, Wire,
};

use super::victim;
use crate::{
    support::HANG,
    tools::{is_busy, until},
};

on_every_wire_to_a_child! {
    ac_75_a_call_that_waits_for_the_next_start_has_not_ended,
    p_11_what_waits_for_the_next_start_has_a_bound,
    p_15_what_waits_for_the_next_start_has_a_bound_in_bytes,
    p_11_what_has_waited_for_the_next_start_is_sent_with_it,
    p_30_who_waits_for_the_end_waits_over_restarts,
    p_01_a_call_whose_arguments_panic_as_they_go_has_not_begun,
}

/// Red when they go once the call has set out: nobody has its callback then.
fn p_01_a_call_whose_arguments_panic_as_they_go_has_not_begun(wire: Wire) {
    struct Panics(u64);
    impl serde::Serialize for Panics {
        fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            serializer.serialize_u64(self.0)
        }
    }
    impl Drop for Panics {
        fn drop(&mut self) {
            panic::resume_unwind(Box::new("as they go"));
        }
    }
    let supervisor =
        Head::builder().wire(wire).supervise(Restarts::never()).spawn(victim::command("serve")).unwrap();
    for again in [false, true] {
        let (told, ended) = mpsc::sync_channel(1);
        let call = supervisor.api("victim").action("echo", Panics(7)).timeout(HANG);
        let call = if again { call.retry_safe() } else { call };
        let then = move || call.then(move |end: Result<u64, CallError>| told.send(end).unwrap());
        panic::catch_unwind(panic::AssertUnwindSafe(then)).expect_err("it is the panic of whoever calls");
        assert_eq!(ended.recv_timeout(HANG).unwrap_err(), mpsc::RecvTimeoutError::Disconnected);
        assert!(supervisor.hang_report().callers.is_empty(), "{}", supervisor.hang_report());
    }
}

/// Red when the end of one of the links is taken for the end.
fn p_30_who_waits_for_the_end_waits_over_restarts(wire: Wire) {
    let soon = Duration::from_millis(1);
    let restarts = Restarts::on_crash().limit(100, HANG).backoff(soon, soon);
    let supervisor = Head::builder().wire(wire).supervise(restarts).spawn(victim::command("serve")).unwrap();
    let end = supervisor.endpoint().clone();
    let (told, ended) = mpsc::sync_channel(1);
    let waits = thread::spawn(move || told.send(end.wait_closed(HANG)).unwrap());
    for generation in 2..4 {
        supervisor.kill();
        until("it was started again", || supervisor.generation() == generation);
        let echo = supervisor.api("victim").action("echo", 7u64).timeout(HANG);
        assert_eq!(echo.call::<u64>().unwrap(), 7);
    }
    assert!(ended.try_recv().is_err());
    supervisor.stop();
    assert_eq!(ended.recv_timeout(HANG).unwrap(), LinkState::Closed);
    waits.join().unwrap();
}

/// A program that has crashed, and whose next start comes after this time.
fn crashed(wire: Wire, limits: Limits, next: Duration) -> Supervisor {
    let restarts = Restarts::on_crash().backoff(next, next);
    let builder = Head::builder().wire(wire).config(Config::new().limits(limits)).supervise(restarts);
    let supervisor = builder.spawn(victim::command("serve")).unwrap();
    supervisor.kill();
    until("it backs off", || matches!(supervisor.last_transition(), Transition::BackingOff(_)));
    supervisor
}

fn start(supervisor: &Supervisor, bytes: usize) -> Result<AsyncResult<()>, CallError> {
    supervisor.api("victim").action("wait", vec![7u8; bytes]).timeout(Timeout::Never).start()
}

/// All that are taken of so many.
fn start_many(supervisor: &Supervisor, many: usize, bytes: usize) -> Vec<AsyncResult<()>> {
    let (mut taken, mut refused) = (Vec::new(), 0);
    for _ in 0..many {
        match start(supervisor, bytes) {
            Ok(call) => {
                assert_eq!(refused, 0, "one was refused before");
                taken.push(call);
            }
            busy => {
                assert!(is_busy(&busy, "victim.wait"), "{busy:?}");
                refused += 1;
            }
        }
    }
    taken
}

/// Red when nobody counts them, or when those that were cancelled keep their places.
fn p_11_what_waits_for_the_next_start_has_a_bound(wire: Wire) {
    let supervisor = crashed(wire, Limits::new(), 10 * HANG);
    let mut calls = start_many(&supervisor, 10_000, 1024);
    assert_eq!(calls.len(), 1024);
    let echo = || supervisor.api("victim").action("echo", 1u64);
    let then = echo().then(|_: Result<u64, CallError>| unreachable!("it was refused"));
    assert!(is_busy(&then, "victim.echo"), "{then:?}");
    // A thread that blocks takes nobody's place.
    let late = echo().timeout(Duration::from_millis(50)).call::<u64>();
    assert!(matches!(late, Err(CallError::TimedOut { .. })), "{late:?}");
    calls.pop().unwrap().cancel();
    calls.extend(start_many(&supervisor, 2, 1024));
    assert_eq!(calls.len(), 1024);
    drop(calls);
    assert!(supervisor.hang_report().callers.is_empty(), "{}", supervisor.hang_report());
    assert_eq!(start_many(&supervisor, 2000, 1024).len(), 1024);
}

/// Red when only those count that a link knows.
fn ac_75_a_call_that_waits_for_the_next_start_has_not_ended(wire: Wire) {
    for waits in [false, true] {
        let supervisor = crashed(wire, Limits::new(), 10 * HANG);
        let call = waits.then(|| start(&supervisor, 1).unwrap());
        assert_eq!(supervisor.shut_down(10 * HANG), !waits);
        call.into_iter().for_each(|call| assert!(matches!(call.wait(), Err(CallError::Closed { .. }))));
    }
}

fn p_15_what_waits_for_the_next_start_has_a_bound_in_bytes(wire: Wire) {
    const KIB: usize = 1024;
    let supervisor = crashed(wire, Limits::new().send_queue_bytes(1000 * KIB), 10 * HANG);
    for _ in 0..3 {
        // Each is kept in the one codec that the program has asked for, with a few bytes for its length.
        assert_eq!(start_many(&supervisor, 100, 100 * KIB).len(), 9);
    }
    // With nothing else one may go over it.
    assert_eq!(start_many(&supervisor, 2, 2000 * KIB).len(), 1);
}

/// Red when those that have waited are refused by what they wait for.
fn p_11_what_has_waited_for_the_next_start_is_sent_with_it(wire: Wire) {
    let supervisor = crashed(wire, Limits::new(), Duration::from_secs(1));
    let echo = |n: u64| supervisor.api("victim").action("echo", n).timeout(HANG).start::<u64>();
    let calls: Vec<_> = (0..1024).map_while(|n| echo(n).ok()).collect();
    assert!(calls.len() == 1024 || supervisor.generation() == 2);
    for (n, call) in (0..).zip(calls) {
        assert_eq!(call.wait().unwrap(), n);
    }
}
