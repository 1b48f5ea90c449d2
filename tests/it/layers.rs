//! Layers on both sides: what they see, in which order, and what they can do to a call.

mod ends;
#[cfg(feature = "metrics")]
mod metrics;
mod of_links;
mod ready_made;

use std::{
    sync::{
        Arc, Mutex,
        mpsc::{self, Receiver, SyncSender},
    },
    time::{Duration, Instant},
};

use nape::{
    Api, ApiHandle, CallError, Context, Executed, Fault, FaultKind, Handler, Incoming, LayerCall, Leave,
    Rejection, Report, Responder, Semaphore,
};

use crate::support::{HANG, Kind};

on_every_link! {
    each_layer_sees_a_call_once_in_order_in_and_in_reverse_order_out,
    what_a_layer_refuses_goes_no_further_and_those_outside_see_it,
    layers_rewrite_arguments_and_results,
    layers_of_the_side_that_serves_rewrite_what_a_responder_answers,
    a_layer_that_panics_ends_its_call_and_no_other,
    a_handler_that_panics_is_seen_by_the_layers,
    layers_see_the_end_of_streams,
    layers_see_the_end_of_calls_that_nobody_waits_for,
    layers_see_the_end_of_the_link,
    handlers_that_come_later_have_the_layers_and_those_that_go_have_none,
    nested_apis_keep_their_layers_inside,
    an_event_ends_with_its_handler,
    an_inline_handler_has_its_layers,
    large_values_pass_layers,
    a_permit_is_released_after_the_layers_and_when_one_refuses,
}

/// What layers have seen, in order.
#[derive(Clone, Default)]
struct Diary(Arc<Mutex<Vec<String>>>);

impl Diary {
    fn note(&self, line: impl Into<String>) {
        self.0.lock().unwrap().push(line.into());
    }

    fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap())
    }

    /// Waits for so many lines.
    fn lines(&self, n: usize) -> Vec<String> {
        let deadline = Instant::now() + HANG;
        while self.0.lock().unwrap().len() < n {
            assert!(Instant::now() < deadline, "{:?}", self.0.lock().unwrap());
            std::thread::yield_now();
        }
        self.take()
    }

    /// A layer that writes down what it sees.
    fn layer(&self, name: &'static str) -> impl Fn(&mut LayerCall<'_>) -> Result<Leave, CallError> + use<> {
        let diary = self.clone();
        move |_| {
            diary.note(format!("{name} in"));
            let diary = diary.clone();
            Ok(Leave::with(move |outcome| {
                let how = match outcome {
                    Ok(_) => "out".to_owned(),
                    Err(error) => word(error),
                };
                diary.note(format!("{name} {how}"));
            }))
        }
    }
}

fn word(error: &CallError) -> String {
    match error {
        CallError::Rejected(Rejection::Denied { .. }) => "denied".into(),
        CallError::Rejected(Rejection::BadArguments { .. }) => "bad".into(),
        CallError::Fault(fault) if fault.kind() == FaultKind::Panicked => "panicked".into(),
        CallError::Fault(fault) => fault.message().into(),
        CallError::Cancelled => "cancelled".into(),
        CallError::TimedOut { .. } => "late".into(),
        CallError::Closed { .. } => "closed".into(),
        CallError::NoAnswer => "no answer".into(),
        other => format!("{other:?}"),
    }
}

fn denied(call: &mut LayerCall<'_>) -> Result<Leave, CallError> {
    Err(Rejection::Denied { path: call.path().clone() }.into())
}

fn math() -> Api {
    Api::new("math").handle("double", |_: &Context, n: u64| Ok::<_, Fault>(2 * n)).unwrap()
}

/// Every verb that brings a value.
fn verbs() -> [fn(&ApiHandle) -> u64; 5] {
    [
        |api| api.action("double", 4u64).call().unwrap(),
        |api| api.action("double", 4u64).start().unwrap().wait().unwrap(),
        |api| {
            let (sender, receiver) = mpsc::sync_channel(1);
            let callback = move |outcome: Result<u64, CallError>| drop(sender.send(outcome));
            api.action("double", 4u64).then(callback).unwrap();
            receiver.recv().unwrap().unwrap()
        },
        |api| {
            let doubling = api.action("double", 4u64).start().unwrap();
            doubling.ready().recv_timeout(HANG).unwrap();
            doubling.wait().unwrap()
        },
        |api| block_on(api.action("double", 4u64).start().unwrap()).unwrap(),
    ]
}

