//! Two machines on virtual time.

mod hostile;
mod model;
mod pair;
mod streams;

use std::time::Duration;

use pair::{HEAD, NECK, Pair, call, event, number_of};

use super::*;
use crate::{
    error::Rejection,
    wire::{CallHead, FRAME_LIMIT, HEADER_LEN},
};

/// The numbers of the calls and events that came, in their order.
fn come(actions: &[Action<u32>]) -> Vec<u32> {
    let number = |action: &Action<u32>| match action {
        Action::Dispatch(incoming, _) => Some(number_of(&incoming.payload.bytes())),
        _ => None,
    };
    actions.iter().filter_map(number).collect()
}

fn ready() -> Pair {
    Pair::ready(&Config::new(), Window::default())
}

/// Hands one packet after the other to the Neck until it says that these calls and events came.
fn deliver_until(pair: &mut Pair, wanted: &[u32]) {
    let mut so_far = Vec::new();
    while so_far.len() < wanted.len() {
        pair.pump(HEAD);
        pair.pump(NECK);
        while pair.deliver(HEAD).unwrap() {}
        assert!(pair.deliver(NECK).unwrap(), "only {so_far:?} came");
        so_far.extend(come(&pair.take_actions(NECK)));
    }
    assert_eq!(so_far, wanted);
}

#[test]
fn ac_97_nothing_leaves_before_the_other_side_is_ready() {
    let mut pair = Pair::new(&Config::new(), Window::default());
    pair.call(HEAD, 1, 10);
    pair.event(HEAD, 2, 10);
    pair.settle();
    assert_eq!(pair.starts_of(HEAD, 0), [(Kind::Hello, 0)]);
    pair.ends[NECK].state.say_ready();
    pair.settle();
    assert_eq!(come(&pair.take_actions(NECK)), [1, 2]);
    assert!(!pair.ends[NECK].state.say_ready(), "it is said once");
}

#[test]
fn a_side_that_is_not_greeted_in_time_says_so() {
    let config = Config::new().start_timeout(Duration::from_secs(3));
    let mut pair = Pair::new(&config, Window::default());
    let (start, end) = (pair.now, pair.now + Duration::from_secs(3));
    assert_eq!(pair.ends[HEAD].state.next_alarm(), Some(end));
    assert_eq!(pair.ends[HEAD].state.overdue(start + Duration::from_millis(2999)), None);
    let why = ProtocolError::BadHello("it did not come in time");
    assert_eq!(pair.ends[HEAD].state.overdue(end), Some(why));
    pair.settle();
    assert_eq!(pair.ends[HEAD].state.next_alarm(), None);
    assert_eq!(pair.ends[HEAD].state.overdue(end), None);
}

#[test]
fn ac_77_an_idle_side_has_nothing_to_look_at_unless_it_beats() {
    let mut pair = ready();
    assert_eq!(pair.ends.each_ref().map(|end| end.state.next_alarm()), [None, None]);
    // Not even while a call is under way that has room.
    pair.ends[HEAD].state.begin_call(1, None, call(1, 10), false, None).unwrap();
    pair.settle();
    assert_eq!(pair.ends.each_ref().map(|end| end.state.next_alarm()), [None, None]);
    let beat = Duration::from_secs(1);
    let mut pair = Pair::new(&Config::new().heartbeat(beat, beat), Window::default());
    assert_eq!(pair.ends[HEAD].state.pulse_due(), None, "it has not been greeted");
    let now = pair.now;
    pair.ends[HEAD].state.hear(now);
    assert_eq!(pair.ends[HEAD].state.pulse_due(), Some(now + beat));
    pair.ends[HEAD].state.close();
    assert_eq!(pair.ends[HEAD].state.pulse_due(), None);
}

#[test]
fn p_17_what_waits_for_a_peer_that_does_not_read_has_a_time() {
    let limit = Duration::from_secs(4);
    let mut pair = Pair::ready(&Config::new().write_stall(limit), Window::default());
    let now = pair.now;
    for number in 0..4 {
        pair.call(HEAD, number, 60_000);
        assert!(!pair.ends[HEAD].state.is_newly_stuck());
    }
    pair.pump(HEAD);
    assert!(!pair.ends[HEAD].state.is_newly_stuck(), "all of it has left");
    pair.call(HEAD, 4, 60_000);
    pair.pump(HEAD);
    let head = &mut pair.ends[HEAD].state;
    assert!(head.is_newly_stuck());
    assert_eq!(head.get_stuck(now), Some(now + limit / 4));
    assert!(!head.is_newly_stuck(), "it is told once");
    // The other side reads: the wait begins anew, or there is none.
    pair.settle();
    let head = &mut pair.ends[HEAD].state;
    assert_eq!((head.pulse_due(), head.is_newly_stuck()), (None, false));
    assert!(head.feel_pulse(now + 100 * limit).is_none());
}

