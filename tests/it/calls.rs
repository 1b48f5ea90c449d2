//! Blocking calls and callbacks: each ends once, in time, and leaves nothing behind.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use nape::{
    Api, CallError, CloseReason, Config, Context, Executed, Fault, Head, LinkState, Misuse, Neck, Report,
    Responder,
    transport::{FrameSender, Transport, ipc_pair, memory_pair, pipe_pair, shm_pair},
};
use serde::{Deserialize, Serialize};

use crate::{
    crossing::countdown,
    support::{HANG, Kind, watched},
    tools::{LONG, SOON, eventually, nothing_is_under_way, only},
};

on_every_link! {
    ac_01_a_call_returns_exactly_the_value_of_the_handler,
    ac_01_values_of_every_size_arrive,
    ac_02_timeout_names_the_method_and_the_time,
    ac_02_every_verb_times_out,
    p_04_a_timeout_holds_while_the_other_side_never_stops_sending,
    ac_03_an_answer_after_the_timeout_is_dropped_and_counted,
    ac_04_no_end_of_a_call_leaves_a_transaction,
    ac_04_calls_that_never_left_leave_no_transaction,
    ac_05_a_callback_runs_once_with_a_value_or_a_fault,
    ac_05_a_callback_runs_once_after_a_timeout_and_a_late_answer,
    ac_05_a_callback_runs_once_when_either_side_goes,
    ac_05_a_callback_runs_once_when_every_handle_is_dropped,
    ac_06_a_panic_in_a_callback_goes_to_the_error_hook,
    ac_06_an_error_hook_that_panics_is_not_told_of_itself,
    ac_07_callbacks_call_back,
    ac_07_handlers_call_back,
    ac_07_a_state_listener_is_told_that_it_may_not_block,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Job {
    name: String,
    sizes: Vec<u32>,
    tags: BTreeMap<String, Option<i64>>,
    shape: Shape,
    parts: Vec<Job>,
    ratio: f64,
    unit: (),
    letters: (char, [u8; 3]),
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
enum Shape {
    #[default]
    Point,
    Circle(u16),
    Box {
        width: i128,
        height: Option<Box<Shape>>,
    },
}

fn a_job() -> Job {
    let tags = [("a".to_owned(), Some(i64::MIN)), ("ü".to_owned(), None)];
    let shape = Shape::Box { width: i128::MAX, height: Some(Box::new(Shape::Circle(7))) };
    let part = Job { name: "part".into(), ..Job::default() };
    Job {
        name: "naïve 😀\0".into(),
        sizes: vec![0, 1, u32::MAX],
        tags: tags.into(),
        shape,
        parts: vec![part.clone(), part],
        ratio: -0.0,
        unit: (),
        letters: ('ß', [1, 2, 3]),
    }
}

fn ac_01_a_call_returns_exactly_the_value_of_the_handler(kind: Kind) {
    let jobs = || {
        let double = |_: &Context, (job, times): (Job, u32)| {
            let sizes = job.sizes.iter().map(|size| size.wrapping_mul(times)).collect();
            Ok::<_, Fault>(Job { sizes, ..job })
        };
        Api::new("jobs").handle("scale", double).unwrap()
    };
    let (head, neck) = kind.serving(jobs());
    head.attach(jobs()).unwrap();
    for end in [head.endpoint(), neck.endpoint()] {
        let scaled: Job = end.api("jobs").action("scale", (a_job(), 3u32)).call().unwrap();
        assert_eq!(scaled, Job { sizes: vec![0, 3, u32::MAX.wrapping_mul(3)], ..a_job() });
        assert!(scaled.ratio.is_sign_negative());
    }
}

fn ac_01_values_of_every_size_arrive(kind: Kind) {
    let echo = |_: &Context, bytes: Vec<u8>| Ok::<_, Fault>(bytes);
    let (head, _neck) = kind.serving(Api::new("").handle("echo", echo).unwrap());
    for size in [0, 1, 300, 61_000, 61_440, 61_441, 65_537, 200_000, 3 << 20] {
        let sent: Vec<u8> = (0..size).map(|at| (at % 251) as u8).collect();
        assert_eq!(head.api("echo").action("", sent.clone()).call::<Vec<u8>>().unwrap(), sent);
    }
}

/// An API whose handler ignores that its caller has given up, until the sender is dropped.
fn stubborn() -> (Api, Sender<()>) {
    let (open, gate) = bounded::<()>(0);
    let wait = move |_: &Context, x: u64| {
        let _ = gate.recv();
        Ok::<_, Fault>(x)
    };
    let add = |_: &Context, (a, b): (u64, u64)| Ok::<_, Fault>(a + b);
    let fail = |_: &Context, text: String| Err::<(), _>(Fault::new(text));
    let panic = |_: &Context, text: String| -> Result<(), Fault> { panic!("{text}") };
    let api = Api::new("clock.slow").workers(1000).handle("deep.wait", wait).unwrap();
    let api = api.handle("add", add).unwrap().handle("fail", fail).unwrap().handle("panic", panic).unwrap();
    let api = api.deferred("lost", |_: Context, _: u64, _: Responder<u64>| ()).unwrap();
    (api, open)
}

#[track_caller]
fn assert_timed_out<T: std::fmt::Debug>(outcome: &Result<T, CallError>, timeout: Duration, took: Duration) {
    let Err(CallError::TimedOut { path, after, executed }) = outcome else { panic!("{outcome:?}") };
    assert_eq!((path.as_str(), *executed), ("clock.slow.deep.wait", Executed::Maybe));
    assert!(*after >= timeout, "{after:?} is before {timeout:?}");
    assert!(took >= *after && took < timeout + SOON, "{took:?} for {timeout:?}");
}

fn ac_02_timeout_names_the_method_and_the_time(kind: Kind) {
    let (api, _open) = stubborn();
    let (head, _neck) = kind.serving(api);
    assert_eq!(head.wait_open(LONG), LinkState::Open);
    let slow = head.api("clock.slow").timeout(Duration::from_millis(20));
    let started = Instant::now();
    let outcome = slow.api("deep").action("wait", 1u64).call::<u64>();
    assert_timed_out(&outcome, Duration::from_millis(20), started.elapsed());
    let error = outcome.unwrap_err();
    let CallError::TimedOut { after, .. } = error else { panic!("{error}") };
    assert_eq!(error.to_string(), format!("clock.slow.deep.wait timed out after {after:.3?}"));
}

/// Red when nobody ends a call whose time is over.
fn ac_02_every_verb_times_out(kind: Kind) {
    let (api, _open) = stubborn();
    let (head, _neck) = kind.serving(api);
    assert_eq!(head.wait_open(LONG), LinkState::Open);
    let timeout = Duration::from_millis(60);
    let action = || head.api("clock.slow").action("deep.wait", 1u64).timeout(timeout);
    let started = Instant::now();
    let (tell, told) = bounded(2);
    action().then(move |end: Result<u64, _>| tell.send((end, Instant::now())).unwrap()).unwrap();
    let waited = action().start::<u64>().unwrap();
    let (polled, mut limited) = (action().start::<u64>().unwrap(), action().start::<u64>().unwrap());
    assert_timed_out(&waited.wait(), timeout, started.elapsed());
    assert_timed_out(&limited.wait_timeout(HANG), timeout, started.elapsed());
    eventually(|| polled.is_done());
    assert!(polled.elapsed() >= timeout && polled.elapsed() < timeout + SOON);
    let (end, at) = only(&told);
    assert_timed_out(&end, timeout, at - started);
    assert_eq!(head.counters().timeouts, 4);
}

fn p_04_a_timeout_holds_while_the_other_side_never_stops_sending(kind: Kind) {
    let (api, open) = stubborn();
    let (head, neck) = kind.serving(api);
    let silent = Api::new("news").handle("tick", |_: &Context, _: Vec<u8>| Ok::<_, Fault>(())).unwrap();
    head.attach(silent).unwrap();
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            // What finds no place is lost, and the next one follows at once.
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    let _ = neck.api("news").action("tick", vec![7u8; 200]).fire();
                }
            });
        }
        let slow = head.api("clock.slow").timeout(Duration::from_millis(100));
        for _ in 0..3 {
            let start = Instant::now();
            let blocked = slow.action("deep.wait", 1u64).call::<u64>();
            assert!(matches!(blocked, Err(CallError::TimedOut { .. })), "{blocked:?}");
            let mut started = slow.action("deep.wait", 1u64).timeout(LONG).start::<u64>().unwrap();
            assert!(started.wait_timeout(Duration::from_millis(100)).unwrap().is_none());
            assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
        }
        over.store(true, Ordering::Relaxed);
    });
    drop(open);
}

