//! Frames of streams that no correct peer sends.

use std::time::Duration;

use nape::{Api, CallError, Config, Context, Fault, Incoming, Next, Outgoing, ProtocolError};

use super::{
    file::HostileFile,
    play,
    raw::*,
    stage::{Place, Stage, echo},
    table::{Case, Expected, case},
};
use crate::soak::floods;
use Expected::{Answered, Broken, Lives};

const ITEM: u8 = 9;
const END: u8 = 10;
const OPEN: u8 = 15;
const QUOTA: u8 = 16;
const STOP: u8 = 17;

/// Serves what takes nothing, what makes nothing, and what waits.
fn api() -> Api {
    let take = |cx: &Context, (): (), items: Incoming<u8>| {
        cx.cancel_token().wait_timeout(Duration::from_secs(5));
        Ok::<_, Fault>(items.count())
    };
    let both = |cx: &Context, (): (), _items: Incoming<u8>, _out: Outgoing<u8>| {
        Ok::<_, Fault>(cx.cancel_token().wait_timeout(Duration::from_secs(5)))
    };
    let api = echo().workers(8).upload("take", take).unwrap().duplex("both", both).unwrap();
    api.stream("make", |_: &Context, n: u8| Ok::<_, Fault>((0..n).map(Ok::<_, Fault>))).unwrap()
}

pub(crate) fn set(place: Place) -> Stage {
    Stage::with(place, Config::new(), api())
}

fn quota(items: u32, bytes: u32) -> Vec<u8> {
    [items.to_le_bytes(), bytes.to_le_bytes()].concat()
}

fn open(way: u8, items: u32, bytes: u32, path: &str, arguments: &[u8]) -> Vec<u8> {
    [vec![way], quota(items, bytes), call(path, arguments)].concat()
}

fn items(lens: &[usize]) -> Vec<u8> {
    lens.iter().flat_map(|len| [&(*len as u32).to_le_bytes()[..], &vec![1; *len]].concat()).collect()
}

