//! A supervisor whose thread, or that of a link, is held up by code of the user's.

use std::{
    future::{Future, IntoFuture},
    pin::pin,
    sync::{Arc, Mutex, mpsc},
    task::{Context as Task, Waker},
    thread,
    time::{Duration, Instant},
};

use nape::{
    Api, CallError, Config, Context, Endpoint, Fault, Head, HeadBuilder, Payload, Rejection, Restarts,
    Supervisor, Timeout, Transition, Wire,
};
use rustix::process::Signal;

use super::{Watch, five_times, victim};
use crate::{
    support::HANG,
    tools::{Blocks, Gate, Touchy, leave_with_this_thread, until},
};

on_every_wire_to_a_child! {
    p_22_a_hook_that_does_not_come_back_holds_up_no_first_start,
    p_24_a_child_that_stays_has_the_grace_however_long_calls_may_take,
    p_24_a_child_that_takes_the_grace_leaves_no_threads_of_the_head_behind,
    p_24_a_thread_that_is_left_behind_a_supervisor_counts_once,
    p_24_a_child_that_reads_nothing_leaves_no_threads_of_the_head_behind,
    p_24_a_supervisor_that_is_dropped_in_a_call_does_not_wait_for_that,
    p_19_hooks_that_panic_as_a_supervisor_goes_hurt_nobody,
    p_24_lines_that_wait_when_the_grace_is_over_are_told_to_nobody,
    p_23_a_child_is_ended_while_a_hook_holds_its_supervisor_up,
    p_24_a_supervisor_does_not_wait_for_what_hooks_have_left_with_their_threads,
    p_30_a_waker_that_does_not_come_back_holds_up_no_start,
    p_24_a_supervisor_whose_grace_has_no_end_comes_to_its_own,
}

/// Red when a time that cannot be counted is taken for none that is set.
fn p_24_a_supervisor_whose_grace_has_no_end_comes_to_its_own(wire: Wire) {
    let stops: [fn(&Supervisor); 3] = [Supervisor::stop, |it| assert!(it.shut_down(HANG)), |_| ()];
    for stop in stops {
        let builder = Head::builder().wire(wire).config(Config::new().grace(Duration::MAX));
        let supervisor = builder.supervise(Restarts::never()).spawn(victim::command("serve")).unwrap();
        stop(&supervisor);
        drop(supervisor);
    }
}

const GRACE: Duration = Duration::from_millis(100);

fn supervised(wire: Wire) -> Supervisor {
    let restarts = Restarts::on_crash().limit(100, HANG);
    let restarts = restarts.backoff(Duration::from_millis(1), Duration::from_millis(1));
    let builder = Head::builder().wire(wire).config(Config::new().grace(GRACE));
    builder.supervise(restarts).spawn(victim::command("serve")).unwrap()
}

fn child(supervisor: &Supervisor) -> Watch {
    Watch::of(supervisor.child_id().unwrap())
}

#[track_caller]
fn drops_in_time(supervisor: Supervisor) -> Endpoint {
    let (end, began) = (supervisor.endpoint().clone(), Instant::now());
    drop(supervisor);
    assert!(began.elapsed() < GRACE + five_times(200), "{:?}", began.elapsed());
    end
}

/// Red when whoever starts it is told after the hooks.
fn p_22_a_hook_that_does_not_come_back_holds_up_no_first_start(wire: Wire) {
    for verb in ["serve", "exit-early"] {
        let gate = Gate::default();
        let held = gate.clone();
        let builder = Head::builder().wire(wire).config(Config::new().grace(GRACE));
        let builder = builder.supervise(Restarts::on_crash()).on_transition(move |_| held.pass());
        let started = builder.spawn(victim::command(verb));
        assert_eq!(started.is_ok(), verb == "serve", "{started:?}");
        gate.await_waiting(1);
        drop(started);
        gate.open();
    }
}

/// Makes ends whose grace is soon over.
fn hasty(wire: Wire) -> HeadBuilder {
    Head::builder().wire(wire).config(Config::new().grace(GRACE))
}

