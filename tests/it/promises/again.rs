//! Calls that are made again: what holds of them between two tries.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use crossbeam_channel::unbounded;
use nape::{
    Api, CallError, Config, Context, Executed, Fault, Head, LayerCall, Leave, Neck, Timeout, layers::Retry,
};

use crate::{
    support::Kind,
    tools::{Gate, LONG, eventually, nothing_is_under_way},
};

on_every_link! {
    ac_75_a_call_that_pauses_before_another_try_has_not_ended,
    p_06_a_cancel_reaches_a_call_that_pauses_before_another_try,
    p_07_a_call_whose_try_is_looked_at_may_have_run,
    p_07_a_call_that_is_refused_in_the_end_may_have_run_before,
    p_18_what_says_which_failures_are_worth_a_try_may_panic_as_it_goes,
}

/// An API whose handler fails, and how often it has run.
fn failing() -> (Api, Arc<AtomicU32>) {
    let runs = Arc::new(AtomicU32::new(0));
    let theirs = runs.clone();
    let fail = move |_: &Context, (): ()| {
        theirs.fetch_add(1, Ordering::SeqCst);
        Err::<(), _>(Fault::new("not now"))
    };
    (Api::new("it").handle("fails", fail).unwrap(), runs)
}

/// Red when only those count that a link knows.
fn ac_75_a_call_that_pauses_before_another_try_has_not_ended(kind: Kind) {
    let (api, runs) = failing();
    let (head, neck) = kind.serving(api);
    let far = Duration::from_secs(3000);
    let retry = Retry::new().pauses(far, far).when(|error| matches!(error, CallError::Fault(_)));
    let it = head.api("it").retry(retry).timeout(Timeout::Never);
    let call = it.action("fails", ()).retry_safe().start::<()>().unwrap();
    eventually(|| runs.load(Ordering::SeqCst) == 1 && head.under_way().0 == 0);
    eventually(|| !head.hang_report().callers.is_empty());
    assert!(!head.shut_down(far));
    let end = call.wait();
    assert!(matches!(end, Err(CallError::Closed { .. })), "{end:?}");
    assert!(neck.shut_down(far), "nothing was under way there");
}

