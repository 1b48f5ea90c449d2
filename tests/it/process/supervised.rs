//! A child that is started again when it crashes, behind the same handles.

use std::{
    env, fs,
    path::PathBuf,
    process,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
        mpsc,
    },
    time::{Duration, Instant},
};

use nape::{
    Api, AsyncResult, CallError, CloseReason, Config, Context, Crash, Executed, Exit, Fault, Head, LinkState,
    Misuse, Restarts, Semaphore, StartError, Supervisor, Timeout, Transition, Wire,
};
use rustix::process::Signal;

use super::{Watch, five_times, victim};
use crate::{
    support::HANG,
    tools::{Gate, until},
};

on_every_wire_to_a_child! {
    p_30_the_same_handles_reach_the_next_start,
    p_30_everything_that_was_attached_stays,
    p_30_a_call_that_is_safe_to_repeat_runs_again,
    p_30_without_a_supervisor_nothing_runs_again,
    p_01_every_call_ends_once_over_many_restarts,
    p_30_a_call_runs_again_only_within_its_own_timeout,
    p_30_what_is_made_between_two_starts_waits,
    p_30_what_waits_between_two_starts_has_its_own_timeout,
    p_30_after_too_many_crashes_it_gives_up_and_says_why,
    p_30_what_waits_ends_when_it_gives_up,
    p_30_a_start_that_fails_is_a_crash,
    p_30_a_call_that_kills_every_child_is_poisonous,
    p_30_a_clean_end_is_not_followed_by_a_start,
    p_30_what_runs_always_is_started_after_a_goodbye,
    p_30_stop_is_final_whatever_the_child_is_about,
    p_30_a_first_start_that_fails_is_an_error,
    p_30_hooks_hear_of_everything_once_and_in_order,
    p_30_a_hook_may_drop_nothing_and_harm_nothing,
    p_29_lines_come_with_the_name_of_the_program,
    p_29_a_slow_reader_holds_nobody_up,
}

/// Restarts that the tests do not wait for.
fn at_once(restarts: Restarts) -> Restarts {
    restarts.limit(100, HANG).backoff(Duration::from_millis(1), Duration::from_millis(1))
}

/// Restarts for which nobody here can wait.
fn never_soon() -> Restarts {
    Restarts::on_crash().backoff(10 * HANG, 10 * HANG)
}

fn supervised(wire: Wire, restarts: Restarts) -> Supervisor {
    Head::builder().wire(wire).supervise(restarts).spawn(victim::command("serve")).unwrap()
}

fn echo(supervisor: &Supervisor) {
    assert_eq!(supervisor.api("victim").action("echo", 7u64).timeout(HANG).call::<u64>().unwrap(), 7);
}

fn wait_for_ever(supervisor: &Supervisor) -> AsyncResult<()> {
    supervisor.api("victim").action("wait", ()).timeout(Timeout::Never).start().unwrap()
}

fn gave_up(error: &CallError) -> &nape::GivenUp {
    match error.close_reason() {
        Some(CloseReason::GaveUp(why)) => why,
        other => panic!("{other:?}"),
    }
}

/// Waits until there is no child and the next one is far away.
fn crash(supervisor: &Supervisor) {
    supervisor.kill();
    until("it backs off", || matches!(supervisor.last_transition(), Transition::BackingOff(_)));
}

fn p_30_the_same_handles_reach_the_next_start(wire: Wire) {
    let supervisor = supervised(wire, at_once(Restarts::on_crash()));
    let victim = supervisor.api("victim").timeout(HANG);
    let first: u32 = victim.action("pid", ()).call().unwrap();
    assert_eq!((supervisor.generation(), supervisor.child_id()), (1, Some(first)));
    for generation in 2..5 {
        let pending = wait_for_ever(&supervisor);
        echo(&supervisor);
        let before = supervisor.child_id().unwrap();
        supervisor.kill();
        let error = pending.wait().unwrap_err();
        assert_eq!(error.death().unwrap().exit, Exit::Signal(9), "{error:?}");
        assert_eq!(error.executed(), Executed::Maybe);
        // Whoever has heard of the end and calls again gets the next one.
        let now: u32 = victim.action("pid", ()).call().unwrap();
        assert_ne!(now, before);
        assert_eq!((supervisor.generation(), supervisor.child_id()), (generation, Some(now)));
    }
}