/// The smallest executor that there is.
fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(std::thread::Thread);
    impl std::task::Wake for Unpark {
        fn wake(self: Arc<Unpark>) {
            self.0.unpark();
        }
    }
    let waker = Arc::new(Unpark(std::thread::current())).into();
    let mut future = std::pin::pin!(future);
    loop {
        match future.as_mut().poll(&mut std::task::Context::from_waker(&waker)) {
            std::task::Poll::Ready(output) => return output,
            std::task::Poll::Pending => std::thread::park(),
        }
    }
}

fn each_layer_sees_a_call_once_in_order_in_and_in_reverse_order_out(kind: Kind) {
    let diary = Diary::default();
    let api = math().layer(diary.layer("c")).layer(diary.layer("d"));
    let (head, _neck) = kind.serving(api);
    let math = head.api("math").layer(diary.layer("a")).layer(diary.layer("b"));
    for verb in verbs() {
        assert_eq!(verb(&math), 8);
        assert_eq!(diary.take(), ["a in", "b in", "c in", "d in", "d out", "c out", "b out", "a out"]);
    }
    // What is made of the handle has its layers, and what it was made of has none.
    assert_eq!(math.api("").action("double", 1u64).call::<u64>().unwrap(), 2);
    assert_eq!(diary.take().len(), 8);
    assert_eq!(head.api("math").action("double", 1u64).call::<u64>().unwrap(), 2);
    assert_eq!(diary.take(), ["c in", "d in", "d out", "c out"]);
}

fn what_a_layer_refuses_goes_no_further_and_those_outside_see_it(kind: Kind) {
    let diary = Diary::default();
    let api = math().layer(diary.layer("a")).layer(denied).layer(diary.layer("never"));
    let (head, _neck) = kind.serving(api);
    let error = head.api("math").action("double", 1u64).call::<u64>().unwrap_err();
    assert!(matches!(error, CallError::Rejected(Rejection::Denied { .. })), "{error:?}");
    assert_eq!(diary.take(), ["a in", "a denied"]);

    let math = head.api("math").layer(diary.layer("b")).layer(denied).layer(diary.layer("never"));
    assert_eq!(word(&math.action("double", 1u64).call::<u64>().unwrap_err()), "denied");
    assert_eq!(word(&math.action("double", 1u64).start::<u64>().unwrap_err()), "denied");
    assert_eq!(word(&math.action("double", 1u64).fire().unwrap_err()), "denied");
    assert_eq!(word(&math.action("double", 1u64).open::<u64>().unwrap_err()), "denied");
    let callback = |_: Result<u64, CallError>| unreachable!("it has not set out");
    assert_eq!(word(&math.action("double", 1u64).then(callback).unwrap_err()), "denied");
    assert_eq!(diary.take(), ["b in", "b denied"].repeat(5));
}

/// Adds to the second of two small numbers, whatever the codec.
fn add(bytes: &[u8], by: u8) -> Vec<u8> {
    match bytes {
        [] => Vec::new(),
        [b'[', text @ .., b']'] => {
            let (first, last) = std::str::from_utf8(text).unwrap().split_once(',').unwrap();
            format!("[{first},{}]", last.parse::<u8>().unwrap() + by).into_bytes()
        }
        [first @ .., last] => [first, &[last + by]].concat(),
    }
}

fn seven(call: &mut LayerCall<'_>) -> Result<Leave, CallError> {
    call.set_bytes(add(&call.bytes(), 1));
    Ok(Leave::with(|outcome| {
        if let Ok(payload) = outcome {
            *payload = nape::Payload::from_bytes(add(&payload.bytes(), 3));
        }
    }))
}

