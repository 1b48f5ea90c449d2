//! Arbitration: several APIs on one link, who owns which path, and how they come and go.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
};

use nape::{Api, ApiError, CallError, Context, Endpoint, Fault, Path, Payload, Rejection, WhenFull};

use crate::{
    support::Kind,
    tools::{Gate, is_unknown, until},
};

fn path(text: &str) -> Path {
    Path::new(text).unwrap()
}

fn numbered(namespace: &str, n: u64) -> Api {
    Api::new(namespace).handle("who", move |_: &Context, ()| Ok::<_, Fault>(n)).unwrap()
}

fn who(end: &Endpoint, namespace: &str) -> Result<u64, CallError> {
    end.api(namespace).action("who", ()).call()
}

fn ac_50_each_call_reaches_its_owner(kind: Kind) {
    const APIS: u64 = 40;
    let (head, neck) = kind.ends();
    for n in 0..APIS {
        neck.attach(numbered(&format!("api{n}"), n)).unwrap();
        head.attach(numbered(&format!("api{n}"), 1000 + n)).unwrap();
    }
    let neck = neck.start();
    thread::scope(|scope| {
        for seed in 0..4 {
            let (head, neck) = (&head, &neck);
            scope.spawn(move || {
                for round in 0..500 {
                    let n = (round * 7 + seed) % APIS;
                    assert_eq!(who(head, &format!("api{n}")).unwrap(), n);
                    assert_eq!(who(neck, &format!("api{n}")).unwrap(), 1000 + n);
                }
            });
        }
    });
    assert!(is_unknown(&who(&head, "api40"), "api40.who"));
}

fn caught(by: u8, runs: &Arc<AtomicU64>) -> impl Fn(&Context, Payload) -> Result<Payload, Fault> + use<> {
    let runs = runs.clone();
    move |_, _| {
        runs.fetch_add(1, Ordering::Relaxed);
        Ok(Payload::from_bytes(vec![by]))
    }
}

#[test]
fn ac_51_two_apis_that_claim_one_path_are_refused_when_attaching() {
    let (_head, neck) = Kind::Channel.ends();
    let runs = Arc::default();
    let first = Api::new("a").handle("b.c", |_: &Context, ()| Ok::<_, Fault>(1u64)).unwrap();
    neck.attach(first.catch_all("b", caught(1, &runs)).unwrap()).unwrap();
    let claimed = |at: &str| ApiError::Claimed { path: path(at), owner: path("a") };

    let exact = Api::new("a.b").handle("free", |_: &Context, ()| Ok::<_, Fault>(2u64)).unwrap();
    let exact = exact.handle("c", |_: &Context, ()| Ok::<_, Fault>(2u64)).unwrap();
    assert_eq!(neck.attach(exact).unwrap_err(), claimed("a.b.c"));
    assert_eq!(neck.arb().owner_of("a.b.free"), None, "half of an API that was refused is served");

    let catch_all = Api::new("").catch_all("a.b", caught(2, &runs)).unwrap();
    assert_eq!(neck.attach(catch_all).unwrap_err(), claimed("a.b"));
    assert!(neck.attach(Api::new("a.b").otherwise(caught(2, &runs)).unwrap()).is_err());
    let twice = Api::new("x").otherwise(caught(1, &runs)).unwrap().otherwise(caught(2, &runs));
    assert_eq!(twice.unwrap_err(), ApiError::Taken { path: path("x") });

    // Neither of these is the same path as another.
    neck.attach(Api::new("a.b").handle("d", |_: &Context, ()| Ok::<_, Fault>(3u64)).unwrap()).unwrap();
    neck.attach(Api::new("a").catch_all("b.c", caught(3, &runs)).unwrap()).unwrap();
    neck.attach(Api::new("").otherwise(caught(4, &runs)).unwrap()).unwrap();
    neck.attach(Api::new("a").catch_some("b", |_| false, caught(5, &runs)).unwrap()).unwrap();
    let owners: Vec<_> =
        neck.arb().list().iter().map(|it| format!("{} {} {}", it.path, it.owner, it.catch_all)).collect();
    let wanted = [
        "(root) (root) true",
        "a.b a true",
        "a.b a true",
        "a.b.c a false",
        "a.b.c a true",
        "a.b.d a.b false",
    ];
    assert_eq!(owners, wanted);
}