fn p_30_everything_that_was_attached_stays(wire: Wire) {
    let host = Api::new("host").handle("name", |_: &Context, _: ()| Ok::<_, Fault>("host".to_owned()));
    let builder = Head::builder().wire(wire).serve(host.unwrap());
    let builder = builder.supervise(at_once(Restarts::on_crash()));
    let supervisor = builder.spawn(victim::command("greet")).unwrap();
    let (sender, states) = mpsc::channel();
    supervisor.on_state(move |state| sender.send(state).unwrap());
    for generation in 1..4 {
        let ask = |path: &str| supervisor.api(path).action("", ()).timeout(HANG).call::<String>();
        assert_eq!(ask("victim.ask-host").unwrap(), "host");
        assert_eq!(ask("heard.name").unwrap(), "host", "it called before it was ready");
        assert_eq!(states.recv().unwrap(), LinkState::Open);
        assert_eq!((supervisor.generation(), supervisor.state()), (generation, LinkState::Open));
        supervisor.kill();
        assert_eq!(states.recv().unwrap(), LinkState::Disconnected);
        assert_eq!(states.recv().unwrap(), LinkState::Closed);
    }
}

fn p_30_a_call_that_is_safe_to_repeat_runs_again(wire: Wire) {
    let supervisor = supervised(wire, at_once(Restarts::on_crash()));
    let survive =
        |crashes: u32| supervisor.api("victim").action("survive", crashes).timeout(HANG).retry_safe();
    assert_eq!(survive(0).call::<u32>().unwrap(), 0);
    assert_eq!(supervisor.generation(), 1);
    assert_eq!(survive(1).call::<u32>().unwrap(), 1);
    assert_eq!(survive(2).call::<u32>().unwrap(), 2);
    assert_eq!(survive(1).start::<u32>().unwrap().wait().unwrap(), 1);
    let mut polled = survive(1).start::<u32>().unwrap();
    let ready = polled.ready();
    ready.recv().unwrap();
    assert_eq!(polled.try_wait().unwrap(), Some(1));
    let (sender, outcome) = mpsc::channel();
    survive(2).then(move |outcome: Result<u32, _>| sender.send(outcome).unwrap()).unwrap();
    assert_eq!(outcome.recv().unwrap().unwrap(), 2u32);
    let semaphore = Semaphore::new(0);
    let released = survive(1).releasing(&semaphore).start::<u32>().unwrap();
    semaphore.acquire();
    assert_eq!(released.wait().unwrap(), 1);
    assert_eq!(supervisor.generation(), 1 + 1 + 2 + 1 + 1 + 2 + 1);
    // Without the mark it is over with the first.
    let once = supervisor.api("victim").action("survive", 1u32).timeout(HANG).call::<u32>();
    assert_eq!(once.unwrap_err().executed(), Executed::Maybe);
}

fn p_30_without_a_supervisor_nothing_runs_again(wire: Wire) {
    let head = Head::builder().wire(wire).spawn(victim::command("serve")).unwrap();
    let survive = || head.api("victim").action("survive", 1u32).timeout(HANG).retry_safe();
    let error = survive().call::<u32>().unwrap_err();
    assert_eq!(error.death().unwrap().exit, Exit::Signal(9));
    let later = survive().start::<u32>().unwrap_err();
    assert!(later.death().is_some() && later.executed() == Executed::No, "{later:?}");
    assert_eq!(head.generation(), 1);
}

