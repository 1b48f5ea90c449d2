//! A cancel travels down: the calls that a handler makes end with the call that it serves.

use std::{
    thread,
    time::{Duration, Instant},
};

use crossbeam_channel::{Receiver, Sender, unbounded};
use nape::{
    Api, ApiHandle, AsyncResult, CallError, Context, Endpoint, Fault, Head, Neck, Responder, Timeout,
};

use crate::{
    support::Kind,
    tools::{LONG, SOON, eventually, nothing_is_under_way},
};

on_every_link! {
    ac_10_a_cancel_travels_down_a_chain_of_calls,
    ac_10_a_timeout_travels_down_a_chain_of_calls,
    p_09_a_chain_is_cancelled_however_deep_it_is,
    ac_10_a_cancel_ends_what_a_handler_has_started,
    ac_10_a_cancel_travels_over_to_another_link,
    ac_10_the_end_of_a_link_travels_over_to_another_link,
    ac_10_a_deferred_answer_is_told_and_so_are_its_calls,
    ac_10_what_a_handler_leaves_under_way_when_it_answers_goes_on,
    ac_10_a_handler_that_was_cancelled_begins_no_more_calls,
    ac_91_a_call_in_the_queue_does_not_run_once_the_chain_is_cancelled,
}

/// What the handlers of a chain saw at their ends, with what is left below them.
type Seen = (u32, Option<CallError>, bool);

/// Each side calls the other, `n` deep; the last one waits for its end, and says when it does.
fn chain(began: &Sender<()>, ended: &Sender<Seen>) -> Api {
    let (began, ended) = (began.clone(), ended.clone());
    let down = move |cx: &Context, n: u32| {
        let error = match n {
            0 => {
                began.send(())?;
                cx.cancel_token().wait_timeout(LONG);
                None
            }
            n => cx.api("chain").action("down", n - 1).timeout(Timeout::Never).call::<()>().err(),
        };
        ended.send((n, error, cx.cancel_token().is_cancelled()))?;
        Ok::<_, Fault>(())
    };
    Api::new("chain").workers(1).handle("down", down).unwrap()
}

/// Red when the thread that cancels goes down the chain on its stack.
fn p_09_a_chain_is_cancelled_however_deep_it_is(kind: Kind) {
    const DEEP: u32 = 400;
    for retry_safe in [false, true] {
        let (begin, begun) = unbounded();
        let api = || {
            let begin = begin.clone();
            let down = move |cx: Context, n: u32, answer: Responder<()>| {
                if n == 0 {
                    let _ = begin.send(answer);
                    return;
                }
                let next = cx.api("deep").action("down", n - 1).timeout(Timeout::Never);
                let next = if retry_safe { next.retry_safe() } else { next };
                let back = move |end: Result<(), CallError>| {
                    let _ = end.map(|()| answer.answer(()));
                };
                next.then(back).unwrap();
            };
            Api::new("deep").deferred("down", down).unwrap()
        };
        let (head, neck) = kind.serving(api());
        head.attach(api()).unwrap();
        let call = head.api("deep").action("down", DEEP).timeout(Timeout::Never).start::<()>().unwrap();
        let last = begun.recv_timeout(LONG).unwrap();
        let little = thread::Builder::new().stack_size(192 * 1024);
        little.spawn(move || call.cancel()).unwrap().join().unwrap();
        drop(last);
        nothing_is_under_way(&head, &neck);
    }
}

/// Both ends with a chain, and what its handlers tell.
fn chained(kind: Kind) -> (Head, Neck, Receiver<()>, Receiver<Seen>) {
    let ((begin, begun), (end, ended)) = (unbounded(), unbounded());
    let (head, neck) = kind.serving(chain(&begin, &end));
    head.attach(chain(&begin, &end)).unwrap();
    (head, neck, begun, ended)
}

const DEPTH: u32 = 9;

