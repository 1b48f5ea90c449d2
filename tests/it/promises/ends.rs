//! Links that are dropped from everywhere, with everything under way.

use std::{
    sync::{
        Arc, Barrier, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use crossbeam_channel::unbounded;
use nape::{Api, CallError, CloseReason, Config, Context, Fault, Head, Neck, Timeout};

use crate::{soak::rounds, support::Kind, tools::LONG};

on_every_link! {
    p_24_a_head_may_be_dropped_in_a_callback,
    p_24_a_head_may_be_dropped_in_a_handler_of_its_own_link,
    p_24_many_may_close_at_once,
    p_25_dropping_wakes_whoever_waits_and_no_callback_comes_later,
}

const GRACE: Duration = Duration::from_millis(500);

/// Both ends, the Neck with a method that is never answered and one that echoes.
fn ends(kind: Kind) -> (Head, Neck) {
    let never = |_: Context, (): (), answer: nape::Responder<()>| std::mem::forget(answer);
    let echo = |_: &Context, n: u64| Ok::<_, Fault>(n);
    let api = Api::new("a").deferred("never", never).unwrap().handle("echo", echo).unwrap();
    let config = || Config::new().grace(GRACE);
    let (head, neck) = kind.ends_with(Head::builder().config(config()), Neck::builder().config(config()));
    (head, neck.serve(api).unwrap().start())
}

#[track_caller]
fn in_time(began: Instant) {
    let took = began.elapsed();
    assert!(took < 2 * GRACE + Duration::from_secs(2), "{took:?}");
}

fn p_24_a_head_may_be_dropped_in_a_callback(kind: Kind) {
    let (head, neck) = ends(kind);
    let waits = head.api("a").action("never", ()).timeout(Timeout::Never).start::<()>().unwrap();
    let echo = head.api("a").action("echo", 7u64);
    let place = Arc::new(Mutex::new(Some(head)));
    let (tell, told) = unbounded();
    echo.then(move |outcome: Result<u64, CallError>| {
        let began = Instant::now();
        drop(place.lock().unwrap().take());
        tell.send((outcome, began)).unwrap();
    })
    .unwrap();
    let (outcome, began) = told.recv_timeout(LONG).expect("the drop returns");
    in_time(began);
    assert_eq!(outcome.unwrap(), 7);
    assert!(matches!(waits.wait(), Err(CallError::Closed { .. })));
    drop(neck);
}

fn p_24_a_head_may_be_dropped_in_a_handler_of_its_own_link(kind: Kind) {
    let (head, neck) = ends(kind);
    let place = Arc::new(Mutex::new(None));
    let (tell, told) = unbounded();
    let theirs = place.clone();
    let end = move |_: &Context, (): ()| {
        let began = Instant::now();
        drop::<Option<Head>>(theirs.lock().unwrap().take());
        tell.send(began)?;
        Ok::<_, Fault>(())
    };
    head.attach(Api::new("h").handle("end", end).unwrap()).unwrap();
    let call = neck.api("h").action("end", ()).timeout(Timeout::Never);
    // Whatever it is told: its link ends while it is served.
    *place.lock().unwrap() = Some(head);
    let call = call.start::<()>().unwrap();
    in_time(told.recv_timeout(LONG).expect("the drop returns"));
    let _ = call.wait();
}

fn p_24_many_may_close_at_once(kind: Kind) {
    for _ in 0..rounds().unwrap_or(10) {
        let (head, neck) = ends(kind);
        let waits = head.api("a").action("never", ()).timeout(Timeout::Never).start::<()>().unwrap();
        let (head, barrier) = (Arc::new(head), Barrier::new(4));
        let began = Instant::now();
        thread::scope(|scope| {
            for _ in 0..3 {
                let (head, barrier) = (head.clone(), &barrier);
                scope.spawn(move || {
                    barrier.wait();
                    head.close();
                });
            }
            barrier.wait();
            drop(neck);
        });
        drop(head);
        in_time(began);
        assert!(matches!(waits.wait(), Err(CallError::Closed { .. })));
    }
}

/// Red when the threads of a link are not joined.
fn p_25_dropping_wakes_whoever_waits_and_no_callback_comes_later(kind: Kind) {
    for _ in 0..rounds().map_or(20, |n| 100 * n) {
        let (head, neck) = ends(kind);
        let (over, late) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let (tell, told) = unbounded();
        let never = || head.api("a").action("never", ()).timeout(Timeout::Never);
        for _ in 0..100 {
            let (over, late, tell) = (over.clone(), late.clone(), tell.clone());
            let callback = move |outcome: Result<(), CallError>| {
                late.fetch_add(usize::from(over.load(Ordering::SeqCst)), Ordering::SeqCst);
                tell.send(outcome).unwrap();
            };
            never().then(callback).unwrap();
        }
        drop(tell);
        let blocked: Vec<_> =
            (0..4).map(|_| never()).map(|call| thread::spawn(|| call.call::<()>())).collect();
        // They are under way.
        assert_eq!(head.api("a").action("echo", 7u64).call::<u64>().unwrap(), 7);
        drop(head);
        over.store(true, Ordering::SeqCst);
        let outcomes: Vec<_> = told.iter().collect();
        assert_eq!((outcomes.len(), late.load(Ordering::SeqCst)), (100, 0));
        let ends = blocked.into_iter().map(|thread| thread.join().unwrap());
        for outcome in outcomes.into_iter().chain(ends) {
            let Err(CallError::Closed { reason, .. }) = outcome else { panic!("{outcome:?}") };
            assert!(matches!(*reason, CloseReason::Local), "{reason:?}");
        }
        drop(neck);
    }
}
