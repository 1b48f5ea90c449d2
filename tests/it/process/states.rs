//! Timeouts, whatever state the link to a child is in.

use std::{
    thread,
    time::{Duration, Instant},
};

use fastrand::Rng;
use nape::{ApiHandle, CallError, Config, Head, Payload, Rejection, Restarts, Timeout, Wire};
use rustix::process::Signal;

use super::{Watch, echo, five_times, victim};
use crate::soak::{memory_is_its_own, rounds, seed, slow_rounds};

on_every_wire_to_a_child! {
    p_04_timeouts_hold_in_every_state_of_the_link,
    p_04_a_call_under_a_supervisor_that_is_over_time_has_timed_out,
    p_20_a_child_that_gets_no_more_descriptors_goes_on,
    row_22_a_message_for_which_there_is_no_memory_is_refused,
}

/// What it is called, and what brings it about.
type State = (&'static str, fn(&Head));

/// What the link is about when the call is made.
const STATES: [State; 5] = [
    ("at rest", |_| ()),
    ("the child is stopped", |head| Watch::child_of(head).send(Signal::STOP)),
    ("a large argument is on its way to a child that is stopped", |head| {
        Watch::child_of(head).send(Signal::STOP);
        let take = head.api("victim").action("take", Payload::from_bytes(vec![1; 15 << 20]));
        take.timeout(Timeout::Never).then(|_: Result<(), CallError>| ()).unwrap();
    }),
    ("the child stops in the middle of a large answer", |head| {
        let bytes = head.api("victim").action("bytes", 15usize << 20).timeout(Timeout::Never);
        bytes.then(|_: Result<Payload, CallError>| ()).unwrap();
        thread::sleep(Duration::from_millis(5));
        Watch::child_of(head).send(Signal::STOP);
    }),
    ("the send queue is full", |head| {
        Watch::child_of(head).send(Signal::STOP);
        let fire = || head.api("victim").action("take", Payload::from_bytes(vec![1; 1000])).fire();
        while fire().is_ok() {}
    }),
];

/// Red when nobody ends a call whose time is over.
fn p_04_timeouts_hold_in_every_state_of_the_link(wire: Wire) {
    for (state, bring_about) in (0..slow_rounds()).flat_map(|_| STATES) {
        let config = Config::new().grace(Duration::from_millis(50)).write_stall(Timeout::Never);
        let head = Head::builder().wire(wire).config(config).spawn(victim::command("serve")).unwrap();
        echo(&head);
        bring_about(&head);
        for limit in [0, 1, 50, 200].map(Duration::from_millis) {
            let began = Instant::now();
            let error = head.api("victim").action("wait", ()).timeout(limit).call::<()>().unwrap_err();
            let took = began.elapsed();
            assert!(matches!(error, CallError::TimedOut { .. }), "{state}: {error:?}");
            assert!(took >= limit && took < limit + five_times(50), "{state}: {took:?} for {limit:?}");
        }
    }
}

/// Its own deadline was what was over, whoever of the two sides saw that first. Red when the other side's
/// refusal is passed on as it is.
fn p_04_a_call_under_a_supervisor_that_is_over_time_has_timed_out(wire: Wire) {
    let builder = Head::builder().wire(wire).supervise(Restarts::on_crash());
    let supervisor = builder.spawn(victim::command("serve")).unwrap();
    let victim = supervisor.api("victim");
    let mut chance = Rng::with_seed(seed());
    for _ in 0..rounds().unwrap_or(300) {
        let limit = Duration::from_micros(1 + chance.u64(..4000));
        for error in calls(&victim, limit) {
            assert!(matches!(error, CallError::TimedOut { .. }), "{error:?} with {limit:?}");
        }
    }
}

fn calls(victim: &ApiHandle, limit: Duration) -> Vec<CallError> {
    let safe = |path| victim.action(path, 7u64).timeout(limit).retry_safe();
    let waits = victim.action("wait", ()).timeout(limit).retry_safe().start::<()>();
    let echo = safe("echo").call::<u64>();
    waits.map_or_else(Some, |call| call.wait().err()).into_iter().chain(echo.err()).collect()
}

/// As one does that gives up its rights after it has started.
/// Red when room for a message is made whether there is memory or not: the child aborts.
fn row_22_a_message_for_which_there_is_no_memory_is_refused(wire: Wire) {
    if !memory_is_its_own() {
        return;
    }
    let mut command = victim::command("serve");
    // With more, the C library has room that it has reserved before.
    command.env("MALLOC_ARENA_MAX", "1");
    let head = Head::builder().wire(wire).spawn(command).unwrap();
    let victim = head.api("victim");
    victim.action("take-no-more-memory", ()).call::<()>().unwrap();
    let take = |size: usize| victim.action("take", Payload::from_bytes(vec![1; size])).call::<()>();
    let error = take(12 << 20).unwrap_err();
    assert!(matches!(error, CallError::Rejected(Rejection::Busy { .. })), "{error:?}");
    take(1 << 20).unwrap();
    (0..10).for_each(|_| echo(&head));
}

fn p_20_a_child_that_gets_no_more_descriptors_goes_on(wire: Wire) {
    let head = super::head(wire);
    let victim = head.api("victim");
    victim.action("take-no-more-files", ()).call::<()>().unwrap();
    (0..10).for_each(|_| echo(&head));
    let large = victim.action("bytes", 3usize << 20).call::<Payload>().unwrap();
    assert_eq!(large.into_bytes().len(), 3 << 20);
    victim.action("take", Payload::from_bytes(vec![1; 3 << 20])).call::<()>().unwrap();
    let started = |n: u64| victim.action("echo", n).start::<u64>().unwrap();
    let calls: Vec<_> = (0..200).map(started).collect();
    assert!(calls.into_iter().enumerate().all(|(n, call)| call.wait().unwrap() == n as u64));
}
