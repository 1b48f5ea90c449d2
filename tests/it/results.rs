//! The handle of a started call: polled, waited for, cancelled, selected, awaited.

use std::{
    future::Future,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context as Task, Poll, Wake, Waker},
    thread::{self, Thread},
    time::{Duration, Instant},
};

use crossbeam_channel::{Receiver, Select, Sender, bounded, unbounded};
use nape::{Api, AsyncResult, CallError, Context, Executed, Fault, Head, Misuse, Neck, Semaphore, Timeout};

use crate::{
    support::{HANG, Kind, watched},
    tools::{LONG, SOON, eventually, nothing_is_under_way},
};

on_every_link! {
    ac_08_a_result_says_whether_it_is_done_and_how_long_it_took,
    ac_08_a_result_stays_until_it_is_taken_once,
    ac_09_a_shorter_wait_leaves_the_call_alone,
    ac_09_a_wait_may_be_longer_than_the_call_has,
    ac_10_cancelling_or_dropping_fires_the_token_of_the_handler,
    ac_10_a_call_that_has_not_left_is_cancelled_without_a_trace,
    ac_10_cancelling_after_the_end_changes_nothing,
    ac_10_a_handle_that_releases_a_semaphore_may_be_dropped,
    ac_11_overrides_never_change_the_defaults,
    ac_12_zero_is_over_at_once,
    ac_12_never_is_a_value_of_its_own,
    ac_12_times_that_cannot_be_counted_are_no_limit,
    ac_15_results_release_one_semaphore_however_they_end,
    ac_15_results_are_selected_beside_other_channels,
    ac_16_a_result_is_a_future,
    ac_16_the_last_waker_is_called_once,
    ac_16_a_future_may_be_dropped_or_polled_after_its_end,
    ac_16_a_waker_may_call_and_may_panic,
}

/// A handler that holds each call until it is let go, or until its caller gives up.
struct Held {
    entered: Receiver<u64>,
    open: Sender<()>,
    /// When the token of a call fired, and which call.
    cancelled: Receiver<(u64, Instant)>,
}

fn held() -> (Api, Held) {
    let (enter, entered) = unbounded();
    let (open, gate) = unbounded::<()>();
    let (cancel, cancelled) = unbounded();
    let wait = move |cx: &Context, x: u64| {
        enter.send(x).unwrap();
        while gate.try_recv().is_err() {
            if cx.cancel_token().wait_timeout(Duration::from_millis(2)) {
                cancel.send((x, Instant::now())).unwrap();
                break;
            }
        }
        Ok::<_, Fault>(x + 1)
    };
    let fail = |_: &Context, ()| Err::<u64, _>(Fault::new("no"));
    let left = |cx: &Context, ()| Ok::<_, Fault>(cx.remaining());
    let api = Api::new("m").workers(64).handle("wait", wait).unwrap();
    let api = api.handle("fail", fail).unwrap().handle("left", left).unwrap();
    (api, Held { entered, open, cancelled })
}

fn start(head: &Head, x: u64) -> AsyncResult<u64> {
    head.api("m").action("wait", x).start().unwrap()
}

fn serve(kind: Kind) -> (Head, Neck, Held) {
    let (api, held) = held();
    let (head, neck) = kind.serving(api);
    (head, neck, held)
}

fn ac_08_a_result_says_whether_it_is_done_and_how_long_it_took(kind: Kind) {
    let (head, _neck, held) = serve(kind);
    let started = Instant::now();
    let mut r = start(&head, 1);
    held.entered.recv().unwrap();
    assert!(!r.is_done());
    let before = r.elapsed();
    assert_eq!((r.path().as_str(), r.transaction().side()), ("m.wait", nape::Side::Head));
    held.open.send(()).unwrap();
    eventually(|| r.is_done());
    let ended = started.elapsed();
    let took = r.elapsed();
    assert!(took >= before && took <= ended, "{before:?} {took:?} {ended:?}");
    // The clock stands still, before and after the value is taken.
    eventually(|| started.elapsed() > ended + Duration::from_millis(2));
    assert_eq!(r.elapsed(), took);
    assert_eq!(r.try_wait().unwrap(), Some(2));
    assert!(r.is_done());
    assert_eq!(r.elapsed(), took);
}