fn ac_51_predicates_that_collide_make_a_call_ambiguous(kind: Kind) {
    let (head, neck) = kind.ends();
    let runs = Arc::new(AtomicU64::new(0));
    let starts = |prefix: &'static str| move |path: &str| path.starts_with(prefix);
    for (by, prefix) in [(1, "a.x"), (2, "a.xy"), (3, "a.xyz")] {
        let api = Api::new("a").catch_some("", starts(prefix), caught(by, &runs)).unwrap();
        neck.attach(api).unwrap();
    }
    let neck = neck.start();
    let call = |path: &str| head.api(path).action("", ()).call::<Payload>();
    assert_eq!(call("a.x").unwrap().into_bytes(), [1]);
    assert!(is_unknown(&call("a.other"), "a.other"));
    assert_eq!(runs.load(Ordering::Relaxed), 1);
    for (at, n) in [("a.xy", 2), ("a.xyz.deep", 3)] {
        match call(at) {
            Err(CallError::Rejected(Rejection::Ambiguous { path, count })) => {
                assert_eq!((path.as_str(), count), (at, n));
            }
            other => panic!("{at}: {other:?}"),
        }
    }
    assert_eq!(runs.load(Ordering::Relaxed), 1, "a handler ran for an ambiguous call");
    head.api("a").action("xy", ()).fire().unwrap();
    until("the event is dropped", || neck.counters().events_dropped == 1);
    assert_eq!(runs.load(Ordering::Relaxed), 1, "a handler ran for an ambiguous event");
}

fn ac_51_a_predicate_stands_before_a_catch_all_and_behind_a_handler(kind: Kind) {
    let (head, neck) = kind.ends();
    let runs = Arc::new(AtomicU64::new(0));
    let exact = |_: &Context, _: Payload| Ok::<_, Fault>(Payload::from_bytes(vec![0]));
    let api = Api::new("a")
        .handle("exact", exact)
        .unwrap()
        .catch_some("", |path| path != "a.plain", caught(1, &runs))
        .unwrap()
        .otherwise(caught(2, &runs))
        .unwrap();
    let some = neck.attach(Api::new("a").catch_some("n", |_| panic!("no idea"), caught(3, &runs)).unwrap());
    neck.attach(api).unwrap();
    let _neck = neck.start();
    let call = |path: &str| head.api("a").action(path, ()).call::<Payload>().map(Payload::into_bytes);
    assert_eq!(call("exact").unwrap(), [0]);
    assert_eq!(call("plain").unwrap(), [2]);
    assert_eq!(call("other").unwrap(), [1]);
    assert!(is_unknown(&call("n.x"), "a.n.x"), "a predicate that panics takes nothing");
    some.unwrap().detach();
    assert_eq!(call("n.x").unwrap(), [1]);
}

fn ac_52_apis_come_and_go_while_calls_run(kind: Kind) {
    let (head, neck) = kind.ends();
    neck.attach(numbered("stays", 1)).unwrap();
    let neck = neck.start();
    let over = AtomicBool::new(false);
    let ends = thread::scope(|scope| {
        let caller = |namespace: &'static str| {
            let (head, over) = (&head, &over);
            scope.spawn(move || {
                let mut ends = Vec::new();
                while !over.load(Ordering::Relaxed) {
                    ends.push(who(head, namespace));
                }
                ends
            })
        };
        let (stays, goes) = ([caller("stays"), caller("stays")], [caller("goes"), caller("goes")]);
        for n in 0..300 {
            let api = neck.attach(numbered("goes", n)).unwrap();
            assert_eq!(who(&head, "goes").unwrap(), n);
            api.detach();
            assert!(is_unknown(&who(&head, "goes"), "goes.who"));
        }
        over.store(true, Ordering::Relaxed);
        let join = |threads: [thread::ScopedJoinHandle<'_, Vec<_>>; 2]| {
            threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
        };
        (join(stays), join(goes))
    });
    assert!(ends.0.iter().all(|end| matches!(end, Ok(1))));
    for end in ends.1 {
        assert!(matches!(end, Ok(n) if n < 300) || is_unknown(&end, "goes.who"), "{end:?}");
    }
    assert_eq!((head.under_way(), neck.under_way()), ((0, 0), (0, 0)));
}

/// An API of one worker, which is stuck at the gate.
fn stuck(gate: &Gate) -> Api {
    let gate = gate.clone();
    let wait = move |_: &Context, n: u64| {
        gate.pass();
        Ok::<_, Fault>(n)
    };
    Api::new("slow").workers(1).handle("wait", wait).unwrap()
}

