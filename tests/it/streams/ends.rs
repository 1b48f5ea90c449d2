//! How streams end before their time: at either end, at any moment, and with the link.

use std::{
    pin::Pin,
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    task::{Context as Task, Wake, Waker},
    thread,
    time::{Duration, Instant},
};

use nape::{
    Api, CallError, CloseReason, Context, Endpoint, Executed, Fault, Head, Incoming, Neck, Outgoing, Timeout,
};

use crate::{
    support::Kind,
    tools::{LONG, eventually},
};

on_every_link! {
    ac_83_dropping_who_takes_ends_who_makes,
    ac_83_dropping_who_sends_ends_who_takes,
    ac_83_dropping_both_halves,
    ac_83_a_disconnect_ends_both_with_an_error,
    ac_83_a_disconnect_ends_who_waits,
    the_timeout_is_that_of_the_beginning,
    the_timeout_is_that_of_the_answer_too,
    a_handler_waits_no_longer_than_its_own_time,
    shutting_down_waits_for_streams,
    a_permit_is_released_when_a_stream_ends,
    a_thread_that_panics_ends_nothing_well,
    ac_10_a_cancel_travels_down_to_streams,
    an_inline_api_serves_streams_on_workers,
    ac_83_an_item_that_panics_when_it_goes_keeps_nobody,
    ac_90_the_answer_of_an_upload_has_no_more_time_than_the_handler_has,
    p_16_a_waker_at_the_far_end_of_a_cancelled_stream_may_ask_the_link,
}

/// One that panics when it is dropped, if it is told to.
#[derive(Clone, serde::Serialize, serde::Deserialize)]
struct Touchy(bool);

impl Drop for Touchy {
    fn drop(&mut self) {
        if self.0 && !thread::panicking() {
            panic!("it was touched");
        }
    }
}

/// Red when the other side is told behind what may panic.
fn ac_83_an_item_that_panics_when_it_goes_keeps_nobody(kind: Kind) {
    if !matches!(kind, Kind::Channel) {
        // Where items are encoded, those that wait are bytes.
        return;
    }
    let make = |_: &Context, (): ()| Ok::<_, Fault>((0u32..).map(|n| Ok::<_, Fault>(Touchy(n > 0))));
    let (head, neck) = kind.serving(Api::new("s").stream("touchy", make).unwrap());
    let mut items = head.api("s").action("touchy", ()).open::<Touchy>().unwrap();
    assert!(!items.next().unwrap().unwrap().0);
    eventually(|| neck.counters().items_sent > 20);
    drop(std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| drop(items))));
    eventually(|| head.under_way() == (0, 0) && neck.under_way() == (0, 0));
}

/// Red when an upload has the time of its own timeout, whatever the handler has left.
fn ac_90_the_answer_of_an_upload_has_no_more_time_than_the_handler_has(kind: Kind) {
    let wait = |cx: &Context, (): (), items: Incoming<u32>| {
        let _ = items.count();
        cx.cancel_token().wait_timeout(LONG / 2);
        Ok::<_, Fault>(())
    };
    let (tell, ended) = mpsc::sync_channel(1);
    let outer = move |cx: &Context, (): ()| {
        let began = Instant::now();
        let upload = cx.api("h").action("wait", ()).timeout(LONG).upload::<u32, ()>()?;
        tell.send((upload.finish(), began.elapsed())).unwrap();
        Ok::<_, Fault>(())
    };
    let (head, _neck) = kind.serving(Api::new("n").inline().handle("outer", outer).unwrap());
    head.attach(Api::new("h").upload("wait", wait).unwrap()).unwrap();
    let moment = Timeout::After(Duration::from_millis(300));
    // Either of them may be the first to see that the time is over.
    let _ = head.api("n").action("outer", ()).timeout(moment).call::<()>();
    let (end, after) = ended.recv_timeout(LONG).unwrap();
    assert!(after < LONG / 4, "{end:?} after {after:?}");
}

/// A waker that asks the link of whoever has cancelled.
struct Asks {
    end: Endpoint,
    woken: AtomicUsize,
}

