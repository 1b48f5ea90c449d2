//! Streams on two machines: what comes is what was sent, no more of it is under way than was granted, and
//! nothing is left of it.

use std::{collections::VecDeque, time::Duration};

use proptest::prelude::*;

use super::pair::{HEAD, NECK, Pair, body, number_of};
use crate::{
    config::Config,
    link::{
        message::Cargo,
        outlets::{Item, Room},
        state::{Action, Finish},
        stream::{Batch, Ends, Intake, Outlet},
    },
    sync::Arc,
    transport::Window,
    wire::{
        CallHead, Codec, FRAME_LIMIT, HEADER_LEN, Kind, OpenHead, Path, Payload, ProtocolError, Quota,
        TransactionId,
    },
};

/// One side of one stream, and what its user knows.
struct Half {
    ends: Ends,
    /// The number of the next item that is sent, and of the next that comes.
    sent: u32,
    came: u32,
    taken: Quota,
    has_ended: bool,
    /// No more items come.
    is_over: bool,
    has_stopped: bool,
    batches: VecDeque<Batch>,
}

impl Half {
    fn new(ends: Ends) -> Half {
        let (taken, batches) = (Quota::default(), VecDeque::new());
        Half { ends, sent: 0, came: 0, taken, has_ended: false, is_over: false, has_stopped: false, batches }
    }
}

struct Stream {
    id: TransactionId,
    halves: [Option<Half>; 2],
    is_answered: bool,
    is_cancelled: bool,
}

struct Model {
    pair: Pair,
    window: Quota,
    streams: Vec<Stream>,
}

impl Model {
    fn new(config: &Config, window: Window) -> Model {
        let quota = Quota { items: config.limits.stream_items, bytes: config.limits.stream_bytes };
        Model { pair: Pair::ready(config, window), window: quota, streams: Vec::new() }
    }

    /// The Head opens a stream both ways.
    fn open(&mut self) -> usize {
        self.open_within(None)
    }

    fn open_within(&mut self, millis: Option<u64>) -> usize {
        let timer = millis.map(|millis| self.pair.now + Duration::from_millis(millis));
        let path = Path::new("x").expect("it is a path");
        let ends = Ends { intake: Some(Intake::new(&path)), outlet: Some(Outlet::new(&path)) };
        let mut buffer = vec![0; HEADER_LEN];
        OpenHead { sends: true, takes: Some(self.window) }.write(&mut buffer);
        CallHead { parent: None, remaining: None, attempt: 0, shape: 0, path: b"x" }.write(&mut buffer);
        buffer.extend(body(0, 4));
        let state = &mut self.pair.ends[HEAD].state;
        let cargo = Cargo::Bytes(buffer.into());
        let id = state.begin_stream(self.streams.len() as u32, timer, cargo).expect("it is taken");
        state.add_stream(id, &ends, self.window);
        let halves = [Some(Half::new(ends)), None];
        self.streams.push(Stream { id, halves, is_answered: false, is_cancelled: false });
        self.streams.len() - 1
    }

    /// Sends an item if there is room for it.
    fn put(&mut self, side: usize, which: usize, size: usize) -> bool {
        let Stream { id, halves, .. } = &mut self.streams[which];
        let Some(half) = &mut halves[side] else { return false };
        let state = &mut self.pair.ends[side].state;
        if state.room_for_items(*id) != Room::Some {
            return false;
        }
        let value = body(half.sent, size);
        let mut item = (value.len() as u32).to_le_bytes().to_vec();
        item.extend(&value);
        let put = if HEADER_LEN + item.len() <= FRAME_LIMIT {
            state.put_item(*id, value.len(), Item::Small(&item))
        } else {
            let mut load = vec![0; HEADER_LEN];
            load.extend(&item);
            state.put_item(*id, value.len(), Item::Large(load.into()))
        };
        assert!(put.is_some() && !half.has_ended);
        half.sent += 1;
        true
    }

    fn end(&mut self, side: usize, which: usize) {
        let Stream { id, halves, .. } = &mut self.streams[which];
        if let Some(half) = &mut halves[side] {
            half.has_ended = true;
            self.pair.ends[side].state.end_items(*id);
        }
    }

