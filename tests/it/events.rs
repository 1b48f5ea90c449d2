//! Events: no transaction, no answer, and in order.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use crossbeam_channel::{Receiver, Sender, unbounded};
use nape::{Api, CallError, Codec, Config, Context, Fault, Head, Neck, Payload, Rejection, Report};

use crate::{
    support::Kind,
    tools::{Gate, LONG, SOON, patiently, until, within},
};

/// An API with one worker whose handler `note` passes on what comes.
fn notes(queue: usize) -> (Api, Receiver<u64>) {
    let (noted, notes) = unbounded();
    let api = Api::new("log")
        .workers(1)
        .queue(queue, nape::WhenFull::Refuse)
        .handle("note", move |_: &Context, n: u64| {
            noted.send(n).unwrap();
            Ok::<_, Fault>(())
        })
        .unwrap();
    (api, notes)
}

fn assert_counts_up(notes: &Receiver<u64>, n: u64) {
    for wanted in 0..n {
        assert_eq!(notes.recv_timeout(LONG), Ok(wanted));
    }
    assert!(notes.try_recv().is_err(), "more than was sent");
}

fn ac_30_fire_returns_at_once_and_makes_no_transaction(kind: Kind) {
    let (head, neck) = kind.ends();
    let (gate, behind) = (Gate::default(), Gate::default());
    let theirs = (gate.clone(), behind.clone());
    let api = Api::new("a").handle("wait", move |cx: &Context, _: ()| {
        assert!(cx.is_event() && cx.transaction().is_none() && cx.remaining().is_none());
        theirs.0.pass();
        theirs.1.open();
        Ok::<_, Fault>(())
    });
    let neck = neck.serve(api.unwrap()).unwrap().start();
    head.api("a").action("wait", ()).fire().unwrap();
    gate.await_waiting(1);
    assert_eq!((head.under_way(), neck.under_way()), ((0, 0), (0, 0)));
    gate.open();
    behind.pass();
    let (ours, theirs) = (head.counters(), neck.counters());
    assert_eq!((ours.events_sent, ours.calls, theirs.events_served, theirs.calls_served), (1, 0, 1, 0));
}

fn ac_30_the_failure_of_an_event_goes_to_the_hook_of_its_receiver(kind: Kind) {
    let (head, neck) = kind.ends();
    let (reports, ours) = (hook(&neck), hook(&head));
    let api = Api::new("a")
        .workers(1)
        .handle("fail", |_: &Context, _: ()| Err::<(), _>(Fault::new("no luck")))
        .unwrap()
        .handle("panic", |_: &Context, _: ()| -> Result<(), Fault> { panic!("what now") })
        .unwrap();
    let neck = neck.serve(api).unwrap().start();
    let api = head.api("a");
    api.action("fail", ()).fire().unwrap();
    api.action("panic", ()).fire().unwrap();
    api.action("fail", "not a unit".to_owned()).fire().unwrap();
    api.action("nothing", ()).fire().unwrap();
    let mut said: Vec<_> = (0..4).map(|_| text(&reports.recv_timeout(LONG).unwrap())).collect();
    said.sort();
    assert!(said[0].starts_with("dropped a.nothing: no handler for a.nothing"), "{said:?}");
    assert!(said[1].starts_with("failed a.fail: bad arguments for a.fail"), "{said:?}");
    assert!(said[2].starts_with("failed a.fail: no luck"), "{said:?}");
    assert!(said[3].starts_with("failed a.panic: ") && said[3].contains("what now"), "{said:?}");
    let counters = neck.counters();
    assert_eq!((counters.events_failed, counters.events_dropped, counters.handler_panics), (3, 1, 1));
    assert!(ours.try_recv().is_err(), "the sender of an event heard of its failure");
}

fn hook(end: &nape::Endpoint) -> Receiver<Report> {
    let (tell, told) = unbounded();
    end.on_error(move |report| tell.send(report.clone()).unwrap());
    told
}

fn text(report: &Report) -> String {
    match report {
        Report::EventFailed { path, error } => format!("failed {path}: {error}"),
        Report::EventDropped { path, error } => format!("dropped {path}: {error}"),
        other => format!("{other:?}"),
    }
}

