//! What happens when an API begins and ends, at a steady pace, and when a process is asked to end.

#[cfg(feature = "signals")]
mod asked;

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    time::{Duration, Instant},
};

use nape::{Api, ApiError, CallError, Context, Counters, Fault, Head, Misuse, Neck, Rejection};

use crate::support::{HANG, Kind, watched};

type Log = Arc<Mutex<Vec<String>>>;

/// An API that writes down what happens to it.
fn logged(log: &Log, name: &'static str) -> Api {
    let (up, down, here) = (log.clone(), log.clone(), log.clone());
    let call = move |_: &Context, ()| {
        here.lock().unwrap().push(format!("{name} called"));
        Ok::<_, Fault>(())
    };
    let start = move || {
        up.lock().unwrap().push(format!("{name} up"));
        Ok(())
    };
    let api =
        Api::new(name).on_start(start).on_stop(move || down.lock().unwrap().push(format!("{name} down")));
    api.handle("call", call).unwrap()
}

fn take(log: &Log) -> Vec<String> {
    std::mem::take(&mut *log.lock().unwrap())
}

fn failing(
    log: &Log,
    name: &'static str,
    start: impl Fn() -> Result<(), Fault> + Send + Sync + 'static,
) -> Api {
    logged(log, name).on_start(start)
}

on_every_link!(
    ac_78_hooks_run_in_attach_and_reverse_order,
    ac_78_a_failing_start_refuses_the_attach_and_runs_nothing_else,
    a_timer_calls_until_it_is_dropped,
    a_timer_does_not_overlap_unless_asked,
    a_timer_ends_with_the_link,
    a_timer_sends_events,
);

fn ac_78_hooks_run_in_attach_and_reverse_order(kind: Kind) {
    let log = Log::default();
    let head = Head::builder().serve(logged(&log, "a")).serve(logged(&log, "b"));
    let (head, neck) = kind.ends_with(head, Neck::builder());
    let neck = neck.start();
    let late = head.attach(logged(&log, "late")).unwrap();
    head.attach(logged(&log, "last")).unwrap();
    assert_eq!(take(&log), ["a up", "b up", "late up", "last up"]);
    neck.api("late").action("call", ()).call::<()>().unwrap();
    late.detach();
    late.detach();
    assert_eq!(take(&log), ["late called", "late down"]);
    head.close();
    assert_eq!(take(&log), [""; 0], "only with the Head");
    drop(head);
    assert_eq!(take(&log), ["last down", "b down", "a down"]);
}

fn ac_78_a_failing_start_refuses_the_attach_and_runs_nothing_else(kind: Kind) {
    let log = Log::default();
    let (head, neck) = kind.ends();
    let neck = neck.start();
    head.attach(logged(&log, "first")).unwrap();
    take(&log);
    let error = head.attach(failing(&log, "x", || Err(Fault::new("no disk")))).unwrap_err();
    assert!(matches!(&error, ApiError::NotStarted { why, .. } if &**why == "no disk"), "{error}");
    let error = head.attach(failing(&log, "x", || panic!("oh"))).unwrap_err();
    assert_eq!(error.to_string(), "the API x did not start: it panicked: oh");
    let error = neck.api("x").action("call", ()).call::<()>().unwrap_err();
    assert!(matches!(error, CallError::Rejected(Rejection::NoHandler { .. })), "{error}");
    assert_eq!(take(&log), [""; 0]);
    // The same path can be served afterwards, and what was served goes on.
    head.attach(logged(&log, "x")).unwrap();
    neck.api("first").action("call", ()).call::<()>().unwrap();
    assert_eq!(take(&log), ["x up", "first called"]);
    // One that cannot be attached is not started.
    assert!(matches!(head.attach(logged(&log, "x")), Err(ApiError::Claimed { .. })));
    assert_eq!(take(&log), [""; 0]);
}

#[test]
fn ac_78_a_failing_start_stops_what_the_same_builder_has_started() {
    let log = Log::default();
    let bad = failing(&log, "bad", || Err(Fault::new("no")));
    let builder = Head::builder().serve(logged(&log, "a")).serve(logged(&log, "b")).serve(bad);
    assert!(builder.serve(logged(&log, "c")).in_process().is_err());
    assert_eq!(take(&log), ["a up", "b up", "b down", "a down"]);
    // What never comes to be is stopped as well.
    let builder = Head::builder().serve(logged(&log, "a"));
    assert!(builder.spawn(std::process::Command::new("/there/is/no/such/program")).is_err());
    assert_eq!(take(&log), ["a up", "a down"]);
}

#[test]
fn ac_78_nested_apis_have_their_own_hooks_and_a_panic_in_one_stops_no_other() {
    let log = Log::default();
    let inner = logged(&log, "inner").on_stop(|| panic!("one of several"));
    let outer = logged(&log, "outer").nest(inner).unwrap().nest(logged(&log, "second")).unwrap();
    let (head, _neck) = Head::in_process().unwrap();
    head.attach(outer).unwrap().detach();
    assert_eq!(take(&log), ["outer up", "inner up", "second up", "second down", "outer down"]);
    let bad = failing(&log, "bad", || Err(Fault::new("no")));
    let outer = logged(&log, "outer").nest(logged(&log, "inner")).unwrap().nest(bad).unwrap();
    assert!(head.attach(outer).is_err());
    assert_eq!(take(&log), ["outer up", "inner up", "inner down", "outer down"]);
}

