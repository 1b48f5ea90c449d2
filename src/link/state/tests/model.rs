//! Random operations on two machines, against the simplest account of what has to come of them.

use std::{collections::HashMap, time::Instant};

use proptest::prelude::*;

use super::pair::{HEAD, NECK, Pair, call, event, number_of};
use crate::{
    config::Config,
    error::{CallError, Executed},
    link::state::{Action, Ended, Refusal, Remains},
    transport::Window,
    wire::{Kind, TransactionId},
};

#[derive(Clone, Debug)]
enum Op {
    Call { from: usize, size: usize, timeout: Option<u64> },
    Event { from: usize, size: usize },
    Answer { at: usize, which: usize, size: usize },
    Cancel { from: usize, which: usize },
    Advance(u64),
    Pump(usize),
    Deliver { to: usize, packets: usize },
    Ready(usize),
    GoAway(usize),
}

fn size() -> impl Strategy<Value = usize> {
    prop_oneof![6 => 4..200usize, 2 => 200..40_000usize, 2 => 40_000..200_000usize, 1 => Just(1 << 20)]
}

fn op() -> impl Strategy<Value = Op> {
    let side = || prop_oneof![Just(HEAD), Just(NECK)];
    prop_oneof![
        6 => (side(), size(), proptest::option::of(0..200u64))
            .prop_map(|(from, size, timeout)| Op::Call { from, size, timeout }),
        4 => (side(), size()).prop_map(|(from, size)| Op::Event { from, size }),
        6 => (side(), any::<usize>(), size()).prop_map(|(at, which, size)| Op::Answer { at, which, size }),
        2 => (side(), any::<usize>()).prop_map(|(from, which)| Op::Cancel { from, which }),
        2 => (0..100u64).prop_map(Op::Advance),
        5 => side().prop_map(Op::Pump),
        6 => (side(), 1..20usize).prop_map(|(to, packets)| Op::Deliver { to, packets }),
        1 => side().prop_map(Op::Ready),
    ]
}

fn window() -> impl Strategy<Value = Window> {
    prop_oneof![
        Just(Window::default()),
        Just(Window { frames: 48, bytes: 42 * 1024, large: 3 }),
        Just(Window { frames: 2, bytes: 1 << 20, large: 1 }),
        (1..10u32, 1..70_000u32, 1..4u32).prop_map(|(frames, bytes, large)| Window { frames, bytes, large }),
    ]
}

/// How a call ended.
#[derive(Debug)]
enum End {
    Value,
    Refused,
    TimedOut(Executed),
    Cancelled(Executed),
    Closed(Executed),
}

struct Call {
    from: usize,
    id: TransactionId,
    timer: Option<Instant>,
    ends: Vec<End>,
}

/// The account.
struct Model {
    pair: Pair,
    calls: HashMap<u32, Call>,
    /// Of each side: the calls that it serves, with the caller's number.
    served: [Vec<(TransactionId, u32)>; 2],
    events_sent: [Vec<u32>; 2],
    events_come: [Vec<u32>; 2],
    went_away: bool,
    last: u32,
}

impl Model {
    fn new(window: Window, in_flight: usize) -> Model {
        let config = Config::new().in_flight(in_flight).send_queue(8);
        Model {
            pair: Pair::new(&config, window),
            calls: HashMap::new(),
            served: [Vec::new(), Vec::new()],
            events_sent: [Vec::new(), Vec::new()],
            events_come: [Vec::new(), Vec::new()],
            went_away: false,
            last: 0,
        }
    }

    fn run(&mut self, op: &Op) {
        match *op {
            Op::Call { from, size, timeout } => self.call(from, size, timeout),
            Op::Event { from, size } => self.event(from, size),
            Op::Answer { at, which, size } => self.answer(at, which, size),
            Op::Cancel { from, which } => self.cancel(from, which),
            Op::Advance(millis) => self.advance(millis),
            Op::Pump(from) => drop(self.pair.pump(from)),
            Op::Deliver { to, packets } => (0..packets).for_each(|_| _ = self.deliver(to)),
            Op::Ready(side) => drop(self.pair.ends[side].state.say_ready()),
            Op::GoAway(side) => {
                self.went_away = true;
                self.pair.ends[side].state.go_away();
            }
        }
    }

