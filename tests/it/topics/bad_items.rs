//! Items that cannot be sent: each is lost where that is so, is told there, and takes no other one along.

use std::{
    panic::resume_unwind,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

use nape::{Api, Backlog, Config, Head, Missed, Neck, Subscription, Topic};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{
    support::Kind,
    tools::{LONG, eventually},
};

/// A number that may panic when it is encoded.
#[derive(Clone)]
struct Moody {
    number: u64,
    /// How often it is encoded before that; `None`: it never panics.
    patience: Option<Arc<AtomicU64>>,
    panics: Option<Arc<AtomicU64>>,
}

impl Moody {
    fn calm(number: u64) -> Moody {
        Moody { number, patience: None, panics: None }
    }

    /// It panics when it is encoded so many times and once more, and not after that.
    fn once_after(number: u64, times: u64) -> Moody {
        Moody { number, patience: Some(Arc::new(times.into())), ..Moody::calm(number) }
    }
}

impl Serialize for Moody {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let left = self.patience.as_ref().map(|left| left.fetch_sub(1, Ordering::SeqCst));
        if left == Some(0) {
            self.panics.iter().for_each(|panics| _ = panics.fetch_add(1, Ordering::SeqCst));
            // As a panic, but without the noise.
            resume_unwind(Box::new("a panic that is a part of the test"));
        }
        self.number.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Moody {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Moody, D::Error> {
        u64::deserialize(deserializer).map(Moody::calm)
    }
}

#[track_caller]
fn next(news: &mut Subscription<Moody>) -> Result<u64, Missed> {
    news.next_timeout(LONG).map(|item| item.expect("nothing comes any more").number)
}

/// Red when the panic leaves the subscription as one for which a thread is sending.
fn p_12_an_item_that_panics_takes_nothing_else_along(kind: Kind) {
    let topic = Topic::new().patience(LONG);
    let (head, neck) = kind.serving(Api::new("news").topic("moods", &topic).unwrap());
    let subscribe = |backlog| head.subscribe::<Moody>("news.moods", backlog).unwrap();
    let (mut first, mut second) = (subscribe(Backlog::block(2, LONG)), subscribe(Backlog::default()));
    for round in 0..10 {
        let (bad, good) = (2 * round, 2 * round + 1);
        assert_eq!(topic.publish(Moody::once_after(bad, 0)).taken, 2);
        assert_eq!(topic.publish(Moody::calm(good)).taken, 2);
        let lost = [&mut first, &mut second].map(|news| {
            let item = next(news);
            let lost = matches!(item, Err(Missed::Lagged(1)));
            assert!(lost || item.as_ref().is_ok_and(|number| *number == bad), "{item:?}");
            assert_eq!(next(news).unwrap(), good);
            lost
        });
        // Whichever it is sent to first.
        assert_eq!(lost[0] != lost[1], kind.encodes(), "{lost:?}");
    }
    // Where nothing follows, the end tells of it.
    drop(second);
    eventually(|| topic.n_subscriptions() == 1);
    topic.publish(Moody::once_after(99, 0));
    topic.end();
    assert_eq!(next(&mut first).is_err(), kind.encodes());
    assert!(matches!(next(&mut first), Err(Missed::Ended)));
    let lost = if kind.encodes() { 11 } else { 0 };
    assert_eq!((head.counters().items_lost, neck.counters().items_unsent), (lost, lost));
}

/// The same for those that find the send queue full: these are encoded once more, by a thread of the link.
/// Red, too, when whoever waits for room is not told of that which such an item leaves.
fn p_12_an_item_that_panics_when_it_is_sent_later_takes_nothing_else_along(kind: Kind) {
    const MANY: u64 = 1000;
    let topics: Vec<_> = (0..4).map(|_| Topic::new().patience(10 * LONG)).collect();
    let api = topics.iter().zip(["a", "b", "c", "d"]);
    let api = api.fold(Api::new("news"), |api, (topic, path)| api.topic(path, topic).unwrap());
    let config = Config::new().send_queue(1);
    let (head, neck) = kind.ends_with(Head::builder(), Neck::builder().config(config));
    let _neck = neck.serve(api).unwrap().start();
    let (head, panics) = (&head, Arc::<AtomicU64>::default());
    thread::scope(|scope| {
        for (topic, path) in topics.into_iter().zip(["a", "b", "c", "d"]) {
            let panics = panics.clone();
            let mut news = head.api("news").subscribe::<Moody>(path, Backlog::block(64, 10 * LONG)).unwrap();
            scope.spawn(move || {
                for number in 0..MANY {
                    let item = Moody { panics: Some(panics.clone()), ..Moody::once_after(number, 1) };
                    assert_eq!(topic.publish(item).lost, 0);
                }
            });
            scope.spawn(move || {
                let mut expected = 0;
                loop {
                    match next(&mut news) {
                        Ok(number) => assert_eq!(number, std::mem::replace(&mut expected, number + 1)),
                        Err(Missed::Lagged(n)) => expected += n,
                        Err(end) => return assert!(matches!(end, Missed::Ended), "{end}"),
                    }
                }
            });
        }
    });
    assert_eq!(head.counters().items_lost, panics.load(Ordering::SeqCst));
}

fn an_item_over_the_limit_is_lost_and_told(kind: Kind) {
    if !kind.encodes() {
        return;
    }
    let topic = Topic::new();
    let config = Config::new().message_limit(2000);
    let (head, neck) = kind.ends_with(Head::builder(), Neck::builder().config(config));
    let neck = neck.serve(Api::new("news").topic("text", &topic).unwrap()).unwrap().start();
    let mut news = head.subscribe::<String>("news.text", Backlog::default()).unwrap();
    topic.publish("x".repeat(5000));
    assert!(matches!(news.next(), Some(Err(Missed::Lagged(1)))));
    topic.publish("short".to_owned());
    assert_eq!(news.next().unwrap().unwrap(), "short");
    assert_eq!((head.counters().items_lost, neck.counters().items_unsent), (1, 1));
}

on_every_link! {
    p_12_an_item_that_panics_takes_nothing_else_along,
    p_12_an_item_that_panics_when_it_is_sent_later_takes_nothing_else_along,
    an_item_over_the_limit_is_lost_and_told,
}
