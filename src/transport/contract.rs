//! The contract of a transport as checks that anybody can run on their own.
//!
//! Each function here tries one point of the [contract](super) on fresh pairs, in both directions, and
//! panics with what it saw. [`check`] runs them all. What blocks for more than 30 seconds counts as
//! blocked for ever; its thread is then left behind.
//!
//! A packet counts as *there* once its `send` has returned. All packets are of whole frames, as the link
//! sends them, and but for one check of a single one each. What arrives is taken apart into frames first,
//! so that it makes no difference whether a transport hands out packets as they were sent.

mod apart;
mod expect;
mod flight;

use std::{
    panic,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use crossbeam_channel::RecvTimeoutError;

use apart::apart;
use expect::{
    announcing, expect, expect_nothing, expect_packet, pattern, receive, receive_until, send, try_receive,
};
use flight::{FRAME_SIZES, Flight, drain, fill_both, mixed_sizes, pump, small_then_large};

use super::{FrameReceiver, FrameSender, Received, Transport, Window};
use crate::wire::FRAME_LIMIT;

/// Tries every point of the contract on pairs from `make`: the two ends of one connection.
///
/// # Panics
///
/// At the first point that does not hold, with a text that names it.
///
/// ```
/// use nape::transport::{contract, memory_pair};
///
/// contract::check(memory_pair);
/// ```
pub fn check(make: impl Fn() -> (Transport, Transport)) {
    packets_arrive_unchanged(&make);
    frames_of_a_packet_keep_together(&make);
    what_is_no_frame_does_no_harm(&make);
    packets_keep_their_order(&make);
    a_full_window_never_blocks(&make);
    receiving_ends_at_the_deadline(&make);
    a_packet_wins_over_the_deadline(&make);
    trying_never_blocks(&make);
    a_nudge_wakes_the_receiver(&make);
    nudges_merge_and_are_never_lost(&make);
    nudges_lose_no_packet(&make);
    the_end_comes_after_the_packets(&make);
    sending_to_nobody_never_blocks(&make);
    the_halves_work_apart(&make);
}

/// Points 1 and 2: frames of the least length to [`FRAME_LIMIT`] bytes, whatever they hold behind their
/// length, arrive whole, once and unchanged.
pub fn packets_arrive_unchanged(make: impl Fn() -> (Transport, Transport)) {
    both_ways("packets arrive unchanged", make, |mut from, mut to| {
        for len in SIZES {
            for packet in [pattern(len, len as u64), announcing(vec![0; len]), announcing(vec![0xff; len])] {
                send(&mut from, &packet);
                expect_packet(&mut to, &packet);
            }
        }
        expect_nothing(&mut to);
    });
}

/// Points 1 and 2: all frames of a packet arrive, also of the largest ones.
pub fn frames_of_a_packet_keep_together(make: impl Fn() -> (Transport, Transport)) {
    both_ways("frames of a packet keep together", make, |mut from, mut to| {
        for sizes in
            [&[24, 24][..], &[24, 100, 24, 1000, 24], &[FRAME_LIMIT - 24, 24], &[24; FRAME_LIMIT / 24]]
        {
            let frames: Vec<_> = (0..).zip(sizes).map(|(number, len)| pattern(*len, number)).collect();
            send(&mut from, &frames.concat());
            frames.iter().for_each(|frame| expect_packet(&mut to, frame));
        }
        expect_nothing(&mut to);
    });
}

/// Points 2 and 7: bytes that are no frame come out as they are, or not at all, and nothing panics.
pub fn what_is_no_frame_does_no_harm(make: impl Fn() -> (Transport, Transport)) {
    for strange in [&[0xff][..], &[0; 4], &[0xff; 4], &[19, 0, 0, 0, 7], &[0; 100], &[0xff; FRAME_LIMIT]] {
        let (mut from, mut to) = make();
        send(&mut from, strange);
        match try_receive(&mut to) {
            None => {}
            Some(received) => expect(received, &Received::Packet(strange.to_vec())),
        }
        // Nobody is told of the rest, but the end still comes.
        drop(from);
        if to.sees_the_end {
            expect(receive(&mut to), &Received::End);
        }
    }
}

/// Point 1: packets keep their order while the window slides.
pub fn packets_keep_their_order(make: impl Fn() -> (Transport, Transport)) {
    both_ways("packets keep their order", make, |mut from, mut to| {
        let mut flight = Flight::new(from.window);
        for (number, len) in mixed_sizes().take(1000) {
            while !flight.has_room() {
                expect_packet(&mut to, &flight.land());
            }
            send(&mut from, flight.start(number, len));
        }
        expect_all(&mut to, &mut flight);
        expect_nothing(&mut to);
    });
}

/// Points 3 and 5: a sender fills the window and sends a few small packets on top, and never blocks, for
/// frames of any size and in both directions at once; neither does a nudge, which comes last.
pub fn a_full_window_never_blocks(make: impl Fn() -> (Transport, Transport)) {
    both_ways("a full window never blocks", make, |mut from, mut to| {
        for size in FRAME_SIZES {
            fill_both(&mut from, &mut to, |number| (number, size));
        }
        // As many of the largest as may go, whatever else there is.
        for others in [24, 320, 4000, 20_000] {
            for place in 0..from.window.large.into() {
                let sizes = |number| (number, if number == place { others } else { FRAME_LIMIT });
                fill_both(&mut from, &mut to, sizes);
            }
        }
        // A large frame last is the most that may be under way beside many small ones.
        for size in [24, 720, 1000, 1728, 1800] {
            let window = from.window;
            let small = move |number| (number, small_then_large(window, size, number));
            fill_both(&mut from, &mut to, small);
        }
        for round in 0..8 {
            let sizes: Vec<usize> = mixed_sizes().map(|(_, len)| len).skip(round).take(1000).collect();
            fill_both(&mut from, &mut to, |number| (number, sizes[number as usize % sizes.len()]));
        }
    });
}

/// Point 4: where [`Transport::wakes_at_deadlines`] says so, a receiver with nothing to receive comes
/// back at its deadline, not before, and at once when it has passed.
pub fn receiving_ends_at_the_deadline(make: impl Fn() -> (Transport, Transport)) {
    both_ways("receiving ends at the deadline", make, |from, mut to| {
        if to.wakes_at_deadlines {
            for wait in [Duration::ZERO, Duration::from_millis(1), Duration::from_millis(30)] {
                let deadline = Instant::now() + wait;
                expect(receive_until(&mut to, Some(deadline)), &Received::Deadline);
                assert!(Instant::now() >= deadline, "the receiver came back before its deadline");
            }
        }
        drop(from);
    });
}

/// Point 4: a packet that is there is received whether the deadline is past, near or far away.
pub fn a_packet_wins_over_the_deadline(make: impl Fn() -> (Transport, Transport)) {
    both_ways("a packet wins over the deadline", make, |mut from, mut to| {
        let now = Instant::now();
        let far = now.checked_add(Duration::from_secs(u64::from(u32::MAX)));
        for deadline in [Some(now), far, None] {
            let packet = pattern(100, 1);
            send(&mut from, &packet);
            expect(receive_until(&mut to, deadline), &Received::Packet(packet));
        }
    });
}

/// `try_receive` gives what is there and comes back at once with nothing.
pub fn trying_never_blocks(make: impl Fn() -> (Transport, Transport)) {
    both_ways("trying never blocks", make, |mut from, mut to| {
        for (number, len) in mixed_sizes().take(50) {
            expect_nothing(&mut to);
            let packet = pattern(len, number);
            send(&mut from, &packet);
            match try_receive(&mut to) {
                Some(received) => expect(received, &Received::Packet(packet)),
                None => panic!("a packet of {len} bytes was sent and is not there"),
            }
        }
        to.nudge.nudge();
        // A nudge may be taken here or wait for a `receive`, but it is no reason to block.
        let _ = (try_receive(&mut to), try_receive(&mut to));
        expect_nothing(&mut to);
    });
}

/// Point 5: a nudge makes the next `receive` return, or the current one, and counts once.
pub fn a_nudge_wakes_the_receiver(make: impl Fn() -> (Transport, Transport)) {
    both_ways("a nudge wakes the receiver", make, |mut from, mut to| {
        for number in 0..20 {
            to.nudge.nudge();
            expect(receive(&mut to), &Received::Nudge);
            if to.wakes_at_deadlines {
                expect(receive_until(&mut to, Some(Instant::now())), &Received::Deadline);
            }
            let packet = pattern(30, number);
            send(&mut from, &packet);
            expect_packet(&mut to, &packet);
        }
        nudge_while_receiving(to);
        drop(from);
    });
}

/// Point 5: nudges may be merged, but whoever nudges after a change knows that it will be seen.
pub fn nudges_merge_and_are_never_lost(make: impl Fn() -> (Transport, Transport)) {
    both_ways("nudges merge and are never lost", make, |from, mut to| {
        let changes = Arc::new(AtomicU64::new(0));
        let threads = [(); 3].map(|()| {
            let (changes, nudge) = (changes.clone(), to.nudge.clone());
            helper(move || {
                for _ in 0..CHANGES {
                    changes.fetch_add(1, Ordering::SeqCst);
                    nudge.nudge();
                }
            })
        });
        // A lost nudge leaves the last change unseen, and this blocks for ever.
        while changes.load(Ordering::SeqCst) < 3 * CHANGES {
            expect(receive(&mut to), &Received::Nudge);
        }
        threads.into_iter().for_each(join);
        drop(from);
    });
}

/// Point 5: a nudge comes after the packets that were there before it, and loses none.
pub fn nudges_lose_no_packet(make: impl Fn() -> (Transport, Transport)) {
    both_ways("nudges lose no packet", make, |mut from, mut to| {
        for number in 0..50 {
            let packets = [pattern(24, number), pattern(5000, number)];
            packets.iter().for_each(|packet| send(&mut from, packet));
            to.nudge.nudge();
            to.nudge.nudge();
            packets.iter().for_each(|packet| expect_packet(&mut to, packet));
            expect(receive(&mut to), &Received::Nudge);
            let _ = try_receive(&mut to);
        }
        nudge_among_packets(from, to);
    });
}

/// Point 6: where [`Transport::sees_the_end`] says so, a receiver gets what was sent before the other
/// end's sender was dropped, and then the end, even if it blocks already.
pub fn the_end_comes_after_the_packets(make: impl Fn() -> (Transport, Transport)) {
    both_ways("the end comes after the packets", &make, |from, mut to| {
        let Transport { mut sender, receiver, nudge, .. } = from;
        let packets = [24, 1000, 20_000].map(|len| pattern(len, 1));
        packets.iter().for_each(|packet| sender.send(packet).expect("the packet is sent"));
        drop(sender);
        packets.iter().for_each(|packet| expect_packet(&mut to, packet));
        if to.sees_the_end {
            expect(receive(&mut to), &Received::End);
            expect(try_receive(&mut to).unwrap_or(Received::End), &Received::End);
        }
        drop((receiver, nudge));
    });
    both_ways("the end wakes the receiver", make, |from, mut to| {
        if to.sees_the_end {
            let thread = helper(move || expect(receive(&mut to), &Received::End));
            likely_blocked();
            drop(from);
            join(thread);
        }
    });
}

/// Points 5 and 6: sending to an end that is gone, or to one that no longer receives, is an error or
/// does nothing, and a nudge without a receiver does nothing.
pub fn sending_to_nobody_never_blocks(make: impl Fn() -> (Transport, Transport)) {
    both_ways("sending to nobody never blocks", &make, |mut from, to| {
        drop(to);
        send_in_vain(&mut from);
    });
    both_ways("sending to no receiver never blocks", make, |mut from, to| {
        let Transport { receiver, sender, nudge, .. } = to;
        drop(receiver);
        send_in_vain(&mut from);
        (0..3).for_each(|_| nudge.nudge());
        drop(sender);
    });
}

/// One thread sends while another receives, at both ends at once.
pub fn the_halves_work_apart(make: impl Fn() -> (Transport, Transport)) {
    both_ways("the halves work apart", make, |left, right| {
        let (leftward, rightward) = (crossbeam_channel::unbounded(), crossbeam_channel::unbounded());
        let (left_window, right_window) = (left.window, right.window);
        let threads = [
            helper(move || pump(left.sender, left_window, &rightward.1)),
            helper(move || drain(right.receiver, &rightward.0)),
            helper(move || pump(right.sender, right_window, &leftward.1)),
            helper(move || drain(left.receiver, &leftward.0)),
        ];
        threads.into_iter().for_each(join);
    });
}

/// Runs a check from the first end to the second, and on another pair from the second to the first.
fn both_ways(
    point: &'static str,
    make: impl Fn() -> (Transport, Transport),
    check: fn(Transport, Transport),
) {
    let (left, right) = apart(make());
    watched(point, move || check(left, right));
    let (left, right) = apart(make());
    watched(point, move || check(right, left));
}

/// Runs `job` on a thread of its own, so that one that blocks is told from one that works.
fn watched(point: &'static str, job: impl FnOnce() + Send + 'static) {
    let (done, ended) = crossbeam_channel::bounded::<()>(0);
    let thread = helper(move || {
        let _done = done;
        job();
    });
    match ended.recv_timeout(LIMIT) {
        Err(RecvTimeoutError::Timeout) => panic!("{point}: still blocked after {LIMIT:?}"),
        _ => join(thread),
    }
}

fn helper(job: impl FnOnce() + Send + 'static) -> thread::JoinHandle<()> {
    thread::Builder::new().name("nape contract".into()).spawn(job).expect("a thread for the check")
}

/// Waits for a thread and hands its panic on.
fn join(thread: thread::JoinHandle<()>) {
    if let Err(panic) = thread.join() {
        panic::resume_unwind(panic);
    }
}

/// Gives another thread the time to block; no check depends on whether it has.
fn likely_blocked() {
    thread::sleep(Duration::from_millis(2));
}

/// Receives everything that is under way.
#[track_caller]
fn expect_all(to: &mut Transport, flight: &mut Flight) {
    while !flight.under_way.is_empty() {
        expect_packet(to, &flight.land());
    }
}

/// Nudges a receiver that is about to block, or blocks, one nudge a `receive`.
fn nudge_while_receiving(mut to: Transport) {
    let (going, gone) = crossbeam_channel::bounded(0);
    let nudge = to.nudge.clone();
    let thread = helper(move || {
        // The channel ends with its other half.
        while going.send(()).is_ok() {
            expect(receive(&mut to), &Received::Nudge);
        }
    });
    for round in 0..200 {
        if gone.recv().is_err() {
            break;
        }
        if round % 4 == 0 {
            likely_blocked();
        }
        nudge.nudge();
    }
    drop(gone);
    join(thread);
}

/// Nudges all the time while packets come.
fn nudge_among_packets(mut from: Transport, mut to: Transport) {
    let (stop, stopped) = crossbeam_channel::bounded::<()>(0);
    let nudge = to.nudge.clone();
    let thread = helper(move || {
        while stopped.try_recv() == Err(crossbeam_channel::TryRecvError::Empty) {
            nudge.nudge();
        }
    });
    for (number, len) in mixed_sizes().take(300) {
        let packet = pattern(len, number);
        send(&mut from, &packet);
        expect(receive_skipping_nudges(&mut to), &Received::Packet(packet));
    }
    drop(stop);
    join(thread);
}

fn receive_skipping_nudges(to: &mut Transport) -> Received {
    loop {
        match receive(to) {
            Received::Nudge => {}
            other => return other,
        }
    }
}

/// Whether an error comes is the transport's own affair, but it has to come back.
fn send_in_vain(from: &mut Transport) {
    for (number, len) in mixed_sizes().take(1000) {
        let _ = from.sender.send(&pattern(len, number));
    }
}

/// Frames from the smallest on, and around powers of two.
const SIZES: [usize; 13] =
    [24, 25, 100, 1000, 1800, 4000, 4095, 4096, 4097, 20_000, 32_768, FRAME_LIMIT - 1, FRAME_LIMIT];
/// How long a check may take before it counts as blocked.
const LIMIT: Duration = Duration::from_secs(30);
/// How often each of three threads nudges.
const CHANGES: u64 = 5000;

/// What has no room is left; it goes later, and in order.
#[cfg(test)]
pub(crate) fn leaves_what_has_no_room((mut from, mut to): (Transport, Transport)) {
    let (mut sent, mut whole) = (Vec::new(), true);
    while whole {
        let packet = pattern(FRAME_LIMIT, sent.len() as u64);
        whole = from.sender.try_send(&packet).unwrap();
        sent.extend(packet);
    }
    assert!(!from.sender.go_on(Instant::now()).unwrap(), "nobody has read");
    let mut heard = Vec::new();
    while heard.len() < sent.len() {
        from.sender.go_on(Instant::now()).unwrap();
        let until = Instant::now() + Duration::from_millis(1);
        if let Received::Packet(packet) = to.receiver.receive(Some(until)).unwrap() {
            heard.extend(packet);
        }
    }
    assert!(heard == sent, "something is missing, or stands elsewhere");
    assert!(from.sender.try_send(&pattern(100, 0)).unwrap(), "there is room again");
}

#[cfg(test)]
mod tests {
    /// Every point on its own, on the pairs of one transport.
    macro_rules! contract {
        ($transport:ident, $make:expr, [$($point:ident)*]) => {
            mod $transport {
                $(#[test]
                fn $point() {
                    super::super::$point($make);
                })*
            }
        };
        ($transport:ident, $make:expr) => {
            contract!($transport, $make, [
                packets_arrive_unchanged
                frames_of_a_packet_keep_together
                what_is_no_frame_does_no_harm
                packets_keep_their_order
                a_full_window_never_blocks
                receiving_ends_at_the_deadline
                a_packet_wins_over_the_deadline
                trying_never_blocks
                a_nudge_wakes_the_receiver
                nudges_merge_and_are_never_lost
                nudges_lose_no_packet
                the_end_comes_after_the_packets
                sending_to_nobody_never_blocks
                the_halves_work_apart
            ]);
        };
    }

    contract!(memory, crate::transport::memory_pair);
    contract!(pipe, || crate::transport::pipe_pair().expect("a pair of sockets"));
    contract!(pipes, || {
        let ((their_in, our_out), (our_in, their_out)) = (std::io::pipe().unwrap(), std::io::pipe().unwrap());
        let end = |reader: std::io::PipeReader, writer: std::io::PipeWriter| {
            crate::transport::pipe_over(reader.into(), writer.into()).expect("two pipes")
        };
        (end(our_in, our_out), end(their_in, their_out))
    });
    #[cfg(not(loom))]
    contract!(shm, || crate::transport::shm_pair().expect("a pair over shared memory"));
    contract!(ipc, || crate::transport::ipc_pair().expect("a pair over ipc-channel"));
}
