//! What lengths that lie can make a link allocate, and how often a call does. A binary of its own, since it
//! counts everything.

#![allow(unsafe_code, reason = "a global allocator cannot be written without")]

#[path = "it/hostile/raw.rs"]
#[allow(dead_code, reason = "the other tests of hostile bytes need more of it")]
mod raw;

use std::{
    alloc::{GlobalAlloc, Layout, System},
    panic::resume_unwind,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

use nape::{
    Api, CallError, Context, Fault, Head, Inspection, LinkState, Neck,
    transport::{Transport, memory_pair, pipe_pair},
};
use raw::*;

#[global_allocator]
static COUNTING: Counting = Counting;

/// The largest single allocation since it was last set to zero.
static LARGEST: AtomicUsize = AtomicUsize::new(0);
/// How many there were.
static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);
/// What counts everything runs alone.
static ALONE: Mutex<()> = Mutex::new(());

struct Counting;

// SAFETY: every call goes to `System` with the arguments that it came with; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LARGEST.fetch_max(layout.size(), Relaxed);
        ALLOCATIONS.fetch_add(1, Relaxed);
        // SAFETY: the caller keeps the contract of `GlobalAlloc::alloc`, which is that of `System`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        LARGEST.fetch_max(layout.size(), Relaxed);
        // SAFETY: as in `alloc`.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        LARGEST.fetch_max(size, Relaxed);
        // SAFETY: `memory` came from `System`, because every allocation of this type does.
        unsafe { System.realloc(memory, layout, size) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: as in `realloc`.
        unsafe { System.dealloc(memory, layout) }
    }
}

/// How much more than what it received a link may allocate at once.
const BOUND: usize = 64 * 1024;

/// Handlers whose arguments announce how long they are.
fn api() -> Api {
    Api::new("take")
        .handle("bytes", |_: &Context, bytes: Vec<u8>| Ok::<_, Fault>(bytes.len()))
        .and_then(|api| api.handle("text", |_: &Context, text: String| Ok::<_, Fault>(text.len())))
        .and_then(|api| api.handle("units", |_: &Context, units: Vec<()>| Ok::<_, Fault>(units.len())))
        .and_then(|api| api.handle("texts", |_: &Context, texts: Vec<String>| Ok::<_, Fault>(texts.len())))
        .unwrap()
}

/// A length as the codec writes it.
fn length(len: u64) -> Vec<u8> {
    [&[0xfd][..], &len.to_le_bytes()].concat()
}

/// Frames that announce far more than they hold, each with the kind of frame that comes back.
fn lies() -> Vec<(&'static str, Vec<u8>, u8)> {
    let id = Side::Neck.id(1);
    let calling = |path: &str, len: u64| frame(CALL, 0, id, &call(path, &length(len)));
    let first_part = frame(CALL, MORE, id, &call("take.bytes", &length(u64::MAX)));
    let mut lies = vec![
        ("d_14_a_frame_of_4_gib", frame_of_length(u32::MAX), BYE),
        ("d_15_a_frame_over_its_limit", frame_of_length(61_440 - 4 + 1), BYE),
        ("d_15_a_frame_at_its_limit", frame_of_length(61_440 - 4), BYE),
        ("a_first_part", [first_part, frame(PING, 0, 1, &[])].concat(), PONG),
        ("a_path_that_is_cut_off", frame(CALL, 0, id, &call("take.bytes", &[])[..25]), BYE),
        ("an_unknown_path", frame(CALL, 0, id, &call("take.nothing", &length(u64::MAX))), FAULT),
    ];
    for path in ["take.bytes", "take.text", "take.units", "take.texts"] {
        for len in [u64::MAX, 1 << 62, 1 << 40, (1 << 32) - 1, 1 << 27] {
            lies.push((path, calling(path, len), FAULT));
        }
    }
    lies
}

/// What the bytes travel over.
type Make = fn() -> (Transport, Transport);

const PIPE: Make = || pipe_pair().expect("a pair of sockets");

/// A Head, and the Neck that is played by hand; the count starts anew.
fn ends(make: Make) -> (Head, Raw) {
    let (ours, theirs) = make();
    let head = Head::builder().serve(api()).over(theirs).unwrap();
    let mut raw = Raw::new(Side::Neck, ours);
    raw.greet();
    assert_eq!(head.wait_open(Duration::from_secs(10)), LinkState::Open);
    LARGEST.store(0, Relaxed);
    (head, raw)
}

/// Sends `packet` to a Head, waits for a frame of this kind, and gives the largest allocation.
fn largest(make: Make, packet: &[u8], back: u8) -> usize {
    let (head, mut raw) = ends(make);
    raw.send_as_is(packet);
    if raw.is_stream() && ends_within_a_frame(packet) {
        // It waits for the rest. All has been read when the end is seen.
        raw.hang_up();
        while head.state() != LinkState::Closed {
            thread::sleep(Duration::from_millis(1));
        }
    } else {
        raw.next_of(back);
    }
    drop(head);
    LARGEST.load(Relaxed)
}