fn ac_03_an_answer_after_the_timeout_is_dropped_and_counted(kind: Kind) {
    let (api, open) = stubborn();
    let (head, neck) = kind.serving(api);
    let (strangers, reports) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    for end in [head.endpoint(), neck.endpoint()] {
        let (strangers, reports) = (strangers.clone(), reports.clone());
        end.on_unhandled(move |_, payload| {
            strangers.fetch_add(1, Ordering::Relaxed);
            Ok(payload)
        });
        end.on_error(move |report| {
            assert!(matches!(report, Report::LateReply));
            reports.fetch_add(1, Ordering::Relaxed);
        });
    }
    let slow = head.api("clock.slow");
    let outcome = slow.action("deep.wait", 1u64).timeout(Duration::from_millis(20)).call::<u64>();
    assert!(matches!(outcome, Err(CallError::TimedOut { .. })), "{outcome:?}");
    drop(open);
    // The answer is dropped by the side that first knows that nobody waits for it.
    eventually(|| head.counters().late_replies + neck.counters().answers_unsent == 1);
    assert_eq!(slow.action("add", (1u64, 2u64)).call::<u64>().unwrap(), 3);
    assert_eq!((head.counters().values, head.counters().timeouts), (1, 1));
    assert_eq!(strangers.load(Ordering::Relaxed), 0);
    eventually(|| reports.load(Ordering::Relaxed) as u64 == head.counters().late_replies);
    nothing_is_under_way(&head, &neck);
}

