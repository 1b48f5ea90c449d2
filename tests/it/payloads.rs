//! Values that do not encode or decode, user types that panic, raw bytes, and a peer that breaks the
//! protocol.

use std::{
    cell::Cell,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use crossbeam_channel::unbounded;
use nape::{
    Api, CallError, CloseReason, Context, Executed, Fault, FaultKind, Handler, Head, Misuse, Neck, Payload,
    Rejection, Responder,
    transport::{FrameSender, Transport, ipc_pair, memory_pair, pipe_pair, shm_pair},
};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser};

use crate::{
    support::{HANG, Kind, watched},
    tools::{eventually, nothing_is_under_way, only},
};

on_every_link! {
    ac_24_arguments_that_do_not_decode_fail_that_call_only,
    ac_24_trailing_bytes_are_an_error,
    ac_24_arguments_that_do_not_encode_are_a_misuse,
    ac_24_a_result_that_does_not_encode_fails_that_call_only,
    ac_24_a_result_that_does_not_decode_fails_that_call_only,
    ac_24_user_types_may_panic_everywhere_at_the_serving_side,
    ac_24_user_types_may_panic_everywhere_at_the_calling_side,
    ac_24_values_that_nobody_takes_may_panic_when_they_go,
    ac_24_raw_payloads_pass_as_they_are,
}

/// Encodes as a `u8`, and misbehaves as told.
struct Odd(u8);

const FAILS_TO_ENCODE: u8 = 1;
const FAILS_TO_DECODE: u8 = 2;
const PANICS_IN_ENCODE: u8 = 3;
const PANICS_IN_DECODE: u8 = 4;
const PANICS_IN_DROP: u8 = 5;
const PANICS_IN_DISPLAY: u8 = 6;

impl Serialize for Odd {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            FAILS_TO_ENCODE => Err(ser::Error::custom("odd to write")),
            PANICS_IN_ENCODE => panic!("odd to write"),
            odd => serializer.serialize_u8(odd),
        }
    }
}

impl<'de> Deserialize<'de> for Odd {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Odd, D::Error> {
        match u8::deserialize(deserializer)? {
            FAILS_TO_DECODE => Err(de::Error::custom("odd to read")),
            PANICS_IN_DECODE => panic!("odd to read"),
            odd => Ok(Odd(odd)),
        }
    }
}

impl fmt::Display for Odd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        assert!(self.0 != PANICS_IN_DISPLAY, "odd to show");
        write!(f, "odd {}", self.0)
    }
}

impl Drop for Odd {
    fn drop(&mut self) {
        if self.0 == PANICS_IN_DROP && !std::thread::panicking() {
            panic!("odd to drop");
        }
    }
}

/// Takes, gives and fails with `Odd`, and with plain bytes.
fn odd() -> Api {
    let api = Api::new("odd").workers(2);
    let api = api.handle("plain", |_: &Context, x: u8| Ok::<_, Fault>(x)).unwrap();
    let api = api.handle("take", |_: &Context, _: Odd| Ok::<_, Fault>(())).unwrap();
    let api = api.handle("give", |_: &Context, x: u8| Ok::<_, Fault>(Odd(x))).unwrap();
    let api = api.handle("fail", |_: &Context, x: u8| Err::<(), _>(Odd(x))).unwrap();
    let later = |_: Context, x: u8, answer: Responder<Odd>| answer.answer(Odd(x));
    api.deferred("later", later).unwrap()
}

/// That the link, the workers and the handlers are as good as new.
#[track_caller]
fn all_is_well(head: &Head, neck: &Neck) {
    let plain = head.api("odd");
    let all: Vec<_> = (0..8u8).map(|x| plain.action("plain", x).start::<u8>().unwrap()).collect();
    for (x, r) in all.into_iter().enumerate() {
        assert_eq!(usize::from(r.wait().unwrap()), x);
    }
    nothing_is_under_way(head, neck);
}

fn bad_arguments(outcome: Result<u8, CallError>) -> (String, String, String) {
    match outcome {
        Err(CallError::Rejected(Rejection::BadArguments { path, expected, detail })) => {
            (path.to_string(), expected.to_string(), detail.to_string())
        }
        other => panic!("{other:?}"),
    }
}