fn ac_30_an_event_that_cannot_leave_says_so(kind: Kind) {
    let (head, neck) = kind.ends_with(Head::builder().config(Config::new().send_queue(8)), Neck::builder());
    let api = head.api("a");
    // The Neck has not started, so that everything waits here.
    (0..8).for_each(|n| api.action("e", n).fire().unwrap());
    let ninth = api.action("e", 8).fire();
    assert!(matches!(ninth, Err(CallError::Rejected(Rejection::Busy { .. }))), "{ninth:?}");
    assert!(matches!(api.action("..", ()).fire(), Err(CallError::Misuse(_))));
    head.close();
    assert!(matches!(api.action("e", 9).fire(), Err(CallError::Closed { .. })));
    let counters = head.counters();
    assert_eq!((counters.events_sent, counters.events_unsent), (8, 10), "eight were cut off, two refused");
    drop(neck);
}

fn ac_31_events_to_one_worker_arrive_in_order(kind: Kind) {
    let (head, neck) = kind.ends();
    let (api, notes) = notes(100_000);
    let neck = neck.serve(api).unwrap().start();
    let log = head.api("log");
    for n in 0..20_000u64 {
        patiently(|| log.action("note", n).fire());
    }
    assert_counts_up(&notes, 20_000);
    assert_eq!(neck.counters().events_dropped, 0);
}

/// Calls go another way than events inside, and must not overtake them there.
fn ac_31_calls_and_events_of_one_thread_keep_their_order(kind: Kind) {
    let (head, neck) = kind.ends();
    let (api, notes) = notes(100_000);
    let _neck = neck.serve(api).unwrap().start();
    let log = head.api("log");
    let mut started = Vec::new();
    for n in (0..4000u64).step_by(4) {
        patiently(|| log.action("note", n).fire());
        started.push(patiently(|| log.action("note", n + 1).start::<()>()));
        patiently(|| log.action("note", n + 2).then(|end: Result<(), CallError>| end.unwrap()));
        if n % 64 == 0 {
            log.action("note", n + 3).call::<()>().unwrap();
        } else {
            patiently(|| log.action("note", n + 3).fire());
        }
    }
    started.into_iter().for_each(|call| call.wait().unwrap());
    assert_counts_up(&notes, 4000);
}

/// A catch-all with a predicate has user code before its queue.
fn ac_31_events_to_a_predicate_arrive_in_order(kind: Kind) {
    let (head, neck) = kind.ends();
    let (noted, notes) = unbounded();
    let api = Api::new("log").workers(1).queue(100_000, nape::WhenFull::Refuse);
    let api = api.catch_some("", |_| true, counting(&noted)).unwrap();
    let _neck = neck.serve(api).unwrap().start();
    // No more than may wait for a predicate.
    for n in 0..1000u64 {
        patiently(|| head.api("log").action("note", n).fire());
    }
    assert_counts_up(&notes, 1000);
}

/// A large message leaves in parts, between which others go; events keep their order all the same.
fn ac_31_a_small_event_does_not_overtake_a_large_one(kind: Kind) {
    let (head, neck) = kind.ends();
    let (noted, notes) = unbounded();
    let note = move |_: &Context, (n, _): (u64, Vec<u8>)| {
        noted.send(n).unwrap();
        Ok::<_, Fault>(())
    };
    let api = Api::new("log").workers(1).queue(10_000, nape::WhenFull::Refuse).handle("note", note);
    let _neck = neck.serve(api.unwrap()).unwrap().start();
    for n in 0..300u64 {
        let len = if n % 3 == 0 { 150_000 } else { 10 };
        patiently(|| head.api("log").action("note", (n, vec![0u8; len])).fire());
    }
    assert_counts_up(&notes, 300);
}

fn counting(noted: &Sender<u64>) -> impl Fn(&Context, Payload) -> Result<Payload, Fault> + use<> {
    let noted = noted.clone();
    move |cx, payload| {
        let n = match cx.codec() {
            Codec::Binary => number(&payload),
            _ => String::from_utf8_lossy(&payload.bytes()).parse().unwrap(),
        };
        noted.send(n).unwrap();
        Ok(payload)
    }
}

