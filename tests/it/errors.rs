//! What a caller is told when a call gives no value.

use std::{
    io,
    panic::panic_any,
    process::Command,
    sync::Arc,
    time::{Duration, Instant},
};

use crossbeam_channel::unbounded;
use nape::{
    Api, ApiError, CallError, CloseReason, Context, Death, Error, Executed, Exit, Fault, FaultKind, Head,
    Misuse, Path, PathError, ProtocolError, Rejection, Report, Responder, StartError,
};
use serde::{Deserialize, Serialize};

use crate::{
    support::{HANG, Kind, watched},
    tools::{LONG, SOON, eventually, nothing_is_under_way, only},
};

on_every_link! {
    ac_20_an_unknown_path_is_told_soon_and_in_full,
    ac_20_without_any_api_every_path_is_unknown,
    ac_21_an_error_of_a_declared_type_arrives_as_that_type,
    ac_21_any_other_error_arrives_with_its_sources,
    ac_21_a_failure_passes_through_a_chain_of_handlers,
    ac_22_a_panic_is_a_fault_with_its_text,
    ac_22_workers_survive_panics_of_every_kind,
    ac_22_a_panic_in_an_event_goes_to_the_error_hook,
    ac_23_every_call_error_crosses_in_both_directions,
    ac_23_errors_of_other_kinds_cross_as_text,
    ac_23_every_end_that_can_really_happen_crosses,
    ac_25_ignored_errors_are_nothing_and_are_counted,
    ac_25_what_the_other_side_says_is_not_ignored,
}

fn unknown(outcome: Result<u64, CallError>) -> String {
    match outcome {
        Err(CallError::Rejected(Rejection::NoHandler { path })) => path.to_string(),
        other => panic!("{other:?}"),
    }
}

fn ac_20_an_unknown_path_is_told_soon_and_in_full(kind: Kind) {
    let api = |name| Api::new(name).handle("known", |_: &Context, x: u64| Ok::<_, Fault>(x)).unwrap();
    let (head, neck) = kind.serving(api("a.b"));
    head.attach(api("a.b")).unwrap();
    for (end, other) in [(head.endpoint(), neck.endpoint()), (neck.endpoint(), head.endpoint())] {
        for path in ["a.b.unknown", "a.b", "a", "a.b.known.deeper", "A.B.known", "x.y.z.ü"] {
            let action = || end.api("").action(path, 1u64);
            let started = Instant::now();
            assert_eq!(unknown(action().call()), path);
            assert_eq!(unknown(action().start().unwrap().wait()), path);
            let (tell, told) = unbounded();
            action().then(move |end| tell.send(end).unwrap()).unwrap();
            assert_eq!(unknown(only(&told)), path);
            assert!(started.elapsed() < SOON);
        }
        assert_eq!(end.api("a.b").action("known", 1u64).call::<u64>().unwrap(), 1);
        assert_eq!((end.counters().rejections, other.counters().unhandled), (18, 18));
    }
    nothing_is_under_way(&head, &neck);
}

fn ac_20_without_any_api_every_path_is_unknown(kind: Kind) {
    let (head, neck) = kind.ends();
    let neck = neck.start();
    for end in [head.endpoint(), neck.endpoint()] {
        let started = Instant::now();
        let error = end.api("some.api").action("method", "args".to_owned()).call::<u64>();
        assert!(started.elapsed() < SOON);
        assert_eq!(error.as_ref().unwrap_err().to_string(), "no handler for some.api.method");
        assert_eq!(error.as_ref().unwrap_err().executed(), Executed::No);
        assert_eq!(unknown(error), "some.api.method");
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, thiserror::Error)]
enum ShopError {
    #[error("only {left} of {what} are left")]
    SoldOut { what: String, left: u32 },
    #[error("closed")]
    Closed,
}

fn ac_21_an_error_of_a_declared_type_arrives_as_that_type(kind: Kind) {
    let error = || ShopError::SoldOut { what: "äpples".into(), left: 3 };
    let buy = move |_: &Context, n: u32| if n > 3 { Err(error()) } else { Ok(n) };
    let later = |_: Context, _: u32, answer: Responder<u32>| answer.fail(ShopError::Closed);
    let api = || Api::new("shop").handle("buy", buy).unwrap().deferred("later", later).unwrap();
    let (head, neck) = kind.serving(api());
    head.attach(api()).unwrap();
    for end in [head.endpoint(), neck.endpoint()] {
        assert_eq!(end.api("shop").action("buy", 3u32).call::<u32>().unwrap(), 3);
        let failed = end.api("shop").action("buy", 4u32).call::<u32>().unwrap_err();
        let fault = failed.fault().unwrap();
        assert_eq!((fault.kind(), fault.typed()), (FaultKind::Typed, Some(error())));
        assert_eq!(
            (fault.message(), failed.to_string()),
            ("only 3 of äpples are left", fault.message().to_owned())
        );
        assert!(fault.type_name().ends_with("ShopError") && fault.call_error().is_none());
        assert_eq!(fault.typed::<Vec<String>>(), None, "it does not fit");
        let failed = end.api("shop").action("later", 4u32).call::<u32>().unwrap_err();
        assert_eq!(failed.fault().and_then(Fault::typed), Some(ShopError::Closed));
        assert_eq!(failed.executed(), Executed::Maybe);
    }
}

