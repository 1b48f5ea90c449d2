//! Streams by name: items one way, the other way, and both ways.

mod ends;
mod flow;
mod within;

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

use nape::{Api, CallError, Context, Fault, FaultKind, Head, Incoming, Neck, Next, Outgoing, Rejection};
use serde::{Deserialize, Serialize};

use crate::support::Kind;

on_every_link! {
    ac_80_a_stream_is_complete_and_in_order,
    ac_80_the_first_item_is_seen_before_the_last_is_made,
    ac_80_items_of_any_size,
    ac_82_a_fault_in_the_middle,
    ac_82_an_error_instead_of_a_beginning,
    ac_82_a_panic_in_the_middle,
    ac_84_an_upload_is_complete_and_in_order,
    ac_84_an_upload_is_answered_before_its_end,
    ac_84_both_ways_at_once,
    ac_84_each_half_ends_by_itself,
    calls_and_streams_are_not_taken_for_each_other,
    an_item_of_another_type,
    nobody_waits_longer_than_asked,
    a_stream_is_polled,
}

#[derive(Debug, PartialEq, Serialize, Deserialize, thiserror::Error)]
#[error("{0} is too much")]
pub struct TooMuch(pub u32);

/// Counts up to a number, and fails at another one.
fn count(
    _: &Context,
    (to, bad): (u32, u32),
) -> Result<impl Iterator<Item = Result<u32, TooMuch>> + use<>, TooMuch> {
    if to == u32::MAX {
        return Err(TooMuch(to));
    }
    Ok((0..to).map(move |n| if n == bad { Err(TooMuch(n)) } else { Ok(n) }))
}

fn sum(_: &Context, start: u64, items: Incoming<u64>) -> Result<u64, Fault> {
    items.into_iter().try_fold(start, |sum, item| Ok(sum + item?))
}

/// Says each item again, until one says stop.
fn echo(_: &Context, (): (), items: Incoming<String>, mut out: Outgoing<String>) -> Result<u32, Fault> {
    let mut n = 0;
    for item in items {
        let item = item?;
        if item == "stop" {
            break;
        }
        out.send(item)?;
        n += 1;
    }
    Ok(n)
}

pub fn serving(kind: Kind) -> (Head, Neck) {
    let api = Api::new("s").stream("count", count).unwrap();
    let api = api.upload("sum", sum).unwrap().duplex("echo", echo).unwrap();
    kind.serving(api.handle("double", |_: &Context, n: u32| Ok::<_, Fault>(2 * n)).unwrap())
}

fn ac_80_a_stream_is_complete_and_in_order(kind: Kind) {
    let (head, _neck) = serving(kind);
    for n in [0u32, 1, 63, 64, 65, 10_000] {
        let items = head.api("s").action("count", (n, u32::MAX)).open::<u32>().unwrap();
        let items: Vec<u32> = items.map(Result::unwrap).collect();
        assert!(items.iter().copied().eq(0..n), "{n}: {items:?}");
    }
    let counters = head.counters();
    assert_eq!((counters.items_taken, counters.items_dropped), (10_193, 0));
    assert_eq!((counters.calls, counters.values), (6, 6));
    assert_eq!(head.under_way(), (0, 0));
}

fn ac_80_the_first_item_is_seen_before_the_last_is_made(kind: Kind) {
    let (go, may_go) = mpsc::sync_channel::<()>(0);
    let may_go = std::sync::Mutex::new(Some(may_go));
    let api = Api::new("s").stream("slow", move |_: &Context, (): ()| {
        let may_go = may_go.lock().unwrap().take().unwrap();
        Ok::<_, Fault>((0..3).map(move |n| {
            if n == 2 {
                may_go.recv().unwrap();
            }
            Ok::<_, Fault>(n)
        }))
    });
    let (head, _neck) = kind.serving(api.unwrap());
    let mut items = head.api("s").action("slow", ()).open::<i32>().unwrap();
    assert_eq!(items.next().unwrap().unwrap(), 0);
    assert_eq!(items.next().unwrap().unwrap(), 1);
    assert_eq!(items.try_next().unwrap(), Next::NotYet);
    go.send(()).unwrap();
    assert_eq!(items.next().unwrap().unwrap(), 2);
    assert!(items.next().is_none());
    assert!(items.next().is_none());
    assert_eq!(items.try_next().unwrap(), Next::End);
}

