//! Layers around everything of a link.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread,
};

use nape::{
    Api, CallError, Context, Fault, Head, Inspection, Inspector, Layer, LayerCall, Leave, LinkState, Neck,
    Path, Payload, Rejection, WhenFull,
    layers::{CheckToken, LocalOnly, SendToken, WhereCalled, WhereServed},
};

use super::{Diary, denied, math, verbs, waiting, word};
use crate::{
    support::{HANG, Kind},
    tools::{Gate, LONG, is_unknown},
};

on_every_link! {
    a_layer_of_a_link_is_around_all_that_it_calls_and_serves,
    layers_of_a_link_stand_next_to_the_wire,
    an_api_that_comes_later_is_behind_the_layers_of_the_link,
    what_nobody_handles_is_behind_the_layers_of_the_link,
    calls_back_pass_the_layers_of_the_link,
    a_layer_of_a_link_may_refuse_on_either_way,
    a_layer_is_kept_to_one_way,
    a_layer_of_a_link_hides_methods_of_all_apis,
    p_16_a_layer_that_is_asked_what_it_hides_keeps_nobody_from_reading,
    p_16_a_layer_that_is_asked_about_another_shape_keeps_nobody_from_reading,
}

fn a_layer_of_a_link_is_around_all_that_it_calls_and_serves(kind: Kind) {
    let diary = Diary::default();
    let head = Head::builder().layer(diary.layer("head"));
    let neck = Neck::builder().layer(diary.layer("neck")).serve(math());
    let (head, neck) = kind.ends_with(head.serve(Api::new("other").nest(math()).unwrap()), neck);
    let neck = neck.start();
    for verb in verbs() {
        assert_eq!(verb(&head.api("math")), 8);
        assert_eq!(diary.take(), ["head in", "neck in", "neck out", "head out"]);
        assert_eq!(verb(&neck.api("other").api("math")), 8);
        assert_eq!(diary.take(), ["neck in", "head in", "head out", "neck out"]);
    }
    head.api("math").action("double", 1u64).fire().unwrap();
    let mut lines = diary.lines(4);
    lines.sort();
    assert_eq!(lines, ["head in", "head out", "neck in", "neck out"]);
}

fn layers_of_a_link_stand_next_to_the_wire(kind: Kind) {
    let diary = Diary::default();
    let head = Head::builder().layer(diary.layer("c")).layer(diary.layer("d"));
    let neck = Neck::builder().layer(diary.layer("e")).layer(diary.layer("f"));
    let inner = math().layer(diary.layer("h"));
    let (head, neck) =
        kind.ends_with(head, neck.serve(Api::new("all").nest(inner).unwrap().layer(diary.layer("g"))));
    let _neck = neck.start();
    let math = head.api("all").layer(diary.layer("a")).layer(diary.layer("b")).api("math");
    assert_eq!(math.action("double", 4u64).call::<u64>().unwrap(), 8);
    let way_in = ["a", "b", "c", "d", "e", "f", "g", "h"];
    let expected = way_in.iter().map(|name| format!("{name} in"));
    let expected = expected.chain(way_in.iter().rev().map(|name| format!("{name} out")));
    assert_eq!(diary.take(), expected.collect::<Vec<_>>());
}

fn an_api_that_comes_later_is_behind_the_layers_of_the_link(kind: Kind) {
    let diary = Diary::default();
    let (head, neck) = kind.ends_with(Head::builder(), Neck::builder().layer(diary.layer("link")));
    let neck = neck.start();
    let attached = neck.attach(math().inline()).unwrap();
    attached.handle("half", |_: &Context, n: u64| Ok::<_, Fault>(n / 2)).unwrap();
    for (path, value) in [("double", 8), ("half", 2)] {
        assert_eq!(head.api("math").action(path, 4u64).call::<u64>().unwrap(), value);
        assert_eq!(diary.take(), ["link in", "link out"], "{path}");
    }
    // What is counted besides is behind it, too.
    let _inspection = neck.attach(Inspection::new().into_api()).unwrap();
    assert!(Inspector::on(&head).version().call().is_ok());
    assert_eq!(diary.take(), ["link in", "link out"]);
    // What is given back is as it was given.
    let half = attached.remove("half").unwrap();
    attached.add("half", half).unwrap();
    assert_eq!(head.api("math").action("half", 4u64).call::<u64>().unwrap(), 2);
    assert_eq!(diary.take(), ["link in", "link out"]);
}

