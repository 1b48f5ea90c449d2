//! How a link gets ready, how it ends, and what everybody hears of it.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use crossbeam_channel::{Receiver, bounded, unbounded};
use nape::{
    Api, CallError, CloseReason, Config, Context, Endpoint, Executed, Fault, Head, LinkState, Misuse, Neck,
    Rejection,
};

use crate::{
    support::Kind,
    tools::{Gate, LONG, SOON, is_unknown, until, within},
};

/// The promise for the end of pending calls is 100 ms.
const PROMPT: Duration = Duration::from_millis(500);

/// An API whose calls stay until their callers are gone.
fn endless(name: &str) -> Api {
    let wait = |cx: &Context, ()| Ok::<_, Fault>(cx.cancel_token().wait_timeout(LONG));
    Api::new(name).workers(8).handle("wait", wait).unwrap()
}

fn is_closed<T>(outcome: &Result<T, CallError>, by_us: bool) -> bool {
    match outcome {
        Err(CallError::Closed { reason, .. }) if by_us => matches!(**reason, CloseReason::Local),
        Err(CallError::Closed { reason, .. }) => matches!(**reason, CloseReason::Peer),
        _ => false,
    }
}

/// Calls of each sort from one end, all pending. Gives the ends of those that call back.
fn pend(end: &Endpoint) -> (Vec<nape::AsyncResult<bool>>, Receiver<Result<bool, CallError>>) {
    let (tell, told) = unbounded();
    for _ in 0..3 {
        let tell = tell.clone();
        end.api("e").action("wait", ()).then(move |outcome| tell.send(outcome).unwrap()).unwrap();
    }
    let started = (0..3).map(|_| end.api("e").action("wait", ()).start().unwrap()).collect();
    (started, told)
}

fn ac_70_calls_on_both_sides_end_when_one_closes(kind: Kind) {
    let (head, neck) = kind.ends();
    head.attach(endless("e")).unwrap();
    let neck = neck.serve(endless("e")).unwrap().start();
    let (ours, theirs) = (pend(&head), pend(&neck));
    thread::scope(|scope| {
        let block = |end: &Endpoint| {
            let end = end.clone();
            scope.spawn(move || (end.api("e").action("wait", ()).call::<bool>(), Instant::now()))
        };
        let (ours, theirs) = (block(&head), block(&neck));
        until("all are under way", || head.under_way() == (7, 7) && neck.under_way() == (7, 7));
        let began = Instant::now();
        head.close();
        for (blocked, by_us) in [(ours, true), (theirs, false)] {
            let (end, at) = blocked.join().unwrap();
            assert!(is_closed(&end, by_us), "{end:?}");
            assert_eq!(end.unwrap_err().executed(), Executed::Maybe);
            assert!(at - began < PROMPT, "{:?}", at - began);
        }
    });
    for ((started, called_back), by_us) in [(ours, true), (theirs, false)] {
        for call in started {
            let end = call.wait();
            assert!(is_closed(&end, by_us), "{end:?}");
        }
        for _ in 0..3 {
            assert!(is_closed(&called_back.recv_timeout(PROMPT).unwrap(), by_us));
        }
        // The callback and its sender are gone: nobody can be called a second time.
        assert!(called_back.recv_timeout(LONG).is_err());
    }
    assert_eq!((head.under_way(), neck.under_way()), ((0, 0), (0, 0)));
    assert_eq!((head.counters().cut_off, neck.counters().cut_off), (7, 7));
}

/// Whatever a call meets on its way, its caller learns that the link was closed, not that it is busy
/// closing.
fn ac_70_calls_that_cross_the_goodbye_end_as_closed(kind: Kind) {
    for _ in 0..20 {
        let (head, neck) =
            kind.serving(Api::new("a").handle("x", |_: &Context, n: u32| Ok::<_, Fault>(n)).unwrap());
        let (begun, begins) = bounded(4);
        thread::scope(|scope| {
            for _ in 0..4 {
                let (end, begun) = (head.endpoint().clone(), begun.clone());
                scope.spawn(move || {
                    let api = end.api("a");
                    assert_eq!(api.action("x", 1u32).call::<u32>().unwrap(), 1);
                    begun.send(()).unwrap();
                    let end =
                        std::iter::repeat_with(|| api.action("x", 2u32).call::<u32>()).find(Result::is_err);
                    assert!(is_closed(end.as_ref().unwrap(), false), "{end:?}");
                });
            }
            (0..4).for_each(|_| begins.recv_timeout(LONG).unwrap());
            neck.close();
        });
    }
}