fn ac_08_a_result_stays_until_it_is_taken_once(kind: Kind) {
    let (head, neck, held) = serve(kind);
    let mut r = start(&head, 1);
    held.open.send(()).unwrap();
    eventually(|| r.is_done());
    nothing_is_under_way(&head, &neck);
    drop((head, neck));
    assert_eq!(r.wait_timeout(Duration::ZERO).unwrap(), Some(2));
    let taken = |error: CallError| matches!(error, CallError::Misuse(Misuse::Taken { path }) if path.as_str() == "m.wait");
    assert!(taken(r.try_wait().unwrap_err()) && taken(r.wait_timeout(HANG).unwrap_err()));
    assert!(taken(r.wait().unwrap_err()));
}

fn ac_09_a_shorter_wait_leaves_the_call_alone(kind: Kind) {
    let (head, _neck, held) = serve(kind);
    let mut r = start(&head, 1);
    assert_eq!(r.try_wait().unwrap(), None);
    for limit in [Duration::ZERO, Duration::from_micros(1), Duration::from_millis(30)] {
        let started = Instant::now();
        assert_eq!(r.wait_timeout(limit).unwrap(), None);
        assert!(started.elapsed() >= limit && started.elapsed() < limit + SOON);
    }
    assert!(!r.is_done() && held.cancelled.is_empty());
    assert_eq!(head.counters().timeouts, 0);
    held.open.send(()).unwrap();
    assert_eq!(r.wait_timeout(HANG).unwrap(), Some(2));
    let mut r = start(&head, 5);
    assert_eq!(r.wait_timeout(Duration::from_millis(1)).unwrap(), None);
    held.open.send(()).unwrap();
    assert_eq!(r.wait().unwrap(), 6);
}

fn ac_09_a_wait_may_be_longer_than_the_call_has(kind: Kind) {
    let (head, neck, held) = serve(kind);
    let action = || head.api("m").action("wait", 1u64).timeout(Duration::from_millis(20));
    for limit in [HANG, Duration::MAX] {
        let (started, mut r) = (Instant::now(), action().start::<u64>().unwrap());
        assert!(matches!(r.wait_timeout(limit), Err(CallError::TimedOut { .. })));
        assert!(started.elapsed() < SOON);
        assert!(matches!(r.try_wait(), Err(CallError::Misuse(Misuse::Taken { .. }))));
        // Nobody must wait there who could be let go instead of the call that follows.
        nothing_is_under_way(&head, &neck);
    }
    let mut r = start(&head, 2);
    held.open.send(()).unwrap();
    assert_eq!(r.wait_timeout(Duration::MAX).unwrap(), Some(3));
}

fn ac_10_cancelling_or_dropping_fires_the_token_of_the_handler(kind: Kind) {
    let (head, neck, held) = serve(kind);
    for (x, how) in ["cancel", "cancel twice", "drop"].into_iter().enumerate() {
        let r = start(&head, x as u64);
        held.entered.recv().unwrap();
        assert_eq!((head.under_way(), neck.under_way()), ((1, 0), (0, 1)));
        let gave_up = Instant::now();
        let kept = match how {
            "drop" => {
                drop(r);
                None
            }
            _ => Some(r),
        };
        kept.iter().for_each(AsyncResult::cancel);
        assert_eq!(head.under_way(), (0, 0), "{how}");
        let (which, at) = held.cancelled.recv_timeout(LONG).unwrap();
        assert!(which == x as u64 && at < gave_up + SOON, "{how}: {:?}", at - gave_up);
        if let Some(r) = kept {
            r.cancel();
            assert!(r.is_done() && matches!(r.wait(), Err(CallError::Cancelled)));
        }
        eventually(|| neck.under_way() == (0, 0));
    }
    assert_eq!((head.counters().cancels, head.counters().late_replies), (3, 0));
    assert_eq!(neck.counters().answers_unsent, 3);
}

fn ac_10_a_call_that_has_not_left_is_cancelled_without_a_trace(kind: Kind) {
    let (api, held) = held();
    let (head, neck) = kind.ends();
    let neck = neck.serve(api).unwrap();
    let r = start(&head, 1);
    r.cancel();
    drop(start(&head, 2));
    assert_eq!(head.under_way(), (0, 0));
    let neck = neck.start();
    held.open.send(()).unwrap();
    assert_eq!(start(&head, 3).wait().unwrap(), 4);
    assert_eq!(held.entered.try_iter().collect::<Vec<_>>(), [3]);
    assert_eq!(neck.counters().calls_served, 1);
    assert!(matches!(r.wait(), Err(CallError::Cancelled)));
}

