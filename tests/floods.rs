//! What a link holds while a peer floods it, or reads nothing: never more than its limits say. A binary of its own,
//! since it counts every byte that is allocated, those of the peer in this process included.
//!
//! Each turns red without its bound: `Ledger::take` that always finds room for what comes, `Outbox::has_room` for
//! what goes, `Link::await_room` for answers, `REPORTS` for what waits for the hook.

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
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use nape::{
    Api, AsyncResult, Backlog, CallError, Config, Context, Fault, Head, Incoming, Limits, LinkState, Next,
    Payload, Subscription,
    transport::{Transport, memory_pair, pipe_pair, shm_pair},
};
use raw::*;

#[global_allocator]
static COUNTING: Counting = Counting;

/// How many bytes are allocated, and the most since it was last set.
static LIVE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);
/// What counts everything runs alone.
static ALONE: Mutex<()> = Mutex::new(());

struct Counting;

fn grow(bytes: usize) {
    PEAK.fetch_max(LIVE.fetch_add(bytes, Relaxed) + bytes, Relaxed);
}

// SAFETY: every call goes to `System` with the arguments that it came with; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        grow(layout.size());
        // SAFETY: the caller keeps the contract of `GlobalAlloc::alloc`, which is that of `System`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        grow(layout.size());
        // SAFETY: as in `alloc`.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if size > layout.size() {
            grow(size - layout.size());
        } else {
            LIVE.fetch_sub(layout.size() - size, Relaxed);
        }
        // SAFETY: `memory` came from `System`, because every allocation of this type does.
        unsafe { System.realloc(memory, layout, size) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Relaxed);
        // SAFETY: as in `realloc`.
        unsafe { System.dealloc(memory, layout) }
    }
}

const EVENT_OF: usize = 60_000;
const ITEM: u8 = 9;
const OPEN: u8 = 15;
/// The window of a link is given back as frames are read, so that a flood goes on until one of these.
const LONG: Duration = Duration::from_secs(5);
const MANY: u64 = 40_000;

/// A link with a flood on it.
struct Flood {
    head: Head,
    raw: Raw,
    limits: Limits,
    before: usize,
    /// Lets the handlers go.
    _gate: mpsc::Sender<()>,
    began: Instant,
}

impl Flood {
    /// A Head that serves what takes nothing and what gives much, and has a hook that stands still.
    fn new(make: fn() -> (Transport, Transport), limits: Limits) -> Flood {
        let (gate, closed) = mpsc::channel::<()>();
        let closed = std::sync::Arc::new(Mutex::new(closed));
        let stuck = move || _ = closed.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let (stop, halt, hook) = (stuck.clone(), stuck.clone(), stuck);
        let api = Api::new("flood")
            .workers(1)
            .queue(1 << 20, nape::WhenFull::Refuse)
            .handle("stand", move |_: &Context, _: Payload| -> Result<(), Fault> {
                stop();
                Ok(())
            })
            .and_then(|api| {
                api.upload("take", move |_: &Context, (): (), _: Incoming<Payload>| -> Result<(), Fault> {
                    halt();
                    Ok(())
                })
            })
            .unwrap();
        let much = Api::new("much")
            .workers(1)
            .handle("give", |_: &Context, n: u32| Ok::<_, Fault>(Payload::from_bytes(vec![7; n as usize])))
            .and_then(|api| {
                api.handle("fail", |_: &Context, n: u32| Err::<(), _>(Long("x".repeat(n as usize))))
            })
            .and_then(|api| {
                let items = |n: u32| {
                    (0..).map(move |_: u32| Ok::<_, Fault>(Payload::from_bytes(vec![7; n as usize])))
                };
                api.stream("make", move |_: &Context, n: u32| Ok::<_, Fault>(items(n)))
            })
            .unwrap();
        let (ours, theirs) = make();
        let before = settled();
        let config = Config::new().limits(limits.clone()).grace(Duration::ZERO);
        let head = Head::builder().config(config).serve(api).serve(much).over(theirs).unwrap();
        head.on_error(move |_| hook());
        let mut raw = Raw::new(Side::Neck, ours);
        raw.greet();
        assert_eq!(head.wait_open(LONG), LinkState::Open);
        PEAK.store(LIVE.load(Relaxed), Relaxed);
        Flood { head, raw, limits, before, _gate: gate, began: Instant::now() }
    }