fn ac_24_arguments_that_do_not_decode_fail_that_call_only(kind: Kind) {
    if kind.is_json() {
        // It says so in other words.
        return;
    }
    let (head, neck) = kind.serving(odd());
    head.attach(odd()).unwrap();
    for end in [head.endpoint(), neck.endpoint()] {
        let odd = end.api("odd");
        let (path, expected, detail) = bad_arguments(odd.action("plain", ()).call());
        assert_eq!((path.as_str(), expected.as_str()), ("odd.plain", "u8"));
        assert!(detail.contains("end early"), "{detail}");
        let (_, expected, detail) = bad_arguments(odd.action("take", FAILS_TO_DECODE).call());
        assert!(expected.ends_with("Odd") && detail == "odd to read", "{expected} {detail}");
        bad_arguments(odd.action("later", "a text".to_owned()).call());
        // An event with bad arguments fails as an event does.
        odd.action("plain", ()).fire().unwrap();
    }
    eventually(|| head.counters().events_failed == 1 && neck.counters().events_failed == 1);
    assert_eq!(head.counters().rejections, 3);
    all_is_well(&head, &neck);
}

fn ac_24_trailing_bytes_are_an_error(kind: Kind) {
    if kind.is_json() {
        // It says so in other words.
        return;
    }
    let (head, neck) = kind.serving(odd());
    let odd = head.api("odd");
    let detail = bad_arguments(odd.action("plain", (1u8, 2u8)).call()).2;
    assert_eq!(detail, "1 bytes are left over");
    let raw = Payload::from_bytes(vec![1, 2, 3]);
    assert_eq!(bad_arguments(odd.action("plain", raw).call()).2, "2 bytes are left over");
    let pair = |_: &Context, x: u8| Ok::<_, Fault>((x, x));
    neck.attach(Api::new("pair").handle("of", pair).unwrap()).unwrap();
    let outcome = head.api("pair").action("of", 1u8).call::<u8>();
    assert!(matches!(outcome, Err(CallError::Decode(what)) if what.contains("1 bytes are left over")));
    assert_eq!(head.api("pair").action("of", 1u8).call::<(u8, u8)>().unwrap(), (1, 1));
    all_is_well(&head, &neck);
}

fn ac_24_arguments_that_do_not_encode_are_a_misuse(kind: Kind) {
    let (head, neck) = kind.serving(odd());
    let odd = head.api("odd");
    let action = || odd.action("plain", Odd(FAILS_TO_ENCODE));
    let outcomes = [
        action().call::<u8>().map(drop),
        action().start::<u8>().and_then(|r| r.wait()).map(drop),
        action().ignore_errors().call::<u8>().map(drop),
    ];
    for outcome in outcomes {
        match outcome {
            Err(CallError::Misuse(Misuse::Encode { path, detail })) if kind.encodes() => {
                assert_eq!((path.as_str(), &*detail), ("odd.plain", "odd to write"));
            }
            // Where values move, it shows when the other side asks for another type.
            Err(CallError::Rejected(Rejection::BadArguments { detail, .. })) if !kind.encodes() => {
                assert_eq!(&*detail, "odd to write");
            }
            other => panic!("{other:?}"),
        }
    }
    // The same type needs no encoding where values move.
    assert_eq!(odd.action("take", Odd(FAILS_TO_ENCODE)).call::<()>().is_ok(), !kind.encodes());
    assert_eq!(action().fire().is_err(), kind.encodes());
    all_is_well(&head, &neck);
}

fn ac_24_a_result_that_does_not_encode_fails_that_call_only(kind: Kind) {
    let (head, neck) = kind.serving(odd());
    let odd = head.api("odd");
    for method in ["give", "later"] {
        match odd.action(method, FAILS_TO_ENCODE).call::<u8>() {
            Err(CallError::Fault(fault)) if kind.encodes() => {
                let text = format!("the result of odd.{method} does not encode: odd to write");
                assert_eq!(fault.message(), text);
            }
            Err(CallError::Decode(what)) if !kind.encodes() => {
                assert!(what.contains("odd to write"), "{what}")
            }
            other => panic!("{other:?}"),
        }
        // Moved as it is, it needs no encoding.
        assert_eq!(odd.action(method, FAILS_TO_ENCODE).call::<Odd>().is_ok(), !kind.encodes());
        assert_eq!(odd.action(method, 0u8).call::<u8>().unwrap(), 0);
    }
    // An error that does not encode arrives as its text.
    let error = odd.action("fail", FAILS_TO_ENCODE).call::<()>().unwrap_err();
    assert_eq!((error.fault().unwrap().kind(), error.to_string().as_str()), (FaultKind::Error, "odd 1"));
    all_is_well(&head, &neck);
}