fn ac_80_items_of_any_size(kind: Kind) {
    let sizes = [0usize, 1, 60_000, 61_384, 61_385, 61_440, 200_000, 3, 5_000_000, 2];
    let api = Api::new("s").stream("sized", move |_: &Context, (): ()| {
        let bytes = |(n, size): (usize, usize)| Ok::<_, Fault>(vec![n as u8; size]);
        Ok::<_, Fault>(sizes.into_iter().enumerate().map(bytes))
    });
    let take = |_: &Context, (): (), items: Incoming<Vec<u8>>| {
        items.map(|item| item.map(|item| item.len())).collect::<Result<Vec<_>, _>>().map_err(Fault::from)
    };
    let (head, _neck) = kind.serving(api.unwrap().upload("measure", take).unwrap());
    let items = head.api("s").action("sized", ()).open::<Vec<u8>>().unwrap();
    for ((n, size), item) in sizes.into_iter().enumerate().zip(items) {
        assert!(item.unwrap() == vec![n as u8; size], "{size}");
    }
    let mut measure = head.api("s").action("measure", ()).upload::<Vec<u8>, Vec<usize>>().unwrap();
    for size in sizes {
        measure.send(vec![1; size]).unwrap();
    }
    assert_eq!(measure.finish().unwrap(), sizes);
}

fn ac_82_a_fault_in_the_middle(kind: Kind) {
    let (head, _neck) = serving(kind);
    for bad in [0, 1, 100, 999] {
        let mut items = head.api("s").action("count", (1000u32, bad)).open::<u32>().unwrap();
        for n in 0..bad {
            assert_eq!(items.next().unwrap().unwrap(), n);
        }
        let error = items.next().unwrap().unwrap_err();
        assert_eq!(error.fault().and_then(Fault::typed::<TooMuch>), Some(TooMuch(bad)), "{error}");
        assert!(items.next().is_none());
    }
    assert_eq!(head.counters().faults, 4);
}

fn ac_82_an_error_instead_of_a_beginning(kind: Kind) {
    let (head, _neck) = serving(kind);
    let mut items = head.api("s").action("count", (u32::MAX, 0u32)).open::<u32>().unwrap();
    let error = items.next().unwrap().unwrap_err();
    assert_eq!(error.fault().and_then(Fault::typed::<TooMuch>), Some(TooMuch(u32::MAX)), "{error}");
    assert!(items.next().is_none());
    let mut items = head.api("s").action("nothing", ()).open::<u32>().unwrap();
    let error = items.next().unwrap().unwrap_err();
    assert!(matches!(error, CallError::Rejected(Rejection::NoHandler { .. })), "{error}");
    let mut items = head.api("s").action("sum", 0u64).upload::<u64, u64>().unwrap();
    items.send(1).unwrap();
    drop(items);
    let items = head.api("s").action("nothing", 0u64).upload::<u64, u64>().unwrap();
    assert!(matches!(items.finish(), Err(CallError::Rejected(Rejection::NoHandler { .. }))));
}

fn ac_82_a_panic_in_the_middle(kind: Kind) {
    let api = Api::new("s").stream("odd", |_: &Context, (): ()| {
        Ok::<_, Fault>((0..).map(|n| if n < 3 { Ok::<i32, Fault>(n) } else { panic!("no {n}") }))
    });
    let (head, neck) = kind.serving(api.unwrap());
    let mut items = head.api("s").action("odd", ()).open::<i32>().unwrap();
    assert_eq!([0, 1, 2], [(); 3].map(|()| items.next().unwrap().unwrap()));
    let error = items.next().unwrap().unwrap_err();
    let fault = error.fault().unwrap();
    assert_eq!((fault.kind(), fault.message()), (FaultKind::Panicked, "no 3"));
    assert_eq!(neck.counters().handler_panics, 1);
}