#[test]
fn d_16_a_message_that_does_not_go_on_costs_the_link_after_its_time() {
    let second = Duration::from_secs(1);
    let mut pair = Pair::ready(&Config::new().stall_timeout(3 * second), Window::default());
    pair.call(HEAD, 1, 500_000);
    pair.pump(HEAD);
    pair.deliver(NECK).unwrap();
    let (start, neck) = (pair.now, &mut pair.ends[NECK].state);
    assert_eq!(neck.awaits_rest(), Some(start + 3 * second));
    assert_eq!(neck.overdue(start + 3 * second - Duration::from_millis(1)), None);
    // Whoever reads has a moment to find what may have come, and only one.
    assert_eq!(neck.overdue(start + 5 * second), None);
    assert_eq!(neck.overdue(start + 5 * second), None);
    assert_eq!(neck.next_alarm(), Some(start + 6 * second));
    assert_eq!(neck.overdue(start + 6 * second), Some(ProtocolError::Stalled(3 * second)));
}

#[test]
fn d_16_a_message_that_goes_on_slowly_is_waited_for() {
    let second = Duration::from_secs(1);
    let mut pair = Pair::ready(&Config::new().stall_timeout(3 * second), Window::default());
    pair.call(HEAD, 1, 500_000);
    while !come(&pair.ends[NECK].actions).contains(&1) {
        pair.pump(HEAD);
        pair.deliver(NECK).unwrap();
        pair.pump(NECK);
        pair.deliver(HEAD).unwrap();
        pair.now += 3 * second;
        // Found to be late, and then it does come.
        let now = pair.now;
        assert_eq!(pair.ends[NECK].state.overdue(now), None);
    }
    assert_eq!(pair.ends[NECK].state.awaits_rest(), None);
}

#[test]
fn a_deadline_ends_a_call_at_its_time_and_not_before() {
    let mut pair = ready();
    let start = pair.now;
    for (waiter, millis) in [(1, 30), (2, 10), (3, 20), (4, 20)] {
        let timer = Some(start + Duration::from_millis(millis));
        pair.ends[HEAD].state.begin_call(waiter, timer, call(waiter, 10), false, None).unwrap();
    }
    let state = &mut pair.ends[HEAD].state;
    assert_eq!(state.next_alarm(), Some(start + Duration::from_millis(10)));
    assert!(state.handle_timeout(start + Duration::from_micros(9999)).is_none());
    let mut ended = Vec::new();
    while let Some(one) = state.handle_timeout(start + Duration::from_millis(20)) {
        ended.push(one.waiter);
    }
    assert_eq!(ended, [2, 3, 4]);
    assert_eq!((state.n_calls(), state.next_alarm()), (1, Some(start + Duration::from_millis(30))));
}

#[test]
fn a_call_that_is_taken_back_before_it_left_never_leaves() {
    let config = Config::new().in_flight(1).send_queue(1);
    let mut pair = Pair::ready(&config, Window::default());
    let first = pair.call(HEAD, 1, 10);
    pair.settle();
    let second = pair.call(HEAD, 2, 10);
    let full = pair.ends[HEAD].state.begin_event(event(3, 10), false, None);
    assert_eq!(full.unwrap_err().0, Refusal::Full(1));
    let ended = pair.ends[HEAD].state.cancel_call(second).unwrap();
    assert_eq!((ended.waiter, ended.executed), (2, Executed::No));
    assert!(pair.ends[HEAD].state.cancel_call(second).is_none());
    // Its place in the queue is free again.
    pair.event(HEAD, 3, 10);
    pair.answer(NECK, first, 1, 10);
    pair.settle();
    assert_eq!(come(&pair.take_actions(NECK)), [1, 3]);
    assert!(!pair.starts_of(HEAD, 0).iter().any(|(_, id)| *id == second.to_bits()));
}