/// A way out that can be held up, as a slow wire does.
struct Holding {
    inner: Box<dyn FrameSender>,
    hold: Arc<AtomicBool>,
    held: Vec<Vec<u8>>,
}

impl FrameSender for Holding {
    fn send(&mut self, packet: &[u8]) -> std::io::Result<()> {
        self.held.push(packet.to_vec());
        if self.hold.load(Ordering::Acquire) {
            return Ok(());
        }
        self.held.drain(..).try_for_each(|packet| self.inner.send(&packet))
    }
}

/// The reply is on its way before the other side hears that nobody waits for it.
fn a_reply_crosses_the_cancel((ours, theirs): (Transport, Transport)) {
    let (hold, (api, open)) = (Arc::new(AtomicBool::new(false)), stubborn());
    let sender = Box::new(Holding { inner: ours.sender, hold: hold.clone(), held: vec![] });
    let head = Head::builder().over(Transport { sender, ..ours }).unwrap();
    let neck = Neck::builder().serve(api).over(theirs).unwrap().start();
    let (tell, told) = unbounded();
    head.on_error(move |report| tell.send(format!("{report:?}")).unwrap());
    let slow = head.api("clock.slow");
    assert_eq!(slow.action("add", (1u64, 2u64)).call::<u64>().unwrap(), 3);
    let late = slow.action("deep.wait", 7u64).timeout(Duration::from_millis(500)).start::<u64>().unwrap();
    eventually(|| neck.under_way() == (0, 1));
    hold.store(true, Ordering::Release);
    assert!(matches!(late.wait(), Err(CallError::TimedOut { .. })));
    drop(open);
    assert_eq!(told.recv_timeout(LONG).unwrap(), "LateReply");
    hold.store(false, Ordering::Release);
    assert_eq!(slow.action("add", (3u64, 4u64)).call::<u64>().unwrap(), 7);
    assert_eq!((head.counters().late_replies, neck.counters().answers_unsent), (1, 0));
    nothing_is_under_way(&head, &neck);
}