fn what_nobody_handles_is_behind_the_layers_of_the_link(kind: Kind) {
    let diary = Diary::default();
    let (head, neck) = kind.ends_with(Head::builder(), Neck::builder().layer(diary.layer("link")));
    let neck = neck.start();
    let unknown = head.api("any").action("where", 1u8).call::<u8>().unwrap_err();
    assert!(matches!(unknown, CallError::Rejected(Rejection::NoHandler { .. })), "{unknown}");
    assert_eq!(diary.take(), [""; 0], "it reaches no handler");
    neck.on_unhandled(|_: &Context, raw: Payload| Ok(raw));
    assert_eq!(head.api("any").action("where", 1u8).call::<u8>().unwrap(), 1);
    assert_eq!(diary.take(), ["link in", "link out"]);
}

fn calls_back_pass_the_layers_of_the_link(kind: Kind) {
    let diary = Diary::default();
    let back = |cx: &Context, n: u64| cx.api("math").action("double", n).call::<u64>().map_err(Fault::from);
    let neck = Neck::builder().layer(diary.layer("neck")).serve(Api::new("it").handle("back", back).unwrap());
    let (head, neck) = kind.ends_with(Head::builder().serve(math()), neck);
    let _neck = neck.start();
    assert_eq!(head.api("it").action("back", 4u64).call::<u64>().unwrap(), 8);
    assert_eq!(diary.take(), ["neck in", "neck in", "neck out", "neck out"]);
}

fn a_layer_of_a_link_may_refuse_on_either_way(kind: Kind) {
    let diary = Diary::default();
    let head = Head::builder().layer(diary.layer("head"));
    let neck = Neck::builder().layer(denied).layer(diary.layer("never")).serve(math());
    let (head, neck) = kind.ends_with(head.serve(math()), neck);
    let neck = neck.start();
    assert_eq!(word(&head.api("math").action("double", 1u64).call::<u64>().unwrap_err()), "denied");
    assert_eq!(diary.take(), ["head in", "head denied"]);
    assert_eq!(word(&neck.api("math").action("double", 1u64).call::<u64>().unwrap_err()), "denied");
    assert_eq!(diary.take(), [""; 0]);
}

fn a_layer_is_kept_to_one_way(kind: Kind) {
    let head = Head::builder().layer(WhereCalled(SendToken::new("sesame")));
    let neck = Neck::builder().layer(WhereServed(CheckToken::new("sesame")));
    let (head, neck) = kind.ends_with(head.serve(math()), neck.serve(math()));
    let neck = neck.start();
    // A secret stands before bytes of the codec, which both know once they have greeted.
    assert_eq!([head.wait_open(HANG), neck.wait_open(HANG)], [LinkState::Open; 2]);
    assert_eq!(head.api("math").action("double", 4u64).call::<u64>().unwrap(), 8);
    assert_eq!(neck.api("math").action("double", 4u64).call::<u64>().unwrap(), 8);

    let (sender, seen) = mpsc::sync_channel(8);
    let note = move |call: &mut LayerCall<'_>| {
        sender.send(call.context().is_some()).unwrap();
        Ok(Leave::nothing())
    };
    let head = Head::builder().layer(WhereServed(note.clone())).layer(WhereCalled(note));
    let (head, neck) = kind.ends_with(head.serve(math()), Neck::builder().serve(math()));
    let neck = neck.start();
    assert_eq!(head.api("math").action("double", 4u64).call::<u64>().unwrap(), 8);
    assert!(!seen.recv_timeout(HANG).unwrap());
    assert_eq!(neck.api("math").action("double", 4u64).call::<u64>().unwrap(), 8);
    assert!(seen.recv_timeout(HANG).unwrap());
    assert!(seen.try_recv().is_err(), "each once");
}