#[test]
fn ac_10_the_cancel_of_a_call_that_has_left_in_part_stops_the_rest() {
    let mut pair = ready();
    let large = pair.call(HEAD, 1, 10 * FRAME_LIMIT);
    pair.pump(HEAD);
    let ended = pair.ends[HEAD].state.cancel_call(large).unwrap();
    assert_eq!(ended.executed, Executed::Maybe);
    pair.settle();
    assert!(come(&pair.take_actions(NECK)).is_empty(), "it was never whole");
    assert_eq!(pair.ends[NECK].state.n_served(), 0);
    assert!(!pair.ends[NECK].state.inbox.is_open(Kind::Call, large.to_bits()), "its parts are dropped");
    assert!(pair.ends[HEAD].state.is_quiet());
    pair.call(HEAD, 2, 10 * FRAME_LIMIT);
    pair.settle();
    assert_eq!(come(&pair.take_actions(NECK)), [2]);
}

#[test]
fn the_cancel_of_a_call_that_is_served_fires_its_token_and_owes_no_answer() {
    let mut pair = ready();
    let id = pair.call(HEAD, 1, 10);
    pair.settle();
    pair.take_actions(NECK);
    pair.ends[HEAD].state.cancel_call(id).unwrap();
    pair.settle();
    let [Action::Cancelled(token, _)] = &pair.take_actions(NECK)[..] else { panic!("no cancel came") };
    assert!(token.fire().is_empty());
    assert_eq!(pair.ends[NECK].state.n_served(), 1, "it is served until its handler returns");
    assert_eq!(pair.ends[NECK].state.finish_served(id), Finish::GivenUp);
    assert_eq!(pair.ends[NECK].state.n_served(), 0);
}

#[test]
fn ac_62_no_more_calls_are_in_flight_than_may_be() {
    let mut pair = Pair::ready(&Config::new().in_flight(3), Window::default());
    let all: Vec<_> = (1..=5).map(|waiter| pair.call(HEAD, waiter, 10)).collect();
    pair.settle();
    assert_eq!(come(&pair.take_actions(NECK)), [1, 2, 3]);
    pair.answer(NECK, all[1], 2, 10);
    pair.settle();
    assert_eq!(come(&pair.take_actions(NECK)), [4]);
    // A call that is given up makes room, too.
    pair.ends[HEAD].state.cancel_call(all[0]);
    pair.settle();
    assert_eq!(come(&pair.take_actions(NECK)), [5]);
}

#[test]
fn ac_85_what_is_small_overtakes_what_is_cut() {
    let mut pair = ready();
    pair.call(HEAD, 1, 1 << 20);
    pair.pump(HEAD);
    pair.call(HEAD, 2, 10);
    pair.call(HEAD, 3, 10);
    deliver_until(&mut pair, &[2, 3, 1]);
}