fn ac_10_cancelling_after_the_end_changes_nothing(kind: Kind) {
    let (head, neck, held) = serve(kind);
    let mut r = start(&head, 1);
    held.open.send(()).unwrap();
    eventually(|| r.is_done());
    r.cancel();
    assert_eq!(r.try_wait().unwrap(), Some(2));
    r.cancel();
    drop(r);
    assert_eq!((head.counters().cancels, head.counters().values), (0, 1));
    nothing_is_under_way(&head, &neck);
    assert!(held.cancelled.is_empty());
}

fn ac_10_a_handle_that_releases_a_semaphore_may_be_dropped(kind: Kind) {
    let (head, neck, held) = serve(kind);
    let semaphore = Semaphore::new(0);
    let action = head.api("m").action("wait", 1u64).releasing(&semaphore);
    drop(action.start::<u64>().unwrap());
    head.api("m").action("wait", 2u64).then(|_: Result<u64, CallError>| ()).unwrap();
    held.entered.recv().unwrap();
    held.entered.recv().unwrap();
    assert_eq!((head.under_way().0, semaphore.permits()), (2, 0));
    held.open.send(()).unwrap();
    held.open.send(()).unwrap();
    assert!(semaphore.acquire_timeout(LONG));
    nothing_is_under_way(&head, &neck);
    // They are counted a moment after they have gone from the list.
    eventually(|| head.counters().values == 2);
    assert!(held.cancelled.is_empty());
    // Cancelling is still there for whoever wants it.
    let r = head.api("m").action("wait", 3u64).releasing(&semaphore).start::<u64>().unwrap();
    r.cancel();
    assert!(semaphore.try_acquire());
}

fn ac_11_overrides_never_change_the_defaults(kind: Kind) {
    let (head, _neck, _held) = serve(kind);
    let hour = Duration::from_secs(3600);
    let m = head.api("m").timeout(hour);
    let left = |action: nape::Action<()>| action.call::<Option<Duration>>().unwrap();
    let (day, semaphore) = (Duration::from_secs(86_400), Semaphore::new(0));
    for _ in 0..2 {
        assert!(left(m.action("left", ())).is_some_and(|left| left <= hour + SOON && left > hour / 2));
        assert!(left(m.action("left", ()).timeout(day)).is_some_and(|left| left > hour * 2));
        assert_eq!(left(m.action("left", ()).timeout(Timeout::Never)), None);
        let short = m.action("wait", 1u64).timeout(Duration::from_millis(1)).releasing(&semaphore);
        assert!(matches!(short.call::<u64>(), Err(CallError::TimedOut { .. })));
        assert!(matches!(m.action("fail", ()).ignore_errors().call::<u64>(), Err(CallError::Fault(_))));
        // A handle made from a handle is another one.
        assert_eq!(left(m.clone().timeout(Timeout::Never).action("left", ())), None);
        assert_eq!(left(m.api("left").timeout(Timeout::Never).action("", ())), None);
        assert!(left(m.api("left").action("", ())).is_some_and(|left| left > hour / 2));
        assert!(left(head.api("m").action("left", ())).is_some_and(|left| left < hour));
    }
    assert_eq!(semaphore.permits(), 2);
}

fn ac_12_zero_is_over_at_once(kind: Kind) {
    let (head, neck, held) = serve(kind);
    let started = Instant::now();
    let zero = head.api("m").timeout(Duration::ZERO);
    let action = || zero.action("wait", 1u64);
    let told = |_: Result<u64, CallError>| panic!("the verb itself has said it");
    for outcome in [action().call::<u64>().map(drop), action().start::<u64>().map(drop), action().then(told)]
    {
        let Err(CallError::TimedOut { path, after, executed }) = outcome else { panic!("{outcome:?}") };
        assert_eq!((path.as_str(), executed), ("m.wait", Executed::No));
        assert!(after < SOON);
    }
    assert_eq!(action().ignore_errors().call::<u64>().unwrap(), None);
    assert!(started.elapsed() < SOON);
    let seen = head.counters();
    assert_eq!((seen.calls, seen.timeouts, seen.ignored_errors), (4, 4, 1));
    // Nothing of them has come to the other side, and an override brings life back.
    held.open.send(()).unwrap();
    assert_eq!(action().timeout(HANG).call::<u64>().unwrap(), 2);
    assert_eq!(neck.counters().calls_served, 1);
    // So little time may be enough to get there, and ends the same way.
    for nanos in [1, 1_000, 20_000] {
        let outcome = action().timeout(Duration::from_nanos(nanos)).call::<u64>();
        assert!(matches!(outcome, Err(CallError::TimedOut { .. })), "{outcome:?}");
    }
}