/// An error with a source, which has a source.
#[derive(Debug, thiserror::Error)]
#[error("cannot open the shop")]
struct Unopened(#[source] NoKey);

#[derive(Debug, thiserror::Error)]
#[error("the key is lost")]
struct NoKey(#[source] io::Error);

fn ac_21_any_other_error_arrives_with_its_sources(kind: Kind) {
    let open = |_: &Context, how: u8| -> Result<(), Fault> {
        let lost = || io::Error::other("it fell into a river");
        match how {
            0 => Err(Unopened(NoKey(lost())))?,
            1 => Err(lost())?,
            2 => Err(Fault::new("just a text"))?,
            _ => drop("x".parse::<u32>()?),
        }
        Ok(())
    };
    let (head, _neck) = kind.serving(Api::new("shop").handle("open", open).unwrap());
    let told =
        |how: u8| head.api("shop").action("open", how).call::<()>().unwrap_err().fault().unwrap().clone();
    let all = told(0);
    assert_eq!((all.kind(), all.message()), (FaultKind::Error, "cannot open the shop"));
    assert_eq!(all.chain().collect::<Vec<_>>(), ["the key is lost", "it fell into a river"]);
    assert!(all.type_name().ends_with("Unopened") && all.typed::<ShopError>().is_none());
    assert_eq!((told(1).message(), told(1).chain().count()), ("it fell into a river", 0));
    assert_eq!((told(2).message(), told(2).type_name()), ("just a text", ""));
    assert_eq!(told(3).message(), "invalid digit found in string");
}

/// Fails at depth 0; above, it passes on what came from the other side.
fn passing_on() -> Api {
    let down = |cx: &Context, n: u32| -> Result<(), Fault> {
        match n {
            0 => Err(Fault::from_typed(&ShopError::Closed)),
            n => Ok(cx.api("pass").action("down", n - 1).call()?),
        }
    };
    Api::new("pass").handle("down", down).unwrap()
}

fn ac_21_a_failure_passes_through_a_chain_of_handlers(kind: Kind) {
    let (head, _neck) = kind.serving(passing_on());
    head.attach(passing_on()).unwrap();
    let mut error = head.api("pass").action("down", 3u32).call::<()>().unwrap_err();
    for _ in 0..3 {
        let fault = error.fault().unwrap();
        assert_eq!((fault.kind(), fault.message()), (FaultKind::Call, "closed"));
        error = fault.call_error().unwrap();
    }
    assert_eq!(error.fault().and_then(Fault::typed), Some(ShopError::Closed));
}

/// What a panic carries, and that panics itself when it is dropped.
struct Worse;

impl Drop for Worse {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            panic!("the panic panics");
        }
    }
}

fn panics() -> Api {
    let panic = |_: &Context, how: u8| -> Result<u8, Fault> {
        match how {
            0 => panic!("a plain text"),
            1 => panic!("a text with {how}"),
            2 => panic_any(how),
            3 => panic_any(Worse),
            _ => Ok(how),
        }
    };
    let later = |_: Context, how: u8, answer: Responder<u8>| match how {
        0 => panic!("before it answers"),
        _ => {
            answer.answer(how);
            panic!("after it has answered")
        }
    };
    let api = Api::new("p").workers(2).handle("panic", panic).unwrap();
    api.deferred("later", later).unwrap()
}

/// Red when a panic is not caught.
fn ac_22_a_panic_is_a_fault_with_its_text(kind: Kind) {
    let (head, neck) = kind.serving(panics());
    head.attach(panics()).unwrap();
    for end in [head.endpoint(), neck.endpoint()] {
        for (how, text) in [(0u8, "a plain text"), (1, "a text with 1"), (2, "(no text)"), (3, "(no text)")] {
            let error = end.api("p").action("panic", how).call::<u8>().unwrap_err();
            let fault = error.fault().unwrap();
            assert_eq!((fault.kind(), fault.message()), (FaultKind::Panicked, text));
            assert_eq!(error.to_string(), format!("the handler panicked: {text}"));
        }
        assert_eq!(end.api("p").action("panic", 9u8).call::<u8>().unwrap(), 9);
    }
    assert_eq!((head.counters().handler_panics, neck.counters().handler_panics), (4, 4));
}

