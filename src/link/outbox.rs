//! What waits to be sent, in which order it goes, and how much may be under way.
//!
//! *Control* goes first. Behind it are three lanes, and the first that has something goes: *answers*
//! and *starts* (calls and events, in the order of their making) of one frame each, and *slow*: what
//! has to be cut, a few messages at a time, which take turns, and the items of streams. Every so often a
//! lane further behind goes first, so that none waits forever. A start waits until the other side is ready,
//! and a call until fewer than `in_flight` calls are unanswered. Everything but the few kinds in [`is_free`] keeps to the
//! window.

use std::collections::VecDeque;

use rustc_hash::FxHashMap;

use super::{
    line::Line,
    load::{Load, Packet},
    message::Start,
    outlets::{Outlets, held},
};
use crate::{
    config::Config,
    transport::Window,
    wire::{Ack, Codec, FRAME_LIMIT, Flags, HEADER_LEN, Header, Kind, ProtocolError, TransactionId},
};

/// A message on its way out.
#[derive(Debug)]
pub(crate) struct Draft {
    pub(crate) kind: Kind,
    pub(crate) id: u64,
    pub(crate) load: Load,
}

impl Draft {
    /// A message without a body.
    pub(crate) fn bare(kind: Kind, id: u64) -> Draft {
        Draft::with(kind, id, |_| ())
    }

    /// A message whose body is written here.
    pub(crate) fn with(kind: Kind, id: u64, body: impl FnOnce(&mut Vec<u8>)) -> Draft {
        let mut buffer = vec![0; HEADER_LEN];
        body(&mut buffer);
        Draft { kind, id, load: buffer.into() }
    }
}

#[derive(Debug)]
pub(crate) struct Outbox {
    control: VecDeque<Draft>,
    answers: VecDeque<Draft>,
    starts: Line,
    /// Answers that have to be cut.
    slow_answers: VecDeque<Draft>,
    /// What the answers of both take.
    answer_bytes: usize,
    /// Starts that have to be cut, and the events behind an event that has to be.
    slow_starts: Line,
    /// What is being cut, and where it goes on: at most [`UNFINISHED`] answers and as many others. While a
    /// packet is sent, it has the bytes of one of them.
    bulk: VecDeque<(Draft, usize)>,
    /// What the messages take that are being cut, and the last of them, whose end is in the packet.
    cut_bytes: FxHashMap<(u8, u64), usize>,
    leaving: usize,
    /// The items of streams.
    pub(super) outlets: Outlets,
    /// What is being cut has had its turn.
    items_first: bool,
    /// How many frames the lanes have given.
    turn: u32,
    /// The last words have gone.
    ended: bool,
    /// The other side takes calls.
    open: bool,
    in_flight: usize,
    in_flight_limit: usize,
    window: Window,
    /// Frames and bytes of windowed kinds that went out so far, modulo 2^32.
    sent: Ack,
    /// Of these, what the other side says it has read.
    acknowledged: Ack,
    /// What we have read, to be told on the next header.
    read: Ack,
    /// Of that, what the other side knows already.
    told: Ack,
}

#[derive(Clone, Copy)]
enum Lane {
    Answers,
    Starts,
    Slow,
}

/// What the slow lane does next.
enum Slow {
    Answer,
    Start,
    /// The next items of a stream, or what is behind them.
    Items,
    Rest,
}

impl Outbox {
    pub(crate) fn new(window: Window, config: &Config) -> Outbox {
        // Through a window of nothing, nothing would ever go.
        let window = Window { frames: window.frames.max(1), large: window.large.max(1), ..window };
        Outbox {
            control: VecDeque::new(),
            answers: VecDeque::new(),
            starts: Line::default(),
            slow_answers: VecDeque::new(),
            answer_bytes: 0,
            slow_starts: Line::default(),
            bulk: VecDeque::new(),
            cut_bytes: FxHashMap::default(),
            leaving: 0,
            outlets: Outlets::new(config),
            items_first: false,
            turn: 0,
            ended: false,
            open: false,
            in_flight: 0,
            in_flight_limit: config.limits.in_flight,
            window,
            sent: Ack::default(),
            acknowledged: Ack::default(),
            read: Ack::default(),
            told: Ack::default(),
        }
    }