fn ac_24_a_result_that_does_not_decode_fails_that_call_only(kind: Kind) {
    let (head, neck) = kind.serving(odd());
    let odd = head.api("odd");
    let action = || odd.action("plain", FAILS_TO_DECODE);
    let (tell, told) = unbounded();
    action().then(move |end: Result<Odd, _>| tell.send(end.map(drop)).unwrap()).unwrap();
    let started = action().start::<Odd>().unwrap();
    for outcome in [action().call::<Odd>().map(drop), started.wait().map(drop), only(&told)] {
        let Err(CallError::Decode(what)) = outcome else { panic!("{outcome:?}") };
        assert!(what.contains("Odd: odd to read") && what.starts_with("expected "), "{what}");
    }
    let Err(error) = odd.action("plain", 9u8).call::<String>() else { panic!() };
    assert!(matches!(&error, CallError::Decode(what) if what.contains("alloc::string::String")), "{error}");
    assert_eq!(error.executed(), Executed::Maybe);
    all_is_well(&head, &neck);
}

/// Whether a fault says that the handler panicked so.
#[track_caller]
fn assert_panicked<T>(outcome: Result<T, CallError>, text: &str) {
    let Err(error) = outcome else { panic!("it went well") };
    let fault = error.fault().unwrap_or_else(|| panic!("{error:?}"));
    assert_eq!((fault.kind(), fault.message()), (FaultKind::Panicked, text));
}

fn ac_24_user_types_may_panic_everywhere_at_the_serving_side(kind: Kind) {
    let (head, neck) = kind.serving(odd());
    let odd = head.api("odd");
    for _ in 0..40 {
        assert_panicked(odd.action("take", PANICS_IN_DECODE).call::<()>(), "odd to read");
        assert_panicked(odd.action("take", PANICS_IN_DROP).call::<()>(), "odd to drop");
        assert_panicked(odd.action("fail", PANICS_IN_DISPLAY).call::<()>(), "odd to show");
        assert_panicked(odd.action("fail", PANICS_IN_ENCODE).call::<()>(), "odd to write");
        assert_panicked(odd.action("fail", PANICS_IN_DROP).call::<()>(), "odd to drop");
        for method in ["give", "later"] {
            match odd.action(method, PANICS_IN_ENCODE).call::<u8>() {
                Err(CallError::Decode(what)) if !kind.encodes() => {
                    assert!(what.contains("panicked"), "{what}")
                }
                outcome if method == "give" => assert_panicked(outcome, "odd to write"),
                Err(CallError::NoAnswer | CallError::Fault(_)) => {}
                other => panic!("{other:?}"),
            }
            // The value had left before its remains were dropped.
            assert_eq!(odd.action(method, PANICS_IN_DROP).call::<u8>().unwrap(), PANICS_IN_DROP);
        }
    }
    all_is_well(&head, &neck);
}

fn ac_24_user_types_may_panic_everywhere_at_the_calling_side(kind: Kind) {
    let (head, neck) = kind.serving(odd());
    let odd = head.api("odd");
    let quiet = |code: &dyn Fn()| std::panic::catch_unwind(std::panic::AssertUnwindSafe(code)).is_err();
    for _ in 0..10 {
        // On the caller's own thread its panics are its own, and cost nothing but the call.
        assert!(quiet(&|| drop(odd.action("plain", PANICS_IN_DECODE).call::<Odd>())));
        assert!(quiet(&|| drop(odd.action("plain", PANICS_IN_DROP).call::<Odd>())));
        let wrote = || drop(odd.action("plain", Odd(PANICS_IN_ENCODE)).call::<u8>());
        assert_eq!(quiet(&wrote), kind.encodes());
        // A callback is called all the same.
        let (tell, told) = unbounded();
        let action = odd.action("plain", PANICS_IN_DECODE);
        action.then(move |end: Result<Odd, _>| tell.send(end.map(drop)).unwrap()).unwrap();
        assert!(matches!(only(&told), Err(CallError::Decode(what)) if what.contains("odd to read")));
    }
    assert_eq!(neck.counters().handler_panics, 0);
    all_is_well(&head, &neck);
}

