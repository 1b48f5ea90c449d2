//! Work that runs side by side, and what happens when there is too much of it.

use std::{
    sync::{
        Arc, Barrier,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use crossbeam_channel::unbounded;
use nape::{Api, CallError, Config, Context, Executed, Fault, FaultKind, Head, Neck, Responder, WhenFull};

use crate::{
    soak::rounds,
    support::Kind,
    tools::{Gate, SOON, is_busy, is_unknown, until},
};

/// An API whose handler waits at the gate and counts how often it runs.
fn gated(gate: &Gate, runs: &Arc<AtomicU64>) -> Api {
    let (gate, runs) = (gate.clone(), runs.clone());
    let wait = move |_: &Context, n: u64| {
        runs.fetch_add(1, Ordering::Relaxed);
        gate.pass();
        Ok::<_, Fault>(n)
    };
    Api::new("a").handle("wait", wait).unwrap()
}

/// Returns when the other side has taken in what was sent before: that a call was given up, too.
fn round_trip(head: &Head) {
    assert!(is_unknown(&head.api("nobody").action("home", ()).call::<()>(), "nobody.home"));
}

fn is_late<T>(outcome: &Result<T, CallError>, wanted: Executed) -> bool {
    matches!(outcome, Err(CallError::TimedOut { executed, .. }) if *executed == wanted)
}

fn ac_60_n_workers_run_n_calls_at_a_time(kind: Kind) {
    const N: usize = 6;
    let (head, neck) = kind.ends();
    let (all, now, most) = (Arc::new(Barrier::new(N)), AtomicUsize::new(0), Arc::new(AtomicUsize::new(0)));
    let highest = most.clone();
    let api = Api::new("a").workers(N).handle("meet", move |_: &Context, ()| {
        highest.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        // Passes only when as many are here at the same time.
        all.wait();
        now.fetch_sub(1, Ordering::SeqCst);
        Ok::<_, Fault>(())
    });
    let neck = neck.serve(api.unwrap()).unwrap().start();
    let calls: Vec<_> =
        (0..N * 20).map(|_| head.api("a").action("meet", ()).start::<()>().unwrap()).collect();
    calls.into_iter().for_each(|call| call.wait().unwrap());
    thread::scope(|scope| {
        for _ in 0..N {
            scope.spawn(|| head.api("a").action("meet", ()).call::<()>().unwrap());
        }
    });
    assert_eq!(most.load(Ordering::SeqCst), N, "workers beyond the limit");
    // A call that comes while a worker is on its way back starts another thread; those that are not
    // needed go.
    until("spare threads go", || neck.n_threads() <= N + 3);
}

/// Red when the bound of a queue is not looked at.
fn ac_61_a_full_queue_refuses_at_once(kind: Kind) {
    let (head, neck) = kind.ends();
    let (gate, runs) = (Gate::default(), Arc::default());
    let api = gated(&gate, &runs).workers(1).queue(3, WhenFull::Refuse);
    let neck = neck.serve(api).unwrap().start();
    let api = head.api("a");
    let start = |n: u64| api.action("wait", n).start::<u64>().unwrap();
    let running = start(0);
    gate.await_waiting(1);
    let queued: Vec<_> = (1..=3).map(start).collect();
    let began = Instant::now();
    let refused = api.action("wait", 4u64).call::<u64>();
    assert!(is_busy(&refused, "a.wait"), "{refused:?}");
    assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
    assert_eq!(refused.unwrap_err().executed(), Executed::No);
    api.action("wait", 5u64).fire().unwrap();
    until("an event beyond is dropped", || neck.counters().events_dropped == 1);
    gate.open();
    for (n, call) in std::iter::once(running).chain(queued).enumerate() {
        assert_eq!(call.wait().unwrap(), n as u64);
    }
    assert_eq!(runs.load(Ordering::Relaxed), 4, "what was refused ran");
}

fn ac_61_a_queue_of_nothing_takes_what_can_run(kind: Kind) {
    let (head, neck) = kind.ends();
    let (gate, runs) = (Gate::default(), Arc::default());
    let _neck = neck.serve(gated(&gate, &runs).workers(2).queue(0, WhenFull::Refuse)).unwrap().start();
    let api = head.api("a");
    let running: Vec<_> = (0..2u64).map(|n| api.action("wait", n).start::<u64>().unwrap()).collect();
    gate.await_waiting(2);
    assert!(is_busy(&api.action("wait", 2u64).call::<u64>(), "a.wait"));
    gate.open();
    running.into_iter().for_each(|call| _ = call.wait().unwrap());
}

fn ac_61_waiting_for_a_full_queue_counts_against_the_timeout(kind: Kind) {
    let (head, neck) = kind.ends();
    let (gate, runs) = (Gate::default(), Arc::new(AtomicU64::new(0)));
    let _neck = neck.serve(gated(&gate, &runs).workers(1).queue(2, WhenFull::Wait)).unwrap().start();
    let api = head.api("a");
    let waiting: Vec<_> = (0..20u64).map(|n| api.action("wait", n).start::<u64>().unwrap()).collect();
    gate.await_waiting(1);
    let limit = Duration::from_millis(60);
    let began = Instant::now();
    let late = api.action("wait", 99u64).timeout(limit).call::<u64>();
    assert!(matches!(late, Err(CallError::TimedOut { .. })), "{late:?}");
    assert!(began.elapsed() >= limit && began.elapsed() < limit + SOON, "{:?}", began.elapsed());
    round_trip(&head);
    gate.open();
    for (n, call) in waiting.into_iter().enumerate() {
        assert_eq!(call.wait().unwrap(), n as u64);
    }
    assert_eq!(api.action("wait", 1u64).call::<u64>().unwrap(), 1);
    assert_eq!(runs.load(Ordering::Relaxed), 21, "the call that came too late ran");
}

/// Both ends, where the Head lets two calls out at a time.
fn narrow(kind: Kind, gate: &Gate, runs: &Arc<AtomicU64>) -> (Head, Neck) {
    let (head, neck) = kind.ends_with(Head::builder().config(Config::new().in_flight(2)), Neck::builder());
    (head, neck.serve(gated(gate, runs).workers(8)).unwrap().start())
}

fn ac_62_a_call_beyond_the_window_waits_and_its_timeout_counts(kind: Kind) {
    let (gate, runs) = (Gate::default(), Arc::new(AtomicU64::new(0)));
    let (head, neck) = narrow(kind, &gate, &runs);
    let api = head.api("a");
    let first: Vec<_> = (0..2u64).map(|n| api.action("wait", n).start::<u64>().unwrap()).collect();
    gate.await_waiting(2);
    let limit = Duration::from_millis(60);
    let began = Instant::now();
    let late = api.action("wait", 2u64).timeout(limit).call::<u64>();
    assert!(is_late(&late, Executed::No), "{late:?}");
    assert!(began.elapsed() >= limit && began.elapsed() < limit + SOON, "{:?}", began.elapsed());
    let late = api.action("wait", 3u64).timeout(limit).start::<u64>().unwrap().wait();
    assert!(is_late(&late, Executed::No), "{late:?}");
    let next: Vec<_> = (4..8u64).map(|n| api.action("wait", n).start::<u64>().unwrap()).collect();
    assert_eq!((head.under_way().0, neck.under_way().1), (6, 2));
    gate.open();
    first.into_iter().chain(next).for_each(|call| _ = call.wait().unwrap());
    assert_eq!(runs.load(Ordering::Relaxed), 6, "a call that never left ran");
}

fn ac_62_a_call_that_ends_makes_room_in_the_window(kind: Kind) {
    let (gate, runs) = (Gate::default(), Arc::new(AtomicU64::new(0)));
    let (head, _neck) = narrow(kind, &gate, &runs);
    let api = head.api("a");
    // One that is cancelled, one that times out, one that is only forgotten.
    let cancelled = api.action("wait", 0u64).start::<u64>().unwrap();
    let late = api.action("wait", 1u64).timeout(Duration::from_millis(50)).start::<u64>().unwrap();
    gate.await_waiting(2);
    let third = api.action("wait", 2u64).start::<u64>().unwrap();
    cancelled.cancel();
    gate.await_waiting(3);
    let fourth = api.action("wait", 3u64).start::<u64>().unwrap();
    assert!(is_late(&late.wait(), Executed::Maybe));
    gate.await_waiting(4);
    drop(third);
    let fifth = api.action("wait", 4u64).start::<u64>().unwrap();
    gate.await_waiting(5);
    gate.open();
    assert_eq!((fourth.wait().unwrap(), fifth.wait().unwrap()), (3, 4));
}

/// Events take no place in the window, but keep their order behind a call that waits for one.
fn ac_62_nothing_overtakes_a_call_that_waits_for_the_window(kind: Kind) {
    let (gate, runs) = (Gate::default(), Arc::new(AtomicU64::new(0)));
    let (head, neck) = narrow(kind, &gate, &runs);
    let (tell, told) = unbounded();
    let log = Api::new("log").workers(1).handle("note", move |_: &Context, n: u64| {
        tell.send(n).unwrap();
        Ok::<_, Fault>(())
    });
    neck.attach(log.unwrap()).unwrap();
    let api = head.api("a");
    let first: Vec<_> = (0..2u64).map(|n| api.action("wait", n).start::<u64>().unwrap()).collect();
    gate.await_waiting(2);
    let call = head.api("log").action("note", 1u64).start::<()>().unwrap();
    head.api("log").action("note", 2u64).fire().unwrap();
    assert_eq!(neck.under_way().1, 2);
    gate.open();
    call.wait().unwrap();
    first.into_iter().for_each(|call| _ = call.wait().unwrap());
    assert_eq!((told.recv(), told.recv()), (Ok(1), Ok(2)));
}

fn ac_65_a_deferred_answer_leaves_the_worker_free(kind: Kind) {
    let (head, neck) = kind.ends();
    let (keep, kept) = unbounded::<(u64, Responder<u64>)>();
    let api = Api::new("a").workers(1).deferred("later", move |cx: Context, n: u64, answer| {
        assert!(!cx.is_event());
        keep.send((n, answer)).unwrap();
    });
    let neck = neck.serve(api.unwrap()).unwrap().start();
    let calls: Vec<_> =
        (0..50u64).map(|n| head.api("a").action("later", n).start::<u64>().unwrap()).collect();
    let mut responders: Vec<_> = (0..50).map(|_| kept.recv().unwrap()).collect();
    assert_eq!(neck.under_way().1, 50, "one worker has taken all of them in");
    assert!(calls.iter().all(|call| !call.is_done()));
    // From other threads, and the last first.
    responders.reverse();
    for (n, answer) in responders {
        thread::spawn(move || match n % 3 {
            0 => answer.answer(n + 1),
            1 => answer.respond(Ok::<_, Fault>(n + 1)),
            _ => answer.fail(Fault::new(format!("not {n}"))),
        });
    }
    for (n, call) in (0..).zip(calls) {
        match call.wait() {
            Ok(value) => assert!(value == n + 1 && n % 3 != 2),
            Err(error) => assert_eq!(error.fault().unwrap().message(), format!("not {n}")),
        }
    }
    assert_eq!(neck.under_way().1, 0);
}

fn ac_65_a_responder_that_is_dropped_gives_no_answer(kind: Kind) {
    let (head, neck) = kind.ends();
    let (keep, kept) = unbounded::<Responder<()>>();
    let api = Api::new("a")
        .deferred("keep", move |_: Context, (), answer| keep.send(answer).unwrap())
        .unwrap()
        .deferred("drop", |_: Context, (), _: Responder<()>| ())
        .unwrap()
        .deferred("panic", |_: Context, (), _: Responder<()>| panic!("with a responder"))
        .unwrap();
    let neck = neck.serve(api).unwrap().start();
    let api = head.api("a");
    let began = Instant::now();
    let dropped = api.action("drop", ()).call::<()>();
    assert!(matches!(dropped, Err(CallError::NoAnswer)), "{dropped:?}");
    assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
    let kept_call = api.action("keep", ()).start::<()>().unwrap();
    let responder = kept.recv().unwrap();
    assert!(!kept_call.is_done());
    drop(responder);
    assert!(matches!(kept_call.wait(), Err(CallError::NoAnswer)));
    let panicked = api.action("panic", ()).call::<()>();
    let ended = matches!(&panicked, Err(CallError::Fault(fault)) if fault.kind() == FaultKind::Panicked);
    assert!(ended, "{panicked:?}");
    until("the panic is counted", || neck.counters().handler_panics == 1);
    // Nobody waits for the answer to an event; its responder is as harmless.
    api.action("drop", ()).fire().unwrap();
    api.action("keep", ()).fire().unwrap();
    kept.recv().unwrap().answer(());
    assert!(matches!(api.action("drop", ()).call::<()>(), Err(CallError::NoAnswer)));
}

fn ac_65_a_late_answer_is_harmless(kind: Kind) {
    let (head, neck) = kind.ends();
    let (keep, kept) = unbounded::<Responder<u64>>();
    let api = Api::new("a").deferred("keep", move |_: Context, (), answer| keep.send(answer).unwrap());
    let neck = neck.serve(api.unwrap()).unwrap().start();
    let late = head.api("a").action("keep", ()).timeout(Duration::from_millis(30)).call::<u64>();
    assert!(is_late(&late, Executed::Maybe));
    let responder = kept.recv().unwrap();
    assert!(responder.cancel_token().unwrap().wait_timeout(SOON), "the handler was not told");
    responder.answer(1);
    let next = head.api("a").action("keep", ()).start::<u64>().unwrap();
    kept.recv().unwrap().answer(2);
    assert_eq!(next.wait().unwrap(), 2);
    assert_eq!((head.under_way(), neck.under_way()), ((0, 0), (0, 0)));
}

fn ac_91_what_expired_in_the_queue_is_not_run(kind: Kind) {
    let (head, neck) = kind.ends();
    let (gate, runs) = (Gate::default(), Arc::new(AtomicU64::new(0)));
    let neck = neck.serve(gated(&gate, &runs).workers(1)).unwrap().start();
    let api = head.api("a");
    let first = api.action("wait", 0u64).start::<u64>().unwrap();
    gate.await_waiting(1);
    let short = Duration::from_millis(40);
    let late: Vec<_> =
        (1..=5u64).map(|n| api.action("wait", n).timeout(short).start::<u64>().unwrap()).collect();
    let cancelled = api.action("wait", 6u64).start::<u64>().unwrap();
    let patient = api.action("wait", 7u64).start::<u64>().unwrap();
    late.into_iter().for_each(|call| assert!(is_late(&call.wait(), Executed::Maybe)));
    until("all have come", || neck.under_way().1 == 8);
    drop(cancelled);
    round_trip(&head);
    gate.open();
    assert_eq!((first.wait().unwrap(), patient.wait().unwrap()), (0, 7));
    assert_eq!(runs.load(Ordering::Relaxed), 2, "a call that nobody waited for was run");
    assert_eq!(neck.counters().expired_in_queue, 6);
    assert_eq!(neck.under_way(), (0, 0));
}

/// With no worker free on either side, answers still find their callers.
fn p_10_answers_need_no_worker(kind: Kind) {
    let (head, neck) = kind.ends();
    let (gate, runs) = (Gate::default(), Arc::default());
    let busy = |gate: &Gate| gated(gate, &runs).workers(4);
    head.attach(busy(&gate)).unwrap();
    neck.attach(Api::new("b").handle("echo", |_: &Context, n: u64| Ok::<_, Fault>(n)).unwrap()).unwrap();
    let neck = neck.start();
    let stuck: Vec<_> = (0..50u64).map(|n| neck.api("a").action("wait", n).start::<u64>().unwrap()).collect();
    gate.await_waiting(4);
    for n in 0..1000u64 {
        assert_eq!(head.api("b").action("echo", n).call::<u64>().unwrap(), n);
    }
    let started: Vec<_> =
        (0..500u64).map(|n| head.api("b").action("echo", n).start::<u64>().unwrap()).collect();
    for (n, call) in started.into_iter().enumerate() {
        assert_eq!(call.wait().unwrap(), n as u64);
    }
    gate.open();
    stuck.into_iter().for_each(|call| _ = call.wait().unwrap());
}

/// Each handler calls back, so that every worker of both sides waits for the other side.
fn p_09_crossed_storms_with_all_workers_busy_end(kind: Kind) {
    let (head, neck) = kind.ends();
    let api = |workers| {
        Api::new("a")
            .workers(workers)
            .handle("down", |cx: &Context, n: u32| match n {
                0 => Ok::<u32, Fault>(0),
                n => Ok(cx.api("a").action("down", n - 1).call::<u32>()? + 1),
            })
            .unwrap()
    };
    head.attach(api(1)).unwrap();
    let neck = neck.serve(api(2)).unwrap().start();
    thread::scope(|scope| {
        for seed in 0..8u32 {
            let end: &nape::Endpoint = if seed % 2 == 0 { &head } else { &neck };
            scope.spawn(move || {
                for round in 0..60 * rounds().unwrap_or(1) as u32 {
                    let depth = (round * 3 + seed) % 9;
                    assert_eq!(end.api("a").action("down", depth).call::<u32>().unwrap(), depth);
                }
            });
        }
    });
    assert_eq!((head.under_way(), neck.under_way()), ((0, 0), (0, 0)));
}

/// The limit of a side is for all its APIs together, and a call beyond it is told so.
fn a_side_serves_no_more_calls_than_it_says(kind: Kind) {
    let config = Config::new().served_calls(10);
    let (head, neck) = kind.ends_with(Head::builder(), Neck::builder().config(config));
    let (gate, runs) = (Gate::default(), Arc::default());
    let neck = neck.serve(gated(&gate, &runs)).unwrap().start();
    let api = head.api("a");
    let calls: Vec<_> = (0..10u64).map(|n| api.action("wait", n).start::<u64>().unwrap()).collect();
    until("all have come", || neck.under_way().1 == 10);
    assert!(is_busy(&api.action("wait", 10u64).call::<u64>(), "a.wait"));
    gate.open();
    calls.into_iter().for_each(|call| _ = call.wait().unwrap());
    assert!(matches!(api.action("wait", 11u64).call::<u64>(), Ok(11)));
}

on_every_link! {
    many_calls_at_once_need_no_more_threads_than_there_are_workers,
    ac_60_n_workers_run_n_calls_at_a_time,
    ac_61_a_full_queue_refuses_at_once,
    ac_61_a_queue_of_nothing_takes_what_can_run,
    ac_61_waiting_for_a_full_queue_counts_against_the_timeout,
    ac_62_a_call_beyond_the_window_waits_and_its_timeout_counts,
    ac_62_a_call_that_ends_makes_room_in_the_window,
    ac_62_nothing_overtakes_a_call_that_waits_for_the_window,
    ac_65_a_deferred_answer_leaves_the_worker_free,
    ac_65_a_responder_that_is_dropped_gives_no_answer,
    ac_65_a_late_answer_is_harmless,
    ac_91_what_expired_in_the_queue_is_not_run,
    p_10_answers_need_no_worker,
    p_09_crossed_storms_with_all_workers_busy_end,
    a_side_serves_no_more_calls_than_it_says,
    calls_share_their_core_with_a_thread_that_computes,
}

/// Holds for the threads that this one starts, too.
fn stay_on_one_core() {
    let all = rustix::thread::sched_getaffinity(None).unwrap();
    let mut one = rustix::thread::CpuSet::new();
    one.set((0..rustix::thread::CpuSet::MAX_CPU).find(|core| all.is_set(*core)).unwrap());
    rustix::thread::sched_setaffinity(None, &one).unwrap();
}

fn many_calls_at_once_need_no_more_threads_than_there_are_workers(kind: Kind) {
    // On one core a thread that was called takes its time to come: another must not be called for that.
    stay_on_one_core();
    let quick = |_: &Context, n: u64| Ok::<_, Fault>(n + 1);
    let (head, neck) = kind.serving(Api::new("a").workers(2).handle("quick", quick).unwrap());
    let api = head.api("a");
    let mut most = 0;
    for round in 0..100u64 {
        let all: Vec<_> = (0..64).map(|n| api.action("quick", round + n).start::<u64>().unwrap()).collect();
        for (n, result) in all.into_iter().enumerate() {
            assert_eq!(result.wait().unwrap(), round + n as u64 + 1);
        }
        most = most.max(neck.n_threads()).max(head.n_threads());
    }
    // Two that run handlers, one that reads, one that watches, and one on its way.
    assert!(most <= 6, "{most} threads");
}

/// Whoever gives way to such a thread in each call is put aside for a whole time slice in each call.
fn calls_share_their_core_with_a_thread_that_computes(kind: Kind) {
    stay_on_one_core();
    let (head, _neck) =
        kind.serving(Api::new("a").handle("quick", |_: &Context, n: u64| Ok::<_, Fault>(n + 1)).unwrap());
    let api = head.api("a");
    let time_of = |n_calls: u64| {
        let began = Instant::now();
        (0..n_calls).for_each(|n| assert_eq!(api.action("quick", n).call::<u64>().unwrap(), n + 1));
        began.elapsed()
    };
    let over = AtomicBool::new(false);
    let ratios: Vec<_> = thread::scope(|scope| {
        let ratios = (0..5).map(|_| {
            let alone = time_of(1000);
            over.store(false, Ordering::Relaxed);
            let computes = scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    std::hint::spin_loop()
                }
            });
            // The first of them find out.
            let beside = (time_of(500), time_of(1000)).1;
            over.store(true, Ordering::Relaxed);
            computes.join().unwrap();
            beside.as_secs_f64() / alone.as_secs_f64()
        });
        ratios.collect()
    });
    // Half of the core is the other thread's.
    assert!(ratios.iter().any(|ratio| *ratio < 15.0), "{ratios:.1?}");
}