    pub(crate) fn push_control(&mut self, draft: Draft) {
        self.control.push_back(draft);
    }

    /// Puts it in the place of one of the same kind and id, which it makes superfluous, if that still waits: of
    /// those that a peer does not read there is one.
    pub(crate) fn replace_control(&mut self, draft: Draft) {
        let same = |old: &&mut Draft| (old.kind, old.id) == (draft.kind, draft.id);
        match self.control.iter_mut().find(same) {
            Some(old) => *old = draft,
            None => self.push_control(draft),
        }
    }

    pub(crate) fn push_answer(&mut self, draft: Draft) {
        self.answer_bytes += held(&draft);
        let line = if draft.load.is_large() { &mut self.slow_answers } else { &mut self.answers };
        line.push_back(draft);
    }

    pub(crate) fn push_start(&mut self, start: Start) {
        // Events keep their order: one that could go at once would overtake a large one before it.
        let follows = start.kind == Kind::Event && self.slow_events() > 0;
        let line = if follows || start.is_large() { &mut self.slow_starts } else { &mut self.starts };
        line.push(start);
    }

    /// What waits in both codecs takes this one.
    pub(crate) fn settle(&mut self, codec: Codec) {
        self.starts.settle(codec);
        self.slow_starts.settle(codec);
    }

    /// The other side is ready: starts may leave.
    pub(crate) fn open(&mut self) {
        self.open = true;
    }

    /// Takes a call back that has not left.
    pub(crate) fn withdraw(&mut self, id: TransactionId) -> Option<Start> {
        self.starts.withdraw(id).or_else(|| self.slow_starts.withdraw(id))
    }

    /// Whether an answer to this call that has to be cut waits, or has left in part. There must be no second one:
    /// by their ids they could not be told apart.
    pub(crate) fn is_cutting_answer(&self, id: u64) -> bool {
        let cut = self.bulk.iter().map(|(draft, _)| draft);
        cut.chain(&self.slow_answers).any(|draft| draft.id == id && is_answer(draft.kind))
    }

    /// Drops what is left of a call that has left in part.
    pub(crate) fn cut_short(&mut self, id: TransactionId) {
        self.bulk.retain(|(draft, _)| !draft.kind.is_call() || draft.id != id.to_bits());
        self.forget_cut();
    }

    /// Takes back the calls that have not left, and drops the rest of those that have in part.
    pub(crate) fn withdraw_calls(&mut self) -> Vec<Start> {
        self.bulk.retain(|(draft, _)| !draft.kind.is_call());
        self.forget_cut();
        let mut calls = self.starts.take_calls();
        calls.append(&mut self.slow_starts.take_calls());
        calls
    }

    /// The next word of control, whatever the window.
    pub(crate) fn next_control(&mut self) -> Option<Draft> {
        self.control.pop_front()
    }

    /// Whether a call may leave before anything else, without a place in a line.
    pub(crate) fn call_may_pass(&self) -> bool {
        self.is_drained() && !self.ended && self.may_leave(Kind::Call)
    }

    /// Puts a message into an empty packet, without a place in a line, if nothing waits and nothing is in its way.
    /// Else it comes back.
    pub(crate) fn pass(&mut self, packet: &mut Packet, mut draft: Draft) -> Result<(), Draft> {
        let kind = draft.kind;
        let may_go = self.is_drained() && !self.ended && (is_answer(kind) || self.may_leave(kind));
        if !may_go || draft.load.is_large() || !self.window_is_open() {
            return Err(draft);
        }
        self.in_flight += usize::from(kind.is_call());
        let len = draft.load.len();
        self.seal(packet.add(&mut draft, HEADER_LEN..len), kind, draft.id, Flags::default());
        Ok(())
    }

