//! Inline handlers: they run on whatever thread brings the call, and keep every promise that others keep.

mod nested;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, ThreadId},
    time::{Duration, Instant},
};

use crossbeam_channel::{Receiver, Sender, unbounded};
use nape::{
    Api, CallError, CloseReason, Config, Context, Executed, Fault, FaultKind, Head, Misuse, Neck, Payload,
    Rejection, Responder, Timeout, WhenFull,
};
use serde::{Deserialize, Serialize};

use crate::{
    support::Kind,
    tools::{Gate, LONG, SOON, eventually, is_unknown, nothing_is_under_way, only},
};

on_every_link! {
    ac_01_every_verb_reaches_an_inline_handler,
    ac_02_an_inline_handler_that_takes_too_long_is_over_time,
    ac_05_a_callback_runs_once,
    ac_12_a_call_without_time_runs_no_handler,
    ac_13_many_threads_each_get_their_own_answer,
    ac_20_an_unknown_path_is_unknown_beside_inline_ones,
    ac_21_errors_arrive_as_they_were,
    ac_22_a_panic_becomes_a_fault,
    ac_24_types_that_do_not_fit_go_through_the_codec,
    ac_40_during_a_storm_no_call_is_lost,
    ac_40_what_was_replaced_or_removed_is_let_go_of,
    ac_52_an_api_that_is_detached_serves_nothing,
    ac_62_calls_beyond_the_window_wait,
    ac_65_a_deferred_answer_comes_later,
    ac_70_the_end_of_the_link_is_told_to_an_inline_handler,
    ac_75_a_shutdown_waits_for_inline_handlers,
    ac_90_the_context_says_what_it_says_elsewhere,
    ac_90_the_token_fires_at_the_deadline,
    ac_95_the_counters_count_inline_calls,
    listeners_must_not_call_inline_handlers_either,
}

fn add() -> Api {
    let add = |cx: &Context, (a, b): (u64, u64)| {
        assert!(cx.transaction().is_some() || cx.is_event());
        Ok::<_, Fault>(a + b)
    };
    Api::new("sum").inline().handle("add", add).unwrap()
}

/// A call to a handler that was called before may go another way than the first.
const AGAIN: u64 = 5;

fn ac_01_every_verb_reaches_an_inline_handler(kind: Kind) {
    let (head, neck) = kind.serving(add());
    head.attach(add()).unwrap();
    for end in [head.endpoint(), neck.endpoint()] {
        let sum = end.api("sum");
        for n in 0..AGAIN {
            let add = || sum.action("add", (n, 1u64));
            assert_eq!(add().call::<u64>().unwrap(), n + 1);
            assert_eq!(add().start::<u64>().unwrap().wait().unwrap(), n + 1);
            let (tell, told) = unbounded();
            add().then(move |end: Result<u64, _>| tell.send(end).unwrap()).unwrap();
            assert_eq!(only(&told).unwrap(), n + 1);
            add().fire().unwrap();
            assert_eq!(add().ignore_errors().call::<u64>().unwrap(), Some(n + 1));
            let done = nape::Semaphore::new(0);
            assert_eq!(add().releasing(&done).call::<u64>().unwrap(), n + 1);
            done.acquire();
        }
    }
    nothing_is_under_way(&head, &neck);
}