#[test]
fn ac_78_a_listener_starts_an_api_for_each_peer() {
    watched(|| {
        let log = Log::default();
        let listener = Head::builder().serve(logged(&log, "a")).listen("tcp:127.0.0.1:0").unwrap();
        assert_eq!(take(&log), [""; 0], "nobody is here");
        let token = *listener.token().unwrap();
        let neck = Neck::builder().token(token).connect(listener.address()).unwrap().start();
        neck.api("a").action("call", ()).call::<()>().unwrap();
        drop(neck);
        listener.close();
        drop(listener);
        assert_eq!(take(&log), ["a up", "a called", "a down"]);
    });
}

fn a_timer_calls_until_it_is_dropped(kind: Kind) {
    let n = Arc::new(AtomicUsize::new(0));
    let theirs = n.clone();
    let tick = move |_: &Context, by: usize| Ok::<_, Fault>(theirs.fetch_add(by, Ordering::SeqCst) + by);
    let (head, _neck) = kind.serving(Api::new("clock").handle("tick", tick).unwrap());
    let (sender, outcomes) = mpsc::channel();
    let began = Instant::now();
    let timer = head.api("clock").every(Duration::from_millis(10), "tick", 2usize);
    let timer = timer.then(move |outcome: Result<usize, CallError>| drop(sender.send(outcome))).unwrap();
    for n in 1..=5 {
        assert_eq!(outcomes.recv_timeout(HANG).unwrap().unwrap(), 2 * n);
        assert!(began.elapsed() >= Duration::from_millis(10) * n as u32, "tick {n} came too early");
    }
    assert!(timer.n_issued() >= 5 && !timer.is_over());
    timer.stop();
    // The callback goes with the timer: after what was under way, nothing comes.
    while outcomes.recv_timeout(HANG).is_ok() {}
    let seen = n.load(Ordering::SeqCst);
    assert_eq!(head.api("clock").action("tick", 0usize).call::<usize>().unwrap(), seen);
}

fn a_timer_does_not_overlap_unless_asked(kind: Kind) {
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (gate, open) = mpsc::channel::<()>();
    let (came, entered) = mpsc::channel();
    let (open, theirs, peak) = (Mutex::new(open), now.clone(), most.clone());
    let slow = move |_: &Context, ()| {
        peak.fetch_max(theirs.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        came.send(()).ok();
        open.lock().unwrap().recv().ok();
        theirs.fetch_sub(1, Ordering::SeqCst);
        Ok::<_, Fault>(())
    };
    let (head, _neck) = kind.serving(Api::new("a").workers(4).handle("slow", slow).unwrap());
    let every = || head.api("a").every(Duration::from_millis(2), "slow", ());
    let timer = every().then(|_: Result<(), CallError>| {}).unwrap();
    entered.recv_timeout(HANG).unwrap();
    while timer.n_missed() < 5 {
        std::thread::sleep(Duration::from_millis(2));
    }
    assert_eq!((timer.n_issued(), most.load(Ordering::SeqCst)), (1, 1));
    // It goes on when the call has ended, with one call and not with those that were missed.
    gate.send(()).unwrap();
    entered.recv_timeout(HANG).unwrap();
    assert_eq!((timer.n_issued(), most.load(Ordering::SeqCst)), (2, 1));
    drop(timer);

    let timer = every().overlapping().then(|_: Result<(), CallError>| {}).unwrap();
    (0..2).for_each(|_| entered.recv_timeout(HANG).unwrap());
    assert!(timer.n_issued() >= 2 && now.load(Ordering::SeqCst) >= 2);
    drop((timer, gate));
}

fn a_timer_ends_with_the_link(kind: Kind) {
    let (head, neck) =
        kind.serving(Api::new("a").handle("tick", |_: &Context, ()| Ok::<_, Fault>(())).unwrap());
    let hour = Duration::from_secs(3600);
    let timer = head.api("a").every(hour, "tick", ()).then(|_: Result<(), CallError>| {}).unwrap();
    let theirs = neck.api("a").every(hour, "tick", ()).fire().unwrap();
    neck.api("a").every(hour, "tick", ()).fire().unwrap().leave();
    head.close();
    let until = Instant::now() + HANG;
    while !(timer.is_over() && theirs.is_over()) {
        assert!(Instant::now() < until, "a timer goes on");
        std::thread::yield_now();
    }
    assert!(head.api("a").every(hour, "tick", ()).fire().unwrap().is_over(), "too late to begin");
    let began = Instant::now();
    drop((head, neck));
    assert!(began.elapsed() < hour / 10 && timer.n_issued() == 0);
}

fn a_timer_sends_events(kind: Kind) {
    let (sender, events) = mpsc::channel();
    let tick = move |cx: &Context, n: u8| Ok::<_, Fault>(sender.send((cx.is_event(), n)).unwrap_or(()));
    let (head, _neck) = kind.serving(Api::new("a").handle("tick", tick).unwrap());
    let timer = head.api("a").every(Duration::from_millis(1), "tick", 7u8).fire().unwrap();
    (0..3).for_each(|_| assert_eq!(events.recv_timeout(HANG).unwrap(), (true, 7)));
    timer.stop();
    let Counters { events_sent, calls, .. } = head.counters();
    assert!(events_sent >= 3 && calls == 0);
}

#[test]
fn a_timer_that_can_never_call_is_refused() {
    let (head, _neck) = Head::in_process().unwrap();
    let error = head.api("a").every(Duration::from_secs(1), "b..c", ()).fire().unwrap_err();
    assert!(matches!(error, CallError::Misuse(Misuse::BadPath(_))), "{error}");
}
