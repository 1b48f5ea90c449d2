//! Promises that no other module shows from outside: each test says which change to the library turns it red.

mod again;
mod broken_transport;
mod ends;
mod given_up;
mod in_hooks;
mod left_over;
mod loggers;
mod seams;
mod thread_locals;
pub mod together;
mod unfinished;

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use nape::{Api, CallError, Context, Fault, Responder, Timeout};

use crate::{
    soak::rounds,
    support::Kind,
    tools::{Gate, LONG, eventually, nothing_is_under_way},
};

on_every_link! {
    p_05_late_answers_reach_nobody_and_cost_nothing,
    p_06_a_flood_of_cancels_runs_no_more_handlers_than_workers,
    p_10_answers_need_no_worker,
}

/// Red when an answer to a call that has ended is not dropped, but counts as one that was never asked for.
fn p_05_late_answers_reach_nobody_and_cost_nothing(kind: Kind) {
    let (keep, kept) = crossbeam_channel::unbounded::<(u64, Responder<u64>)>();
    let late = move |_: Context, n: u64, answer| keep.send((n, answer)).unwrap();
    let echo = |_: &Context, n: u64| Ok::<_, Fault>(n);
    let api = Api::new("a").deferred("late", late).unwrap().handle("echo", echo).unwrap();
    let (head, neck) = kind.serving(api);
    let a = head.api("a");
    let batches = 10 * rounds().unwrap_or(5);
    for batch in 0..batches {
        let start = |n| a.action("late", batch * 100 + n).timeout(Duration::from_millis(1)).start::<u64>();
        let calls: Vec<_> = (0..100).map(|n| start(n).unwrap()).collect();
        for call in calls {
            assert!(matches!(call.wait(), Err(CallError::TimedOut { .. })));
        }
        // Whatever has got there is answered now, and the next call gets its own answer.
        kept.try_iter().for_each(|(n, answer)| answer.answer(n));
        assert_eq!(a.action("echo", batch).timeout(LONG).call::<u64>().unwrap(), batch);
    }
    kept.try_iter().for_each(|(n, answer)| answer.answer(n));
    nothing_is_under_way(&head, &neck);
    assert_eq!(head.counters().timeouts, 100 * batches);
    assert!(head.hang_report().callers.is_empty(), "{}", head.hang_report());
}

/// Red when the places of an API are not counted.
fn p_06_a_flood_of_cancels_runs_no_more_handlers_than_workers(kind: Kind) {
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let seen = most.clone();
    let slow = move |_: &Context, (): ()| {
        seen.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        // It does not look at its token.
        std::thread::sleep(Duration::from_micros(200));
        now.fetch_sub(1, Ordering::SeqCst);
        Ok::<_, Fault>(())
    };
    let (head, neck) = kind.serving(Api::new("a").workers(2).handle("slow", slow).unwrap());
    let a = head.api("a");
    for _ in 0..1000 * rounds().unwrap_or(5) {
        match a.action("slow", ()).start::<()>() {
            Ok(call) => drop(call),
            Err(error) => assert!(matches!(error, CallError::Rejected(_)), "{error:?}"),
        }
    }
    eventually(|| a.action("slow", ()).timeout(LONG).call::<()>().is_ok());
    assert!((1..=2).contains(&most.load(Ordering::SeqCst)), "{most:?} at a time");
    nothing_is_under_way(&head, &neck);
}

/// All that this side can run stands still, and it goes on calling. Red when a leader runs a handler without
/// giving the role up.
fn p_10_answers_need_no_worker(kind: Kind) {
    let gate = Gate::default();
    let stuck = gate.clone();
    let wait = move |_: &Context, (): ()| Ok::<_, Fault>(stuck.pass());
    let (head, neck) = kind.ends();
    head.attach(Api::new("h").workers(2).handle("wait", wait).unwrap()).unwrap();
    let api = Api::new("n").handle("echo", |_: &Context, n: u64| Ok::<_, Fault>(n)).unwrap();
    let neck = neck.serve(api).unwrap().start();
    let wait = || neck.api("h").action("wait", ()).timeout(Timeout::Never).start::<()>().unwrap();
    let waiting: Vec<_> = (0..20).map(|_| wait()).collect();
    gate.await_waiting(2);
    for n in 0..1000u64 {
        assert_eq!(head.api("n").action("echo", n).timeout(LONG).call::<u64>().unwrap(), n);
    }
    let calls: Vec<_> =
        (0..500u64).map(|n| head.api("n").action("echo", n).start::<u64>().unwrap()).collect();
    assert!(calls.into_iter().enumerate().all(|(n, call)| call.wait().unwrap() == n as u64));
    gate.open();
    waiting.into_iter().for_each(|call| call.wait().unwrap());
}