/// Red when it has as long as the calls have, or as long as somebody else has given them.
fn p_24_a_child_that_stays_has_the_grace_however_long_calls_may_take(wire: Wire) {
    let limit = 10 * HANG;
    let started = || hasty(wire).supervise(Restarts::on_crash()).spawn(victim::command("linger")).unwrap();
    let (supervisor, began) = (started(), Instant::now());
    let watch = child(&supervisor);
    assert!(supervisor.shut_down(limit), "nothing was under way");
    assert!(began.elapsed() < GRACE + five_times(200), "{:?}", began.elapsed());
    assert!(watch.has_ended());
    let supervisor = started();
    let watch = child(&supervisor);
    let wait = supervisor.api("victim").action("wait", ()).timeout(Timeout::Never).start::<()>().unwrap();
    thread::scope(|scope| {
        let down = scope.spawn(|| supervisor.shut_down(limit));
        let echo = || supervisor.api("victim").action("echo", 1u64).call::<u64>();
        until("no new calls", || matches!(echo(), Err(CallError::Rejected(Rejection::ShuttingDown))));
        let began = Instant::now();
        supervisor.stop();
        assert!(!down.join().unwrap(), "a call was cut off");
        assert!(began.elapsed() < GRACE + five_times(200), "{:?}", began.elapsed());
    });
    assert!(watch.has_ended() && wait.wait().is_err());
}

/// Red when what the child has left of the grace is all that they have.
fn p_24_a_child_that_takes_the_grace_leaves_no_threads_of_the_head_behind(wire: Wire) {
    let far = 10 * HANG;
    let head = hasty(wire).on_output(|_| ()).spawn(victim::command("linger")).unwrap();
    let end = head.endpoint().clone();
    let _timer = head.api("victim").every(far, "echo", 1u64).fire().unwrap();
    drop(head);
    assert_eq!(end.counters().threads_left_behind, 0);
    let supervised = hasty(wire).on_output(|_| ()).supervise(Restarts::on_crash());
    let supervisor = supervised.spawn(victim::command("linger")).unwrap();
    let _timers = [(); 3].map(|()| supervisor.api("victim").every(far, "echo", 1u64).fire().unwrap());
    assert_eq!(drops_in_time(supervisor).counters().threads_left_behind, 0);
}

/// Red when the last link is joined once for each who has it at hand, or when the supervisor's thread waits for it as long
/// as it is waited for itself.
fn p_24_a_thread_that_is_left_behind_a_supervisor_counts_once(wire: Wire) {
    let name = format!("once-{wire:?}");
    let config = Config::new().grace(5 * GRACE).name(&name);
    let builder = Head::builder().wire(wire).config(config).supervise(Restarts::on_crash());
    let supervisor = builder.spawn(victim::command("serve")).unwrap();
    let gate = Gate::default();
    let _opens = gate.opens_at_the_end();
    let held = gate.clone();
    let echo = supervisor.api("victim").action("echo", 1u64);
    echo.then(move |_: Result<u64, CallError>| held.pass()).unwrap();
    gate.await_waiting(1);
    let end = supervisor.endpoint().clone();
    drop(supervisor);
    assert_eq!(end.counters().threads_left_behind, 1);
    let threads = std::fs::read_dir("/proc/self/task").unwrap().flatten();
    let names = threads.filter_map(|thread| std::fs::read_to_string(thread.path().join("comm")).ok());
    let left: Vec<_> = names.filter(|thread| thread.starts_with(&name)).collect();
    assert!(left.len() == 1 && !left[0].contains("-s"), "{left:?}");
}

/// Red when nothing is left for them of the time that the link has taken.
fn p_24_a_child_that_reads_nothing_leaves_no_threads_of_the_head_behind(wire: Wire) {
    for _ in 0..5 {
        let supervisor = supervised(wire);
        child(&supervisor).send(Signal::STOP);
        let take = supervisor.api("victim");
        while take.action("take", Payload::from_bytes(vec![0; 2000])).fire().is_ok() {}
        assert_eq!(drops_in_time(supervisor).counters().threads_left_behind, 0);
    }
}

/// Red when it waits for its own thread, which waits for all threads of the link.
fn p_24_a_supervisor_that_is_dropped_in_a_call_does_not_wait_for_that(wire: Wire) {
    let grace = HANG / 6;
    for in_callback in [false, true] {
        let held = Arc::new(Mutex::new(None));
        let (tell, told) = mpsc::channel();
        let (theirs, ours) = (held.clone(), Mutex::new(tell));
        let drops = Arc::new(move || {
            let supervisor: Supervisor = theirs.lock().unwrap().take().unwrap();
            let began = Instant::now();
            drop(supervisor);
            ours.lock().unwrap().send(began.elapsed()).unwrap();
        });
        let drops_there = drops.clone();
        let name = move |_: &Context, _: ()| Ok::<_, Fault>((drops_there(), String::new()).1);
        let builder = Head::builder().wire(wire).config(Config::new().grace(grace));
        let builder = builder.serve(Api::new("host").handle("name", name).unwrap());
        let supervisor = builder.supervise(Restarts::on_crash()).spawn(victim::command("serve")).unwrap();
        let (end, victim) = (supervisor.endpoint().clone(), supervisor.api("victim").timeout(HANG));
        *held.lock().unwrap() = Some(supervisor);
        if in_callback {
            victim.action("echo", 1u64).then(move |_: Result<u64, CallError>| drops()).unwrap();
        } else {
            drop(victim.action("ask-host", ()).call::<String>().unwrap_err());
        }
        let took = told.recv_timeout(HANG).unwrap();
        assert!(took < grace / 2, "{took:?}");
        assert_eq!(end.counters().threads_left_behind, 0);
    }
}

