//! Every error makes the way to a record and back.

use std::error::Error as _;

use proptest::{collection::vec, prelude::*};

use super::*;
use crate::wire::{ProtocolError, Side};

fn path(text: &str) -> Path {
    Path::new(text).unwrap()
}

fn read_record(record: FaultRecord) -> CallError {
    CallError::from_record(record, Codec::Binary)
}

/// Across a link: to a record, to bytes, and back.
fn crossed(error: &CallError) -> CallError {
    let mut body = Vec::new();
    error.to_record(Codec::Binary).write(&mut body);
    read_record(FaultRecord::read(&body).unwrap())
}

/// The same for an error that a handler passes on by `?`.
fn passed_on(error: CallError) -> CallError {
    let fault: Fault = error.into();
    crossed(&CallError::Fault(fault))
}

fn death(exit: Exit, stderr: &str) -> Death {
    Death { exit, after: Duration::from_micros(1_234_567), stderr: stderr.into() }
}

fn closed(reason: CloseReason) -> CallError {
    CallError::Closed { reason: Arc::new(reason), executed: Executed::Maybe }
}

fn rejections() -> Vec<Rejection> {
    let (path, detail) = (path("a.b"), Arc::from("detail"));
    vec![
        Rejection::NoHandler { path: path.clone() },
        Rejection::BadArguments {
            path: path.clone(),
            expected: "(u8, u16)".into(),
            detail: Arc::clone(&detail),
        },
        Rejection::Busy { path: path.clone(), detail },
        Rejection::TooLarge { size: u64::MAX, limit: 1 },
        Rejection::ShuttingDown,
        Rejection::Ambiguous { path: path.clone(), count: 3 },
        Rejection::Expired,
        Rejection::Denied { path: path.clone() },
        Rejection::Mismatch { path, ours: "a".into(), theirs: "b".into() },
    ]
}

fn path_errors() -> Vec<PathError> {
    vec![
        PathError::Empty,
        PathError::TooLong(300),
        PathError::TooLong(1 << 40),
        PathError::EmptySegment,
        PathError::BadCharacter('\0'),
        PathError::BadCharacter(char::MAX),
        PathError::NotUtf8,
    ]
}

fn misuses() -> Vec<Misuse> {
    let mut all = vec![
        Misuse::Encode { path: path("a"), detail: "why".into() },
        Misuse::Item { path: path("a"), detail: "why".into() },
        Misuse::Taken { path: path("a") },
        // A place is a text of the program, and arrives as this one.
        Misuse::WouldDeadlock { place: "a place at the other side" },
        Misuse::NoThread { detail: "no memory".into() },
        Misuse::Forked,
    ];
    all.extend(path_errors().into_iter().map(Misuse::BadPath));
    all
}

fn close_reasons() -> Vec<CloseReason> {
    vec![
        CloseReason::Local,
        CloseReason::Peer,
        CloseReason::Died(death(Exit::Code(-3), "last words")),
        CloseReason::Died(death(Exit::Signal(9), "")),
        CloseReason::Died(death(Exit::Unknown, "")),
        CloseReason::Gone,
        CloseReason::Io(Arc::new(io::Error::from_raw_os_error(32))),
        CloseReason::Accused { code: 17 },
        CloseReason::Accused { code: u16::MAX },
        CloseReason::Broken("a thread ended".into()),
        CloseReason::Unresponsive { what: Silence::Answer, after: Duration::from_micros(1_500_000) },
        CloseReason::Unresponsive { what: Silence::Read, after: Duration::from_secs(10) },
        CloseReason::TurnedAway(super::super::TurnedAway::Busy),
        CloseReason::TurnedAway(super::super::TurnedAway::GoingAway),
        CloseReason::GaveUp(Arc::new(GivenUp { crashes: Vec::new(), summary: "it crashed 4 times".into() })),
    ]
}

fn faults() -> Vec<Fault> {
    let mut chained = Fault::new("outer");
    chained.chain = Arc::new(["inner".into(), "".into(), "innermost".into()]);
    vec![
        Fault::new(""),
        chained,
        Fault::from_typed(&"a typed text".to_owned()),
        Fault::of(FaultKind::Panicked, "index out of bounds".into(), ""),
        Fault::of(FaultKind::Other(999), "from the future".into(), "Later"),
        CallError::Cancelled.into(),
    ]
}