/// Handlers learn of it, so that they can stop.
fn ac_70_the_handlers_of_calls_that_ended_are_told(kind: Kind) {
    let (head, neck) = kind.ends();
    let (tell, told) = bounded(2);
    let wait = move |cx: &Context, ()| {
        tell.send(()).unwrap();
        assert!(cx.cancel_token().wait_timeout(LONG) && cx.is_cancelled());
        tell.send(()).unwrap();
        Ok::<_, Fault>(())
    };
    let neck = neck.serve(Api::new("a").handle("wait", wait).unwrap()).unwrap().start();
    let call = head.api("a").action("wait", ()).start::<()>().unwrap();
    told.recv().unwrap();
    neck.close();
    told.recv_timeout(PROMPT).unwrap();
    assert!(is_closed(&call.wait(), false));
}

/// Collects the states of an end.
fn states(end: &Endpoint) -> Arc<Mutex<Vec<LinkState>>> {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let theirs = seen.clone();
    end.on_state(move |state| theirs.lock().unwrap().push(state));
    seen
}

const WHOLE_LIFE: [LinkState; 3] = [LinkState::Open, LinkState::Disconnected, LinkState::Closed];

fn ac_71_states_come_once_each_and_in_order(kind: Kind) {
    for head_closes in [true, false] {
        let (head, neck) = kind.ends();
        assert_eq!((head.state(), neck.state()), (LinkState::Starting, LinkState::Starting));
        let (ours, theirs) = (states(&head), states(&neck));
        let neck = neck.start();
        assert_eq!(head.wait_open(LONG), LinkState::Open);
        assert_eq!(neck.wait_open(LONG), LinkState::Open);
        head.attach(Api::new("a").handle("x", |_: &Context, ()| Ok::<_, Fault>(())).unwrap()).unwrap();
        neck.api("a").action("x", ()).call::<()>().unwrap();
        if head_closes {
            head.close()
        } else {
            neck.close()
        }
        until("both have heard it all", || ours.lock().unwrap().len() + theirs.lock().unwrap().len() >= 6);
        let late = (states(&head), states(&neck));
        until("a late listener hears it too", || late.0.lock().unwrap().len() == 3);
        until("a late listener hears it too", || late.1.lock().unwrap().len() == 3);
        drop((head, neck));
        for seen in [ours, theirs, late.0, late.1] {
            assert_eq!(*seen.lock().unwrap(), WHOLE_LIFE);
        }
    }
}

fn ac_71_a_link_that_never_opened_ends_all_the_same(kind: Kind) {
    let (head, neck) = kind.ends();
    let (ours, theirs) = (states(&head), states(&neck));
    let waiting = head.api("a").action("x", ()).start::<()>().unwrap();
    neck.close();
    until("both have heard it all", || ours.lock().unwrap().len() + theirs.lock().unwrap().len() >= 4);
    let end = waiting.wait();
    assert!(is_closed(&end, false), "{end:?}");
    assert_eq!(end.unwrap_err().executed(), Executed::No);
    assert_eq!(head.wait_open(LONG), LinkState::Closed);
    drop((head, neck));
    assert_eq!(*ours.lock().unwrap(), WHOLE_LIFE[1..]);
    assert_eq!(*theirs.lock().unwrap(), WHOLE_LIFE[1..]);
}

