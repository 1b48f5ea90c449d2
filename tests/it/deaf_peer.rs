//! A peer that stops to read, or never says that it has read: it costs us what was configured and no
//! more, and hangs nobody.

use std::{
    io::ErrorKind,
    os::unix::net::UnixStream,
    thread,
    time::{Duration, Instant},
};

use crossbeam_channel::Receiver;
use nape::{
    Api, Backlog, CallError, CloseReason, Config, Context, Executed, Fault, Head, HeadBuilder, LinkState,
    Neck, Silence, Topic,
    transport::{ipc_pair, memory_pair, pipe_over, pipe_pair, shm_pair, tcp_pair},
};

use crate::{
    raw_end::{CALL, EVENT, PING, REPLY, RawNeck},
    support::Kind,
    tools::{LONG, SOON, is_busy, until},
};

/// A Head, and a Neck that has greeted and does nothing else by itself.
fn with_raw_neck(kind: Kind, builder: HeadBuilder) -> (Head, RawNeck) {
    let (ours, theirs) = match kind {
        Kind::Channel => unreachable!("it has no frames that anybody could leave unread"),
        #[cfg(feature = "json")]
        Kind::Json => unreachable!("what the peer reads is bytes to it"),
        Kind::Encoded => memory_pair(),
        Kind::Ipc => ipc_pair().unwrap(),
        Kind::Pipe => pipe_pair().unwrap(),
        #[cfg(all(feature = "compression", feature = "encryption"))]
        Kind::Filtered => unreachable!("a peer that is played by hand has no filters"),
        Kind::Tcp => tcp_pair().unwrap(),
        Kind::Shm => shm_pair().unwrap(),
    };
    let head = builder.over(ours).unwrap();
    let neck = RawNeck::ready(theirs);
    assert_eq!(head.wait_open(LONG), LinkState::Open);
    (head, neck)
}

/// Fires until the queue is full, and says how many events were taken.
fn fill(head: &Head, bytes: usize) -> usize {
    for n in 0..1_000_000 {
        let fired = head.api("deaf").action("ear", vec![7u8; bytes]).fire();
        if is_busy(&fired, "deaf.ear") {
            return n;
        }
        fired.unwrap();
    }
    panic!("the queue has no end");
}

fn ac_63_a_queue_for_a_deaf_peer_fills_up_and_says_so(kind: Kind) {
    let config = Config::new().send_queue(50);
    let (head, neck) = with_raw_neck(kind, Head::builder().config(config));
    let n = fill(&head, 1);
    // What the window lets out, and what waits behind it.
    assert!((50..=50 + 128).contains(&n), "{n} events");
    let api = head.api("deaf");
    assert!(is_busy(&api.action("ear", ()).fire(), "deaf.ear"));
    assert!(is_busy(&api.action("ear", ()).start::<()>().map(drop), "deaf.ear"));
    assert!(is_busy(&api.action("ear", ()).then(|_: Result<(), _>| unreachable!()), "deaf.ear"));
    assert_eq!(head.under_way(), (0, 0));
    drop(neck);
}

fn ac_63_the_bytes_for_a_deaf_peer_have_a_bound(kind: Kind) {
    let config = Config::new().send_queue(1_000_000).send_queue_bytes(300_000);
    let (head, _neck) = with_raw_neck(kind, Head::builder().config(config));
    let n = fill(&head, 10_000);
    let bytes = n * 10_000;
    assert!((300_000..300_000 + 160_000 + 20_000).contains(&bytes), "{bytes} bytes");
}

/// Messages that do not fit into a frame leave in parts, and what is left of them counts as well.
fn ac_63_the_bytes_of_large_messages_have_a_bound(kind: Kind) {
    let config = Config::new().send_queue(1_000_000).send_queue_bytes(1_000_000);
    let (head, mut neck) = with_raw_neck(kind, Head::builder().config(config));
    let mut n = fill(&head, 200_000);
    // Reads a little, again and again, so that a part of something may leave each time.
    for _ in 0..40 {
        while !neck.receive(Duration::from_millis(5)).is_empty() {}
        let ack = neck.read;
        neck.send(crate::raw_end::CREDIT, 0, ack, &[]);
        until("some of it has left", || head.counters().events_sent == n as u64);
        n += fill(&head, 200_000);
    }
    let held = n * 200_000 - neck.read.1 as usize;
    // The queue, a message over it, the few that have left in part, and the window.
    assert!(held < 1_000_000 + 200_000 + 4 * 200_000 + 200_000, "{held} bytes are held");
}

