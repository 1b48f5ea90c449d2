//! Children that do well beside one that does not.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use nape::{CallError, Config, Head, Payload, Timeout, Wire};
use rustix::process::Signal;

use super::{Watch, echo, five_times, victim};
use crate::soak::{alone, rounds};

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
    // It costs time of two cores, and others may have no more than those.
    let usual = if alone() { idle } else { idle.max(control) };
    assert!(beside < limit(usual), "{beside:?} instead of {idle:?}, or {control:?}");
}

/// Twice as long is promised, for a machine that does nothing else; others have more time.
fn limit(usual: Duration) -> Duration {
    if alone() { 2 * usual } else { 5 * usual + five_times(20) }
}

/// The 99th percentile of what calls to three healthy children take: of so many rounds the one in the middle, so that
/// what else happens on the machine now and then does not count.
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
    let n = rounds().unwrap_or(1) as usize;
    // In turn, since the pace of a machine that others use as well is never the same for long.
    let rounds: Vec<[Duration; 3]> = (0..n)
        .map(|_| {
            let bad = child(wire);
            echo(&bad);
            let idle = p99(&healthy);
            harm(&bad);
            let beside = p99(&healthy);
            drop(bad);
            [idle, beside, while_others_compute(wire, || p99(&healthy))]
        })
        .collect();
    let middle = |which: usize| {
        let mut all: Vec<_> = rounds.iter().map(|round| round[which]).collect();
        all.sort();
        all[n / 2]
    };
    let [idle, beside, control] = [0, 1, 2].map(middle);
    let [times, control_times] = [beside, control].map(|time| time.as_secs_f64() / idle.as_secs_f64());
    println!(
        "{wire:?}: p99, the middle of {n} rounds: {idle:.1?} alone; {beside:.1?} ({times:.2} times) beside a \
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

/// Of calls to each in turn, once all that has just begun has been on its way for a while.
fn p99(heads: &[Head]) -> Duration {
    (0..CALLS / 10).for_each(|at| echo(&heads[at % heads.len()]));
    let n = if alone() { 10 * CALLS } else { CALLS };
    let mut all: Vec<_> = (0..n)
        .map(|at| {
            let began = Instant::now();
            echo(&heads[at % heads.len()]);
            began.elapsed()
        })
        .collect();
    all.sort();
    all[n * 99 / 100]
}

/// How many a round has at least.
const CALLS: usize = 300;