/// One of every kind, and of every kind within.
fn every_error() -> Vec<CallError> {
    let mut all = vec![
        CallError::TimedOut {
            path: path("a.b"),
            after: Duration::from_micros(u64::MAX),
            executed: Executed::No,
        },
        CallError::TimedOut { path: path("a.b"), after: Duration::ZERO, executed: Executed::Maybe },
        CallError::Cancelled,
        CallError::Closed { reason: Arc::new(CloseReason::Peer), executed: Executed::No },
        CallError::NoAnswer,
        CallError::Decode("2 bytes are left over".into()),
    ];
    all.extend(close_reasons().into_iter().map(closed));
    let poisonous = |last| CallError::Poisonous { path: path("a.b"), crashes: 3, last: Arc::new(last) };
    all.extend(close_reasons().into_iter().map(poisonous));
    all.extend(rejections().into_iter().map(CallError::Rejected));
    all.extend(misuses().into_iter().map(CallError::Misuse));
    all.extend(faults().into_iter().map(CallError::Fault));
    all
}

#[track_caller]
fn assert_same(left: &CallError, right: &CallError) {
    assert_eq!(format!("{left:?}"), format!("{right:?}"));
    assert_eq!(left.to_record(Codec::Binary), right.to_record(Codec::Binary));
    assert_eq!((left.to_string(), left.executed()), (right.to_string(), right.executed()));
}

#[test]
fn ac_23_every_error_crosses_a_link() {
    for error in every_error() {
        assert_same(&crossed(&error), &error);
    }
}

#[test]
fn ac_23_every_error_can_be_passed_on_by_a_handler() {
    for error in every_error() {
        let text = error.to_string();
        let CallError::Fault(fault) = passed_on(error.clone()) else { panic!("it came from a handler") };
        assert_eq!((fault.kind(), fault.message()), (FaultKind::Call, text.as_str()));
        assert_same(&fault.call_error().unwrap(), &error);
    }
}

#[test]
fn ac_23_the_error_of_the_crate_is_passed_on_as_the_call_error_in_it() {
    for error in every_error() {
        let fault: Fault = Error::from(error.clone()).into();
        assert_same(&fault.call_error().unwrap(), &error);
    }
}

#[test]
fn ac_23_an_error_that_was_passed_on_twenty_times_is_still_there() {
    let mut error = closed(CloseReason::Died(death(Exit::Signal(11), "oh")));
    for _ in 0..20 {
        error = passed_on(error);
    }
    for _ in 0..20 {
        error = error.fault().and_then(Fault::call_error).expect("one more within");
    }
    let CallError::Closed { reason, .. } = &error else { panic!("{error}") };
    assert!(matches!(&**reason, CloseReason::Died(death) if death.exit == Exit::Signal(11)));
}

/// What only a link with its own codec can read is left out, and the rest is as it was.
#[test]
fn ac_23_an_error_that_goes_on_in_another_codec_is_still_there() {
    let died = || closed(CloseReason::Died(death(Exit::Signal(11), "oh")));
    let mut typed = Fault::from_typed(&"a typed text".to_owned());
    typed.form = Form::One(Codec::Binary);
    for error in
        [died(), CallError::Fault(typed), CallError::Fault(Fault::new("a text")), CallError::Cancelled]
    {
        let mut passed = error.clone();
        for _ in 0..5 {
            passed = passed_on(passed);
        }
        let mut body = Vec::new();
        passed.to_record(Codec::Json).write(&mut body);
        let mut there = CallError::from_record(FaultRecord::read(&body).unwrap(), Codec::Json);
        for _ in 0..5 {
            assert_eq!(there.to_string(), error.to_string());
            there = there.fault().and_then(Fault::call_error).expect("one more within");
        }
        match there.fault() {
            Some(fault) => {
                assert_eq!((fault.kind(), fault.message()), (FaultKind::Error, &*error.to_string()));
                assert!(fault.value.bytes.is_empty());
            }
            None => assert_same(&there, &error),
        }
    }
}

