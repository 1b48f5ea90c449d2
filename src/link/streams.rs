//! The streams of one side of a link, as a part of the machine: a stream is a call with items behind it, or
//! behind its answer.
//!
//! What is to be sent is kept by the [`Outlets`](super::outlets::Outlets); here is what may come. An item
//! may come when it was granted, counted in items and in bytes. A call that is over takes its streams with
//! it, and what still comes of them is dropped.

use std::time::Instant;

use super::{
    budget::OF_A_STREAM,
    inbox::Body,
    load::{Load, Packet},
    message::{Cargo, Incoming, Refused},
    outbox::Draft,
    outlets::{Item, Room},
    state::{Action, State},
    stream::{Batch, Ends, Intake, Outlet},
    token::CancelToken,
};
use crate::{
    sync::Arc,
    wire::{Fault, Kind, OpenHead, ProtocolError, Quota, TransactionId, first_item},
};

/// One direction of a stream, at the side where its items come.
#[derive(Debug)]
pub(crate) struct Inflow {
    intake: Arc<Intake>,
    /// What may come and what came, from the start.
    granted: Quota,
    came: Quota,
    ended: bool,
    /// Nobody takes any more.
    stopped: bool,
    /// The other side is to be told as soon as it knows of the stream.
    owes_stop: bool,
}

impl Inflow {
    fn new(intake: Arc<Intake>, granted: Quota) -> Inflow {
        Inflow { intake, granted, came: Quota::default(), ended: false, stopped: false, owes_stop: false }
    }

    /// How many frames of it may be on their way: an item each, and the end.
    fn may_come(&self) -> u32 {
        if self.ended { 0 } else { self.granted.since(self.came).items.saturating_add(1) }
    }
}

impl<W: Clone> State<W> {
    // What comes in.

    /// Takes the cancel of a call that is being served.
    pub(crate) fn handle_cancel(&mut self, id: TransactionId) -> Option<(CancelToken, Ends)> {
        let token = self.served.get(&id).map(|served| served.token.clone());
        let ends = self.cut_stream(id, token.is_some());
        token.map(|token| (token, ends))
    }

    /// Makes the ends of a stream that the other side has opened. Nothing may come before it is accepted.
    pub(super) fn serve_stream(&mut self, id: TransactionId, head: OpenHead, incoming: &Incoming) -> Ends {
        let mut ends = Ends::default();
        if head.sends {
            let intake = Intake::new(&incoming.path);
            self.inflows.insert(id.to_bits(), Inflow::new(intake.clone(), Quota::default()));
            ends.intake = Some(intake);
        }
        if let Some(quota) = head.takes {
            let outlet = Outlet::new(&incoming.path);
            self.outbox.outlets.open(id.to_bits(), outlet.clone(), Some(quota));
            ends.outlet = Some(outlet);
        }
        ends
    }

    /// Whether items may be of this call; `false` if that is over.
    fn check_items(&self, bits: u64, what: &'static str) -> Result<bool, ProtocolError> {
        let is_there = self.check_stream(bits, what)?;
        // Of a call that is answered nothing comes any more, even while items of it go.
        let id = TransactionId::from_bits(bits).filter(|id| id.side() != self.side);
        Ok(is_there && id.is_none_or(|id| self.served.contains_key(&id)))
    }

    /// Whether a frame of a stream can be of this call; `false` if that is over.
    pub(super) fn check_stream(&self, bits: u64, what: &'static str) -> Result<bool, ProtocolError> {
        let id = TransactionId::from_bits(bits).ok_or(ProtocolError::BadId(bits))?;
        if id.side() == self.side {
            self.calls.answerable(bits)?;
        } else if id.counter() > self.last_seen {
            return Err(ProtocolError::UnknownId(bits));
        }
        if self.inflows.contains_key(&bits) || self.outbox.outlets.contains(bits) {
            return Ok(true);
        }
        // A call without items has none.
        let plain = self.calls.get(id).is_some() || self.served.contains_key(&id);
        if plain { Err(ProtocolError::OutOfPlace(what)) } else { Ok(false) }
    }