fn layers_rewrite_arguments_and_results(kind: Kind) {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let theirs = seen.clone();
    let echo = move |_: &Context, text: (u8, u8)| {
        theirs.lock().unwrap().push(text.1);
        Ok::<_, Fault>(text)
    };
    let (head, _neck) = kind.serving(Api::new("echo").workers(1).handle("it", echo).unwrap().layer(seven));
    // From then on it is known how values travel.
    head.wait_open(HANG);
    let echo = head.api("echo").layer(seven);
    assert_eq!(echo.action("it", (1u8, 10u8)).call::<(u8, u8)>().unwrap(), (1, 18));
    assert_eq!(echo.action("it", (1u8, 10u8)).start::<(u8, u8)>().unwrap().wait().unwrap(), (1, 18));
    echo.action("it", (1u8, 20u8)).fire().unwrap();
    assert_eq!(echo.action("it", (1u8, 30u8)).call::<(u8, u8)>().unwrap(), (1, 38));
    assert_eq!(*seen.lock().unwrap(), [12, 12, 22, 32]);

    // An end may become another one.
    let mend = |_: &mut LayerCall<'_>| {
        Ok(Leave::with(|outcome| {
            if outcome.is_err() {
                *outcome = Err(CallError::NoAnswer);
            }
        }))
    };
    let error = head.api("nobody").layer(mend).action("x", ()).call::<()>().unwrap_err();
    assert!(matches!(error, CallError::NoAnswer), "{error:?}");
}

fn layers_of_the_side_that_serves_rewrite_what_a_responder_answers(kind: Kind) {
    let diary = Diary::default();
    let (kept, responders) = mpsc::sync_channel(8);
    let keep = move |_: Context, text: (u8, u8), answer: Responder<(u8, u8)>| {
        kept.send((text, answer)).unwrap();
    };
    let api = Api::new("later").deferred("echo", keep).unwrap();
    let (head, _neck) = kind.serving(api.layer(diary.layer("a")).layer(seven));
    let start = || head.api("later").action("echo", (0u8, 1u8)).start::<(u8, u8)>().unwrap();

    let result = start();
    let (text, answer) = responders.recv().unwrap();
    assert_eq!(diary.take(), ["a in"], "it has not ended when the function has returned");
    answer.answer(text);
    assert_eq!(result.wait().unwrap(), (0, 5));
    assert_eq!(diary.take(), ["a out"]);

    let result = start();
    responders.recv().unwrap().1.fail(Fault::new("no"));
    assert_eq!(word(&result.wait().unwrap_err()), "no");
    assert_eq!(diary.take(), ["a in", "a no"]);

    let result = start();
    drop(responders.recv().unwrap());
    assert_eq!(word(&result.wait().unwrap_err()), "no answer");
    assert_eq!(diary.take(), ["a in", "a no answer"]);

    head.api("later").action("echo", (0u8, 1u8)).fire().unwrap();
    let (text, answer) = responders.recv().unwrap();
    answer.answer(text);
    assert_eq!(diary.lines(2), ["a in", "a out"]);
}

fn a_layer_that_panics_ends_its_call_and_no_other(kind: Kind) {
    let diary = Diary::default();
    let way_in = |call: &mut LayerCall<'_>| match call.path().as_str() {
        "math.double" => Ok(Leave::nothing()),
        path => panic!("{path}"),
    };
    let api = math().handle("other", |_: &Context, ()| Ok::<_, Fault>(())).unwrap();
    let (head, _neck) = kind.serving(api.layer(diary.layer("a")).layer(way_in).layer(diary.layer("never")));
    let call = |api: &ApiHandle, path: &str| api.action(path, 1u64).call::<u64>();
    assert_eq!(word(&call(&head.api("math"), "other").unwrap_err()), "panicked");
    assert_eq!(diary.take(), ["a in", "a panicked"]);

    let way_out = |_: &mut LayerCall<'_>| Ok(Leave::with(|_| panic!("on its way out")));
    let math = head.api("math").layer(diary.layer("b")).layer(way_out).layer(diary.layer("c"));
    let error = call(&math, "double").unwrap_err();
    let CallError::Fault(fault) = &error else { panic!("{error:?}") };
    assert!(fault.message().contains("a layer panicked: on its way out"), "{fault}");
    let seen = diary.take();
    assert_eq!(seen.last().unwrap(), "b panicked");
    assert!(seen.contains(&"c out".to_owned()), "{seen:?}");
    let math = head.api("math").layer(diary.layer("b")).layer(way_in);
    assert_eq!(word(&call(&math, "other").unwrap_err()), "panicked");
    assert_eq!(call(&math, "double").unwrap(), 2);
}