/// A peer that answers so would have the stack of whoever passes it on overflow, or its memory.
#[test]
fn p_33_calls_that_failed_in_each_other_without_end_are_texts() {
    let record = |texts: &[&str], value| {
        let texts = texts.iter().map(|text| (*text).to_owned()).collect();
        FaultRecord { code: FaultCode::Call as u16, numbers: [0, 0], texts, value }
    };
    let mut level = Vec::new();
    record(&[], Vec::new()).write(&mut level);
    let error = read_record(record(&["no room"], level.repeat(800_000)));
    let fault = error.fault().unwrap();
    assert_eq!((fault.kind(), fault.message()), (FaultKind::Error, "no room"));
    assert!(fault.value.bytes.is_empty());

    // What was made here may be so deep until it leaves.
    let within =
        |value| CallError::Fault(Fault { kind: FaultKind::Call, value: Arc::new(value), ..Fault::new("no") });
    let error = within(level.repeat(800_000).into());
    for codec in [Codec::Binary, Codec::Json] {
        let mut body = Vec::new();
        error.to_record(codec).write(&mut body);
        let there = CallError::from_record(FaultRecord::read(&body).unwrap(), codec);
        assert_eq!(
            there.fault().map(|fault| (fault.kind(), fault.message())),
            Some((FaultKind::Error, "no"))
        );
    }
    let passed = passed_on(error.clone());
    assert_eq!(passed.fault().map(Fault::message), Some("no"));
    assert!(error.fault().unwrap().call_error().unwrap().fault().unwrap().call_error().is_none());
}

#[test]
fn a_typed_error_is_still_typed_after_it_was_passed_on() {
    let typed = CallError::Fault(Fault::from_typed(&"a typed text".to_owned()));
    let inner = passed_on(typed).fault().unwrap().call_error().unwrap();
    assert_eq!(inner.fault().unwrap().typed::<String>().as_deref(), Some("a typed text"));
}

#[test]
fn our_protocol_error_is_an_accusation_at_the_other_side() {
    let errors = [
        ProtocolError::NotAPeer { expected: Side::Neck },
        ProtocolError::BadPath(PathError::Empty),
        ProtocolError::OutOfPlace("a reply"),
    ];
    for error in errors {
        let code = error.code();
        assert_same(&crossed(&closed(CloseReason::Protocol(error))), &closed(CloseReason::Accused { code }));
    }
}

#[test]
fn an_io_error_keeps_its_number_or_else_its_text() {
    let crossed = |error: io::Error| match crossed(&closed(CloseReason::Io(Arc::new(error)))) {
        CallError::Closed { reason, .. } => match &*reason {
            CloseReason::Io(error) => (error.kind(), error.raw_os_error(), error.to_string()),
            other => panic!("{other}"),
        },
        other => panic!("{other}"),
    };
    let full = io::Error::from_raw_os_error(28);
    assert_eq!(crossed(io::Error::from_raw_os_error(28)), (full.kind(), Some(28), full.to_string()));
    assert_eq!(crossed(io::Error::other("odd")), (io::ErrorKind::Other, None, "odd".to_owned()));
    assert_eq!(crossed(io::Error::from_raw_os_error(-1)).1, None);
}

#[test]
fn a_time_is_kept_to_the_microsecond() {
    let error = |after| CallError::TimedOut { path: path("a"), after, executed: Executed::No };
    let read = |error| match crossed(&error) {
        CallError::TimedOut { after, .. } => after,
        other => panic!("{other}"),
    };
    assert_eq!(read(error(Duration::from_nanos(1_999))), Duration::from_micros(1));
    assert_eq!(read(error(Duration::MAX)), Duration::from_micros(u64::MAX));
}