    /// A call has left without a place in a line.
    pub(crate) fn call_passed(&mut self) {
        self.in_flight += 1;
    }

    /// A call that had left is no longer waited for.
    pub(crate) fn call_ended(&mut self) {
        self.in_flight = self.in_flight.saturating_sub(1);
    }

    /// The next call or event of one frame that may leave now, without regard to the window.
    pub(crate) fn next_start(&mut self) -> Option<Start> {
        self.starts.front().filter(|start| self.may_leave(start.kind))?;
        let start = self.starts.pop()?;
        self.in_flight += usize::from(start.kind.is_call());
        Some(start)
    }

    fn may_leave(&self, kind: Kind) -> bool {
        self.open && (!kind.is_call() || self.in_flight < self.in_flight_limit)
    }

    /// Empties every line. Gives back what had not started to leave, and says how many events are lost.
    pub(crate) fn clear(&mut self) -> (Vec<Start>, u64) {
        let events = self.starts.events() + self.slow_events();
        // The last words may be waiting for a thread that is sending at this moment.
        self.control.retain(|draft| draft.kind == Kind::Bye);
        self.answers.clear();
        self.slow_answers.clear();
        self.answer_bytes = 0;
        self.bulk.clear();
        self.cut_bytes.clear();
        self.outlets.clear();
        let lines = [std::mem::take(&mut self.starts), std::mem::take(&mut self.slow_starts)];
        (lines.into_iter().flat_map(Line::into_starts).collect(), events as u64)
    }

    /// Whether nothing waits that may ever be sent.
    pub(crate) fn is_drained(&self) -> bool {
        let answers = self.answers.is_empty() && self.slow_answers.is_empty();
        let starts = self.starts.is_empty() && self.slow_starts.is_empty();
        let rest = self.bulk.is_empty() && self.outlets.is_drained();
        self.control.is_empty() && answers && starts && rest
    }

    /// Whether something waits, and nothing of it may leave until the other side has read more.
    pub(crate) fn is_stuck(&self) -> bool {
        !self.ended && !self.window_is_open() && !self.is_drained()
    }

    /// How many messages and bytes wait to be started.
    pub(crate) fn waiting(&self) -> (usize, usize) {
        let [quick, slow] = [&self.starts, &self.slow_starts];
        (quick.len() + slow.len(), quick.bytes() + slow.bytes())
    }

    /// How many events have left the lines, in the order in which they came.
    pub(crate) fn n_events_left(&self) -> u64 {
        self.starts.events_left() + self.slow_starts.events_left()
    }

    /// How many will have when those that wait have.
    pub(crate) fn n_events_so_far(&self) -> u64 {
        self.n_events_left() + (self.starts.events() + self.slow_starts.events()) as u64
    }

    /// How many bytes all of it takes: what waits, and what has left in part.
    pub(crate) fn held(&self) -> usize {
        self.others() + self.outlets.bytes
    }

    /// The same without the items of streams.
    pub(crate) fn others(&self) -> usize {
        let cut = self.cut_bytes.values().sum::<usize>() + self.leaving;
        self.starts.bytes() + self.slow_starts.bytes() + self.answer_bytes + cut
    }

    /// Whether so many bytes more may wait. With nothing else waiting, one message always may.
    pub(crate) fn has_room(&self, bytes: usize) -> bool {
        let held = self.held();
        held == 0 || held.saturating_add(bytes) <= self.outlets.limit
    }

    /// Counts what is being cut no more than it is.
    fn forget_cut(&mut self) {
        let bulk = &self.bulk;
        self.cut_bytes.retain(|key, _| bulk.iter().any(|(draft, _)| (draft.kind as u8, draft.id) == *key));
    }

