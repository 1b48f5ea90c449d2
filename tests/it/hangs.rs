//! Why nothing happens: what is under way, as a value and as text, and a watchdog that tells by itself.

use std::{
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use nape::{
    Api, CallError, Config, Context, Fault, Head, LinkState, Neck, Progress, Report, Responder, Side,
    Timeout, layers::Retry,
};

use crate::{
    support::Kind,
    tools::{Gate, until},
};

on_every_link! {
    a_report_tells_who_waits_for_what,
    a_report_tells_of_a_call_that_pauses_before_another_try,
    a_report_of_an_idle_side_is_empty,
    a_watchdog_tells_of_each_that_is_slow_once,
    a_watchdog_tells_of_nothing_quick,
}

/// A handler that stops at a gate, one that leaves its answer to nobody, and one that does neither.
fn api(gate: &Gate) -> Api {
    let held = gate.clone();
    let answers = Mutex::new(Vec::new());
    Api::new("slow")
        .workers(1)
        .handle("gate", move |_: &Context, _: ()| {
            held.pass();
            Ok::<_, Fault>(())
        })
        .and_then(|api| api.handle("quick", |_: &Context, n: u64| Ok::<_, Fault>(n)))
        .and_then(|api| {
            api.deferred("later", move |_: Context, _: (), answer: Responder<()>| {
                answers.lock().unwrap().push(answer);
            })
        })
        .unwrap()
}

fn ends(kind: Kind, gate: &Gate, head: Config, neck: Config) -> (Head, Neck) {
    let (head, neck) = kind.ends_with(
        Head::builder().config(head),
        Neck::builder().config(neck.name("worker")).serve(api(gate)),
    );
    (head, neck.start())
}

fn a_report_tells_who_waits_for_what(kind: Kind) {
    let gate = Gate::default();
    let (head, neck) = ends(kind, &gate, Config::new(), Config::new());
    let slow = head.api("slow").timeout(Timeout::Never);
    let _deferred = slow.action("later", ()).start::<()>().unwrap();
    until("it is deferred", || {
        neck.hang_report().handlers.first().is_some_and(|call| call.progress == Progress::Deferred)
    });
    let blocked = {
        let call = slow.action("gate", ()).timeout(Duration::from_secs(1000));
        thread::Builder::new().name("patient".into()).spawn(move || call.call::<()>()).unwrap()
    };
    gate.await_waiting(1);
    let queued = slow.action("quick", 1u64).start::<u64>().unwrap();
    until("it is queued", || neck.hang_report().queues[1].waiting == 1);
    until("it is blocked", || head.hang_report().callers[1].thread.is_some());

    let report = head.hang_report();
    assert_eq!((report.side, report.state, report.generation), (Side::Head, LinkState::Open, 1));
    let paths: Vec<_> = report.callers.iter().map(|caller| caller.path.as_str()).collect();
    assert_eq!(paths, ["slow.later", "slow.gate", "slow.quick"], "the oldest first");
    let [deferred, waiting, last] = &report.callers[..] else { panic!("{report}") };
    assert_eq!((deferred.remaining, deferred.thread.as_deref()), (None, None));
    assert_eq!(waiting.thread.as_deref(), Some("patient"));
    assert!(waiting.remaining.is_some_and(|left| left > Duration::from_secs(900)));
    assert!(waiting.sent && waiting.transaction.is_some() && waiting.age >= last.age);
    assert_eq!(last.transaction, Some(queued.transaction()));
    assert!(report.handlers.is_empty() && !report.is_stuck);
    let text = report.to_string();
    assert!(text.contains("slow.gate") && text.contains("on thread patient"), "{text}");

    let report = neck.hang_report();
    let [deferred, running, waiting] = &report.handlers[..] else { panic!("{report}") };
    assert_eq!((deferred.path.as_str(), &deferred.progress), ("slow.later", &Progress::Deferred));
    assert_eq!((waiting.path.as_str(), &waiting.progress), ("slow.quick", &Progress::Queued));
    let Progress::Running(Some(thread)) = &running.progress else { panic!("{report}") };
    assert!(thread.starts_with("worker-"), "{thread}");
    assert_eq!(running.path.as_str(), "slow.gate");
    assert_eq!((report.queues[1].namespace.as_str(), report.queues[1].running), ("slow", 1));
    let text = report.to_string();
    assert!(text.contains("runs on thread worker-") && text.contains("workers of slow: 1 busy"), "{text}");

    // A handler for which nobody waits any more is still there.
    queued.cancel();
    gate.open();
    blocked.join().unwrap().unwrap();
    drop(_deferred);
    until("it is given up", || neck.hang_report().handlers.iter().all(|handler| handler.given_up));
}

/// Red when nobody lists those that pause.
fn a_report_tells_of_a_call_that_pauses_before_another_try(kind: Kind) {
    let (head, _neck) = kind.serving(Api::new("a"));
    let far = Duration::from_secs(3000);
    let unknown = |error: &CallError| matches!(error, CallError::Rejected(_));
    let retry = Retry::new().pauses(far, far).when(unknown);
    let it = head.api("a").retry(retry).timeout(Timeout::Never);
    let call = it.action("nobody", ()).retry_safe().start::<()>().unwrap();
    until("it pauses", || head.under_way().0 == 0 && !head.hang_report().callers.is_empty());
    let report = head.hang_report();
    let [caller] = &report.callers[..] else { panic!("{report}") };
    assert_eq!((caller.path.as_str(), caller.transaction), ("a.nobody", None), "{report}");
    drop(call);
    until("it has ended", || head.hang_report().callers.is_empty());
}

fn a_report_of_an_idle_side_is_empty(kind: Kind) {
    let (head, neck) = ends(kind, &Gate::default(), Config::new(), Config::new());
    for n in 0..100u64 {
        assert_eq!(head.api("slow").action("quick", n).call::<u64>().unwrap(), n);
    }
    until("it is quiet", || neck.hang_report().handlers.is_empty());
    let report = head.hang_report();
    assert!(report.callers.is_empty() && report.handlers.is_empty(), "{report}");
    assert_eq!((report.messages_to_send, report.bytes_to_send, report.answers_to_send), (0, 0, 0));
    drop(neck);
    until("it is over", || head.hang_report().state == LinkState::Closed);
    let endpoint = head.endpoint().clone();
    drop(head);
    assert_eq!(endpoint.hang_report().n_threads, 0);
}

/// What an error hook was told.
fn told(endpoint: &nape::Endpoint) -> Arc<Mutex<Vec<Report>>> {
    let told: Arc<Mutex<Vec<Report>>> = Arc::default();
    let theirs = told.clone();
    endpoint.on_error(move |report| theirs.lock().unwrap().push(report.clone()));
    told
}

const LIMIT: Duration = Duration::from_millis(40);

fn a_watchdog_tells_of_each_that_is_slow_once(kind: Kind) {
    let gate = Gate::default();
    let config = || Config::new().watchdog(LIMIT);
    let (head, neck) = ends(kind, &gate, config(), config());
    let (of_head, of_neck) = (told(&head), told(&neck));
    let call = head.api("slow").action("gate", ()).start::<()>().unwrap();
    gate.await_waiting(1);
    until("both are told", || of_head.lock().unwrap().len() == 1 && of_neck.lock().unwrap().len() == 1);
    thread::sleep(3 * LIMIT);
    gate.open();
    call.wait().unwrap();
    {
        let (of_head, of_neck) = (of_head.lock().unwrap(), of_neck.lock().unwrap());
        let [Report::SlowCall { path, age, thread: None, .. }] = &of_head[..] else { panic!("{of_head:?}") };
        assert_eq!((path.as_str(), *age >= LIMIT), ("slow.gate", true));
        let [Report::SlowHandler { path, age, thread, .. }] = &of_neck[..] else { panic!("{of_neck:?}") };
        assert_eq!((path.as_str(), *age >= LIMIT), ("slow.gate", true));
        assert!(thread.as_ref().is_some_and(|thread| thread.starts_with("worker-")), "{thread:?}");
    }
    // The handler of an event, for which nobody waits.
    let gate = Gate::default();
    neck.attach(Api::new("more"))
        .unwrap()
        .handle("gate", {
            let held = gate.clone();
            move |_: &Context, _: ()| Ok::<_, Fault>(held.pass())
        })
        .unwrap();
    head.api("more").action("gate", ()).fire().unwrap();
    gate.await_waiting(1);
    until("it is told", || of_neck.lock().unwrap().len() == 2);
    let report = neck.hang_report();
    assert!(report.handlers.iter().any(|handler| handler.transaction.is_none()), "{report}");
    assert!(report.to_string().contains("more.gate (event)"), "{report}");
    gate.open();
    assert_eq!(of_head.lock().unwrap().len(), 1);
}

fn a_watchdog_tells_of_nothing_quick(kind: Kind) {
    let config = || Config::new().watchdog(25 * LIMIT);
    let (head, neck) = ends(kind, &Gate::default(), config(), config());
    let (of_head, of_neck) = (told(&head), told(&neck));
    for n in 0..1000u64 {
        assert_eq!(head.api("slow").action("quick", n).call::<u64>().unwrap(), n);
    }
    thread::sleep(30 * LIMIT);
    assert!(of_head.lock().unwrap().is_empty() && of_neck.lock().unwrap().is_empty());
}
