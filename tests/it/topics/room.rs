//! Where there is no room for a moment, at either side and in either direction: what is lost is told, nothing overtakes
//! anything, and everything goes on.

use std::{cell::Cell, thread, time::Duration};

use nape::{
    Api, Backlog, Config, Context, Endpoint, Fault, Head, Limits, Missed, Neck, Payload, Subscription, Topic,
};

use crate::{
    support::Kind,
    tools::{Gate, LONG, eventually, patiently},
};

const KIB: usize = 1024;

/// Room for a few items of 50 KiB.
fn little_room() -> Config {
    Config::new().limits(Limits::new().message_bytes(128 * KIB).received_bytes(256 * KIB))
}

/// An item that says which it is, and has so many bytes.
fn item(number: u64, bytes: usize) -> String {
    format!("{number} {}", "x".repeat(bytes))
}

fn number(item: &str) -> u64 {
    item.split(' ').next().unwrap().parse().unwrap()
}

/// Reads from item `from` on until all up to `to` are read or told to be lost. Gives both numbers.
#[track_caller]
fn account(news: &mut Subscription<String>, from: u64, to: u64) -> (u64, u64) {
    let (mut next, mut read, mut lost) = (from, 0, 0);
    while next < to {
        match news.next_timeout(LONG) {
            Ok(Some(item)) => {
                assert_eq!(number(&item), next, "a gap that nobody told, or the wrong order");
                (next, read) = (next + 1, read + 1);
            }
            Ok(None) => panic!("{next} of {from}..{to} are accounted for"),
            Err(Missed::Lagged(gap)) => (next, lost) = (next + gap, lost + gap),
            Err(end) => panic!("{end}"),
        }
    }
    assert_eq!(next, to);
    (read, lost)
}

/// What comes to `gate.stand` and is not taken until the gate is open.
fn standing(gate: &Gate) -> Api {
    let gate = gate.clone();
    let stand = move |_: &Context, _: Payload| {
        gate.pass();
        Ok::<_, Fault>(())
    };
    let queue = Api::new("gate").workers(1).queue(100_000, nape::WhenFull::Refuse);
    queue.handle("stand", stand).unwrap()
}

/// Fires events until the other side has no room even for the smallest.
fn fill(from: &Endpoint, at: &Endpoint) {
    for bytes in [50 * KIB, 4 * KIB, 1] {
        let dropped = at.counters().events_dropped;
        while at.counters().events_dropped == dropped {
            let served = at.counters().events_served;
            patiently(|| from.api("gate").action("stand", Payload::from_bytes(vec![b'7'; bytes])).fire());
            eventually(|| at.counters().events_served > served);
        }
    }
}

/// Red when what was lost for want of room counts as under way for ever.
fn p_12_items_without_room_at_the_reader_are_told_and_hold_nothing_up(kind: Kind) {
    if !kind.encodes() {
        return;
    }
    for backlog in [Backlog::default(), Backlog::drop_newest(64), Backlog::block(64, Duration::ZERO)] {
        let topic = Topic::<String>::new();
        let (head, neck) = kind.ends_with(Head::builder().config(little_room()), Neck::builder());
        let _neck = neck.serve(Api::new("news").topic("text", &topic).unwrap()).unwrap().start();
        let mut news = head.subscribe::<String>("news.text", backlog).unwrap();
        // Nobody reads, until more is lost than may be under way.
        let n = Cell::new(0);
        eventually(|| {
            topic.publish(item(n.replace(n.get() + 1), 50 * KIB));
            head.counters().events_dropped > 64
        });
        let n = n.get();
        let (read, lost) = account(&mut news, 0, n);
        assert!(read > 0 && lost > 0, "{read} were read, {lost} lost with {backlog:?}");
        assert_eq!(head.counters().items_lost, lost);
        // From here on it is read at once.
        for n in n..n + 200 {
            topic.publish(item(n, 10));
            account(&mut news, n, n + 1);
        }
        topic.end();
        assert!(matches!(news.next_timeout(LONG), Err(Missed::Ended)));
    }
}

/// Red when the end is lost like anything else.
fn p_12_the_end_needs_no_room_at_the_reader(kind: Kind) {
    if !kind.encodes() {
        return;
    }
    let (topic, gate) = (Topic::<String>::new(), Gate::default());
    let (head, neck) = kind.ends_with(Head::builder().config(little_room()), Neck::builder());
    let _opens = gate.opens_at_the_end();
    head.attach(standing(&gate)).unwrap();
    let neck = neck.serve(Api::new("news").topic("text", &topic).unwrap()).unwrap().start();
    let mut news = head.subscribe::<String>("news.text", Backlog::default()).unwrap();
    topic.publish(item(0, 10));
    account(&mut news, 0, 1);
    fill(&neck, &head);
    topic.publish(item(1, 10));
    assert_eq!(account(&mut news, 1, 2), (0, 1), "told, though nothing follows");
    topic.end();
    assert!(matches!(news.next_timeout(LONG), Err(Missed::Ended)));
}

/// Red when a report of what was taken is lost, or the news that nobody reads any more.
fn p_12_reports_need_no_room_at_the_publisher(kind: Kind) {
    if !kind.encodes() {
        return;
    }
    let (topic, gate) = (Topic::<String>::new(), Gate::default());
    let (head, neck) = kind.ends_with(Head::builder(), Neck::builder().config(little_room()));
    let _opens = gate.opens_at_the_end();
    let neck = neck.serve(Api::new("news").topic("text", &topic).unwrap()).unwrap();
    let neck = neck.serve(standing(&gate)).unwrap().start();
    let backlogs = [Backlog::drop_newest(1), Backlog::latest(), Backlog::block(2, LONG)];
    let mut all = backlogs.map(|backlog| head.subscribe::<String>("news.text", backlog).unwrap());
    fill(&head, &neck);
    for n in 0..50 {
        topic.publish(item(n, 10));
        all.iter_mut().for_each(|news| _ = account(news, n, n + 1));
    }
    drop(all);
    eventually(|| topic.n_subscriptions() == 0);
}

/// Red when what finds the send queue full goes another way, and so before what found a place.
fn p_12_nothing_overtakes_a_large_item(kind: Kind) {
    const LARGE: usize = 200 * KIB;
    for round in 0..if kind.is_slow() { 2 } else { 8 } {
        let topic = Topic::<String>::new().patience(LONG);
        let config = Config::new().send_queue(2);
        let (head, neck) = kind.ends_with(Head::builder(), Neck::builder().config(config));
        let _neck = neck.serve(Api::new("news").topic("text", &topic).unwrap()).unwrap().start();
        let mut news = head.subscribe::<String>("news.text", Backlog::block(64, LONG)).unwrap();
        let n = 3 + round % 3;
        let publisher = thread::spawn(move || {
            // Small ones between large ones, and large ones before the end.
            (0..20).for_each(|n| assert_eq!(topic.publish(item(n, [LARGE, 8][n as usize % 2])).lost, 0));
            (20..20 + n).for_each(|n| assert_eq!(topic.publish(item(n, LARGE)).lost, 0));
        });
        assert_eq!(account(&mut news, 0, 20 + n), (20 + n, 0));
        assert!(matches!(news.next_timeout(LONG), Err(Missed::Ended)));
        publisher.join().unwrap();
    }
}

on_every_link! {
    p_12_items_without_room_at_the_reader_are_told_and_hold_nothing_up,
    p_12_the_end_needs_no_room_at_the_reader,
    p_12_reports_need_no_room_at_the_publisher,
    p_12_nothing_overtakes_a_large_item,
}