    /// Sends a frame, unless the link has ended or the time is over. What comes back is dropped.
    fn send(&mut self, kind: u8, flags: u8, id: u64, body: &[u8]) -> bool {
        let sent = self.began.elapsed() < LONG
            && self.head.close_reason().is_none()
            && self.raw.send(kind, flags, id, body);
        self.raw.forget();
        sent
    }

    /// Sends a message in as many frames as it takes.
    fn send_cut(&mut self, kind: u8, id: u64, body: &[u8]) -> bool {
        let n = body.len().div_ceil(EVENT_OF).max(1);
        let flags = |at| if at + 1 < n { MORE } else { 0 } | if at > 0 { CONTINUES } else { 0 };
        let mut chunks = body.chunks(EVENT_OF).enumerate();
        chunks.all(|(at, chunk)| self.send(kind, flags(at), id, chunk))
    }

    fn id(&self, counter: u64) -> u64 {
        self.raw.side.id(counter)
    }

    /// Everything that was held, against what may be. At least so much has to come of the flood.
    fn ends_within(self, name: &str, least: usize) {
        // What was sent last is still on its way.
        let (began, held) = (Instant::now(), || PEAK.load(Relaxed).saturating_sub(self.before));
        while held() < least && began.elapsed() < LONG {
            thread::sleep(Duration::from_millis(10));
        }
        wait_until_still(&self);
        let held = held();
        let total = self.limits.total_bytes();
        eprintln!("{name}: {held} bytes of {total}, {:?}", self.head.close_reason().map(|it| it.to_string()));
        assert!(held <= total, "{name}: {held} bytes are held, and {total} may be");
        assert!(held >= least, "{name}: {held} bytes are no flood");
    }
}

/// How many bytes are allocated between two links. Whatever the last one held is given back.
fn settled() -> usize {
    static BASE: AtomicUsize = AtomicUsize::new(0);
    if BASE.load(Relaxed) == 0 {
        // What is there once for all links is made by the first.
        drop(Head::in_process().unwrap());
        thread::sleep(Duration::from_millis(100));
        BASE.store(LIVE.load(Relaxed), Relaxed);
    }
    let (began, mut before) = (Instant::now(), usize::MAX);
    loop {
        thread::sleep(Duration::from_millis(20));
        let now = LIVE.load(Relaxed);
        let kept = now.saturating_sub(BASE.load(Relaxed));
        if kept <= KEPT && std::mem::replace(&mut before, now) == now {
            return now;
        }
        assert!(began.elapsed() < LONG, "{kept} bytes of the last link are kept");
    }
}

/// How much the process may keep of a link for the next one.
const KEPT: usize = 256 * 1024;

/// An error that is a value, and a long one.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
struct Long(String);

impl std::fmt::Display for Long {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("long")
    }
}

impl std::error::Error for Long {}

const MIB: usize = 1 << 20;

fn small() -> Limits {
    Limits::new()
        .message_bytes(MIB)
        .received_bytes(4 * MIB)
        .send_queue_bytes(2 * MIB)
        .served_calls(256)
        .in_flight(256)
        .send_queue(256)
}

fn number(n: u32) -> Vec<u8> {
    [&[0xfc][..], &n.to_le_bytes()].concat()
}

/// Blocks the one worker.
fn stand(flood: &mut Flood) {
    let id = flood.id(1 << 40);
    assert!(flood.send(CALL, 0, id, &call("flood.stand", &[])));
}

// What comes.

fn half_messages(flood: &mut Flood) -> usize {
    let part = call("flood.stand", &[7; EVENT_OF - 100]);
    for round in 0..20 {
        for id in 1..=60 {
            let (id, flags) = (flood.id(id), if round > 0 { MORE | CONTINUES } else { MORE });
            if round < 17 && !flood.send(CALL, flags, id, &part) {
                return 3 * MIB;
            }
        }
    }
    3 * MIB
}

fn huge_calls(flood: &mut Flood) -> usize {
    stand(flood);
    let body = call("flood.stand", &vec![7; MIB - 100]);
    (1..100).all(|id| flood.send_cut(CALL, flood.id(id), &body));
    3 * MIB
}

fn calls_that_wait(flood: &mut Flood) -> usize {
    stand(flood);
    let body = call("flood.stand", &[7; 900]);
    (1..MANY).all(|id| flood.send(CALL, 0, flood.id(id), &body));
    200 * 900
}

fn calls_and_cancels(flood: &mut Flood) -> usize {
    stand(flood);
    let body = call("flood.stand", &[7; 900]);
    (1..MANY).all(|id| {
        let id = flood.id(id);
        flood.send(CALL, 0, id, &body) && flood.send(CANCEL, 0, id, &[])
    });
    10_000
}

