//! Publish and subscribe: who gets what, what is lost and where that is told, and how it ends.

mod bad_items;
mod by_hand;
mod callbacks;
mod kept;
mod room;

use std::{
    future::Future,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context as TaskContext, Poll, Waker},
    thread,
    time::{Duration, Instant},
};

use crossbeam_channel::unbounded;
use nape::{
    Api, Backlog, CallError, CloseReason, Config, Context, Fault, Head, Missed, Neck, Rejection,
    Subscription, Topic,
};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::tools::{Gate, LONG, SOON, eventually, is_unknown, until, within};
use crate::{soak::rounds, support::Kind};

/// A Head that subscribes, and a Neck that serves a topic and an echo.
fn stage(kind: Kind) -> (Head, Neck, Topic<u64>) {
    let topic = Topic::new();
    let api = Api::new("news").topic("ticks", &topic).unwrap();
    let api = api.handle("echo", |_: &Context, n: u64| Ok::<_, Fault>(n)).unwrap();
    let (head, neck) = kind.serving(api);
    (head, neck, topic)
}

fn subscribe(head: &Head, backlog: Backlog) -> Subscription<u64> {
    head.subscribe("news.ticks", backlog).unwrap()
}

fn publish(topic: &Topic<u64>, items: std::ops::Range<u64>) {
    items.for_each(|n| _ = topic.publish(n));
}

/// Reads items that count up until all up to `n` are read or told to be lost. Gives both numbers.
#[track_caller]
fn account(news: &mut Subscription<u64>, n: u64) -> (u64, u64) {
    let (mut next, mut read, mut lost) = (0, 0, 0);
    while next < n {
        match news.next_timeout(LONG) {
            Ok(Some(item)) => {
                assert_eq!(item, next, "a gap that nobody told");
                (next, read) = (next + 1, read + 1);
            }
            Ok(None) => panic!("{next} of {n} are accounted for"),
            Err(Missed::Lagged(gap)) => (next, lost) = (next + gap, lost + gap),
            Err(end) => panic!("{end}"),
        }
    }
    assert_eq!(next, n);
    (read, lost)
}

fn ac_33_an_item_reaches_all_who_have_subscribed(kind: Kind) {
    let topic = Topic::new();
    let links: Vec<_> =
        (0..3).map(|_| kind.serving(Api::new("news").topic("ticks", &topic).unwrap())).collect();
    let mut news: Vec<_> = links.iter().map(|(head, _)| subscribe(head, Backlog::default())).collect();
    // Twice over one link.
    news.push(subscribe(&links[0].0, Backlog::default()));
    assert_eq!(topic.n_subscriptions(), 4);
    for n in 0..100u64 {
        // No more than may wait.
        assert_eq!(topic.publish(n).taken, 4);
        if n % 32 == 31 {
            news.iter_mut().for_each(|news| {
                (n - 31..=n).for_each(|n| assert_eq!(news.next_timeout(LONG).unwrap(), Some(n)));
            });
        }
    }
    for news in &mut news {
        (96..100).for_each(|n| assert_eq!(news.next_timeout(LONG).unwrap(), Some(n)));
        assert!(news.try_next().unwrap().is_none());
    }
}

fn ac_33_either_side_may_publish(kind: Kind) {
    let (head, neck) = kind.ends();
    let (ours, theirs) = (Topic::new(), Topic::new());
    let api = |topic| Api::new("news").topic("ticks", topic).unwrap();
    head.attach(api(&ours)).unwrap();
    let neck = neck.serve(api(&theirs)).unwrap().start();
    let mut at_head = subscribe(&head, Backlog::default());
    let mut at_neck = neck.subscribe::<u64>("news.ticks", Backlog::default()).unwrap();
    ours.publish(1u64);
    theirs.publish(2u64);
    assert_eq!(at_neck.next_timeout(LONG).unwrap(), Some(1));
    assert_eq!(at_head.next_timeout(LONG).unwrap(), Some(2));
}