fn ac_12_never_is_a_value_of_its_own(kind: Kind) {
    let (head, _neck, held) = serve(kind);
    let m = head.api("m").timeout(Timeout::Never);
    assert_eq!(m.action("left", ()).call::<Option<Duration>>().unwrap(), None);
    let mut r = m.action("wait", 1u64).start::<u64>().unwrap();
    assert_eq!(r.wait_timeout(Duration::from_millis(20)).unwrap(), None);
    held.open.send(()).unwrap();
    assert_eq!(r.wait().unwrap(), 2);
    let short = m.action("wait", 1u64).timeout(Duration::from_millis(5)).call::<u64>();
    assert!(matches!(short, Err(CallError::TimedOut { .. })));
}

fn ac_12_times_that_cannot_be_counted_are_no_limit(kind: Kind) {
    let (head, _neck, held) = serve(kind);
    let century = Duration::from_secs(100 * 365 * 86_400);
    for timeout in [Duration::MAX, Duration::from_secs(u64::MAX / 2), Duration::from_secs(1 << 61), century] {
        let m = head.api("m").timeout(timeout);
        let left = m.action("left", ()).call::<Option<Duration>>().unwrap();
        assert!(left.is_none_or(|left| left > century / 2), "{timeout:?}: {left:?}");
        let mut r = m.action("wait", 1u64).start::<u64>().unwrap();
        assert_eq!(r.wait_timeout(Duration::from_millis(1)).unwrap(), None);
        held.open.send(()).unwrap();
        assert_eq!(r.wait_timeout(timeout).unwrap(), Some(2));
        held.open.send(()).unwrap();
        assert_eq!(m.action("wait", 2u64).call::<u64>().unwrap(), 3);
    }
}

fn ac_15_results_release_one_semaphore_however_they_end(kind: Kind) {
    let (head, neck, held) = serve(kind);
    let semaphore = Semaphore::new(0);
    let action = |x: u64| head.api("m").action("wait", x).releasing(&semaphore);
    let mut all: Vec<_> = (0..3).map(|x| action(x).start::<u64>().unwrap()).collect();
    assert!(!semaphore.acquire_timeout(Duration::from_millis(5)));
    // A thread waits for any of them.
    held.open.send(()).unwrap();
    semaphore.acquire();
    assert_eq!(all.iter().filter(|r| r.is_done()).count(), 1);
    all[0].cancel();
    all[1].cancel();
    all[2].cancel();
    semaphore.acquire();
    semaphore.acquire();
    assert_eq!(all.iter_mut().filter_map(|r| r.try_wait().ok()).count(), 1);
    // Every other end, and every other verb.
    let m = head.api("m");
    assert!(m.action("fail", ()).releasing(&semaphore).call::<u64>().is_err());
    assert!(m.action("nobody", ()).releasing(&semaphore).call::<u64>().is_err());
    assert!(action(1).timeout(Duration::from_millis(1)).start::<u64>().unwrap().wait().is_err());
    assert!(action(1).timeout(Duration::ZERO).call::<u64>().is_err());
    assert!(action(1).timeout(Duration::ZERO).start::<u64>().is_err());
    m.action("fail", ()).releasing(&semaphore).then(|_: Result<u64, CallError>| ()).unwrap();
    m.action("fail", ()).releasing(&semaphore).fire().unwrap();
    assert!((0..7).all(|_| semaphore.acquire_timeout(LONG)));
    let cut_off = action(1).start::<u64>().unwrap();
    eventually(|| neck.under_way().1 >= 1);
    neck.close();
    semaphore.acquire();
    assert!(cut_off.wait().is_err());
    eventually(|| head.close_reason().is_some());
    assert!(action(1).start::<u64>().is_err() && action(1).fire().is_err());
    assert!(semaphore.try_acquire() && semaphore.try_acquire() && !semaphore.try_acquire());
}

