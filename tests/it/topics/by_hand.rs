//! A publisher that is no topic of this library: what a subscription makes of what it sends.

use crossbeam_channel::{Receiver, unbounded};
use nape::{Api, Backlog, CallError, Context, Fault, Head, Misuse, Neck, Payload};

use crate::{
    support::Kind,
    tools::{LONG, eventually},
};

/// What a subscription asks for: its number, its bound, its window, the shape of an item, and a policy without more to it.
type Request = (u64, u32, u32, u64, u32);

/// A Neck that publishes by hand, and the numbers of those who have subscribed and who have let go.
fn by_hand(kind: Kind) -> (Head, Neck, Receiver<u64>, Receiver<u64>) {
    let ((came, comes), (went, goes)) = (unbounded(), unbounded());
    let subscribe = move |_: &Context, request: Request| {
        came.send(request.0).unwrap();
        Ok::<_, Fault>(())
    };
    let unsubscribe = move |_: &Context, number: u64| {
        went.send(number).unwrap();
        Ok::<_, Fault>(())
    };
    let api = Api::new("t").handle("subscribe", subscribe).unwrap();
    let (head, neck) = kind.serving(api.handle("unsubscribe", unsubscribe).unwrap());
    (head, neck, comes, goes)
}

/// An end and the news that nobody reads may cross, and then an end answers that, too. Red when this one goes to
/// whoever takes what nobody handles.
fn ac_33_the_second_end_of_a_subscription_goes_nowhere(kind: Kind) {
    let Some(kind) = kind.unless_json() else { return };
    let (head, neck, comes, goes) = by_hand(kind);
    let (tell, told) = unbounded();
    head.on_unhandled(move |cx: &Context, _: Payload| {
        tell.send(cx.path().to_string()).unwrap();
        Ok::<_, Fault>(Payload::from_bytes(Vec::new()))
    });
    for _ in 0..20 {
        let news = head.subscribe::<u64>("t", Backlog::drop_newest(8)).unwrap();
        let number = comes.recv_timeout(LONG).unwrap();
        drop(news);
        assert_eq!(goes.recv_timeout(LONG), Ok(number));
        (0..2).for_each(|_| neck.api("t.end").action(&number.to_string(), (0u64, 0u8)).fire().unwrap());
    }
    // What has no such number is nobody's.
    neck.api("t.end").action("9999", (0u64, 0u8)).fire().unwrap();
    assert_eq!(told.recv_timeout(LONG).unwrap(), "t.end.9999");
    assert!(told.is_empty());
    assert_eq!(head.counters().events_dropped, 0);
}

/// Red when the paths of a subscription that was never made stay its own.
fn ac_33_a_topic_whose_path_is_too_long_leaves_nothing(kind: Kind) {
    let (head, neck) = kind.serving(Api::new("t"));
    // Long enough that an item still has a path below it, and `subscribe` has not.
    let path = "x".repeat(247);
    let refused = head.subscribe::<u64>(&path, Backlog::default());
    assert!(matches!(refused, Err(CallError::Misuse(Misuse::BadPath(_)))), "{refused:?}");
    for number in ["0", "1", "2"] {
        neck.api(&path).action(&format!("item.{number}"), (0u64, Some(0u64))).fire().unwrap();
    }
    eventually(|| head.counters().events_dropped == 3);
}

on_every_link! {
    ac_33_the_second_end_of_a_subscription_goes_nowhere,
    ac_33_a_topic_whose_path_is_too_long_leaves_nothing,
}
