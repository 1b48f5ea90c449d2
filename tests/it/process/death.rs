//! A child that dies with calls under way: every one of them ends, once, soon, and says how it died.

use std::{
    sync::{Arc, Mutex, mpsc},
    thread,
    time::{Duration, Instant},
};

use nape::{AsyncResult, CallError, Exit, Head, LinkState, Timeout, Wire};
use rustix::process::Signal;

use super::{Watch, call_for_ever, death, echo, five_times, head};
use crate::{soak::rounds, support::HANG};

on_every_wire_to_a_child! {
    ac_73_a_child_that_exits_in_a_handler_is_quoted,
    ac_73_a_child_that_is_killed_in_a_handler_is_quoted,
    ac_73_pending_calls_fail_soon_after_the_kernel_tells_of_the_death,
    p_02_every_call_ends_soon_whatever_the_child_dies_of,
    p_03_events_that_were_sent_before_the_death_are_delivered,
    ac_73_calls_of_all_lengths_end_once_each,
    ac_73_callers_that_never_pause_learn_of_the_death,
    ac_73_a_grandchild_that_holds_the_descriptors_hides_nothing,
    ac_71_states_come_once_each_and_pending_calls_end_in_between,
    ac_73_what_was_answered_before_the_death_is_delivered,
}

fn ac_73_a_child_that_exits_in_a_handler_is_quoted(wire: Wire) {
    dies(wire, "exit 0", Exit::Code(0));
    dies(wire, "exit 7", Exit::Code(7));
}

fn ac_73_a_child_that_is_killed_in_a_handler_is_quoted(wire: Wire) {
    dies(wire, "kill", Exit::Signal(9));
    dies(wire, "abort", Exit::Signal(6));
    dies(wire, "term", Exit::Signal(15));
}

/// The call that it dies of and one that waits beside it; then those that come later.
#[track_caller]
fn dies(wire: Wire, how: &str, exit: Exit) {
    let head = head(wire);
    let victim = head.api("victim");
    let beside = wait_for_ever(&head);
    let died_of = victim.action("die", how.to_owned()).timeout(HANG).call::<()>().unwrap_err();
    for error in [died_of, beside.wait().unwrap_err()] {
        let death = death(&error);
        assert_eq!(death.exit, exit);
        assert!(death.stderr.contains(&format!("last words before {how}")), "{death}");
    }
    let later = victim.action("echo", 1u64).call::<u64>().unwrap_err();
    assert!(matches!(later, CallError::Closed { executed: nape::Executed::No, .. }), "{later:?}");
}

fn ac_73_pending_calls_fail_soon_after_the_kernel_tells_of_the_death(wire: Wire) {
    let mut all: Vec<_> = (0..20).map(|_| kill_with_64_pending(wire)).collect();
    all.sort();
    let after_kill = all[all.len() / 2].1;
    all.sort_by_key(|(told, _)| *told);
    let after_told = all[all.len() / 2].0;
    println!(
        "64 calls pending, median of 20: {after_kill:.1?} after the kill, {after_told:.1?} after the kernel tells"
    );
    assert!(after_told < five_times(10), "{all:?}");
    assert!(after_kill < five_times(100), "{all:?}");
}

/// The time to the last outcome: from when the kernel told, and from the kill.
pub(super) fn kill_with_64_pending(wire: Wire) -> (Duration, Duration) {
    end_with_64_pending(&head(wire), Exit::Signal(9), Head::kill)
}

fn end_with_64_pending(head: &Head, exit: Exit, end: impl Fn(&Head)) -> (Duration, Duration) {
    let victim = Watch::child_of(head);
    let times = [Timeout::Never, Timeout::After(HANG), Timeout::After(HANG * 60)];
    let times = times.into_iter().cycle();
    let wait = |time| head.api("victim").action("wait", ()).timeout(time).start::<()>().unwrap();
    let pending: Vec<_> = times.take(64).map(wait).collect();
    echo(head);
    let kernel = thread::spawn(move || victim.wait_end(HANG).expect("it was killed"));
    let killed = Instant::now();
    end(head);
    for call in pending {
        assert_eq!(death(&call.wait().unwrap_err()).exit, exit);
    }
    let last = Instant::now();
    let told = kernel.join().unwrap();
    (last.saturating_duration_since(told), last - killed)
}