fn huge_events(flood: &mut Flood) -> usize {
    stand(flood);
    let body = event("flood.stand", &vec![7; MIB - 100]);
    (1..100).all(|id| flood.send_cut(EVENT, flood.id(id), &body));
    3 * MIB
}

fn small_events(flood: &mut Flood) -> usize {
    stand(flood);
    let body = event("flood.stand", &[]);
    (1..MANY).all(|id| flood.send(EVENT, 0, flood.id(id), &body));
    MIB
}

fn events_for_nobody(flood: &mut Flood) -> usize {
    let body = event(&"x".repeat(255), &[7; 100]);
    (1..MANY).all(|id| flood.send(EVENT, 0, flood.id(id), &body));
    // The hook stands still: what waits for it has a bound.
    wait_until_still(flood);
    let held = PEAK.load(Relaxed) - flood.before;
    assert!(held < MIB && flood.head.counters().reports_dropped > 0, "{held} bytes are held");
    50_000
}

fn items_that_nobody_takes(flood: &mut Flood) -> usize {
    let opening = [&[1u8][..], &[0; 8], &call("flood.take", &[])].concat();
    for id in 1..200 {
        if !flood.send(OPEN, 0, flood.id(id), &opening) {
            break;
        }
    }
    stand(flood);
    // The one that runs has been granted a window; whatever else is sent is out of place.
    let item = [&(EVENT_OF as u32).to_le_bytes()[..], &[7; EVENT_OF]].concat();
    (0..16).all(|_| flood.send(ITEM, 0, flood.id(1), &item));
    MIB / 2
}

fn items_for_callers_that_take_none(flood: &mut Flood) -> usize {
    let open = |n: u8| flood.head.api("raw").action("x", n).open::<Payload>();
    let opened: Vec<_> = (0..100).map(|n| open(n).unwrap()).collect();
    let item = [&(EVENT_OF as u32).to_le_bytes()[..], &[7; EVENT_OF]].concat();
    for id in 1..=100u64 {
        (0..17).all(|_| flood.send(ITEM, 0, id, &item));
    }
    wait_until_still(flood);
    let ends = |stream: &mut Incoming<Payload>| loop {
        match stream.try_next() {
            Ok(Next::Item(_)) => {}
            other => break matches!(other, Err(CallError::Fault(_))),
        }
    };
    let n_ended = opened.into_iter().map(|mut stream| ends(&mut stream)).filter(|ended| *ended).count();
    assert!((80..100).contains(&n_ended), "{n_ended} found no room");
    3 * MIB
}

fn answers_that_nobody_takes(flood: &mut Flood) -> usize {
    let start = |n: u32| flood.head.api("raw").action("x", n).start::<Payload>().unwrap();
    let results: Vec<AsyncResult<Payload>> = (0..100).map(start).collect();
    let answer = vec![7; MIB - 10];
    (1..=100u64).all(|id| flood.send_cut(REPLY, id, &answer));
    let ends: Vec<_> = results.into_iter().map(|mut result| result.wait_timeout(LONG).map(drop)).collect();
    let n_values = ends.iter().filter(|end| end.is_ok()).count();
    let n_faults = ends.iter().filter(|end| matches!(end, Err(CallError::Fault(_)))).count();
    assert!(n_values >= 3 && n_faults >= 90 && n_values + n_faults == 100, "{n_values} and {n_faults}");
    3 * MIB
}

fn errors_that_nobody_takes(flood: &mut Flood) -> usize {
    let start = |n: u32| flood.head.api("raw").action("x", n).start::<()>().unwrap();
    let results: Vec<_> = (0..100).map(start).collect();
    let mut body = fault(33, &[b"x"]);
    body.resize(MIB - 10, 7);
    (1..=100u64).all(|id| flood.send_cut(FAULT, id, &body));
    drop(results);
    3 * MIB
}

fn items_that_no_subscription_reads(flood: &mut Flood) -> usize {
    let endpoint = flood.head.endpoint().clone();
    let subscribing =
        thread::spawn(move || endpoint.subscribe::<nape::Bytes>("news", Backlog::drop_newest(1000)).unwrap());
    let asked = flood.raw.next_of(CALL);
    flood.raw.send(REPLY, 0, asked.id, &[]);
    let subscription: Subscription<nape::Bytes> = subscribing.join().unwrap();
    // Behind the path, its number comes first.
    let number = asked.body[21 + usize::from(asked.body[20])];
    let body = event(&format!("news.item.{number}"), &vec![7; MIB / 4]);
    (1..200).all(|id| flood.send_cut(EVENT, flood.id(id), &body));
    wait_until_still(flood);
    drop(subscription);
    3 * MIB
}