    /// Takes items.
    pub(super) fn handle_items(
        &mut self,
        bits: u64,
        body: Body,
        now: Instant,
        actions: &mut Vec<Action<W>>,
    ) -> Result<(), ProtocolError> {
        if body.bytes().is_empty() {
            return Err(ProtocolError::BadEnvelope("no item"));
        }
        if !self.check_items(bits, "an item")? {
            self.budget.pay("items of streams that are over", now)?;
            actions.push(Action::LateItems(count(&body)?));
            return Ok(());
        }
        let inflow = self.inflows.get_mut(&bits).filter(|inflow| !inflow.ended);
        let inflow = inflow.ok_or(ProtocolError::OutOfPlace("an item"))?;
        let mut rest = body.bytes();
        while !rest.is_empty() {
            let item = first_item(rest)?;
            if !inflow.granted.has_room(inflow.came) {
                return Err(ProtocolError::FlowControl);
            }
            inflow.came = inflow.came.with_item(item.len());
            rest = &rest[item.end..];
        }
        actions.push(match inflow.stopped {
            true => Action::LateItems(count(&body)?),
            false => Action::Items(inflow.intake.clone(), Batch::new(body.buffer, body.start, body.hold)),
        });
        self.begun(bits);
        Ok(())
    }

    /// There is no room for items: the stream sends no more, and whoever takes them is told.
    pub(super) fn lose_items(
        &mut self,
        bits: u64,
        why: Fault,
        now: Instant,
        actions: &mut Vec<Action<W>>,
    ) -> Result<(), ProtocolError> {
        let is_there = self.check_items(bits, "an item")?;
        // Before it has begun, a stop would be kept back.
        self.begun(bits);
        if is_there
            && let Some(id) = TransactionId::from_bits(bits)
            && let Some(inflow) = self.inflows.get(&bits).filter(|inflow| !inflow.stopped)
        {
            actions.push(Action::ItemsLost(inflow.intake.clone(), why.into()));
            self.stop_items(id);
        }
        self.budget.pay("items beyond the room for them", now)
    }

    /// Takes the end of the items.
    pub(super) fn handle_end(
        &mut self,
        bits: u64,
        now: Instant,
        actions: &mut Vec<Action<W>>,
    ) -> Result<(), ProtocolError> {
        if !self.check_items(bits, "an end of items")? {
            return self.budget.pay("ends of streams that are over", now);
        }
        let inflow = self.inflows.get_mut(&bits).filter(|inflow| !inflow.ended);
        let inflow = inflow.ok_or(ProtocolError::OutOfPlace("an end of items"))?;
        inflow.ended = true;
        actions.push(Action::ItemsEnded(inflow.intake.clone()));
        self.begun(bits);
        Ok(())
    }

    /// Takes word of how much may be sent. To a call that sends nothing it says that it has begun.
    pub(super) fn handle_quota(
        &mut self,
        bits: u64,
        body: &Body,
        now: Instant,
        actions: &mut Vec<Action<W>>,
    ) -> Result<(), ProtocolError> {
        let quota = Quota::read(body.bytes())?;
        if !self.check_stream(bits, "a quota")? {
            return self.budget.pay("quotas of streams that are over", now);
        }
        let first = self.begun(bits);
        let news = match self.outbox.outlets.grant(bits, quota) {
            Some(news) => news.map_err(|()| ProtocolError::FlowControl)?,
            None => false,
        };
        if news {
            actions.extend(self.outbox.outlets.get(bits).cloned().map(Action::Room));
        }
        if news || first { Ok(()) } else { self.budget.pay("quotas for nothing", now) }
    }

    /// Takes word that no items are wanted any more.
    pub(super) fn handle_stop(
        &mut self,
        bits: u64,
        now: Instant,
        actions: &mut Vec<Action<W>>,
    ) -> Result<(), ProtocolError> {
        if !self.check_stream(bits, "a stop")? {
            return self.budget.pay("stops of streams that are over", now);
        }
        let stopped = self.outbox.outlets.stop(bits).ok_or(ProtocolError::OutOfPlace("a stop"))?;
        let (outlet, answer) = stopped;
        answer.into_iter().for_each(|answer| self.outbox.push_answer(answer));
        actions.push(Action::Stopped(outlet));
        self.budget.pay("stops", now)
    }