#[test]
fn ac_03_a_late_reply_is_dropped_counted_and_reported() {
    watched(|| a_reply_crosses_the_cancel(memory_pair()));
    watched(|| a_reply_crosses_the_cancel(ipc_pair().unwrap()));
    watched(|| a_reply_crosses_the_cancel(pipe_pair().unwrap()));
    watched(|| a_reply_crosses_the_cancel(shm_pair().unwrap()));
}

fn ac_04_no_end_of_a_call_leaves_a_transaction(kind: Kind) {
    let (api, open) = stubborn();
    let (head, neck) = kind.serving(api);
    let slow = head.api("clock.slow");
    let brief = Duration::from_millis(1);
    for round in 0..40u64 {
        assert!(slow.action("deep.wait", round).timeout(brief).call::<u64>().is_err());
        let cancelled = slow.action("deep.wait", round).start::<u64>().unwrap();
        cancelled.cancel();
        assert!(matches!(cancelled.wait(), Err(CallError::Cancelled)));
        drop(slow.action("deep.wait", round).start::<u64>().unwrap());
        slow.action("deep.wait", round).timeout(brief).then(|_: Result<u64, _>| ()).unwrap();
        assert!(slow.action("fail", "no".to_owned()).call::<()>().is_err());
        assert!(slow.action("panic", "no".to_owned()).call::<()>().is_err());
        assert!(slow.action("nobody", round).call::<u64>().is_err());
        assert!(slow.action("lost", round).call::<u64>().is_err());
        drop(slow.action("add", (round, round)).start::<u64>().unwrap());
    }
    eventually(|| head.under_way().0 == 0);
    drop(open);
    nothing_is_under_way(&head, &neck);
    let seen = head.counters();
    let ends = seen.values + seen.faults + seen.rejections + seen.timeouts + seen.cancels + seen.cut_off;
    assert_eq!(ends, seen.calls, "{seen:?}");
    assert_eq!(slow.action("add", (1u64, 2u64)).call::<u64>().unwrap(), 3);
}

fn ac_04_calls_that_never_left_leave_no_transaction(kind: Kind) {
    let (api, _open) = stubborn();
    let (head, neck) = kind.ends();
    let neck = neck.serve(api).unwrap();
    let slow = head.api("clock.slow");
    for round in 0..40u64 {
        drop(slow.action("add", (round, 1u64)).start::<u64>().unwrap());
        let timeout = Duration::from_millis(1);
        let outcome = slow.action("add", (round, 1u64)).timeout(timeout).call::<u64>();
        assert_eq!(outcome.unwrap_err().executed(), Executed::No);
    }
    assert_eq!(head.under_way(), (0, 0));
    let neck = neck.start();
    assert_eq!(slow.action("add", (1u64, 2u64)).call::<u64>().unwrap(), 3);
    assert_eq!(neck.counters().calls_served, 1);
}

/// Makes a call back with its end, into a channel that ends with the callback.
fn told_by(action: nape::Action<u64>) -> Receiver<Result<u64, CallError>> {
    let (tell, told) = unbounded();
    action.then(move |end| tell.send(end).unwrap()).unwrap();
    told
}

