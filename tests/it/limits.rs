//! What is within its limits goes on: nothing honest is lost because something has a bound.

use std::{
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use nape::{Api, CallError, Config, Context, Fault, Head, Limits, Neck, Payload};

use crate::{
    support::Kind,
    tools::{LONG, SOON, is_busy, until},
};

const KIB: usize = 1024;

fn blob() -> Api {
    Api::new("a")
        .workers(4)
        .handle("blob", |_: &Context, n: u32| Ok::<_, Fault>(Payload::from_bytes(vec![n as u8; 500 * KIB])))
        .unwrap()
}

/// More answers than there is room for are under way at a time: the handlers wait, and all arrive.
fn p_15_answers_that_find_no_room_wait_for_it(kind: Kind) {
    let limits = Limits::new().send_queue_bytes(600 * KIB);
    let (head, neck) = kind.ends_with(Head::builder(), Neck::builder().config(Config::new().limits(limits)));
    let neck = neck.serve(blob()).unwrap().start();
    for _ in 0..4 {
        let start = |n: u32| head.api("a").action("blob", n).start::<Payload>().unwrap();
        let results: Vec<_> = (0..24).map(start).collect();
        for (n, result) in results.into_iter().enumerate() {
            let bytes = result.wait().unwrap().into_bytes();
            assert!(bytes == vec![n as u8; 500 * KIB], "{n}");
        }
    }
    assert_eq!((head.under_way(), neck.under_way()), ((0, 0), (0, 0)));
}

/// Both sides at once, with no room but for one message each.
fn p_15_answers_of_both_sides_that_find_no_room_do_not_wait_for_each_other(kind: Kind) {
    let config = || Config::new().limits(Limits::new().send_queue_bytes(1));
    let (head, neck) = kind.ends_with(Head::builder().config(config()), Neck::builder().config(config()));
    let neck = neck.serve(blob()).unwrap().start();
    head.attach(blob()).unwrap();
    let ends = [head.endpoint(), neck.endpoint()];
    thread::scope(|scope| {
        for end in ends {
            for n in 0..4 {
                scope.spawn(move || {
                    for _ in 0..10 {
                        let answer = end.api("a").action("blob", n).call::<Payload>().unwrap();
                        assert_eq!(answer.bytes().len(), 500 * KIB);
                    }
                });
            }
        }
    });
}

/// What is taken in is room for the next: a hundred times the limit passes.
fn p_15_what_is_taken_makes_room(kind: Kind) {
    let limits = Limits::new().message_bytes(256 * KIB).received_bytes(512 * KIB);
    let config = || Config::new().limits(limits.clone());
    let (head, neck) = kind.ends_with(Head::builder().config(config()), Neck::builder().config(config()));
    let api = Api::new("a").handle("len", |_: &Context, bytes: Payload| Ok::<_, Fault>(bytes.bytes().len()));
    let _neck = neck.serve(api.unwrap()).unwrap().start();
    for n in 0..200 {
        let bytes = Payload::from_bytes(vec![7; 250 * KIB]);
        assert_eq!(head.api("a").action("len", bytes).call::<usize>().unwrap(), 250 * KIB, "{n}");
    }
}

fn p_15_callbacks_that_wait_have_a_bound(kind: Kind) {
    let limits = Limits::new().callback_workers(1).callbacks(5);
    let (head, neck) = kind.ends_with(Head::builder().config(Config::new().limits(limits)), Neck::builder());
    let api = Api::new("a").handle("x", |_: &Context, n: u32| Ok::<_, Fault>(n)).unwrap();
    let _neck = neck.serve(api).unwrap().start();
    let (open, opened) = mpsc::channel::<()>();
    let (tell, told) = mpsc::channel();
    let first = head.api("a").action("x", 0u32).then(move |_: Result<u32, CallError>| _ = opened.recv());
    first.unwrap();
    let mut taken = 0;
    let began = Instant::now();
    loop {
        let tell = tell.clone();
        let then = move |end: Result<u32, CallError>| tell.send(end.unwrap()).unwrap();
        let outcome = head.api("a").action("x", taken).then(then);
        if is_busy(&outcome, "a.x") {
            break;
        }
        outcome.unwrap();
        taken += 1;
        // Those under way are not yet among those that wait.
        until("it has ended", || head.under_way().0 == 0);
        assert!(began.elapsed() < LONG, "{taken} callbacks wait");
    }
    assert!((5..=6).contains(&taken), "{taken}");
    drop(open);
    let mut all: Vec<u32> = (0..taken).map(|_| told.recv_timeout(LONG).unwrap()).collect();
    all.sort_unstable();
    assert_eq!(all, (0..taken).collect::<Vec<_>>());
    let again = || head.api("a").action("x", 1u32).then(|_: Result<u32, CallError>| ());
    until("there is room again", || again().is_ok());
}

fn p_11_a_full_pool_refuses_at_once(kind: Kind) {
    let (head, neck) = kind.ends();
    let (open, opened) = crossbeam_channel::bounded::<()>(0);
    let api = Api::new("a").workers(2).queue(3, nape::WhenFull::Refuse);
    let api = api.handle("stand", move |_: &Context, (): ()| Ok::<_, Fault>(opened.recv().is_ok())).unwrap();
    let neck = neck.serve(api).unwrap().start();
    let running: Vec<_> =
        (0..5).map(|_| head.api("a").action("stand", ()).start::<bool>().unwrap()).collect();
    until("they have come", || neck.under_way().1 == 5);
    let began = Instant::now();
    let refused = head.api("a").action("stand", ()).timeout(Duration::from_secs(60)).call::<bool>();
    assert!(is_busy(&refused, "a.stand"), "{refused:?}");
    assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
    drop(open);
    running.into_iter().for_each(|call| assert!(!call.wait().unwrap()));
}

on_every_link! {
    p_15_answers_that_find_no_room_wait_for_it,
    p_15_answers_of_both_sides_that_find_no_room_do_not_wait_for_each_other,
    p_15_what_is_taken_makes_room,
    p_15_callbacks_that_wait_have_a_bound,
    p_11_a_full_pool_refuses_at_once,
}
