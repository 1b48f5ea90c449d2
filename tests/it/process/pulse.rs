//! A child that is there and does nothing: found by a heartbeat, or by what it does not read.

use std::{
    fs, thread,
    time::{Duration, Instant},
};

use nape::{AsyncResult, CallError, CloseReason, Config, Head, LinkState, Restarts, Silence, Timeout, Wire};
use rustix::process::Signal;

use super::{Watch, echo, five_times, rows::Told, victim};
use crate::{support::HANG, tools::until};

on_every_wire_to_a_child! {
    ac_74_calls_to_a_stopped_child_fail_after_the_limit,
    ac_74_a_child_that_is_stopped_for_a_moment_is_forgiven,
    p_31_a_child_that_is_busy_in_all_its_handlers_is_not_unresponsive,
    p_31_a_stopped_child_is_started_again_if_it_is_supervised,
    p_31_a_side_that_was_stopped_itself_blames_nobody,
    row_52_nobody_is_blamed_where_both_sides_were_stopped,
    p_17_a_child_that_reads_nothing_loses_its_link,
}

const INTERVAL: Duration = Duration::from_millis(50);
const LIMIT: Duration = Duration::from_millis(200);

fn head(wire: Wire, config: Config) -> Head {
    let config = config.grace(Duration::from_millis(100));
    Head::builder().wire(wire).config(config).spawn(victim::command("serve")).unwrap()
}

fn wait_for_ever(head: &Head) -> AsyncResult<()> {
    head.api("victim").action("wait", ()).timeout(Timeout::Never).start().unwrap()
}

#[track_caller]
fn silence(error: &CallError) -> Silence {
    match error.close_reason() {
        Some(CloseReason::Unresponsive { what, .. }) => *what,
        other => panic!("{other:?}"),
    }
}

/// Stops a process, and waits until it is.
pub(super) fn stop(pid: u32) -> Watch {
    let child = Watch::of(pid);
    child.send(Signal::STOP);
    let is_stopped = |task: fs::DirEntry| {
        let stat = fs::read_to_string(task.path().join("stat")).unwrap_or_default();
        // The state comes after the name, which may contain anything.
        stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with('T'))
    };
    let tasks = || fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    until("it is stopped", || tasks().all(|task| is_stopped(task.unwrap())));
    child
}

fn ac_74_calls_to_a_stopped_child_fail_after_the_limit(wire: Wire) {
    let head = head(wire, Config::new().heartbeat(INTERVAL, LIMIT));
    let pending: Vec<_> = (0..8).map(|_| wait_for_ever(&head)).collect();
    echo(&head);
    let child = stop(head.child_id().unwrap());
    let begin = Instant::now();
    thread::scope(|scope| {
        // One that blocks, and reads while it does, among them.
        let wait = || head.api("victim").action("wait", ()).timeout(Timeout::Never).call::<()>();
        let blocked = scope.spawn(wait);
        assert_eq!(silence(&blocked.join().unwrap().unwrap_err()), Silence::Answer);
    });
    let took = begin.elapsed();
    assert!(took >= LIMIT && took < five_times(250), "{took:?}");
    pending.into_iter().for_each(|call| assert_eq!(silence(&call.wait().unwrap_err()), Silence::Answer));
    until("it is over", || head.state() == LinkState::Closed);
    drop(head);
    assert!(child.has_ended());
}

fn ac_74_a_child_that_is_stopped_for_a_moment_is_forgiven(wire: Wire) {
    let head = head(wire, Config::new().heartbeat(INTERVAL, 20 * LIMIT));
    let pending = wait_for_ever(&head);
    echo(&head);
    let child = stop(head.child_id().unwrap());
    thread::sleep(4 * INTERVAL);
    child.send(Signal::CONT);
    echo(&head);
    thread::sleep(4 * INTERVAL);
    echo(&head);
    assert!(!pending.is_done());
}

fn p_31_a_child_that_is_busy_in_all_its_handlers_is_not_unresponsive(wire: Wire) {
    let limit = 4 * LIMIT;
    let head = head(wire, Config::new().heartbeat(INTERVAL, limit));
    // More than it has workers, and as many threads as it likes.
    let spin = || head.api("victim").action("spin", ()).timeout(Timeout::Never).start::<()>().unwrap();
    let busy: Vec<_> = (0..16).map(|_| spin()).collect();
    thread::sleep(2 * (INTERVAL + limit));
    assert_eq!(head.state(), LinkState::Open, "{:?}", head.close_reason());
    assert!(busy.iter().all(|call| !call.is_done()));
    head.kill();
}

