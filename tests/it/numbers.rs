//! Numbers that a user can read: nothing that was dropped, ignored or refused goes uncounted.

use std::{sync::Arc, thread, time::Duration};

use nape::{Api, CallError, Config, Context, Counters, Fault, Head, Neck, Report, Timeout, WhenFull};

use crate::{
    support::Kind,
    tools::{Gate, LONG, until},
};

/// The numbers that are not zero.
fn told(counters: Counters) -> Vec<String> {
    let all = format!("{counters:?}");
    let inside = all.trim_start_matches("Counters { ").trim_end_matches(" }");
    inside.split(", ").filter(|it| !it.ends_with(": 0")).map(str::to_owned).collect()
}

fn api(gate: &Gate) -> Api {
    let gate = gate.clone();
    let wait = move |_: &Context, n: u64| {
        gate.pass();
        Ok::<_, Fault>(n)
    };
    Api::new("a")
        .workers(1)
        .queue(2, WhenFull::Refuse)
        .handle("echo", |_: &Context, n: u64| Ok::<_, Fault>(n))
        .unwrap()
        .handle("fail", |_: &Context, n: u64| Err::<u64, _>(Fault::new(format!("{n}"))))
        .unwrap()
        .handle("panic", |_: &Context, n: u64| -> Result<u64, Fault> { panic!("{n}") })
        .unwrap()
        .handle("wait", wait)
        .unwrap()
}

fn ac_95_each_end_of_a_call_has_its_number(kind: Kind) {
    let (head, neck) = kind.ends();
    let gate = Gate::default();
    let neck = neck.serve(api(&gate)).unwrap().start();
    assert_eq!((told(head.counters()), told(neck.counters())), (vec![], vec![]));
    let a = head.api("a");
    let call = |path: &str| a.action(path, 1u64).call::<u64>();
    (0..5).for_each(|_| _ = call("echo").unwrap());
    (0..4).for_each(|_| drop(call("fail").unwrap_err()));
    call("panic").unwrap_err();
    (0..2).for_each(|_| drop(call("nothing").unwrap_err()));
    a.action("echo", "text".to_owned()).call::<u64>().unwrap_err();
    // It never leaves, and is a call all the same: as many end as are made.
    a.action("echo", 1u64).timeout(Duration::ZERO).call::<u64>().unwrap_err();

    let stuck = a.action("wait", 1u64).start::<u64>().unwrap();
    gate.await_waiting(1);
    let late = a.action("echo", 1u64).timeout(Duration::from_millis(20)).call::<u64>();
    assert!(matches!(late, Err(CallError::TimedOut { .. })));
    a.action("echo", 1u64).start::<u64>().unwrap().cancel();
    call("nothing").unwrap_err();
    gate.open();
    stuck.wait().unwrap();
    let pending = a.action("echo", 1u64).timeout(Timeout::Never);
    until("nothing is left over", || neck.under_way() == (0, 0));
    assert_eq!(
        told(head.counters()),
        ["calls: 18", "values: 6", "faults: 5", "rejections: 4", "timeouts: 2", "cancels: 1"]
    );
    let served =
        ["calls_served: 17", "unhandled: 3", "expired_in_queue: 2", "answers_unsent: 2", "handler_panics: 1"];
    assert_eq!(told(neck.counters()), served);
    head.close();
    pending.call::<u64>().unwrap_err();
    assert_eq!(told(head.counters())[0], "calls: 18", "a call that found the link closed was never made");
}

fn ac_95_what_is_under_way_can_be_seen_at_any_time(kind: Kind) {
    let (head, neck) = kind.ends();
    let gate = Gate::default();
    let attached = neck.attach(api(&gate)).unwrap();
    let neck = neck.start();
    assert_eq!((attached.depth(), head.under_way()), ((0, 0), (0, 0)));
    let calls: Vec<_> = (0..3u64).map(|n| head.api("a").action("wait", n).start::<u64>().unwrap()).collect();
    gate.await_waiting(1);
    until("two wait", || attached.depth() == (1, 2));
    assert_eq!((head.under_way(), neck.under_way()), ((3, 0), (0, 3)));
    assert!(head.n_threads() + neck.n_threads() > 0);
    gate.open();
    calls.into_iter().for_each(|call| _ = call.wait().unwrap());
    until("nothing is under way", || attached.depth() == (0, 0));
    assert_eq!((head.under_way(), neck.under_way()), ((0, 0), (0, 0)));
    drop(head);
    drop(neck);
}

fn ac_95_calls_that_the_end_cut_off_are_counted(kind: Kind) {
    let (head, neck) = kind.ends();
    let gate = Gate::default();
    let neck = neck.serve(api(&gate)).unwrap().start();
    let calls: Vec<_> = (0..3u64).map(|n| head.api("a").action("wait", n).start::<u64>().unwrap()).collect();
    neck.close();
    calls.into_iter().for_each(|call| drop(call.wait().unwrap_err()));
    gate.open();
    assert_eq!(told(head.counters()), ["calls: 3", "cut_off: 3"]);
    let end = head.endpoint().clone();
    drop((head, neck));
    assert_eq!(told(end.counters()), ["calls: 3", "cut_off: 3"], "they can be read when all is over");
}