fn ac_84_an_upload_is_complete_and_in_order(kind: Kind) {
    let keep =
        |_: &Context, (): (), items: Incoming<u32>| items.collect::<Result<Vec<_>, _>>().map_err(Fault::from);
    let (head, neck) = kind.serving(Api::new("s").upload("keep", keep).unwrap());
    for n in [0u32, 1, 64, 65, 5000] {
        let mut keep = head.api("s").action("keep", ()).upload::<u32, Vec<u32>>().unwrap();
        for item in 0..n {
            keep.send(item).unwrap();
        }
        assert!(keep.finish().unwrap().into_iter().eq(0..n));
    }
    assert_eq!(head.counters().items_sent, 5130);
    assert_eq!(neck.counters().items_taken, 5130);
}

fn ac_84_an_upload_is_answered_before_its_end(kind: Kind) {
    let first = |_: &Context, (): (), mut items: Incoming<u32>| -> Result<u32, Fault> {
        Ok(items.next().transpose()?.unwrap_or_default())
    };
    let (head, _neck) = kind.serving(Api::new("s").upload("first", first).unwrap());
    let mut items = head.api("s").action("first", ()).upload::<u32, u32>().unwrap();
    let error = (7..).find_map(|n| items.send(n).err()).unwrap();
    assert!(matches!(error, CallError::Cancelled), "{error}");
    assert_eq!(items.finish().unwrap(), 7);
}

fn ac_84_both_ways_at_once(kind: Kind) {
    let (head, _neck) = serving(kind);
    let echo = head.api("s").action("echo", ()).duplex::<String, String, u32>().unwrap();
    let (mut out, items, answer) = echo.split();
    let sender = thread::spawn(move || {
        for n in 0..2000 {
            out.send(n.to_string()).unwrap();
        }
        out.end();
    });
    let items: Vec<String> = items.map(Result::unwrap).collect();
    assert!(items.into_iter().eq((0..2000).map(|n| n.to_string())));
    assert_eq!(answer.wait().unwrap(), 2000);
    sender.join().unwrap();
}

fn ac_84_each_half_ends_by_itself(kind: Kind) {
    // The serving side ends first, and goes on to take.
    let after = |_: &Context, (): (), items: Incoming<u32>, mut out: Outgoing<u32>| {
        out.send(1).unwrap();
        out.end();
        items.map(Result::unwrap).sum::<u32>().pipe(Ok::<_, Fault>)
    };
    // The serving side takes no more, and goes on to send.
    let before = |_: &Context, (): (), mut items: Incoming<u32>, mut out: Outgoing<u32>| {
        let n = items.next().unwrap().unwrap();
        drop(items);
        for n in 0..n {
            out.send(n)?;
        }
        Ok::<_, Fault>(())
    };
    let api = Api::new("s").duplex("after", after).unwrap().duplex("before", before).unwrap();
    let (head, _neck) = kind.serving(api);
    let mut after = head.api("s").action("after", ()).duplex::<u32, u32, u32>().unwrap();
    assert_eq!(after.next().unwrap().unwrap(), 1);
    assert!(after.next().is_none());
    for n in 1..=100 {
        after.send(n).unwrap();
    }
    assert_eq!(after.finish().unwrap(), 5050);

    let mut before = head.api("s").action("before", ()).duplex::<u32, u32, ()>().unwrap();
    before.send(200).unwrap();
    assert_eq!(before.next().unwrap().unwrap(), 0);
    let error = (0..).find_map(|n| before.send(n).err()).unwrap();
    assert!(matches!(error, CallError::Cancelled), "{error}");
    assert_eq!(before.by_ref().map(Result::unwrap).count(), 199);
    before.finish().unwrap();
}

trait Pipe: Sized {
    fn pipe<R>(self, f: impl FnOnce(Self) -> R) -> R {
        f(self)
    }
}

impl<T> Pipe for T {}