fn ac_52_what_waits_for_a_removed_api_is_answered(kind: Kind) {
    let (head, neck) = kind.ends();
    let gate = Gate::default();
    let api = neck.attach(stuck(&gate)).unwrap();
    let neck = neck.start();
    let start = |n: u64| head.api("slow").action("wait", n).start::<u64>().unwrap();
    let first = start(0);
    gate.await_waiting(1);
    let queued: Vec<_> = (1..=20).map(start).collect();
    head.api("slow").action("wait", 21u64).fire().unwrap();
    until("all wait", || api.depth() == (1, 21));
    api.detach();
    for call in queued {
        assert!(is_unknown(&call.wait(), "slow.wait"));
    }
    assert!(!first.is_done(), "what ran when its API went goes on");
    until("the event is counted", || neck.counters().events_dropped == 1);
    gate.open();
    assert_eq!(first.wait().unwrap(), 0);
    assert_eq!(neck.under_way(), (0, 0));
}

/// A call may be on its way to the queue of an API at the very moment at which it goes.
fn ac_52_a_call_that_races_with_a_detach_is_answered(kind: Kind) {
    let (head, neck) = kind.ends();
    let neck = neck.start();
    for n in 0..200u64 {
        let api = neck.attach(numbered("goes", n)).unwrap();
        let calls: Vec<_> =
            (0..4).map(|_| head.api("goes").action("who", ()).start::<u64>().unwrap()).collect();
        thread::scope(|scope| {
            scope.spawn(|| api.detach());
            for call in calls {
                let end = call.wait();
                assert!(matches!(end, Ok(m) if m == n) || is_unknown(&end, "goes.who"), "{end:?}");
            }
        });
    }
}

fn ac_53_a_saturated_api_does_not_delay_another(kind: Kind) {
    for when_full in [WhenFull::Refuse, WhenFull::Wait] {
        let (head, neck) = kind.ends();
        let gate = Gate::default();
        let neck = neck.serve(stuck(&gate).queue(64, when_full)).unwrap();
        let neck = neck.serve(numbered("quick", 1)).unwrap().start();
        let slow = head.api("slow");
        // More than its queue holds, and many times what the window of a link lets through at once.
        let waiting: Vec<_> = (0..900u64).map(|n| slow.action("wait", n).start::<u64>().unwrap()).collect();
        for _ in 0..300 {
            assert_eq!(who(&head, "quick").unwrap(), 1);
        }
        gate.await_waiting(1);
        let n_busy = if when_full == WhenFull::Refuse { 900 - 65 } else { 0 };
        until("what is too much is refused", || head.counters().rejections == n_busy);
        assert_eq!(neck.counters().calls_served, 900 + 300);
        gate.open();
        let answered = waiting.into_iter().filter_map(|call| call.wait().ok()).count() as u64;
        assert_eq!(answered, 900 - n_busy);
    }
}

/// Each quick call stands behind a crowd of slow ones on the wire.
fn ac_53_quick_calls_from_many_threads_pass_slow_ones(kind: Kind) {
    let (head, neck) = kind.ends();
    let gate = Gate::default();
    let neck = neck.serve(stuck(&gate).queue(4, WhenFull::Refuse)).unwrap();
    let _neck = neck.serve(numbered("quick", 1)).unwrap().start();
    let (head, slow) = (&head, head.api("slow"));
    thread::scope(|scope| {
        for _ in 0..4 {
            let slow = slow.clone();
            scope.spawn(move || {
                for n in 0..100u64 {
                    for _ in 0..5 {
                        slow.action("wait", n).then(|_: Result<u64, CallError>| ()).unwrap();
                    }
                    assert_eq!(who(head, "quick").unwrap(), 1);
                }
            });
        }
    });
    gate.open();
}

on_every_link! {
    ac_50_each_call_reaches_its_owner,
    ac_51_predicates_that_collide_make_a_call_ambiguous,
    ac_51_a_predicate_stands_before_a_catch_all_and_behind_a_handler,
    ac_52_apis_come_and_go_while_calls_run,
    ac_52_what_waits_for_a_removed_api_is_answered,
    ac_52_a_call_that_races_with_a_detach_is_answered,
    ac_53_a_saturated_api_does_not_delay_another,
    ac_53_quick_calls_from_many_threads_pass_slow_ones,
}