// What goes.

fn answers_that_are_not_read(flood: &mut Flood) -> usize {
    flood.raw.hold_back();
    let body = call("much.give", &number(MIB as u32 / 2));
    (1..300).all(|id| flood.send(CALL, 0, flood.id(id), &body));
    wait_until_still(flood);
    MIB
}

fn small_answers_that_are_not_read(flood: &mut Flood) -> usize {
    flood.raw.hold_back();
    let body = call("much.give", &number(900));
    (1..MANY).all(|id| flood.send(CALL, 0, flood.id(id), &body));
    wait_until_still(flood);
    100 * 900
}

fn errors_that_are_not_read(flood: &mut Flood) -> usize {
    flood.raw.hold_back();
    let body = call("much.fail", &number(MIB as u32 / 2));
    (1..300).all(|id| flood.send(CALL, 0, flood.id(id), &body));
    wait_until_still(flood);
    MIB
}

fn refusals_that_are_not_read(flood: &mut Flood) -> usize {
    flood.raw.hold_back();
    let body = call(&"x".repeat(255), &[]);
    (1..MANY).all(|id| flood.send(CALL, 0, flood.id(id), &body));
    100 * 255
}

fn items_that_are_not_read(flood: &mut Flood) -> usize {
    flood.raw.hold_back();
    let way = [&[2u8][..], &(1u32 << 20).to_le_bytes(), &(1u32 << 30).to_le_bytes()].concat();
    let opening = [&way[..], &call("much.make", &number(30_000))].concat();
    (1..100).all(|id| flood.send(OPEN, 0, flood.id(id), &opening));
    wait_until_still(flood);
    MIB
}

fn events_that_are_not_read(flood: &mut Flood) -> usize {
    flood.raw.hold_back();
    let fire = |n: usize| flood.head.api("raw").action("x", Payload::from_bytes(vec![7; n])).fire();
    let n = (0..10_000).take_while(|n| fire(if n % 2 == 0 { MIB / 2 } else { 10 }).is_ok()).count();
    assert!(n < 10_000);
    MIB
}

fn calls_that_are_not_read(flood: &mut Flood) -> usize {
    flood.raw.hold_back();
    let start = |n: usize| flood.head.api("raw").action("x", Payload::from_bytes(vec![7; n])).start::<()>();
    let results: Vec<_> = (0..10_000).map_while(|_| start(10_000).ok()).collect();
    assert!(results.len() < 10_000);
    MIB
}

fn quotas_that_are_not_read(flood: &mut Flood) -> usize {
    let mut stream = flood.head.api("raw").action("x", ()).open::<u8>().unwrap();
    flood.raw.hold_back();
    let item = [1, 0, 0, 0, 7].repeat(32);
    for _ in 0..2000 {
        if !flood.send(ITEM, 0, 1, &item) {
            break;
        }
        (0..32).for_each(|_| _ = stream.next());
    }
    // However many were to be sent, one waits.
    let held = PEAK.load(Relaxed) - flood.before;
    assert!(held < 100_000, "{held} bytes are held");
    0
}

/// Until nothing happens any more.
fn wait_until_still(flood: &Flood) {
    let mut before = (0, 0);
    loop {
        thread::sleep(Duration::from_millis(100));
        let counters = flood.head.counters();
        let now = (counters.items_sent + counters.calls_served, PEAK.load(Relaxed) as u64);
        if std::mem::replace(&mut before, now) == now {
            return;
        }
    }
}