fn ac_33_an_item_reaches_the_chosen_peers_alone(kind: Kind) {
    let topic = Topic::new();
    let links: Vec<_> =
        (0..3).map(|_| kind.serving(Api::new("news").topic("ticks", &topic).unwrap())).collect();
    let mut news: Vec<_> = links.iter().map(|(head, _)| subscribe(head, Backlog::default())).collect();
    assert_eq!(topic.publish_to([&*links[0].1, &*links[2].1], 7u64).taken, 2);
    assert_eq!(topic.publish_to([], 8).taken, 0);
    topic.publish(9);
    let all = |news: &mut Subscription<u64>| {
        std::iter::from_fn(|| news.next_timeout(LONG).unwrap()).take_while(|n| *n != 9).collect::<Vec<_>>()
    };
    let seen: Vec<_> = news.iter_mut().map(all).collect();
    assert_eq!(seen, [vec![7], vec![], vec![7]], "and nobody was told of a gap");
}

fn ac_33_dropping_a_subscription_stops_it(kind: Kind) {
    let (head, neck, topic) = stage(kind);
    let mut kept = subscribe(&head, Backlog::default());
    let dropped = subscribe(&head, Backlog::default());
    topic.publish(0);
    drop(dropped);
    eventually(|| topic.n_subscriptions() == 1);
    let before = neck.counters().events_sent;
    assert_eq!(topic.publish(1).taken, 1);
    assert_eq!(neck.counters().events_sent, before + 1, "nothing more goes to the one that was dropped");
    assert_eq!(account(&mut kept, 2), (2, 0));
    assert_eq!(head.counters().events_dropped, 0, "what was on its way is no failure");
}

fn ac_33_one_that_does_not_read_stops_nobody(kind: Kind) {
    let (head, _neck, topic) = stage(kind);
    let asleep =
        [Backlog::drop_oldest(4), Backlog::drop_newest(4), Backlog::latest(), Backlog::disconnect(4)]
            .map(|backlog| subscribe(&head, backlog));
    let (noted, notes) = unbounded();
    let listening = subscribe(&head, Backlog::block(16, LONG)).on(move |news| noted.send(news).unwrap());
    let topic = topic.patience(LONG);
    let publisher = thread::spawn(move || {
        publish(&topic, 0..5000);
        topic
    });
    for n in 0..5000 {
        assert_eq!(notes.recv_timeout(LONG).unwrap().unwrap(), n);
    }
    let topic = publisher.join().unwrap();
    assert_eq!(topic.n_subscriptions(), 4, "the one that wanted it was disconnected");
    drop((asleep, listening));
    eventually(|| topic.n_subscriptions() == 0);
}

fn p_12_the_gap_is_exactly_what_was_lost(kind: Kind) {
    let many = 1000 * rounds().unwrap_or(50);
    for (backlog, most) in [
        (Backlog::drop_oldest(16), many),
        (Backlog::latest(), many),
        (Backlog::drop_newest(16), many),
        (Backlog::drop_newest(1), 1000),
    ] {
        let (head, neck, topic) = stage(kind);
        let mut news = subscribe(&head, backlog);
        publish(&topic, 0..most);
        let (read, lost) = account(&mut news, most);
        assert!(lost > 0, "nobody read, and {read} were kept with {backlog:?}");
        assert_eq!((read + lost, head.counters().items_lost), (most, lost), "each shows up in a counter");
        assert!(neck.counters().items_unsent <= lost);
        // It goes on, as soon as the publisher knows that there is room.
        eventually(|| topic.publish(most).taken == 1);
        let mut last = news.next_timeout(LONG);
        while let Err(Missed::Lagged(_)) = last {
            last = news.next_timeout(LONG);
        }
        assert_eq!(last.unwrap(), Some(most));
    }
}

