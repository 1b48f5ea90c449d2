//! Streams that a handler opens back to whoever has called it: they are made on nobody's time.

use std::{sync::mpsc, thread, time::Duration};

use nape::{Api, Context, Fault, Head, Neck, Next};

use crate::{
    support::Kind,
    tools::{Gate, LONG, SOON},
};

on_every_link! {
    p_04_a_caller_is_not_kept_by_a_stream_that_descends_from_its_call,
    p_04_a_caller_does_not_wait_for_the_items_of_a_stream_that_descends_from_its_call,
    p_04_a_caller_makes_items_in_turns_where_no_place_is_free,
    p_13_a_stream_that_descends_from_a_call_gives_way_to_calls,
}

/// Numbers without an end, which take their time, and one that waits at the gate for its first.
fn feed(gate: &Gate) -> Api {
    let (theirs, holds) = (gate.clone(), gate.clone());
    let slow = |n: u64| {
        thread::sleep(Duration::from_millis(1));
        Ok::<_, Fault>(n)
    };
    let late = move |_: &Context, (): ()| {
        let gate = theirs.clone();
        let wait = move |n: u64| {
            gate.pass();
            Ok::<_, Fault>(n)
        };
        Ok::<_, Fault>((0..).map(wait))
    };
    let api = Api::new("feed")
        .workers(1)
        .stream("slow", move |_: &Context, (): ()| Ok::<_, Fault>((0..).map(slow)));
    let api = api.unwrap().stream("late", late).unwrap();
    let api = api.handle("ping", |_: &Context, (): ()| Ok::<_, Fault>(())).unwrap();
    api.handle("hold", move |_: &Context, (): ()| Ok::<_, Fault>(holds.pass())).unwrap()
}

/// Opens a stream back, takes so many of its items, and leaves the rest to a thread.
fn hub() -> Api {
    let open = |cx: &Context, (which, n): (String, usize)| {
        let mut items = cx.api("feed").action(&which, ()).open::<u64>()?;
        for _ in 0..n {
            items.next().unwrap()?;
        }
        thread::spawn(move || while let Ok(Next::Item(_) | Next::NotYet) = items.next_timeout(LONG) {});
        Ok::<_, Fault>(())
    };
    Api::new("hub").handle("open", open).unwrap()
}

fn both(kind: Kind, gate: &Gate) -> (Head, Neck) {
    let (head, neck) = kind.ends_with(Head::builder().serve(feed(gate)), Neck::builder());
    (head, neck.serve(hub()).unwrap().start())
}

/// Blocks for the call that opens the stream, and says that it has ended.
fn open(head: &Head, which: &str, n: usize) {
    let action = head.api("hub").action("open", (which.to_owned(), n)).timeout(LONG);
    let (tell, told) = mpsc::channel();
    thread::spawn(move || drop(tell.send(action.call::<()>())));
    told.recv_timeout(LONG / 2).expect("the caller is back").unwrap();
}

/// Red when whoever makes items on the thread of a caller goes on for as long as the stream does.
fn p_04_a_caller_is_not_kept_by_a_stream_that_descends_from_its_call(kind: Kind) {
    let (head, _neck) = both(kind, &Gate::default());
    for n in [0, 1, 10] {
        open(&head, "slow", n);
    }
}

/// Red when items are made on the thread of the caller though there is a place for them.
fn p_04_a_caller_does_not_wait_for_the_items_of_a_stream_that_descends_from_its_call(kind: Kind) {
    let gate = Gate::default();
    let (head, _neck) = both(kind, &gate);
    let _open = gate.opens_at_the_end();
    open(&head, "late", 0);
}

/// Red when there is no turn where there is no place, and when nobody makes items there.
fn p_04_a_caller_makes_items_in_turns_where_no_place_is_free(kind: Kind) {
    let gate = Gate::default();
    let (head, neck) = both(kind, &gate);
    let _open = gate.opens_at_the_end();
    let _held = neck.api("feed").action("hold", ()).start::<()>().unwrap();
    gate.await_waiting(1);
    open(&head, "slow", 3);
}

/// Red when a stream has no turn in the one place that there is, because a thread might have waited for its call.
fn p_13_a_stream_that_descends_from_a_call_gives_way_to_calls(kind: Kind) {
    let (head, neck) = both(kind, &Gate::default());
    let opening = head.api("hub").action("open", ("slow".to_owned(), 3usize)).start::<()>().unwrap();
    opening.wait().unwrap();
    for _ in 0..3 {
        neck.api("feed").action("ping", ()).timeout(SOON * 20).call::<()>().unwrap();
    }
}