/// Callers of all kinds that never pause, and a child that is killed again and again.
fn p_01_every_call_ends_once_over_many_restarts(wire: Wire) {
    let restarts = at_once(Restarts::on_crash()).limit(u32::MAX, HANG).poisonous_after(u32::MAX);
    let supervisor = supervised(wire, restarts);
    let over = AtomicBool::new(false);
    let values = AtomicUsize::new(0);
    let safe = |n: u64| supervisor.api("victim").action("echo", n).timeout(HANG).retry_safe();
    let once = |n: u64| supervisor.api("victim").action("echo", n).timeout(HANG);
    let call_all = || {
        for n in 0.. {
            let (sender, called_back) = mpsc::channel();
            safe(n).then(move |outcome: Result<u64, _>| sender.send(outcome).unwrap()).unwrap();
            let started = safe(n + 1).start::<u64>().unwrap();
            assert_eq!(safe(n + 2).call::<u64>().unwrap(), n + 2);
            match once(n + 3).call::<u64>() {
                Ok(value) => assert_eq!(value, n + 3),
                Err(error) => assert!(error.death().is_some(), "{error:?}"),
            }
            assert_eq!(started.wait().unwrap(), n + 1);
            assert_eq!(called_back.recv().unwrap().unwrap(), n);
            assert!(called_back.recv().is_err(), "it is called once");
            values.fetch_add(1, Ordering::Relaxed);
            if over.load(Ordering::Relaxed) {
                return;
            }
        }
    };
    std::thread::scope(|scope| {
        let callers: Vec<_> = (0..4).map(|_| scope.spawn(call_all)).collect();
        for generation in 1..=20 {
            until("it runs", || supervisor.generation() == generation);
            let before = values.load(Ordering::Relaxed);
            until("it is called", || values.load(Ordering::Relaxed) > before + 2);
            supervisor.kill();
        }
        over.store(true, Ordering::Relaxed);
        callers.into_iter().for_each(|caller| caller.join().unwrap());
    });
    assert!(supervisor.hang_report().callers.is_empty(), "{}", supervisor.hang_report());
}

fn p_30_a_call_runs_again_only_within_its_own_timeout(wire: Wire) {
    let supervisor = supervised(wire, never_soon());
    let limit = Duration::from_millis(300);
    let survive = || supervisor.api("victim").action("survive", 9u32).timeout(limit).retry_safe();
    let begin = Instant::now();
    let error = survive().call::<u32>().unwrap_err();
    assert!(begin.elapsed() >= limit && begin.elapsed() < five_times(350), "{:?}", begin.elapsed());
    let CallError::TimedOut { after, executed, .. } = error else { panic!("{error:?}") };
    assert!(after >= limit, "{after:?} are the time of the whole call");
    assert_eq!(executed, Executed::Maybe, "it has run once");
}

fn p_30_what_is_made_between_two_starts_waits(wire: Wire) {
    let gate = Gate::default();
    let held = gate.clone();
    let hold = move |transition: &Transition| {
        if matches!(transition, Transition::BackingOff(_)) {
            held.pass();
        }
    };
    let builder = Head::builder().wire(wire).supervise(at_once(Restarts::on_crash())).on_transition(hold);
    let supervisor = builder.spawn(victim::command("serve")).unwrap();
    supervisor.kill();
    gate.await_waiting(1);
    assert_eq!((supervisor.state(), supervisor.child_id()), (LinkState::Starting, None));
    let echo = |n: u64| supervisor.api("victim").action("echo", n).timeout(HANG);
    let started = echo(1).start::<u64>().unwrap();
    let (sender, called_back) = mpsc::channel();
    echo(2).then(move |outcome: Result<u64, _>| sender.send(outcome).unwrap()).unwrap();
    let cancelled = echo(3).start::<u64>().unwrap();
    cancelled.cancel();
    assert!(matches!(cancelled.wait(), Err(CallError::Cancelled)));
    // An event does not wait.
    let lost = echo(4).fire().unwrap_err();
    assert!(lost.death().is_some() && lost.executed() == Executed::No, "{lost:?}");
    assert!(!started.is_done());
    std::thread::scope(|scope| {
        let blocked = scope.spawn(|| echo(5).call::<u64>());
        gate.open();
        assert_eq!(blocked.join().unwrap().unwrap(), 5);
    });
    assert_eq!(started.wait().unwrap(), 1);
    assert_eq!(called_back.recv().unwrap().unwrap(), 2u64);
    assert_eq!(supervisor.generation(), 2);
}

fn p_30_what_waits_between_two_starts_has_its_own_timeout(wire: Wire) {
    let supervisor = supervised(wire, never_soon());
    crash(&supervisor);
    let limit = Duration::from_millis(100);
    let echo = || supervisor.api("victim").action("echo", 1u64).timeout(limit);
    let begin = Instant::now();
    let (sender, outcome) = mpsc::channel();
    echo().then(move |outcome: Result<u64, _>| sender.send(outcome).unwrap()).unwrap();
    let ends = [
        echo().call::<u64>().unwrap_err(),
        echo().retry_safe().call::<u64>().unwrap_err(),
        echo().start::<u64>().unwrap().wait().unwrap_err(),
        // Nobody waits for this one but the library.
        outcome.recv().unwrap().unwrap_err(),
    ];
    assert!(begin.elapsed() >= 3 * limit && begin.elapsed() < five_times(350), "{:?}", begin.elapsed());
    for end in ends {
        assert!(matches!(end, CallError::TimedOut { executed: Executed::No, .. }), "{end:?}");
    }
    let mut patient = echo().timeout(HANG).start::<u64>().unwrap();
    assert!(patient.wait_timeout(limit).unwrap().is_none());
}