/// Red when the handler is left in its pause, which is longer than anybody waits.
fn p_06_a_cancel_reaches_a_call_that_pauses_before_another_try(kind: Kind) {
    let (tell, told) = unbounded();
    let outer = move |cx: &Context, (blocks, layered): (bool, bool)| {
        let far = Duration::from_secs(3000);
        let retry = Retry::new().pauses(far, far).when(|error| matches!(error, CallError::Fault(_)));
        let mut it = cx.api("it").retry(retry).timeout(Timeout::Never);
        if layered {
            it = it.layer(|_: &mut LayerCall<'_>| Ok(Leave::nothing()));
        }
        let fails = it.action("fails", ()).retry_safe();
        let end = if blocks { fails.call::<()>() } else { fails.start::<()>().and_then(|call| call.wait()) };
        tell.send(end)?;
        Ok::<_, Fault>(())
    };
    let (api, runs) = failing();
    let (head, neck) = kind.serving(Api::new("n").handle("outer", outer).unwrap());
    head.attach(api).unwrap();
    for how in [(true, false), (true, true), (false, false), (false, true)] {
        runs.store(0, Ordering::SeqCst);
        let call = head.api("n").action("outer", how).timeout(Timeout::Never).start::<()>().unwrap();
        // The only try has ended, and nothing is under way any more.
        eventually(|| runs.load(Ordering::SeqCst) == 1 && neck.under_way().0 == 0);
        call.cancel();
        let end = told.recv_timeout(LONG).expect("the handler is back");
        assert!(matches!(end, Err(CallError::Cancelled)), "{how:?}: {end:?}");
        assert_eq!(runs.load(Ordering::SeqCst), 1, "{how:?}");
        nothing_is_under_way(&head, &neck);
    }
}

/// Red when nobody keeps in mind that a try is being looked at, which is neither under way nor counted.
fn p_07_a_call_whose_try_is_looked_at_may_have_run(kind: Kind) {
    let (fails, gate) = (Gate::default(), Gate::default());
    let (theirs, looks) = (fails.clone(), gate.clone());
    let fail = move |_: &Context, (): ()| {
        theirs.pass();
        Err::<(), _>(Fault::new("not now"))
    };
    let (head, _neck) = kind.serving(Api::new("it").handle("fails", fail).unwrap());
    let retry = Retry::new().when(move |_| {
        looks.pass();
        true
    });
    let it = head.api("it").retry(retry).timeout(Duration::from_secs(5));
    let call = it.action("fails", ()).retry_safe().start::<()>().unwrap();
    // Not before it has set out: so a thread of the link looks whether another try is worth it, and not this one.
    fails.open();
    gate.await_waiting(1);
    let error = call.wait().unwrap_err();
    gate.open();
    assert!(matches!(error, CallError::TimedOut { .. }), "{error:?}");
    assert_eq!(error.executed(), Executed::Maybe);
}

/// Red when the last try alone says whether the handler has run.
fn p_07_a_call_that_is_refused_in_the_end_may_have_run_before(kind: Kind) {
    for gives_up_when_refused in [true, false] {
        let (fails, looks, runs) = (Gate::default(), Gate::default(), Arc::new(AtomicU32::new(0)));
        let (may_fail, seen, ran) = (fails.clone(), looks.clone(), runs.clone());
        let fail = move |_: &Context, (): ()| {
            may_fail.pass();
            ran.fetch_add(1, Ordering::SeqCst);
            Err::<(), _>(Fault::new("not now"))
        };
        let (head, neck) = kind.ends();
        let neck = neck.start();
        let attached = neck.attach(Api::new("it").handle("fails", fail).unwrap()).unwrap();
        let worth = move |error: &CallError| {
            seen.pass();
            !gives_up_when_refused || matches!(error, CallError::Fault(_))
        };
        let short = Duration::from_millis(1);
        let retry = Retry::new().tries(3).pauses(short, short).when(worth);
        let it = head.api("it").retry(retry).timeout(LONG);
        let call = it.action("fails", ()).retry_safe().start::<()>().unwrap();
        // Not before it has set out: so another thread looks whether it is worth another try. Before that one comes, the
        // handler is gone.
        fails.open();
        looks.await_waiting(1);
        attached.detach();
        looks.open();
        let error = call.wait().unwrap_err();
        assert_eq!(runs.load(Ordering::SeqCst), 1);
        assert_eq!(error.executed(), Executed::Maybe, "{error:?}");
        assert!(matches!(&error, CallError::Fault(fault) if fault.message() == "not now"), "{error:?}");
    }
}

/// Red when the thread that has calls made again ends with what one of them held, and is taken for alive.
fn p_18_what_says_which_failures_are_worth_a_try_may_panic_as_it_goes(kind: Kind) {
    struct Bomb(crossbeam_channel::Sender<()>);
    impl Drop for Bomb {
        fn drop(&mut self) {
            let _ = self.0.send(());
            if !std::thread::panicking() {
                panic!("as it goes");
            }
        }
    }
    let (hold, looks, fails) = (Gate::default(), Gate::default(), Gate::default());
    let (theirs, may_fail) = (hold.clone(), fails.clone());
    let fail = move |cx: &Context, times: u32| {
        may_fail.pass();
        if cx.attempt() < times { Err(Fault::new("not now")) } else { Ok(()) }
    };
    let api = Api::new("it").handle("fails", fail).unwrap();
    let held =
        Api::new("held").handle("hold", move |_: &Context, (): ()| Ok::<_, Fault>(theirs.pass())).unwrap();
    let narrow = |config: Config| config.in_flight(1).send_queue(2);
    let (head, neck) = kind.ends_with(Head::builder().configure(narrow), Neck::builder());
    let _neck = neck.serve(api).unwrap().serve(held).unwrap().start();
    let it = head.api("it").timeout(LONG);
    let (short, (tell, gone)) = (Duration::from_millis(1), unbounded());
    let (seen, bombs) = (looks.clone(), (Bomb(tell.clone()), Bomb(tell)));
    let worth = move |error: &CallError| {
        let _ = &bombs;
        seen.pass();
        matches!(error, CallError::Fault(_))
    };
    let (end, ended) = unbounded();
    let retry = Retry::new().tries(2).pauses(short, short).when(worth);
    let first = it.clone().retry(retry).action("fails", 2u32).retry_safe();
    first.then(move |outcome: Result<(), CallError>| end.send(outcome).unwrap()).unwrap();
    fails.open();
    looks.await_waiting(1);
    // The next try finds no room, so that the thread that makes it is the last that knows the call.
    let hold_one = || head.api("held").action("hold", ()).timeout(LONG).start::<()>();
    let held: Vec<_> = (0..10).map_while(|_| hold_one().ok()).collect();
    let _open = hold.opens_at_the_end();
    looks.open();
    ended.recv_timeout(LONG / 2).expect("it ends").unwrap_err();
    // The first says so, and has not come to its panic yet.
    (0..2).for_each(|_| gone.recv_timeout(LONG / 2).expect("they go"));
    hold.open();
    held.into_iter().for_each(|call| call.wait().unwrap());
    let second = it.retry(Retry::new().tries(2).pauses(short, short).when(|_| true));
    second.action("fails", 1u32).timeout(LONG / 2).retry_safe().call::<()>().unwrap();
}