    /// How many answers wait, or have left in part.
    pub(crate) fn n_answers(&self) -> usize {
        self.answers.len() + self.slow_answers.len() + self.n_cut(true)
    }

    /// How many answers to pings wait.
    pub(crate) fn n_pongs(&self) -> usize {
        self.control.iter().filter(|draft| draft.kind == Kind::Pong).count()
    }

    /// How many events wait in the slow lane or have left in part.
    fn slow_events(&self) -> usize {
        let cut = self.bulk.iter().filter(|(draft, _)| draft.kind == Kind::Event).count();
        self.slow_starts.events() + cut
    }

    /// How many answers, or else starts, have left in part.
    fn n_cut(&self, answers: bool) -> usize {
        self.bulk.iter().filter(|(draft, _)| is_answer(draft.kind) == answers).count()
    }

    /// Takes the acknowledgement of a frame, and says whether it tells anything new.
    pub(crate) fn acknowledge(&mut self, ack: Ack) -> Result<bool, ProtocolError> {
        let frames = ack.frames.wrapping_sub(self.acknowledged.frames);
        let bytes = ack.bytes.wrapping_sub(self.acknowledged.bytes);
        let under_way = self.under_way();
        if frames > under_way.frames || bytes > under_way.bytes {
            return Err(ProtocolError::FlowControl);
        }
        self.acknowledged = ack;
        Ok(frames != 0)
    }

    /// How many bytes may have been on their way when the other side ended, its control frames included.
    pub(crate) fn most_under_way(&self) -> usize {
        self.window.bytes as usize + (self.window.large as usize + 1) * FRAME_LIMIT
    }

    /// Counts a frame that was read, if the other side had room for it in its window.
    pub(crate) fn count_read(&mut self, kind: Kind, len: usize) -> Result<(), ProtocolError> {
        if is_free(kind) {
            return Ok(());
        }
        let untold = self.untold();
        if !self.window.has_room(untold.frames, untold.bytes) {
            return Err(ProtocolError::FlowControl);
        }
        self.read.frames = self.read.frames.wrapping_add(1);
        self.read.bytes = self.read.bytes.wrapping_add(len as u32);
        Ok(())
    }

    /// Writes as many frames as may go now into `packet`, at most [`FRAME_LIMIT`] bytes, and calls
    /// `started` with the id of each call that leaves. `false` when there is nothing to send.
    pub(crate) fn next_packet(
        &mut self,
        packet: &mut Packet,
        mut started: impl FnMut(TransactionId),
    ) -> bool {
        self.take_back(packet);
        self.leaving = 0;
        if self.is_drained() && !self.owes_credit() {
            return false;
        }
        while let Some((mut draft, from)) = self.next_draft(packet.room()) {
            let (len, kind, id) = (draft.load.len(), draft.kind, draft.id);
            let to = len.min(from + FRAME_LIMIT - HEADER_LEN);
            let flags = Flags { more: to < len, continues: from > HEADER_LEN };
            self.count_cut(&draft, flags);
            if kind.is_call() && !flags.continues {
                TransactionId::from_bits(id).into_iter().for_each(&mut started);
            }
            self.seal(packet.add(&mut draft, from..to), kind, id, flags);
            if flags.more {
                self.bulk.push_back((draft, to));
            } else if flags.continues && kind == Kind::StreamItem {
                self.outlets.has_left(id).into_iter().for_each(|answer| self.push_answer(answer));
            }
        }
        if packet.is_empty() && self.owes_credit() && !self.ended {
            self.seal(packet.add_bare(), Kind::Credit, 0, Flags::default());
        }
        !packet.is_empty()
    }

    /// Counts a message that leaves in parts until it has left.
    fn count_cut(&mut self, draft: &Draft, flags: Flags) {
        let key = (draft.kind as u8, draft.id);
        match flags {
            Flags { more: true, continues: false } => _ = self.cut_bytes.insert(key, draft.load.held()),
            Flags { more: false, continues: true } => {
                self.leaving += self.cut_bytes.remove(&key).unwrap_or(0)
            }
            _ => {}
        }
    }