fn p_31_a_stopped_child_is_started_again_if_it_is_supervised(wire: Wire) {
    let builder = Head::builder().wire(wire).config(Config::new().heartbeat(INTERVAL, LIMIT));
    let restarts = Restarts::on_crash().backoff(Duration::from_millis(1), Duration::from_millis(1));
    let supervisor = builder.supervise(restarts).spawn(victim::command("serve")).unwrap();
    let pid = || supervisor.api("victim").action("pid", ()).timeout(HANG).retry_safe().call::<u32>().unwrap();
    let first = pid();
    let child = stop(first);
    assert_ne!(pid(), first);
    assert!(child.has_ended());
    assert_eq!(supervisor.generation(), 2);
}

/// The Head runs in a process of its own, which is stopped for longer than its limit.
fn p_31_a_side_that_was_stopped_itself_blames_nobody(wire: Wire) {
    stand_still(wire, |head, _| vec![head]);
}

/// As when a laptop sleeps, or somebody freezes all that runs: both stand still, and go on one after the other.
/// Red when a look that comes late counts for all the time that has passed.
fn row_52_nobody_is_blamed_where_both_sides_were_stopped(wire: Wire) {
    stand_still(wire, |head, child| vec![head, child]);
    // The Head has asked by then, and gets no answer.
    stand_still(wire, |head, child| vec![child, head]);
}

/// The processes that are named stand still twice, one after the other, for longer than the limit.
fn stand_still(wire: Wire, who: fn(u32, u32) -> Vec<u32>) {
    let mut middle = Told::of(victim::command_over(wire, "pulse"));
    let child = middle.hear("beating ").parse().unwrap();
    for _ in 0..2 {
        let stop_each = |pid| {
            let stopped = stop(pid);
            thread::sleep(2 * INTERVAL);
            stopped
        };
        let stopped: Vec<Watch> = who(middle.process.id(), child).into_iter().map(stop_each).collect();
        thread::sleep(5 * LIMIT);
        // Whoever was stopped last goes on first, and looks while the other one still cannot answer.
        for process in stopped.iter().rev() {
            process.send(Signal::CONT);
            thread::sleep(2 * INTERVAL);
        }
    }
    drop(middle.process.stdin.take());
    middle.hear("alive");
    assert!(middle.process.wait().unwrap().success());
}

/// What that process does.
pub(super) fn beat() {
    let head = head(victim::wire_of_its_own(), Config::new().heartbeat(INTERVAL, 3 * LIMIT));
    let _pending = wait_for_ever(&head);
    echo(&head);
    println!("beating {}", head.child_id().unwrap());
    let mut rest = String::new();
    std::io::Read::read_to_string(&mut std::io::stdin(), &mut rest).unwrap();
    assert_eq!(head.state(), LinkState::Open, "{:?}", head.close_reason());
    echo(&head);
    println!("alive");
}

fn p_17_a_child_that_reads_nothing_loses_its_link(wire: Wire) {
    let head = head(wire, Config::new().write_stall(LIMIT));
    echo(&head);
    stop(head.child_id().unwrap());
    let begin = Instant::now();
    // As long as all of it fits, nobody minds.
    let small = head.api("victim").action("echo", 1u64).timeout(2 * LIMIT).call::<u64>();
    assert!(matches!(small, Err(CallError::TimedOut { .. })), "{small:?}");
    assert_eq!(head.state(), LinkState::Open);
    let large = || head.api("victim").action("echo", vec![7u8; 60_000]).timeout(Timeout::Never);
    let pending: Vec<_> = (0..16).map_while(|_| large().start::<u64>().ok()).collect();
    let waited = Instant::now();
    pending.into_iter().for_each(|call| assert_eq!(silence(&call.wait().unwrap_err()), Silence::Read));
    assert!(begin.elapsed() >= 3 * LIMIT && waited.elapsed() < five_times(250), "{:?}", begin.elapsed());
    until("it is over", || head.state() == LinkState::Closed);
}