fn p_30_after_too_many_crashes_it_gives_up_and_says_why(wire: Wire) {
    let restarts = at_once(Restarts::on_crash()).limit(2, HANG);
    let supervisor = supervised(wire, restarts);
    for _ in 0..3 {
        let die = supervisor.api("victim").action("die", "kill".to_owned()).timeout(HANG);
        assert!(die.call::<()>().unwrap_err().death().is_some());
    }
    until("it gives up", || matches!(supervisor.last_transition(), Transition::GaveUp(_)));
    let begin = Instant::now();
    for _ in 0..100 {
        let echo = || supervisor.api("victim").action("echo", 1u64).timeout(Timeout::Never);
        let ends = [
            echo().call::<u64>().unwrap_err(),
            echo().retry_safe().call::<u64>().unwrap_err(),
            echo().start::<u64>().unwrap_err(),
            echo().fire().unwrap_err(),
        ];
        for end in ends {
            assert_eq!(end.executed(), Executed::No);
            let crashes = &gave_up(&end).crashes;
            assert_eq!(crashes.len(), 3);
            for (crash, number) in crashes.iter().zip(1..) {
                assert!(matches!(crash, Crash::Ended { generation, .. } if *generation == number));
                let death = crash.death().unwrap();
                assert_eq!(death.exit, Exit::Signal(9));
                assert!(death.stderr.contains("last words before kill"), "{death}");
            }
        }
    }
    assert!(begin.elapsed() < five_times(100), "{:?}", begin.elapsed());
    assert!(matches!(supervisor.close_reason().as_deref(), Some(CloseReason::GaveUp(_))));
    // Who comes after the death hears of it all the same.
    let (sender, heard) = mpsc::channel();
    supervisor.on_transition(move |transition| sender.send(transition.to_string()).unwrap());
    let heard: Vec<String> = (0..12).map(|_| heard.recv().unwrap()).collect();
    assert_eq!(heard[1], "running, generation 1");
    assert!(heard[10].contains("was killed by signal 9"), "{heard:?}");
    assert!(heard[11].starts_with("gave up after 3 crashes"), "{heard:?}");
}

fn p_30_what_waits_ends_when_it_gives_up(wire: Wire) {
    let supervisor = supervised(wire, Restarts::never());
    let wait = || supervisor.api("victim").action("wait", ()).timeout(Timeout::Never).retry_safe();
    let started = wait().start::<()>().unwrap();
    let (sender, called_back) = mpsc::channel();
    wait().then(move |outcome: Result<(), _>| sender.send(outcome).unwrap()).unwrap();
    echo(&supervisor);
    supervisor.kill();
    for end in [started.wait().unwrap_err(), called_back.recv().unwrap().unwrap_err()] {
        assert_eq!(gave_up(&end).crashes.len(), 1);
        assert_eq!(end.executed(), Executed::Maybe, "it was under way");
    }
}

/// A file that a child makes, gone in the end.
struct Mark(PathBuf);