/// A number as the codec has it: below 251 a byte, below 65,536 a mark and two bytes.
fn number(payload: &Payload) -> u64 {
    match *payload.bytes() {
        [n] => n.into(),
        [251, low, high] => u16::from_le_bytes([low, high]).into(),
        ref other => panic!("{other:?} is no number"),
    }
}

/// Who took a path, as the answer of a catch-all.
fn caught_by(who: &'static str) -> impl Fn(&Context, Payload) -> Result<Payload, Fault> {
    move |cx, _| Ok(Payload::from_bytes(format!("{who} {}", cx.path()).into_bytes()))
}

fn catcher_of(end: &nape::Endpoint, path: &str) -> String {
    let answer: Payload = end.api(path).action("", ()).call().unwrap();
    String::from_utf8(answer.into_bytes()).unwrap()
}

fn ac_32_a_catch_all_gets_what_nothing_more_specific_takes(kind: Kind) {
    let (head, neck) = kind.ends();
    let api = Api::new("a")
        .handle("b.c", |cx: &Context, _: ()| {
            Ok::<_, Fault>(Payload::from_bytes(format!("c {}", cx.path()).into()))
        })
        .unwrap()
        .catch_all("b", caught_by("b"))
        .unwrap()
        .catch_all("b.d", caught_by("d"))
        .unwrap()
        .otherwise(caught_by("a"))
        .unwrap();
    let _neck = neck.serve(api).unwrap().start();
    for (path, catcher) in [
        ("a.b.c", "c"),
        ("a.b", "b"),
        ("a.b.x", "b"),
        ("a.b.c.x", "b"),
        ("a.b.d", "d"),
        ("a.b.d.x.y", "d"),
        ("a.bc", "a"),
        ("a", "a"),
        ("a.x.y.z", "a"),
    ] {
        assert_eq!(catcher_of(&head, path), format!("{catcher} {path}"));
    }
    let beside = head.api("ab").action("x", ()).call::<()>();
    assert!(crate::tools::is_unknown(&beside, "ab.x"), "{beside:?}");
}

fn ac_32_a_catch_all_gets_events_too(kind: Kind) {
    let (head, neck) = kind.ends();
    let (tell, told) = unbounded();
    let api = Api::new("a").otherwise(move |cx, payload| {
        tell.send((cx.path().to_string(), cx.is_event(), payload.bytes().to_vec())).unwrap();
        Ok(payload)
    });
    let neck = neck.serve(api.unwrap()).unwrap().start();
    head.api("a.deep").action("down", 7u8).fire().unwrap();
    assert_eq!(
        told.recv_timeout(LONG),
        Ok(("a.deep.down".to_owned(), true, vec![if kind.is_json() { b'7' } else { 7 }]))
    );
    assert_eq!(neck.counters().events_dropped, 0);
}

fn ac_32_the_fallbacks_can_be_replaced(kind: Kind) {
    let (head, neck) = kind.ends();
    let api = neck.attach(Api::new("a").otherwise(caught_by("first")).unwrap()).unwrap();
    let neck = neck.start();
    neck.on_unhandled(caught_by("link"));
    assert_eq!(catcher_of(&head, "a.x"), "first a.x");
    assert_eq!(catcher_of(&head, "b.x"), "link b.x");
    assert!(api.replace_catch_all("", caught_by("second")).unwrap().is_some());
    assert!(api.replace_catch_all("deep", caught_by("deep")).unwrap().is_none());
    neck.on_unhandled(caught_by("other"));
    assert_eq!(catcher_of(&head, "a.x"), "second a.x");
    assert_eq!(catcher_of(&head, "a.deep.x"), "deep a.deep.x");
    assert_eq!(catcher_of(&head, "b.x"), "other b.x");
    api.detach();
    assert_eq!(catcher_of(&head, "a.deep.x"), "other a.deep.x");
}

fn ac_32_the_listener_for_the_unhandled_gets_every_event(kind: Kind) {
    let (head, neck) = kind.ends();
    let (noted, notes) = unbounded();
    neck.on_unhandled(counting(&noted));
    let neck = neck.start();
    for n in 0..1000u64 {
        patiently(|| head.api("nobody").action("home", n).fire());
    }
    let mut seen: Vec<_> = (0..1000).map(|_| notes.recv_timeout(LONG).unwrap()).collect();
    seen.sort();
    assert_eq!(seen, (0..1000).collect::<Vec<_>>());
    assert_eq!(neck.counters().events_dropped, 0);
}