/// Gives a Head this answer, and gives the largest allocation.
fn largest_of_answer(make: Make, body: &[u8]) -> usize {
    let (head, mut raw) = ends(make);
    let result = head.api("raw").action("x", ()).start::<Vec<u8>>().unwrap();
    let asked = raw.next_of(CALL);
    LARGEST.store(0, Relaxed);
    raw.send(REPLY, 0, asked.id, body);
    assert!(matches!(result.wait(), Err(CallError::Decode(_))));
    LARGEST.load(Relaxed)
}

/// A blocking call is none the dearer for what the library can tell of it: a report of what hangs, a heartbeat
/// that is off, a watchdog that is off.
#[test]
fn a_call_allocates_no_more_often_than_it_must() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let (head, neck) = Head::in_process().unwrap();
    assert!(allocations_of_a_call(&head, neck) <= IN_PROCESS);
    let (ours, theirs) = pipe_pair().unwrap();
    let (head, neck) = (Head::builder().over(ours).unwrap(), Neck::builder().over(theirs).unwrap());
    assert!(allocations_of_a_call(&head, neck) <= OVER_A_PIPE);
    // Nor if its handler is counted.
    let inspected = Neck::builder().serve(Inspection::new().into_api());
    let (head, neck) = Head::builder().in_process_with(inspected).unwrap();
    assert!(allocations_of_a_call(&head, neck) <= IN_PROCESS);
    let inspected = Neck::builder().serve(Inspection::new().into_api());
    let (ours, theirs) = pipe_pair().unwrap();
    let (head, neck) = (Head::builder().over(ours).unwrap(), inspected.over(theirs).unwrap());
    assert!(allocations_of_a_call(&head, neck) <= OVER_A_PIPE);
}

/// The median of many calls: now and then a table grows.
fn allocations_of_a_call(head: &Head, neck: Neck) -> usize {
    let echo = Api::new("echo").handle("number", |_: &Context, n: u64| Ok::<_, Fault>(n)).unwrap();
    let _neck = neck.serve(echo).unwrap().start();
    let api = head.api("echo");
    let mut counts: Vec<usize> = (0..501u64)
        .map(|n| {
            let before = ALLOCATIONS.load(Relaxed);
            assert_eq!(api.action("number", n).call::<u64>().unwrap(), n);
            ALLOCATIONS.load(Relaxed) - before
        })
        .collect();
    counts.sort_unstable();
    counts[counts.len() / 2]
}

/// What it was before there was anything to tell.
const IN_PROCESS: usize = 4;
const OVER_A_PIPE: usize = 8;

#[test]
fn d_14_lengths_that_lie_allocate_nothing() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let test = thread::spawn(|| {
        lengths_that_lie_allocate_nothing();
        // Not a test of its own, which would run at the same time.
        #[cfg(feature = "macros")]
        a_call_to_a_method_allocates_as_often_as_one_by_name();
    });
    let deadline = Instant::now() + Duration::from_secs(60);
    while !test.is_finished() {
        assert!(Instant::now() < deadline, "it hangs");
        thread::sleep(Duration::from_millis(5));
    }
    test.join().unwrap_or_else(|panic| resume_unwind(panic));
}

fn lengths_that_lie_allocate_nothing() {
    for make in [memory_pair, PIPE] {
        lengths_that_lie_allocate_nothing_over(make);
    }
}

fn lengths_that_lie_allocate_nothing_over(make: Make) {
    // What is there once for all threads is allocated now.
    largest(make, &frame(PING, 0, 1, &[]), PONG);
    for (name, packet, back) in lies() {
        let largest = largest(make, &packet, back);
        assert!(largest <= BOUND + packet.len(), "{name}: {largest} bytes for {}", packet.len());
    }
    for len in [u64::MAX, 1 << 40, 1 << 27] {
        let largest = largest_of_answer(make, &length(len));
        assert!(largest <= BOUND, "an answer of {len}: {largest} bytes");
    }
    // It can fail: what really comes is kept.
    let honest = frame(CALL, 0, Side::Neck.id(1), &call("take.text", &[0xff; 60_000]));
    let honest = largest(make, &honest, FAULT);
    assert!(honest >= 60_000, "{honest} bytes only");
}

#[cfg(feature = "macros")]
#[nape::api("math")]
trait Math {
    fn add(&self, a: u64, text: &str) -> u64;
}

#[cfg(feature = "macros")]
fn a_call_to_a_method_allocates_as_often_as_one_by_name() {
    struct MyMath;
    impl Math for MyMath {
        fn add(&self, a: u64, text: &str) -> u64 {
            a + text.len() as u64
        }
    }
    const CALLS: u64 = 2000;
    let (head, neck) = Head::in_process().unwrap();
    let _neck = neck.serve(MyMath.into_api()).unwrap().start();
    let (math, by_name) = (MathClient::on(&head), head.api("math"));
    let count = |call: &dyn Fn(u64) -> u64| {
        (0..100).for_each(|n| assert_eq!(call(n), n + 3));
        let before = ALLOCATIONS.load(Relaxed);
        (0..CALLS).for_each(|n| assert_eq!(call(n), n + 3));
        ALLOCATIONS.load(Relaxed) - before
    };
    let typed = count(&|n| math.add(n, "abc").call().unwrap());
    let named = count(&|n| by_name.action("add", (n, "abc".to_owned())).call().unwrap());
    // A thread that comes or goes allocates, too.
    assert!(typed.abs_diff(named) < CALLS as usize / 10, "{typed} allocations, and {named} by name");
}