/// A call that ends with the link ends behind `Disconnected` and before `Closed`.
fn ac_71_pending_calls_fail_between_disconnected_and_closed(kind: Kind) {
    for head_closes in [true, false] {
        let (head, neck) = kind.ends();
        let neck = neck.serve(endless("e")).unwrap().start();
        let call = head.api("e").action("wait", ()).start::<bool>().unwrap();
        let ready = call.ready();
        let (tell, told) = unbounded();
        let end = head.endpoint().clone();
        head.on_state(move |state| {
            if state == LinkState::Closed {
                tell.send((ready.try_recv().is_ok(), end.under_way().0)).unwrap();
            }
        });
        until("the call is under way", || neck.under_way().1 == 1);
        thread::scope(|scope| {
            let blocked = scope.spawn(|| {
                let end = head.api("e").action("wait", ()).call::<bool>();
                (is_closed(&end, head_closes), head.state())
            });
            until("both are under way", || neck.under_way().1 == 2);
            if head_closes {
                head.close()
            } else {
                neck.close()
            }
            let (closed, state) = blocked.join().unwrap();
            assert!(closed && state >= LinkState::Disconnected, "{closed} in {state:?}");
        });
        assert_eq!(told.recv_timeout(LONG), Ok((true, 0)), "a call was pending when the link was closed");
        assert!(call.is_done());
    }
}

fn ac_71_a_listener_that_panics_changes_nothing(kind: Kind) {
    let (head, neck) = kind.ends();
    let (tell, told) = unbounded();
    head.on_error(move |report| tell.send(format!("{report:?}")).unwrap());
    head.on_state(|state| panic!("I do not like {state:?}"));
    let seen = states(&head);
    let neck = neck.serve(endless("e")).unwrap().start();
    assert!(told.recv_timeout(LONG).unwrap().contains("I do not like Open"));
    assert!(is_unknown(&head.api("a").action("x", ()).call::<()>(), "a.x"));
    neck.close();
    until("the other listener has heard it all", || seen.lock().unwrap().len() == 3);
    until("each panic is counted", || head.counters().callback_panics == 3);
    drop(head);
    assert_eq!(*seen.lock().unwrap(), WHOLE_LIFE);
}

fn ac_72_close_is_idempotent_and_calls_after_it_are_closed(kind: Kind) {
    let (head, neck) = kind.ends();
    let neck = neck.serve(endless("e")).unwrap().start();
    head.close();
    until("the other side sees it", || neck.state() == LinkState::Closed);
    let began = Instant::now();
    for _ in 0..3 {
        head.close();
        neck.close();
        assert!(head.shut_down(LONG) && neck.shut_down(LONG), "nothing was under way");
        for (end, by_us) in [(head.endpoint(), true), (neck.endpoint(), false)] {
            let api = end.api("e");
            let ends = [
                api.action("wait", ()).call::<()>(),
                api.action("wait", ()).start::<()>().map(|_| ()),
                api.action("wait", ()).then(|_: Result<(), CallError>| panic!("called back")),
                api.action("wait", ()).fire(),
            ];
            for end in ends {
                assert!(is_closed(&end, by_us), "{end:?}");
                assert_eq!(end.unwrap_err().executed(), Executed::No);
            }
            assert!(api.action("wait", ()).ignore_errors().call::<()>().unwrap().is_none());
        }
    }
    assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
    let endpoint = head.endpoint().clone();
    drop(head);
    assert!(is_closed(&endpoint.api("e").action("wait", ()).call::<()>(), true));
    assert_eq!(neck.wait().map_err(|error| error.to_string()), Ok(()));
}

fn ac_72_two_threads_and_two_sides_may_close_at_once(kind: Kind) {
    for _ in 0..50 {
        let (head, neck) = kind.ends();
        let neck = neck.serve(endless("e")).unwrap().start();
        let call = head.api("e").action("wait", ()).start::<bool>().unwrap();
        thread::scope(|scope| {
            scope.spawn(|| head.close());
            scope.spawn(|| head.close());
            scope.spawn(|| neck.close());
        });
        assert!(matches!(call.wait(), Err(CallError::Closed { .. })));
        assert_eq!((head.state(), neck.state()), (LinkState::Closed, LinkState::Closed));
    }
}