/// The time is that from the end of the process, which it brings about itself. Red when that end is not watched.
fn p_02_every_call_ends_soon_whatever_the_child_dies_of(wire: Wire) {
    let die = |how: &'static str| {
        move |head: &Head| {
            let die = head.api("victim").action("die", how.to_owned()).timeout(HANG);
            die.then(|_: Result<(), CallError>| ()).unwrap();
        }
    };
    for (how, exit) in [
        ("exit 0", Exit::Code(0)),
        ("exit 7", Exit::Code(7)),
        ("abort", Exit::Signal(6)),
        ("segv", Exit::Signal(11)),
        ("term", Exit::Signal(15)),
    ] {
        for holder in [false, true] {
            let head = head(wire);
            let leave = || head.api("victim").action("leave-grandchild", ()).call().unwrap();
            let _holder = holder.then(|| Grandchild(Watch::of(leave())));
            let (after_told, _) = end_with_64_pending(&head, exit, die(how));
            assert!(after_told < five_times(100), "{how}, held by another: {holder}: {after_told:?}");
        }
    }
}

/// All of them, and in their order.
fn p_03_events_that_were_sent_before_the_death_are_delivered(wire: Wire) {
    for n in [0u64, 1, 7, 40] {
        let (tell, told) = mpsc::channel();
        let note = move |_: &nape::Context, n: u64| Ok::<_, nape::Fault>(tell.send(n)?);
        let host = nape::Api::new("host").workers(1).handle("note", note).unwrap();
        let head = Head::builder().wire(wire).serve(host).spawn(super::victim::command("serve")).unwrap();
        let error = head.api("victim").action("tell-and-die", n).timeout(HANG).call::<()>().unwrap_err();
        assert_eq!(death(&error).exit, Exit::Signal(9));
        for wanted in 0..n {
            assert_eq!(told.recv_timeout(HANG), Ok(wanted), "of {n}");
        }
        drop(head);
        assert!(told.recv().is_err());
    }
}

fn ac_73_calls_of_all_lengths_end_once_each(wire: Wire) {
    let head = head(wire);
    let (sender, outcomes) = mpsc::channel();
    for number in 0..64u64 {
        let timeout = match number % 4 {
            0 => Timeout::Never,
            1 => Timeout::After(Duration::MAX),
            2 => Timeout::After(HANG),
            _ => Timeout::After(Duration::from_millis(10 + number)),
        };
        let sender = sender.clone();
        let wait = head.api("victim").action("wait", ()).timeout(timeout);
        wait.then(move |outcome| sender.send((number, outcome)).unwrap()).unwrap();
    }
    drop(sender);
    // They have left when this one is answered.
    echo(&head);
    // Some have timed out by then, the others not.
    let first: (u64, Result<(), CallError>) = outcomes.recv().unwrap();
    head.kill();
    let mut all: Vec<_> = std::iter::once(first).chain(&outcomes).collect();
    drop(head);
    all.sort_by_key(|(number, _)| *number);
    assert!(all.iter().map(|(number, _)| *number).eq(0..64), "each once: {all:?}");
    for (number, outcome) in all {
        match outcome.unwrap_err() {
            CallError::TimedOut { .. } => assert_eq!(number % 4, 3),
            error => assert_eq!(death(&error).exit, Exit::Signal(9)),
        }
    }
}

fn ac_73_callers_that_never_pause_learn_of_the_death(wire: Wire) {
    for _ in 0..5 {
        let head = head(wire);
        let callers = call_for_ever(&head);
        head.kill();
        for caller in callers {
            let error = caller.join().unwrap();
            let CallError::Closed { reason, .. } = &error else { panic!("{error:?}") };
            assert!(matches!(**reason, nape::CloseReason::Died(_)), "{reason:?}");
        }
    }
}