fn ac_63_blocked_calls_to_a_deaf_peer_time_out(kind: Kind) {
    let config = Config::new().send_queue(10);
    let (head, _neck) = with_raw_neck(kind, Head::builder().config(config));
    fill(&head, 1);
    let limit = Duration::from_millis(80);
    thread::scope(|scope| {
        for _ in 0..10 {
            scope.spawn(|| {
                let began = Instant::now();
                let end = head.api("deaf").action("ear", ()).timeout(limit).call::<()>();
                let in_vain = matches!(&end, Err(CallError::TimedOut { executed: Executed::No, .. }));
                assert!(in_vain, "{end:?}");
                let took = began.elapsed();
                assert!(took >= limit && took < limit + SOON, "{took:?}");
            });
        }
    });
    assert_eq!(head.under_way(), (0, 0));
}

fn ac_63_a_call_that_left_for_a_deaf_peer_times_out(kind: Kind) {
    let (head, mut neck) = with_raw_neck(kind, Head::builder());
    let limit = Duration::from_millis(80);
    let began = Instant::now();
    let end = head.api("deaf").action("ear", ()).timeout(limit).call::<()>();
    let may_have_run = matches!(&end, Err(CallError::TimedOut { executed: Executed::Maybe, .. }));
    assert!(may_have_run && began.elapsed() < limit + SOON, "{end:?} after {:?}", began.elapsed());
    let frames: Vec<_> = std::iter::repeat_with(|| neck.receive(SOON)).take(3).flatten().collect();
    assert!(frames.iter().any(|frame| frame.kind == CALL), "{frames:?}");
}

/// Red when whoever cancels waits for room.
fn p_06_cancelling_in_front_of_a_deaf_peer_waits_for_nothing(kind: Kind) {
    let config = Config::new().send_queue(50);
    let (head, _neck) = with_raw_neck(kind, Head::builder().config(config));
    let start = || head.api("deaf").action("ear", ()).start::<()>();
    // Some have left, and some wait.
    let calls: Vec<_> = std::iter::from_fn(|| start().ok()).take(100_000).collect();
    assert!((50..100_000).contains(&calls.len()), "{} calls", calls.len());
    fill(&head, 1);
    let mut times = Vec::new();
    for (at, call) in calls.into_iter().enumerate() {
        let began = Instant::now();
        if at % 2 == 0 {
            call.cancel();
        }
        drop(call);
        times.push(began.elapsed());
    }
    times.sort();
    // The promise is a millisecond; a busy machine may put a thread aside for longer, now and then.
    let (middle, most) = (times[times.len() / 2], times[times.len() - 1]);
    assert!(middle < Duration::from_millis(1) && most < SOON, "{middle:?}, {most:?}");
    assert_eq!(head.under_way(), (0, 0));
}

/// Time-outs free what they hold, or a caller that tries again and again would fill the memory.
fn ac_63_calls_that_time_out_leave_nothing_in_the_queue(kind: Kind) {
    let config = Config::new().send_queue(10);
    let (head, mut neck) = with_raw_neck(kind, Head::builder().config(config));
    for _ in 0..300 {
        let end =
            head.api("deaf").action("ear", vec![1u64; 100]).timeout(Duration::from_millis(1)).call::<()>();
        assert!(matches!(end, Err(CallError::TimedOut { .. })), "{end:?}");
    }
    let mut frames = 0;
    while let Some(n) = Some(neck.receive(SOON).len()).filter(|n| *n > 0) {
        frames += n;
    }
    assert!(frames <= 2 + 128 + 1, "{frames} frames left");
}

fn ac_63_closing_in_front_of_a_deaf_peer_takes_the_grace(kind: Kind) {
    let grace = Duration::from_millis(100);
    let config = Config::new().send_queue(10).grace(grace);
    let (head, _neck) = with_raw_neck(kind, Head::builder().config(config));
    let n = fill(&head, 1);
    let pending = thread::scope(|scope| {
        let pending = scope.spawn(|| {
            let end = head.api("deaf").action("ear", ()).call::<()>();
            (end, Instant::now())
        });
        until("the call is under way", || head.under_way().0 == 1);
        let began = Instant::now();
        head.close();
        let took = began.elapsed();
        assert!(took >= grace && took < grace + SOON * 2, "{took:?}");
        let (end, at) = pending.join().unwrap();
        assert!(at - began < grace + SOON, "calls end before the grace");
        end
    });
    assert!(matches!(pending, Err(CallError::Closed { executed: Executed::No, .. })), "{pending:?}");
    let counters = head.counters();
    assert_eq!(counters.events_sent, n as u64);
    assert!(counters.events_unsent >= 10, "{counters:?}");
    let began = Instant::now();
    drop(head);
    assert!(began.elapsed() < SOON * 2, "{:?}", began.elapsed());
}