thread_local! {
    static CAUGHT: Cell<u32> = const { Cell::new(0) };
}

/// Runs code that may panic, and counts.
fn survive(code: impl FnOnce()) {
    if std::panic::catch_unwind(std::panic::AssertUnwindSafe(code)).is_err() {
        CAUGHT.set(CAUGHT.get() + 1);
    }
}

fn ac_24_values_that_nobody_takes_may_panic_when_they_go(kind: Kind) {
    let (head, neck) = kind.serving(odd());
    let bomb = || Odd(PANICS_IN_DROP);
    let hold = move |cx: &Context, _: Odd| {
        cx.cancel_token().wait_timeout(HANG);
        Ok::<_, Fault>(bomb())
    };
    let narrow = Api::new("narrow").workers(1).queue(1, nape::WhenFull::Refuse).handle("hold", hold).unwrap();
    let narrow = neck.attach(narrow).unwrap();
    for _ in 0..3 {
        // Refused: unknown, then waiting for a worker behind another, then beyond the queue.
        survive(|| drop(head.api("nobody").action("here", bomb()).call::<()>()));
        survive(|| head.api("nobody").action("here", bomb()).fire().unwrap());
        let mut all = Vec::new();
        survive(|| all.push(head.api("narrow").action("hold", bomb()).start::<Odd>().unwrap()));
        survive(|| all.push(head.api("narrow").action("hold", bomb()).start::<Odd>().unwrap()));
        survive(|| all.push(head.api("narrow").action("hold", bomb()).start::<Odd>().unwrap()));
        // Given up, so that what waits is not run, and results are dropped without a taker.
        survive(|| drop(all));
        eventually(|| narrow.depth() == (0, 0));
        all_is_well(&head, &neck);
    }
    assert_eq!(CAUGHT.get() > 0, kind.encodes(), "its own copies are the caller's own business");
}

fn ac_24_raw_payloads_pass_as_they_are(kind: Kind) {
    if kind.is_json() {
        // It names bytes of the other codec.
        return;
    }
    let api = Api::new("raw").otherwise(|cx, raw| {
        let mut bytes = raw.into_bytes();
        bytes.extend_from_slice(cx.path().as_str().as_bytes());
        Ok(Payload::from_bytes(bytes))
    });
    let tail = |_: &Context, raw: Payload| Ok::<_, Fault>(raw.bytes().len() as u64);
    let (head, neck) = kind.serving(api.unwrap().handle("len", tail).unwrap());
    let raw = head.api("raw");
    for bytes in [vec![], vec![0xff; 3], vec![7; 100_000]] {
        let reply = raw.action("a.b", Payload::from_bytes(bytes.clone())).call::<Payload>().unwrap();
        assert_eq!(&*reply.bytes(), [&bytes[..], b"raw.a.b"].concat());
        let len = raw.action("len", Payload::from_bytes(bytes.clone())).start::<u64>().unwrap();
        assert_eq!(len.wait().unwrap(), bytes.len() as u64);
    }
    // Typed at one end and raw at the other: the bytes of the codec, on every link.
    let reply = raw.action("x", "hi".to_owned()).call::<Payload>().unwrap();
    assert_eq!(reply.into_bytes(), b"\x02hiraw.x");
    assert_eq!(raw.action("x", 5u8).call::<[u8; 6]>().unwrap(), *b"\x05raw.x");
    assert_eq!(raw.action("len", (1u8, "four".to_owned())).call::<u64>().unwrap(), 6);
    let seen = raw.action("len", 300u64).call::<Payload>().unwrap();
    assert_eq!(&*seen.bytes(), [3]);
    neck.on_unhandled(|_, raw| Ok(raw));
    let echoed = head.api("else").action("", Payload::from_bytes(b"echo".to_vec())).call::<Payload>();
    assert_eq!(echoed.unwrap().into_bytes(), b"echo");
    let _ = Handler::new(|_: &Context, raw: Payload| Ok::<_, Fault>(raw));
}