type Case = (&'static str, fn(&mut Flood) -> usize);

const CASES: &[Case] = &[
    ("half messages", half_messages),
    ("huge calls", huge_calls),
    ("calls that wait", calls_that_wait),
    ("calls and cancels", calls_and_cancels),
    ("huge events", huge_events),
    ("small events", small_events),
    ("events for nobody", events_for_nobody),
    ("items that nobody takes", items_that_nobody_takes),
    ("items for callers that take none", items_for_callers_that_take_none),
    ("answers that nobody takes", answers_that_nobody_takes),
    ("errors that nobody takes", errors_that_nobody_takes),
    ("items that no subscription reads", items_that_no_subscription_reads),
    ("answers that are not read", answers_that_are_not_read),
    ("small answers that are not read", small_answers_that_are_not_read),
    ("errors that are not read", errors_that_are_not_read),
    ("refusals that are not read", refusals_that_are_not_read),
    ("items that are not read", items_that_are_not_read),
    ("events that are not read", events_that_are_not_read),
    ("calls that are not read", calls_that_are_not_read),
    ("quotas that are not read", quotas_that_are_not_read),
];

fn flood_over(make: fn() -> (Transport, Transport)) {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let rounds = wanted_rounds().unwrap_or(1).div_ceil(10);
    for (name, run) in (0..rounds).flat_map(|_| CASES) {
        let mut flood = Flood::new(make, small());
        let least = run(&mut flood);
        flood.ends_within(name, least);
    }
}

/// How many rounds `NAPE_ROUNDS` asks for, if it does: each flood comes in every tenth.
fn wanted_rounds() -> Option<u64> {
    std::env::var("NAPE_ROUNDS").ok().map(|told| told.parse().expect("NAPE_ROUNDS is a number"))
}

/// Runs a test that ends the process when it hangs.
fn watched(test: fn()) {
    let test = thread::spawn(test);
    let patience = if wanted_rounds().is_some() { 1000 } else { 1 };
    let deadline = Instant::now() + patience * Duration::from_secs(100);
    while !test.is_finished() {
        assert!(Instant::now() < deadline, "it hangs");
        thread::sleep(Duration::from_millis(5));
    }
    test.join().unwrap_or_else(|panic| resume_unwind(panic));
}

#[test]
fn p_15_floods_over_memory() {
    watched(|| flood_over(memory_pair));
}

#[test]
fn p_15_floods_over_a_pipe() {
    watched(|| flood_over(|| pipe_pair().unwrap()));
}

#[test]
fn p_15_floods_over_shared_memory() {
    watched(|| flood_over(|| shm_pair().unwrap()));
}

/// Calls that are answered when their time is over leave nothing. Red when something of each is kept.
#[test]
fn p_05_late_answers_cost_no_memory() {
    fn late(make: fn() -> (Transport, Transport)) {
        let (hand_over, kept) = mpsc::channel::<(u64, nape::Responder<u64>, Instant)>();
        let keep = move |_: Context, n: u64, answer| {
            let _ = hand_over.send((n, answer, Instant::now()));
        };
        let (ours, theirs) = make();
        let api = Api::new("a").deferred("late", keep).unwrap();
        let head = Head::builder().over(ours).unwrap();
        let neck = nape::Neck::builder().serve(api).over(theirs).unwrap().start();
        let answer = thread::spawn(move || {
            for (n, late, came) in kept {
                thread::sleep(Duration::from_millis(2).saturating_sub(came.elapsed()));
                late.answer(n);
            }
        });
        let call = |n: u64| head.api("a").action("late", n).timeout(Duration::from_millis(1)).start::<u64>();
        let rounds = |n: u64| {
            for batch in 0..n {
                let calls: Vec<_> = (0..50).map(|at| (50 * batch + at, call(50 * batch + at))).collect();
                for (n, call) in calls {
                    match call.and_then(AsyncResult::wait) {
                        Ok(answer) => assert_eq!(answer, n),
                        Err(error) => assert!(matches!(error, CallError::TimedOut { .. }), "{error:?}"),
                    }
                }
                // Those that are late are answered, or they would be too many.
                thread::sleep(Duration::from_millis(3));
            }
            thread::sleep(Duration::from_millis(200));
        };
        rounds(20);
        let before = LIVE.load(Relaxed);
        rounds(100);
        let grown = LIVE.load(Relaxed).saturating_sub(before);
        assert!(head.counters().timeouts > 1000, "{:?}", head.counters());
        assert!(grown < MIB, "{grown} bytes more");
        drop((head, neck));
        answer.join().unwrap();
    }
    watched(|| {
        let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        for make in [memory_pair, || pipe_pair().unwrap(), || shm_pair().unwrap()] {
            late(make);
        }
    });
}

#[test]
fn p_15_a_link_with_the_usual_limits_holds_less_than_64_mib() {
    fn flood() {
        let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        for (name, run) in
            [("half messages", half_messages as fn(&mut Flood) -> usize), ("huge calls", huge_calls)]
        {
            let mut flood = Flood::new(memory_pair, Limits::new());
            let least = run(&mut flood);
            assert!(flood.limits.total_bytes() < 64 * MIB);
            flood.ends_within(name, 5 * least);
        }
    }
    watched(flood);
}