fn ac_22_workers_survive_panics_of_every_kind(kind: Kind) {
    let (head, neck) = kind.serving(panics());
    let p = head.api("p");
    for _ in 0..25 {
        for how in 0..4u8 {
            assert!(p.action("panic", how).call::<u8>().is_err());
        }
        // The responder went with the panic, before or after its answer.
        assert!(p.action("later", 0u8).call::<u8>().is_err());
        assert_eq!(p.action("later", 7u8).call::<u8>().unwrap(), 7);
    }
    let all: Vec<_> = (0..200).map(|_| p.action("panic", 9u8).start::<u8>().unwrap()).collect();
    assert!(all.into_iter().all(|r| r.wait().is_ok_and(|how| how == 9)));
    eventually(|| neck.counters().handler_panics == 150);
    nothing_is_under_way(&head, &neck);
}

fn ac_22_a_panic_in_an_event_goes_to_the_error_hook(kind: Kind) {
    let (head, neck) = kind.serving(panics());
    let (tell, told) = unbounded();
    neck.on_error(move |report| tell.send(report.clone()).unwrap());
    for how in [0u8, 3] {
        head.api("p").action("panic", how).fire().unwrap();
        let Report::EventFailed { path, error } = told.recv_timeout(LONG).unwrap() else { panic!() };
        assert_eq!((path.as_str(), error.fault().unwrap().kind()), ("p.panic", FaultKind::Panicked));
    }
    assert_eq!((neck.counters().events_failed, neck.counters().handler_panics), (2, 2));
    assert_eq!(head.api("p").action("panic", 9u8).call::<u8>().unwrap(), 9);
}

/// A real death: nobody can make one up.
fn a_death() -> Death {
    let mut command = Command::new("sh");
    command.args(["-c", "echo last words >&2; exit 3"]);
    match Head::spawn(command) {
        // Times travel in whole microseconds.
        Err(Error::Start(StartError::Died { mut death, .. })) => {
            death.after = Duration::from_micros(1500);
            death
        }
        other => panic!("{other:?}"),
    }
}

fn path(text: &str) -> Path {
    Path::new(text).unwrap()
}

fn rejections() -> Vec<CallError> {
    let (path, detail): (Path, Arc<str>) = (path("a.b"), "why".into());
    let all = vec![
        Rejection::NoHandler { path: path.clone() },
        Rejection::BadArguments { path: path.clone(), expected: "u8".into(), detail: detail.clone() },
        Rejection::Busy { path: path.clone(), detail },
        Rejection::TooLarge { size: u64::MAX, limit: 1 },
        Rejection::ShuttingDown,
        Rejection::Ambiguous { path: path.clone(), count: 2 },
        Rejection::Expired,
        Rejection::Denied { path: path.clone() },
        Rejection::Mismatch { path, ours: "a".into(), theirs: "b".into() },
    ];
    all.into_iter().map(CallError::from).collect()
}

fn misuses() -> Vec<CallError> {
    let (path, detail): (Path, Arc<str>) = (path("a.b"), "why".into());
    let all = vec![
        Misuse::BadPath(PathError::Empty),
        Misuse::BadPath(PathError::TooLong(700)),
        Misuse::BadPath(PathError::EmptySegment),
        Misuse::BadPath(PathError::BadCharacter('\n')),
        Misuse::BadPath(PathError::NotUtf8),
        Misuse::Encode { path: path.clone(), detail: detail.clone() },
        Misuse::Item { path: path.clone(), detail: detail.clone() },
        Misuse::Taken { path },
        // A place is a constant of our own code, which a peer cannot name.
        Misuse::WouldDeadlock { place: "a place at the other side" },
        Misuse::NoThread { detail },
    ];
    all.into_iter().map(CallError::from).collect()
}

fn reasons(death: &Death) -> Vec<CloseReason> {
    vec![
        CloseReason::Local,
        CloseReason::Peer,
        CloseReason::Died(death.clone()),
        CloseReason::Gone,
        CloseReason::Io(Arc::new(io::Error::from_raw_os_error(32))),
        CloseReason::Accused { code: 17 },
        CloseReason::Broken("a thread".into()),
    ]
}