fn a_handler_that_panics_is_seen_by_the_layers(kind: Kind) {
    let diary = Diary::default();
    let fall = |_: &Context, ()| -> Result<(), Fault> { panic!("falls") };
    let later = |_: Context, (), _answer: Responder<()>| panic!("falls later");
    let api = Api::new("it").handle("falls", fall).unwrap().deferred("later", later).unwrap();
    let (head, _neck) = kind.serving(api.layer(diary.layer("a")));
    for path in ["falls", "later"] {
        assert_eq!(word(&head.api("it").action(path, ()).call::<()>().unwrap_err()), "panicked");
        assert_eq!(diary.take(), ["a in", "a panicked"]);
    }
    assert_eq!(word(&head.api("it").action("falls", 1u64).call::<()>().unwrap_err()), "bad");
    assert_eq!(diary.take(), ["a in", "a bad"]);
}

fn layers_see_the_end_of_streams(kind: Kind) {
    let (ours, theirs) = (Diary::default(), Diary::default());
    let count = |_: &Context, n: u64| match n {
        0 => Err(Fault::new("none")),
        _ => Ok((0..n).map(|i| if i < 5 { Ok(i) } else { Err(Fault::new("too many")) })),
    };
    let sum = |_: &Context, (), items: Incoming<u64>| {
        items.into_iter().try_fold(0, |sum, item| Ok::<_, Fault>(sum + item?))
    };
    let endless = |_: &Context, ()| Ok::<_, Fault>((0u64..).map(Ok::<_, Fault>));
    let api = Api::new("math").stream("count", count).unwrap().upload("sum", sum).unwrap();
    let api = api.stream("endless", endless).unwrap().layer(theirs.layer("n"));
    let (head, _neck) = kind.serving(api);
    let math = head.api("math").layer(ours.layer("h"));

    let items: Vec<_> = math.action("count", 3u64).open::<u64>().unwrap().map(Result::unwrap).collect();
    assert_eq!(items, [0, 1, 2]);
    assert_eq!((theirs.take(), ours.lines(2)), (strings(["n in", "n out"]), strings(["h in", "h out"])));

    let items: Vec<_> = math.action("count", 7u64).open::<u64>().unwrap().collect();
    assert_eq!(items.len(), 6);
    assert_eq!(theirs.take(), ["n in", "n too many"]);
    assert_eq!(ours.lines(2), ["h in", "h too many"]);
    assert!(math.action("count", 0u64).open::<u64>().unwrap().next().unwrap().is_err());
    assert_eq!((theirs.take(), ours.lines(2)), (strings(["n in", "n none"]), strings(["h in", "h none"])));

    let mut upload = math.action("sum", ()).upload::<u64, u64>().unwrap();
    (1..=4).for_each(|n| upload.send(n).unwrap());
    assert_eq!(upload.finish().unwrap(), 10);
    assert_eq!((theirs.take(), ours.lines(2)), (strings(["n in", "n out"]), strings(["h in", "h out"])));

    let mut items = math.action("endless", ()).open::<u64>().unwrap();
    assert_eq!(items.next().unwrap().unwrap(), 0);
    drop(items);
    assert_eq!(ours.lines(2), ["h in", "h cancelled"]);
    assert_eq!(theirs.lines(2).len(), 2);
}

fn strings<const N: usize>(of: [&str; N]) -> Vec<String> {
    of.map(str::to_owned).to_vec()
}

/// An API whose handler waits for a word.
fn waiting() -> (Api, SyncSender<()>, Receiver<()>) {
    let (begun, has_begun) = mpsc::sync_channel(8);
    let (go, gone) = mpsc::sync_channel::<()>(8);
    let gone = Mutex::new(gone);
    let wait = move |_: &Context, ()| {
        begun.send(()).unwrap();
        let _ = gone.lock().unwrap().recv();
        Ok::<_, Fault>(())
    };
    (Api::new("it").handle("waits", wait).unwrap(), go, has_begun)
}

