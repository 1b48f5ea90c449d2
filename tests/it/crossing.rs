//! Many calls at once: from many threads, both ways, and nested in each other.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Barrier,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use crossbeam_channel::unbounded;
use nape::{Api, AsyncResult, CallError, Context, Endpoint, Executed, Fault, Timeout};

use crate::{
    support::{HANG, Kind},
    tools::{LONG, SOON, eventually, nothing_is_under_way, only},
};

on_every_link! {
    ac_13_many_threads_each_get_their_own_answer,
    ac_13_one_handle_serves_many_threads,
    ac_14_calls_both_ways_at_once_do_not_mix,
    ac_14_started_calls_both_ways_at_once_do_not_mix,
    ac_64_any_depth_completes_with_one_worker_a_side,
    ac_64_several_deep_chains_at_once_complete,
    ac_90_a_handler_sees_the_time_that_is_left,
    p_04_a_wait_ends_in_time_while_calls_back_go_on_and_on,
    ac_90_nested_calls_inherit_what_is_left,
    ac_90_a_nested_call_may_have_less_but_never_more,
    ac_90_a_call_back_after_the_deadline_is_over_at_once,
}

/// Says whose answer it is: the name of the side, and what came.
fn named(name: &'static str) -> Api {
    let echo =
        move |_: &Context, (thread, round): (u64, u64)| Ok::<_, Fault>((name.to_owned(), thread, round));
    Api::new("who").handle("echo", echo).unwrap()
}

fn ask(end: &Endpoint, thread: u64, round: u64) -> nape::Action<(u64, u64)> {
    end.api("who").action("echo", (thread, round))
}

type Answer = (String, u64, u64);

fn ac_13_many_threads_each_get_their_own_answer(kind: Kind) {
    let (head, neck) = kind.serving(named("neck"));
    thread::scope(|scope| {
        for thread in 0..8 {
            let end = head.endpoint();
            scope.spawn(move || {
                for round in 0..150 {
                    let answer: Answer = ask(end, thread, round).call().unwrap();
                    assert_eq!(answer, ("neck".into(), thread, round));
                }
            });
        }
    });
    assert_eq!((head.counters().calls, head.counters().values), (1200, 1200));
    nothing_is_under_way(&head, &neck);
}

fn ac_13_one_handle_serves_many_threads(kind: Kind) {
    let (head, neck) = kind.serving(named("neck"));
    let who = head.api("who");
    thread::scope(|scope| {
        for thread in 0..6u64 {
            let who = &who;
            scope.spawn(move || {
                for round in 0..30u64 {
                    let action = || who.action("echo", (thread, round));
                    let started = action().start::<Answer>().unwrap();
                    let (tell, told) = unbounded();
                    action().then(move |end: Result<Answer, _>| tell.send(end).unwrap()).unwrap();
                    let called = action().call::<Answer>().unwrap();
                    for answer in [called, started.wait().unwrap(), only(&told).unwrap()] {
                        assert_eq!(answer, ("neck".into(), thread, round));
                    }
                }
            });
        }
    });
    nothing_is_under_way(&head, &neck);
}

fn ac_14_calls_both_ways_at_once_do_not_mix(kind: Kind) {
    let (head, neck) = kind.serving(named("neck"));
    head.attach(named("head")).unwrap();
    let gun = Barrier::new(6);
    thread::scope(|scope| {
        for thread in 0..3 {
            for (end, other) in [(head.endpoint(), "neck"), (neck.endpoint(), "head")] {
                let gun = &gun;
                scope.spawn(move || {
                    gun.wait();
                    for round in 0..200 {
                        let answer: Answer = ask(end, thread, round).call().unwrap();
                        assert_eq!(answer, (other.into(), thread, round));
                    }
                });
            }
        }
    });
    nothing_is_under_way(&head, &neck);
    let (ours, theirs) = (head.counters(), neck.counters());
    assert_eq!(ours, theirs);
    assert_eq!((ours.calls, ours.values, ours.calls_served), (600, 600, 600));
}

fn ac_14_started_calls_both_ways_at_once_do_not_mix(kind: Kind) {
    let (head, neck) = kind.serving(named("neck"));
    head.attach(named("head")).unwrap();
    for round in 0..10 {
        let start = |end, thread| ask(end, thread, round).start::<Answer>().unwrap();
        let all: Vec<_> =
            (0..50).map(|thread| (start(head.endpoint(), thread), start(neck.endpoint(), thread))).collect();
        for (thread, (from_head, from_neck)) in all.into_iter().enumerate() {
            assert_eq!(from_neck.wait().unwrap(), ("head".into(), thread as u64, round));
            assert_eq!(from_head.wait().unwrap(), ("neck".into(), thread as u64, round));
        }
    }
    nothing_is_under_way(&head, &neck);
    assert_eq!(head.counters(), neck.counters());
}