fn ac_75_shutting_down_lets_finish_and_takes_nothing_new(kind: Kind) {
    let (head, neck) = kind.ends();
    let gate = Gate::default();
    let api = |gate: &Gate| {
        let gate = gate.clone();
        let pass = move |_: &Context, n: u64| {
            gate.pass();
            Ok::<_, Fault>(n + 2)
        };
        Api::new("a").workers(4).handle("pass", pass).unwrap()
    };
    head.attach(api(&gate)).unwrap();
    let neck = neck.serve(api(&gate)).unwrap().start();
    let ours = head.api("a").action("pass", 1u64).start::<u64>().unwrap();
    let theirs = neck.api("a").action("pass", 2u64).start::<u64>().unwrap();
    gate.await_waiting(2);
    thread::scope(|scope| {
        let down = scope.spawn(|| head.shut_down(LONG));
        for end in [head.endpoint(), neck.endpoint()] {
            let refused = || {
                let end = end.api("a").action("pass", 3u64).timeout(Duration::from_millis(50)).call::<u64>();
                matches!(end, Err(CallError::Rejected(Rejection::ShuttingDown)))
            };
            within(LONG, "no new calls", refused);
            let fired = end.api("a").action("pass", 3u64).fire();
            assert!(matches!(fired, Err(CallError::Rejected(Rejection::ShuttingDown))), "{fired:?}");
            assert_eq!(end.state(), LinkState::Open);
        }
        assert!(!ours.is_done() && !theirs.is_done() && !down.is_finished());
        gate.open();
        assert_eq!((ours.wait().unwrap(), theirs.wait().unwrap()), (3, 4));
        assert!(down.join().unwrap(), "all had ended");
    });
    assert_eq!(head.state(), LinkState::Closed);
    until("the other side sees it", || neck.state() == LinkState::Closed);
}

fn ac_75_what_outlasts_the_deadline_of_a_shutdown_fails(kind: Kind) {
    let (head, neck) = kind.ends();
    head.attach(endless("e")).unwrap();
    let neck = neck.serve(endless("e")).unwrap().start();
    let (ours, theirs) = (pend(&head), pend(&neck));
    until("all are under way", || head.under_way() == (6, 6));
    let limit = Duration::from_millis(60);
    let began = Instant::now();
    assert!(!head.shut_down(limit), "nothing had ended");
    let took = began.elapsed();
    assert!(took >= limit && took < limit + PROMPT, "{took:?}");
    for ((started, called_back), by_us) in [(ours, true), (theirs, false)] {
        started.into_iter().for_each(|call| assert!(is_closed(&call.wait(), by_us)));
        (0..3).for_each(|_| assert!(is_closed(&called_back.recv_timeout(PROMPT).unwrap(), by_us)));
    }
}

/// Red when any end of the link is taken for the end of what was under way.
fn ac_75_what_somebody_else_cuts_off_had_not_ended(kind: Kind) {
    for by_us in [true, false] {
        let (head, neck) = kind.ends();
        let neck = neck.serve(endless("e")).unwrap().start();
        let wait = || head.api("e").action("wait", ());
        let call = wait().timeout(4 * LONG).start::<bool>().unwrap();
        until("it is under way", || neck.under_way().1 == 1);
        thread::scope(|scope| {
            let down = scope.spawn(|| head.shut_down(2 * LONG));
            within(LONG, "no new calls", || matches!(wait().fire(), Err(CallError::Rejected(_))));
            if by_us {
                head.close()
            } else {
                neck.close()
            }
            assert!(!down.join().unwrap(), "by us: {by_us}");
        });
        assert!(matches!(call.wait(), Err(CallError::Closed { .. })));
    }
}

fn ac_97_a_call_before_the_start_waits_for_everything_attached(kind: Kind) {
    let (head, neck) = kind.ends();
    let (noted, notes) = unbounded();
    let echo = |_: &Context, n: u64| Ok::<_, Fault>(n);
    let api = head.api("a");
    let limit = Duration::from_millis(60);
    let began = Instant::now();
    let late = api.action("echo", 0u64).timeout(limit).call::<u64>();
    let in_vain = matches!(&late, Err(CallError::TimedOut { executed: Executed::No, .. }));
    assert!(in_vain && began.elapsed() >= limit && began.elapsed() < limit + SOON, "{late:?}");
    api.action("note", 1u64).fire().unwrap();
    let early: Vec<_> = (0..50u64).map(|n| api.action("echo", n).start::<u64>().unwrap()).collect();
    let neck = neck.serve(Api::new("a").handle("echo", echo).unwrap()).unwrap();
    assert!(early.iter().all(|call| !call.is_done()), "a call came in before the start");
    let note = move |_: &Context, n: u64| {
        noted.send(n).unwrap();
        Ok::<_, Fault>(())
    };
    neck.attach(Api::new("").handle("a.note", note).unwrap()).unwrap();
    let neck = neck.start();
    for (n, call) in early.into_iter().enumerate() {
        assert_eq!(call.wait().unwrap(), n as u64);
    }
    assert_eq!(notes.recv_timeout(LONG), Ok(1));
    assert_eq!((neck.counters().unhandled, neck.counters().events_dropped), (0, 0));
}