fn ac_15_results_are_selected_beside_other_channels(kind: Kind) {
    let (head, _neck, held) = serve(kind);
    let (other, others) = bounded::<&str>(1);
    let mut all: Vec<_> = (0..4).map(|x| start(&head, x)).collect();
    let ready: Vec<_> = all.iter().map(AsyncResult::ready).collect();
    let pick = |limit| {
        let mut select = Select::new();
        select.recv(&others);
        for ready in &ready {
            select.recv(ready);
        }
        select.ready_timeout(limit).ok()
    };
    assert_eq!(pick(Duration::from_millis(5)), None);
    other.send("first").unwrap();
    assert_eq!(pick(LONG), Some(0));
    others.recv().unwrap();
    for _ in 0..4 {
        held.open.send(()).unwrap();
        let which = pick(LONG).unwrap() - 1;
        ready[which].try_recv().unwrap();
        assert_eq!(all[which].try_wait().unwrap(), Some(which as u64 + 1));
    }
    assert_eq!(pick(Duration::from_millis(5)), None);
    // One that is asked for after the end, and one whose call times out while nobody waits for it.
    assert!(all[0].ready().try_recv().is_ok());
    let late = head.api("m").action("wait", 9u64).timeout(Duration::from_millis(5)).start::<u64>().unwrap();
    late.ready().recv_timeout(LONG).unwrap();
    assert!(matches!(late.wait(), Err(CallError::TimedOut { .. })));
}

/// Wakes a thread, and counts.
struct Unpark(Thread, AtomicUsize);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.1.fetch_add(1, Ordering::Release);
        self.0.unpark();
    }
}

/// The smallest executor.
fn block_on<T>(future: impl Future<Output = T>) -> T {
    let waker = Waker::from(Arc::new(Unpark(thread::current(), AtomicUsize::new(0))));
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Task::from_waker(&waker)) {
            Poll::Ready(value) => return value,
            Poll::Pending => thread::park(),
        }
    }
}

fn poll(r: &mut AsyncResult<u64>, waker: &Waker) -> Poll<Result<u64, CallError>> {
    pin!(r).poll(&mut Task::from_waker(waker))
}

/// A waker, and how often it was called.
fn counting() -> (Waker, Arc<Unpark>) {
    let count = Arc::new(Unpark(thread::current(), AtomicUsize::new(0)));
    (Waker::from(count.clone()), count)
}

fn ac_16_a_result_is_a_future(kind: Kind) {
    fn movable<T: Send + Unpin + 'static>(value: T) -> T {
        value
    }
    let (head, neck, held) = serve(kind);
    let open = held.open.clone();
    let twice = async {
        let first = head.api("m").action("wait", 1u64).start::<u64>()?.await?;
        let second = start(&head, first).await?;
        let third = head.api("m").action("fail", ()).start::<u64>()?.await;
        assert!(matches!(third, Err(CallError::Fault(_))));
        let short = head.api("m").action("wait", 1u64).timeout(Duration::from_millis(10));
        assert!(matches!(short.start::<u64>()?.await, Err(CallError::TimedOut { .. })));
        // The other side has it by then, and its handler takes nothing of what is for others.
        head.api("m").action("left", ()).start::<Option<Duration>>()?.await?;
        Ok::<_, CallError>((first, second))
    };
    open.send(()).unwrap();
    open.send(()).unwrap();
    assert_eq!(block_on(twice).unwrap(), (2, 3));
    nothing_is_under_way(&head, &neck);
    let many: Vec<_> = (0..50).map(|x| movable(start(&head, x))).collect();
    (0..50).for_each(|_| open.send(()).unwrap());
    // Each is awaited on another thread than the one that started it.
    let awaited = thread::spawn(move || many.into_iter().map(|r| block_on(r).unwrap()).collect::<Vec<_>>());
    assert_eq!(awaited.join().unwrap(), (1..=50).collect::<Vec<u64>>());
    let cut_off = start(&head, 1);
    // One that came while the other side closes would be refused.
    eventually(|| neck.under_way() == (0, 1));
    neck.close();
    assert!(matches!(block_on(cut_off), Err(CallError::Closed { .. })));
}