    /// Takes one item that has come.
    fn take(&mut self, side: usize, which: usize) -> bool {
        let Stream { id, halves, .. } = &mut self.streams[which];
        let Some(half) = &mut halves[side] else { return false };
        while let Some(batch) = half.batches.front_mut() {
            let Some((item, quota)) = batch.next::<Payload>(Codec::default()) else {
                half.batches.pop_front();
                continue;
            };
            let item = item.expect("it is what was sent");
            assert_eq!(number_of(&item.bytes()), half.came);
            half.came += 1;
            half.taken = half.taken.plus(quota);
            self.pair.ends[side].state.grant(*id, half.taken, self.window);
            return true;
        }
        false
    }

    fn stop(&mut self, side: usize, which: usize) {
        let Stream { id, halves, .. } = &mut self.streams[which];
        if let Some(half) = &mut halves[side] {
            half.has_stopped = true;
            half.batches.clear();
            self.pair.ends[side].state.stop_items(*id);
        }
    }

    fn answer(&mut self, which: usize) {
        let Stream { id, halves, is_answered, .. } = &mut self.streams[which];
        if halves[NECK].is_none() || std::mem::replace(is_answered, true) {
            return;
        }
        let state = &mut self.pair.ends[NECK].state;
        state.last_of_stream(*id);
        if state.finish_served(*id) == Finish::Awaited {
            let mut buffer = vec![0; HEADER_LEN];
            buffer.extend(body(7, 4));
            state.answer(*id, Kind::Reply, buffer.into(), None);
        }
    }

    fn cancel(&mut self, which: usize) {
        let stream = &mut self.streams[which];
        if self.pair.ends[HEAD].state.cancel_call(stream.id).is_some() {
            stream.is_cancelled = true;
        }
    }

    fn deliver(&mut self, to: usize) -> Result<bool, ProtocolError> {
        let some = self.pair.deliver(to)?;
        for action in self.pair.take_actions(to) {
            self.act(to, action);
        }
        Ok(some)
    }

    fn act(&mut self, at: usize, action: Action<u32>) {
        match action {
            Action::Dispatch(incoming, _) => {
                let id = incoming.id.expect("it is a call");
                let stream = self.streams.iter_mut().find(|stream| stream.id == id).expect("it was made");
                stream.halves[NECK] = Some(Half::new(incoming.ends));
                self.pair.ends[NECK].state.accept_stream(id, self.window);
            }
            Action::Items(intake, batch) => {
                let (window, n) = (self.window.items as usize, batch.len());
                let half = self.half_of(at, &intake);
                assert!(!half.has_stopped && !half.is_over, "nobody wants them");
                assert!(n > 0);
                half.batches.push_back(batch);
                assert!(half.batches.iter().map(Batch::len).sum::<usize>() <= window, "too many came");
            }
            Action::ItemsEnded(intake) => self.half_of(at, &intake).is_over = true,
            Action::Complete(waiter, outcome) => {
                let stream = &mut self.streams[waiter as usize];
                assert!(!stream.is_cancelled);
                assert_eq!(number_of(&outcome.expect("it is a value").bytes()), 7);
                let half = stream.halves[HEAD].as_mut().expect("it is the caller's");
                half.is_over = true;
            }
            Action::Cancelled(token, _) => assert!(token.fire().is_empty()),
            Action::Room(_) | Action::Stopped(_) | Action::LateItems(_) | Action::LateReply => {}
            other => panic!("{other:?}"),
        }
    }

    fn half_of(&mut self, at: usize, intake: &Arc<Intake>) -> &mut Half {
        let is_it = |half: &&mut Half| half.ends.intake.as_ref().is_some_and(|it| Arc::ptr_eq(it, intake));
        self.streams
            .iter_mut()
            .filter_map(|stream| stream.halves[at].as_mut())
            .find(is_it)
            .expect("it belongs to a stream")
    }

    fn settle(&mut self) {
        loop {
            let sent = self.pair.pump(HEAD) + self.pair.pump(NECK);
            let came = [HEAD, NECK].map(|to| self.deliver(to).expect("both keep the rules"));
            if sent == 0 && came == [false, false] {
                return;
            }
        }
    }

    /// Lets everything come to its end.
    fn finish(&mut self) {
        loop {
            self.settle();
            let mut some = false;
            for which in 0..self.streams.len() {
                for side in [HEAD, NECK] {
                    while self.take(side, which) {
                        some = true;
                    }
                }
            }
            if !some {
                break;
            }
        }
        for which in 0..self.streams.len() {
            self.end(HEAD, which);
            self.answer(which);
        }
        self.settle();
        while (0..self.streams.len()).fold(false, |some, which| some | self.take(HEAD, which)) {
            self.settle();
        }
    }