    /// Takes the message back of which the packet before this one was a part, unless no more of it is to go.
    fn take_back(&mut self, packet: &mut Packet) {
        let Some((kind, id, load)) = packet.take_back() else { return };
        let same = |draft: &Draft| draft.kind == kind && draft.id == id;
        if let Some((draft, _)) = self.bulk.iter_mut().find(|(draft, _)| same(draft)) {
            draft.load = load;
        }
    }

    /// The next message, or part of one, that fits into `room` and may go; and where it goes on.
    fn next_draft(&mut self, room: usize) -> Option<(Draft, usize)> {
        if self.ended || room == 0 || self.is_drained() {
            return None;
        }
        let window_open = self.window_is_open();
        if let Some(at) = self.control.iter().position(|draft| window_open || is_free(draft.kind)) {
            if self.control[at].load.len() > room {
                return None;
            }
            let draft = self.control.remove(at)?;
            self.ended = draft.kind == Kind::Bye;
            return Some((draft, HEADER_LEN));
        }
        if !window_open {
            return None;
        }
        let lanes = self.lanes().into_iter();
        let mut next = lanes.filter_map(|lane| self.next_of(lane).map(|size| (lane, size)));
        let (lane, _) = next.next().filter(|(_, size)| *size <= room)?;
        drop(next);
        self.turn = self.turn.wrapping_add(1);
        self.take_of(lane)
    }

    /// The lanes, the first to go first.
    fn lanes(&self) -> [Lane; 3] {
        match self.turn % ROUND {
            HALF_ROUND => [Lane::Starts, Lane::Answers, Lane::Slow],
            LAST_OF_ROUND => [Lane::Slow, Lane::Starts, Lane::Answers],
            _ => [Lane::Answers, Lane::Starts, Lane::Slow],
        }
    }

    /// The size of the next frame of a lane, if it has one that may go.
    fn next_of(&mut self, lane: Lane) -> Option<usize> {
        match lane {
            Lane::Answers => self.answers.front().map(|draft| draft.load.len()),
            Lane::Starts => {
                self.starts.front().filter(|start| self.may_leave(start.kind)).map(Start::frame_size)
            }
            Lane::Slow => match self.next_slow()? {
                Slow::Answer => Some(FRAME_LIMIT),
                Slow::Start => self.slow_starts.front().map(Start::frame_size),
                Slow::Items => Some(self.outlets.next_size().min(FRAME_LIMIT)),
                Slow::Rest => {
                    let (draft, from) = self.bulk.front()?;
                    Some((draft.load.len() - from + HEADER_LEN).min(FRAME_LIMIT))
                }
            },
        }
    }

    fn take_of(&mut self, lane: Lane) -> Option<(Draft, usize)> {
        let whole = |draft| (draft, HEADER_LEN);
        match lane {
            Lane::Answers => {
                let answer = self.answers.pop_front()?;
                self.answer_bytes -= held(&answer);
                Some(whole(answer))
            }
            Lane::Starts => self.next_start()?.into_draft().map(whole),
            Lane::Slow => match self.next_slow()? {
                Slow::Answer => {
                    let answer = self.slow_answers.pop_front()?;
                    self.answer_bytes -= held(&answer);
                    Some(whole(answer))
                }
                Slow::Start => {
                    let start = self.slow_starts.pop()?;
                    self.in_flight += usize::from(start.kind.is_call());
                    start.into_draft().map(whole)
                }
                Slow::Items => {
                    self.items_first = false;
                    let (items, answer) = self.outlets.next()?;
                    answer.into_iter().for_each(|answer| self.push_answer(answer));
                    Some(whole(items))
                }
                Slow::Rest => {
                    self.items_first = true;
                    self.bulk.pop_front()
                }
            },
        }
    }