/// What comes of streams that the sender opens, and of what it says of streams.
pub(crate) fn frames(side: Side) -> Vec<Case> {
    let id = side.id(1);
    let opening = |body: &[u8]| frame(OPEN, 0, id, body);
    let take = opening(&open(1, 0, 0, "echo.take", &[]));
    let both = opening(&open(3, 8, 800, "echo.both", &[]));
    let make = |items| opening(&open(2, items, 1000, "echo.make", &[4]));
    let wait = frame(CALL, 0, id, &call("echo.wait", &[]));
    let unknown = side.other().id(1);
    let then = |first: &[u8], then: Vec<u8>| [first, &then].concat();
    let faulted = |code: u16| Answered(FAULT, id, code.to_le_bytes().to_vec());
    vec![
        // Openings.
        case("an_open_of_nothing", opening(&[]), Broken(11)),
        case("an_open_that_is_cut_off", opening(&open(2, 1, 1, "echo.make", &[])[..12]), Broken(11)),
        case("an_open_that_goes_no_way", opening(&open(0, 1, 1, "echo.make", &[4])), Broken(11)),
        case("an_open_that_goes_another_way", opening(&open(4, 1, 1, "echo.make", &[4])), Broken(11)),
        case("d_54_a_quota_beyond_bounds", opening(&open(2, 1 << 31, 1, "echo.make", &[4])), Broken(11)),
        case("d_54_bytes_beyond_bounds", opening(&open(2, 1, u32::MAX, "echo.make", &[4])), Broken(11)),
        case("an_open_with_a_bad_path", opening(&open(2, 1, 1, "a b", &[4])), Broken(12)),
        case("an_open_with_id_0", frame(OPEN, 0, 0, &open(2, 1, 1, "echo.make", &[4])), Broken(13)),
        case("an_open_of_the_wrong_side", frame(OPEN, 0, unknown, &open(2, 1, 1, "x", &[])), Broken(13)),
        case("an_open_twice", then(&take, take.clone()), Broken(14)),
        case("an_open_with_a_call_s_id", then(&wait, take.clone()), Broken(14)),
        case("a_call_with_an_open_s_id", then(&take, wait.clone()), Broken(14)),
        case("an_id_whose_items_have_not_all_left", then(&make(1), make(1)), Broken(14)),
        case("an_open_of_a_call", opening(&open(2, 1, 1, "echo.text", &text("hi"))), faulted(2)),
        case("a_call_of_a_stream", frame(CALL, 0, id, &call("echo.make", &[4])), faulted(2)),
        case("an_open_the_other_way", opening(&open(1, 0, 0, "echo.make", &[4])), faulted(2)),
        case("an_open_that_takes_nothing", make(0), Answered(QUOTA, id, quota(0, 0))),
        case("items_as_granted", make(2), Answered(ITEM, id, vec![1, 0, 0, 0, 0])),
        // Items.
        case("d_55_an_item_for_id_0", frame(ITEM, 0, 0, &items(&[1])), Broken(13)),
        case("d_55_an_item_of_the_future", frame(ITEM, 0, id, &items(&[1])), Broken(15)),
        case("d_55_an_item_to_no_call", frame(ITEM, 0, unknown, &items(&[1])), Broken(15)),
        case("an_item_of_nothing", then(&take, frame(ITEM, 0, id, &[])), Broken(11)),
        case("an_item_that_is_cut_off", then(&take, frame(ITEM, 0, id, &items(&[5])[..8])), Broken(11)),
        case("a_length_that_is_cut_off", then(&take, frame(ITEM, 0, id, &[1, 0, 0])), Broken(11)),
        case("an_item_of_4_gib", then(&take, frame(ITEM, 0, id, &[0xff, 0xff, 0xff, 0xff, 1])), Broken(11)),
        case(
            "d_53_an_item_before_any_is_granted",
            {
                // Its handler may have begun.
                let many = (0..65).flat_map(|_| frame(ITEM, 0, id, &items(&[1]))).collect();
                then(&take, many)
            },
            Broken(17),
        ),
        case("an_item_of_a_call", then(&wait, frame(ITEM, 0, id, &items(&[1]))), Broken(19)),
        case("an_item_the_wrong_way", then(&make(1), frame(ITEM, 0, id, &items(&[1]))), Broken(19)),
        case(
            "d_55_an_item_behind_the_end",
            then(&then(&take, frame(END, 0, id, &[])), frame(ITEM, 0, id, &items(&[1]))),
            Broken(19),
        ),
        case(
            "a_part_of_an_item_and_another",
            then(&then(&take, frame(ITEM, MORE, id, b"x")), frame(ITEM, 0, id, &items(&[1]))),
            Broken(16),
        ),
        // Ends.
        case("d_55_two_ends", then(&then(&take, frame(END, 0, id, &[])), frame(END, 0, id, &[])), Broken(19)),
        case("an_end_of_a_call", then(&wait, frame(END, 0, id, &[])), Broken(19)),
        case("an_end_the_wrong_way", then(&make(1), frame(END, 0, id, &[])), Broken(19)),
        case("an_end_of_the_future", frame(END, 0, id, &[]), Broken(15)),
        case("a_part_of_an_end", then(&take, frame(END, MORE, id, &[])), Broken(16)),
        // Quotas.
        case("a_quota_that_is_cut_off", then(&both, frame(QUOTA, 0, id, &[0; 7])), Broken(11)),
        case("d_54_a_quota_that_falls", then(&both, frame(QUOTA, 0, id, &quota(7, 800))), Broken(17)),
        case("d_54_bytes_that_fall", then(&both, frame(QUOTA, 0, id, &quota(8, 799))), Broken(17)),
        case(
            "d_54_a_quota_that_overflows",
            then(&both, frame(QUOTA, 0, id, &quota(u32::MAX, 800))),
            Broken(17),
        ),
        case("a_quota_of_a_call", then(&wait, frame(QUOTA, 0, id, &quota(1, 1))), Broken(19)),
        case("a_quota_of_the_future", frame(QUOTA, 0, id, &quota(1, 1)), Broken(15)),
        case("a_quota_for_what_sends_nothing", then(&take, frame(QUOTA, 0, id, &quota(1, 1))), Lives),
        case("the_same_quota_again", then(&both, frame(QUOTA, 0, id, &quota(8, 800))), Lives),
        // Stops.
        case("a_stop_of_a_call", then(&wait, frame(STOP, 0, id, &[])), Broken(19)),
        case("a_stop_the_wrong_way", then(&take, frame(STOP, 0, id, &[])), Broken(19)),
        case("a_stop_of_the_future", frame(STOP, 0, id, &[]), Broken(15)),
        case("a_stop_twice", then(&then(&both, frame(STOP, 0, id, &[])), frame(STOP, 0, id, &[])), Lives),
        case("a_stop_of_what_makes", then(&make(1), frame(STOP, 0, id, &[])), faulted(35)),
        // What is over.
        case(
            "what_comes_behind_a_cancel",
            {
                let late = [
                    frame(CANCEL, 0, id, &[]),
                    frame(END, 0, id, &[]),
                    frame(QUOTA, 0, id, &quota(9, 900)),
                    frame(STOP, 0, id, &[]),
                ];
                then(&both, late.concat())
            },
            Lives,
        ),
    ]
}

/// What comes of the first call of the other side, which has opened a stream of bytes.
pub(crate) fn items_for_a_caller(side: Side) -> Vec<Case> {
    let id = side.other().id(1);
    let closed = |name, kind, body: &[u8], code| Case {
        outcome: Some("ends with the link"),
        ..case(name, frame(kind, 0, id, body), Broken(code))
    };
    let open = |name, kind, body: &[u8]| Case {
        outcome: Some("goes on"),
        ..case(name, frame(kind, 0, id, body), Lives)
    };
    vec![
        closed("d_55_no_item", ITEM, &[], 11),
        closed("d_55_one_item_too_many", ITEM, &items(&[1; 65]), 17),
        closed("d_55_a_stop_of_what_takes", STOP, &[], 19),
        closed("d_55_a_quota_that_is_cut_off", QUOTA, &[0; 3], 11),
        open("d_55_a_quota", QUOTA, &quota(1, 1)),
        open("d_55_an_end", END, &[]),
        open("d_55_two_items", ITEM, &items(&[1, 1])),
        open("d_55_a_large_item", ITEM, &items(&[60_000])),
    ]
}