fn ac_97_no_call_finds_half_of_the_apis(kind: Kind) {
    for _ in 0..30 {
        let (head, neck) = kind.ends();
        thread::scope(|scope| {
            for n in 0..4 {
                let head = &head;
                scope.spawn(move || head.api(&format!("a{n}")).action("x", ()).call::<()>().unwrap());
            }
            let one =
                |n| Api::new(&format!("a{n}")).handle("x", |_: &Context, ()| Ok::<_, Fault>(())).unwrap();
            let neck = (0..4).fold(neck, |neck, n| neck.serve(one(n)).unwrap()).start();
            until("all have been served", || neck.counters().calls_served == 4);
            until("all have been answered", || head.counters().values == 4);
        });
    }
}

/// A Neck may call while it is not ready itself.
fn ac_97_each_side_waits_for_the_other_alone(kind: Kind) {
    let echo = Api::new("h").handle("echo", |_: &Context, n: u64| Ok::<_, Fault>(n)).unwrap();
    let (head, neck) = kind.ends_with(Head::builder().serve(echo), Neck::builder());
    assert_eq!(neck.api("h").action("echo", 7u64).call::<u64>().unwrap(), 7);
    assert_eq!((head.state(), neck.state()), (LinkState::Starting, LinkState::Starting));
    let neck = neck.start();
    assert_eq!(neck.wait_open(LONG), LinkState::Open);
    assert_eq!(head.wait_open(LONG), LinkState::Open);
}

fn p_08_a_listener_that_blocks_is_told_so(kind: Kind) {
    let (head, neck) = kind.ends();
    let neck = neck.serve(endless("e")).unwrap();
    let (tell, told) = unbounded();
    let end = head.endpoint().clone();
    let listen = tell.clone();
    head.on_state(move |_| {
        let api = end.api("e");
        let began = Instant::now();
        let blocked = api.action("wait", ()).call::<bool>();
        let mut started = api.action("wait", ()).start::<bool>();
        let waited = match &mut started {
            Ok(call) => call.wait_timeout(LONG).map(drop),
            // The link is gone.
            Err(error) => Err(error.clone()),
        };
        listen.send((blocked.map(drop), waited, began.elapsed())).unwrap();
    });
    let end = head.endpoint().clone();
    head.on_error(move |_| {
        let blocked = end.api("e").action("wait", ()).timeout(nape::Timeout::Never).call::<bool>();
        tell.send((blocked.map(drop), Err(CallError::Cancelled), Duration::ZERO)).unwrap();
    });
    let neck = neck.start();
    let refused =
        |end: &Result<(), CallError>| matches!(end, Err(CallError::Misuse(Misuse::WouldDeadlock { .. })));
    let (blocked, waited, took) = told.recv_timeout(LONG).unwrap();
    assert!(refused(&blocked) && refused(&waited), "{blocked:?}, {waited:?}");
    assert!(took < SOON, "{took:?}");
    neck.api("nobody").action("home", ()).fire().unwrap();
    assert!(refused(&told.recv_timeout(LONG).unwrap().0));
    neck.close();
    assert!(refused(&told.recv_timeout(LONG).unwrap().0));
}

fn p_24_dropping_is_bounded_when_a_handler_never_returns(kind: Kind) {
    let grace = Duration::from_millis(80);
    let config = || Config::new().grace(grace);
    let (head, neck) = kind.ends_with(Head::builder().config(config()), Neck::builder().config(config()));
    let gate = Gate::default();
    let theirs = gate.clone();
    let stuck = move |_: &Context, ()| {
        theirs.pass();
        Ok::<_, Fault>(())
    };
    let neck = neck.serve(Api::new("a").handle("stuck", stuck).unwrap()).unwrap().start();
    let calls: Vec<_> = (0..2).map(|_| head.api("a").action("stuck", ()).start::<()>().unwrap()).collect();
    gate.await_waiting(2);
    let end = neck.endpoint().clone();
    let began = Instant::now();
    drop(neck);
    let took = began.elapsed();
    assert!(took >= grace && took < grace + PROMPT * 2, "{took:?}");
    assert_eq!(end.counters().threads_left_behind, 2);
    calls.into_iter().for_each(|call| assert!(is_closed(&call.wait(), false)));
    let began = Instant::now();
    drop(head);
    assert!(began.elapsed() < PROMPT, "{:?}", began.elapsed());
    gate.open();
}

