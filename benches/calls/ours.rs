//! Calls over nape: by name, with defaults, as its documentation shows them.

use std::cell::Cell;

use nape::{
    Api, ApiHandle, Context, Fault, Head, HeadBuilder, Neck, Wire,
    transport::{Transport, ipc_pair, shm_pair},
};

use crate::{
    contender::{Args, Callee, Pair},
    place::{Place, pin},
};

/// A child that serves, and a caller that only calls.
pub(crate) fn ipc(place: &Place) -> Pair {
    child(Head::builder(), place)
}

/// The same with a caller that serves an API too: somebody has to read while nobody calls.
pub(crate) fn ipc_serving(place: &Place) -> Pair {
    child(Head::builder().serve(api("caller", place.caller)), place)
}

/// As [`ipc`], over a pair of sockets.
pub(crate) fn pipe(place: &Place) -> Pair {
    child(Head::builder().wire(Wire::Pipe), place)
}

/// As [`ipc_serving`], over a pair of sockets.
pub(crate) fn pipe_serving(place: &Place) -> Pair {
    child(Head::builder().wire(Wire::Pipe).serve(api("caller", place.caller)), place)
}

/// As [`ipc`], over shared memory.
pub(crate) fn shm(place: &Place) -> Pair {
    child(Head::builder().wire(Wire::Shm), place)
}

/// As [`ipc_serving`], over shared memory.
pub(crate) fn shm_serving(place: &Place) -> Pair {
    child(Head::builder().wire(Wire::Shm).serve(api("caller", place.caller)), place)
}

fn child(builder: HeadBuilder, place: &Place) -> Pair {
    let head = builder.spawn(place.callee(SERVING)).expect("the child gets ready");
    let callee = Callee::Elsewhere(head.child_id());
    let bench = head.api("bench");
    Pair::new(keeping(head, caller(bench)), callee)
}

/// The callee of all six.
pub(crate) fn serve_ipc(_: &[String]) {
    let bench = api("bench", Place::here());
    Neck::builder()
        .serve(bench)
        .from_env()
        .expect("a Head started this")
        .run()
        .expect("the Head says goodbye");
}

/// Both ends in one process, over ipc-channel.
pub(crate) fn ipc_threads(place: &Place) -> Pair {
    over(ipc_pair().expect("sockets can be made"), place)
}

/// Both ends in one process, over shared memory.
pub(crate) fn shm_threads(place: &Place) -> Pair {
    over(shm_pair().expect("there is memory"), place)
}

fn over((ours, theirs): (Transport, Transport), place: &Place) -> Pair {
    let neck = place.on_callee(|| Neck::builder().over(theirs)).expect("threads can be started");
    in_process(Head::builder().over(ours).expect("threads can be started"), neck, place)
}

/// Both ends in one process; values move.
pub(crate) fn channel(place: &Place) -> Pair {
    let (head, neck) = Head::in_process().expect("nothing is needed for it");
    in_process(head, neck, place)
}

/// Both ends in one process, with everything encoded. The threads of the Neck start on its core.
pub(crate) fn encoded(place: &Place) -> Pair {
    let (head, neck) = place
        .on_callee(|| Head::builder().in_process_encoded(Neck::builder()))
        .expect("threads can be started");
    in_process(head, neck, place)
}

fn in_process(head: Head, neck: Neck, place: &Place) -> Pair {
    let neck = neck.serve(api("bench", place.callee)).expect("it is the only one").start();
    let bench = head.api("bench");
    Pair::new(keeping((head, neck), caller(bench)), Callee::Elsewhere(None))
}

/// What is called: `call` in a namespace, run on one core.
fn api(namespace: &str, core: usize) -> Api {
    let call = move |_: &Context, args: Args| {
        stay_on(core);
        Ok::<_, Fault>(args.answer())
    };
    Api::new(namespace).handle("call", call).expect("it is the only one")
}

/// Workers start when there is work, on whatever core the one runs that needs them.
fn stay_on(core: usize) {
    thread_local! { static PINNED: Cell<bool> = const { Cell::new(false) } }
    if !PINNED.replace(true) {
        pin(core);
    }
}

fn caller(bench: ApiHandle) -> impl FnMut(u64) -> u64 {
    move |i| bench.action("call", Args::number(i)).call().expect("the callee answers")
}

/// `call`, which keeps `owner` alive.
fn keeping(
    owner: impl Sized + 'static,
    mut call: impl FnMut(u64) -> u64 + 'static,
) -> impl FnMut(u64) -> u64 {
    move |i| {
        let _alive = &owner;
        call(i)
    }
}

/// The contender whose `serve` is [`serve_ipc`].
const SERVING: &str = "nape ipc, caller only calls";