/// Red, with the end of the process, when two of them go in one go.
fn p_19_hooks_that_panic_as_a_supervisor_goes_hurt_nobody(wire: Wire) {
    let hook = || {
        let touchy = Arc::new(Touchy);
        move |_: &Transition| drop(Arc::downgrade(&touchy))
    };
    let builder = hasty(wire).supervise(Restarts::on_crash()).on_transition(hook()).on_transition(hook());
    let supervisor = builder.spawn(victim::command("serve")).unwrap();
    supervisor.on_transition(hook());
    let child = child(&supervisor);
    drops_in_time(supervisor);
    assert!(child.has_ended());
}

/// Red when they are told one after the other to a callback that has come back.
fn p_24_lines_that_wait_when_the_grace_is_over_are_told_to_nobody(wire: Wire) {
    let (gate, (tell, told)) = (Gate::default(), mpsc::channel());
    let held = gate.clone();
    let head = hasty(wire).on_output(move |_| {
        held.pass();
        tell.send(()).unwrap();
    });
    let head = head.spawn(victim::command("serve")).unwrap();
    let print = head.api("victim").action("print", 100usize).timeout(HANG);
    print.call::<()>().unwrap();
    gate.await_waiting(1);
    drop(head);
    gate.open();
    assert_eq!(told.iter().count(), 1);
}

/// Red when the child is left to the thread that is inside the hook.
fn p_23_a_child_is_ended_while_a_hook_holds_its_supervisor_up(wire: Wire) {
    for stops in [false, true] {
        let (supervisor, gate) = (supervised(wire), Gate::default());
        let held = gate.clone();
        supervisor.on_transition(move |transition| {
            if matches!(transition, Transition::Running { .. }) {
                held.pass();
            }
        });
        gate.await_waiting(1);
        let child = child(&supervisor);
        // It hears no goodbye.
        child.send(Signal::STOP);
        if stops {
            supervisor.stop();
            assert!(child.has_ended());
            assert_eq!(supervisor.child_id(), None);
        }
        let end = drops_in_time(supervisor);
        assert!(child.has_ended());
        assert!(end.counters().threads_left_behind >= 1);
        gate.open();
    }
}

/// Red when threads count as over before what the user has left there has gone: then they are joined.
fn p_24_a_supervisor_does_not_wait_for_what_hooks_have_left_with_their_threads(wire: Wire) {
    let gates = [Gate::default(), Gate::default()];
    let [by_hook, by_output] = gates.clone();
    let builder = Head::builder().wire(wire).config(Config::new().grace(GRACE));
    let builder = builder.on_output(move |_| leave_with_this_thread(&by_output));
    let builder = builder.supervise(Restarts::on_crash());
    let builder = builder.on_transition(move |_| leave_with_this_thread(&by_hook));
    let supervisor = builder.spawn(victim::command("serve")).unwrap();
    let child = child(&supervisor);
    let end = drops_in_time(supervisor);
    assert!(child.has_ended());
    gates.iter().for_each(|gate| gate.await_waiting(1));
    assert_eq!(end.counters().threads_left_behind, 2);
    gates.iter().for_each(Gate::open);
}

/// Red when the end of the child counts only once everybody has been told of it.
fn p_30_a_waker_that_does_not_come_back_holds_up_no_start(wire: Wire) {
    let (supervisor, gate) = (supervised(wire), Gate::default());
    let wait = supervisor.api("victim").action("wait", ()).timeout(Timeout::Never);
    let mut wait = pin!(wait.start::<()>().unwrap().into_future());
    let waker = Waker::from(Arc::new(Blocks(gate.clone())));
    assert!(wait.as_mut().poll(&mut Task::from_waker(&waker)).is_pending());
    supervisor.kill();
    gate.await_waiting(1);
    until("it runs again", || supervisor.generation() == 2);
    let echo = supervisor.api("victim").action("echo", 7u64).timeout(HANG);
    assert_eq!(echo.call::<u64>().unwrap(), 7);
    let child = child(&supervisor);
    drops_in_time(supervisor);
    assert!(child.has_ended());
    gate.open();
}