/// A peer that makes calls and never acknowledges an answer cannot have answers kept for it for ever.
fn ac_63_answers_that_nobody_reads_have_a_bound(kind: Kind) {
    let config = Config::new().served_calls(20);
    let api = Api::new("a").handle("blob", |_: &Context, _: nape::Payload| Ok::<_, Fault>(vec![1u8; 2000]));
    let builder = Head::builder().config(config).serve(api.unwrap());
    let (head, mut neck) = with_raw_neck(kind, builder);
    let (mut sent, mut acknowledged) = (0u32, 0u32);
    let end = Instant::now() + LONG;
    while head.close_reason().is_none() && sent < 20_000 {
        assert!(Instant::now() < end, "{sent} calls were sent, {acknowledged} were read");
        // Keeps to its own window, and reads without ever saying so.
        if sent - acknowledged < neck.window() {
            neck.call("a.blob");
            sent += 1;
            continue;
        }
        let frames = neck.receive(Duration::from_millis(20));
        acknowledged = frames.iter().map(|frame| frame.acknowledged).fold(acknowledged, u32::max);
    }
    let reason = head.close_reason().map(|reason| reason.to_string());
    assert!(reason.as_deref().unwrap_or("still open").starts_with("protocol error"), "{reason:?}");
    assert!(head.counters().calls_served < 20 + 128 + 20, "{:?}", head.counters());
}

/// Has a peer send an event again and again, for whom much waits. It keeps to its own window, and reads without ever
/// saying so.
fn flood(head: &Head, neck: &mut RawNeck, body: &[u8], times: u32) {
    let before = head.counters().events_served;
    let end = Instant::now() + LONG;
    for _ in 0..times {
        while neck.sent - neck.acknowledged >= neck.window() {
            assert!(Instant::now() < end, "{} frames were sent, {} were read", neck.sent, neck.acknowledged);
            neck.receive(Duration::from_millis(20));
        }
        let id = neck.next_id();
        neck.send(EVENT, id, (0, 0), body);
    }
    until("all have come", || head.counters().events_served >= before + u64::from(times));
    assert_eq!((head.state(), head.counters().events_dropped), (LinkState::Open, 0));
}

/// Red when each word for which there is no room has a thread that waits for that.
fn p_15_what_a_deaf_peer_is_to_be_told_of_its_subscriptions_costs_one_thread(kind: Kind) {
    let topic = Topic::<u64>::new();
    let api = Api::new("news").topic("ticks", &topic).unwrap();
    let config = Config::new().send_queue(10).write_stall(LONG);
    let (head, mut neck) = with_raw_neck(kind, Head::builder().config(config).serve(api));
    fill(&head, 1);
    // An end for each, whether it has subscribed or not.
    flood(&head, &mut neck, b"\x16news.ticks.unsubscribe\x07", 1500);
    assert!(head.n_threads() < 20, "{} threads", head.n_threads());
    // An item for each: the number, how many may wait and be under way, any shape, the oldest goes.
    for number in 0..100 {
        let body = [b"\x14news.ticks.subscribe", &[number, 4, 4, 0, 0][..]].concat();
        flood(&head, &mut neck, &body, 1);
    }
    assert_eq!(topic.n_subscriptions(), 100);
    assert_eq!(topic.publish(7).taken, 100);
    assert!(head.n_threads() < 20, "{} threads", head.n_threads());
}

/// Red when each report for which there is no room has a thread that waits for that.
fn p_15_what_a_deaf_peer_is_to_be_told_of_its_items_costs_one_thread(kind: Kind) {
    let config = Config::new().send_queue(10).write_stall(LONG);
    let (head, mut neck) = with_raw_neck(kind, Head::builder().config(config));
    let news = thread::scope(|scope| {
        let subscribing = scope.spawn(|| head.subscribe::<u64>("news.ticks", Backlog::drop_oldest(4)));
        let call = loop {
            let call = neck.receive(LONG).into_iter().find(|frame| frame.kind == CALL);
            if let Some(call) = call {
                break call.id;
            }
        };
        neck.send(REPLY, call, (0, 0), &[]);
        subscribing.join().unwrap().unwrap()
    });
    fill(&head, 1);
    flood(&head, &mut neck, b"\x11news.ticks.item.0\x01\x01\x01", 1500);
    assert!(head.n_threads() < 20, "{} threads", head.n_threads());
    drop(news);
}