fn p_12_a_reader_that_keeps_up_now_and_then_sees_every_gap(kind: Kind) {
    for backlog in [Backlog::drop_oldest(8), Backlog::drop_newest(8), Backlog::latest()] {
        let (head, _neck, topic) = stage(kind);
        let mut news = subscribe(&head, backlog);
        let publisher = thread::spawn(move || {
            for n in 0..20_000u64 {
                topic.publish(n);
                if n % 1000 == 0 {
                    thread::yield_now();
                }
            }
            topic
        });
        let (read, lost) = account(&mut news, 20_000);
        assert_eq!((read + lost, head.counters().items_lost), (20_000, lost));
        drop(publisher.join().unwrap());
        assert!(matches!(news.next(), Some(Err(Missed::Ended))));
    }
}

/// Red when the oldest does not go.
fn p_12_the_newest_are_kept(kind: Kind) {
    let (head, _neck, topic) = stage(kind);
    let mut latest = subscribe(&head, Backlog::latest());
    let mut some = subscribe(&head, Backlog::drop_oldest(3));
    publish(&topic, 0..1000);
    // What is under way arrives without anybody reading.
    let came = |news: &mut Subscription<u64>, first: u64| {
        let ready = news.ready();
        until("the newest has come", || {
            let _ = ready.try_recv();
            head.counters().events_served > 0 && settled(&head)
        });
        assert!(matches!(news.next_timeout(LONG), Err(Missed::Lagged(n)) if n == first));
        (first..1000).for_each(|n| assert_eq!(news.next_timeout(LONG).unwrap(), Some(n)));
    };
    came(&mut latest, 999);
    came(&mut some, 997);
}

/// Whether nothing has come for a while.
fn settled(head: &Head) -> bool {
    let before = head.counters().events_served;
    thread::sleep(Duration::from_millis(50));
    head.counters().events_served == before
}

fn p_12_a_flood_nobody_reads_holds_up_no_call(kind: Kind) {
    let many = 1000 * rounds().unwrap_or(100);
    for (backlog, most) in [(Backlog::drop_newest(64), 64), (Backlog::default(), many)] {
        let (head, neck, topic) = stage(kind);
        let asleep = subscribe(&head, backlog);
        let p99 = |n: usize| {
            let mut times: Vec<_> = (0..n as u64)
                .map(|n| {
                    let start = Instant::now();
                    assert_eq!(head.api("news").action("echo", n).call::<u64>().unwrap(), n);
                    start.elapsed()
                })
                .collect();
            times.sort();
            times[n * 99 / 100]
        };
        p99(200);
        let idle = p99(500);
        let sent = neck.counters().events_sent;
        let publisher = thread::spawn(move || {
            publish(&topic, 0..many);
            topic
        });
        let busy = p99(500);
        let topic = publisher.join().unwrap();
        let sent = neck.counters().events_sent - sent;
        assert!(sent <= most, "{sent} were sent, and there is room for {most}");
        // A machine with other things to do lets anybody wait for some milliseconds.
        let limit = (idle * 5).max(Duration::from_millis(50));
        assert!(busy < limit, "99 of 100 echoes took up to {busy:?}, and {idle:?} when nothing is published");
        drop((asleep, topic));
    }
}

