//! Calls with something around them that end in the moment in which they set out.

use crossbeam_channel::{Sender, unbounded};
use nape::{Api, CallError, Context, Fault, LayerCall, Leave, Semaphore, Timeout};
use serde::{Serialize, Serializer, ser::Error};

use crate::{
    support::Kind,
    tools::{Gate, LONG, only},
};

on_every_link! {
    p_01_a_call_that_is_given_up_while_it_sets_out_ends_once,
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