fn all_are_cancelled(ended: &Receiver<Seen>, since: Instant) {
    for _ in 0..=DEPTH {
        let (n, error, cancelled) = ended.recv_timeout(LONG).unwrap();
        assert!(cancelled, "{n}: {error:?}");
        assert!(n == 0 || matches!(error, Some(CallError::Cancelled)), "{n}: {error:?}");
    }
    assert!(since.elapsed() < SOON * 5, "{:?}", since.elapsed());
}

fn ac_10_a_cancel_travels_down_a_chain_of_calls(kind: Kind) {
    let (head, neck, begun, ended) = chained(kind);
    for end in [head.endpoint(), neck.endpoint()] {
        let down = || end.api("chain").action("down", DEPTH).timeout(Timeout::Never);
        // Cancelled ...
        let call = down().start::<()>().unwrap();
        begun.recv_timeout(LONG).unwrap();
        let since = Instant::now();
        call.cancel();
        all_are_cancelled(&ended, since);
        assert!(matches!(call.wait(), Err(CallError::Cancelled)));
        // ... or dropped.
        let call = down().start::<()>().unwrap();
        begun.recv_timeout(LONG).unwrap();
        let since = Instant::now();
        drop(call);
        all_are_cancelled(&ended, since);
        nothing_is_under_way(&head, &neck);
    }
    assert_eq!(head.counters().cancels + neck.counters().cancels, 4 * u64::from(DEPTH + 1));
}

/// Nothing waits longer than the first caller, even where the calls below have no time of their own. All
/// deadlines of the chain are one, so that each call may still get the answer that the end of the next sends.
fn ac_10_a_timeout_travels_down_a_chain_of_calls(kind: Kind) {
    let (head, neck, begun, ended) = chained(kind);
    let time = Duration::from_millis(200);
    let since = Instant::now();
    let call = head.api("chain").action("down", DEPTH).timeout(time).start::<()>().unwrap();
    eventually(|| call.is_done());
    begun.recv_timeout(LONG).unwrap();
    let all: Vec<_> = (0..=DEPTH).map(|_| ended.recv_timeout(LONG).unwrap()).collect();
    assert!(all.iter().any(|(n, _, cancelled)| *n == 0 && *cancelled), "{all:?}");
    assert!(since.elapsed() < time + SOON * 5, "{:?}", since.elapsed());
    nothing_is_under_way(&head, &neck);
}

/// An API whose calls stay until they are cancelled, and tell of their beginning and of their end.
fn endless(name: &str) -> (Api, Receiver<bool>) {
    let (tell, told) = unbounded();
    let wait = move |cx: &Context, ()| {
        tell.send(false)?;
        let cancelled = cx.cancel_token().wait_timeout(LONG);
        tell.send(cancelled)?;
        Ok::<_, Fault>(())
    };
    (Api::new(name).workers(8).handle("wait", wait).unwrap(), told)
}

fn wait(api: &ApiHandle) -> nape::Action<()> {
    api.action("wait", ()).timeout(Timeout::Never)
}

fn ac_10_a_cancel_ends_what_a_handler_has_started(kind: Kind) {
    let (end, ended) = unbounded();
    let spread = move |cx: &Context, ()| {
        let below = cx.api("below");
        let started: Vec<_> = (0..3).map(|_| wait(&below).start::<()>()).collect::<Result<_, _>>()?;
        let end_of_another = end.clone();
        wait(&below).then(move |outcome: Result<(), _>| end_of_another.send(outcome).unwrap())?;
        for call in started {
            end.send(call.wait())?;
        }
        Ok::<_, Fault>(())
    };
    let (head, neck) = kind.serving(Api::new("a").handle("spread", spread).unwrap());
    let (below, told) = endless("below");
    head.attach(below).unwrap();
    let call = head.api("a").action("spread", ()).timeout(Timeout::Never).start::<()>().unwrap();
    (0..4).for_each(|_| assert!(!told.recv_timeout(LONG).unwrap()));
    let since = Instant::now();
    call.cancel();
    for _ in 0..4 {
        assert!(told.recv_timeout(LONG).unwrap());
        assert!(matches!(ended.recv_timeout(LONG).unwrap(), Err(CallError::Cancelled)));
    }
    assert!(since.elapsed() < SOON * 5, "{:?}", since.elapsed());
    nothing_is_under_way(&head, &neck);
}