fn p_12_blocking_holds_up_the_publisher_alone_and_for_a_time(kind: Kind) {
    let (head, _neck, topic) = stage(kind);
    let topic = topic.patience(LONG);
    let mut slow = subscribe(&head, Backlog::block(2, Duration::from_millis(100)));
    let mut quick = subscribe(&head, Backlog::default());
    (0..2).for_each(|n| assert_eq!(topic.publish(n).taken, 2));
    let start = Instant::now();
    let third = topic.publish(2);
    assert!(start.elapsed() >= Duration::from_millis(100), "it waited for its time");
    assert_eq!((third.taken, third.lost), (1, 1));
    assert_eq!(account(&mut quick, 3), (3, 0));
    assert_eq!(account(&mut slow, 3), (2, 1));
    // With a reader it takes no time, and nothing is lost.
    let mut patient = subscribe(&head, Backlog::block(2, LONG));
    drop(slow);
    let publisher = thread::spawn(move || {
        (0..500).for_each(|n| assert_eq!(topic.publish(n).lost, 0));
        topic
    });
    assert_eq!(account(&mut patient, 500), (500, 0));
    // The patience of the topic is the limit of all.
    let topic = publisher.join().unwrap().patience(Duration::ZERO);
    let start = Instant::now();
    publish(&topic, 0..4);
    assert!(start.elapsed() < LONG / 2);
}

fn p_12_a_publisher_that_blocks_wakes_when_the_link_ends(kind: Kind) {
    let (head, _neck, topic) = stage(kind);
    let topic = topic.patience(LONG);
    let slow = subscribe(&head, Backlog::block(1, LONG));
    topic.publish(0);
    let publisher = thread::spawn(move || topic.publish(1));
    head.close();
    within(LONG / 2, "the publisher goes on", || publisher.is_finished());
    drop(slow);
}

fn p_12_who_is_too_slow_may_be_disconnected(kind: Kind) {
    let (head, _neck, topic) = stage(kind);
    let mut news = subscribe(&head, Backlog::disconnect(2));
    assert_eq!((0..5).map(|n| topic.publish(n).taken).sum::<usize>(), 2);
    assert_eq!(topic.n_subscriptions(), 0);
    assert_eq!(account(&mut news, 3), (2, 1));
    assert!(matches!(news.next_timeout(LONG), Err(Missed::TooSlow)));
    assert!(matches!(news.try_next(), Err(Missed::TooSlow)));
    assert!(matches!(news.next(), Some(Err(Missed::TooSlow))));
    assert!(news.next().is_none());
}

fn a_full_send_queue_loses_nothing(kind: Kind) {
    let topic = Topic::<u64>::new();
    let config = Config::new().send_queue(2);
    let (head, neck) = kind.ends_with(Head::builder(), Neck::builder().config(config));
    let _neck = neck.serve(Api::new("news").topic("ticks", &topic).unwrap()).unwrap().start();
    let topic = topic.patience(LONG);
    let mut all: Vec<_> = (0..4).map(|_| subscribe(&head, Backlog::block(64, LONG))).collect();
    let publisher = thread::spawn(move || (0..2000).for_each(|n| assert_eq!(topic.publish(n).lost, 0)));
    thread::scope(|scope| {
        all.iter_mut().for_each(|news| drop(scope.spawn(|| assert_eq!(account(news, 2000), (2000, 0)))));
    });
    publisher.join().unwrap();
}

fn a_subscription_ends_with_its_link(kind: Kind) {
    let (head, neck, topic) = stage(kind);
    let mut news = subscribe(&head, Backlog::default());
    let mut waiting = subscribe(&head, Backlog::default());
    topic.publish(1);
    let waiter = thread::spawn(move || {
        assert_eq!(waiting.next().unwrap().unwrap(), 1);
        waiting.next().unwrap().unwrap_err()
    });
    eventually(|| head.counters().events_served == 2);
    drop(neck);
    let end = waiter.join().unwrap();
    assert!(matches!(&end, Missed::Closed(reason) if matches!(**reason, CloseReason::Peer)), "{end:?}");
    // What had come is read all the same.
    assert_eq!(news.next().unwrap().unwrap(), 1);
    assert!(matches!(news.next(), Some(Err(Missed::Closed(_)))));
    assert!(news.next().is_none());
    eventually(|| topic.n_subscriptions() == 0);
    let again = head.subscribe::<u64>("news.ticks", Backlog::default());
    assert!(matches!(again, Err(CallError::Closed { .. })), "{again:?}");
}