    fn call(&mut self, from: usize, size: usize, timeout: Option<u64>) {
        self.last += 1;
        let timer = timeout.map(|millis| self.pair.now + std::time::Duration::from_millis(millis));
        let state = &mut self.pair.ends[from].state;
        match state.begin_call(self.last, timer, call(self.last, size), false, None) {
            Ok(id) => drop(self.calls.insert(self.last, Call { from, id, timer, ends: Vec::new() })),
            Err((Refusal::Full(n), _)) => assert_eq!(n, 8, "refused with {n} waiting"),
            Err((refusal, _)) => assert!(self.went_away, "{refusal:?}"),
        }
    }

    fn event(&mut self, from: usize, size: usize) {
        self.last += 1;
        match self.pair.ends[from].state.begin_event(event(self.last, size), false, None) {
            Ok(()) => self.events_sent[from].push(self.last),
            Err((Refusal::Full(n), _)) => assert_eq!(n, 8, "refused with {n} waiting"),
            Err((refusal, _)) => assert!(self.went_away, "{refusal:?}"),
        }
    }

    fn answer(&mut self, at: usize, which: usize, size: usize) {
        if self.served[at].is_empty() {
            return;
        }
        let which = which % self.served[at].len();
        let (id, waiter) = self.served[at].swap_remove(which);
        self.pair.answer(at, id, waiter, size);
    }

    fn cancel(&mut self, from: usize, which: usize) {
        let mut mine: Vec<_> = self.calls.iter().filter(|(_, call)| call.from == from).collect();
        mine.sort_unstable_by_key(|(waiter, _)| **waiter);
        let Some((waiter, call)) = mine.get(which.checked_rem(mine.len()).unwrap_or(0)) else { return };
        let (waiter, had_ended) = (**waiter, !call.ends.is_empty());
        let ended = self.pair.ends[from].state.cancel_call(call.id);
        assert_eq!(ended.is_none(), had_ended, "a call is there until it has ended");
        if let Some(Ended { waiter: theirs, executed, .. }) = ended {
            assert_eq!(theirs, waiter);
            self.end(waiter, End::Cancelled(executed));
        }
    }

    fn advance(&mut self, millis: u64) {
        self.pair.advance(millis);
        let now = self.pair.now;
        for side in [HEAD, NECK] {
            while let Some(Ended { waiter, executed, .. }) = self.pair.ends[side].state.handle_timeout(now) {
                assert!(self.calls[&waiter].timer.is_some_and(|at| at <= now), "it ends too early");
                self.end(waiter, End::TimedOut(executed));
            }
        }
    }

    fn deliver(&mut self, to: usize) -> bool {
        let came = self.pair.deliver(to).expect("both keep the rules");
        for action in self.pair.take_actions(to) {
            self.act(to, action);
        }
        came
    }

    fn act(&mut self, at: usize, action: Action<u32>) {
        match action {
            Action::Complete(waiter, Ok(payload)) => {
                assert_eq!(number_of(&payload.bytes()), waiter, "the answer of another call");
                self.end(waiter, End::Value);
            }
            Action::Complete(waiter, Err(CallError::Rejected(_))) => {
                assert!(self.went_away);
                self.end(waiter, End::Refused);
            }
            Action::Dispatch(incoming, _) => {
                let number = number_of(&incoming.payload.bytes());
                match incoming.id {
                    Some(id) => {
                        assert_eq!((id, at), (self.calls[&number].id, 1 - self.calls[&number].from));
                        self.served[at].push((id, number));
                    }
                    None => self.events_come[1 - at].push(number),
                }
            }
            Action::Cancelled(token, _) => assert!(token.fire().is_empty()),
            Action::Greeted(..) | Action::LateReply | Action::PeerReady | Action::PeerGoingAway => {}
            other => panic!("{other:?} out of nothing"),
        }
    }

    fn end(&mut self, waiter: u32, end: End) {
        let call = self.calls.get_mut(&waiter).expect("it was made");
        call.ends.push(end);
        assert_eq!(call.ends.len(), 1, "{waiter} ends more than once: {:?}", call.ends);
    }