#[test]
fn a_small_answer_overtakes_large_ones() {
    let mut pair = ready();
    let all: Vec<_> = (1..=4).map(|waiter| pair.call(HEAD, waiter, 10)).collect();
    pair.settle();
    for (waiter, size) in [(1, 1 << 20), (2, 1 << 20), (3, 1 << 20), (4, 10)] {
        pair.answer(NECK, all[waiter as usize - 1], waiter, size);
    }
    pair.settle();
    let done: Vec<u32> = pair
        .take_actions(HEAD)
        .iter()
        .map(|action| match action {
            Action::Complete(waiter, Ok(_)) => *waiter,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(done[0], 4);
    assert_eq!(done.len(), 4);
}

#[test]
fn large_messages_take_turns() {
    let mut pair = ready();
    let first = pair.call(HEAD, 1, 1 << 20);
    let second = pair.call(HEAD, 2, 1 << 20);
    pair.settle();
    let log = &pair.ends[HEAD].watcher.log;
    let order: Vec<u64> = log.iter().filter(|(h, _)| h.kind == Kind::Call).map(|(h, _)| h.id).collect();
    let changes = order.windows(2).filter(|two| two[0] != two[1]).count();
    assert!(changes > 20, "{first} and {second} go one after the other");
}

#[test]
fn ac_31_events_keep_their_order_whatever_their_size() {
    let mut pair = ready();
    for (number, size) in [(1, 10), (2, 1 << 20), (3, 10), (4, 200_000), (5, 10)] {
        pair.event(HEAD, number, size);
    }
    pair.call(HEAD, 6, 10);
    deliver_until(&mut pair, &[1, 6, 2, 3, 4, 5]);
    pair.event(HEAD, 7, 10);
    deliver_until(&mut pair, &[7]);
}

#[test]
fn small_calls_without_end_do_not_starve_a_large_one() {
    let mut pair = ready();
    pair.call(HEAD, 0, 5 * FRAME_LIMIT);
    let mut last = 0;
    for _ in 0..1000 {
        // The queue is never empty when the machine is asked for more.
        while pair.ends[HEAD].state.outbox.waiting().0 < 200 {
            last += 1;
            pair.event(HEAD, last, 20);
        }
        pair.pump(HEAD);
        while pair.deliver(NECK).unwrap() {}
        pair.pump(NECK);
        while pair.deliver(HEAD).unwrap() {}
        if come(&pair.take_actions(NECK)).contains(&0) {
            let frames = pair.ends[HEAD].watcher.log.len();
            return assert!(frames < 6 * 20 + 200, "it took {frames} frames");
        }
    }
    panic!("the large call starves");
}

#[test]
fn answers_without_end_starve_no_calls() {
    let mut pair = ready();
    pair.call(HEAD, 0, 5 * FRAME_LIMIT);
    pair.event(HEAD, 1, 10);
    // The Neck calls without end, and the Head answers at once.
    let (mut missing, mut waiter) = (vec![0, 1], 2);
    for _ in 0..1000 {
        for _ in 0..100 {
            pair.call(NECK, waiter, 10);
            waiter += 1;
        }
        pair.pump(NECK);
        while pair.deliver(HEAD).unwrap() {}
        for action in pair.take_actions(HEAD) {
            if let Action::Dispatch(incoming, _) = action {
                pair.answer(HEAD, incoming.id.unwrap(), number_of(&incoming.payload.bytes()), 300);
            }
        }
        pair.pump(HEAD);
        while pair.deliver(NECK).unwrap() {}
        let come = come(&pair.take_actions(NECK));
        missing.retain(|number| !come.contains(number));
        if missing.is_empty() {
            return;
        }
    }
    panic!("{missing:?} starve");
}

#[test]
fn many_large_messages_at_once_are_within_the_bounds_of_the_other_side() {
    let limits = crate::config::Limits::new()
        .message_bytes(100_000)
        .received_bytes(100 << 20)
        .send_queue_bytes(100 << 20);
    let config = Config::new().limits(limits);
    let mut pair = Pair::ready(&config, Window::default());
    let calls: Vec<_> = (0..200).map(|waiter| pair.call(HEAD, waiter, 99_000)).collect();
    (200..400).for_each(|number| pair.event(HEAD, number, 99_000));
    pair.settle();
    assert_eq!(come(&pair.take_actions(NECK)).len(), 400);
    for (waiter, id) in calls.into_iter().enumerate() {
        pair.answer(NECK, id, waiter as u32, 99_000);
    }
    pair.settle();
    assert!(pair.ends[HEAD].state.is_quiet() && pair.ends[NECK].state.is_quiet());
}

#[test]
fn ac_75_after_a_go_away_there_are_no_new_calls_and_old_ones_end() {
    let mut pair = ready();
    let old = pair.call(HEAD, 1, 10);
    pair.settle();
    pair.ends[NECK].state.go_away();
    // This one does not know yet.
    pair.call(HEAD, 2, 10);
    pair.pump(HEAD);
    pair.settle();
    assert!(pair.take_actions(HEAD).iter().any(|action| matches!(action, Action::PeerGoingAway)));
    let refused = pair.ends[HEAD].state.begin_call(3, None, call(3, 10), true, None);
    assert_eq!(refused.unwrap_err().0, Refusal::ShuttingDown);
    let refused = pair.ends[NECK].state.begin_event(event(4, 10), false, None);
    assert_eq!(refused.unwrap_err().0, Refusal::ShuttingDown);
    pair.answer(NECK, old, 1, 10);
    pair.settle();
    let ends = pair.take_actions(HEAD);
    assert!(matches!(&ends[..], [Action::Complete(1, Ok(_))]), "{ends:?}");
    assert!(pair.ends[HEAD].state.is_quiet());
}

#[test]
fn a_call_that_crosses_a_go_away_is_refused() {
    let mut pair = ready();
    pair.ends[NECK].state.go_away();
    pair.call(HEAD, 1, 10);
    pair.pump(HEAD);
    pair.settle();
    let actions = pair.take_actions(HEAD);
    let refused = |action: &Action<u32>| {
        matches!(action, Action::Complete(1, Err(CallError::Rejected(Rejection::ShuttingDown))))
    };
    assert!(actions.iter().any(refused), "{actions:?}");
}

#[test]
fn ac_70_a_call_that_crosses_the_last_words_is_not_refused() {
    let mut pair = ready();
    pair.ends[NECK].state.end_calls();
    pair.call(HEAD, 1, 10);
    pair.pump(HEAD);
    pair.settle();
    let (refused, seen) = (pair.take_actions(HEAD), pair.take_actions(NECK));
    assert!(refused.is_empty() && seen.is_empty(), "{refused:?} {seen:?}");
    pair.ends[NECK].state.say_bye(0);
    pair.settle();
    let end = pair.take_actions(HEAD);
    assert!(matches!(&end[..], [Action::Close(CloseReason::Peer)]), "{end:?}");
}

#[test]
fn ac_70_closing_leaves_everything_that_was_under_way_behind_once() {
    let mut pair = Pair::ready(&Config::new().in_flight(1), Window::default());
    pair.call(HEAD, 1, 10);
    pair.call(NECK, 2, 10);
    pair.settle();
    pair.call(HEAD, 3, 10);
    pair.event(HEAD, 4, 10);
    let remains = pair.ends[HEAD].state.close().unwrap();
    let calls: Vec<_> = remains.calls.iter().map(|ended| (ended.waiter, ended.executed)).collect();
    assert_eq!(calls, [(1, Executed::Maybe), (3, Executed::No)]);
    assert_eq!((remains.served.len(), remains.unsent_events), (1, 1));
    let state = &mut pair.ends[HEAD].state;
    assert!(state.close().is_none());
    let refused = state.begin_call(5, None, call(5, 10), true, None);
    assert_eq!(refused.unwrap_err().0, Refusal::Closed);
    assert_eq!((state.n_calls(), state.n_served(), state.next_alarm()), (0, 0, None));
    assert_eq!(pair.pump(HEAD), 0);
}

#[test]
fn the_last_words_are_the_last_and_wait_for_no_window() {
    let mut pair = Pair::ready(&Config::new(), Window { frames: 2, bytes: 10_000, large: 1 });
    (0..10).for_each(|number| pair.event(HEAD, number, 10));
    pair.pump(HEAD);
    // A pong waits for the window, and must not hold the bye up.
    pair.ends[HEAD].state.outbox.push_control(Draft::bare(Kind::Pong, 1));
    pair.ends[HEAD].state.say_bye(0);
    pair.settle();
    let log = pair.starts_of(HEAD, 0);
    assert_eq!(log.last(), Some(&(Kind::Bye, 0)));
    let actions = pair.take_actions(NECK);
    assert_eq!(come(&actions), [0, 1]);
    assert!(matches!(actions.last(), Some(Action::Close(CloseReason::Peer))), "{actions:?}");
}

#[test]
fn a_call_waits_for_the_call_that_it_descends_from() {
    let mut pair = ready();
    let outer = pair.call(HEAD, 7, 10);
    pair.settle();
    let mut buffer = vec![0; HEADER_LEN];
    CallHead { parent: Some(outer), remaining: None, attempt: 0, shape: 0, path: b"x" }.write(&mut buffer);
    pair.ends[NECK].state.begin_call(8, None, Cargo::Bytes(buffer.into()), true, None).unwrap();
    pair.settle();
    let actions = pair.take_actions(HEAD);
    assert!(matches!(&actions[..], [Action::Dispatch(_, Some(7))]), "{actions:?}");
}

#[test]
fn alarms_are_due_once() {
    let mut pair = ready();
    let (now, state) = (pair.now, &mut pair.ends[HEAD].state);
    let at = |millis| now + Duration::from_millis(millis);
    [(at(5), 1), (at(5), 2), (at(9), 3)].into_iter().for_each(|(at, key)| state.add_alarm(at, key));
    assert_eq!(state.next_alarm(), Some(at(5)));
    assert!(!state.take_alarms(at(4)));
    assert!(state.take_alarms(at(5)));
    assert!(!state.take_alarms(at(8)));
    state.remove_alarm(at(9), 3);
    assert_eq!(state.next_alarm(), None);
}