/// Whoever listens to everything must not be a way to make a side start threads without end.
fn ac_32_a_slow_listener_for_the_unhandled_costs_few_threads(kind: Kind) {
    let (head, neck) = kind.ends();
    let gate = Gate::default();
    let theirs = gate.clone();
    neck.on_unhandled(move |_, payload| {
        theirs.pass();
        Ok(payload)
    });
    let neck = neck.start();
    for n in 0..200 {
        patiently(|| head.api("nobody").action("home", n).fire());
    }
    until("all have come", || neck.counters().events_served == 200);
    gate.await_waiting(1);
    let threads = neck.n_threads();
    gate.open();
    assert!(threads < 20, "{threads} threads for 200 events");
}

fn events_fired_just_before_the_end_arrive(kind: Kind) {
    let (head, neck) = kind.ends();
    let (api, notes) = notes(100_000);
    let neck = neck.serve(api).unwrap().start();
    for n in 0..3000u64 {
        patiently(|| head.api("log").action("note", n).fire());
    }
    drop(head);
    assert_counts_up(&notes, 3000);
    neck.wait().unwrap();
}

fn events_of_a_neck_fired_just_before_its_end_arrive(kind: Kind) {
    let (head, neck) = kind.ends();
    let (api, notes) = notes(100_000);
    head.attach(api).unwrap();
    let neck = neck.start();
    for n in 0..3000u64 {
        patiently(|| neck.api("log").action("note", n).fire());
    }
    drop(neck);
    assert_counts_up(&notes, 3000);
    within(SOON, "the Head saw the end", || head.close_reason().is_some());
}

/// Red when a thread that is left in a handler at the end goes on with the events behind that.
fn p_24_no_event_begins_after_its_end_has_been_dropped(kind: Kind) {
    let config = || Config::new().grace(Duration::from_millis(50));
    let (head, neck) = kind.ends_with(Head::builder().config(config()), Neck::builder().config(config()));
    let (gate, begun) = (Gate::default(), Arc::new(AtomicUsize::new(0)));
    let (theirs, count, stopped) = (gate.clone(), begun.clone(), Arc::new(AtomicBool::new(false)));
    let stop = stopped.clone();
    let api = Api::new("a").workers(2).on_stop(move || stop.store(true, Ordering::SeqCst));
    let api = api.handle("wait", move |_: &Context, (): ()| {
        count.fetch_add(1, Ordering::SeqCst);
        theirs.pass();
        Ok::<_, Fault>(())
    });
    let neck = neck.serve(api.unwrap()).unwrap().start();
    for _ in 0..20 {
        patiently(|| head.api("a").action("wait", ()).fire());
    }
    until("all have come", || neck.counters().events_served == 20);
    gate.await_waiting(2);
    let left = neck.endpoint().clone();
    drop(neck);
    drop(head);
    assert!(stopped.load(Ordering::SeqCst));
    gate.open();
    let ends = || (begun.load(Ordering::SeqCst), left.counters().events_dropped);
    until("all have begun or were dropped", || ends().0 as u64 + ends().1 == 20);
    assert_eq!(ends(), (2, 18));
}

on_every_link! {
    p_24_no_event_begins_after_its_end_has_been_dropped,
    ac_30_fire_returns_at_once_and_makes_no_transaction,
    ac_30_the_failure_of_an_event_goes_to_the_hook_of_its_receiver,
    ac_30_an_event_that_cannot_leave_says_so,
    ac_31_events_to_one_worker_arrive_in_order,
    ac_31_calls_and_events_of_one_thread_keep_their_order,
    ac_31_events_to_a_predicate_arrive_in_order,
    ac_31_a_small_event_does_not_overtake_a_large_one,
    ac_32_a_catch_all_gets_what_nothing_more_specific_takes,
    ac_32_a_catch_all_gets_events_too,
    ac_32_the_fallbacks_can_be_replaced,
    ac_32_the_listener_for_the_unhandled_gets_every_event,
    ac_32_a_slow_listener_for_the_unhandled_costs_few_threads,
    events_fired_just_before_the_end_arrive,
    events_of_a_neck_fired_just_before_its_end_arrive,
}