    /// A stream of ours has begun at the other side: nobody watches the clock for it any more.
    fn begun(&mut self, bits: u64) -> bool {
        let id = TransactionId::from_bits(bits).filter(|id| id.side() == self.side);
        let first = id.is_some_and(|id| self.calls.begun(id));
        if first && self.inflows.get_mut(&bits).is_some_and(|it| std::mem::take(&mut it.owes_stop)) {
            self.outbox.push_control(Draft::bare(Kind::StreamStop, bits));
        }
        first
    }

    /// The same of a stream whose other side is in this process.
    pub(crate) fn calls_begun(&mut self, id: TransactionId) {
        self.calls.begun(id);
    }

    /// Gives a call another timer. Says whether it is under way.
    pub(crate) fn calls_set_timer(&mut self, id: TransactionId, timer: Option<Instant>) -> bool {
        self.calls.set_end(id, timer)
    }

    // What goes out.

    /// Files a call with items and queues it.
    pub(crate) fn begin_stream(
        &mut self,
        waiter: W,
        timer: Option<Instant>,
        cargo: Cargo,
    ) -> Result<TransactionId, Refused> {
        if let Err(refusal) = self.admit(false, cargo.held()) {
            return Err((refusal, cargo));
        }
        let id = self.calls.begin(waiter, None);
        self.calls.set_timer(id, timer);
        self.budget.earn(OF_A_STREAM);
        self.queue(Kind::Open, id, cargo, None);
        Ok(id)
    }

    /// Makes a call of ours a stream, of which nothing has left.
    pub(crate) fn add_stream(&mut self, id: TransactionId, ends: &Ends, window: Quota) {
        if let Some(intake) = &ends.intake {
            self.inflows.insert(id.to_bits(), Inflow::new(intake.clone(), window));
        }
        if let Some(outlet) = &ends.outlet {
            self.outbox.outlets.open(id.to_bits(), outlet.clone(), None);
        }
    }

    /// Tells the other side that its stream has begun, and how much of it may come.
    pub(crate) fn accept_stream(&mut self, id: TransactionId, window: Quota) {
        let quota = self.inflows.get_mut(&id.to_bits()).map(|inflow| {
            inflow.granted = window;
            window
        });
        self.push_quota(id, quota.unwrap_or_default());
    }

    /// Tells the other side that so much has been taken of a stream, and more may come.
    pub(crate) fn grant(&mut self, id: TransactionId, taken: Quota, window: Quota) {
        let Some(inflow) = self.inflows.get_mut(&id.to_bits()) else { return };
        let granted = taken.plus(window);
        if !inflow.ended && !inflow.stopped && inflow.granted != granted {
            inflow.granted = granted;
            self.push_quota(id, granted);
        }
    }

    fn push_quota(&mut self, id: TransactionId, quota: Quota) {
        let draft = Draft::with(Kind::StreamQuota, id.to_bits(), |body| quota.write(body));
        self.outbox.replace_control(draft);
    }

    /// Tells the other side that nobody takes its items any more.
    pub(crate) fn stop_items(&mut self, id: TransactionId) {
        let Some(inflow) = self.inflows.get_mut(&id.to_bits()) else { return };
        if inflow.ended || std::mem::replace(&mut inflow.stopped, true) {
            return;
        }
        // Before that it would overtake the beginning.
        if id.side() == self.side && !self.calls.has_begun(id) {
            inflow.owes_stop = true;
        } else {
            self.outbox.push_control(Draft::bare(Kind::StreamStop, id.to_bits()));
        }
    }

    /// Whether an item may go.
    pub(crate) fn room_for_items(&mut self, id: TransactionId) -> Room {
        let others = self.outbox.others();
        self.outbox.outlets.room(id.to_bits(), others)
    }

