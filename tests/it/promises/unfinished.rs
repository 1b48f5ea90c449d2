//! Timeouts, while an answer comes that never is whole.

use std::{
    sync::{
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use nape::{
    CallError, Config, Head, LinkState, Payload, Timeout,
    transport::{Transport, ipc_pair, memory_pair, pipe_pair, shm_pair, tcp_pair},
};

use crate::{
    raw_end::{CALL, REPLY, RawNeck, frame},
    support::watched,
    tools::{LONG, SOON},
};

type Pair = fn() -> (Transport, Transport);

const WIRES: [Pair; 5] = [
    memory_pair,
    || ipc_pair().unwrap(),
    || pipe_pair().unwrap(),
    || tcp_pair().unwrap(),
    || shm_pair().unwrap(),
];
/// Those on which a part of a frame may stay behind.
const STREAMS: [Pair; 2] = [|| pipe_pair().unwrap(), || tcp_pair().unwrap()];

/// A call is made that gets an answer of which never all comes, as `play` sends it; then others, for all of which
/// time runs out. Red when nobody ends a call whose time is over.
fn timeouts_hold(pair: Pair, play: impl FnOnce(&mut RawNeck, u64, &AtomicBool) + Send) {
    let (ours, theirs) = pair();
    let head = Head::builder().config(Config::new().grace(Duration::from_millis(50))).over(ours).unwrap();
    let mut neck = RawNeck::ready(theirs);
    assert_eq!(head.wait_open(LONG), LinkState::Open);
    let call = || head.api("raw").action("x", ());
    let (over, (begun, has_begun)) = (AtomicBool::new(false), mpsc::channel());
    thread::scope(|scope| {
        let first = call().timeout(LONG).start::<Payload>().unwrap();
        scope.spawn(|| {
            let mut frames = std::iter::repeat_with(|| neck.receive(LONG)).flatten();
            let id = frames.find(|frame| frame.kind == CALL).unwrap().id;
            drop(frames);
            begun.send(()).unwrap();
            play(&mut neck, id, &over);
        });
        has_begun.recv().unwrap();
        for limit in [0, 1, 50, 200].map(Duration::from_millis) {
            for blocking in [true, false] {
                let began = Instant::now();
                let call = call().timeout(limit);
                let end = match blocking {
                    true => call.call::<()>(),
                    false => call.start::<()>().and_then(|call| call.wait()),
                };
                let took = began.elapsed();
                assert!(matches!(end, Err(CallError::TimedOut { .. })), "{end:?}");
                assert!(took >= limit && took < limit + SOON, "{took:?} for {limit:?}");
            }
        }
        assert_eq!((head.state(), first.is_done()), (LinkState::Open, false));
        over.store(true, Ordering::Relaxed);
    });
    let never = call().timeout(Timeout::After(Duration::from_millis(u64::MAX))).start::<()>().unwrap();
    assert!(!never.is_done(), "more than can be counted is no limit");
}

fn answer(id: u64, len: usize) -> Vec<u8> {
    frame(REPLY, id, (0, 0), &vec![7; len])
}

#[test]
fn p_04_timeouts_hold_behind_half_a_frame() {
    for cut in [1, 10, 24, 30_000] {
        let play = move |neck: &mut RawNeck, id, _: &AtomicBool| neck.send_bytes(&answer(id, 50_000)[..cut]);
        STREAMS.iter().for_each(|pair| watched(move || timeouts_hold(*pair, play)));
    }
}

#[test]
fn p_04_timeouts_hold_while_an_answer_comes_byte_by_byte() {
    let play = |neck: &mut RawNeck, id, over: &AtomicBool| {
        for byte in answer(id, 50_000) {
            if over.load(Ordering::Relaxed) {
                return;
            }
            neck.send_bytes(&[byte]);
            thread::sleep(Duration::from_millis(10));
        }
    };
    STREAMS.iter().for_each(|pair| watched(move || timeouts_hold(*pair, play)));
}

#[test]
fn p_04_timeouts_hold_while_a_large_answer_comes_in_parts() {
    const MORE: u8 = 1;
    const CONTINUES: u8 = 2;
    let play = |neck: &mut RawNeck, id, over: &AtomicBool| {
        for at in 0.. {
            let mut part = answer(id, 1000);
            part[5] = if at == 0 { MORE } else { MORE | CONTINUES };
            neck.send_bytes(&part);
            // What was granted for the first ones comes meanwhile.
            neck.receive(Duration::from_millis(10));
            if over.load(Ordering::Relaxed) {
                return;
            }
        }
    };
    WIRES.iter().for_each(|pair| watched(move || timeouts_hold(*pair, play)));
}
