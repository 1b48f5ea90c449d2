//! Inline handlers that make calls of their own: back to the caller, and on to others.

use std::{thread, time::Instant};

use crossbeam_channel::{Sender, bounded, unbounded};
use nape::{Api, CallError, Context, Endpoint, Fault, Timeout};

use super::AGAIN;
use crate::{
    crossing::countdown,
    support::{HANG, Kind},
    tools::{Gate, LONG, SOON, eventually, nothing_is_under_way},
};

on_every_link! {
    ac_64_inline_handlers_call_back_to_any_depth,
    ac_64_an_inline_handler_calls_back_to_one_worker,
    ac_64_an_inline_handler_waits_for_a_call_that_it_has_started,
    ac_10_a_cancel_travels_through_an_inline_handler,
    events_that_answer_each_other_for_ever_need_no_stack,
    many_handlers_that_call_back_at_once_need_no_stack,
    ac_64_an_inline_handler_may_wait_for_one_that_came_with_it,
    ac_64_an_inline_handler_may_wait_for_what_the_caller_is_to_serve,
}

fn ac_64_inline_handlers_call_back_to_any_depth(kind: Kind) {
    let (head, neck) = kind.serving(countdown().inline());
    head.attach(countdown().inline()).unwrap();
    for depth in (1..=64u64).chain([200]) {
        let action = |end: &Endpoint| end.api("count").action("down", depth);
        assert_eq!(action(head.endpoint()).call::<u64>().unwrap(), depth);
        assert_eq!(action(neck.endpoint()).start::<u64>().unwrap().wait().unwrap(), depth);
    }
    nothing_is_under_way(&head, &neck);
}

fn ac_64_an_inline_handler_calls_back_to_one_worker(kind: Kind) {
    let (head, neck) = kind.serving(countdown().inline());
    head.attach(countdown()).unwrap();
    for depth in [1u64, 2, 3, 10, 63, 64] {
        for end in [head.endpoint(), neck.endpoint()] {
            for _ in 0..AGAIN {
                assert_eq!(end.api("count").action("down", depth).call::<u64>().unwrap(), depth);
            }
            let count = end.api("count");
            assert_eq!(count.action("down", depth).call::<u64>().unwrap(), depth);
            assert_eq!(count.action("down", depth).call::<u64>().unwrap(), depth);
            assert_eq!(count.action("down", depth).start::<u64>().unwrap().wait().unwrap(), depth);
        }
    }
    nothing_is_under_way(&head, &neck);
}

/// The one worker of the side that is called back is the caller itself.
fn ac_64_an_inline_handler_waits_for_a_call_that_it_has_started(kind: Kind) {
    let down = |cx: &Context, n: u64| {
        if n == 0 {
            return Ok::<_, Fault>(0);
        }
        let below = cx.api("count").action("down", n - 1).start::<u64>()?;
        Ok(below.wait()? + 1)
    };
    let (head, neck) = kind.serving(Api::new("count").inline().handle("down", down).unwrap());
    head.attach(Api::new("count").workers(1).handle("down", down).unwrap()).unwrap();
    for depth in [1u64, 2, 3, 10, 40] {
        for end in [head.endpoint(), neck.endpoint()] {
            assert_eq!(end.api("count").action("down", depth).call::<u64>().unwrap(), depth);
            assert_eq!(end.api("count").action("down", depth).start::<u64>().unwrap().wait().unwrap(), depth);
        }
    }
    nothing_is_under_way(&head, &neck);
}

/// A handler calls an inline one in another link, which calls back; the caller of the first gives up.
fn ac_10_a_cancel_travels_through_an_inline_handler(kind: Kind) {
    let (tell, told) = unbounded();
    let wait = move |cx: &Context, waits: bool| {
        if waits {
            tell.send(None)?;
            let below = cx.api("below").action("wait", ()).timeout(Timeout::Never).call::<()>();
            tell.send(Some((cx.cancel_token().is_cancelled(), below)))?;
        }
        Ok::<_, Fault>(())
    };
    let (far, its_neck) = kind.serving(Api::new("far").inline().handle("wait", wait).unwrap());
    let below = |cx: &Context, ()| Ok::<_, Fault>(assert!(cx.cancel_token().wait_timeout(LONG)));
    far.attach(Api::new("below").workers(1).handle("wait", below).unwrap()).unwrap();
    let end = far.endpoint().clone();
    let (say, said) = bounded(1);
    let pass = move |_: &Context, ()| {
        let far = end.api("far").timeout(Timeout::Never);
        (0..AGAIN).for_each(|_| far.action("wait", false).call::<()>().unwrap());
        say.send(far.action("wait", true).call::<()>())?;
        Ok::<_, Fault>(())
    };
    let (head, neck) = Kind::Channel.serving(Api::new("a").handle("pass", pass).unwrap());
    let call = head.api("a").action("pass", ()).timeout(Timeout::Never).start::<()>().unwrap();
    assert!(told.recv_timeout(LONG).unwrap().is_none());
    eventually(|| its_neck.under_way().0 == 1);
    let since = Instant::now();
    call.cancel();
    let (cancelled, below) = told.recv_timeout(LONG).unwrap().unwrap();
    assert!(cancelled && matches!(below, Err(CallError::Cancelled)), "{cancelled} {below:?}");
    assert!(matches!(said.recv_timeout(LONG).unwrap(), Err(CallError::Cancelled)));
    assert!(since.elapsed() < SOON * 5);
    nothing_is_under_way(&head, &neck);
    nothing_is_under_way(&far, &its_neck);
}