fn ac_05_a_callback_runs_once_with_a_value_or_a_fault(kind: Kind) {
    let halve = |_: &Context, x: u64| if x.is_multiple_of(2) { Ok(x / 2) } else { Err(Fault::new("odd")) };
    let (head, neck) = kind.serving(Api::new("m").handle("halve", halve).unwrap());
    let all: Vec<_> = (0..200u64).map(|x| told_by(head.api("m").action("halve", x))).collect();
    for (x, told) in all.iter().enumerate() {
        match only(told) {
            Ok(half) => assert_eq!(half, x as u64 / 2),
            Err(error) => assert_eq!((error.fault().unwrap().message(), x % 2), ("odd", 1)),
        }
    }
    assert!(only(&told_by(head.api("m").action("nobody", 1u64))).is_err());
    nothing_is_under_way(&head, &neck);
}

fn ac_05_a_callback_runs_once_after_a_timeout_and_a_late_answer(kind: Kind) {
    let (api, open) = stubborn();
    let (head, neck) = kind.serving(api);
    let action = head.api("clock.slow").action("deep.wait", 1u64).timeout(Duration::from_millis(20));
    let told = told_by(action);
    assert!(matches!(told.recv_timeout(LONG).unwrap(), Err(CallError::TimedOut { .. })));
    drop(open);
    nothing_is_under_way(&head, &neck);
    assert!(told.recv_timeout(LONG).is_err_and(|error| error.is_disconnected()));
}

fn ac_05_a_callback_runs_once_when_either_side_goes(kind: Kind) {
    for goes in ["head closes", "neck closes", "head drops", "neck drops"] {
        let wait = |cx: &Context, x: u64| {
            cx.cancel_token().wait_timeout(HANG);
            Ok::<_, Fault>(x)
        };
        let (head, neck) = kind.serving(Api::new("m").handle("wait", wait).unwrap());
        let told = told_by(head.api("m").action("wait", 1u64));
        eventually(|| neck.under_way() == (0, 1));
        let (mut head, mut neck) = (Some(head), Some(neck));
        match goes {
            "head closes" => head.as_ref().unwrap().close(),
            "neck closes" => neck.as_ref().unwrap().close(),
            "head drops" => drop(head.take()),
            _ => drop(neck.take()),
        }
        let Err(CallError::Closed { reason, executed }) = only(&told) else { panic!("{goes}") };
        let local = matches!(*reason, CloseReason::Local);
        assert!(local == goes.starts_with("head") && (local || matches!(*reason, CloseReason::Peer)));
        assert_eq!(executed, Executed::Maybe);
    }
}

fn ac_05_a_callback_runs_once_when_every_handle_is_dropped(kind: Kind) {
    let (entered, inside) = bounded(1);
    let (open, gate) = bounded::<()>(0);
    let wait = move |_: &Context, x: u64| {
        entered.send(()).unwrap();
        let _ = gate.recv();
        Ok::<_, Fault>(x + 1)
    };
    let (head, _neck) = kind.serving(Api::new("m").handle("wait", wait).unwrap());
    let endpoint = head.endpoint().clone();
    let handle = endpoint.api("m");
    let told = told_by(handle.action("wait", 1));
    drop((handle, endpoint));
    inside.recv().unwrap();
    drop(open);
    assert_eq!(only(&told).unwrap(), 2);
}

fn ac_06_a_panic_in_a_callback_goes_to_the_error_hook(kind: Kind) {
    let (api, _open) = stubborn();
    let (head, neck) = kind.serving(api);
    let (tell, told) = unbounded();
    head.on_error(move |report| match report {
        Report::CallbackPanicked { text } => tell.send(text.clone()).unwrap(),
        other => panic!("{other:?}"),
    });
    let slow = head.api("clock.slow");
    for round in 0..20u64 {
        slow.action("add", (round, 0u64)).then(|sum: Result<u64, _>| panic!("no {}", sum.unwrap())).unwrap();
    }
    let mut texts: Vec<_> = (0..20).map(|_| told.recv_timeout(LONG).unwrap()).collect();
    texts.sort();
    let mut expected: Vec<_> = (0..20).map(|round| format!("no {round}")).collect();
    expected.sort();
    assert_eq!(texts, expected);
    assert_eq!((head.counters().callback_panics, head.counters().handler_panics), (20, 0));
    assert_eq!(slow.action("add", (1u64, 2u64)).call::<u64>().unwrap(), 3);
    assert!(only(&told_by(slow.action("nobody", 1u64))).is_err());
    nothing_is_under_way(&head, &neck);
}