/// Each side counts down by asking the other; each has one worker.
pub fn countdown() -> Api {
    let down = |cx: &Context, n: u64| match n {
        0 => Ok::<u64, Fault>(0),
        n => Ok(cx.api("count").action("down", n - 1).call::<u64>()? + 1),
    };
    Api::new("count").workers(1).handle("down", down).unwrap()
}

/// Red when a call is not left to the thread that waits for its ancestor.
fn ac_64_any_depth_completes_with_one_worker_a_side(kind: Kind) {
    let (head, neck) = kind.serving(countdown());
    head.attach(countdown()).unwrap();
    for depth in 1..=64u64 {
        let action = |end: &Endpoint| end.api("count").action("down", depth);
        assert_eq!(action(head.endpoint()).call::<u64>().unwrap(), depth);
        assert_eq!(action(neck.endpoint()).start::<u64>().unwrap().wait().unwrap(), depth);
    }
    nothing_is_under_way(&head, &neck);
}

fn ac_64_several_deep_chains_at_once_complete(kind: Kind) {
    let (head, neck) = kind.serving(countdown());
    head.attach(countdown()).unwrap();
    let (head, neck) = (Arc::new(head), Arc::new(neck));
    thread::scope(|scope| {
        for thread in 0..2 {
            for end in [head.endpoint(), neck.endpoint()] {
                scope.spawn(move || {
                    for depth in [64u64, 1, 33, 2, 8 + thread] {
                        let down = end.api("count").action("down", depth).timeout(LONG);
                        assert_eq!(down.call::<u64>().unwrap(), depth);
                    }
                });
            }
        }
    });
    nothing_is_under_way(&head, &neck);
}

/// What a handler sees of its time, in microseconds, and those of `n` handlers below it.
fn clocks() -> Api {
    let look = |cx: &Context, (n, own): (u32, Option<Duration>)| {
        let mut seen = vec![cx.remaining()];
        assert_eq!(cx.remaining().is_some(), cx.deadline().is_some());
        if n > 0 {
            let action = cx
                .api("clock")
                .action("look", (n - 1, own))
                .timeout(own.map_or(Timeout::Never, Timeout::After));
            seen.extend(action.call::<Vec<Option<Duration>>>()?);
        }
        Ok::<_, Fault>(seen)
    };
    Api::new("clock").handle("look", look).unwrap()
}

fn look(end: &Endpoint, timeout: Timeout, n: u32, own: Option<Duration>) -> Vec<Option<Duration>> {
    end.api("clock").action("look", (n, own)).timeout(timeout).call().unwrap()
}

/// A job that calls back, eight calls at a time, until it is told to stop. There is an end to it all the same.
fn calls_back_for_ever(stop: &Arc<AtomicBool>) -> Api {
    let stop = stop.clone();
    let job = move |cx: &Context, (): ()| {
        let began = Instant::now();
        let mut under_way = VecDeque::new();
        while !stop.load(Ordering::Relaxed) && began.elapsed() < LONG {
            under_way.push_back(cx.api("head").action("nap", ()).start::<()>()?);
            if under_way.len() == 8 {
                under_way.pop_front().unwrap().wait()?;
            }
        }
        under_way.into_iter().try_for_each(AsyncResult::wait)?;
        Ok::<_, Fault>(())
    };
    Api::new("neck").handle("job", job).unwrap()
}

/// Red when whoever waits runs what comes as long as something comes.
fn p_04_a_wait_ends_in_time_while_calls_back_go_on_and_on(kind: Kind) {
    let stop = Arc::default();
    let (head, _neck) = kind.serving(calls_back_for_ever(&stop));
    let nap = |_: &Context, (): ()| {
        thread::sleep(Duration::from_millis(1));
        Ok::<_, Fault>(())
    };
    head.attach(Api::new("head").handle("nap", nap).unwrap()).unwrap();
    let mut job = head.api("neck").action("job", ()).timeout(Timeout::Never).start::<()>().unwrap();
    for _ in 0..3 {
        let began = Instant::now();
        assert!(job.wait_timeout(Duration::from_millis(50)).unwrap().is_none());
        assert!(began.elapsed() < SOON * 2, "{:?}", began.elapsed());
    }
    stop.store(true, Ordering::Relaxed);
    job.wait().unwrap();
}

