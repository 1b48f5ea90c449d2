//! What a supervisor is to the rest: what it costs while nothing happens, and what calls within calls make of it.

use std::{
    fs,
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

use nape::{Api, ApiHandle, CallError, Config, Context, Fault, Head, Restarts, Wire};

use super::{five_times, victim};
use crate::{support::HANG, tools::until};

on_every_wire_to_a_child! {
    ac_77_an_idle_supervisor_does_nothing,
    p_09_calls_within_calls_that_are_safe_to_repeat_complete,
    p_30_a_handler_that_calls_a_dead_child_holds_no_restart_up,
}

fn at_once() -> Restarts {
    Restarts::on_crash().limit(100, HANG).backoff(Duration::from_millis(1), Duration::from_millis(1))
}

/// How many threads have names that begin like this, and how often they have slept so far.
fn switches(prefix: &str) -> (usize, u64) {
    let of = |task: PathBuf| {
        let read = |what| fs::read_to_string(task.join(what)).ok();
        let switches = read("status")?.lines().find_map(|line| {
            line.strip_prefix("voluntary_ctxt_switches:").and_then(|number| number.trim().parse::<u64>().ok())
        });
        read("comm")?.starts_with(prefix).then_some(switches?)
    };
    let tasks = fs::read_dir("/proc/self/task").unwrap();
    let each: Vec<u64> = tasks.filter_map(|task| of(task.unwrap().path())).collect();
    (each.len(), each.iter().sum())
}

fn ac_77_an_idle_supervisor_does_nothing(wire: Wire) {
    let name = format!("idle-{wire:?}");
    let builder = Head::builder().wire(wire).config(Config::new().name(&name)).on_output(|_| ());
    let supervisor = builder.supervise(at_once()).spawn(victim::command("serve")).unwrap();
    let echo =
        |n: u64| supervisor.api("victim").action("echo", n).timeout(Duration::from_secs(1)).retry_safe();
    assert_eq!(echo(1).call::<u64>().unwrap(), 1);
    supervisor.kill();
    until("it runs again", || supervisor.generation() == 2);
    assert_eq!(echo(2).start::<u64>().unwrap().wait().unwrap(), 2);
    // The supervisor, the output, the keeper, and whoever reads.
    until("nobody else is left", || switches(&name).0 == 4);
    // Longer than any thread keeps itself ready for more, and than any deadline of before.
    thread::sleep(Duration::from_millis(2500));
    let before = switches(&name);
    thread::sleep(Duration::from_millis(1500));
    assert_eq!(switches(&name), before, "threads, and how often they woke");
    assert_eq!(echo(3).call::<u64>().unwrap(), 3);
}

/// Over and over between two sides, each with one worker for it: whoever waits serves what descends from it.
fn p_09_calls_within_calls_that_are_safe_to_repeat_complete(wire: Wire) {
    let ask = |cx: &Context, path: &str| cx.api("victim").action("ask", path.to_owned()).retry_safe();
    let host = Api::new("host")
        .workers(1)
        .handle("blocks", move |cx: &Context, _: ()| Ok::<_, Fault>(ask(cx, "host.waits").call::<String>()?))
        .and_then(|api| {
            let waits =
                move |cx: &Context, _: ()| Ok::<_, Fault>(ask(cx, "host.name").start::<String>()?.wait()?);
            api.handle("waits", waits)
        })
        .and_then(|api| api.handle("name", |_: &Context, _: ()| Ok::<_, Fault>("host".to_owned())));
    let builder = Head::builder().wire(wire).serve(host.unwrap()).supervise(at_once());
    let supervisor = builder.spawn(victim::command("serve")).unwrap();
    for generation in 1..4 {
        let ask = supervisor.api("victim").action("ask", "host.blocks".to_owned()).timeout(HANG);
        assert_eq!(ask.retry_safe().call::<String>().unwrap(), "host");
        assert_eq!(supervisor.generation(), generation);
        supervisor.kill();
        until("it runs again", || supervisor.generation() == generation + 1);
    }
}

/// A handler of the Head, called by a child that dies meanwhile, is still there when the next one runs. What it
/// calls ends with the call that it serves; its handles reach the next child.
fn p_30_a_handler_that_calls_a_dead_child_holds_no_restart_up(wire: Wire) {
    let (sender, asked) = crossbeam_channel::bounded::<ApiHandle>(1);
    let (answer, answered) = crossbeam_channel::bounded::<Result<u64, CallError>>(1);
    let ask = move |cx: &Context, _: ()| {
        sender.send(cx.api("victim"))?;
        // Its caller is about to be killed.
        cx.cancel_token().wait_timeout(HANG);
        answer.send(cx.api("victim").action("echo", 5u64).timeout(HANG).call())?;
        Ok::<_, Fault>(String::new())
    };
    let host = Api::new("host").handle("ask", ask).unwrap();
    let builder = Head::builder().wire(wire).serve(host).supervise(at_once());
    let supervisor = builder.spawn(victim::command("serve")).unwrap();
    let call = supervisor.api("victim").action("ask", "host.ask".to_owned()).start::<String>().unwrap();
    let victim = asked.recv().unwrap();
    let begin = Instant::now();
    supervisor.kill();
    let nested = answered.recv().unwrap();
    assert!(matches!(nested, Err(CallError::Cancelled)), "{nested:?}");
    assert_eq!(victim.action("echo", 6u64).timeout(HANG).call::<u64>().unwrap(), 6);
    assert!(begin.elapsed() < five_times(1000), "{:?}", begin.elapsed());
    assert!(call.wait().unwrap_err().death().is_some());
    assert_eq!(supervisor.generation(), 2);
}
