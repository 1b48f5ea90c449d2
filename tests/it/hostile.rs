//! Bytes that no correct peer sends, to a Head and to a Neck. Each ends the link with the number of the
//! rule that it breaks, or does no harm; nothing panics, nothing hangs, and no other link notices.

#[path = "../hostile/file.rs"]
mod file;
mod files;
mod packets;
#[allow(dead_code, reason = "the floods need more of it")]
mod raw;
mod room;
mod scribble;
mod stage;
mod streams;
mod table;

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    time::{Duration, Instant},
};

use fastrand::Rng;
use nape::{Api, AsyncResult, CallError, CloseReason, Config, Context, Fault, ProtocolError};

use crate::soak::floods;
use file::HostileFile;
use packets::{
    p_09_handlers_of_one_packet_that_wait_for_each_other,
    p_09_what_is_left_of_a_packet_runs_while_all_else_have_jobs,
};
use raw::*;
use room::{
    p_15_a_call_for_which_there_is_no_room_is_refused,
    p_15_an_answer_for_which_there_is_no_room_ends_its_call,
    p_15_an_event_for_which_there_is_no_room_is_dropped_and_reported,
    p_15_items_for_which_there_is_no_room_end_their_stream, p_15_the_rest_of_a_refused_call_is_forgotten,
};
use stage::{Bystander, Place, Stage, Wire, echo};
use streams::{
    a_stream_by_hand, d_55_items_for_a_caller, d_55_items_without_end_of_what_is_over,
    p_15_a_peer_that_grants_everything_and_reads_nothing, set,
};
use table::Expected;

