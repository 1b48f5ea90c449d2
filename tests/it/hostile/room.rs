//! What comes and finds no room: each thing is refused in its way, and the link goes on.

use std::{
    sync::{Mutex, PoisonError, mpsc},
    time::Duration,
};

use nape::{Api, CallError, Config, Context, Fault, Limits, Next, Payload, ProtocolError};

use super::{
    raw::*,
    stage::{Place, Stage, echo},
};

const ITEM: u8 = 9;
const OPEN: u8 = 15;
const STOP: u8 = 17;
const KIB: usize = 1024;

/// Room for two messages of 200 KiB, and a handler that stands still until the sender goes.
fn stage(place: Place) -> (Stage, mpsc::Sender<()>) {
    let (gate, closed) = mpsc::channel::<()>();
    let closed = Mutex::new(closed);
    let stand = move |_: &Context, _: Payload| {
        let _ = closed.lock().unwrap_or_else(PoisonError::into_inner).recv();
        Ok::<_, Fault>(())
    };
    let api = Api::new("gate").workers(1).handle("stand", stand).unwrap();
    let limits = Limits::new().message_bytes(256 * KIB).received_bytes(500 * KIB);
    let mut stage = Stage::with(place, Config::new().limits(limits), api);
    stage.subject.attach(echo()).unwrap();
    // One that is at it.
    stage.call(500, "gate.stand", &[]);
    (stage, gate)
}

fn send_cut(stage: &mut Stage, kind: u8, id: u64, body: &[u8]) {
    let n = body.len().div_ceil(50_000);
    for (at, part) in body.chunks(50_000).enumerate() {
        let flags = if at + 1 < n { MORE } else { 0 } | if at > 0 { CONTINUES } else { 0 };
        assert!(stage.raw.send(kind, flags, id, part));
    }
}

fn is_busy(frame: &Frame) -> bool {
    frame.kind == FAULT && frame.code() == 3
}

pub(crate) fn p_15_a_call_for_which_there_is_no_room_is_refused(place: Place) {
    let (mut stage, gate) = stage(place);
    let body = call("gate.stand", &vec![7; 200 * KIB]);
    for counter in 1..=5 {
        let id = stage.raw.side.id(counter);
        send_cut(&mut stage, CALL, id, &body);
    }
    for counter in 3..=5 {
        let refused = stage.raw.next_of(FAULT);
        assert!(is_busy(&refused), "{refused:?}");
        assert_eq!(refused.id, stage.raw.side.id(counter));
        assert!(String::from_utf8_lossy(&refused.body).contains("gate.stand"), "{refused:?}");
    }
    stage.works();
    // There is room again when the first two were taken.
    drop(gate);
    (0..3).for_each(|_| assert!(stage.raw.next_of(REPLY).body.is_empty()));
    let id = stage.raw.side.id(6);
    send_cut(&mut stage, CALL, id, &body);
    assert_eq!(stage.raw.next_of(REPLY).id, id);
    stage.leave();
}

/// The rest of a call that is refused may still come, in parts, and is no mistake; its id is in use until then.
pub(crate) fn p_15_the_rest_of_a_refused_call_is_forgotten(place: Place) {
    let (mut stage, _gate) = stage(place);
    let body = call("gate.stand", &vec![7; 200 * KIB]);
    (1..=2).for_each(|counter| {
        let id = stage.raw.side.id(counter);
        send_cut(&mut stage, CALL, id, &body);
    });
    let id = stage.raw.side.id(3);
    stage.raw.send(CALL, MORE, id, &body[..50_000]);
    stage.raw.send(CALL, MORE | CONTINUES, id, &body[50_000..100_000]);
    assert!(is_busy(&stage.raw.next_of(FAULT)));
    stage.raw.send(CALL, MORE | CONTINUES, id, &body[100_000..150_000]);
    stage.raw.send(CALL, CONTINUES, id, &body[150_000..]);
    stage.works();
    stage.raw.send(CALL, CONTINUES, id, &body[..10]);
    assert_eq!(stage.broken(), ProtocolError::BadChunk(id));
    stage.leave();
}

pub(crate) fn p_15_an_event_for_which_there_is_no_room_is_dropped_and_reported(place: Place) {
    let (mut stage, gate) = stage(place);
    let (tell, told) = mpsc::channel();
    stage.subject.on_error(move |report| _ = tell.send(format!("{report:?}")));
    let body = event("gate.stand", &vec![7; 200 * KIB]);
    for counter in 1..=3 {
        let id = stage.raw.side.id(counter);
        send_cut(&mut stage, EVENT, id, &body);
    }
    let report = told.recv_timeout(Duration::from_secs(5)).unwrap();
    assert!(report.starts_with("EventDropped") && report.contains("gate.stand"), "{report}");
    assert_eq!(stage.subject.counters().events_dropped, 1);
    stage.works();
    drop(gate);
    stage.leave();
}

pub(crate) fn p_15_an_answer_for_which_there_is_no_room_ends_its_call(place: Place) {
    let (mut stage, _gate) = stage(place);
    let start = |n: u8| stage.subject.api("raw").action("x", n).start::<Payload>().unwrap();
    let mut results: Vec<_> = (0..3).map(start).collect();
    let asked: Vec<_> = (0..3).map(|_| stage.raw.next_of(CALL).id).collect();
    asked.iter().for_each(|id| send_cut(&mut stage, REPLY, *id, &vec![7; 200 * KIB]));
    let last = results.pop().unwrap().wait().unwrap_err();
    let CallError::Fault(fault) = &last else { panic!("{last:?}") };
    assert!(fault.message().contains("no room"), "{fault:?}");
    stage.works();
    for result in results {
        assert_eq!(result.wait().unwrap().bytes().len(), 200 * KIB);
    }
    // What was taken makes room.
    let result = stage.subject.api("raw").action("x", 4u8).start::<Payload>().unwrap();
    let asked = stage.raw.next_of(CALL).id;
    send_cut(&mut stage, REPLY, asked, &vec![7; 200 * KIB]);
    assert_eq!(result.wait().unwrap().bytes().len(), 200 * KIB);
    stage.leave();
}

pub(crate) fn p_15_items_for_which_there_is_no_room_end_their_stream(place: Place) {
    let (mut stage, _gate) = stage(place);
    let open = |n: u8| stage.subject.api("raw").action("x", n).open::<Payload>().unwrap();
    let mut streams: Vec<_> = (0..3).map(open).collect();
    let opened: Vec<_> = (0..3).map(|_| stage.raw.next_of(OPEN).id).collect();
    let item = [&(200 * KIB as u32).to_le_bytes()[..], &vec![7; 200 * KIB]].concat();
    opened.iter().for_each(|id| send_cut(&mut stage, ITEM, *id, &item));
    assert_eq!(stage.raw.next_of(STOP).id, opened[2]);
    let error = streams.pop().unwrap().next().unwrap().unwrap_err();
    let CallError::Fault(fault) = &error else { panic!("{error:?}") };
    assert!(fault.message().contains("no room"), "{fault}");
    for stream in &mut streams {
        assert!(matches!(stream.try_next(), Ok(Next::Item(item)) if item.bytes().len() == 200 * KIB));
    }
    stage.works();
    drop(streams);
    stage.leave();
}