fn layers_see_the_end_of_calls_that_nobody_waits_for(kind: Kind) {
    let (ours, theirs) = (Diary::default(), Diary::default());
    let (api, go, has_begun) = waiting();
    let (head, _neck) = kind.serving(api.layer(theirs.layer("n")));
    let it = head.api("it").layer(ours.layer("h"));

    let result = it.action("waits", ()).start::<()>().unwrap();
    has_begun.recv().unwrap();
    drop(result);
    assert_eq!(ours.lines(2), ["h in", "h cancelled"]);
    go.send(()).unwrap();
    assert_eq!(theirs.lines(2), ["n in", "n out"]);

    let late = it.action("waits", ()).timeout(Duration::from_millis(20)).call::<()>();
    assert_eq!(word(&late.unwrap_err()), "late");
    assert_eq!(ours.take(), ["h in", "h late"]);
    let (sender, receiver) = mpsc::sync_channel(1);
    let callback = move |outcome: Result<(), CallError>| drop(sender.send(outcome));
    it.action("waits", ()).timeout(Duration::from_millis(20)).then(callback).unwrap();
    assert_eq!(word(&receiver.recv_timeout(HANG).unwrap().unwrap_err()), "late");
    assert_eq!(ours.take(), ["h in", "h late"]);
    assert!(it.action("waits", ()).timeout(Duration::ZERO).call::<()>().is_err());
    assert_eq!(ours.take(), [""; 0], "it shows at once");
    drop(go);
}

fn layers_see_the_end_of_the_link(kind: Kind) {
    let diary = Diary::default();
    let (api, go, has_begun) = waiting();
    let (head, neck) = kind.serving(api);
    let it = head.api("it").layer(diary.layer("h"));
    let result = it.action("waits", ()).start::<()>().unwrap();
    let (sender, receiver) = mpsc::sync_channel(1);
    it.action("waits", ()).then(move |end: Result<(), CallError>| drop(sender.send(end))).unwrap();
    has_begun.recv().unwrap();
    let closing = std::thread::spawn(move || drop(neck));
    drop(go);
    let ends = [result.wait(), receiver.recv_timeout(HANG).unwrap()].map(|end| end.is_ok());
    closing.join().unwrap();
    let seen = diary.lines(4);
    assert_eq!(seen.iter().filter(|line| *line == "h in").count(), 2, "{seen:?} {ends:?}");
    drop(head);
    let error = it.action("waits", ()).call::<()>().unwrap_err();
    assert!(matches!(error, CallError::Closed { executed: Executed::No, .. }), "{error:?}");
    assert_eq!(diary.take(), ["h in", "h closed"]);
}

fn handlers_that_come_later_have_the_layers_and_those_that_go_have_none(kind: Kind) {
    let diary = Diary::default();
    let (head, neck) = kind.ends();
    let attached = neck.attach(math().layer(diary.layer("a"))).unwrap();
    let _neck = neck.start();
    let call = |path: &str| head.api("").action(path, 2u64).call::<u64>().unwrap();
    let triple = |_: &Context, n: u64| Ok::<_, Fault>(3 * n);
    attached.handle("triple", triple).unwrap();
    assert_eq!(call("math.triple"), 6);
    assert_eq!(diary.take(), ["a in", "a out"]);

    let double: Handler = attached.replace("double", triple).unwrap();
    assert_eq!(call("math.double"), 6);
    assert_eq!(diary.take(), ["a in", "a out"]);
    attached.replace_with("double", double.clone()).unwrap();
    assert_eq!(call("math.double"), 4);
    assert_eq!(diary.take(), ["a in", "a out"], "once, though it was there before");

    attached.add("again", double).unwrap();
    assert_eq!(call("math.again"), 4);
    assert_eq!(diary.take(), ["a in", "a out"]);
}

fn nested_apis_keep_their_layers_inside(kind: Kind) {
    let diary = Diary::default();
    let (kept, responders) = mpsc::sync_channel(1);
    let keep = move |_: Context, (): (), answer: Responder<u8>| kept.send(answer).unwrap();
    let inner = math().deferred("later", keep).unwrap().layer(diary.layer("inner"));
    let outer = Api::new("all").nest(inner).unwrap().layer(diary.layer("outer"));
    let (head, _neck) = kind.serving(outer);
    assert_eq!(head.api("all.math").action("double", 3u64).call::<u64>().unwrap(), 6);
    let seen = ["outer in", "inner in", "inner out", "outer out"];
    assert_eq!(diary.take(), seen);
    let result = head.api("all.math").action("later", ()).start::<u8>().unwrap();
    responders.recv().unwrap().answer(7);
    assert_eq!(result.wait().unwrap(), 7);
    assert_eq!(diary.take(), seen);
}