impl Drop for Mark {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

fn p_30_a_start_that_fails_is_a_crash(wire: Wire) {
    let mark = Mark(env::temp_dir().join(format!("nape-mark-{wire:?}-{}", process::id())));
    let mut command = victim::command("start-once");
    command.env(victim::MARK, &mark.0);
    let restarts = at_once(Restarts::on_crash()).limit(2, HANG);
    let supervisor = Head::builder().wire(wire).supervise(restarts).spawn(command).unwrap();
    supervisor.kill();
    until("it gives up", || matches!(supervisor.last_transition(), Transition::GaveUp(_)));
    let end = supervisor.api("victim").action("echo", 1u64).timeout(HANG).call::<u64>().unwrap_err();
    let crashes = &gave_up(&end).crashes;
    assert_eq!(crashes.len(), 3);
    for crash in &crashes[1..] {
        assert!(matches!(crash, Crash::Start(StartError::Died { .. })), "{crash:?}");
        let death = crash.death().unwrap();
        assert_eq!((death.exit, death.stderr.contains("not again")), (Exit::Code(5), true));
    }
    assert_eq!(supervisor.generation(), 1);
}

fn p_30_a_call_that_kills_every_child_is_poisonous(wire: Wire) {
    let supervisor = supervised(wire, at_once(Restarts::on_crash()));
    let poison = || supervisor.api("victim").action("die", "abort".to_owned()).timeout(HANG).retry_safe();
    let ends = [poison().call::<()>().unwrap_err(), poison().start::<()>().unwrap().wait().unwrap_err()];
    for end in ends {
        let CallError::Poisonous { path, crashes, last } = &end else { panic!("{end:?}") };
        assert_eq!((path.as_str(), *crashes, end.executed()), ("victim.die", 3, Executed::Maybe));
        assert!(matches!(&**last, CloseReason::Died(death) if death.exit == Exit::Signal(6)), "{last:?}");
    }
    // The child is none the worse for it.
    echo(&supervisor);
    assert_eq!(supervisor.generation(), 7);
    let supervisor = supervised(wire, at_once(Restarts::on_crash()).poisonous_after(1));
    let die = supervisor.api("victim").action("die", "abort".to_owned()).timeout(HANG).retry_safe();
    assert!(matches!(die.call::<()>(), Err(CallError::Poisonous { crashes: 1, .. })));
}

fn p_30_a_clean_end_is_not_followed_by_a_start(wire: Wire) {
    // It exits as if nothing was wrong.
    let supervisor = supervised(wire, at_once(Restarts::on_crash()));
    let die = supervisor.api("victim").action("die", "exit 0".to_owned()).timeout(HANG);
    assert_eq!(die.call::<()>().unwrap_err().death().unwrap().exit, Exit::Code(0));
    until("it has stopped", || matches!(supervisor.last_transition(), Transition::Stopped));
    let end = supervisor.api("victim").action("echo", 1u64).call::<u64>().unwrap_err();
    assert_eq!(end.death().unwrap().exit, Exit::Code(0));
    // It says goodbye.
    for code in [0, 3] {
        let builder = Head::builder().wire(wire).supervise(at_once(Restarts::on_crash()));
        let supervisor = builder.spawn(victim::command("leave")).unwrap();
        let before = supervisor.child_id();
        supervisor.api("door").action("leave", code).fire().unwrap();
        if code == 0 {
            until("it has stopped", || matches!(supervisor.last_transition(), Transition::Stopped));
            let end = supervisor.api("victim").action("echo", 1u64).call::<u64>().unwrap_err();
            assert!(matches!(end.close_reason(), Some(CloseReason::Peer)), "{end:?}");
        } else {
            // Its main function has failed: the goodbye was none.
            until("it runs again", || supervisor.generation() == 2);
            assert_ne!(supervisor.child_id(), before);
        }
    }
}

fn p_30_what_runs_always_is_started_after_a_goodbye(wire: Wire) {
    let builder = Head::builder().wire(wire).supervise(at_once(Restarts::always()));
    let supervisor = builder.spawn(victim::command("leave")).unwrap();
    supervisor.api("door").action("leave", 0).fire().unwrap();
    until("it runs again", || supervisor.generation() == 2);
    echo(&supervisor);
    supervisor.stop();
    assert!(matches!(supervisor.last_transition(), Transition::Stopped));
    assert_eq!(supervisor.generation(), 2);
}

fn p_30_stop_is_final_whatever_the_child_is_about(wire: Wire) {
    // It runs, and a call is under way.
    let supervisor = supervised(wire, at_once(Restarts::always()));
    let child = Watch::of(supervisor.child_id().unwrap());
    let wait = || supervisor.api("victim").action("wait", ()).timeout(Timeout::Never);
    let (plain, safe) = (wait().start::<()>().unwrap(), wait().retry_safe().start::<()>().unwrap());
    supervisor.stop();
    assert!(child.has_ended());
    for end in [plain.wait().unwrap_err(), safe.wait().unwrap_err(), wait().call::<()>().unwrap_err()] {
        assert!(matches!(end.close_reason(), Some(CloseReason::Local)), "{end:?}");
    }
    supervisor.stop();
    assert!(matches!(supervisor.last_transition(), Transition::Stopped));
    // It backs off.
    let supervisor = supervised(wire, never_soon());
    crash(&supervisor);
    let waiting = wait_for_ever(&supervisor);
    let begin = Instant::now();
    supervisor.stop();
    assert!(begin.elapsed() < five_times(200), "{:?}", begin.elapsed());
    assert!(matches!(waiting.wait().unwrap_err().close_reason(), Some(CloseReason::Local)));
    // It is being started, and does not get ready.
    let hangs = Arc::new(AtomicBool::new(false));
    let starting = hangs.clone();
    let mark = Mark(env::temp_dir().join(format!("nape-hang-{wire:?}-{}", process::id())));
    let mut command = victim::command("hang-later");
    command.env(victim::MARK, &mark.0);
    let grace = Config::new().grace(Duration::from_millis(100));
    let builder = Head::builder().wire(wire).config(grace).supervise(at_once(Restarts::on_crash()));
    let note = move |transition: &Transition| {
        starting.store(matches!(transition, Transition::Starting), Ordering::SeqCst);
    };
    let supervisor = builder.on_transition(note).spawn(command).unwrap();
    supervisor.kill();
    until("it starts again", || hangs.load(Ordering::SeqCst));
    let begin = Instant::now();
    drop(supervisor);
    assert!(begin.elapsed() < five_times(300), "{:?}", begin.elapsed());
    // It is stopped.
    let grace = Config::new().grace(Duration::from_millis(100));
    let builder = Head::builder().wire(wire).config(grace).supervise(at_once(Restarts::always()));
    let supervisor = builder.spawn(victim::command("serve")).unwrap();
    let child = Watch::of(supervisor.child_id().unwrap());
    child.send(Signal::STOP);
    let begin = Instant::now();
    drop(supervisor);
    assert!(begin.elapsed() < five_times(300), "{:?}", begin.elapsed());
    assert!(child.has_ended());
}

fn p_30_a_first_start_that_fails_is_an_error(wire: Wire) {
    let (sender, heard) = mpsc::channel();
    let tell = move |transition: &Transition| sender.send(transition.clone()).unwrap();
    let builder = Head::builder().wire(wire).supervise(at_once(Restarts::always())).on_transition(tell);
    let error = builder.spawn(victim::command("exit-early")).unwrap_err();
    let nape::Error::Start(StartError::Died { death, .. }) = error else { panic!("{error:?}") };
    assert_eq!(death.exit, Exit::Code(3));
    assert!(death.stderr.contains("no license"), "{death}");
    let heard: Vec<_> = heard.iter().collect();
    assert!(matches!(&heard[..], [Transition::Starting, Transition::Crashed(Crash::Start(_))]), "{heard:?}");
}

fn p_30_hooks_hear_of_everything_once_and_in_order(wire: Wire) {
    let (sender, heard) = mpsc::channel();
    let tell = move |transition: &Transition| sender.send(transition.clone()).unwrap();
    let restarts = at_once(Restarts::on_crash()).limit(1, HANG);
    let builder = Head::builder().wire(wire).supervise(restarts).on_transition(tell);
    let supervisor = builder.spawn(victim::command("serve")).unwrap();
    supervisor.kill();
    until("it runs again", || supervisor.generation() == 2);
    supervisor.kill();
    until("it gives up", || matches!(supervisor.last_transition(), Transition::GaveUp(_)));
    drop(supervisor);
    let heard: Vec<_> = heard.iter().collect();
    let [
        Transition::Starting,
        Transition::Running { generation: 1 },
        Transition::Crashed(first),
        Transition::BackingOff(_),
        Transition::Starting,
        Transition::Running { generation: 2 },
        Transition::Crashed(second),
        Transition::GaveUp(why),
    ] = &heard[..]
    else {
        panic!("{heard:?}")
    };
    assert_eq!(first.death().unwrap().exit, Exit::Signal(9));
    assert_eq!(second.death().unwrap().exit, Exit::Signal(9));
    assert_eq!(why.crashes.len(), 2);
}

fn p_30_a_hook_may_drop_nothing_and_harm_nothing(wire: Wire) {
    let place: Arc<Mutex<Option<Supervisor>>> = Arc::default();
    let supervisor = supervised(wire, at_once(Restarts::on_crash()));
    supervisor.on_transition(|_| std::panic::resume_unwind(Box::new("a panic that is a part of the test")));
    let (sender, refused) = mpsc::channel();
    let victim = supervisor.api("victim");
    supervisor.on_transition(move |transition| {
        if matches!(transition, Transition::Running { generation: 2 }) {
            let begin = Instant::now();
            let end = victim.action("echo", 1u64).call::<u64>();
            sender.send((end, begin.elapsed())).unwrap();
        }
    });
    supervisor.kill();
    let (end, took) = refused.recv().unwrap();
    assert!(matches!(end, Err(CallError::Misuse(Misuse::WouldDeadlock { .. }))), "{end:?}");
    assert!(took < five_times(10), "{took:?}");
    until("panics are counted", || supervisor.counters().callback_panics == 6);
    echo(&supervisor);
    // Dropped by a hook of its own, it does not wait for itself.
    let (sender, dropped) = mpsc::channel();
    let theirs = place.clone();
    supervisor.on_transition(move |transition| {
        if let Transition::Crashed(_) = transition
            && let Some(supervisor) = theirs.lock().unwrap().take()
        {
            drop(supervisor);
            sender.send(()).unwrap();
        }
    });
    let child = Watch::of(supervisor.child_id().unwrap());
    *place.lock().unwrap() = Some(supervisor);
    place.lock().unwrap().as_ref().unwrap().kill();
    dropped.recv().unwrap();
    child.wait_end(HANG).expect("it belonged to the one that was dropped");
}

fn p_29_lines_come_with_the_name_of_the_program(wire: Wire) {
    let (sender, lines) = mpsc::channel();
    let tell = move |line: &nape::OutputLine| sender.send(line.clone()).unwrap();
    let builder = Head::builder().wire(wire).on_output(tell).supervise(at_once(Restarts::on_crash()));
    let supervisor = builder.spawn(victim::command("serve")).unwrap();
    for _ in 0..2 {
        let pid = supervisor.child_id().unwrap();
        let say = ("\nto stdout\nand mo".to_owned(), "to stderr\n\u{1f642}".to_owned());
        supervisor.api("victim").action("say", say).timeout(HANG).call::<()>().unwrap();
        let die = supervisor.api("victim").action("die", "kill".to_owned()).timeout(HANG);
        let death = die.call::<()>().unwrap_err();
        assert!(death.death().unwrap().stderr.contains("to stderr"), "it is quoted all the same: {death:?}");
        let mut heard = Vec::new();
        while !heard.iter().any(|(_, text)| text == "and mo") {
            let line = lines.recv().unwrap();
            assert!(line.program.ends_with("it") || line.program.contains("/it-"), "{}", line.program);
            assert_eq!((line.pid, line.lost), (pid, 0));
            heard.push((line.stream, line.text));
        }
        let of = |stream| {
            let lines = heard.iter().filter(move |(from, _)| *from == stream);
            lines.map(|(_, text)| &text[..]).collect::<Vec<_>>()
        };
        assert_eq!(of(nape::OutputStream::Stderr), ["to stderr", "\u{1f642}last words before kill"]);
        // The harness of the child's tests writes there, too.
        assert!(of(nape::OutputStream::Stdout).contains(&"to stdout"), "{heard:?}");
        until("it runs again", || supervisor.child_id().is_some_and(|now| now != pid));
    }
}

fn p_29_a_slow_reader_holds_nobody_up(wire: Wire) {
    let (gate, seen) = (Gate::default(), Arc::new(AtomicUsize::new(0)));
    let (held, count) = (gate.clone(), seen.clone());
    let slow = move |line: &nape::OutputLine| {
        held.pass();
        let before = usize::try_from(line.lost).unwrap();
        count.fetch_add(before + usize::from(line.text.starts_with("printed")), Ordering::SeqCst);
    };
    let head = Head::builder().wire(wire).on_output(slow).spawn(victim::command("serve")).unwrap();
    // Far more than a pipe holds, and more than is kept.
    let print = head.api("victim").action("print", 50_000usize).timeout(HANG);
    print.call::<()>().unwrap();
    gate.await_waiting(1);
    gate.open();
    drop(head);
    // The harness of the child has written a few lines, which may be among the lost.
    let seen = seen.load(Ordering::SeqCst);
    assert!((50_000..50_010).contains(&seen), "{seen}");
}