fn a_subscription_ends_with_its_topic(kind: Kind) {
    let topic = Topic::<u64>::new();
    let (head, neck) = kind.ends();
    let served = neck.attach(Api::new("news").topic("ticks", &topic).unwrap()).unwrap();
    let neck = neck.start();
    let mut detached = subscribe(&head, Backlog::default());
    topic.publish(0);
    served.detach();
    assert_eq!(detached.next().unwrap().unwrap(), 0);
    assert!(matches!(detached.next(), Some(Err(Missed::Ended))));
    let unknown = head.subscribe::<u64>("news.ticks", Backlog::default());
    assert!(is_unknown(&unknown, "news.ticks.subscribe"), "{unknown:?}");

    neck.attach(Api::new("news").topic("ticks", &topic).unwrap()).unwrap();
    let mut ended = subscribe(&head, Backlog::default());
    topic.publish(1);
    topic.end();
    assert_eq!(topic.publish(2).taken, 0);
    assert_eq!(ended.next().unwrap().unwrap(), 1);
    assert!(matches!(ended.next(), Some(Err(Missed::Ended))));
    let over = head.subscribe::<u64>("news.ticks", Backlog::default());
    assert!(is_unknown(&over, "news.ticks.subscribe"), "{over:?}");
    assert_eq!((head.counters().events_dropped, neck.counters().events_dropped), (0, 0));
}

fn a_callback_takes_items_one_by_one(kind: Kind) {
    let (head, _neck, topic) = stage(kind);
    let (noted, notes) = unbounded();
    let news = subscribe(&head, Backlog::drop_newest(1000));
    topic.publish(0);
    let mut calls = 0;
    let listening = news.on(move |news| {
        calls += 1;
        noted.send(news).unwrap();
        assert!(calls != 3, "a panic hurts nobody else");
    });
    publish(&topic, 1..500);
    (0..500).for_each(|n| assert_eq!(notes.recv_timeout(LONG).unwrap().unwrap(), n));
    eventually(|| head.counters().callback_panics == 1);
    topic.end();
    assert!(matches!(notes.recv_timeout(LONG).unwrap(), Err(Missed::Ended)));
    drop(listening);
    assert!(notes.recv_timeout(LONG).is_err(), "the callback goes with it");
}

fn a_callback_stops_when_its_handle_goes(kind: Kind) {
    let (head, _neck, topic) = stage(kind);
    let (noted, notes) = unbounded();
    let gate = Gate::default();
    let theirs = gate.clone();
    let listening = subscribe(&head, Backlog::default()).on(move |news| {
        noted.send(news.unwrap()).unwrap();
        theirs.pass();
    });
    publish(&topic, 0..5);
    gate.await_waiting(1);
    drop(listening);
    gate.open();
    assert_eq!(notes.recv_timeout(LONG), Ok(0));
    assert!(notes.recv_timeout(LONG).is_err(), "it is not called again");
    eventually(|| topic.n_subscriptions() == 0);
}

fn a_subscription_can_be_awaited_and_selected_on(kind: Kind) {
    struct Unpark(thread::Thread);
    impl std::task::Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let (head, _neck, topic) = stage(kind);
    let mut news = subscribe(&head, Backlog::default());
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut cx = TaskContext::from_waker(&waker);
    {
        let mut next = pin!(news.next_async());
        assert!(next.as_mut().poll(&mut cx).is_pending());
        topic.publish(7);
        let item = loop {
            match next.as_mut().poll(&mut cx) {
                Poll::Ready(item) => break item,
                Poll::Pending => thread::park_timeout(LONG),
            }
        };
        assert_eq!(item.unwrap().unwrap(), 7);
    }
    let ready = news.ready();
    assert!(ready.try_recv().is_err());
    topic.publish(8);
    ready.recv_timeout(LONG).unwrap();
    assert_eq!(news.try_next().unwrap(), Some(8));
    assert_eq!(news.try_next().unwrap(), None);
    let start = Instant::now();
    assert_eq!(news.next_timeout(SOON).unwrap(), None);
    assert!(start.elapsed() >= SOON);
}