#[test]
fn d_34_an_unknown_code_is_a_fault_of_an_unknown_kind() {
    let texts = vec!["message".into(), "type".into(), "source".into()];
    let record = FaultRecord { code: 65_535, numbers: [1, 2], texts, value: vec![7] };
    let CallError::Fault(fault) = read_record(record) else { panic!("a fault") };
    assert_eq!(fault.kind(), FaultKind::Other(65_535));
    assert_eq!((fault.message(), fault.type_name()), ("message", "type"));
    assert_eq!(fault.chain().collect::<Vec<_>>(), ["source"]);
    assert_eq!(CallError::Fault(fault).to_record(Codec::Binary).code, 65_535);
}

#[test]
fn sources_travel_as_texts_up_to_sixteen() {
    #[derive(Debug, thiserror::Error)]
    #[error("level {0}")]
    struct Level(u32, #[source] Option<Box<Level>>);
    let deep = (0..20).fold(None, |below, n| Some(Box::new(Level(n, below))));
    let fault: Fault = (*deep.unwrap()).into();
    assert_eq!(fault.message(), "level 19");
    let CallError::Fault(fault) = crossed(&CallError::Fault(fault)) else { panic!("a fault") };
    let expected: Vec<String> = (3..19).rev().map(|n| format!("level {n}")).collect();
    assert_eq!(fault.chain().collect::<Vec<_>>(), expected);
    assert!(fault.type_name().ends_with("Level"));
}

#[test]
fn the_reason_of_a_closed_link_is_in_the_chain() {
    let error = closed(CloseReason::Io(Arc::new(io::Error::other("disk on fire"))));
    assert!(error.source().is_some());
    let fault: Fault = error.into();
    assert_eq!(fault.chain().collect::<Vec<_>>(), ["the transport failed", "disk on fire"]);
}

/// Texts that break rules, at every place where a record may hold one.
fn hostile_record(code: u16, numbers: [u64; 2], value: Vec<u8>) -> FaultRecord {
    let texts = vec!["no path..".to_owned(), "\0".to_owned()];
    FaultRecord { code, numbers, texts, value }
}

#[test]
fn a_path_that_is_none_becomes_the_root() {
    let error = read_record(hostile_record(1, [0, 0], vec![]));
    assert!(matches!(error, CallError::Rejected(Rejection::NoHandler { path }) if path.is_root()));
}

#[test]
fn numbers_out_of_range_stay_within_their_types() {
    let read = |code: FaultCode, numbers| {
        read_record(FaultRecord { code: code as u16, numbers, ..FaultRecord::default() })
    };
    let ambiguous = read(FaultCode::Ambiguous, [u64::MAX, 0]);
    assert!(matches!(ambiguous, CallError::Rejected(Rejection::Ambiguous { count: u32::MAX, .. })));
    let surrogate = read(FaultCode::Misuse, [1 | 3 << 8 | 0xd800 << 16, 0]);
    assert!(matches!(surrogate, CallError::Misuse(Misuse::BadPath(PathError::BadCharacter('\u{fffd}')))));
    let wide = read(FaultCode::Closed, [6 | 0x1_0001 << 8, 2]);
    let CallError::Closed { reason, executed: Executed::Maybe } = wide else { panic!("{wide}") };
    assert!(matches!(*reason, CloseReason::Accused { code: u16::MAX }));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn random_records_never_panic(
        code in prop_oneof![0u16..60, any::<u16>()],
        first in prop_oneof![0u64..9, any::<u64>()],
        second in any::<u64>(),
        value in vec(any::<u8>(), 0..60),
    ) {
        let error = read_record(hostile_record(code, [first, second], value));
        let _ = (error.to_string(), format!("{error:?}"), error.executed());
        let _ = error.fault().and_then(Fault::call_error);
        // What was read once is stable from then on.
        assert_same(&crossed(&error), &crossed(&crossed(&error)));
    }
}

#[test]
fn d_68_no_flip_of_a_byte_panics() {
    for error in every_error() {
        let mut golden = Vec::new();
        error.to_record(Codec::Binary).write(&mut golden);
        for at in 0..golden.len().min(40) {
            for byte in [0, 1, golden[at] ^ 1, golden[at] ^ 0x80, 255] {
                let mut body = golden.clone();
                body[at] = byte;
                if let Ok(record) = FaultRecord::read(&body) {
                    let _ = read_record(record).to_string();
                }
            }
        }
    }
}
