//! Closing and dropping from wherever user code runs, and in the midst of everything.

use std::{
    future::{Future, IntoFuture},
    mem::forget,
    pin::pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context as Task, Waker},
    thread,
    time::{Duration, Instant},
};

use crossbeam_channel::unbounded;
use nape::{
    Api, CallError, Config, Context, Endpoint, Fault, Head, LinkState, Neck, Responder, layers::Retry,
};

use crate::{
    support::Kind,
    tools::{Blocks, Gate, LONG, leave_with_this_thread, until},
};

/// The two ends, and one of them where user code can take and drop it.
type Held<T> = Arc<Mutex<Option<T>>>;

fn held<T>(end: T) -> Held<T> {
    Arc::new(Mutex::new(Some(end)))
}

fn take<T>(held: &Held<T>) -> Option<T> {
    held.lock().unwrap().take()
}

/// A grace that a test can wait for, should somebody wait for itself.
fn ends(kind: Kind) -> (Head, Neck) {
    let config = || Config::new().grace(Duration::from_millis(500));
    kind.ends_with(Head::builder().config(config()), Neck::builder().config(config()))
}

fn is_closed<T>(outcome: &Result<T, CallError>) -> bool {
    matches!(outcome, Err(CallError::Closed { .. }))
}

/// Runs `what` in a handler of the Neck that the Head has called, and gives the end of that call.
fn in_a_handler(
    head: &Endpoint,
    neck: &Endpoint,
    what: impl Fn() + Send + Sync + 'static,
) -> Result<(), CallError> {
    let handler = move |_: &Context, ()| {
        what();
        Ok::<_, Fault>(())
    };
    neck.attach(Api::new("a").handle("do", handler).unwrap()).unwrap();
    head.api("a").action("do", ()).call()
}

fn p_24_a_handler_may_close_or_drop_its_own_end(kind: Kind) {
    for drops in [false, true] {
        let (head, neck) = ends(kind);
        let end = neck.endpoint().clone();
        let neck = held(neck.start());
        let called = in_a_handler(&head, &end, move || match drops {
            true => drop(take(&neck).unwrap()),
            false => neck.lock().unwrap().as_ref().unwrap().close(),
        });
        assert!(is_closed(&called), "{called:?}");
        until("it is over", || end.state() == LinkState::Closed);
    }
}

fn p_24_a_handler_may_drop_the_other_end(kind: Kind) {
    let (head, neck) = ends(kind);
    let (near, far) = (head.endpoint().clone(), neck.endpoint().clone());
    let neck = neck.start();
    let head = held(head);
    let called = in_a_handler(&near, &far, move || drop(take(&head)));
    assert!(is_closed(&called), "{called:?}");
    neck.wait().unwrap();
}

/// Here the handler runs on the thread that waits for the call from which it descends.
fn p_24_a_nested_handler_may_drop_its_own_end(kind: Kind) {
    let (head, neck) = ends(kind);
    let end = head.endpoint().clone();
    let back = |cx: &Context, ()| Ok::<_, Fault>(cx.api("h").action("drop", ()).call::<()>()?);
    let neck = neck.serve(Api::new("n").handle("back", back).unwrap()).unwrap().start();
    let head = held(head);
    let drop_it = move |_: &Context, ()| {
        drop(take(&head));
        Ok::<_, Fault>(())
    };
    end.attach(Api::new("h").handle("drop", drop_it).unwrap()).unwrap();
    let called = end.api("n").action("back", ()).call::<()>();
    assert!(is_closed(&called), "{called:?}");
    neck.wait().unwrap();
}

fn p_24_a_callback_may_close_or_drop_its_own_end(kind: Kind) {
    for drops in [false, true] {
        let (head, neck) = ends(kind);
        let (end, neck) = (head.endpoint().clone(), neck.start());
        let (tell, told) = unbounded();
        let head = held(head);
        end.api("nobody")
            .action("home", ())
            .then(move |_: Result<(), _>| {
                match drops {
                    true => drop(take(&head).unwrap()),
                    false => head.lock().unwrap().as_ref().unwrap().close(),
                }
                tell.send(()).unwrap();
            })
            .unwrap();
        told.recv_timeout(LONG).unwrap();
        neck.wait().unwrap();
        assert_eq!(end.state(), LinkState::Closed);
    }
}