    fn next_slow(&mut self) -> Option<Slow> {
        if !self.slow_answers.is_empty() && self.n_cut(true) < UNFINISHED {
            return Some(Slow::Answer);
        }
        if self.slow_starts.front().is_some_and(|start| self.may_begin(start)) {
            return Some(Slow::Start);
        }
        // Of the two starts that may have left in part, one may be items.
        let may_cut = !self.cuts_items() && self.n_cut(false) < UNFINISHED;
        if (self.items_first || self.bulk.is_empty()) && self.outlets.turn(may_cut) {
            return Some(Slow::Items);
        }
        (!self.bulk.is_empty()).then_some(Slow::Rest)
    }

    /// Whether items of a stream have left in part.
    fn cuts_items(&self) -> bool {
        self.bulk.iter().any(|(draft, _)| draft.kind == Kind::StreamItem)
    }

    /// Whether the first of the slow starts may begin.
    fn may_begin(&self, start: &Start) -> bool {
        let in_order = || {
            let cut = self.bulk.iter().any(|(draft, _)| draft.kind == Kind::Event);
            // The events of the quick line are older: newer ones are lined up behind this one.
            !cut && self.starts.events() == 0
        };
        // Items that have to be cut have a turn, too.
        let others =
            self.n_cut(false) + usize::from(self.outlets.next_size() > FRAME_LIMIT && !self.cuts_items());
        self.may_leave(start.kind) && others < UNFINISHED && (start.kind != Kind::Event || in_order())
    }

    /// Writes the header of a frame that goes now.
    fn seal(&mut self, frame: &mut [u8], kind: Kind, id: u64, flags: Flags) {
        Header { kind, flags, id, ack: self.read }.write(frame);
        self.told = self.read;
        if !is_free(kind) {
            self.sent.frames = self.sent.frames.wrapping_add(1);
            self.sent.bytes = self.sent.bytes.wrapping_add(frame.len() as u32);
        }
    }

    fn window_is_open(&self) -> bool {
        let under_way = self.under_way();
        self.window.has_room(under_way.frames, under_way.bytes)
    }

    fn under_way(&self) -> Ack {
        Ack {
            frames: self.sent.frames.wrapping_sub(self.acknowledged.frames),
            bytes: self.sent.bytes.wrapping_sub(self.acknowledged.bytes),
        }
    }

    fn untold(&self) -> Ack {
        Ack {
            frames: self.read.frames.wrapping_sub(self.told.frames),
            bytes: self.read.bytes.wrapping_sub(self.told.bytes),
        }
    }

    /// Whether the other side could soon wait for an acknowledgement that nothing else carries.
    fn owes_credit(&self) -> bool {
        let untold = self.untold();
        let Window { frames, bytes, large } = self.window;
        // At least one, since a credit for nothing would go again and again. Rounded down: of three large
        // frames, the credit for the first wakes the sender while there are two to read.
        let half = |of: u32| (of / 2).max(1);
        untold.frames >= half(frames) || (untold.bytes >= half(bytes) && untold.frames >= half(large))
    }
}

/// Whether a frame goes without regard to the window. Of each of these only a few can be under way,
/// so that they fit beside a full window; a credit that had to wait for credit would never come.
pub(crate) fn is_free(kind: Kind) -> bool {
    matches!(kind, Kind::Hello | Kind::Ready | Kind::Credit | Kind::GoAway | Kind::Bye)
}

fn is_answer(kind: Kind) -> bool {
    matches!(kind, Kind::Reply | Kind::Fault)
}

/// How many answers, and how many starts, may have left in part: few, since a receiver makes room for each from its
/// first part on.
const UNFINISHED: usize = 2;
/// In so many frames each lane is first once at least.
const ROUND: u32 = 16;
const HALF_ROUND: u32 = ROUND / 2;
const LAST_OF_ROUND: u32 = ROUND - 1;

#[cfg(test)]
mod tests;