    fn check_end(&self) {
        for stream in &self.streams {
            let Stream { halves: [Some(head), neck], is_cancelled, .. } = stream else {
                panic!("a stream without its caller");
            };
            let Some(neck) = neck else {
                assert!(is_cancelled);
                continue;
            };
            assert!(neck.came <= head.sent && head.came <= neck.sent);
            if !is_cancelled {
                // Who serves has taken all, or wanted no more, before it answered.
                assert!(neck.has_stopped || neck.came == head.sent || !neck.is_over);
                assert!(head.has_stopped || head.came == neck.sent, "{} of {}", head.came, neck.sent);
                assert!(head.is_over);
            }
        }
        for end in &self.pair.ends {
            assert!(end.state.is_quiet(), "something is left");
            assert!(end.state.inflows.is_empty() && end.state.outbox.outlets.is_empty());
        }
    }
}

#[derive(Clone, Debug)]
enum Op {
    Open,
    Put(usize, usize, usize),
    Take(usize, usize),
    End(usize, usize),
    Stop(usize, usize),
    Answer(usize),
    Cancel(usize),
    Pump(usize),
    Deliver(usize),
}

fn op() -> impl Strategy<Value = Op> {
    let side = || prop_oneof![Just(HEAD), Just(NECK)];
    let which = || 0..4usize;
    let size = || prop_oneof![8 => 4..50usize, 2 => 50..30_000usize, 1 => 55_000..300_000usize];
    prop_oneof![
        2 => Just(Op::Open),
        20 => (side(), which(), size()).prop_map(|(side, which, size)| Op::Put(side, which, size)),
        10 => (side(), which()).prop_map(|(side, which)| Op::Take(side, which)),
        1 => (side(), which()).prop_map(|(side, which)| Op::End(side, which)),
        1 => (side(), which()).prop_map(|(side, which)| Op::Stop(side, which)),
        1 => which().prop_map(Op::Answer),
        1 => which().prop_map(Op::Cancel),
        8 => side().prop_map(Op::Pump),
        8 => side().prop_map(Op::Deliver),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100 * crate::soak::rounds(1) as u32))]

    #[test]
    fn p_13_what_comes_is_what_was_sent_and_nothing_is_left(
        ops in proptest::collection::vec(op(), 0..300),
        items in 1..20u32,
        bytes in prop_oneof![1..200u32, Just(1 << 20)],
        small in any::<bool>(),
    ) {
        let window = if small { Window { frames: 3, bytes: 100_000, large: 1 } } else { Window::default() };
        let mut model = Model::new(&Config::new().stream_items(items).stream_bytes(bytes), window);
        for op in ops {
            let n = model.streams.len();
            match op {
                Op::Open if n < 4 => drop(model.open()),
                Op::Put(side, which, size) if which < n => drop(model.put(side, which, size)),
                Op::Take(side, which) if which < n => drop(model.take(side, which)),
                Op::End(side, which) if which < n => model.end(side, which),
                Op::Stop(side, which) if which < n => model.stop(side, which),
                Op::Answer(which) if which < n => model.answer(which),
                Op::Cancel(which) if which < n => model.cancel(which),
                Op::Pump(side) => drop(model.pair.pump(side)),
                Op::Deliver(to) => drop(model.deliver(to).expect("both keep the rules")),
                _ => {}
            }
        }
        model.finish();
        model.check_end();
    }
}

#[test]
fn p_14_calls_go_before_the_items_of_streams() {
    let mut model = Model::new(&Config::new(), Window::default());
    let which = model.open();
    model.settle();
    for _ in 0..10 {
        assert!(model.put(HEAD, which, 50_000));
    }
    let skip = model.pair.ends[HEAD].watcher.log.len();
    let id = model.pair.call(HEAD, 9, 10);
    model.pair.pump(HEAD);
    assert_eq!(model.pair.starts_of(HEAD, skip)[0], (Kind::Call, id.to_bits()));
}

#[test]
fn a_stream_that_has_begun_has_no_timer() {
    for begins in [false, true] {
        let mut model = Model::new(&Config::new(), Window::default());
        let which = model.open_within(Some(5));
        let id = model.streams[which].id;
        if begins {
            model.settle();
        }
        model.pair.advance(5);
        let now = model.pair.now;
        let state = &mut model.pair.ends[HEAD].state;
        assert_eq!(state.handle_timeout(now).is_some(), !begins);
        assert_eq!(state.inflows.contains_key(&id.to_bits()), begins);
    }
}