fn p_24_a_listener_may_close_or_drop_its_own_end(kind: Kind) {
    for (drops, at) in [(false, LinkState::Open), (true, LinkState::Open), (true, LinkState::Disconnected)] {
        let (head, neck) = ends(kind);
        let (end, neck) = (head.endpoint().clone(), neck.start());
        let (tell, told) = unbounded();
        let head = held(head);
        end.on_state(move |state| {
            if state == at {
                match drops {
                    true => drop(take(&head)),
                    false => head.lock().unwrap().as_ref().unwrap().close(),
                }
            }
            tell.send(state).unwrap();
        });
        if at != LinkState::Open {
            // Behind filters nothing is said before both have greeted.
            assert_eq!(neck.wait_open(LONG), LinkState::Open);
            neck.close();
        }
        for wanted in [LinkState::Open, LinkState::Disconnected, LinkState::Closed] {
            assert_eq!(told.recv_timeout(LONG), Ok(wanted), "{drops} {at:?}");
        }
        neck.wait().unwrap();
    }
}

fn p_24_dropping_while_a_thread_unwinds_works(kind: Kind) {
    let (head, neck) = ends(kind);
    let neck = neck.start();
    let thread = thread::spawn(move || {
        let _head = head;
        panic!("on purpose");
    });
    assert!(thread.join().is_err());
    neck.wait().unwrap();
}

/// Every call ends, whoever drops what, and when.
fn p_24_a_link_may_go_in_the_midst_of_storms(kind: Kind) {
    for round in 0..20u32 {
        let (head, neck) = ends(kind);
        let down = |cx: &Context, n: u32| match n {
            0 => Ok::<u32, Fault>(0),
            n => Ok(cx.api("a").action("down", n - 1).call::<u32>()? + 1),
        };
        head.attach(Api::new("a").workers(2).handle("down", down).unwrap()).unwrap();
        let neck = neck.serve(Api::new("a").workers(2).handle("down", down).unwrap()).unwrap().start();
        let (near, far) = (head.endpoint().clone(), neck.endpoint().clone());
        let began = Instant::now();
        thread::scope(|scope| {
            for seed in 0..4 {
                let end = if seed % 2 == 0 { &near } else { &far };
                scope.spawn(move || {
                    while !is_closed(&end.api("a").action("down", 2u32).call::<u32>()) {
                        let _ = end.api("a").action("down", 0u32).fire();
                    }
                });
            }
            let enough = 20 * (round + 1);
            until("it has got going", || near.counters().calls > u64::from(enough));
            match round % 3 {
                0 => drop(head),
                1 => drop(neck),
                _ => {
                    scope.spawn(|| drop(head));
                    drop(neck);
                }
            }
        });
        assert_eq!((near.under_way(), far.under_way()), ((0, 0), (0, 0)));
        assert!(began.elapsed() < LONG);
    }
}

/// Drops something that must not wait for a thread which stands at the gate, and looks how long that takes.
#[track_caller]
fn drops_in_time<T>(what: T, gate: &Gate) {
    gate.await_waiting(1);
    let began = Instant::now();
    drop(what);
    let took = began.elapsed();
    assert!(took < GRACE + 5 * ALLOWANCE, "{took:?}");
}

/// A Head with a short grace, and an end that answers nothing of its own accord.
fn short(kind: Kind) -> (Head, Neck) {
    let api = Api::new("a").deferred("never", |_: Context, (): (), answer: Responder<()>| forget(answer));
    let head = Head::builder().config(Config::new().grace(GRACE));
    let (head, neck) = kind.ends_with(head, Neck::builder().serve(api.unwrap()));
    (head, neck.start())
}

/// Red when the thread of a timer is joined whatever it does.
fn p_24_dropping_does_not_wait_for_a_timer_that_is_in_a_callback(kind: Kind) {
    for drops_timer in [false, true] {
        let (head, neck) = short(kind);
        let (gate, end) = (Gate::default(), head.endpoint().clone());
        let theirs = gate.clone();
        // It has no time to set out, so that the timer tells of it itself.
        let calls = head.api("a").every(Duration::from_millis(1), "never", ()).timeout(Duration::ZERO);
        let timer = calls.then(move |_: Result<(), CallError>| theirs.pass()).unwrap();
        if drops_timer {
            drops_in_time(timer, &gate);
            drop(head);
        } else {
            drops_in_time(head, &gate);
            drop(timer);
        }
        assert_eq!(end.counters().threads_left_behind, 1);
        gate.open();
        drop(neck);
    }
}