/// Each event fires the next. On the thread of the one that fires it, that would be a tower without an end.
fn events_that_answer_each_other_for_ever_need_no_stack(kind: Kind) {
    const ENOUGH: u64 = 5_000;
    let api = |tell: Sender<()>| {
        let bounce = move |cx: &Context, n: u64| match n {
            ENOUGH => Ok::<_, Fault>(tell.send(())?),
            n => Ok(cx.api("ball").action("bounce", n + 1).fire()?),
        };
        Api::new("ball").inline().handle("bounce", bounce).unwrap()
    };
    let (tell, told) = unbounded();
    let (head, _neck) = kind.serving(api(tell.clone()));
    head.attach(api(tell)).unwrap();
    head.api("ball").action("bounce", 0u64).fire().unwrap();
    told.recv_timeout(HANG).unwrap();
}

/// A thread that waits in one of them reads the next, which waits in turn: neither its stack nor the number of
/// threads may grow with them.
fn many_handlers_that_call_back_at_once_need_no_stack(kind: Kind) {
    const AT_ONCE: u64 = 600;
    let gate = Gate::default();
    let theirs = gate.clone();
    let up = |cx: &Context, n: u64| Ok::<_, Fault>(cx.api("head").action("add", n).call::<u64>()? + 1);
    let (head, neck) = kind.serving(Api::new("neck").inline().handle("add", up).unwrap());
    let add = move |_: &Context, n: u64| {
        theirs.pass();
        Ok::<_, Fault>(n + 1)
    };
    head.attach(Api::new("head").workers(1).handle("add", add).unwrap()).unwrap();
    // In one process each is on its caller's own thread, and its caller's alone.
    let threads = if matches!(kind, Kind::Channel) { 20 } else { AT_ONCE };
    thread::scope(|scope| {
        let _opens = gate.opens_at_the_end();
        let neck_calls = (0..threads).map(|n| head.api("neck").action("add", n));
        let all: Vec<_> = neck_calls
            .map(|action| match kind {
                Kind::Channel => scope.spawn(|| action.call::<u64>()),
                _ => {
                    let started = action.start::<u64>().unwrap();
                    scope.spawn(move || started.wait())
                }
            })
            .collect();
        gate.await_waiting(1);
        eventually(|| neck.under_way().1 as u64 == threads);
        eventually(|| neck.under_way().0 >= 4);
        // One more comes wherever nobody has read for a tick, which happens on a machine that has much else to do. One
        // for each handler would be too many.
        let n_threads = neck.endpoint().n_threads();
        assert!(n_threads < AT_ONCE as usize / 3, "{n_threads}");
        gate.open();
        for (n, call) in all.into_iter().enumerate() {
            assert_eq!(call.join().unwrap().unwrap(), n as u64 + 2);
        }
    });
    nothing_is_under_way(&head, &neck);
}

/// Both come in one packet, to a thread that waits for its own call.
fn ac_64_an_inline_handler_may_wait_for_one_that_came_with_it(kind: Kind) {
    if !kind.encodes() {
        // There it is the thread that makes both calls that runs them.
        return;
    }
    let (free, freed) = unbounded();
    let wait = move |_: &Context, ()| Ok::<_, Fault>(freed.recv()?);
    let both = |cx: &Context, ()| {
        let first = cx.api("inline").action("first", ()).start::<()>()?;
        let second = cx.api("inline").action("second", ()).start::<()>()?;
        first.wait()?;
        Ok::<_, Fault>(second.wait()?)
    };
    let gate = Api::new("gate").handle("wait", wait).unwrap().handle("both", both).unwrap();
    let (head, neck) = kind.serving(gate.workers(2));
    let first = |cx: &Context, ()| Ok::<_, Fault>(cx.api("gate").action("wait", ()).call::<()>()?);
    let second = move |_: &Context, ()| Ok::<_, Fault>(free.send(())?);
    let inline = Api::new("inline").inline().handle("first", first).unwrap();
    head.attach(inline.handle("second", second).unwrap()).unwrap();
    for _ in 0..10 * AGAIN {
        head.api("gate").action("both", ()).call::<()>().unwrap();
    }
    nothing_is_under_way(&head, &neck);
}

/// What the thread has on its stack waits for what would be left to that thread.
fn ac_64_an_inline_handler_may_wait_for_what_the_caller_is_to_serve(kind: Kind) {
    if !kind.encodes() {
        return;
    }
    let (free, freed) = unbounded();
    let (arrive, arrived) = unbounded();
    let wait = move |_: &Context, ()| {
        arrive.send(())?;
        Ok::<_, Fault>(freed.recv()?)
    };
    let both = move |cx: &Context, ()| {
        let first = cx.api("inline").action("first", ()).start::<()>()?;
        arrived.recv()?;
        cx.api("free").action("", ()).call::<()>()?;
        Ok::<_, Fault>(first.wait()?)
    };
    let gate = Api::new("gate").handle("wait", wait).unwrap().handle("both", both).unwrap();
    let (head, neck) = kind.serving(gate.workers(2));
    let first = |cx: &Context, ()| Ok::<_, Fault>(cx.api("gate").action("wait", ()).call::<()>()?);
    head.attach(Api::new("inline").inline().handle("first", first).unwrap()).unwrap();
    let freeing = move |_: &Context, ()| Ok::<_, Fault>(free.send(())?);
    head.attach(Api::new("free").handle("", freeing).unwrap()).unwrap();
    for _ in 0..AGAIN {
        head.api("gate").action("both", ()).call::<()>().unwrap();
    }
    nothing_is_under_way(&head, &neck);
}