fn ac_02_an_inline_handler_that_takes_too_long_is_over_time(kind: Kind) {
    let nap = |_: &Context, ms: u64| Ok::<_, Fault>(thread::sleep(Duration::from_millis(ms)));
    let (head, neck) = kind.serving(Api::new("long").inline().handle("nap", nap).unwrap());
    let long = head.api("long");
    long.action("nap", 0u64).call::<()>().unwrap();
    let time = Duration::from_millis(60);
    let nap = |ms: u64| long.action("nap", ms).timeout(time);
    for outcome in [
        nap(150).call::<()>(),
        nap(150).call::<()>(),
        nap(150).start::<()>().and_then(nape::AsyncResult::wait),
        // Its type does not fit, so that it goes another way.
        nap(150).call::<Payload>().map(drop),
    ] {
        match outcome {
            Err(CallError::TimedOut { path, after, executed: Executed::Maybe }) => {
                assert_eq!(path.as_str(), "long.nap");
                assert!(after >= time, "{after:?}");
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(head.counters().timeouts, 4);
    nap(0).call::<()>().unwrap();
    nothing_is_under_way(&head, &neck);
}

fn ac_05_a_callback_runs_once(kind: Kind) {
    let (head, neck) = kind.serving(add());
    for outcome in 0..3 {
        let (tell, told) = unbounded();
        let tell = move |end: Result<u64, CallError>| tell.send(end).unwrap();
        match outcome {
            0 => head.api("sum").action("add", (1u64, 1u64)).then(tell).unwrap(),
            1 => head.api("sum").action("add", ()).then(tell).unwrap(),
            _ => head.api("sum").action("other", ()).then(tell).unwrap(),
        }
        assert_eq!(only(&told).is_ok(), outcome == 0);
    }
    nothing_is_under_way(&head, &neck);
}

fn ac_12_a_call_without_time_runs_no_handler(kind: Kind) {
    let runs = Arc::new(AtomicU64::new(0));
    let seen = runs.clone();
    let run = move |_: &Context, ()| Ok::<_, Fault>(seen.fetch_add(1, Ordering::SeqCst));
    let (head, _neck) = kind.serving(Api::new("a").inline().handle("run", run).unwrap());
    let run = || head.api("a").action("run", ());
    run().call::<u64>().unwrap();
    let a = head.api("a");
    a.action("run", ()).call::<u64>().unwrap();
    let outcome = a.action("run", ()).timeout(Duration::ZERO).call::<u64>();
    assert!(matches!(outcome, Err(CallError::TimedOut { executed: Executed::No, .. })), "{outcome:?}");
    assert!(run().timeout(Duration::ZERO).start::<u64>().is_err());
    assert_eq!(runs.load(Ordering::SeqCst), 2);
    assert_eq!(head.counters().timeouts, 2);
    assert_eq!(a.action("run", ()).timeout(Duration::MAX).call::<u64>().unwrap(), 2);
    assert_eq!(a.action("run", ()).timeout(Timeout::Never).call::<u64>().unwrap(), 3);
}

fn ac_13_many_threads_each_get_their_own_answer(kind: Kind) {
    let (head, neck) = kind.serving(add());
    head.attach(add()).unwrap();
    thread::scope(|scope| {
        for at in 0..3 {
            for end in [head.endpoint(), neck.endpoint()] {
                scope.spawn(move || {
                    let sum = end.api("sum");
                    for n in 0..150u64 {
                        assert_eq!(sum.action("add", (n, at)).call::<u64>().unwrap(), n + at);
                    }
                });
            }
        }
    });
    assert_eq!(head.counters(), neck.counters());
    assert_eq!(
        (head.counters().calls, head.counters().values, head.counters().calls_served),
        (450, 450, 450)
    );
    nothing_is_under_way(&head, &neck);
}

fn ac_20_an_unknown_path_is_unknown_beside_inline_ones(kind: Kind) {
    let (head, _neck) = kind.serving(add());
    let sum = head.api("sum");
    for _ in 0..AGAIN {
        assert!(is_unknown(&sum.action("sub", (2u64, 1u64)).call::<u64>(), "sum.sub"));
    }
}

#[derive(Debug, PartialEq, Serialize, Deserialize, thiserror::Error)]
#[error("no {0}")]
struct No(u32);

fn ac_21_errors_arrive_as_they_were(kind: Kind) {
    let api = Api::new("e").inline().handle("typed", |_: &Context, n: u32| Err::<(), _>(No(n))).unwrap();
    let plain = |_: &Context, text: String| -> Result<i32, Fault> { Ok(text.parse()?) };
    let (head, _neck) = kind.serving(api.handle("plain", plain).unwrap());
    let e = head.api("e");
    for n in 0..AGAIN as u32 {
        let error = e.action("typed", n).call::<()>().unwrap_err();
        assert_eq!(error.fault().and_then(Fault::typed::<No>), Some(No(n)));
        let error = e.action("plain", "x".to_owned()).call::<i32>().unwrap_err();
        assert!(error.fault().is_some_and(|fault| fault.message().contains("digit")), "{error:?}");
        assert_eq!(e.action("plain", "7".to_owned()).call::<i32>().unwrap(), 7);
    }
    assert_eq!(head.counters().faults, 2 * AGAIN);
}

fn ac_22_a_panic_becomes_a_fault(kind: Kind) {
    let panic = |_: &Context, n: u32| -> Result<u32, Fault> { panic!("ouch {n}") };
    let api = Api::new("p").inline().handle("panic", panic).unwrap();
    let (head, neck) = kind.serving(api.handle("fine", |_: &Context, n: u32| Ok::<_, Fault>(n)).unwrap());
    let p = head.api("p");
    for n in 0..AGAIN as u32 {
        let error = p.action("panic", n).call::<u32>().unwrap_err();
        let fault = error.fault().unwrap();
        assert_eq!((fault.kind(), fault.message()), (FaultKind::Panicked, format!("ouch {n}").as_str()));
        p.action("panic", n).fire().unwrap();
        assert!(p.action("panic", n).start::<u32>().unwrap().wait().is_err());
        assert_eq!(p.action("fine", n).call::<u32>().unwrap(), n);
    }
    eventually(|| neck.counters().handler_panics == 3 * AGAIN && neck.counters().events_failed == AGAIN);
    nothing_is_under_way(&head, &neck);
}

fn ac_24_types_that_do_not_fit_go_through_the_codec(kind: Kind) {
    if kind.is_json() {
        // It names bytes of the other codec.
        return;
    }
    let (head, _neck) = kind.serving(add());
    let sum = head.api("sum");
    for _ in 0..AGAIN {
        assert_eq!(sum.action("add", (1u64, 2u64)).call::<u64>().unwrap(), 3);
        // An array has the bytes of the tuple, and a number of another size fits by its bytes.
        assert_eq!(sum.action("add", [1u64, 2]).call::<u64>().unwrap(), 3);
        assert_eq!(sum.action("add", (1u8, 2u8)).call::<u8>().unwrap(), 3);
        let outcome = sum.action("add", "a text".to_owned()).call::<u64>();
        assert!(matches!(outcome, Err(CallError::Rejected(Rejection::BadArguments { .. }))), "{outcome:?}");
        assert!(matches!(sum.action("add", (1u64, 2u64)).call::<()>(), Err(CallError::Decode(_))));
        let raw = sum.action("add", Payload::from_bytes(vec![4, 5])).call::<Payload>().unwrap();
        assert_eq!(raw.bytes(), [9].as_slice());
    }
}

fn ac_40_during_a_storm_no_call_is_lost(kind: Kind) {
    let api = |n: u64| move |_: &Context, ()| Ok::<_, Fault>(n);
    let (head, neck) = kind.serving(Api::new("other"));
    let attached = neck.attach(Api::new("a").inline().handle("x", api(0)).unwrap()).unwrap();
    let stop = AtomicBool::new(false);
    let (head, stop) = (&head, &stop);
    thread::scope(|scope| {
        let callers: Vec<_> = (0..3)
            .map(|_| {
                scope.spawn(move || {
                    let (a, mut last) = (head.api("a"), 0);
                    while !stop.load(Ordering::Relaxed) {
                        let n = a.action("x", ()).call::<u64>().unwrap();
                        assert!(n >= last, "{n} after {last}");
                        last = n;
                    }
                })
            })
            .collect();
        for n in 1..100 {
            attached.replace("x", api(n)).unwrap();
            assert!(head.api("a").action("x", ()).call::<u64>().unwrap() == n);
        }
        stop.store(true, Ordering::Relaxed);
        callers.into_iter().for_each(|caller| caller.join().unwrap());
    });
    let a = head.api("a");
    assert_eq!(a.action("x", ()).call::<u64>().unwrap(), 99);
    attached.remove("x").unwrap();
    assert!(is_unknown(&a.action("x", ()).call::<u64>(), "a.x"));
    attached.handle("x", api(7)).unwrap();
    for _ in 0..AGAIN {
        assert_eq!(a.action("x", ()).call::<u64>().unwrap(), 7);
    }
}

fn ac_40_what_was_replaced_or_removed_is_let_go_of(kind: Kind) {
    let (head, neck) = kind.serving(Api::new("other"));
    let held = Arc::new(());
    let holding = |held: &Arc<()>| {
        let held = held.clone();
        move |_: &Context, ()| Ok::<_, Fault>(Arc::strong_count(&held) > 0)
    };
    let attached = neck.attach(Api::new("a").inline().handle("x", holding(&held)).unwrap()).unwrap();
    let a = head.api("a");
    let call = || (0..AGAIN).for_each(|_| assert!(a.action("x", ()).call::<bool>().unwrap()));
    call();
    assert_eq!(Arc::strong_count(&held), 2);
    drop(attached.replace("x", holding(&held)).unwrap());
    eventually(|| Arc::strong_count(&held) == 2);
    call();
    drop(attached.remove("x").unwrap());
    eventually(|| Arc::strong_count(&held) == 1);
    attached.handle("x", holding(&held)).unwrap();
    call();
    attached.detach();
    eventually(|| Arc::strong_count(&held) == 1);
    neck.attach(Api::new("a").inline().handle("x", holding(&held)).unwrap()).unwrap();
    call();
    drop(neck);
    eventually(|| Arc::strong_count(&held) == 1);
    assert!(matches!(a.action("x", ()).call::<bool>(), Err(CallError::Closed { .. })));
}

fn ac_52_an_api_that_is_detached_serves_nothing(kind: Kind) {
    let (head, neck) = kind.serving(Api::new("other"));
    for _ in 0..3 {
        let attached = neck.attach(add()).unwrap();
        let sum = head.api("sum");
        for n in 0..AGAIN {
            assert_eq!(sum.action("add", (n, n)).call::<u64>().unwrap(), 2 * n);
        }
        attached.detach();
        for _ in 0..AGAIN {
            assert!(is_unknown(&sum.action("add", (1u64, 1u64)).call::<u64>(), "sum.add"));
        }
        assert_eq!(attached.depth(), (0, 0));
    }
}

fn ac_62_calls_beyond_the_window_wait(kind: Kind) {
    let gate = Gate::default();
    let theirs = gate.clone();
    let wait = move |_: &Context, ()| Ok::<_, Fault>(theirs.pass());
    let api = Api::new("a").inline().queue(0, WhenFull::Refuse).handle("wait", wait).unwrap();
    let (head, neck) = kind.ends_with(Head::builder().config(Config::new().in_flight(2)), Neck::builder());
    let neck = neck.serve(api).unwrap().start();
    let a = head.api("a");
    thread::scope(|scope| {
        let waiting: Vec<_> = (0..3).map(|_| scope.spawn(|| a.action("wait", ()).call::<()>())).collect();
        gate.await_waiting(if matches!(kind, Kind::Channel) { 2 } else { 1 });
        eventually(|| head.under_way().0 == 3);
        assert!(neck.under_way().1 <= 2);
        gate.open();
        waiting.into_iter().for_each(|call| call.join().unwrap().unwrap());
    });
    nothing_is_under_way(&head, &neck);
}

fn ac_65_a_deferred_answer_comes_later(kind: Kind) {
    let (keep, kept): (Sender<Responder<u32>>, Receiver<Responder<u32>>) = unbounded();
    let later = move |_: Context, _: (), answer: Responder<u32>| keep.send(answer).unwrap();
    let (head, neck) = kind.serving(Api::new("a").inline().deferred("later", later).unwrap());
    let a = head.api("a");
    thread::scope(|scope| {
        scope.spawn(|| kept.iter().take(4).for_each(|answer| answer.answer(5)));
        for _ in 0..2 {
            assert_eq!(a.action("later", ()).call::<u32>().unwrap(), 5);
            assert_eq!(a.action("later", ()).start::<u32>().unwrap().wait().unwrap(), 5);
        }
    });
    let call = a.action("later", ()).start::<u32>().unwrap();
    drop(kept.recv_timeout(LONG).unwrap());
    assert!(matches!(call.wait(), Err(CallError::NoAnswer)));
    nothing_is_under_way(&head, &neck);
}

/// An inline handler that waits for its end, and says what it saw.
fn waiting() -> (Api, Receiver<bool>) {
    let (tell, told) = unbounded();
    let wait = move |cx: &Context, waits: bool| {
        if waits {
            tell.send(false)?;
            let cancelled = cx.cancel_token().wait_timeout(LONG) && cx.is_cancelled();
            tell.send(cancelled)?;
        }
        Ok::<_, Fault>(())
    };
    (Api::new("a").inline().handle("wait", wait).unwrap(), told)
}

fn ac_70_the_end_of_the_link_is_told_to_an_inline_handler(kind: Kind) {
    for by_us in [true, false] {
        for before in 0..2 {
            let (api, told) = waiting();
            let (head, neck) = kind.serving(api);
            let a = head.api("a").timeout(Timeout::Never);
            (0..before).for_each(|_| a.action("wait", false).call::<()>().unwrap());
            thread::scope(|scope| {
                let call = scope.spawn(|| a.action("wait", true).call::<()>());
                assert!(!told.recv_timeout(LONG).unwrap());
                eventually(|| head.under_way() == (1, 0) && neck.under_way() == (0, 1));
                let since = Instant::now();
                if by_us {
                    head.close();
                } else {
                    neck.close();
                }
                assert!(since.elapsed() < SOON * 4, "{:?}", since.elapsed());
                assert!(told.recv_timeout(LONG).unwrap());
                match call.join().unwrap() {
                    Err(CallError::Closed { reason, executed: Executed::Maybe }) => {
                        assert_eq!(matches!(*reason, CloseReason::Local), by_us, "{reason}");
                    }
                    other => panic!("{other:?}"),
                }
            });
            let outcome = a.action("wait", false).call::<()>();
            assert!(matches!(outcome, Err(CallError::Closed { executed: Executed::No, .. })), "{outcome:?}");
            assert_eq!(head.counters().cut_off, 1);
        }
    }
}

fn ac_75_a_shutdown_waits_for_inline_handlers(kind: Kind) {
    for by_us in [true, false] {
        let gate = Gate::default();
        let theirs = gate.clone();
        let pass = move |_: &Context, waits: bool| {
            Ok::<_, Fault>(if waits {
                theirs.pass()
            })
        };
        let (head, neck) = kind.serving(Api::new("a").inline().handle("pass", pass).unwrap());
        let a = head.api("a");
        (0..AGAIN).for_each(|_| a.action("pass", false).call::<()>().unwrap());
        thread::scope(|scope| {
            let call = scope.spawn(|| a.action("pass", true).call::<()>());
            gate.await_waiting(1);
            let quiet = scope.spawn(|| if by_us { head.shut_down(LONG) } else { neck.shut_down(LONG) });
            // No more of them.
            eventually(|| match a.action("pass", false).call::<()>() {
                Err(CallError::Rejected(Rejection::ShuttingDown)) => true,
                other => {
                    other.unwrap();
                    false
                }
            });
            assert!(!quiet.is_finished());
            gate.open();
            call.join().unwrap().unwrap();
            assert!(quiet.join().unwrap());
        });
    }
}

fn ac_90_the_context_says_what_it_says_elsewhere(kind: Kind) {
    let (tell, told) = unbounded();
    let look = move |cx: &Context, ()| {
        let kept = cx.clone();
        assert_eq!(
            (cx.path().as_str(), cx.attempt(), cx.is_event()),
            ("a.look", 0, cx.transaction().is_none())
        );
        tell.send((cx.peer(), cx.transaction(), cx.remaining(), cx.is_cancelled(), thread::current().id()))?;
        drop(kept);
        Ok::<_, Fault>(())
    };
    let (head, neck) = kind.serving(Api::new("a").inline().handle("look", look).unwrap());
    let a = head.api("a");
    let mut ids = Vec::new();
    for _ in 0..AGAIN {
        a.action("look", ()).timeout(Duration::from_secs(20)).call::<()>().unwrap();
        let (peer, id, left, cancelled, thread): (_, _, _, _, ThreadId) = told.recv_timeout(LONG).unwrap();
        assert_eq!((peer, cancelled), (nape::Side::Head, false));
        let left = left.unwrap();
        assert!(left > Duration::from_secs(10) && left <= Duration::from_micros(20_000_001), "{left:?}");
        assert!(!matches!(kind, Kind::Channel) || thread == thread::current().id());
        ids.push(id.unwrap());
        a.action("look", ()).timeout(Timeout::Never).start::<()>().unwrap().wait().unwrap();
        let (_, id, left, ..) = told.recv_timeout(LONG).unwrap();
        assert_eq!(left, None);
        ids.push(id.unwrap());
        a.action("look", ()).fire().unwrap();
        assert!(told.recv_timeout(LONG).unwrap().1.is_none());
    }
    assert!(ids.windows(2).all(|pair| pair[0].counter() < pair[1].counter()), "{ids:?}");
    nothing_is_under_way(&head, &neck);
}

fn ac_90_the_token_fires_at_the_deadline(kind: Kind) {
    let (api, told) = waiting();
    let (head, neck) = kind.serving(api);
    let a = head.api("a");
    a.action("wait", false).call::<()>().unwrap();
    for way in 0..3 {
        let since = Instant::now();
        let wait = a.action("wait", true).timeout(Duration::from_millis(80));
        let outcome = match way {
            0 => wait.call::<()>(),
            1 => wait.call::<Payload>().map(drop),
            _ => wait.start::<()>().unwrap().wait(),
        };
        assert!(matches!(outcome, Err(CallError::TimedOut { .. })), "{way}: {outcome:?}");
        assert!(!told.recv_timeout(LONG).unwrap() && told.recv_timeout(LONG).unwrap());
        let took = since.elapsed();
        assert!(took >= Duration::from_millis(80) && took < SOON * 4, "{took:?}");
    }
    nothing_is_under_way(&head, &neck);
}

fn ac_95_the_counters_count_inline_calls(kind: Kind) {
    let (tell, told) = unbounded();
    let fail = move |cx: &Context, fails: bool| {
        tell.send(cx.transaction().is_some())?;
        if fails { Err(Fault::new("as told")) } else { Ok(()) }
    };
    let (head, neck) = kind.serving(Api::new("a").inline().handle("fail", fail).unwrap());
    let a = head.api("a");
    for _ in 0..AGAIN {
        a.action("fail", false).call::<()>().unwrap();
        a.action("fail", true).call::<()>().unwrap_err();
        a.action("fail", false).fire().unwrap();
        a.action("fail", true).fire().unwrap();
    }
    (0..4 * AGAIN).for_each(|_| assert!(told.recv_timeout(LONG).is_ok()));
    eventually(|| neck.counters().events_failed == AGAIN);
    let (ours, theirs) = (head.counters(), neck.counters());
    assert_eq!((ours.calls, ours.values, ours.faults, ours.events_sent), (10, 5, 5, 10));
    assert_eq!((theirs.calls_served, theirs.events_served, theirs.handler_panics), (10, 10, 0));
}

fn listeners_must_not_call_inline_handlers_either(kind: Kind) {
    let (head, _neck) = kind.serving(add());
    let sum = head.api("sum");
    (0..AGAIN).for_each(|n| assert_eq!(sum.action("add", (n, 0u64)).call::<u64>().unwrap(), n));
    let (tell, told) = unbounded();
    head.on_state(move |_| tell.send(sum.action("add", (1u64, 1u64)).call::<u64>()).unwrap());
    let outcome = told.recv_timeout(LONG).unwrap();
    assert!(matches!(outcome, Err(CallError::Misuse(Misuse::WouldDeadlock { .. }))), "{outcome:?}");
}

#[test]
fn in_process_nothing_is_encoded_and_the_value_is_the_same() {
    #[derive(Clone)]
    struct Whole(Arc<u32>);
    impl Serialize for Whole {
        fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
            panic!("it is encoded")
        }
    }
    impl<'de> Deserialize<'de> for Whole {
        fn deserialize<D: serde::Deserializer<'de>>(_: D) -> Result<Whole, D::Error> {
            panic!("it is decoded")
        }
    }
    let pass = |_: &Context, whole: Whole| Ok::<_, Fault>(whole);
    let (head, _neck) = Kind::Channel.serving(Api::new("a").inline().handle("pass", pass).unwrap());
    let (a, whole) = (head.api("a"), Whole(Arc::new(5)));
    for _ in 0..AGAIN {
        let back = a.action("pass", whole.clone()).call::<Whole>().unwrap();
        assert!(Arc::ptr_eq(&whole.0, &back.0));
        let back = a.action("pass", whole.clone()).start::<Whole>().unwrap().wait().unwrap();
        assert!(Arc::ptr_eq(&whole.0, &back.0));
    }
}

#[cfg(feature = "macros")]
mod of_a_trait {
    use super::*;

    #[nape::api("whose", inline)]
    trait Whose {
        fn thread(&self) -> Option<String>;
        #[event]
        fn told(&self, n: u32);
    }

    struct Me(Sender<u32>);

    impl Whose for Me {
        fn thread(&self) -> Option<String> {
            thread::current().name().map(str::to_owned)
        }
        fn told(&self, n: u32) {
            self.0.send(n).unwrap();
        }
    }

    #[test]
    fn the_attribute_makes_its_methods_inline() {
        let (tell, told) = unbounded();
        let (head, _neck) = Kind::Channel.serving(Me(tell).into_api());
        let whose = WhoseClient::on(&head);
        for n in 0..AGAIN as u32 {
            assert_eq!(whose.thread().call().unwrap().as_deref(), thread::current().name());
            whose.told(n).fire().unwrap();
            assert_eq!(told.try_recv(), Ok(n));
        }
    }
}