fn ac_16_the_last_waker_is_called_once(kind: Kind) {
    let (head, _neck, held) = serve(kind);
    let mut r = start(&head, 1);
    let ((first, n_first), (last, n_last)) = (counting(), counting());
    assert!(poll(&mut r, &first).is_pending());
    assert!(poll(&mut r, &first).is_pending());
    for _ in 0..10 {
        let (other, n_other) = counting();
        assert!(poll(&mut r, &other).is_pending());
        assert!(poll(&mut r, &last).is_pending());
        drop(other);
        assert_eq!(Arc::strong_count(&n_other), 1, "a waker that was replaced is kept");
    }
    held.open.send(()).unwrap();
    eventually(|| n_last.1.load(Ordering::Acquire) == 1);
    assert!(matches!(poll(&mut r, &last), Poll::Ready(Ok(2))));
    assert_eq!((n_first.1.load(Ordering::Acquire), n_last.1.load(Ordering::Acquire)), (0, 1));
    drop((first, last));
    eventually(|| Arc::strong_count(&n_first) == 1 && Arc::strong_count(&n_last) == 1);
}

fn ac_16_a_future_may_be_dropped_or_polled_after_its_end(kind: Kind) {
    let (head, neck, held) = serve(kind);
    let (waker, n_woken) = counting();
    let mut dropped = start(&head, 1);
    assert!(poll(&mut dropped, &waker).is_pending());
    held.entered.recv().unwrap();
    drop(dropped);
    assert_eq!(held.cancelled.recv_timeout(LONG).unwrap().0, 1);
    let mut r = start(&head, 2);
    held.open.send(()).unwrap();
    eventually(|| r.is_done());
    // Awaited by reference, after its end: there at once, and once.
    assert_eq!(block_on(&mut r).unwrap(), 3);
    assert!(matches!(block_on(&mut r), Err(CallError::Misuse(Misuse::Taken { .. }))));
    // Waited for after it was polled.
    let mut r = start(&head, 4);
    assert!(poll(&mut r, &waker).is_pending());
    held.open.send(()).unwrap();
    assert_eq!(r.wait().unwrap(), 5);
    nothing_is_under_way(&head, &neck);
    drop(waker);
    eventually(|| Arc::strong_count(&n_woken) == 1);
}

/// Makes a blocking call where it is woken, which the completing thread must have room for.
struct Calls(Head, Sender<u64>);

impl Wake for Calls {
    fn wake(self: Arc<Self>) {
        self.1.send(self.0.api("m").action("fail", ()).call::<u64>().unwrap_or(7)).unwrap();
        panic!("a waker fails");
    }
}

fn ac_16_a_waker_may_call_and_may_panic(kind: Kind) {
    let (head, neck, held) = serve(kind);
    let (tell, told) = unbounded();
    let mut all: Vec<_> = (0..4).map(|x| start(&head, x)).collect();
    let calls = Arc::new(Calls(head, tell));
    let waker = Waker::from(calls.clone());
    assert!(all.iter_mut().all(|r| poll(r, &waker).is_pending()));
    for _ in 0..4 {
        held.open.send(()).unwrap();
        assert_eq!(told.recv_timeout(LONG).unwrap(), 7);
    }
    for (x, r) in all.into_iter().enumerate() {
        assert_eq!(r.wait().unwrap(), x as u64 + 1);
    }
    // Those that end by the clock wake from the thread that watches it, which lives on.
    for _ in 0..3 {
        let action = calls.0.api("m").action("wait", 1u64).timeout(Duration::from_millis(5));
        let mut r = action.start::<u64>().unwrap();
        assert!(poll(&mut r, &waker).is_pending());
        assert_eq!(told.recv_timeout(LONG).unwrap(), 7);
        assert!(matches!(r.wait(), Err(CallError::TimedOut { .. })));
    }
    nothing_is_under_way(&calls.0, &neck);
    eventually(|| calls.0.counters().callback_panics == 7);
    assert_eq!(neck.counters().handler_panics, 0);
}

#[test]
fn ac_15_a_semaphore_counts_and_wakes_one_thread_a_permit() {
    watched(|| {
        let semaphore = Semaphore::new(2);
        semaphore.acquire();
        assert!(semaphore.try_acquire() && !semaphore.try_acquire());
        assert!(!semaphore.acquire_timeout(Duration::ZERO));
        thread::scope(|scope| {
            let waiting: Vec<_> =
                (0..4).map(|_| scope.spawn(|| semaphore.acquire_timeout(Duration::MAX))).collect();
            (0..4).for_each(|_| semaphore.release());
            assert!(waiting.into_iter().all(|thread| thread.join().unwrap()));
        });
        assert_eq!(semaphore.permits(), 0);
    });
}