fn calls_and_streams_are_not_taken_for_each_other(kind: Kind) {
    let (head, neck) = serving(kind);
    let api = head.api("s");
    let refused = |error: CallError| {
        assert!(matches!(&error, CallError::Rejected(Rejection::BadArguments { .. })), "{error}");
    };
    refused(api.action("count", (1u32, 1u32)).call::<()>().unwrap_err());
    refused(api.action("double", 1u32).open::<u32>().unwrap().next().unwrap().unwrap_err());
    refused(api.action("double", 1u32).upload::<u32, u32>().unwrap().finish().unwrap_err());
    refused(api.action("sum", 1u64).open::<u32>().unwrap().next().unwrap().unwrap_err());
    refused(api.action("sum", 1u64).duplex::<u64, u64, u64>().unwrap().finish().unwrap_err());
    refused(api.action("echo", ()).upload::<String, u32>().unwrap().finish().unwrap_err());
    assert_eq!(api.action("double", 1u32).call::<u32>().unwrap(), 2);
    let (report, reported) = mpsc::channel();
    neck.on_error(move |what| report.send(format!("{what:?}")).unwrap());
    api.action("count", (1u32, 1u32)).fire().unwrap();
    assert!(reported.recv().unwrap().contains("s.count"));
}

fn an_item_of_another_type(kind: Kind) {
    let (head, _neck) = serving(kind);
    let mut items = head.api("s").action("count", (100_000u32, u32::MAX)).open::<String>().unwrap();
    let error = items.find_map(Result::err).unwrap();
    assert!(matches!(error, CallError::Decode(_)), "{error}");
    assert!(items.next().is_none());
    let mut items = head.api("s").action("sum", 0u64).upload::<String, u64>().unwrap();
    while items.send("no number".into()).is_ok() {}
    let error = items.finish().unwrap_err();
    assert!(matches!(error, CallError::Fault(_)), "{error}");
}

fn nobody_waits_longer_than_asked(kind: Kind) {
    let (head, _neck) = serving(kind);
    let mut echo = head.api("s").action("echo", ()).duplex::<String, String, u32>().unwrap();
    assert_eq!(echo.next_timeout(Duration::from_millis(10)).unwrap(), Next::NotYet);
    assert_eq!(echo.next_timeout(Duration::ZERO).unwrap(), Next::NotYet);
    echo.send("a".into()).unwrap();
    assert_eq!(echo.next_timeout(Duration::from_secs(10)).unwrap(), Next::Item("a".into()));
    echo.end();
    assert_eq!(echo.next_timeout(Duration::from_secs(10)).unwrap(), Next::End);
    assert_eq!(echo.finish().unwrap(), 1);
}

fn a_stream_is_polled(kind: Kind) {
    struct Count(AtomicUsize, thread::Thread);
    impl std::task::Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
            self.1.unpark();
        }
    }
    let (head, _neck) = serving(kind);
    let woken = Arc::new(Count(AtomicUsize::new(0), thread::current()));
    let waker = woken.clone().into();
    let mut cx = std::task::Context::from_waker(&waker);
    let mut items = head.api("s").action("count", (1000u32, u32::MAX)).open::<u32>().unwrap();
    let mut n = 0;
    loop {
        match futures_core::Stream::poll_next(std::pin::Pin::new(&mut items), &mut cx) {
            std::task::Poll::Ready(Some(item)) => {
                assert_eq!(item.unwrap(), n);
                n += 1;
            }
            std::task::Poll::Ready(None) => break,
            std::task::Poll::Pending => thread::park(),
        }
    }
    assert_eq!(n, 1000);
    assert!(woken.0.load(Ordering::SeqCst) > 0);

    // An upload that is never sent to before there is room.
    let mut sum = head.api("s").action("sum", 0u64).upload::<u64, u64>().unwrap();
    for n in 0..1000 {
        {
            let mut ready = std::pin::pin!(sum.ready());
            while ready.as_mut().poll(&mut cx).is_pending() {
                thread::park();
            }
        }
        sum.try_send(n).unwrap();
    }
    assert_eq!(sum.finish().unwrap(), 499_500);
}
