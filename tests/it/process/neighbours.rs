//! Children that do well beside one that does not.

use std::{
    thread,
    time::{Duration, Instant},
};

use nape::{CallError, Config, Head, Payload, Timeout, Wire};
use rustix::process::Signal;

use super::{Watch, echo, five_times, victim};
use crate::history::rounds;

on_every_wire_to_a_child! {
    p_17_nobody_is_held_up_by_a_neighbour_that_is_stuck,
    p_17_nobody_is_held_up_by_a_neighbour_that_floods_its_head,
}

fn child(wire: Wire) -> Head {
    let config = Config::new().grace(Duration::from_millis(100)).write_stall(Timeout::Never);
    Head::builder().wire(wire).config(config).spawn(victim::command("serve")).unwrap()
}

fn p_17_nobody_is_held_up_by_a_neighbour_that_is_stuck(wire: Wire) {
    beside(wire, "stuck", |head| {
        Watch::child_of(head).send(Signal::STOP);
        let fire = || head.api("victim").action("take", Payload::from_bytes(vec![1; 1000])).fire();
        while fire().is_ok() {}
        // Some wait for it, too.
        for _ in 0..4 {
            let wait = head.api("victim").action("wait", ()).timeout(Timeout::Never);
            let victim = wait;
            thread::spawn(move || drop(victim.call::<()>()));
        }
    });
}

fn p_17_nobody_is_held_up_by_a_neighbour_that_floods_its_head(wire: Wire) {
    beside(wire, "flooding", |head| {
        let flood = head.api("victim").action("flood", ()).timeout(Timeout::Never);
        flood.then(|_: Result<(), CallError>| ()).unwrap();
    });
}

fn beside(wire: Wire, what: &str, harm: impl Fn(&Head)) {
    let healthy: Vec<Head> = (0..3).map(|_| child(wire)).collect();
    let bad = child(wire);
    echo(&bad);
    let n = rounds().unwrap_or(1) as usize * 300;
    let idle = p99(&healthy, n);
    harm(&bad);
    let beside = p99(&healthy, n);
    println!("{wire:?}: p99 of {n} calls: {idle:.1?} alone, {beside:.1?} beside a neighbour that is {what}");
    // Figures are for a machine that does nothing else: `NAPE_ROUNDS` and the guide have them.
    assert!(beside < idle * 5 + five_times(20), "{beside:?} instead of {idle:?}");
}

/// Of calls to each in turn.
fn p99(heads: &[Head], n: usize) -> Duration {
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