fn a_layer_of_a_link_hides_methods_of_all_apis(kind: Kind) {
    let hidden = WhereServed(LocalOnly::below(["math"]).unwrap());
    let neck = Neck::builder().layer(hidden).serve(math()).serve(Inspection::new().into_api());
    let (head, neck) = kind.ends_with(Head::builder(), neck);
    let _neck = neck.start();
    let is_near = matches!(kind, Kind::Channel);
    assert_eq!(head.api("math").action("double", 4u64).call::<u64>().is_ok(), is_near);
    let list = Inspector::on(&head).list().call().unwrap();
    assert_eq!(list.iter().any(|info| info.path == "math.double"), is_near);
}

/// Hides everything, after a while, as soon as it is armed.
#[derive(Clone, Default)]
struct Slow(Gate, Arc<AtomicBool>);

impl Layer for Slow {
    fn enter(&self, _: &mut LayerCall<'_>) -> Result<Leave, CallError> {
        Ok(Leave::nothing())
    }

    fn hides(&self, _: &Path, _: bool) -> bool {
        let armed = self.1.load(Ordering::SeqCst);
        if armed {
            self.0.pass();
        }
        armed
    }
}

/// Red when it is asked by the thread that reads: then the call beside has no answer.
fn p_16_a_layer_that_is_asked_what_it_hides_keeps_nobody_from_reading(kind: Kind) {
    let (api, go, has_begun) = waiting();
    let slow = Slow::default();
    let (head, neck) = kind.serving(api.workers(1).queue(1, WhenFull::Refuse).layer(slow.clone()));
    head.attach(math()).unwrap();
    let waits = || head.api("it").action("waits", ()).start::<()>().unwrap();
    let first = waits();
    has_begun.recv().unwrap();
    let second = waits();
    slow.1.store(true, Ordering::SeqCst);
    let third = waits();
    slow.0.await_waiting(1);
    assert_eq!(neck.api("math").action("double", 4u64).timeout(LONG).call::<u64>().unwrap(), 8);
    slow.0.open();
    assert!(is_unknown(&third.wait(), "it.waits"));
    slow.1.store(false, Ordering::SeqCst);
    (0..2).for_each(|_| go.send(()).unwrap());
    first.wait().unwrap();
    second.wait().unwrap();
}

mod served {
    #[nape::api("odd")]
    pub trait Odd {
        fn number(&self, n: u64) -> u64;
    }
}

mod called {
    #[nape::api("odd")]
    pub trait Odd {
        fn number(&self, n: u32) -> u64;
    }
}

struct Served;

impl served::Odd for Served {
    fn number(&self, n: u64) -> u64 {
        n
    }
}

/// Red when it is asked by the thread that reads, be it that the layer is around all or around what is nested.
fn p_16_a_layer_that_is_asked_about_another_shape_keeps_nobody_from_reading(kind: Kind) {
    let slow = Slow::default();
    let odd = served::Odd::into_api(Served).layer(slow.clone());
    let (head, neck) = kind.serving(Api::new("").nest(odd).unwrap());
    head.attach(math()).unwrap();
    slow.1.store(true, Ordering::SeqCst);
    thread::scope(|scope| {
        let call = || called::OddClient::on(&head).number(1).call();
        let call = scope.spawn(call);
        slow.0.await_waiting(1);
        assert_eq!(neck.api("math").action("double", 4u64).timeout(LONG).call::<u64>().unwrap(), 8);
        slow.0.open();
        assert!(is_unknown(&call.join().unwrap(), "odd.number"));
    });
    slow.1.store(false, Ordering::SeqCst);
    let error = called::OddClient::on(&head).number(1).call().unwrap_err();
    assert!(matches!(error, CallError::Rejected(Rejection::Mismatch { .. })), "{error:?}");
}
