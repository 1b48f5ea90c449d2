//! nape, as its documentation shows it: by name, with the defaults that do not stand in the way.

use std::{
    cell::Cell,
    collections::VecDeque,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    thread,
    time::{Duration, Instant},
};

use nape::{
    Answers, Api, ApiHandle, AsyncResult, Config, Context, Fault, Head, HeadBuilder, Neck, Payload, WhenFull,
};

use crate::{
    contender::{Body, Callee, Pair, ThreadCall},
    place::{Place, pin},
    roles,
    work::{Args, IN_FLIGHT, THREADS, Work},
};

/// A child process. Another transport is another `head`, and a row with the name of its own; the child
/// finds out by itself over which transport it was started.
pub(crate) fn child(name: &str, head: HeadBuilder, place: &Place, work: Work) -> Pair {
    let head = head.config(config()).spawn(roles::callee(place, name, work)).expect("the child gets ready");
    let callee = Callee::Elsewhere(head.child_id());
    let bench = head.api("bench");
    Pair { body: body(bench, head, work), callee }
}

/// The callee of every [`child`].
pub(crate) fn serve(_: Work, _: &[String]) {
    serve_with(Answers::AtOnce);
}

/// The callee of one whose name says that its answers leave together.
pub(crate) fn serve_together(_: Work, _: &[String]) {
    serve_with(Answers::Together);
}

fn serve_with(answers: Answers) {
    let neck = Neck::builder().config(config().answers(answers)).serve(api(Place::here()));
    neck.from_env().expect("a Head started this").run().expect("the Head says goodbye");
}

/// Both ends in one process; values move.
pub(crate) fn channel(place: &Place, work: Work) -> Pair {
    let make = || Head::builder().config(config()).in_process_with(Neck::builder().config(config()));
    in_process(place.on_callee(make).expect("threads can be started"), place, work)
}

/// Both ends in one process, with everything encoded.
pub(crate) fn encoded(place: &Place, work: Work) -> Pair {
    let make = || Head::builder().config(config()).in_process_encoded(Neck::builder().config(config()));
    in_process(place.on_callee(make).expect("threads can be started"), place, work)
}

fn in_process((head, neck): (Head, Neck), place: &Place, work: Work) -> Pair {
    let neck = neck.serve(api(place.callee)).expect("it is the only one").start();
    let bench = head.api("bench");
    Pair { body: body(bench, (head, neck), work), callee: Callee::Elsewhere(None) }
}

/// Room for the largest payload, and for every event that is fired in a row.
fn config() -> Config {
    let (messages, bytes) = (1 << 20, 64 << 20);
    Config::new().message_limit(bytes).send_queue_bytes(bytes).served_calls(messages)
}

/// What is called; everything runs on one core.
fn api(core: usize) -> Api {
    static COUNTED: AtomicU64 = AtomicU64::new(0);
    let call = move |_: &Context, args: Args| {
        stay_on(core);
        Ok::<_, Fault>(args.answer())
    };
    let event = move |_: &Context, args: Args| {
        stay_on(core);
        COUNTED.fetch_add(u64::from(args.answer() > 0), Relaxed);
        Ok::<_, Fault>(())
    };
    let counted = |_: &Context, (): ()| Ok::<_, Fault>(COUNTED.load(Relaxed));
    let echo = |_: &Context, bytes: Payload| Ok::<_, Fault>(bytes);
    Api::new("bench")
        .queue(1 << 20, WhenFull::Refuse)
        .handle("call", call)
        .and_then(|api| api.handle("event", event))
        .and_then(|api| api.handle("counted", counted))
        .and_then(|api| api.handle("echo", echo))
        .expect("four paths")
}

/// Workers start when there is work, on whatever core the one runs that needs them.
fn stay_on(core: usize) {
    thread_local! { static PINNED: Cell<bool> = const { Cell::new(false) } }
    if !PINNED.replace(true) {
        pin(core);
    }
}

/// What the caller does; it keeps `owner` alive.
fn body(bench: ApiHandle, owner: impl Sized + 'static, work: Work) -> Body {
    match work {
        Work::Call | Work::Silence => Body::Call(Box::new(move |i| {
            let _alive = &owner;
            Some(call(&bench, i))
        })),
        Work::InFlight => Body::Batch(Box::new(move |n| {
            let _alive = &owner;
            in_flight(&bench, n)
        })),
        Work::Events => Body::Batch(Box::new(move |n| {
            let _alive = &owner;
            events(&bench, n)
        })),
        Work::Echo1 | Work::Echo16 => Body::Echo(Box::new(move |bytes, show| {
            let _alive = &owner;
            let payload = Payload::from_bytes(bytes.to_vec());
            let came: Payload = bench.action("echo", payload).call().expect("the callee answers");
            show(&came.bytes());
            true
        })),
        Work::Threads => {
            // A Head belongs to one thread; the handles are everybody's. It stays until the end.
            std::mem::forget(owner);
            Body::Threads((0..THREADS).map(|_| on_a_thread(bench.clone())).collect())
        }
    }
}

fn on_a_thread(bench: ApiHandle) -> Box<ThreadCall> {
    Box::new(move |i| Some(call(&bench, i)))
}

fn call(bench: &ApiHandle, i: u64) -> u64 {
    bench.action("call", Args::number(i)).call().expect("the callee answers")
}

fn in_flight(bench: &ApiHandle, n: u64) -> u64 {
    let mut pending: VecDeque<(u64, AsyncResult<u64>)> = VecDeque::new();
    let check = |(i, answer): (u64, AsyncResult<u64>)| {
        assert_eq!(answer.wait().expect("the callee answers"), Args::expected(i), "a wrong answer");
    };
    for i in 0..n {
        pending.push_back((i, bench.action("call", Args::number(i)).start().expect("there is room")));
        if pending.len() as u64 == IN_FLIGHT {
            pending.pop_front().into_iter().for_each(check);
        }
    }
    pending.into_iter().for_each(check);
    0
}

/// Events do not wait for room: whoever is told that there is none tries again.
fn events(bench: &ApiHandle, n: u64) -> u64 {
    let counted = || bench.action("counted", ()).call::<u64>().expect("the callee answers");
    let before = counted();
    for i in 0..n {
        while bench.action("event", Args::number(i)).fire().is_err() {
            thread::yield_now();
        }
    }
    let patience = Instant::now() + Duration::from_secs(5);
    loop {
        let missing = n - (counted() - before);
        if missing == 0 || Instant::now() > patience {
            return missing;
        }
    }
}