    /// Queues an item for which there is room; `None` if the stream sends no more, else how many messages
    /// of it wait.
    pub(crate) fn put_item(&mut self, id: TransactionId, bytes: usize, item: Item<'_>) -> Option<usize> {
        self.outbox.outlets.put(id.to_bits(), bytes, item)
    }

    /// Queues the end of the items.
    pub(crate) fn end_items(&mut self, id: TransactionId) {
        self.outbox.outlets.end(id.to_bits());
    }

    /// Those that may go on now, of those that found too much waiting.
    pub(crate) fn take_starved(&mut self) -> Vec<Arc<Outlet>> {
        let others = self.outbox.others();
        self.outbox.outlets.take_starved(others)
    }

    /// Whether there may be any.
    pub(crate) fn has_starved(&self) -> bool {
        self.outbox.outlets.has_starved()
    }

    // Ends.

    /// Queues the answer to a call that was served, or has it leave as a call does.
    pub(crate) fn answer(&mut self, id: TransactionId, kind: Kind, load: Load, packet: Option<&mut Packet>) {
        // Behind the items that were made before it.
        let draft = self.outbox.outlets.answer(id.to_bits(), Draft { kind, id: id.to_bits(), load });
        let left = match (draft, packet) {
            (Some(draft), Some(packet)) => self.outbox.pass(packet, draft),
            (Some(draft), None) => Err(draft),
            (None, _) => Ok(()),
        };
        if let Err(draft) = left {
            self.outbox.push_answer(draft);
        }
    }

    /// The caller of a stream has given it up: nothing of it goes, and what comes is dropped. Gives its
    /// ends. It is known until its handler is done; of one that is answered items may be waiting.
    pub(crate) fn cut_stream(&mut self, id: TransactionId, is_served: bool) -> Ends {
        if !is_served {
            return self.forget_stream(id);
        }
        let inflow = self.inflows.get_mut(&id.to_bits()).map(|inflow| {
            inflow.stopped = true;
            inflow.intake.clone()
        });
        let stopped = self.outbox.outlets.stop(id.to_bits());
        Ends { intake: inflow, outlet: stopped.map(|(outlet, _)| outlet) }
    }

    /// Forgets the streams of a call that is over, and gives their ends.
    pub(crate) fn forget_stream(&mut self, id: TransactionId) -> Ends {
        if self.has_no_streams() {
            return Ends::default();
        }
        let intake = self.forget_inflow(id);
        Ends { intake, outlet: self.outbox.outlets.remove(id.to_bits()) }
    }

    /// So that calls take no notice of streams where there are none.
    fn has_no_streams(&self) -> bool {
        self.inflows.is_empty() && self.outbox.outlets.is_empty()
    }

    /// The ends of the streams of a call that is answered. What they have to send goes before the answer.
    pub(crate) fn last_of_stream(&mut self, id: TransactionId) -> Ends {
        if self.has_no_streams() {
            return Ends::default();
        }
        let intake = self.forget_inflow(id);
        Ends { intake, outlet: self.outbox.outlets.get(id.to_bits()).cloned() }
    }

    /// The other side does not know of it yet, and may send what it was granted.
    fn forget_inflow(&mut self, id: TransactionId) -> Option<Arc<Intake>> {
        let inflow = self.inflows.remove(&id.to_bits())?;
        self.budget.earn(inflow.may_come());
        Some(inflow.intake)
    }

    /// Forgets all streams, and gives their ends.
    pub(super) fn drain_streams(&mut self) -> Vec<Ends> {
        let intakes = self.inflows.drain().map(|(_, inflow)| (Some(inflow.intake), None));
        let outlets = self.outbox.outlets.clear().into_iter().map(|(_, outlet)| (None, Some(outlet)));
        intakes.chain(outlets).map(|(intake, outlet)| Ends { intake, outlet }).collect()
    }
}

fn count(body: &Body) -> Result<u64, ProtocolError> {
    let (mut rest, mut n) = (body.bytes(), 0);
    while !rest.is_empty() {
        rest = &rest[first_item(rest)?.end..];
        n += 1;
    }
    Ok(n)
}