/// A link to a third party, and an API that waits for it in each of its calls.
fn through(kind: Kind) -> (Api, Receiver<bool>, (Head, Neck)) {
    let (below, told) = endless("below");
    let (third, its_neck) = kind.serving(below);
    let end: Endpoint = third.endpoint().clone();
    let pass = move |_: &Context, blocking: bool| {
        let call = wait(&end.api("below"));
        Ok::<_, Fault>(if blocking { call.call::<()>()? } else { call.start::<()>()?.wait()? })
    };
    (Api::new("a").handle("pass", pass).unwrap(), told, (third, its_neck))
}

fn pass(end: &Endpoint, blocking: bool) -> AsyncResult<()> {
    end.api("a").action("pass", blocking).timeout(Timeout::Never).start().unwrap()
}

fn ac_10_a_cancel_travels_over_to_another_link(kind: Kind) {
    for other in [Kind::Channel, Kind::Pipe] {
        let (api, told, (third, its_neck)) = through(other);
        let (head, neck) = kind.serving(api);
        for blocking in [true, false] {
            let call = pass(&head, blocking);
            assert!(!told.recv_timeout(LONG).unwrap());
            let since = Instant::now();
            call.cancel();
            assert!(told.recv_timeout(LONG).unwrap());
            assert!(since.elapsed() < SOON * 5, "{:?}", since.elapsed());
        }
        nothing_is_under_way(&head, &neck);
        nothing_is_under_way(&third, &its_neck);
        assert_eq!(third.counters().cancels, 2);
    }
}

fn ac_10_the_end_of_a_link_travels_over_to_another_link(kind: Kind) {
    for by_us in [true, false] {
        let (api, told, (third, its_neck)) = through(Kind::Pipe);
        let (head, neck) = kind.serving(api);
        let calls = [pass(&head, true), pass(&head, false)];
        (0..2).for_each(|_| assert!(!told.recv_timeout(LONG).unwrap()));
        if by_us {
            head.close();
        } else {
            neck.close();
        }
        (0..2).for_each(|_| assert!(told.recv_timeout(LONG).unwrap()));
        for call in calls {
            assert!(matches!(call.wait(), Err(CallError::Closed { .. })));
        }
        nothing_is_under_way(&third, &its_neck);
    }
}

fn ac_10_a_deferred_answer_is_told_and_so_are_its_calls(kind: Kind) {
    let (keep, kept) = unbounded();
    let later = move |cx: Context, (): (), answer: nape::Responder<()>| {
        let call = wait(&cx.api("below")).start::<()>().unwrap();
        keep.send((answer, call)).unwrap();
    };
    let (head, neck) = kind.serving(Api::new("a").deferred("later", later).unwrap());
    let (below, told) = endless("below");
    head.attach(below).unwrap();
    let call = head.api("a").action("later", ()).timeout(Timeout::Never).start::<()>().unwrap();
    let (answer, below) = kept.recv_timeout(LONG).unwrap();
    assert!(!told.recv_timeout(LONG).unwrap());
    call.cancel();
    assert!(told.recv_timeout(LONG).unwrap());
    assert!(matches!(below.wait(), Err(CallError::Cancelled)));
    drop(answer);
    nothing_is_under_way(&head, &neck);
}

