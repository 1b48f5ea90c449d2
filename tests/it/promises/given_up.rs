//! Calls with something around them that end in the moment in which they set out, or begin again.

use std::time::Duration;

use crossbeam_channel::{Sender, unbounded};
use nape::{Api, ApiHandle, CallError, Context, Fault, LayerCall, Leave, Semaphore, Timeout, layers::Retry};
use serde::{Serialize, Serializer, ser::Error};

use crate::{
    support::Kind,
    tools::{Gate, LONG, only},
};

on_every_link! {
    p_01_a_call_that_is_given_up_while_it_sets_out_ends_once,
    p_04_a_call_that_pauses_waits_for_the_handler_of_no_other,
}

/// Arguments that say when they are encoded, and then wait, and are none after all.
struct Bad(Sender<()>, Gate);

impl Serialize for Bad {
    fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        self.0.send(()).unwrap();
        self.1.pass();
        Err(S::Error::custom("they are none"))
    }
}

/// Red when a call that has ended as cancelled is refused as well.
fn p_01_a_call_that_is_given_up_while_it_sets_out_ends_once(kind: Kind) {
    if !kind.encodes() {
        // There nothing is refused behind the moment in which it can be given up.
        return;
    }
    let (encode, encodes) = unbounded();
    let (tell, told) = unbounded();
    let handler = move |cx: &Context, (): ()| {
        let (gate, permits) = (Gate::default(), Semaphore::new(1));
        assert!(permits.try_acquire());
        let (end, ends) = unbounded();
        let has_ended = gate.clone();
        let callback = move |outcome: Result<(), CallError>| {
            end.send(outcome).unwrap();
            has_ended.open();
        };
        let b = cx.api("b").layer(|_: &mut LayerCall<'_>| Ok(Leave::nothing()));
        let call = b.action("x", Bad(encode.clone(), gate)).releasing(&permits);
        let set_out = call.then(callback);
        tell.send((set_out, only(&ends), permits.permits())).unwrap();
        Ok::<_, Fault>(())
    };
    let (head, _neck) = kind.serving(Api::new("a").handle("run", handler).unwrap());
    let call = head.api("a").action("run", ()).timeout(Timeout::Never).start::<()>().unwrap();
    encodes.recv_timeout(LONG).unwrap();
    call.cancel();
    let (set_out, outcome, permits) = told.recv_timeout(LONG).unwrap();
    assert!(matches!(outcome, Err(CallError::Cancelled)), "{outcome:?}");
    assert!(set_out.is_ok(), "it is refused, and its callback has run: {set_out:?}");
    assert_eq!(permits, 1);
}

/// Red when what a handler of this thread does, or a layer, is done by whoever watches the pauses.
fn p_04_a_call_that_pauses_waits_for_the_handler_of_no_other(kind: Kind) {
    let gate = Gate::default();
    let held = gate.clone();
    let stays = move |cx: &Context, (): ()| {
        if cx.attempt() > 0 {
            held.pass();
        }
        Err::<(), _>(Fault::new("not yet"))
    };
    let fails = |_: &Context, (): ()| Err::<(), _>(Fault::new("not yet"));
    let api = Api::new("a").inline().handle("stays", stays).unwrap().handle("fails", fails).unwrap();
    let (head, _neck) = kind.serving(api);
    let faults = |error: &CallError| matches!(error, CallError::Fault(_));
    let short = Duration::from_millis(1);
    let retry = Retry::new().tries(usize::MAX).pauses(short, 20 * short).when(faults);
    let layered = head.api("a").layer({
        let gate = gate.clone();
        move |_: &mut LayerCall<'_>| {
            let gate = gate.clone();
            Ok(Leave::with(move |_| gate.pass()))
        }
    });
    let once_more = |a: ApiHandle, path| {
        let action = a.retry(retry.clone().tries(2)).action(path, ());
        action.timeout(Timeout::Never).retry_safe().start::<()>().unwrap()
    };
    let stuck = [once_more(head.api("a"), "stays"), once_more(layered, "fails")];
    // The handler of the one, and the layer of the other.
    gate.await_waiting(2);
    let (end, ends) = unbounded();
    let a = head.api("a").retry(retry).timeout(100 * short);
    let callback = move |outcome: Result<(), CallError>| end.send(outcome).unwrap();
    a.action("fails", ()).retry_safe().then(callback).unwrap();
    let outcome = ends.recv_timeout(LONG).expect("it ends in time");
    assert!(outcome.is_err(), "{outcome:?}");
    gate.open();
    stuck.into_iter().for_each(|call| assert!(call.wait().is_err()));
}
