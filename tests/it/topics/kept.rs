//! What a publisher keeps for those who do not read: how much that is, is not left to them.

use std::{sync::Arc, thread, time::Duration};

use nape::{Api, Backlog, Config, Endpoint, Head, Limits, Missed, Neck, Subscription, Topic};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{
    support::Kind,
    tools::{LONG, eventually},
};

/// A number that shows for how long it is kept.
#[derive(Clone)]
struct Seen {
    number: u64,
    _mark: Option<Arc<()>>,
}

impl Seen {
    fn new(number: u64, mark: Option<Arc<()>>) -> Seen {
        Seen { number, _mark: mark }
    }
}

impl Serialize for Seen {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.number.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Seen {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Seen, D::Error> {
        u64::deserialize(deserializer).map(|number| Seen::new(number, None))
    }
}

/// Asks for as much as can be said, and reads nothing. The oldest are to go.
fn ask_for_all(head: &Endpoint, topic: &str, number: u64) {
    let request = (number, u32::MAX, 1u32, 0u64, 0u32);
    head.api(topic).action("subscribe", request).call::<()>().unwrap();
}

/// Red when the bound is the word of the one who subscribes.
fn p_15_what_a_subscription_asks_to_be_kept_is_bounded(kind: Kind) {
    let Some(kind) = kind.unless_json() else { return };
    for (config, of_one, of_all) in [
        (Config::new(), 1024, 3072),
        (Config::new().limits(Limits::new().subscription_items(100).topic_items(150)), 100, 150),
    ] {
        let topics = [Topic::<Seen>::new(), Topic::new(), Topic::new()];
        let api = topics.iter().zip(["a", "b", "c"]);
        let api = api.fold(Api::new("t"), |api, (topic, path)| api.topic(path, topic).unwrap());
        let (head, neck) = kind.ends_with(Head::builder(), Neck::builder().config(config));
        let neck = neck.serve(api).unwrap().start();
        // Twice, since what is given back is there again.
        for number in [1, 2] {
            let mark = Arc::new(());
            let n_kept = || Arc::strong_count(&mark) - 1;
            let publish = |topic: &Topic<Seen>| {
                (0..4000).for_each(|n| assert_eq!(topic.publish(Seen::new(n, Some(mark.clone()))).taken, 1));
            };
            ask_for_all(&head, "t.a", number);
            publish(&topics[0]);
            // What is sent and not looked at yet has left.
            eventually(|| (of_one..of_one + 3).contains(&n_kept()));
            for (topic, path) in topics[1..].iter().zip(["t.b", "t.c"]) {
                ask_for_all(&head, path, number);
                publish(topic);
            }
            eventually(|| (of_all..of_all + 6).contains(&n_kept()));
            for path in ["t.a", "t.b", "t.c"] {
                head.api(path).action("unsubscribe", number).fire().unwrap();
            }
            eventually(|| n_kept() == 0);
            eventually(|| topics.iter().all(|topic| topic.n_subscriptions() == 0));
        }
        drop(neck);
    }
}

#[track_caller]
fn account(news: &mut Subscription<Seen>, n: u64) -> u64 {
    let (mut next, mut read) = (0, 0);
    while next < n {
        match news.next_timeout(LONG) {
            Ok(Some(item)) => {
                assert_eq!(item.number, next, "a gap that nobody told");
                (next, read) = (next + 1, read + 1);
            }
            Err(Missed::Lagged(gap)) => next += gap,
            Ok(None) => panic!("{next} of {n} are accounted for"),
            Err(end) => panic!("{end}"),
        }
    }
    assert_eq!(next, n);
    read
}

/// Red when an item without a place is lost and not told, or keeps the places of others.
fn p_12_what_the_publisher_does_not_keep_is_told(kind: Kind) {
    let topic = Topic::<Seen>::new();
    let config = Config::new().limits(Limits::new().subscription_items(4).topic_items(5));
    let (head, neck) = kind.ends_with(Head::builder(), Neck::builder().config(config));
    let _neck = neck.serve(Api::new("t").topic("a", &topic).unwrap()).unwrap().start();
    let backlogs = [Backlog::drop_oldest(100), Backlog::drop_newest(20), Backlog::drop_oldest(8)];
    let mut all = backlogs.map(|backlog| head.subscribe::<Seen>("t.a", backlog).unwrap());
    for round in 0..3 {
        (0..1000).for_each(|n| _ = topic.publish(Seen::new(1000 * round + n, None)));
    }
    for (news, least) in all.iter_mut().zip([1, 20, 1]) {
        assert!(account(news, 3000) >= least);
    }
}

/// Red when a publisher that waits hears only of what was read, and not of a place in what is kept.
fn p_12_a_publisher_hears_of_room_in_what_is_kept_for_it(kind: Kind) {
    const N: u64 = 3000;
    let topic = Topic::<Seen>::new().patience(Duration::MAX);
    let config = Config::new().limits(Limits::new().subscription_items(16).topic_items(20));
    let (head, neck) = kind.ends_with(Head::builder(), Neck::builder().config(config));
    let _neck = neck.serve(Api::new("t").topic("a", &topic).unwrap()).unwrap().start();
    let backlog = Backlog::block(10_000, Duration::MAX);
    let mut all = [0, 1].map(|_| head.subscribe::<Seen>("t.a", backlog).unwrap());
    let publish = |_| {
        let topic = topic.clone();
        thread::spawn(move || (0..N / 2).for_each(|n| assert_eq!(topic.publish(Seen::new(n, None)).lost, 0)))
    };
    let publishers = [0, 1].map(publish);
    for n in 0..N {
        all.iter_mut().for_each(|news| {
            drop(news.next_timeout(LONG).unwrap().unwrap_or_else(|| panic!("none is item {n}")))
        });
    }
    publishers.into_iter().for_each(|publisher| publisher.join().unwrap());
}

on_every_link! {
    p_12_a_publisher_hears_of_room_in_what_is_kept_for_it,
    p_15_what_a_subscription_asks_to_be_kept_is_bounded,
    p_12_what_the_publisher_does_not_keep_is_told,
}
