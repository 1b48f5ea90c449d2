//! Calls that may take several attempts, and that end at the same time: none of them waits for what another's end leads to.

use std::{
    future::Future,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context as Task, Wake, Waker},
    thread,
    time::Duration,
};

use crossbeam_channel::{Receiver, Sender, unbounded};
use nape::{
    Api, ApiHandle, AsyncResult, CallError, Config, Context, Fault, Head, LayerCall, Leave, Neck, Responder,
    Timeout, layers::Retry,
};

use crate::{
    support::Kind,
    tools::{Gate, LONG, eventually},
};

on_every_link! {
    p_04_a_waker_may_wait_for_another_call_that_pauses_before_a_try,
    p_04_a_waker_may_wait_for_another_call_whose_try_ends_with_the_link,
    p_04_a_waker_may_wait_for_another_call_that_is_refused_at_another_try,
    p_04_a_waker_may_wait_for_another_call_of_the_handler_that_is_cancelled,
    p_04_a_waker_may_wait_for_the_callback_of_another_call_that_ends_with_it,
    p_25_no_callback_of_a_call_that_pauses_comes_behind_the_drop,
    p_10_a_layer_that_blocks_at_the_end_of_a_call_that_pauses_holds_up_no_other,
}

/// A waker that waits for the end of another call, and says whether it has come.
struct Awaits(Receiver<()>, Sender<bool>);

impl Wake for Awaits {
    fn wake(self: Arc<Awaits>) {
        let _ = self.1.send(self.0.recv_timeout(LONG).is_ok());
    }
}

/// Has the waker of each of two calls wait for the end of the other. Both say how that was.
pub fn await_each_other(calls: &mut [AsyncResult<()>; 2]) -> Receiver<bool> {
    let (tell, told) = unbounded();
    let ready = calls.each_ref().map(AsyncResult::ready);
    for (call, other) in calls.iter_mut().zip(ready.into_iter().rev()) {
        let waker = Waker::from(Arc::new(Awaits(other, tell.clone())));
        assert!(pin!(call).poll(&mut Task::from_waker(&waker)).is_pending());
    }
    told
}

/// That both wakers have seen the end of the other call.
#[track_caller]
pub fn both_have_ended(told: &Receiver<bool>) {
    for _ in 0..2 {
        assert!(told.recv_timeout(2 * LONG).expect("it is woken"), "the other call has not ended");
    }
}

/// A layer that stands at the gate when its call ends.
pub fn held_at_the_end(api: ApiHandle, gate: &Gate) -> ApiHandle {
    let gate = gate.clone();
    api.layer(move |_: &mut LayerCall<'_>| {
        let gate = gate.clone();
        Ok(Leave::with(move |_| gate.pass()))
    })
}

/// One handler that fails, and one that never answers.
fn api() -> Api {
    let fail = |_: &Context, (): ()| Err::<(), _>(Fault::new("not now"));
    let never = |_: Context, (): (), answer: Responder<()>| std::mem::forget(answer);
    Api::new("it").handle("fails", fail).and_then(|api| api.deferred("never", never)).unwrap()
}

fn serving(kind: Kind) -> (Head, Neck) {
    let config = || Config::new().grace(Duration::from_millis(500));
    let (head, neck) = kind.ends_with(Head::builder().config(config()), Neck::builder().config(config()));
    (head, neck.serve(api()).unwrap().start())
}

/// Calls have such pauses before another try.
fn retried(head: &Head, pause: Duration) -> ApiHandle {
    let retry = Retry::new().pauses(pause, pause).when(|error| matches!(error, CallError::Fault(_)));
    head.api("it").retry(retry).timeout(Timeout::Never)
}

fn start(it: &ApiHandle, action: &str) -> AsyncResult<()> {
    it.action(action, ()).retry_safe().start::<()>().unwrap()
}

/// Waits until so many calls pause, and none is under way.
#[track_caller]
fn pause(head: &Head, many: usize) {
    eventually(|| head.under_way().0 == 0 && head.hang_report().callers.len() == many);
}

const FAR: Duration = Duration::from_secs(3000);

/// The ways in which a link can end.
fn end(how: u32, head: Head, neck: Neck) {
    match how {
        0 => head.close(),
        1 => drop(head),
        _ => drop(neck),
    }
}

/// Red when a waker is called before all of them have ended.
fn p_04_a_waker_may_wait_for_another_call_that_pauses_before_a_try(kind: Kind) {
    for how in 0..3 {
        let (head, neck) = serving(kind);
        let it = retried(&head, FAR);
        let mut calls = [start(&it, "fails"), start(&it, "fails")];
        let told = await_each_other(&mut calls);
        pause(&head, 2);
        end(how, head, neck);
        both_have_ended(&told);
    }
}

/// The same for tries that are under way.
fn p_04_a_waker_may_wait_for_another_call_whose_try_ends_with_the_link(kind: Kind) {
    for how in 0..3 {
        let (head, neck) = serving(kind);
        let it = retried(&head, FAR);
        let mut calls = [start(&it, "never"), start(&it, "never")];
        let told = await_each_other(&mut calls);
        end(how, head, neck);
        both_have_ended(&told);
    }
}