/// Many at a time: none is counted twice, and none is forgotten.
fn ac_95_the_numbers_of_many_threads_add_up(kind: Kind) {
    let (head, neck) = kind.ends();
    let gate = Gate::default();
    let neck = neck.serve(api(&gate).queue(1000, WhenFull::Refuse)).unwrap().start();
    thread::scope(|scope| {
        for path in ["echo", "fail", "nothing", "echo"] {
            let head = &head;
            scope.spawn(move || (0..300u64).for_each(|n| drop(head.api("a").action(path, n).call::<u64>())));
        }
    });
    assert_eq!(told(head.counters()), ["calls: 1200", "values: 600", "faults: 300", "rejections: 300"]);
    assert_eq!(told(neck.counters()), ["calls_served: 1200", "unhandled: 300"]);
}

fn ac_96_errors_that_were_ignored_are_counted(kind: Kind) {
    let (head, neck) = kind.ends();
    let gate = Gate::default();
    let neck = neck.serve(api(&gate)).unwrap().start();
    let a = head.api("a");
    let _stuck = a.action("wait", 1u64).start::<u64>().unwrap();
    gate.await_waiting(1);
    let ignoring = |path: &str, limit: u64| {
        let action = a.action(path, 1u64).timeout(Duration::from_millis(limit));
        action.ignore_errors().call::<u64>()
    };
    assert!(ignoring("wait", 20).unwrap().is_none());
    assert!(ignoring("nothing", 30_000).is_err(), "what the other side answers is told");
    assert_eq!(head.counters().ignored_errors, 1);
    gate.open();
    head.close();
    assert!(ignoring("wait", 20).unwrap().is_none());
    a.action("wait", 1u64).ignore_errors().fire().unwrap();
    assert_eq!(head.counters().ignored_errors, 3);
    drop(neck);
}

fn ac_96_events_that_failed_or_found_no_place_are_counted(kind: Kind) {
    let (head, neck) = kind.ends_with(Head::builder(), Neck::builder().config(Config::new().name("n")));
    let gate = Gate::default();
    let neck = neck.serve(api(&gate)).unwrap().start();
    let fire = |path: &str| head.api("a").action(path, 1u64).fire().unwrap();
    fire("wait");
    gate.await_waiting(1);
    fire("fail");
    fire("panic");
    // The queue holds two.
    (0..5).for_each(|_| fire("echo"));
    (0..3).for_each(|_| fire("nothing"));
    until("all have come", || neck.counters().events_served == 11);
    gate.open();
    until("the queue is empty", || neck.counters().events_failed == 2);
    assert_eq!(told(head.counters()), ["events_sent: 11"]);
    let wanted = ["events_served: 11", "events_dropped: 8", "events_failed: 2", "handler_panics: 1"];
    assert_eq!(told(neck.counters()), wanted);
}

/// An answer that crosses the cancel on its way finds nobody, is counted, and told to the hook alone.
#[test]
fn ac_96_late_replies_are_counted_and_reported() {
    use crate::raw_end::{CALL, REPLY, RawNeck};
    let (ours, theirs) = nape::transport::memory_pair();
    let head = Head::builder().over(ours).unwrap();
    let mut neck = RawNeck::ready(theirs);
    let reports = Arc::new(std::sync::Mutex::new(Vec::new()));
    let kept = reports.clone();
    head.on_error(move |report| kept.lock().unwrap().push(report.clone()));
    let late = head.api("a").action("x", ()).timeout(Duration::from_millis(20)).call::<()>();
    assert!(matches!(late, Err(CallError::TimedOut { .. })), "{late:?}");
    let call = std::iter::repeat_with(|| neck.receive(LONG)).flatten().find(|frame| frame.kind == CALL);
    neck.send(REPLY, call.unwrap().id, (0, 0), &[]);
    until("it is counted", || head.counters().late_replies == 1);
    until("it is reported", || reports.lock().unwrap().len() == 1);
    assert!(matches!(reports.lock().unwrap()[0], Report::LateReply));
    assert_eq!(told(head.counters()), ["calls: 1", "timeouts: 1", "late_replies: 1"]);
}

on_every_link! {
    ac_95_a_close_amid_calls_counts_each_end_once,
    ac_95_each_end_of_a_call_has_its_number,
    ac_95_what_is_under_way_can_be_seen_at_any_time,
    ac_95_calls_that_the_end_cut_off_are_counted,
    ac_95_the_numbers_of_many_threads_add_up,
    ac_96_errors_that_were_ignored_are_counted,
    ac_96_events_that_failed_or_found_no_place_are_counted,
}

fn ac_95_a_close_amid_calls_counts_each_end_once(kind: Kind) {
    for _ in 0..30 {
        let quick = |_: &Context, n: u64| Ok::<_, Fault>(n);
        let (head, neck) = kind.serving(Api::new("a").handle("quick", quick).unwrap());
        std::thread::scope(|scope| {
            let (begun, begins) = crossbeam_channel::bounded(3);
            for _ in 0..3 {
                let (api, begun) = (head.api("a"), begun.clone());
                scope.spawn(move || {
                    api.action("quick", 1u64).call::<u64>().unwrap();
                    begun.send(()).unwrap();
                    while api.action("quick", 1u64).call::<u64>().is_ok() {}
                });
            }
            (0..3).for_each(|_| begins.recv_timeout(LONG).unwrap());
            head.close();
        });
        let n = head.counters();
        let ends = n.values + n.faults + n.rejections + n.timeouts + n.cancels + n.cut_off;
        assert_eq!(n.calls, ends, "{n:?}");
        drop(neck);
    }
}