/// The subject opens a stream, and what comes of it is hostile.
pub(crate) fn d_55_items_for_a_caller(place: Place) {
    let open = |stage: &mut Stage| {
        let stream = stage.subject.api("raw").action("x", ()).open::<u8>().unwrap();
        let asked = stage.raw.next_of(OPEN);
        assert_eq!(asked.body[..9], [vec![2], quota(64, 1 << 20)].concat());
        (stream, asked.id)
    };
    let after = |stage: &mut Stage, file: &HostileFile, (mut stream, id): (Incoming<u8>, u64)| {
        if file.field("the call") == Some("goes on") {
            drop(stream);
            assert_eq!(stage.raw.next_of(CANCEL).id, id);
            // What is on its way is dropped.
            stage.raw.send(ITEM, 0, id, &items(&[1]));
            stage.raw.send(REPLY, 0, id, &[]);
            stage.works();
        } else {
            let error = stream.find_map(Result::err);
            assert!(matches!(error, Some(CallError::Closed { .. })), "{error:?}");
        }
    };
    play(place, "item", || set(place), open, after);
}

/// Items that nobody waits for cost the sender something in the end.
pub(crate) fn d_55_items_without_end_of_what_is_over(place: Place) {
    let mut stage = set(place);
    let id = stage.raw.side.id(1);
    stage.call(1, "echo.text", &text("hi"));
    stage.raw.next_of(REPLY);
    let most = if floods() { 200_000 } else { 1_000 };
    let sent = (0..most).take_while(|_| stage.raw.send(ITEM, 0, id, &items(&[1]))).count();
    if floods() {
        assert_eq!(stage.broken(), ProtocolError::Flood("items of streams that are over"));
        assert!(sent >= 20_000, "{sent} were taken");
    }
    stage.leave();
}

/// Who grants what nobody can hold costs us no more than the bounds of the sender.
pub(crate) fn p_15_a_peer_that_grants_everything_and_reads_nothing(place: Place) {
    let make = |_: &Context, (): ()| Ok::<_, Fault>((0u32..).map(|_| Ok::<_, Fault>(vec![7u8; 10_000])));
    let api = echo().stream("endless", make).unwrap();
    let mut stage = Stage::with(place, Config::new().send_queue_bytes(1 << 20), api);
    for n in 1..=100 {
        let id = stage.raw.side.id(n);
        let body = open(2, 1 << 20, 1 << 30, "echo.endless", &[]);
        if !stage.raw.send(OPEN, 0, id, &body) {
            break;
        }
    }
    // All of them stand still.
    let mut before = 0;
    loop {
        std::thread::sleep(Duration::from_millis(50));
        let now = stage.subject.counters().items_sent;
        if std::mem::replace(&mut before, now) == now {
            break;
        }
    }
    assert!((10..400).contains(&before), "{before} items are held");
    stage.leave();
}

/// A good stream, by hand, both ways.
pub(crate) fn a_stream_by_hand(place: Place) {
    let mut stage = set(place);
    let opened = stage.subject.api("raw").action("x", 7u8).duplex::<u8, u8, u8>().unwrap();
    let (mut out, mut stream, answer) = opened.split();
    let asked = stage.raw.next_of(OPEN);
    assert_eq!((asked.body[0], asked.body.last()), (3, Some(&7)));
    assert!(out.try_send(1).is_err());
    stage.raw.send(QUOTA, 0, asked.id, &quota(2, 100));
    out.send(1).unwrap();
    out.send(2).unwrap();
    let mut came = Vec::new();
    while came.len() < 10 {
        came.extend(stage.raw.next_of(ITEM).body);
    }
    assert_eq!(came, [items(&[1]), [1, 0, 0, 0, 2].to_vec()].concat());
    stage.raw.send(ITEM, 0, asked.id, &[[1, 0, 0, 0, 8], [1, 0, 0, 0, 9]].concat());
    assert_eq!((stream.next().unwrap().unwrap(), stream.next().unwrap().unwrap()), (8, 9));
    assert_eq!(stream.try_next().unwrap(), Next::NotYet);
    stage.raw.send(END, 0, asked.id, &[]);
    assert!(stream.next().is_none());
    stage.raw.send(STOP, 0, asked.id, &[]);
    let error = std::iter::from_fn(|| Some(out.try_send(3))).find_map(|sent| match sent {
        Err(nape::TrySendError::Over(error)) => Some(error),
        _ => None,
    });
    assert!(matches!(error, Some(CallError::Cancelled)), "{error:?}");
    stage.raw.send(REPLY, 0, asked.id, &[5]);
    assert_eq!(answer.wait().unwrap(), 5);
    stage.works();
    stage.leave();
}