/// Red when the thread that watches the pauses calls it.
fn p_04_a_waker_may_wait_for_another_call_that_is_refused_at_another_try(kind: Kind) {
    let (head, _neck) = serving(kind);
    let it = retried(&head, Duration::from_secs(1));
    let mut calls = [start(&it, "fails"), start(&it, "fails")];
    let told = await_each_other(&mut calls);
    // As long as this one is under way the link does not end, and takes no other.
    let never = head.api("it").action("never", ()).timeout(Timeout::Never).start::<()>().unwrap();
    let end = head.endpoint().clone();
    eventually(|| end.under_way().0 == 1);
    let shuts = thread::spawn(move || head.shut_down(10 * LONG));
    both_have_ended(&told);
    never.cancel();
    shuts.join().unwrap();
}

/// Red when a waker is called before all calls of the handler have ended: it waits for one that nobody cancels then.
fn p_04_a_waker_may_wait_for_another_call_of_the_handler_that_is_cancelled(kind: Kind) {
    let (head, neck) = kind.ends_with(Head::builder(), Neck::builder());
    let (tell, told) = unbounded();
    let calls = move |cx: Context, (): (), answer: Responder<()>| {
        let mut calls = [(); 2].map(|()| start(&cx.api("it").timeout(Timeout::Never), "never"));
        tell.send((await_each_other(&mut calls), calls, answer)).unwrap();
    };
    let _neck = neck.serve(Api::new("b").deferred("calls", calls).unwrap()).unwrap().start();
    head.attach(api()).unwrap();
    let call = head.api("b").action("calls", ()).timeout(Timeout::Never).start::<()>().unwrap();
    let (woken, calls, _answer) = told.recv_timeout(LONG).unwrap();
    call.cancel();
    both_have_ended(&woken);
    for call in calls {
        assert!(matches!(call.wait(), Err(CallError::Cancelled)));
    }
}

/// The one may take several attempts, and both end with the link. Red when the waker is called before the callback has got
/// its thread.
fn p_04_a_waker_may_wait_for_the_callback_of_another_call_that_ends_with_it(kind: Kind) {
    for how in 0..3 {
        let (head, neck) = serving(kind);
        let (end, ends) = unbounded();
        let (tell, told) = unbounded();
        let mut call = head.api("it").action("never", ()).timeout(Timeout::Never).start::<()>().unwrap();
        let waker = Waker::from(Arc::new(Awaits(ends, tell)));
        assert!(pin!(&mut call).poll(&mut Task::from_waker(&waker)).is_pending());
        let callback = move |_: Result<(), CallError>| end.send(()).unwrap();
        retried(&head, FAR).action("never", ()).retry_safe().then(callback).unwrap();
        self::end(how, head, neck);
        assert!(told.recv_timeout(2 * LONG).expect("it is woken"), "the callback has not run");
    }
}

/// Red when it runs on a thread of the link that nobody waits for.
fn p_25_no_callback_of_a_call_that_pauses_comes_behind_the_drop(kind: Kind) {
    let (head, _neck) = serving(kind);
    let short = Duration::from_millis(20);
    let late = Arc::new(AtomicBool::new(false));
    let (tell, told) = unbounded();
    let it = retried(&head, FAR);
    let layered =
        it.clone().layer(move |_: &mut LayerCall<'_>| Ok(Leave::with(move |_| thread::sleep(short))));
    for it in [&it, &layered] {
        let (late, tell) = (late.clone(), tell.clone());
        let callback = move |_: Result<(), CallError>| {
            thread::sleep(10 * short);
            tell.send(late.load(Ordering::SeqCst)).unwrap();
        };
        it.action("fails", ()).retry_safe().then(callback).unwrap();
    }
    pause(&head, 2);
    drop(head);
    late.store(true, Ordering::SeqCst);
    for _ in 0..2 {
        assert!(!told.recv_timeout(LONG).expect("it ends"), "a callback has come behind the drop");
    }
}

/// Red when the layer runs where the others wait for their ends.
fn p_10_a_layer_that_blocks_at_the_end_of_a_call_that_pauses_holds_up_no_other(kind: Kind) {
    for how in 0..3 {
        let (head, neck) = serving(kind);
        let (gate, it) = (Gate::default(), retried(&head, FAR));
        let _opens = gate.opens_at_the_end();
        let seen = it.clone().layer(|_: &mut LayerCall<'_>| Ok(Leave::with(|_| ())));
        let first = start(&held_at_the_end(it.clone(), &gate), "fails");
        let others = [start(&it, "fails"), start(&seen, "fails")];
        pause(&head, 3);
        let ends = thread::spawn(move || end(how, head, neck));
        for other in others {
            let ended = other.ready().recv_timeout(LONG);
            ended.expect("it has ended while the layer of the first blocks");
            assert!(matches!(other.wait(), Err(CallError::Closed { .. })));
        }
        gate.await_waiting(1);
        assert!(!first.is_done());
        gate.open();
        assert!(matches!(first.wait(), Err(CallError::Closed { .. })));
        ends.join().unwrap();
    }
}