fn every_call_error(death: &Death) -> Vec<CallError> {
    let mut all = vec![
        CallError::TimedOut { path: path("a"), after: Duration::from_micros(1234), executed: Executed::No },
        CallError::TimedOut { path: path("a"), after: Duration::from_secs(9), executed: Executed::Maybe },
        CallError::Cancelled,
        CallError::Fault(Fault::new("text")),
        CallError::Fault(Fault::from_typed(&ShopError::Closed)),
        CallError::Fault(Unopened(NoKey(io::Error::other("x"))).into()),
        CallError::Fault(CallError::Cancelled.into()),
        CallError::NoAnswer,
        CallError::Decode("expected u8".into()),
    ];
    all.extend(rejections());
    all.extend(misuses());
    for executed in [Executed::No, Executed::Maybe] {
        let closed = |reason| CallError::Closed { reason: Arc::new(reason), executed };
        all.extend(reasons(death).into_iter().map(closed));
    }
    all
}

/// An API that fails with the error of that number, as a handler would pass it on.
fn failing(errors: Arc<Vec<CallError>>) -> Api {
    let others = errors.clone();
    let fail = move |_: &Context, at: usize| -> Result<(), Fault> { Err(errors[at].clone())? };
    let wrapped =
        move |_: &Context, at: usize| -> Result<(), Fault> { Err(Error::from(others[at].clone()))? };
    Api::new("e").handle("fail", fail).unwrap().handle("wrapped", wrapped).unwrap()
}

fn ac_23_every_call_error_crosses_in_both_directions(kind: Kind) {
    let errors = Arc::new(every_call_error(&a_death()));
    let (head, neck) = kind.serving(failing(errors.clone()));
    head.attach(failing(errors.clone())).unwrap();
    for end in [head.endpoint(), neck.endpoint()] {
        for (at, sent) in errors.iter().enumerate() {
            for method in ["fail", "wrapped"] {
                let error = end.api("e").action(method, at).call::<()>().unwrap_err();
                let fault = error.fault().expect("it came from a handler");
                assert_eq!((fault.kind(), fault.message()), (FaultKind::Call, &*sent.to_string()));
                assert_eq!(format!("{:?}", fault.call_error().unwrap()), format!("{sent:?}"));
            }
        }
    }
    nothing_is_under_way(&head, &neck);
}

fn ac_23_errors_of_other_kinds_cross_as_text(kind: Kind) {
    let fail = |_: &Context, how: u8| -> Result<(), Fault> {
        match how {
            0 => Err(ApiError::Taken { path: path("a.b") })?,
            1 => Err(StartError::NotSpawned("why".into()))?,
            // The details of our own finding stay here; the number of the rule travels.
            _ => Err(CallError::Closed {
                reason: Arc::new(CloseReason::Protocol(ProtocolError::UnknownKind(9))),
                executed: Executed::No,
            })?,
        }
        Ok(())
    };
    let (head, _neck) = kind.serving(Api::new("e").handle("fail", fail).unwrap());
    let told = |how: u8| head.api("e").action("fail", how).call::<()>().unwrap_err().fault().unwrap().clone();
    assert_eq!((told(0).message(), told(0).kind()), ("a.b has a handler already", FaultKind::Error));
    assert_eq!(told(1).message(), "this process was not started by a Head: why");
    let Some(CallError::Closed { reason, .. }) = told(2).call_error() else { panic!() };
    assert!(matches!(*reason, CloseReason::Accused { code: 7 }), "{reason:?}");
}

/// Runs into one end of a call after the other at the side of its caller, and passes it on.
fn runs_into() -> Api {
    let into = |cx: &Context, what: String| -> Result<(), Fault> {
        let action = cx.api("h").action(&what, 1u64);
        match what.as_str() {
            "slow" => drop(action.timeout(Duration::from_millis(5)).call::<u64>()?),
            "cancelled" => {
                let r = cx.api("h").action("slow", 1u64).start::<u64>()?;
                r.cancel();
                r.wait()?;
            }
            "taken" => {
                let mut r = cx.api("h").action("good", 1u64).start::<u64>()?;
                r.wait_timeout(HANG)?;
                r.wait()?;
            }
            "text" => drop(cx.api("h").action("good", 1u64).call::<String>()?),
            "bad..path" => drop(action.call::<u64>()?),
            _ => drop(action.call::<u64>()?),
        }
        Ok(())
    };
    Api::new("n").handle("into", into).unwrap()
}