/// Red when the end of the process ends the link before what had come is read.
fn ac_73_what_was_answered_before_the_death_is_delivered(wire: Wire) {
    for round in 0..rounds().unwrap_or(9) {
        for waits in [false, true] {
            answers_some(wire, 2 * round as usize % 17, waits);
        }
    }
}

/// The child answers `k` of 16 calls, and is killed with more of them unread; who called may wait for that first.
fn answers_some(wire: Wire, k: usize, waits: bool) {
    const N: usize = 16;
    let head = head(wire);
    let victim = Watch::child_of(&head);
    // For a moment after a call that blocked, nobody reads, so that the end may be seen before the answers.
    echo(&head);
    let start = |number| {
        let task = (number, k, N);
        head.api("victim").action("answer-some", task).timeout(HANG).start::<usize>().unwrap()
    };
    let calls: Vec<_> = (0..N).map(start).collect();
    // These may be unread when it dies, or find no link any more. They are few, so that the child owes no
    // credit for them: another thread that sends it could hold the answers up.
    let unread: Vec<_> =
        (0..6).map_while(|_| head.api("victim").action("wait", ()).start::<()>().ok()).collect();
    if waits {
        // Nobody asks before it is dead.
        victim.wait_end(HANG).expect("it kills itself");
    }
    for (number, call) in calls.into_iter().enumerate() {
        match call.wait() {
            Ok(value) => assert_eq!((value, number < k), (number, true)),
            Err(error) => {
                assert_eq!((death(&error).exit, number >= k), (Exit::Signal(9), true), "{number} of {k}")
            }
        }
    }
    for call in unread {
        call.wait().unwrap_err();
    }
}

fn ac_73_a_grandchild_that_holds_the_descriptors_hides_nothing(wire: Wire) {
    let head = head(wire);
    let victim = Watch::child_of(&head);
    let leave = head.api("victim").action("leave-grandchild", ());
    let grandchild = Grandchild(Watch::of(leave.call().unwrap()));
    let pending = wait_for_ever(&head);
    echo(&head);
    head.kill();
    let told = victim.wait_end(HANG).expect("it was killed");
    assert_eq!(death(&pending.wait().unwrap_err()).exit, Exit::Signal(9));
    assert!(told.elapsed() < five_times(100), "{:?}", told.elapsed());
    let begin = Instant::now();
    drop(head);
    assert!(begin.elapsed() < five_times(200), "{:?}", begin.elapsed());
    assert!(!grandchild.0.has_ended(), "it held nothing");
}

struct Grandchild(Watch);

impl Drop for Grandchild {
    fn drop(&mut self) {
        self.0.send(Signal::KILL);
    }
}

fn ac_71_states_come_once_each_and_pending_calls_end_in_between(wire: Wire) {
    let head = head(wire);
    let pending = Arc::new(Mutex::new((0..8).map(|_| wait_for_ever(&head)).collect::<Vec<_>>()));
    let (sender, states) = mpsc::channel();
    let seen = pending.clone();
    head.on_state(|_| std::panic::resume_unwind(Box::new("a listener that panics changes nothing")));
    head.on_state(move |state| {
        let done = seen.lock().unwrap().iter().filter(|call| call.is_done()).count();
        sender.send((state, done)).unwrap();
    });
    assert_eq!(states.recv().unwrap(), (LinkState::Open, 0));
    let watched = wait_for_ever(&head);
    head.kill();
    death(&watched.wait().unwrap_err());
    assert!(head.state() >= LinkState::Disconnected, "{:?}", head.state());
    assert_eq!(states.recv().unwrap().0, LinkState::Disconnected);
    assert_eq!(states.recv().unwrap(), (LinkState::Closed, 8));
    assert_eq!(head.counters().callback_panics, 3);
    drop(head);
    pending.lock().unwrap().drain(..).for_each(|call| drop(death(&call.wait().unwrap_err())));
    assert!(states.recv().is_err(), "no state comes twice");
}

/// A call that is never answered.
fn wait_for_ever(head: &Head) -> AsyncResult<()> {
    head.api("victim").action("wait", ()).timeout(Timeout::Never).start().unwrap()
}
