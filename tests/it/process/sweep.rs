//! Many children killed: with calls under way, and at any moment of their start.

use std::{
    io::Read,
    process::Stdio,
    thread,
    time::{Duration, Instant},
};

use fastrand::Rng;
use nape::{AsyncResult, Timeout, Wire};

use super::{Watch, death::kill_with_64_pending, echo, five_times, head, victim};
use crate::soak::{alone, rounds, seed, slow_rounds};

on_every_wire_to_a_child! {
    p_02_every_call_ends_soon_after_the_kill,
    p_02_a_child_with_much_memory_is_no_exception,
    p_26_a_head_that_is_killed_at_any_moment_of_a_start_leaves_no_child,
}

/// Rounds of `NAPE_ROUNDS`. Red when the end of the process is not watched, and the end of its descriptors alone is.
fn p_02_every_call_ends_soon_after_the_kill(wire: Wire) {
    let mut all: Vec<Duration> = (0..rounds().unwrap_or(20)).map(|_| kill_with_64_pending(wire).1).collect();
    all.sort();
    let at = |share: usize| all[(all.len() * share / 100).min(all.len() - 1)];
    println!(
        "{wire:?}: 64 calls pending, {} rounds, from the kill to the last end: p50 {:.2?}, p99 {:.2?}, max {:.2?}",
        all.len(),
        at(50),
        at(99),
        at(100)
    );
    if alone() {
        assert!(at(99) < Duration::from_millis(20) && at(100) < Duration::from_millis(100), "{all:?}");
    }
    assert!(at(100) < five_times(100), "{all:?}");
}

/// The kernel takes its memory back before it closes its sockets.
fn p_02_a_child_with_much_memory_is_no_exception(wire: Wire) {
    let mebibytes = if rounds().is_some() { 512usize } else { 256 };
    for _ in 0..slow_rounds() {
        let head = head(wire);
        head.api("victim").action("hoard", mebibytes).timeout(Timeout::Never).call::<()>().unwrap();
        let wait = || head.api("victim").action("wait", ()).timeout(Timeout::Never).start::<()>().unwrap();
        let pending: Vec<AsyncResult<()>> = (0..8).map(|_| wait()).collect();
        echo(&head);
        let killed = Instant::now();
        head.kill();
        pending.into_iter().for_each(|call| drop(super::death(&call.wait().unwrap_err())));
        assert!(killed.elapsed() < five_times(100), "{:?}", killed.elapsed());
    }
}

/// The child holds the stdout of its Head, which thus ends when both are gone. Red when the child does not watch
/// its lifeline.
fn p_26_a_head_that_is_killed_at_any_moment_of_a_start_leaves_no_child(wire: Wire) {
    let mut chance = Rng::with_seed(seed());
    for _ in 0..rounds().unwrap_or(10) {
        let mut command = victim::command_over(wire, "middle");
        command.env(super::life::HOW, "lingering").stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut middle = command.spawn().unwrap();
        let mut stdout = middle.stdout.take().unwrap();
        thread::sleep(Duration::from_micros(chance.u64(..100_000)));
        let watch = Watch::of(middle.id());
        middle.kill().unwrap();
        watch.wait_end(crate::support::HANG).expect("it was killed");
        let killed = Instant::now();
        middle.wait().unwrap();
        stdout.read_to_end(&mut Vec::new()).unwrap();
        assert!(killed.elapsed() < five_times(1000), "{:?}", killed.elapsed());
    }
}