impl Wake for Asks {
    fn wake(self: Arc<Self>) {
        let _ = (self.end.state(), self.end.under_way());
        self.woken.fetch_add(1, Ordering::SeqCst);
    }
}

/// Red when the other end of a stream in this process is told under the lock of the link.
fn p_16_a_waker_at_the_far_end_of_a_cancelled_stream_may_ask_the_link(kind: Kind) {
    let asks: Arc<OnceLock<Arc<Asks>>> = Arc::default();
    let (polled, was_polled) = mpsc::sync_channel(1);
    let (over, is_over) = mpsc::sync_channel::<()>(0);
    let (waker, is_over) = (asks.clone(), Mutex::new(is_over));
    let wait = move |_: &Context, (): (), mut items: Incoming<u64>, _: Outgoing<u64>| {
        let waker = Waker::from(waker.get().unwrap().clone());
        let poll = futures_core::Stream::poll_next(Pin::new(&mut items), &mut Task::from_waker(&waker));
        assert!(poll.is_pending());
        polled.send(()).unwrap();
        let _ = is_over.lock().unwrap().recv();
        Ok::<_, Fault>(())
    };
    let (head, neck) = kind.serving(Api::new("s").duplex("wait", wait).unwrap());
    let asked = Arc::new(Asks { end: head.endpoint().clone(), woken: AtomicUsize::new(0) });
    assert!(asks.set(asked.clone()).is_ok());
    let open = head.api("s").action("wait", ()).duplex::<u64, u64, ()>().unwrap();
    was_polled.recv_timeout(LONG).unwrap();
    drop(open);
    eventually(|| asked.woken.load(Ordering::SeqCst) > 0);
    assert_eq!((head.counters().callback_panics, neck.counters().callback_panics), (0, 0));
    drop(over);
}

/// Is counted as long as it is there.
struct Counted(Arc<AtomicUsize>);