fn ac_90_a_handler_sees_the_time_that_is_left(kind: Kind) {
    let (head, _neck) = kind.serving(clocks());
    let timeout = Duration::from_secs(20);
    let started = Instant::now();
    let left = look(head.endpoint(), Timeout::After(timeout), 0, None)[0].unwrap();
    // It is rounded up by at most a microsecond.
    assert!(left <= timeout + Duration::from_micros(1), "{left:?}");
    assert!(left + started.elapsed() >= timeout, "{left:?}");
    assert_eq!(look(head.endpoint(), Timeout::Never, 0, None), [None]);
    let default = head.api("clock").action("look", (0u32, None::<Duration>)).call::<Vec<Option<Duration>>>();
    assert!(default.unwrap()[0].is_some_and(|left| left > timeout && left <= Duration::from_secs(31)));
}

fn ac_90_nested_calls_inherit_what_is_left(kind: Kind) {
    let (head, neck) = kind.serving(clocks());
    head.attach(clocks()).unwrap();
    for end in [head.endpoint(), neck.endpoint()] {
        for own in [None, Some(Duration::from_secs(3600)), Some(Duration::MAX)] {
            let seen = look(end, Timeout::After(Duration::from_secs(20)), 6, own);
            let seen: Vec<_> = seen.into_iter().map(Option::unwrap).collect();
            assert_eq!(seen.len(), 7);
            // Each is rounded up by at most a microsecond.
            let less = |pair: &[Duration]| pair[1] <= pair[0] + Duration::from_micros(1);
            assert!(seen.windows(2).all(less) && seen[0] <= Duration::from_secs(21), "{seen:?}");
        }
        assert_eq!(look(end, Timeout::Never, 2, None), [None; 3]);
    }
}

fn ac_90_a_nested_call_may_have_less_but_never_more(kind: Kind) {
    let (head, _neck) = kind.serving(clocks());
    head.attach(clocks()).unwrap();
    let seen =
        look(head.endpoint(), Timeout::After(Duration::from_secs(40)), 2, Some(Duration::from_secs(5)));
    assert!(seen[0].unwrap() > Duration::from_secs(5), "{seen:?}");
    assert!(seen[1..].iter().all(|left| left.unwrap() <= Duration::from_secs(6)), "{seen:?}");
    let seen = look(head.endpoint(), Timeout::Never, 1, Some(Duration::from_secs(5)));
    assert!(seen[0].is_none() && seen[1].is_some(), "{seen:?}");
}

fn ac_90_a_call_back_after_the_deadline_is_over_at_once(kind: Kind) {
    let (tell, told) = unbounded();
    let late = move |cx: &Context, _: ()| {
        assert!(cx.cancel_token().wait_timeout(HANG));
        assert!(cx.is_cancelled());
        // The caller's clock started first.
        eventually(|| cx.remaining() == Some(Duration::ZERO));
        let nested = cx.api("head").action("touch", ()).timeout(HANG);
        tell.send(nested.call::<()>()).unwrap();
        let nested = cx.api("head").action("touch", ()).timeout(Timeout::Never);
        tell.send(nested.start::<()>().map(drop)).unwrap();
        let nested = cx.api("head").action("touch", ()).timeout(Duration::MAX);
        tell.send(nested.then(|_: Result<(), _>| panic!("it was told already"))).unwrap();
        Ok::<_, Fault>(())
    };
    let (head, neck) = kind.serving(Api::new("neck").handle("late", late).unwrap());
    head.attach(Api::new("head").handle("touch", |_: &Context, ()| Ok::<_, Fault>(())).unwrap()).unwrap();
    let outcome = head.api("neck").action("late", ()).timeout(Duration::from_millis(300)).call::<()>();
    assert!(matches!(outcome, Err(CallError::TimedOut { .. })));
    for _ in 0..3 {
        match told.recv_timeout(LONG).unwrap() {
            Err(CallError::TimedOut { path, executed: Executed::No, .. }) => {
                assert_eq!(path.as_str(), "head.touch")
            }
            other => panic!("{other:?}"),
        }
    }
    nothing_is_under_way(&head, &neck);
    assert_eq!((head.counters().calls_served, neck.counters().timeouts), (0, 3));
    assert_eq!(head.counters().callback_panics + neck.counters().callback_panics, 0);
}