/// Counts when it is dropped.
struct Counted(Arc<AtomicU64>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// Also where a handler holds an end of its own link, which holds the handler.
fn what_users_left_at_a_link_goes_with_it(kind: Kind) {
    let (head, neck) = kind.ends();
    let drops = Arc::new(AtomicU64::new(0));
    let holding = |end: &Endpoint| {
        let (end, counted) = (end.clone(), Counted(drops.clone()));
        move || assert!(end.state() >= LinkState::Starting && counted.0.load(Ordering::Relaxed) < 99)
    };
    let neck = neck.start();
    for end in [head.endpoint(), neck.endpoint()] {
        let held = holding(end);
        let handler = move |_: &Context, ()| {
            held();
            Ok::<_, Fault>(())
        };
        end.attach(Api::new("a").handle("x", handler).unwrap()).unwrap();
        let held = holding(end);
        let catcher = move |_: &Context, payload| {
            held();
            Ok(payload)
        };
        end.attach(Api::new("b").catch_some("", |_| true, catcher).unwrap()).unwrap();
        let held = holding(end);
        end.on_state(move |_| held());
        let held = holding(end);
        end.on_error(move |_| held());
        let held = holding(end);
        end.on_unhandled(move |_, payload| {
            held();
            Ok(payload)
        });
    }
    head.api("a").action("x", ()).call::<()>().unwrap();
    head.api("b").action("x", 1u8).call::<u8>().unwrap();
    neck.api("c").action("x", 1u8).call::<u8>().unwrap();
    drop((head, neck));
    within(LONG, "all that was held is dropped", || drops.load(Ordering::Relaxed) == 10);
}

/// Red when a NUL comes to the threads, which panics.
fn p_22_a_name_that_no_thread_can_have_starts_all_the_same(kind: Kind) {
    let config = || Config::new().name("a\0b");
    let api = Api::new("a").handle("who", |_: &Context, ()| {
        Ok::<_, Fault>(thread::current().name().is_some_and(|name| name.starts_with("a_b")))
    });
    let neck = Neck::builder().config(config()).serve(api.unwrap());
    let (head, neck) = kind.ends_with(Head::builder().config(config()), neck);
    let neck = neck.start();
    assert!(head.api("a").action("who", ()).start::<bool>().unwrap().wait().unwrap());
    drop(neck);
}

on_every_link! {
    ac_70_calls_on_both_sides_end_when_one_closes,
    ac_70_calls_that_cross_the_goodbye_end_as_closed,
    ac_70_the_handlers_of_calls_that_ended_are_told,
    ac_71_states_come_once_each_and_in_order,
    ac_71_a_link_that_never_opened_ends_all_the_same,
    ac_71_pending_calls_fail_between_disconnected_and_closed,
    ac_71_a_listener_that_panics_changes_nothing,
    ac_72_close_is_idempotent_and_calls_after_it_are_closed,
    ac_72_two_threads_and_two_sides_may_close_at_once,
    ac_75_shutting_down_lets_finish_and_takes_nothing_new,
    ac_75_what_outlasts_the_deadline_of_a_shutdown_fails,
    ac_75_what_somebody_else_cuts_off_had_not_ended,
    ac_97_a_call_before_the_start_waits_for_everything_attached,
    ac_97_no_call_finds_half_of_the_apis,
    ac_97_each_side_waits_for_the_other_alone,
    p_22_a_name_that_no_thread_can_have_starts_all_the_same,
    p_08_a_listener_that_blocks_is_told_so,
    p_24_dropping_is_bounded_when_a_handler_never_returns,
    what_users_left_at_a_link_goes_with_it,
}