impl Counted {
    fn new(count: &Arc<AtomicUsize>) -> Counted {
        count.fetch_add(1, Ordering::SeqCst);
        Counted(count.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Waits until something holds, which it must soon.
fn soon(holds: impl Fn() -> bool) {
    let end = Instant::now() + SOON;
    while !holds() {
        assert!(Instant::now() < end, "it does not come to hold");
        thread::yield_now();
    }
}

/// A time within which whoever waits must be free.
const SOON: Duration = Duration::from_secs(5);

/// Numbers without an end, or with one, and how many such streams there are.
fn numbers(namespace: &str) -> (Api, Arc<AtomicUsize>) {
    let count = Arc::default();
    let api = Api::new(namespace).stream("numbers", {
        let count = Arc::clone(&count);
        move |_: &Context, to: u64| {
            let counted = Counted::new(&count);
            Ok::<_, Fault>((0..to).map(move |n| {
                let _ = &counted;
                Ok::<_, Fault>(n)
            }))
        }
    });
    (api.unwrap(), count)
}

fn ac_83_dropping_who_takes_ends_who_makes(kind: Kind) {
    let (api, there) = numbers("s");
    let (head, neck) = kind.serving(api);
    let open = |to: u64| head.api("s").action("numbers", to).open::<u64>().unwrap();
    for round in 0..25 {
        // Before the first, in the middle, after the last, and while it ends.
        drop(open(u64::MAX));
        assert_eq!(head.under_way().0, 0, "it is over at once for the side that called");
        let mut items = open(u64::MAX);
        assert!(items.by_ref().take(round * 10).all(|item| item.is_ok()));
        drop(items);
        assert_eq!(head.under_way().0, 0);
        let mut items = open(3);
        assert_eq!(items.by_ref().take(3).count(), 3);
        drop(items);
        let mut items = open(1);
        items.next();
        assert!(items.next().is_none());
        drop(items);
        soon(|| there.load(Ordering::SeqCst) == 0);
    }
    assert!(head.counters().cancels >= 50);
    soon(|| neck.under_way().1 == 0);
}

/// Serves an upload and a stream both ways, and tells how each has ended.
fn listeners() -> (Api, mpsc::Receiver<(usize, Option<CallError>)>) {
    let (tell, told) = mpsc::channel();
    let listen = {
        let tell = std::sync::Mutex::new(tell.clone());
        move |_: &Context, (): (), items: Incoming<u32>| {
            let (mut n, mut error) = (0, None);
            for item in items {
                match item {
                    Ok(_) => n += 1,
                    Err(why) => error = Some(why),
                }
            }
            tell.lock().unwrap().send((n, error)).unwrap();
            Ok::<_, Fault>(n)
        }
    };
    let tell = std::sync::Mutex::new(tell);
    let talk = move |_: &Context, (): (), items: Incoming<u32>, mut out: Outgoing<u32>| {
        let error = (0..).find_map(|n| out.send(n).err());
        let n = items.filter(Result::is_ok).count();
        tell.lock().unwrap().send((n, error)).unwrap();
        Ok::<_, Fault>(n)
    };
    (Api::new("s").upload("listen", listen).unwrap().duplex("talk", talk).unwrap(), told)
}

fn ac_83_dropping_who_sends_ends_who_takes(kind: Kind) {
    let (api, told) = listeners();
    let (head, _neck) = kind.serving(api);
    for n in [1u32, 50, 64] {
        let mut items = head.api("s").action("listen", ()).upload::<u32, usize>().unwrap();
        for n in 0..n {
            items.send(n).unwrap();
        }
        drop(items);
        let (came, error) = told.recv_timeout(SOON).unwrap();
        assert!(came <= n as usize);
        assert!(matches!(error, Some(CallError::Cancelled)), "{error:?}");
    }
}

fn ac_83_dropping_both_halves(kind: Kind) {
    let (api, told) = listeners();
    let (head, _neck) = kind.serving(api);
    let mut talk = head.api("s").action("talk", ()).duplex::<u32, u32, usize>().unwrap();
    assert_eq!(talk.next().unwrap().unwrap(), 0);
    let (out, items, answer) = talk.split();
    drop(out);
    drop(items);
    let (n, error) = told.recv_timeout(SOON).unwrap();
    assert!(n == 0 && matches!(error, Some(CallError::Cancelled)), "{error:?}");
    assert_eq!(answer.wait().unwrap(), 0);

    let mut talk = head.api("s").action("talk", ()).duplex::<u32, u32, usize>().unwrap();
    talk.next().unwrap().unwrap();
    drop(talk);
    let (_, error) = told.recv_timeout(SOON).unwrap();
    assert!(matches!(error, Some(CallError::Cancelled)), "{error:?}");
}

fn ac_83_a_disconnect_ends_both_with_an_error(kind: Kind) {
    for at_head in [true, false] {
        let (api, told) = listeners();
        let (numbers, there) = numbers("n");
        let (head, neck) = kind.serving(api);
        neck.attach(numbers).unwrap();
        let mut items = head.api("n").action("numbers", u64::MAX).open::<u64>().unwrap();
        assert_eq!(items.next().unwrap().unwrap(), 0);
        let mut upload = head.api("s").action("listen", ()).upload::<u32, usize>().unwrap();
        upload.send(1).unwrap();
        let mut talk = head.api("s").action("talk", ()).duplex::<u32, u32, usize>().unwrap();
        assert_eq!(talk.next().unwrap().unwrap(), 0);
        let reason = |error: Option<CallError>| match error {
            Some(CallError::Closed { reason, executed: Executed::Maybe }) => reason,
            other => panic!("{other:?}"),
        };
        if at_head {
            head.close();
        } else {
            neck.close();
        }
        let (ours, theirs) = if at_head { ("Local", "Peer") } else { ("Peer", "Local") };
        let is = |expected: &str, reason: &CloseReason| assert_eq!(format!("{reason:?}"), expected);
        is(ours, &reason(items.find_map(Result::err)));
        is(ours, &reason((0..).find_map(|n| upload.send(n).err())));
        is(ours, &reason(talk.find_map(Result::err)));
        is(ours, &reason(talk.finish().err()));
        for _ in 0..2 {
            let (_, error) = told.recv_timeout(SOON).unwrap();
            is(theirs, &reason(error));
        }
        soon(|| there.load(Ordering::SeqCst) == 0);
    }
}

fn ac_83_a_disconnect_ends_who_waits(kind: Kind) {
    let (begun, has_begun) = mpsc::channel();
    let begun = std::sync::Mutex::new(begun);
    let silent = move |_: &Context, (): (), mut items: Incoming<u32>, out: Outgoing<u32>| {
        begun.lock().unwrap().send(()).unwrap();
        let end = items.next();
        drop(out);
        Ok::<_, Fault>(end.is_some_and(|item| item.is_err()))
    };
    let (head, neck) = kind.serving(Api::new("s").duplex("silent", silent).unwrap());
    let (_out, mut items, answer) =
        head.api("s").action("silent", ()).duplex::<u32, u32, bool>().unwrap().split();
    has_begun.recv_timeout(SOON).unwrap();
    let waiter = thread::spawn(move || items.next());
    let answer = thread::spawn(move || answer.wait());
    neck.close();
    let error = waiter.join().unwrap().unwrap().unwrap_err();
    assert!(matches!(error, CallError::Closed { .. }), "{error}");
    assert!(answer.join().unwrap().is_err());
}

fn the_timeout_is_that_of_the_beginning(kind: Kind) {
    let (go, may_go) = mpsc::channel::<()>();
    let may_go = std::sync::Mutex::new(may_go);
    let slow = move |cx: &Context, wait: bool| {
        assert_eq!((cx.deadline(), cx.is_cancelled()), (None, false));
        if wait {
            may_go.lock().unwrap().recv().unwrap();
        }
        let cx = cx.clone();
        Ok::<_, Fault>((0..5).map(move |n| {
            thread::sleep(Duration::from_millis(30));
            assert!(!cx.is_cancelled());
            Ok::<_, Fault>(n)
        }))
    };
    let (head, _neck) = kind.serving(Api::new("s").workers(1).stream("slow", slow).unwrap());
    let limit = Duration::from_millis(100);
    let api = head.api("s").timeout(limit);
    assert_eq!(api.action("slow", false).open::<i32>().unwrap().filter(Result::is_ok).count(), 5);
    let started = Instant::now();
    let mut items = api.action("slow", true).open::<i32>().unwrap();
    let error = items.next().unwrap().unwrap_err();
    let CallError::TimedOut { executed: Executed::Maybe, .. } = error else { panic!("{error}") };
    assert!(started.elapsed() >= limit);
    go.send(()).unwrap();
    let error = api.action("slow", true).timeout(Duration::ZERO).open::<i32>().unwrap_err();
    assert!(matches!(error, CallError::TimedOut { executed: Executed::No, .. }), "{error}");
}

fn the_timeout_is_that_of_the_answer_too(kind: Kind) {
    let (go, may_go) = mpsc::channel::<()>();
    let may_go = std::sync::Mutex::new(may_go);
    let late = move |_: &Context, (): (), items: Incoming<u32>| {
        let n = items.count();
        may_go.lock().unwrap().recv().unwrap();
        Ok::<_, Fault>(n)
    };
    let (head, _neck) = kind.serving(Api::new("s").upload("late", late).unwrap());
    let limit = Duration::from_millis(50);
    let mut items = head.api("s").action("late", ()).timeout(limit).upload::<u32, usize>().unwrap();
    items.send(1).unwrap();
    // It has begun: its own time does not count any more.
    thread::sleep(2 * limit);
    items.send(1).unwrap();
    let started = Instant::now();
    let error = items.finish().unwrap_err();
    assert!(matches!(error, CallError::TimedOut { .. }), "{error}");
    assert!(started.elapsed() >= limit);
    go.send(()).unwrap();
}

fn a_handler_waits_no_longer_than_its_own_time(kind: Kind) {
    let never = |_: &Context, (): (), mut items: Incoming<u32>, _out: Outgoing<u32>| {
        let _ = items.next();
        Ok::<_, Fault>(())
    };
    let there = Api::new("there").duplex("never", never).unwrap();
    let here = Api::new("here").handle("wait", |cx: &Context, (): ()| {
        let mut never = cx.api("there").action("never", ()).duplex::<u32, u32, ()>()?;
        let error = never.next().unwrap().unwrap_err();
        assert!(matches!(error, CallError::TimedOut { .. }), "{error}");
        Ok::<_, Fault>(())
    });
    let (head, neck) = kind.ends_with(Head::builder().serve(here.unwrap()), Neck::builder());
    let neck = neck.serve(there).unwrap().start();
    let error = neck.api("here").action("wait", ()).timeout(Duration::from_millis(100)).call::<()>();
    // Both sides find out at the same time.
    assert!(matches!(error, Ok(()) | Err(CallError::TimedOut { .. })), "{error:?}");
    soon(|| head.under_way() == (0, 0));
}

fn shutting_down_waits_for_streams(kind: Kind) {
    let (api, _) = numbers("s");
    let (head, _neck) = kind.serving(api);
    let items = head.api("s").action("numbers", 10_000u64).open::<u64>().unwrap();
    let taker = thread::spawn(move || items.filter(Result::is_ok).count());
    assert!(head.shut_down(SOON));
    assert_eq!(taker.join().unwrap(), 10_000);
}

fn a_permit_is_released_when_a_stream_ends(kind: Kind) {
    let (api, _) = numbers("s");
    let (head, _neck) = kind.serving(api);
    let done = nape::Semaphore::new(0);
    let items = head.api("s").action("numbers", 10u64).releasing(&done).open::<u64>().unwrap();
    assert_eq!(items.count(), 10);
    done.acquire();
    drop(head.api("s").action("numbers", u64::MAX).releasing(&done).open::<u64>().unwrap());
    done.acquire();
}

fn a_thread_that_panics_ends_nothing_well(kind: Kind) {
    let (api, told) = listeners();
    let (head, _neck) = kind.serving(api);
    let mut items = head.api("s").action("listen", ()).upload::<u32, usize>().unwrap();
    items.send(1).unwrap();
    let thread = thread::spawn(move || {
        let _items = items;
        panic!("a test");
    });
    thread.join().unwrap_err();
    let (_, error) = told.recv_timeout(SOON).unwrap();
    assert!(matches!(error, Some(CallError::Cancelled)), "{error:?}");
}

fn ac_10_a_cancel_travels_down_to_streams(kind: Kind) {
    let (numbers, there) = numbers("n");
    let (told, tell) = mpsc::channel();
    let told = std::sync::Mutex::new(told);
    let relay = Api::new("relay").handle("all", move |cx: &Context, (): ()| {
        let mut items = cx.api("n").action("numbers", u64::MAX).open::<u64>()?;
        assert_eq!(items.next().unwrap()?, 0);
        told.lock().unwrap().send(None).unwrap();
        let error = items.find_map(Result::err);
        told.lock().unwrap().send(error).unwrap();
        Ok::<_, Fault>(())
    });
    let (head, neck) = kind.ends_with(Head::builder().serve(numbers), Neck::builder());
    let _neck = neck.serve(relay.unwrap()).unwrap().start();
    let call = head.api("relay").action("all", ()).start::<()>().unwrap();
    assert!(tell.recv_timeout(SOON).unwrap().is_none());
    drop(call);
    let error = tell.recv_timeout(SOON).unwrap();
    assert!(matches!(error, Some(CallError::Cancelled)), "{error:?}");
    soon(|| there.load(Ordering::SeqCst) == 0);
}

fn an_inline_api_serves_streams_on_workers(kind: Kind) {
    let sum =
        |_: &Context, (): (), items: Incoming<u64>| Ok::<_, Fault>(items.map(Result::unwrap).sum::<u64>());
    let count = |_: &Context, n: u64| Ok::<_, Fault>((0..n).map(Ok::<_, Fault>));
    let api = Api::new("s").inline().upload("sum", sum).unwrap().stream("count", count).unwrap();
    let (head, _neck) = kind.serving(api);
    let items = head.api("s").action("count", 1000u64).open::<u64>().unwrap();
    let mut total = head.api("s").action("sum", ()).upload::<u64, u64>().unwrap();
    for item in items {
        total.send(item.unwrap()).unwrap();
    }
    assert_eq!(total.finish().unwrap(), 499_500);
}