fn ac_23_every_end_that_can_really_happen_crosses(kind: Kind) {
    let wait = |cx: &Context, _: u64| Ok::<_, Fault>(u64::from(cx.cancel_token().wait_timeout(HANG)));
    let lost = |_: Context, _: u64, _: Responder<u64>| ();
    let h = Api::new("h").handle("slow", wait).unwrap().deferred("lost", lost).unwrap();
    let h = h.handle("good", |_: &Context, x: u64| Ok::<_, Fault>(x)).unwrap();
    let h = h.handle("picky", |_: &Context, _: [String; 9]| Ok::<_, Fault>(1u64)).unwrap();
    let (head, neck) = kind.serving(runs_into());
    head.attach(h).unwrap();
    let told = |what: &str| {
        let error = head.api("n").action("into", what.to_owned()).call::<()>().unwrap_err();
        error.fault().unwrap().call_error().unwrap()
    };
    assert!(matches!(told("slow"), CallError::TimedOut { path, .. } if path.as_str() == "h.slow"));
    assert!(matches!(told("cancelled"), CallError::Cancelled));
    assert!(matches!(told("taken"), CallError::Misuse(Misuse::Taken { path }) if path.as_str() == "h.good"));
    assert!(matches!(told("text"), CallError::Decode(what) if what.contains("String")));
    assert!(matches!(told("bad..path"), CallError::Misuse(Misuse::BadPath(PathError::EmptySegment))));
    assert!(matches!(told("lost"), CallError::NoAnswer));
    assert!(
        matches!(told("picky"), CallError::Rejected(Rejection::BadArguments { path, .. }) if path.as_str() == "h.picky")
    );
    assert!(
        matches!(told("nobody"), CallError::Rejected(Rejection::NoHandler { path }) if path.as_str() == "h.nobody")
    );
    nothing_is_under_way(&head, &neck);
}

fn ac_25_ignored_errors_are_nothing_and_are_counted(kind: Kind) {
    let wait = |cx: &Context, _: u64| Ok::<_, Fault>(u64::from(cx.cancel_token().wait_timeout(HANG)));
    let (head, neck) = kind.serving(Api::new("m").handle("wait", wait).unwrap());
    let endpoint = head.endpoint().clone();
    let action = || endpoint.api("m").action("wait", 1u64);
    assert_eq!(action().timeout(Duration::from_millis(5)).ignore_errors().call::<u64>().unwrap(), None);
    assert_eq!(action().timeout(Duration::ZERO).ignore_errors().call::<u64>().unwrap(), None);
    eventually(|| neck.under_way() == (0, 0));
    // The link goes while the call is under way.
    std::thread::scope(|scope| {
        let called = scope.spawn(|| action().ignore_errors().call::<u64>());
        eventually(|| neck.under_way() == (0, 1));
        neck.close();
        assert_eq!(called.join().unwrap().unwrap(), None);
    });
    // It is gone already, then with its owner.
    assert_eq!(action().ignore_errors().call::<u64>().unwrap(), None);
    drop((head, neck));
    assert_eq!(action().ignore_errors().call::<u64>().unwrap(), None);
    action().ignore_errors().fire().unwrap();
    assert_eq!((endpoint.counters().ignored_errors, endpoint.counters().timeouts), (6, 2));
}

fn ac_25_what_the_other_side_says_is_not_ignored(kind: Kind) {
    let (head, neck) = kind.serving(panics());
    let p = head.api("p");
    assert_eq!(p.action("panic", 9u8).ignore_errors().call::<u8>().unwrap(), Some(9));
    assert!(matches!(p.action("panic", 0u8).ignore_errors().call::<u8>(), Err(CallError::Fault(_))));
    let unknown = p.action("nobody", 0u8).ignore_errors().call::<u8>();
    assert!(matches!(unknown, Err(CallError::Rejected(Rejection::NoHandler { .. }))));
    let bad = p.action("..", 0u8).ignore_errors().call::<u8>();
    assert!(matches!(bad, Err(CallError::Misuse(Misuse::BadPath(_)))));
    let decode = p.action("panic", 9u8).ignore_errors().call::<String>();
    assert!(matches!(decode, Err(CallError::Decode(_))));
    assert_eq!(head.counters().ignored_errors, 0);
    // A peer that goes away in an orderly manner is as good as gone.
    assert!(neck.shut_down(HANG));
    assert_eq!(p.action("panic", 9u8).ignore_errors().call::<u8>().unwrap(), None);
}

#[test]
fn ac_23_a_death_says_how() {
    watched(|| {
        let death = a_death();
        assert_eq!((death.exit, death.stderr.trim_end()), (Exit::Code(3), "last words"));
    });
}