/// Says of all that has come that it has read it, and leaves it in the socket.
struct Liar {
    neck: RawNeck,
    socket: UnixStream,
    told: Receiver<()>,
}

impl Liar {
    fn meet(config: Config) -> (Head, Liar) {
        let (tell, told) = crossbeam_channel::unbounded();
        let tick = move |_: &Context, (): ()| Ok::<_, Fault>(tell.send(()).unwrap());
        let api = Api::new("a").handle("tick", tick).unwrap();
        let (ours, socket) = UnixStream::pair().unwrap();
        let over = |socket: &UnixStream| {
            let again = || socket.try_clone().unwrap().into();
            pipe_over(again(), again()).unwrap()
        };
        let head = Head::builder().config(config).serve(api).over(over(&ours)).unwrap();
        let neck = RawNeck::ready(over(&socket));
        assert_eq!(head.wait_open(LONG), LinkState::Open);
        (head, Liar { neck, socket, told })
    }

    fn tick(&mut self, number: u32, ack: u32) {
        self.neck.send(EVENT, u64::from(number) | 1 << 63, (ack, ack * BLOB as u32), b"\x06a.tick");
        self.told.recv_timeout(LONG).expect("what it says is read");
    }

    /// Has the Head send until there is no room in the socket, and says how many events that took.
    fn fill(&mut self, head: &Head) -> u32 {
        for n in 1.. {
            let began = Instant::now();
            head.api("deaf").action("ear", vec![7u8; BLOB]).fire().unwrap();
            assert!(began.elapsed() < SOON, "an event had to wait for {:?}", began.elapsed());
            // What has left is in there at once.
            if rustix::io::ioctl_fionread(&self.socket).unwrap() < u64::from(n) * BLOB as u64 {
                return n;
            }
            self.tick(n, n);
        }
        unreachable!()
    }
}

const BLOB: usize = 60_000;

/// A peer that says that it has read what it leaves in the socket: its link ends, and nobody else notices.
#[test]
fn p_17_a_peer_that_acknowledges_what_it_does_not_read_loses_its_link() {
    crate::support::watched(|| {
        let (head, mut liar) = Liar::meet(Config::new().write_stall(STALL));
        let (other, other_neck) = Kind::Pipe.ends();
        let _other_neck = other_neck.start();
        liar.fill(&head);
        let began = Instant::now();
        until("the link has ended", || {
            let began = Instant::now();
            other.api("none").action("such", ()).call::<()>().unwrap_err();
            assert!(began.elapsed() < SOON, "another link had to wait for {:?}", began.elapsed());
            head.close_reason().is_some()
        });
        let reason = head.close_reason().unwrap();
        assert!(
            matches!(&*reason, CloseReason::Io(error) if error.kind() == ErrorKind::TimedOut),
            "{reason:?}"
        );
        assert!(began.elapsed() + SOON >= STALL, "{:?}", began.elapsed());
    });
}

/// Red when whoever has something to say to such a peer waits until there is room.
#[test]
fn p_04_a_peer_that_acknowledges_what_it_does_not_read_holds_no_call_up() {
    crate::support::watched(|| {
        let grace = Duration::from_millis(100);
        let (head, mut liar) = Liar::meet(Config::new().write_stall(LONG).grace(grace));
        let n = liar.fill(&head);
        let ear = head.api("deaf").timeout(Duration::from_millis(100));
        let quick = |what: &str, does: &dyn Fn()| {
            let began = Instant::now();
            does();
            assert!(began.elapsed() < SOON, "{what} had to wait for {:?}", began.elapsed());
        };
        quick("a call", &|| {
            let end = ear.action("ear", vec![7u8; BLOB]).call::<()>();
            assert!(matches!(end, Err(CallError::TimedOut { .. })), "{end:?}");
        });
        quick("a start", &|| {
            let end = ear.action("ear", ()).start::<()>().unwrap().wait();
            assert!(matches!(end, Err(CallError::TimedOut { .. })), "{end:?}");
        });
        quick("a cancel", &|| ear.action("ear", ()).start::<()>().unwrap().cancel());
        quick("an event", &|| ear.action("ear", ()).fire().unwrap());
        // What it says is read all the same.
        liar.tick(n + 1, n - 1);
        let began = Instant::now();
        drop(head);
        assert!(began.elapsed() < 2 * SOON, "{:?}", began.elapsed());
    });
}

/// How long a peer may read nothing here.
const STALL: Duration = Duration::from_secs(2);

