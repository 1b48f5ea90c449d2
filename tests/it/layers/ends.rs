//! The ends of calls that have layers: they come whatever callbacks do, and other layers.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use crossbeam_channel::unbounded;
use nape::{
    Api, ApiHandle, CallError, Context, Fault, Head, LayerCall, Leave, Neck, Responder, Semaphore, Timeout,
};

use super::block_on;
use crate::{
    support::{Kind, watched},
    tools::{Gate, LONG, eventually},
};

on_every_link! {
    p_10_the_end_of_a_call_with_layers_needs_no_callback,
    p_10_a_layer_that_blocks_holds_up_its_own_calls_alone,
    p_18_what_a_layer_holds_may_panic_as_it_goes,
}

fn nothing(_: &mut LayerCall<'_>) -> Result<Leave, CallError> {
    Ok(Leave::nothing())
}

/// An API that answers, and one that never does.
fn api() -> Api {
    let never = |_: Context, (): (), answer: Responder<u32>| std::mem::forget(answer);
    let api = Api::new("x").handle("seven", |_: &Context, (): ()| Ok::<_, Fault>(7u32)).unwrap();
    api.deferred("never", never).unwrap()
}

/// Both ends, the Head with all workers for callbacks at the gate.
fn without_callbacks(kind: Kind, gate: &Gate) -> (Head, Neck) {
    let (head, neck) = kind.serving(api());
    for _ in 0..2 {
        let gate = gate.clone();
        let wait = move |_: Result<u32, CallError>| gate.pass();
        head.api("x").action("seven", ()).then(wait).unwrap();
    }
    gate.await_waiting(2);
    (head, neck)
}

/// Whether calls end that nobody blocks for, each in its way.
fn ends_come(x: &ApiHandle) {
    let seven = || x.action("seven", ()).timeout(LONG);
    let call = seven().start::<u32>().unwrap();
    call.ready().recv_timeout(LONG / 2).expect("it is ready");
    let semaphore = Semaphore::new(0);
    let call = seven().releasing(&semaphore).start::<u32>().unwrap();
    assert!(semaphore.acquire_timeout(LONG / 2), "the permit is released");
    assert_eq!(call.wait().unwrap(), 7);
    let late = x.action("never", ()).timeout(Duration::from_millis(10)).start::<u32>().unwrap();
    late.ready().recv_timeout(LONG / 2).expect("it is late");
    let (theirs, (tell, told)) = (x.clone(), unbounded());
    std::thread::spawn(move || {
        tell.send(block_on(theirs.action("seven", ()).timeout(Timeout::Never).start::<u32>().unwrap()))
    });
    assert_eq!(told.recv_timeout(LONG / 2).expect("it is awaited").unwrap(), 7);
}

/// Red when the ends of calls with layers wait for a worker for callbacks.
fn p_10_the_end_of_a_call_with_layers_needs_no_callback(kind: Kind) {
    let gate = Gate::default();
    let (head, _neck) = without_callbacks(kind, &gate);
    let _open = gate.opens_at_the_end();
    ends_come(&head.api("x").layer(nothing));
}

/// Red when ends wait for each other. A layer must not block; one that does harms nobody else.
fn p_10_a_layer_that_blocks_holds_up_its_own_calls_alone(kind: Kind) {
    // Where values move a call may have ended before it is filed: then whoever starts it shows its end to the layer.
    if !kind.encodes() {
        return;
    }
    let gate = Gate::default();
    let (head, _neck) = kind.serving(api());
    let theirs = gate.clone();
    let blocking = head.api("x").layer(move |_: &mut LayerCall<'_>| {
        let gate = theirs.clone();
        Ok(Leave::with(move |_| gate.pass()))
    });
    let start = || blocking.action("seven", ()).timeout(Timeout::Never).start::<u32>().unwrap();
    let calls: Vec<_> = (0..5).map(|_| start()).collect();
    let _open = gate.opens_at_the_end();
    gate.await_waiting(5);
    ends_come(&head.api("x").layer(nothing));
    gate.open();
    calls.into_iter().for_each(|call| assert_eq!(call.wait().unwrap(), 7));
}

/// Panics when it goes.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            panic!("as it goes");
        }
    }
}

/// What is around the handler holds two that panic.
fn bombs(_: &mut LayerCall<'_>) -> Result<Leave, CallError> {
    let bombs = (Mutex::new(Bomb), Mutex::new(Bomb));
    Ok(Leave::nothing().around(move |handler| {
        let _ = &bombs;
        handler();
    }))
}

/// Red when the call is lost with what a layer has left, whose panic comes before its end is told.
fn p_18_what_a_layer_holds_may_panic_as_it_goes(kind: Kind) {
    let (head, neck) = kind.ends();
    let neck = neck.serve(api()).unwrap().start();
    neck.attach(
        Api::new("y").handle("seven", |_: &Context, (): ()| Ok::<_, Fault>(7u32)).unwrap().layer(bombs),
    )
    .unwrap();
    for it in [head.api("x").layer(bombs).layer(bombs), head.api("y")] {
        let seven = || it.action("seven", ()).timeout(LONG);
        assert_eq!(seven().call::<u32>().unwrap(), 7);
        assert_eq!(seven().start::<u32>().unwrap().wait().unwrap(), 7);
        let call = seven().start::<u32>().unwrap();
        call.ready().recv_timeout(LONG / 2).expect("it is ready");
        assert_eq!(call.wait().unwrap(), 7);
        let (tell, told) = unbounded();
        seven().then(move |end: Result<u32, CallError>| tell.send(end).unwrap()).unwrap();
        assert_eq!(told.recv_timeout(LONG / 2).expect("it is called").unwrap(), 7);
    }
    let call = head.api("x").layer(bombs).action("never", ()).timeout(Timeout::Never).start::<u32>().unwrap();
    call.cancel();
    assert!(matches!(call.wait(), Err(CallError::Cancelled)));
}

/// A value that panics when it goes, in the place of which a layer that panics puts its own end.
#[test]
fn p_18_a_value_may_panic_as_it_goes_where_a_layer_panics() {
    #[derive(serde::Serialize, serde::Deserialize)]
    struct Value(u32);
    impl Drop for Value {
        fn drop(&mut self) {
            if !std::thread::panicking() {
                panic!("as it goes");
            }
        }
    }
    watched(|| {
        let api = Api::new("x").handle("value", |_: &Context, (): ()| Ok::<_, Fault>(Value(7))).unwrap();
        let (head, _neck) = Kind::Channel.serving(api);
        let seen = Arc::new(Mutex::new(0));
        let theirs = seen.clone();
        let x = head.api("x").layer(move |_: &mut LayerCall<'_>| {
            let seen = theirs.clone();
            Ok(Leave::with(move |_| {
                *seen.lock().unwrap_or_else(|it| it.into_inner()) += 1;
                panic!("a layer");
            }))
        });
        let (tell, told) = unbounded();
        x.action("value", ())
            .timeout(LONG)
            .then(move |end: Result<Value, CallError>| tell.send(end.map(std::mem::forget)).unwrap())
            .unwrap();
        let end = told.recv_timeout(LONG / 2).expect("it is called");
        assert!(matches!(end, Err(CallError::Fault(_))), "{end:?}");
        eventually(|| seen.lock().is_err() || *seen.lock().unwrap() == 1);
    });
}