static ENCODED: [AtomicUsize; 2] = [AtomicUsize::new(0), AtomicUsize::new(0)];

/// Counts how often it is encoded, in one process and elsewhere.
#[derive(Clone, Debug, PartialEq)]
struct Heavy(bool, Arc<str>);

impl Serialize for Heavy {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        ENCODED[usize::from(self.0)].fetch_add(1, Ordering::Relaxed);
        (self.0, &*self.1).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Heavy {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Heavy, D::Error> {
        let (encodes, text) = <(bool, String)>::deserialize(deserializer)?;
        Ok(Heavy(encodes, text.into()))
    }
}

/// Looks the same, and does not like it.
#[derive(Clone, Debug)]
struct Light;

impl<'de> Deserialize<'de> for Light {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Light, D::Error> {
        match <(bool, String)>::deserialize(deserializer)? {
            (_, text) if text == "heavy" => Err(serde::de::Error::custom("it is too heavy")),
            _ => Ok(Light),
        }
    }
}

fn a_topic_of_other_items_is_refused(kind: Kind) {
    let (head, _neck, topic) = stage(kind);
    let refused = head.subscribe::<i64>("news.ticks", Backlog::default()).unwrap_err();
    assert_eq!(refused.to_string(), "news.ticks differs: here it is i64, at the other side u64");
    assert_eq!(topic.n_subscriptions(), 0);
    assert_eq!(head.counters().events_dropped, 0);
}

fn in_one_process_an_item_is_shared(kind: Kind) {
    let topic = Topic::new();
    let (head, _neck) = kind.serving(Api::new("news").topic("heavy", &topic).unwrap());
    let mut news = head.subscribe::<Heavy>("news.heavy", Backlog::default()).unwrap();
    // Who asks for another type gets it by way of the codec.
    let mut other = head.subscribe::<(bool, String)>("news.heavy", Backlog::default()).unwrap();
    let text: Arc<str> = "heavy".into();
    topic.publish(Heavy(kind.encodes(), text.clone()));
    let item = news.next().unwrap().unwrap();
    assert_eq!(Arc::ptr_eq(&item.1, &text), !kind.encodes());
    if !kind.encodes() {
        assert_eq!(ENCODED[0].load(Ordering::Relaxed), 0);
    }
    assert_eq!(other.next().unwrap().unwrap(), (kind.encodes(), "heavy".to_owned()));
    // One that does not fit is told, and the next one is read.
    let mut wrong = head.subscribe::<Light>("news.heavy", Backlog::default()).unwrap();
    for _ in 0..2 {
        topic.publish(Heavy(true, text.clone()));
    }
    (0..2).for_each(|_| assert!(matches!(wrong.next(), Some(Err(Missed::Decode(_))))));
    assert_eq!(head.counters().items_lost, 2);
}

/// The guide tells how to write the other side in another language; this is it, by name.
fn topics_are_calls_and_events_by_name(kind: Kind) {
    let Some(kind) = kind.unless_json() else { return };
    let (head, neck, topic) = stage(kind);
    let (noted, notes) = unbounded();
    let (ended, ends) = unbounded();
    let item = move |_: &Context, item: (u64, Option<u64>)| {
        noted.send(item).unwrap();
        Ok::<_, Fault>(())
    };
    let end = move |_: &Context, end: (u64, u8)| {
        ended.send(end).unwrap();
        Ok::<_, Fault>(())
    };
    let api = Api::new("").workers(1).handle("news.ticks.item.77", item).unwrap();
    head.attach(api.handle("news.ticks.end.77", end).unwrap()).unwrap();
    let ticks = head.api("news.ticks");
    // A window of two; whatever the shape; the newest goes when it is used up: the variant 1.
    let request = |variant: u32| (77u64, 2u32, 2u32, 0u64, variant);
    ticks.action("subscribe", request(1)).call::<()>().unwrap();
    let again = ticks.action("subscribe", request(1)).call::<()>();
    assert!(matches!(again, Err(CallError::Rejected(Rejection::Denied { .. }))), "{again:?}");
    publish(&topic, 0..5);
    let next = || notes.recv_timeout(LONG).unwrap();
    assert_eq!((next(), next()), ((0, Some(0)), (1, Some(1))));
    ticks.action("taken", (77u64, 2u64)).fire().unwrap();
    assert_eq!(next(), (5, None), "three are lost behind the last one");
    topic.publish(5);
    assert_eq!(next(), (5, Some(5)));
    ticks.action("unsubscribe", 77u64).fire().unwrap();
    assert_eq!(ends.recv_timeout(LONG), Ok((6, 0)));
    // Nobody has subscribed with that number, and the end comes all the same.
    ticks.action("unsubscribe", 77u64).call::<()>().unwrap();
    assert_eq!(ends.recv_timeout(LONG), Ok((0, 0)));
    let bad = ticks.action("subscribe", "nonsense").call::<()>();
    assert!(matches!(bad, Err(CallError::Rejected(Rejection::BadArguments { .. }))), "{bad:?}");
    assert_eq!(neck.under_way(), (0, 0));
}

fn a_topic_owns_its_paths_and_is_listed_once(kind: Kind) {
    let topic = Topic::<u64>::new();
    let (_head, neck) = kind.ends();
    let api = || Api::new("news").topic("ticks", &topic).unwrap();
    let served = neck.attach(Api::new("outer").nest(api()).unwrap()).unwrap();
    let list = neck.arb().list();
    assert_eq!(list.len(), 1);
    assert_eq!((list[0].path.as_str(), &*list[0].signature), ("outer.news.ticks", "topic of u64"));
    assert_eq!(neck.arb().owner_of("outer.news.ticks.subscribe").unwrap().as_str(), "outer");
    let nothing = |_: &Context, (): ()| Ok::<_, Fault>(());
    let other = Api::new("outer.news.ticks").handle("taken", nothing).unwrap();
    assert!(neck.attach(other).is_err());
    assert!(neck.attach(Api::new("outer.news").topic("ticks", &topic).unwrap()).is_err());
    assert!(api().topic("ticks", &topic).is_err());
    let taken = api().handle("ticks.subscribe", nothing).unwrap();
    assert!(neck.attach(taken).is_err());
    served.detach();
    assert!(neck.arb().list().is_empty());
}

on_every_link! {
    ac_33_an_item_reaches_all_who_have_subscribed,
    ac_33_either_side_may_publish,
    ac_33_an_item_reaches_the_chosen_peers_alone,
    ac_33_dropping_a_subscription_stops_it,
    ac_33_one_that_does_not_read_stops_nobody,
    p_12_the_gap_is_exactly_what_was_lost,
    p_12_a_reader_that_keeps_up_now_and_then_sees_every_gap,
    p_12_the_newest_are_kept,
    p_12_a_flood_nobody_reads_holds_up_no_call,
    p_12_blocking_holds_up_the_publisher_alone_and_for_a_time,
    p_12_a_publisher_that_blocks_wakes_when_the_link_ends,
    p_12_who_is_too_slow_may_be_disconnected,
    a_full_send_queue_loses_nothing,
    a_subscription_ends_with_its_link,
    a_subscription_ends_with_its_topic,
    a_callback_takes_items_one_by_one,
    a_callback_stops_when_its_handle_goes,
    a_subscription_can_be_awaited_and_selected_on,
    a_topic_of_other_items_is_refused,
    in_one_process_an_item_is_shared,
    topics_are_calls_and_events_by_name,
    a_topic_owns_its_paths_and_is_listed_once,
}