/// Red when the keeper is joined whatever it does.
fn p_24_dropping_does_not_wait_for_a_keeper_that_is_in_a_waker(kind: Kind) {
    let (head, neck) = short(kind);
    let (gate, end) = (Gate::default(), head.endpoint().clone());
    let late = head.api("a").action("never", ()).timeout(Duration::from_millis(20));
    let mut late = pin!(late.start::<()>().unwrap().into_future());
    let waker = Waker::from(Arc::new(Blocks(gate.clone())));
    assert!(late.as_mut().poll(&mut Task::from_waker(&waker)).is_pending());
    drops_in_time(head, &gate);
    assert_eq!(end.counters().threads_left_behind, 1);
    gate.open();
    drop(neck);
}

/// Red when the thread that makes calls again is joined whatever it does.
fn p_24_dropping_does_not_wait_for_a_predicate_of_calls_that_are_made_again(kind: Kind) {
    if !kind.encodes() {
        // There nothing is too large.
        return;
    }
    let config = Config::new().grace(GRACE).message_limit(1 << 20);
    let (head, neck) = kind.ends_with(Head::builder().config(config), Neck::builder());
    let (gate, end) = (Gate::default(), head.endpoint().clone());
    let (theirs, first) = (gate.clone(), AtomicBool::new(true));
    let retry = Retry::new().pauses(Duration::from_millis(1), Duration::from_millis(1)).when(move |_| {
        if !first.swap(false, Ordering::SeqCst) {
            theirs.pass();
        }
        true
    });
    let large = vec![0u8; 2 << 20];
    let call = head.api("a").retry(retry).action("never", large).retry_safe().start::<()>().unwrap();
    drops_in_time(head, &gate);
    assert_eq!(end.counters().threads_left_behind, 1);
    gate.open();
    drop((call, neck));
}

/// Red when a thread counts as over before what the user has left there has gone: then it is joined.
fn p_24_dropping_does_not_wait_for_what_a_handler_has_left_with_its_thread(kind: Kind) {
    let gate = Gate::default();
    let theirs = gate.clone();
    let leave = move |_: &Context, ()| {
        leave_with_this_thread(&theirs);
        Ok::<_, Fault>(())
    };
    let config = || Config::new().grace(GRACE);
    let neck = Neck::builder().config(config()).serve(Api::new("a").handle("leave", leave).unwrap());
    let (head, neck) = kind.ends_with(Head::builder().config(config()), neck);
    let neck = neck.start();
    head.api("a").action("leave", ()).start::<()>().unwrap().wait().unwrap();
    let (end, began) = (neck.endpoint().clone(), Instant::now());
    drop(neck);
    assert!(began.elapsed() < GRACE + 5 * ALLOWANCE, "{:?}", began.elapsed());
    gate.await_waiting(1);
    assert_eq!(end.counters().threads_left_behind, 1);
    gate.open();
    drop(head);
}

/// What a link here waits for those who do not come back, and how much later a drop may be back.
const GRACE: Duration = Duration::from_millis(200);
const ALLOWANCE: Duration = Duration::from_millis(200);

on_every_link! {
    p_24_a_handler_may_close_or_drop_its_own_end,
    p_24_a_handler_may_drop_the_other_end,
    p_24_a_nested_handler_may_drop_its_own_end,
    p_24_a_callback_may_close_or_drop_its_own_end,
    p_24_a_listener_may_close_or_drop_its_own_end,
    p_24_dropping_while_a_thread_unwinds_works,
    p_24_a_link_may_go_in_the_midst_of_storms,
    p_24_dropping_does_not_wait_for_a_timer_that_is_in_a_callback,
    p_24_dropping_does_not_wait_for_a_keeper_that_is_in_a_waker,
    p_24_dropping_does_not_wait_for_a_predicate_of_calls_that_are_made_again,
    p_24_dropping_does_not_wait_for_what_a_handler_has_left_with_its_thread,
}
