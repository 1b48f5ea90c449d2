//! Where one may not block: what waits there gives what is here instead. Each test says which change to the library
//! turns it red.

use std::{sync::Arc, time::Instant};

use crossbeam_channel::{Receiver, bounded, unbounded};
use nape::{
    Api, Backlog, CallError, Context, Endpoint, Fault, Head, LinkState, Missed, Misuse, Neck, Next, Topic,
};

use crate::{
    support::Kind,
    tools::{LONG, SOON, nothing_is_under_way},
};

on_every_link! {
    p_08_a_stream_gives_what_is_here_to_a_hook_and_ends,
    p_08_a_subscription_gives_what_is_here_to_a_hook_and_goes_on,
    p_08_a_hook_that_waits_for_a_state_is_told_it_at_once,
}

/// Runs `look` with `what` in the error hook of this side.
fn in_hook<T, R>(end: &Endpoint, what: T, look: impl Fn(T) -> R + Send + Sync + 'static) -> R
where
    T: Send + 'static,
    R: Send + 'static,
{
    let (give, given): (_, Receiver<T>) = bounded(1);
    let (tell, told) = unbounded();
    end.on_error(move |_| {
        for what in given.try_iter() {
            tell.send(look(what)).unwrap();
        }
    });
    give.send(what).unwrap();
    // As a panic, but without the noise on stderr.
    let panics = |_: Result<(), CallError>| std::panic::resume_unwind(Box::new("a callback that panics"));
    end.api("nothing").action("there", ()).then(panics).unwrap();
    told.recv_timeout(LONG).unwrap()
}

fn is_refused<T>(end: &Result<T, CallError>) -> bool {
    matches!(end, Err(CallError::Misuse(Misuse::WouldDeadlock { .. })))
}

/// Red when the place is asked before what is here is looked at; when the refusal does not end it, a loop over it in a
/// hook has no end.
fn p_08_a_stream_gives_what_is_here_to_a_hook_and_ends(kind: Kind) {
    let (tell, told) = unbounded();
    let (begin, began) = unbounded();
    let some = |_: &Context, (): ()| Ok::<_, Fault>((0..3u64).map(Ok::<_, Fault>));
    let then_wait = move |cx: &Context, (): ()| {
        let (token, tell, begin) = (cx.cancel_token().clone(), tell.clone(), begin.clone());
        let wait = move || {
            begin.send(()).unwrap();
            tell.send(token.wait_timeout(LONG)).map_or(None, |()| None)
        };
        Ok::<_, Fault>((0..3u64).map(Ok::<_, Fault>).chain(std::iter::from_fn(wait)))
    };
    let api = Api::new("a").stream("some", some).unwrap().stream("then_wait", then_wait).unwrap();
    let (head, neck) = kind.serving(api);
    let items = head.api("a").action("some", ()).open::<u64>().unwrap();
    nothing_is_under_way(&head, &neck);
    let all = in_hook(&head, items, |items| items.take(10).collect::<Result<Vec<_>, _>>());
    assert_eq!(all.unwrap(), [0, 1, 2]);
    // These do not end by themselves.
    for by_time in [false, true] {
        let mut items = head.api("a").action("then_wait", ()).open::<u64>().unwrap();
        assert_eq!(items.next().unwrap().unwrap(), 0);
        // Who is told to stop before that makes no further item, and so does not wait.
        began.recv_timeout(LONG).unwrap();
        let mut all = in_hook(&head, items, move |mut items| {
            let next = |_| match by_time {
                false => items.next(),
                true => match items.next_timeout(LONG) {
                    Ok(Next::Item(item)) => Some(Ok(item)),
                    Ok(_) => None,
                    Err(error) => Some(Err(error)),
                },
            };
            (0..10).map_while(next).collect::<Vec<_>>()
        });
        assert!(is_refused(&all.pop().unwrap()));
        let some: Vec<_> = all.into_iter().map(Result::unwrap).collect();
        assert!([1, 2].starts_with(&some), "{some:?}");
        // Nobody takes any more, which the other side hears of.
        assert!(told.recv_timeout(LONG).unwrap());
    }
}

/// Red when the place is not asked: then this hangs.
fn p_08_a_subscription_gives_what_is_here_to_a_hook_and_goes_on(kind: Kind) {
    let lines = Topic::new();
    let (head, _neck) = kind.serving(Api::new("a").topic("lines", &lines).unwrap());
    let news = head.subscribe::<String>("a.lines", Backlog::drop_newest(8)).unwrap();
    lines.publish("one".to_owned());
    news.ready().recv_timeout(LONG).unwrap();
    let (mut news, seen, waited) = in_hook(&head, news, |mut news| {
        let seen: Vec<_> = news.by_ref().take(10).collect();
        let waited = news.next_timeout(LONG);
        (news, seen, waited)
    });
    assert!(matches!(&seen[..], [Ok(one), Err(Missed::WouldDeadlock { .. })] if one == "one"), "{seen:?}");
    assert!(matches!(waited, Err(Missed::WouldDeadlock { .. })), "{waited:?}");
    lines.publish("two".to_owned());
    assert_eq!(news.next().unwrap().unwrap(), "two");
}

/// Red when the place is not asked: then this hangs.
fn p_08_a_hook_that_waits_for_a_state_is_told_it_at_once(kind: Kind) {
    let (head, neck): (Head, Neck) = kind.serving(Api::new("a"));
    assert_eq!(head.wait_open(LONG), LinkState::Open);
    let neck = Arc::new(neck);
    let theirs = (head.endpoint().clone(), neck.clone());
    let (states, waited, took) = in_hook(&head, theirs, |(end, neck)| {
        let began = Instant::now();
        let states = [end.wait_open(LONG), end.wait_closed(LONG)];
        let waited = neck.wait();
        (states, waited, began.elapsed())
    });
    assert_eq!(states, [LinkState::Open; 2]);
    assert!(matches!(waited, Err(nape::Error::Call(error)) if is_refused::<()>(&Err(error.clone()))));
    assert!(took < SOON, "{took:?}");
}
