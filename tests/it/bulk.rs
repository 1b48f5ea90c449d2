//! Large messages beside small ones: how long they take, whom they hold up, and where they are refused.

use std::{thread, time::Instant};

use nape::{
    Api, Bytes, CallError, Config, Context, Executed, Fault, Head, Incoming, Misuse, Neck, Rejection,
    TrySendError,
};
use serde::{Deserialize, Serialize, Serializer, ser::Error};

use crate::{
    support::{HANG, Kind},
    tools::{LONG, SOON, nothing_is_under_way},
};

on_every_link! {
    ac_85_large_values_in_a_struct_hold_up_no_small_call,
    ac_85_values_above_the_limit_are_refused_where_they_are_made,
    p_07_an_item_that_cannot_be_sent_says_that_the_handler_may_have_begun,
}

const MIB: usize = 1 << 20;

/// Bytes among other things, as users have them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Image {
    name: String,
    pixels: Bytes,
    marks: Vec<u32>,
}

impl Image {
    fn new(len: usize) -> Image {
        // A prime, so that no frame is like the one before it.
        let pattern: Vec<u8> = (0..65_521u32).map(|i| (i ^ (i >> 8)) as u8).collect();
        let mut pixels = pattern.repeat(len / pattern.len() + 1);
        pixels.truncate(len);
        Image { name: "large".into(), pixels: pixels.into(), marks: vec![1, 2, 3] }
    }
}

fn api() -> Api {
    let turn = |_: &Context, mut image: Image| {
        image.name.push_str(" and back");
        Ok::<_, Fault>(image)
    };
    let make = |_: &Context, len: usize| Ok::<_, Fault>(Image::new(len));
    let api = Api::new("bulk").workers(2).handle("turn", turn).unwrap().handle("make", make).unwrap();
    api.handle("echo", |_: &Context, text: String| Ok::<_, Fault>(text)).unwrap()
}

fn ends(kind: Kind, limit: usize) -> (Head, Neck) {
    let config = || Config::new().message_limit(limit).send_queue_bytes(2 * limit);
    let (head, neck) = kind.ends_with(Head::builder().config(config()), Neck::builder().config(config()));
    (head, neck.serve(api()).unwrap().start())
}

/// Red when the rest of large messages goes first.
fn ac_85_large_values_in_a_struct_hold_up_no_small_call(kind: Kind) {
    if kind.is_json() || kind.is_slow() {
        // It is not made for so many bytes: they are text there.
        return;
    }
    let (head, neck) = ends(kind, 80 * MIB);
    let bulk = head.api("bulk").timeout(LONG);
    let image = Image::new(64 * MIB);
    let sent = image.clone();
    thread::scope(|scope| {
        let large = scope.spawn(|| {
            let since = Instant::now();
            let back: Image = bulk.action("turn", sent).call().unwrap();
            let made: Image = bulk.action("make", 64 * MIB).call().unwrap();
            (back, made, since.elapsed())
        });
        let mut times = Vec::new();
        while !large.is_finished() || times.len() < 100 {
            let since = Instant::now();
            let text = format!("{:064}", times.len());
            assert_eq!(bulk.action("echo", text.clone()).call::<String>().unwrap(), text);
            times.push(since.elapsed());
        }
        let (back, made, took) = large.join().unwrap();
        times.sort();
        // On a busy machine a few of them meet the scheduler rather than a large value.
        let (most, longest) = (times[times.len() * 98 / 100], times[times.len() - 1]);
        assert!(most < SOON && longest < 4 * SOON, "of {} small calls: {most:?}, {longest:?}", times.len());
        assert!(took < HANG / 2, "{took:?}");
        assert!(made == image && back.pixels == image.pixels && back.marks == image.marks);
        assert_eq!(back.name, "large and back");
    });
    nothing_is_under_way(&head, &neck);
}

fn ac_85_values_above_the_limit_are_refused_where_they_are_made(kind: Kind) {
    if kind.is_json() {
        // Bytes have other sizes there.
        return;
    }
    let (head, neck) = ends(kind, MIB);
    let bulk = head.api("bulk");
    let small: Image = bulk.action("turn", Image::new(MIB - 1024)).call().unwrap();
    assert_eq!(small.pixels.len(), MIB - 1024);
    let outcomes = [
        bulk.action("turn", Image::new(MIB)).call::<Image>(),
        bulk.action("turn", Image::new(MIB)).start::<Image>().and_then(nape::AsyncResult::wait),
    ];
    for outcome in outcomes {
        match outcome {
            // What moves has no size.
            Ok(image) => assert!(!kind.encodes() && image.pixels.len() == MIB),
            Err(CallError::Rejected(Rejection::TooLarge { size, limit })) => {
                assert!(kind.encodes());
                assert!(size > limit && limit == MIB as u64 && size < 2 * limit, "{size} over {limit}");
            }
            Err(other) => panic!("{other:?}"),
        }
    }
    // Of a result only the handler's side knows.
    match bulk.action("make", MIB).call::<Image>() {
        Ok(image) => assert!(!kind.encodes() && image.pixels.len() == MIB),
        Err(CallError::Fault(fault)) => {
            assert!(kind.encodes() && fault.message().contains("over the limit"), "{}", fault.message());
        }
        Err(other) => panic!("{other:?}"),
    }
    if kind.encodes() {
        assert_eq!(neck.counters().calls_served, 2, "it left all the same");
    }
    assert_eq!(bulk.action("echo", "as ever".to_owned()).call::<String>().unwrap(), "as ever");
    nothing_is_under_way(&head, &neck);
}

/// So many bytes; none at all cannot be encoded.
struct Item(usize);

impl Serialize for Item {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        if self.0 == 0 { Err(S::Error::custom("nothing")) } else { vec![1u8; self.0].serialize(to) }
    }
}

/// Red when it ends as the arguments of a call do, which are refused before anything runs.
fn p_07_an_item_that_cannot_be_sent_says_that_the_handler_may_have_begun(kind: Kind) {
    if !kind.encodes() {
        // What moves has no size.
        return;
    }
    let (head, neck) = ends(kind, MIB);
    let count = |_: &Context, (): (), items: Incoming<Vec<u8>>| {
        items.into_iter().try_fold(0, |sum, item| Ok::<_, Fault>(sum + item?.len()))
    };
    neck.attach(Api::new("up").upload("count", count).unwrap()).unwrap();
    let mut items = head.api("up").action("count", ()).timeout(LONG).upload::<Item, usize>().unwrap();
    items.send(Item(5)).unwrap();
    for (bad, why) in [(MIB + 1, "over the limit"), (0, "nothing")] {
        let Err(TrySendError::Over(tried)) = items.try_send(Item(bad)) else { panic!("{bad} was sent") };
        for error in [items.send(Item(bad)).unwrap_err(), tried] {
            assert!(matches!(error, CallError::Misuse(Misuse::Item { .. })), "{error:?}");
            assert_eq!(error.executed(), Executed::Maybe);
            assert!(error.to_string().contains(why), "{error}");
        }
    }
    items.send(Item(7)).unwrap();
    assert_eq!(items.finish().unwrap(), 12);
}