/// A way out that breaks the next frame of one kind.
struct Breaking {
    inner: Box<dyn FrameSender>,
    kind: u8,
    how: fn(&mut Vec<u8>),
    armed: Arc<AtomicBool>,
}

impl FrameSender for Breaking {
    fn send(&mut self, packet: &[u8]) -> std::io::Result<()> {
        let mut packet = packet.to_vec();
        if packet[4] == self.kind && self.armed.swap(false, Ordering::AcqRel) {
            (self.how)(&mut packet);
        }
        self.inner.send(&packet)
    }
}

const CALL: u8 = 3;
const REPLY: u8 = 5;
const FAULT: u8 = 6;

/// Leaves the header and `len` bytes of the body.
fn cut_body(packet: &mut Vec<u8>, len: usize) {
    packet.truncate(24 + len);
    packet[0] = (20 + len) as u8;
}

/// A way to break a frame: of which kind, how, and the number of the rule that it breaks.
type Break = (u8, fn(&mut Vec<u8>), u16);

const BREAKS: &[Break] = &[
    (CALL, |packet| cut_body(packet, 0), 11),
    (CALL, |packet| cut_body(packet, 3), 11),
    (CALL, |packet| packet[4] = 200, 7),
    (CALL, |packet| packet[6] = 1, 10),
    (CALL, |packet| packet[8..16].fill(0), 13),
    (CALL, |packet| packet.truncate(20), 9),
    (REPLY, |packet| packet[9] = 1, 15),
    (REPLY, |packet| packet[15] ^= 0x80, 15),
    (FAULT, |packet| cut_body(packet, 1), 11),
    (FAULT, |packet| packet[5] = 2, 16),
];

fn a_broken_envelope_closes_the_link(pair: fn() -> (Transport, Transport)) {
    // What is cut off is no mistake on a stream: the rest could still come.
    let is_stream = pair().0.name == "pipe";
    for (kind, how, code) in BREAKS.iter().filter(|(_, _, code)| !is_stream || *code != 9) {
        let ((ours, theirs), armed) = (pair(), Arc::new(AtomicBool::new(false)));
        let breaking = |transport: Transport| Transport {
            sender: Box::new(Breaking {
                inner: transport.sender,
                kind: *kind,
                how: *how,
                armed: armed.clone(),
            }),
            ..transport
        };
        let head = Head::builder().over(breaking(ours)).unwrap();
        let neck = Neck::builder().serve(odd()).over(breaking(theirs)).unwrap().start();
        all_is_well(&head, &neck);
        armed.store(true, Ordering::Release);
        let path = if *kind == FAULT { "nobody" } else { "plain" };
        let outcome = head.api("odd").action(path, 1u8).call::<u8>();
        let Err(CallError::Closed { reason, executed: Executed::Maybe }) = outcome else {
            panic!("{outcome:?}")
        };
        // Whoever sees the breach names it; the other side is told its number.
        eventually(|| neck.close_reason().is_some() && head.close_reason().is_some());
        let (breach, told) = match kind {
            &CALL => (neck.close_reason().unwrap(), reason),
            _ => (reason, neck.close_reason().unwrap()),
        };
        assert!(
            matches!(&*breach, CloseReason::Protocol(error) if error.code() == *code),
            "{code}: {breach:?}"
        );
        assert!(
            matches!(*told, CloseReason::Accused { code: number } if number == *code),
            "{code}: {told:?}"
        );
    }
}

#[test]
fn ac_24_a_broken_envelope_closes_the_link_with_a_protocol_reason() {
    watched(|| a_broken_envelope_closes_the_link(memory_pair));
    watched(|| a_broken_envelope_closes_the_link(|| ipc_pair().unwrap()));
    watched(|| a_broken_envelope_closes_the_link(|| pipe_pair().unwrap()));
    watched(|| a_broken_envelope_closes_the_link(|| shm_pair().unwrap()));
}