fn an_event_ends_with_its_handler(kind: Kind) {
    let (ours, theirs) = (Diary::default(), Diary::default());
    let fails = |_: &Context, ()| Err::<(), _>(Fault::new("fails"));
    let fine = |_: &Context, ()| Ok::<_, Fault>(());
    let api = Api::new("it").handle("fails", fails).unwrap().handle("fine", fine).unwrap().workers(1);
    let refusing = |call: &mut LayerCall<'_>| match call.path().as_str() {
        "it.refused" => denied(call),
        _ => {
            assert!(call.is_event() && call.context().unwrap().is_event());
            Ok(Leave::nothing())
        }
    };
    let api = api.handle("refused", fine).unwrap().layer(theirs.layer("n")).layer(refusing);
    let (head, neck) = kind.serving(api);
    let (sender, reports) = mpsc::sync_channel(8);
    neck.on_error(move |report| drop(sender.send(report.clone())));
    let it = head.api("it").layer(ours.layer("h"));
    for path in ["fine", "fails", "refused"] {
        it.action(path, ()).fire().unwrap();
        assert_eq!(ours.take(), ["h in", "h out"], "it has left");
    }
    assert_eq!(theirs.lines(6), ["n in", "n out", "n in", "n fails", "n in", "n denied"]);
    for _ in 0..2 {
        let report = reports.recv_timeout(HANG).unwrap();
        assert!(matches!(report, Report::EventFailed { .. }), "{report:?}");
    }
}

fn an_inline_handler_has_its_layers(kind: Kind) {
    let diary = Diary::default();
    let (head, _neck) = kind.serving(math().inline().layer(diary.layer("a")));
    let math = head.api("math");
    for n in 0..200u64 {
        assert_eq!(math.action("double", n).call::<u64>().unwrap(), 2 * n);
    }
    assert_eq!(diary.take(), ["a in", "a out"].repeat(200));
}

fn large_values_pass_layers(kind: Kind) {
    let diary = Diary::default();
    let looks = |call: &mut LayerCall<'_>| {
        assert!(call.bytes().len() >= 3_000_000);
        Ok(Leave::with(|outcome| assert!(outcome.as_ref().unwrap().bytes().len() >= 3_000_000)))
    };
    let echo = |_: &Context, bytes: nape::Payload| Ok::<_, Fault>(bytes);
    let vec = |_: &Context, bytes: Vec<u8>| Ok::<_, Fault>(bytes);
    let api = Api::new("echo").handle("raw", echo).unwrap().handle("vec", vec).unwrap();
    let (head, _neck) = kind.serving(api.layer(looks).layer(diary.layer("a")));
    let bytes: Vec<u8> = (0..3_000_000u32).map(|n| n as u8).collect();
    for echo in [head.api("echo"), head.api("echo").layer(looks)] {
        let raw = nape::Payload::from_bytes(bytes.clone());
        let back = echo.action("raw", raw).call::<nape::Payload>().unwrap();
        assert!(back.into_bytes() == bytes);
        assert!(echo.action("vec", bytes.clone()).call::<Vec<u8>>().unwrap() == bytes);
    }
    assert_eq!(diary.take().len(), 8);
}

fn a_permit_is_released_after_the_layers_and_when_one_refuses(kind: Kind) {
    let diary = Diary::default();
    let (head, _neck) = kind.serving(math());
    let math = head.api("math").layer(diary.layer("a"));
    let done = Semaphore::new(0);
    let result = math.action("double", 1u64).releasing(&done).start::<u64>().unwrap();
    done.acquire();
    assert_eq!(diary.take(), ["a in", "a out"]);
    assert_eq!(result.wait().unwrap(), 2);
    let math = math.layer(denied);
    assert!(math.action("double", 1u64).releasing(&done).start::<u64>().is_err());
    done.acquire();
    assert!(math.action("double", 1u64).releasing(&done).fire().is_err());
    done.acquire();
    assert!(math.action("double", 1u64).releasing(&done).call::<u64>().is_err());
    done.acquire();
    assert!(!done.try_acquire(), "once each");
}