fn ac_10_what_a_handler_leaves_under_way_when_it_answers_goes_on(kind: Kind) {
    let (keep, kept) = unbounded();
    let leave = move |cx: &Context, ()| {
        keep.send(wait(&cx.api("below")).start::<()>()?)?;
        Ok::<_, Fault>(())
    };
    let (head, neck) = kind.serving(Api::new("a").handle("leave", leave).unwrap());
    let (below, told) = endless("below");
    head.attach(below).unwrap();
    let mut call = head.api("a").action("leave", ()).timeout(Timeout::Never).start::<()>().unwrap();
    // Not by waiting for it: a thread that waits serves what descends from its call.
    eventually(|| call.is_done());
    assert_eq!(call.try_wait().unwrap(), Some(()));
    // It has ended: neither does anything any more.
    call.cancel();
    drop(call);
    let below = kept.recv_timeout(LONG).unwrap();
    assert!(!told.recv_timeout(LONG).unwrap());
    let mut below = below;
    assert_eq!(below.wait_timeout(SOON).unwrap(), None);
    drop(below);
    assert!(told.recv_timeout(LONG).unwrap());
    nothing_is_under_way(&head, &neck);
}

fn ac_10_a_handler_that_was_cancelled_begins_no_more_calls(kind: Kind) {
    let (tell, told) = unbounded();
    let stubborn = move |cx: &Context, ()| {
        tell.send(None)?;
        assert!(cx.cancel_token().wait_timeout(LONG));
        let touch = || cx.api("head").action("touch", ()).timeout(Timeout::Never);
        tell.send(Some(touch().call::<()>()))?;
        tell.send(Some(touch().start::<()>().map(drop)))?;
        // Events have no end to wait for, and tell those who care that this is over.
        touch().fire()?;
        // Nor does it hold for what another thread does.
        let other = thread::scope(|scope| scope.spawn(|| touch().call::<()>()).join().unwrap());
        tell.send(Some(other))?;
        Ok::<_, Fault>(())
    };
    let (head, neck) = kind.serving(Api::new("neck").handle("stubborn", stubborn).unwrap());
    head.attach(Api::new("head").handle("touch", |_: &Context, ()| Ok::<_, Fault>(())).unwrap()).unwrap();
    let call = head.api("neck").action("stubborn", ()).timeout(Timeout::Never).start::<()>().unwrap();
    assert!(told.recv_timeout(LONG).unwrap().is_none());
    call.cancel();
    for _ in 0..2 {
        let outcome = told.recv_timeout(LONG).unwrap().unwrap();
        assert!(matches!(outcome, Err(CallError::Cancelled)), "{outcome:?}");
    }
    assert!(told.recv_timeout(LONG).unwrap().unwrap().is_ok());
    eventually(|| head.counters().events_served == 1);
    assert_eq!((head.counters().calls_served, neck.counters().cancels), (1, 2));
    nothing_is_under_way(&head, &neck);
}

fn ac_91_a_call_in_the_queue_does_not_run_once_the_chain_is_cancelled(kind: Kind) {
    let (below, told) = endless("below");
    let (head, neck) = kind.ends();
    head.attach(below.workers(1)).unwrap();
    let pass = |cx: &Context, ()| {
        Ok::<_, Fault>(wait(&cx.api("below")).start::<()>()?.wait_timeout(LONG).map(|_| ())?)
    };
    let neck = neck.serve(Api::new("a").handle("pass", pass).unwrap()).unwrap().start();
    // The one worker is busy with the call of nobody's handler.
    let busy = wait(&neck.api("below")).start::<()>().unwrap();
    assert!(!told.recv_timeout(LONG).unwrap());
    let call = head.api("a").action("pass", ()).timeout(Timeout::Never).start::<()>().unwrap();
    eventually(|| head.under_way() == (1, 2));
    call.cancel();
    eventually(|| neck.under_way().0 == 1);
    drop(busy);
    assert!(told.recv_timeout(LONG).unwrap());
    nothing_is_under_way(&head, &neck);
    assert!(told.try_recv().is_err());
    assert_eq!(head.counters().expired_in_queue, 1);
}