/// Makes a test of each function for each side and each wire.
macro_rules! towards_every_end {
    ($($test:ident),* $(,)?) => {
        towards_every_end!(@ head_memory (Wire::Memory, Side::Head) $($test)*);
        towards_every_end!(@ neck_memory (Wire::Memory, Side::Neck) $($test)*);
        towards_every_end!(@ head_ipc (Wire::Ipc, Side::Head) $($test)*);
        towards_every_end!(@ neck_ipc (Wire::Ipc, Side::Neck) $($test)*);
        towards_every_end!(@ head_pipe (Wire::Pipe, Side::Head) $($test)*);
        towards_every_end!(@ neck_pipe (Wire::Pipe, Side::Neck) $($test)*);
        towards_every_end!(@ head_shm (Wire::Shm, Side::Head) $($test)*);
        towards_every_end!(@ neck_shm (Wire::Shm, Side::Neck) $($test)*);
    };
    (@ $name:ident $place:tt $($test:ident)*) => {
        mod $name {
            use super::{Side, Wire};
            $(#[test] fn $test() { crate::support::watched(|| super::$test($place)) })*
        }
    };
}

towards_every_end! {
    hellos, headers, messages, parts, limits, answers,
    d_01_somebody_who_says_nothing,
    d_02_somebody_who_hangs_up,
    d_10_a_hello_that_drips,
    d_16_a_message_that_does_not_go_on,
    d_20_pings_without_end,
    d_21_unknown_frames_without_end,
    d_22_a_packet_that_is_cut_anywhere,
    p_09_handlers_of_one_packet_that_wait_for_each_other,
    p_09_what_is_left_of_a_packet_runs_while_all_else_have_jobs,
    d_24_two_answers,
    d_26_a_cancelled_call_is_in_use,
    d_30_more_calls_than_are_served,
    d_32_calls_and_cancels_without_end,
    d_56_an_event_that_nobody_takes_is_counted,
    d_67_an_end_anywhere,
    a_stream_by_hand,
    d_55_frames_of_streams,
    d_55_items_for_a_caller,
    d_55_items_without_end_of_what_is_over,
    p_15_a_peer_that_grants_everything_and_reads_nothing,
    p_15_a_call_for_which_there_is_no_room_is_refused,
    p_15_the_rest_of_a_refused_call_is_forgotten,
    p_15_an_event_for_which_there_is_no_room_is_dropped_and_reported,
    p_15_an_answer_for_which_there_is_no_room_ends_its_call,
    p_15_items_for_which_there_is_no_room_end_their_stream,
    ids_may_be_used_again,
    an_acknowledgement_that_goes_back,
}

/// Plays the files of a kind, each on a stage of its own, and looks what comes of them.
fn play<T>(
    place: Place,
    kind: &str,
    set: impl Fn() -> Stage,
    before: impl Fn(&mut Stage) -> T,
    after: impl Fn(&mut Stage, &HostileFile, T),
) {
    let bystander = Bystander::new();
    for file in files::played(place.1.other(), kind) {
        eprintln!("{place:?} {}", file.name);
        let mut stage = set();
        let begun = before(&mut stage);
        send(&mut stage, &file);
        let waits = stage.raw.is_stream() && file.field("on a stream").is_some();
        match Expected::parse(file.field("expected").expect("it expects something")) {
            _ if waits => stage.waits_for_the_rest(),
            Expected::Broken(code) => {
                // In the midst of a flood nobody may hear what is said last.
                let is_flood = file.packets.iter().any(|(_, times)| *times > 1);
                let error = if is_flood { stage.broken() } else { stage.broken_and_told() };
                assert_eq!(error.code(), code, "{}: {error:?}", file.name);
            }
            Expected::Lives => stage.works(),
            Expected::Answered(kind, id, start) => {
                // Two handlers may answer in either order.
                let frame = std::iter::from_fn(|| stage.raw.next())
                    .find(|frame| frame.kind == kind && frame.id == id)
                    .unwrap_or_else(|| panic!("{}: no answer came", file.name));
                assert!(frame.body.starts_with(&start), "{}: {frame:?}", file.name);
            }
        }
        after(&mut stage, &file, begun);
        stage.leave();
        bystander.works();
    }
}

/// The packets of a file; those behind the first when there is room for them.
fn send(stage: &mut Stage, file: &HostileFile) {
    let packets = file.packets.iter().flat_map(|(packet, times)| (0..*times).map(move |_| packet));
    for (index, packet) in packets.enumerate() {
        let is_there = (index == 0 || stage.raw.wait_for_room()) && stage.raw.send_as_is(packet);
        if !is_there {
            return;
        }
    }
}

/// What needs nothing before it and leaves nothing to look at.
fn play_alone(place: Place, kind: &str, set: impl Fn() -> Stage) {
    play(place, kind, set, |_| (), |_, _, ()| ());
}

fn hellos(place: Place) {
    play_alone(place, "hello", || Stage::silent(place, Config::new(), echo()));
}

fn headers(place: Place) {
    play_alone(place, "header", || Stage::new(place));
}

fn messages(place: Place) {
    play_alone(place, "message", || Stage::new(place));
}

fn parts(place: Place) {
    play_alone(place, "part", || Stage::new(place));
}

fn limits(place: Place) {
    play_alone(place, "limit", || Stage::with(place, table::small(), echo()));
}

fn d_55_frames_of_streams(place: Place) {
    play_alone(place, "stream", || set(place));
}

/// The subject has called, and what comes is the answer.
fn answers(place: Place) {
    let call = |stage: &mut Stage| {
        let result = stage.subject.api("raw").action("x", ()).start::<String>().unwrap();
        stage.raw.next_of(CALL);
        result
    };
    let after = |_: &mut Stage, file: &HostileFile, result: AsyncResult<String>| {
        let outcome = match result.wait() {
            Ok(text) => format!("gives {text:?}"),
            Err(CallError::Decode(_)) => "does not decode".to_owned(),
            Err(CallError::Closed { .. }) => "ends with the link".to_owned(),
            Err(CallError::Fault(fault)) => {
                format!("fails with {:?} and a text of {} bytes", fault.kind(), fault.message().len())
            }
            Err(other) => format!("{other:?}"),
        };
        assert_eq!(Some(&*outcome), file.field("the call"), "{}", file.name);
    };
    play(place, "answer", || Stage::new(place), call, after);
}

/// A start timeout that is soon over.
fn hasty() -> Config {
    Config::new().start_timeout(Duration::from_millis(100))
}

fn d_01_somebody_who_says_nothing(place: Place) {
    let start = Instant::now();
    let mut stage = Stage::silent(place, hasty(), echo());
    let error = stage.broken_and_told();
    assert!(matches!(error, ProtocolError::BadHello(_)), "{error:?}");
    assert!(start.elapsed() >= Duration::from_millis(100), "it had {:?} only", start.elapsed());
    stage.leave();
    // One who has greeted in time may be silent for as long as it likes.
    let mut stage = Stage::with(place, hasty(), echo());
    assert!(stage.lives_for(Duration::from_millis(250)));
    stage.works();
    stage.leave();
}

fn d_02_somebody_who_hangs_up(place: Place) {
    let mut stage = Stage::silent(place, hasty(), echo());
    stage.raw.hang_up();
    let error = stage.broken();
    match place.0 {
        Wire::Memory | Wire::Pipe | Wire::Shm => assert_eq!(error, ProtocolError::ClosedBeforeHello),
        // This one does not see the end: it is silence.
        Wire::Ipc => assert!(matches!(error, ProtocolError::BadHello(_)), "{error:?}"),
    }
    stage.leave();
}

/// The time is that of the whole greeting, and not that between two bytes. Where each is a packet, it is no frame.
fn d_10_a_hello_that_drips(place: Place) {
    let begin = Instant::now();
    let mut stage = Stage::silent(place, hasty(), echo());
    let hello = stage.raw.side.hello().frame();
    for byte in hello.chunks(1) {
        if stage.subject.close_reason().is_some() || !stage.raw.send_as_is(byte) {
            break;
        }
        // Slower than it may be, and quicker than the time of the whole.
        std::thread::sleep(Duration::from_millis(10));
    }
    let error = stage.broken();
    match place.0 {
        Wire::Pipe => {
            assert!(matches!(error, ProtocolError::BadHello(_)), "{error:?}");
            assert!(begin.elapsed() >= Duration::from_millis(100), "{:?}", begin.elapsed());
        }
        _ => assert!(matches!(error, ProtocolError::NotAPeer { .. }), "{error:?}"),
    }
    stage.leave();
}

/// Calls with times of their own end by them; then the unfinished message costs the link.
fn d_16_a_message_that_does_not_go_on(place: Place) {
    let pause = Duration::from_millis(200);
    let mut stage = Stage::with(place, Config::new().stall_timeout(pause), echo());
    let id = stage.raw.side.id(1);
    let start = Instant::now();
    assert!(stage.raw.send(CALL, MORE, id, &call("echo.text", &[])));
    let mine = stage.subject.api("raw").action("never", ()).timeout(pause / 4).call::<()>();
    assert!(matches!(mine, Err(CallError::TimedOut { .. })), "{mine:?}");
    stage.works();
    assert_eq!(stage.broken_and_told(), ProtocolError::Stalled(pause));
    assert!(start.elapsed() >= pause, "it had {:?} only", start.elapsed());
    stage.leave();
}

fn d_20_pings_without_end(place: Place) {
    if floods() {
        let mut stage = Stage::new(place);
        // An honest pace: the answers are read.
        let round = |stage: &mut Stage| {
            let sent = (0..32).all(|n| stage.raw.send(PING, 0, n, &[]));
            sent && (0..32).all(|_| stage.raw.next().is_some_and(|frame| frame.kind != BYE))
        };
        let sent = 32 * (0..100_000).take_while(|_| round(&mut stage)).count();
        assert_eq!(stage.broken(), ProtocolError::Flood("pings"));
        assert!(sent > 19_000, "{sent} pings are not many");
        stage.leave();
    }
    // Its answers are not read: they do not pile up.
    let mut stage = Stage::new(place);
    let ping = frame(PING, 0, 1, &[]);
    let sent = (0..1_000_000).take_while(|_| stage.raw.send_as_is(&ping)).count();
    assert_eq!(stage.broken(), ProtocolError::Flood("pings that are not read"), "{sent} were sent");
    stage.leave();
}

/// Red when a broken rule is not a reason to end.
fn d_21_unknown_frames_without_end(place: Place) {
    let mut stage = Stage::new(place);
    let unknown = frame(200, OPTIONAL, 0, &[]);
    let packet: Vec<u8> = (0..100).flat_map(|_| unknown.clone()).collect();
    let sent = (0..10_000).take_while(|_| stage.raw.send_as_is(&packet)).count();
    assert_eq!(stage.broken(), ProtocolError::Flood("unknown frames"));
    assert!(sent >= 200, "{sent} hundreds are not many");
    stage.leave();
}

fn d_22_a_packet_that_is_cut_anywhere(place: Place) {
    let good = frame(CALL, 0, place.1.other().id(1), &call("echo.text", &text("hi")));
    for len in 1..good.len() {
        let mut stage = Stage::new(place);
        stage.raw.send_as_is(&good[..len]);
        if place.0 == Wire::Pipe {
            // Most of the time what is cut off is read before the rest is there.
            std::thread::sleep(Duration::from_millis(2));
            stage.raw.send_as_is(&good[len..]);
            assert_eq!(stage.raw.next_of(REPLY).body, text("hi"));
        } else {
            assert_eq!(stage.broken(), ProtocolError::TooShort(len as u64));
        }
        stage.leave();
    }
}

fn d_24_two_answers(place: Place) {
    let mut stage = Stage::new(place);
    let result = stage.subject.api("raw").action("x", ()).start::<u64>().unwrap();
    let asked = stage.raw.next_of(CALL);
    stage.raw.send(REPLY, 0, asked.id, &[1]);
    stage.raw.send(REPLY, 0, asked.id, &[2]);
    stage.raw.send(FAULT, 0, asked.id, &fault(1, &[b"x"]));
    assert_eq!(result.wait().unwrap(), 1);
    stage.works();
    assert_eq!(stage.subject.counters().late_replies, 2);
    stage.leave();
}

fn d_26_a_cancelled_call_is_in_use(place: Place) {
    let (release, released) = mpsc::channel::<()>();
    let released = Mutex::new(released);
    let (begin, begun) = mpsc::channel::<()>();
    let stubborn = move |_: &Context, (): ()| {
        begin.send(()).unwrap();
        Ok::<_, Fault>(released.lock().unwrap().recv().is_ok())
    };
    let api = Api::new("api").handle("stubborn", stubborn).unwrap();
    let mut stage = Stage::with(place, Config::new(), api);
    let id = stage.call(1, "api.stubborn", &[]);
    // What is cancelled before it begins is over at once.
    begun.recv_timeout(crate::tools::LONG).unwrap();
    stage.raw.send(CANCEL, 0, id, &[]);
    stage.call(1, "api.stubborn", &[]);
    assert_eq!(stage.broken(), ProtocolError::DuplicateId(id));
    drop(release);
    stage.leave();
}

fn d_30_more_calls_than_are_served(place: Place) {
    let mut stage = Stage::with(place, Config::new().served_calls(3), echo());
    (1..=3).for_each(|counter| _ = stage.call(counter, "echo.wait", &[]));
    let id = stage.call(4, "echo.text", &text("hi"));
    let refused = stage.raw.next_of(FAULT);
    assert_eq!((refused.id, refused.code()), (id, 3));
    for counter in 1..=3 {
        let id = stage.raw.side.id(counter);
        stage.raw.send(CANCEL, 0, id, &[]);
    }
    // The places are free once the handlers have returned.
    let id = |counter| stage.raw.side.id(counter);
    let last = (5..10_000).map(id).collect::<Vec<_>>().into_iter().find(|id| {
        stage.raw.send(CALL, 0, *id, &call("echo.text", &text("hi")));
        stage.raw.next().is_some_and(|frame| frame.kind == REPLY)
    });
    assert!(last.is_some(), "the places stay taken");
    stage.works();
    stage.leave();
}

fn d_32_calls_and_cancels_without_end(place: Place) {
    let running = Arc::new((AtomicUsize::new(0), AtomicUsize::new(0)));
    let counts = running.clone();
    let handler = move |context: &Context, (): ()| {
        let now = counts.0.fetch_add(1, Ordering::SeqCst) + 1;
        counts.1.fetch_max(now, Ordering::SeqCst);
        context.cancel_token().wait_timeout(Duration::from_secs(5));
        counts.0.fetch_sub(1, Ordering::SeqCst);
        Ok::<_, Fault>(())
    };
    let api = Api::new("flood").workers(2).handle("wait", handler).unwrap();
    let mut stage = Stage::with(place, Config::new(), api);
    let body = call("flood.wait", &[]);
    // Many in one packet: a build that is slow may take single ones as slowly as they are allowed.
    let side = stage.raw.side;
    let pair = |counter| {
        let id = side.id(counter);
        [frame(CALL, 0, id, &body), frame(CANCEL, 0, id, &[])]
    };
    let all = if floods() { 160_000u64 } else { 1_600 };
    let packets = (1..all).step_by(AT_ONCE).take_while(|first| {
        let pairs = (*first..).take(AT_ONCE).flat_map(pair);
        stage.raw.wait_for_room_for(2 * AT_ONCE as u32) && stage.raw.send_together(pairs)
    });
    let pairs = AT_ONCE * packets.count();
    // A program that gives its calls up does the same: each cancel follows from a call, and costs its sender that. A call
    // costs where too many handlers have not returned.
    if pairs < all as usize {
        let error = stage.broken();
        assert!(matches!(error, ProtocolError::Flood("calls beyond the limit" | "cancels")), "{error:?}");
        assert!(pairs >= 9_000, "{pairs} pairs are not many");
    }
    assert!(running.1.load(Ordering::SeqCst) <= 2, "more handlers than workers");
    stage.leave();
}

/// So many calls and cancels stand in one packet.
const AT_ONCE: usize = 16;

/// A session of five frames.
fn session(side: Side) -> Vec<Vec<u8>> {
    vec![
        side.hello().frame(),
        frame(READY, 0, 0, &[]),
        frame(CALL, 0, side.id(1), &call("echo.text", &text("hi"))),
        frame(EVENT, 0, side.id(2), &event("echo.number", &[5])),
        frame(BYE, 0, 0, &[0, 0]),
    ]
}

fn d_67_an_end_anywhere(place: Place) {
    let frames = session(place.1.other());
    // Over ipc each link costs two sockets and more: every seventh byte is enough there.
    let step = if place.0 == Wire::Ipc { 7 } else { 1 };
    for whole in 0..frames.len() {
        for cut in (0..frames[whole].len()).step_by(step) {
            let mut stage = Stage::silent(place, Config::new(), echo());
            frames[..whole].iter().for_each(|frame| _ = stage.raw.send_as_is(frame));
            if cut > 0 {
                stage.raw.send_as_is(&frames[whole][..cut]);
            }
            stage.raw.hang_up();
            if cut > 0 && place.0 != Wire::Pipe {
                let expected = if whole == 0 { 1 } else { 9 };
                assert_eq!(stage.broken().code(), expected, "{cut} bytes of frame {whole}");
            } else if place.0 != Wire::Ipc {
                let reason = stage.end();
                assert!(matches!(reason, CloseReason::Gone | CloseReason::Protocol(_)), "{reason:?}");
            }
            stage.leave();
        }
    }
}

fn ids_may_be_used_again(place: Place) {
    let mut stage = Stage::new(place);
    for counter in [7, 7, 3, 7] {
        let id = stage.call(counter, "echo.text", &text("again"));
        let reply = stage.raw.next_of(REPLY);
        assert_eq!((reply.id, reply.body), (id, text("again")));
    }
    stage.works();
    stage.leave();
}

fn an_acknowledgement_that_goes_back(place: Place) {
    let mut stage = Stage::new(place);
    stage.call(1, "echo.text", &text("hi"));
    stage.raw.next_of(REPLY);
    stage.raw.acknowledge();
    stage.raw.send_as_is(&frame(CREDIT, 0, 0, &[]));
    assert_eq!(stage.broken(), ProtocolError::FlowControl);
    stage.leave();
}

fn d_56_an_event_that_nobody_takes_is_counted(place: Place) {
    let mut stage = Stage::new(place);
    stage.raw.send(EVENT, 0, stage.raw.side.id(1), &event("echo.nothing", &[5]));
    stage.works();
    assert_eq!(stage.subject.counters().events_dropped, 1);
    stage.leave();
}

/// Every bit of a good session is turned once; where a link costs much, some of them.
fn d_68_every_flip(place: Place) {
    let good = session(place.1.other()).concat();
    let step = if matches!(place.0, Wire::Memory | Wire::Pipe) { 1 } else { 11 };
    for bit in (0..good.len() * 8).step_by(step) {
        let mut packet = good.clone();
        packet[bit / 8] ^= 1 << (bit % 8);
        let mut stage = Stage::silent(place, Config::new(), echo());
        stage.raw.send_as_is(&packet);
        stage.raw.hang_up();
        let reason = stage.end();
        assert!(!matches!(reason, CloseReason::Broken(_) | CloseReason::Local), "{bit}: {reason:?}");
        stage.leave();
    }
}

#[test]
fn d_68_every_flip_towards_a_head() {
    for wire in [Wire::Memory, Wire::Pipe, Wire::Shm] {
        crate::support::watched(move || d_68_every_flip((wire, Side::Head)));
    }
}

#[test]
fn d_68_every_flip_towards_a_neck() {
    for wire in [Wire::Memory, Wire::Pipe, Wire::Shm] {
        crate::support::watched(move || d_68_every_flip((wire, Side::Neck)));
    }
}

/// Good sessions of which a few bytes are others, and now and then with noise behind them. A round that fails
/// names its seed; `NAPE_ROUNDS` says how many there are.
fn p_33_changed_sessions(place: Place) {
    let rounds = crate::soak::rounds().unwrap_or(40);
    let start = fastrand::u64(..u64::MAX / 2);
    let good = session(place.1.other()).concat();
    for seed in start..start + rounds {
        let mut random = Rng::with_seed(seed);
        let mut packet = good.clone();
        for _ in 0..random.u32(1..=5) {
            let at = random.usize(..packet.len());
            packet[at] = random.u8(..);
        }
        if random.u32(..4) == 0 {
            packet.extend((0..random.u32(..200)).map(|byte| (byte * 7) as u8));
        }
        let mut stage = Stage::silent(place, Config::new(), echo());
        stage.raw.send_as_is(&packet);
        stage.raw.hang_up();
        let reason = stage.end();
        assert!(!matches!(reason, CloseReason::Broken(_) | CloseReason::Local), "seed {seed}: {reason:?}");
        stage.leave();
    }
}

#[test]
fn p_33_changed_sessions_towards_both_sides() {
    for wire in [Wire::Memory, Wire::Pipe, Wire::Shm] {
        for side in [Side::Head, Side::Neck] {
            crate::support::watched(move || p_33_changed_sessions((wire, side)));
        }
    }
}