fn ac_06_an_error_hook_that_panics_is_not_told_of_itself(kind: Kind) {
    let (api, _open) = stubborn();
    let (head, _neck) = kind.serving(api);
    let (tell, told) = unbounded();
    head.on_error(move |report| {
        tell.send(format!("{report:?}")).unwrap();
        panic!("the hook fails");
    });
    let slow = head.api("clock.slow");
    slow.action("add", (0u64, 0u64)).then(|_: Result<u64, _>| panic!("the callback fails")).unwrap();
    assert!(told.recv_timeout(LONG).unwrap().contains("the callback fails"));
    eventually(|| head.counters().callback_panics == 2);
    // A second report comes after everything that the first one led to.
    slow.action("add", (0u64, 0u64)).then(|_: Result<u64, _>| panic!("again")).unwrap();
    assert!(told.recv_timeout(LONG).unwrap().contains("again"));
    eventually(|| head.counters().callback_panics == 4);
}

fn ac_07_callbacks_call_back(kind: Kind) {
    for workers in [1, 2] {
        let (api, _open) = stubborn();
        let config = Config::new().callback_workers(workers);
        let (head, neck) = kind.ends_with(Head::builder().config(config), Neck::builder().serve(api));
        let neck = neck.start();
        let (tell, told) = unbounded();
        for round in 0..8u64 {
            let (slow, tell) = (head.api("clock.slow"), tell.clone());
            let action = slow.action("add", (round, 0u64));
            let callback = move |sum: Result<u64, CallError>| {
                let sum = sum.and_then(|sum| slow.action("add", (sum, 1u64)).call::<u64>());
                tell.send(sum).unwrap();
            };
            action.then(callback).unwrap();
        }
        drop(tell);
        let mut sums: Vec<_> = told.iter().map(Result::unwrap).collect();
        sums.sort();
        assert_eq!(sums, (1..=8).collect::<Vec<u64>>());
        nothing_is_under_way(&head, &neck);
    }
}

fn ac_07_handlers_call_back(kind: Kind) {
    let (head, neck) = kind.serving(countdown());
    head.attach(countdown()).unwrap();
    for end in [head.endpoint(), neck.endpoint()] {
        let count = end.api("count");
        assert_eq!(count.action("down", 1u64).call::<u64>().unwrap(), 1);
        assert_eq!(count.action("down", 2u64).start::<u64>().unwrap().wait().unwrap(), 2);
        assert_eq!(only(&told_by(count.action("down", 3))).unwrap(), 3);
    }
    nothing_is_under_way(&head, &neck);
}

fn ac_07_a_state_listener_is_told_that_it_may_not_block(kind: Kind) {
    let (api, _open) = stubborn();
    let (head, _neck) = kind.serving(api);
    let (tell, told) = unbounded();
    let slow = head.api("clock.slow");
    head.on_state(move |_| {
        let outcome = slow.action("add", (1u64, 2u64)).call::<u64>();
        let mut started = slow.action("add", (1u64, 2u64)).start::<u64>().unwrap();
        tell.send((outcome, started.wait_timeout(HANG))).unwrap();
    });
    let (called, waited) = told.recv_timeout(LONG).unwrap();
    for outcome in [called.map(Some), waited] {
        let Err(CallError::Misuse(Misuse::WouldDeadlock { .. })) = outcome else { panic!("{outcome:?}") };
    }
}