    /// Both sides read and answer whatever there is, until nothing is left.
    fn finish(&mut self) {
        for side in [HEAD, NECK] {
            self.pair.ends[side].state.say_ready();
        }
        for _ in 0..1_000_000 {
            let sent = self.pair.pump(HEAD) + self.pair.pump(NECK);
            let came = [HEAD, NECK].map(|to| self.deliver(to));
            let n = self.served.iter().map(Vec::len).sum::<usize>();
            for side in [HEAD, NECK] {
                while !self.served[side].is_empty() {
                    self.answer(side, 0, 100);
                }
            }
            if sent + n == 0 && came == [false, false] {
                return;
            }
        }
        panic!("it never ends");
    }

    fn check_the_end(&self) {
        for end in &self.pair.ends {
            assert_eq!((end.state.n_calls(), end.state.n_served()), (0, 0));
            assert!(end.state.is_quiet() && end.state.is_drained());
            self.check_the_order(&end.watcher.log);
        }
        assert_eq!(self.events_come, self.events_sent, "events are lost, doubled or out of order");
    }

    /// Calls of one frame leave in the order of their making, and so do events.
    fn check_the_order(&self, log: &[(crate::wire::Header, usize)]) {
        for kind in [Kind::Call, Kind::Event] {
            let whole = log.iter().filter(|(header, _)| header.kind == kind && !header.flags.more);
            let ids: Vec<u64> = whole.filter(|(h, _)| !h.flags.continues).map(|(h, _)| h.id).collect();
            assert!(ids.is_sorted(), "{kind:?} {ids:?}");
        }
    }

    /// Each call has ended once, and says truly whether it can have run.
    fn check_the_calls(&self) {
        for (waiter, call) in &self.calls {
            let [end] = &call.ends[..] else { panic!("{waiter} has not ended") };
            let log = &self.pair.ends[call.from].watcher.log;
            let left = log.iter().any(|(h, _)| h.kind == Kind::Call && h.id == call.id.to_bits());
            match end {
                End::Value | End::Refused => assert!(left),
                End::TimedOut(executed) | End::Cancelled(executed) | End::Closed(executed) => {
                    assert_eq!(*executed == Executed::Maybe, left, "{waiter} {end:?}");
                }
            }
        }
    }

    fn close(&mut self, side: usize) {
        let remains = self.pair.ends[side].state.close().expect("it is open");
        let Remains { calls, served, .. } = remains;
        assert_eq!(served.len(), self.served[side].len());
        for Ended { waiter, executed, .. } in calls {
            self.end(waiter, End::Closed(executed));
        }
        assert!(self.pair.ends[side].state.close().is_none(), "there is one end only");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn every_call_ends_once_with_its_own_answer_and_nothing_is_left(
        ops in proptest::collection::vec(op(), 0..80),
        window in window(),
        in_flight in 1..6usize,
    ) {
        let mut model = Model::new(window, in_flight);
        ops.iter().for_each(|op| model.run(op));
        model.finish();
        model.check_the_end();
        model.check_the_calls();
    }

    #[test]
    fn after_a_go_away_what_is_under_way_still_ends(
        before in proptest::collection::vec(op(), 0..40),
        side in 0..2usize,
        after in proptest::collection::vec(op(), 0..40),
    ) {
        let mut model = Model::new(Window::default(), 4);
        before.iter().for_each(|op| model.run(op));
        model.run(&Op::GoAway(side));
        after.iter().for_each(|op| model.run(op));
        model.finish();
        model.check_the_end();
        model.check_the_calls();
    }

    #[test]
    fn a_connection_that_drops_ends_every_call_once(
        ops in proptest::collection::vec(op(), 0..80),
        window in window(),
        still_come in 0..30usize,
    ) {
        let mut model = Model::new(window, 4);
        ops.iter().for_each(|op| model.run(op));
        model.close(HEAD);
        // What was under way to the other side may still come, and what comes here is not looked at.
        (0..still_come).for_each(|_| _ = model.deliver(NECK));
        (0..still_come).for_each(|_| _ = model.deliver(HEAD));
        model.close(NECK);
        model.check_the_calls();
        for side in [HEAD, NECK] {
            let (sent, come) = (&model.events_sent[side], &model.events_come[side]);
            prop_assert!(sent.starts_with(come), "{come:?} of {sent:?}");
        }
    }
}