/// Red when nobody notes that it reads nothing.
fn p_17_a_peer_that_reads_nothing_loses_its_link_when_its_time_is_over(kind: Kind) {
    let limit = Duration::from_millis(200);
    let (head, neck) = with_raw_neck(kind, Head::builder().config(Config::new().write_stall(limit)));
    // While there is room, nobody has to read.
    head.api("deaf").action("ear", ()).fire().unwrap();
    thread::sleep(2 * limit);
    assert_eq!(head.state(), LinkState::Open);
    let began = Instant::now();
    while head.api("deaf").action("ear", vec![7u8; 60_000]).fire().is_ok() && began.elapsed() < LONG {}
    until("its time is over", || head.state() == LinkState::Closed);
    let reason = head.close_reason().unwrap();
    assert!(
        matches!(&*reason, CloseReason::Unresponsive { what: Silence::Read, after } if *after == limit),
        "{reason:?}"
    );
    assert!(began.elapsed() >= limit, "{:?}", began.elapsed());
    drop(neck);
}

fn p_31_a_peer_that_never_answers_is_unresponsive(kind: Kind) {
    let (interval, limit) = (Duration::from_millis(40), Duration::from_millis(600));
    let builder = Head::builder().config(Config::new().heartbeat(interval, limit));
    let (head, mut neck) = with_raw_neck(kind, builder);
    let began = Instant::now();
    // As long as it says anything, it is alive: what it says is no answer to anything.
    for _ in 0..10 {
        neck.send(PING, 7, (0, 0), &[]);
        thread::sleep(interval);
        assert_eq!(head.state(), LinkState::Open, "{:?}", head.close_reason());
    }
    let waiting = head.api("deaf").action("ear", ()).start::<()>().unwrap();
    let error = waiting.wait().unwrap_err();
    assert!(
        matches!(error.close_reason(), Some(CloseReason::Unresponsive { what: Silence::Answer, .. })),
        "{error:?}"
    );
    assert!(began.elapsed() >= 10 * interval + limit, "{:?}", began.elapsed());
    let mut frames = Vec::new();
    while !frames.contains(&PING) {
        let packet = neck.receive(SOON);
        assert!(!packet.is_empty(), "it was not even asked: {frames:?}");
        frames.extend(packet.into_iter().map(|frame| frame.kind));
    }
}

fn p_31_two_sides_that_are_idle_keep_each_other_alive(kind: Kind) {
    let config = || Config::new().heartbeat(Duration::from_millis(20), Duration::from_secs(1));
    let (head, neck) = kind.ends_with(Head::builder().config(config()), Neck::builder().config(config()));
    let neck = neck.start();
    assert_eq!(head.wait_open(LONG), LinkState::Open);
    thread::sleep(Duration::from_millis(400));
    assert_eq!((head.state(), neck.state()), (LinkState::Open, LinkState::Open), "{:?}", head.close_reason());
}

/// Makes a test of each function for each kind of link that moves frames.
macro_rules! on_every_wire {
    ($($test:ident),* $(,)?) => {
        mod encoded { $(#[test] fn $test() { crate::support::watched(|| super::$test(super::Kind::Encoded)) })* }
        mod ipc { $(#[test] fn $test() { crate::support::watched(|| super::$test(super::Kind::Ipc)) })* }
        mod pipe { $(#[test] fn $test() { crate::support::watched(|| super::$test(super::Kind::Pipe)) })* }
        mod shm { $(#[test] fn $test() { crate::support::watched(|| super::$test(super::Kind::Shm)) })* }
    };
}

on_every_wire! {
    ac_63_a_queue_for_a_deaf_peer_fills_up_and_says_so,
    ac_63_the_bytes_for_a_deaf_peer_have_a_bound,
    ac_63_the_bytes_of_large_messages_have_a_bound,
    ac_63_blocked_calls_to_a_deaf_peer_time_out,
    ac_63_a_call_that_left_for_a_deaf_peer_times_out,
    ac_63_calls_that_time_out_leave_nothing_in_the_queue,
    p_06_cancelling_in_front_of_a_deaf_peer_waits_for_nothing,
    ac_63_closing_in_front_of_a_deaf_peer_takes_the_grace,
    ac_63_answers_that_nobody_reads_have_a_bound,
    p_15_what_a_deaf_peer_is_to_be_told_of_its_subscriptions_costs_one_thread,
    p_15_what_a_deaf_peer_is_to_be_told_of_its_items_costs_one_thread,
    p_17_a_peer_that_reads_nothing_loses_its_link_when_its_time_is_over,
    p_31_a_peer_that_never_answers_is_unresponsive,
    p_31_two_sides_that_are_idle_keep_each_other_alive,
}
