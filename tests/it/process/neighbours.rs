//! Children that do well beside one that does not.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use nape::{CallError, Config, Head, Payload, Timeout, Wire};
use rustix::process::Signal;

use super::{Watch, echo, five_times, victim};
use crate::history::{alone, rounds};

on_every_wire_to_a_child! {
    p_17_nobody_is_held_up_by_a_neighbour_that_is_stuck,
    p_17_nobody_is_held_up_by_a_neighbour_that_floods_its_head,
}

fn child(wire: Wire) -> Head {
    let config = Config::new().grace(Duration::from_millis(100)).write_stall(Timeout::Never);
    Head::builder().wire(wire).config(config).spawn(victim::command("serve")).unwrap()
}

fn p_17_nobody_is_held_up_by_a_neighbour_that_is_stuck(wire: Wire) {
    let Figures { idle, beside, .. } = measure(wire, "stuck", |head| {
        Watch::child_of(head).send(Signal::STOP);
        let fire = || head.api("victim").action("take", Payload::from_bytes(vec![1; 1000])).fire();
        while fire().is_ok() {}
        // Some wait for it, too.
        for _ in 0..4 {
            let wait = head.api("victim").action("wait", ()).timeout(Timeout::Never);
            thread::spawn(move || drop(wait.call::<()>()));
        }
    });
    // It costs nobody a moment.
    assert!(beside < limit(idle), "{beside:?} instead of {idle:?}");
}

fn p_17_nobody_is_held_up_by_a_neighbour_that_floods_its_head(wire: Wire) {
    let Figures { idle, beside, control } = measure(wire, "flooding", |head| {
        let flood = head.api("victim").action("flood", ()).timeout(Timeout::Never);
        flood.then(|_: Result<(), CallError>| ()).unwrap();
    });
    // It costs time of two cores, which whoever has no more of them feels.
    assert!(beside < limit(idle.max(control)), "{beside:?} instead of {idle:?}, or {control:?}");
}

/// Twice as long is promised, for a machine that does nothing else; others have more time.
fn limit(usual: Duration) -> Duration {
    if alone() { 2 * usual } else { 5 * usual + five_times(20) }
}

/// The 99th percentile of what calls to three healthy children take.
struct Figures {
    /// Where nothing else happens.
    idle: Duration,
    /// Beside one that does not do well.
    beside: Duration,
    /// Beside two threads that merely compute, here and in another process, and know nothing of links.
    control: Duration,
}

fn measure(wire: Wire, what: &str, harm: impl Fn(&Head)) -> Figures {
    let healthy: Vec<Head> = (0..3).map(|_| child(wire)).collect();
    let bad = child(wire);
    echo(&bad);
    let n = rounds().unwrap_or(1) as usize;
    let idle = p99(&healthy, n);
    harm(&bad);
    let beside = p99(&healthy, n);
    drop(bad);
    let control = while_others_compute(wire, || p99(&healthy, n));
    let [times, control_times] = [beside, control].map(|time| time.as_secs_f64() / idle.as_secs_f64());
    println!(
        "{wire:?}: p99 of {CALLS} calls, {n} times: {idle:.1?} alone; {beside:.1?} ({times:.2} times) beside a \
         neighbour that is {what}; {control:.1?} ({control_times:.2} times) beside two threads that compute"
    );
    Figures { idle, beside, control }
}

fn while_others_compute<T>(wire: Wire, measure: impl FnOnce() -> T) -> T {
    let there = child(wire);
    there.api("victim").action("spin", ()).then(|_: Result<(), CallError>| ()).unwrap();
    echo(&there);
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                std::hint::spin_loop()
            }
        });
        let measured = measure();
        over.store(true, Ordering::Relaxed);
        measured
    })
}

/// Of calls to each in turn: of so many rounds the one in the middle, so that what else happens on the machine now
/// and then does not count.
fn p99(heads: &[Head], n_rounds: usize) -> Duration {
    let round = |_| {
        let mut all: Vec<_> = (0..CALLS)
            .map(|at| {
                let began = Instant::now();
                echo(&heads[at % heads.len()]);
                began.elapsed()
            })
            .collect();
        all.sort();
        all[CALLS * 99 / 100]
    };
    let mut rounds: Vec<_> = (0..n_rounds).map(round).collect();
    rounds.sort();
    rounds[n_rounds / 2]
}

/// How many a round has.
const CALLS: usize = 300;
