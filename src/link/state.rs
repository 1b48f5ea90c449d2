//! One side of one link as a pure machine.
//!
//! It takes frames and the time as arguments and returns actions; it never locks, sleeps, spawns or
//! reads a clock. It knows no transport and no handler: what waits for a call is a value `W` that it
//! hands back.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use rustc_hash::FxHashMap;

use super::{
    budget::Budget,
    calls::{Pending, TransactionManager},
    filtering::Filtering,
    inbox::{Frame, Inbox},
    load::Packet,
    message::{Cargo, Incoming, Lost, Refusal, Refused, Start},
    outbox::{Draft, Outbox},
    pulse::Pulse,
    receive,
    stream::{Batch, Ends, Intake, Outlet},
    streams::Inflow,
    survey::Served,
    token::CancelToken,
};
use crate::{
    config::Config,
    error::{CallError, CloseReason, Executed},
    sync::Arc,
    transport::Window,
    wire::{
        Bye, Choice, Codec, Header, Hello, Kind, Ledger, Payload, ProtocolError, RecentPaths, Side, Tokens,
        TransactionId,
    },
};

/// What has to be done outside of the machine, in this order.
#[derive(Debug)]
pub(crate) enum Action<W> {
    /// The other side has greeted, and this is what the link speaks.
    Greeted(Codec, u64),
    /// Hand a call its end.
    Complete(W, Result<Payload, CallError>),
    /// Find a handler. With a waiter, the call descends from a call of ours for which it waits.
    Dispatch(Incoming, Option<W>),
    /// Tell a handler that nobody waits for it, and those who wait at the ends of its streams.
    Cancelled(CancelToken, Ends),
    /// Items of a stream came.
    Items(Arc<Intake>, Batch),
    /// So many came that nobody takes.
    LateItems(u64),
    /// No more items come.
    ItemsEnded(Arc<Intake>),
    /// There was no room for items, so that none come any more.
    ItemsLost(Arc<Intake>, CallError),
    /// There was no room for an event.
    EventLost(Box<Lost>),
    /// More items may go.
    Room(Arc<Outlet>),
    /// No more items are wanted.
    Stopped(Arc<Outlet>),
    /// A reply came for a call that had ended.
    LateReply,
    /// The other side takes calls now.
    PeerReady,
    /// The other side takes no calls any more.
    PeerGoingAway,
    /// The link is over.
    Close(CloseReason),
}

/// What becomes of the answer to a call that was served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Finish {
    /// It is sent.
    Awaited,
    /// The other side has said that it does not wait any more.
    GivenUp,
    /// The call was answered before, or the link is over.
    Over,
}

/// What the machine is told of a call that ends before its reply.
#[derive(Debug)]
pub(crate) struct Ended<W> {
    pub(crate) waiter: W,
    pub(crate) executed: Executed,
    /// What had not left. It may hold values of the user's: to be dropped without a lock.
    pub(crate) unsent: Option<Start>,
}

#[derive(Debug)]
pub(crate) struct State<W> {
    pub(super) side: Side,
    pub(super) tokens: Tokens,
    pub(super) served_limit: usize,
    send_queue: usize,
    pub(super) greeted: bool,
    pub(super) codecs: Choice,
    /// The codec of the link, once it is known.
    pub(super) codec: Option<Codec>,
    pub(super) filtering: Filtering,
    /// When the other side must have greeted.
    greet_by: Option<Instant>,
    stall_timeout: Duration,
    /// When an unfinished message was found to have waited too long.
    suspect: Option<Instant>,
    /// The other side has said its last words.
    peer_left: bool,
    pub(super) peer_ready: bool,
    pub(super) ready: bool,
    closed: bool,
    /// This side said that it takes no calls any more; the other side did.
    pub(super) going_away: bool,
    /// This side has ended its calls, and is about to say its last words.
    pub(super) ending: bool,
    peer_going_away: bool,
    pub(super) calls: TransactionManager<W>,
    pub(super) served: FxHashMap<TransactionId, Served>,
    /// The highest counter of a call or an event of the other side.
    pub(super) last_seen: u64,
    /// The streams of which items come here, by the bits of their calls.
    pub(super) inflows: FxHashMap<u64, Inflow>,
    pub(super) outbox: Outbox,
    pub(super) inbox: Inbox,
    pub(super) budget: Budget,
    pub(super) pulse: Pulse,
    pub(super) recent_paths: RecentPaths,
    /// Times at which whoever receives must be woken.
    alarms: BTreeSet<(Instant, usize)>,
}

impl<W: Clone> State<W> {
    /// A side that greets first, and is to be greeted in time.
    pub(crate) fn new(
        side: Side,
        config: &Config,
        window: Window,
        tokens: Tokens,
        greet_by: Option<Instant>,
    ) -> State<W> {
        let mut state = State::bare(side, config, window, tokens);
        state.greet_by = greet_by;
        state.pulse = Pulse::new(config);
        let hello = Hello::ours(side, tokens.ours).choosing(config.codecs).numbered(tokens.number);
        state.outbox.push_control(Draft::with(Kind::Hello, 0, |body| hello.write(body)));
        state
    }

    /// A side whose other side is in this process and needs no greeting.
    pub(crate) fn greeted(side: Side, config: &Config) -> State<W> {
        let mut state = State::bare(side, config, Window::default(), Tokens::default());
        state.greeted = true;
        state.codec = Some(Codec::Binary);
        state
    }

    fn bare(side: Side, config: &Config, window: Window, tokens: Tokens) -> State<W> {
        State {
            side,
            tokens,
            served_limit: config.limits.served_calls,
            send_queue: config.limits.send_queue,
            greeted: false,
            codecs: config.codecs,
            codec: config.codecs.settled(),
            filtering: Filtering::default(),
            greet_by: None,
            stall_timeout: config.stall_timeout,
            suspect: None,
            peer_left: false,
            peer_ready: false,
            ready: false,
            closed: false,
            going_away: false,
            ending: false,
            peer_going_away: false,
            calls: TransactionManager::new(side),
            served: FxHashMap::default(),
            last_seen: 0,
            inflows: FxHashMap::default(),
            outbox: Outbox::new(window, config),
            inbox: Inbox::new(config.limits.message_bytes, Ledger::new(config.limits.room())),
            budget: Budget::new(),
            pulse: Pulse::none(),
            recent_paths: RecentPaths::default(),
            alarms: BTreeSet::new(),
        }
    }

    // What comes in.

    /// Takes a frame, header included. An error means that the other side broke the protocol.
    pub(crate) fn handle_frame(
        &mut self,
        header: &Header,
        frame: Frame<'_>,
        now: Instant,
        actions: &mut Vec<Action<W>>,
    ) -> Result<(), ProtocolError> {
        if self.closed || self.peer_left {
            return Ok(());
        }
        let news = self.outbox.acknowledge(header.ack)?;
        if news {
            self.pulse.move_on();
        }
        self.outbox.count_read(header.kind, frame.len())?;
        if header.kind == Kind::Credit && !news {
            self.budget.pay("credit for nothing", now)?;
        }
        receive::frame(self, header, frame, now, actions)
    }

    /// What to make of bytes that are no frame: before the greeting, they are no peer's.
    pub(crate) fn blame(&self, violation: ProtocolError) -> ProtocolError {
        if self.greeted { violation } else { ProtocolError::NotAPeer { expected: self.side.other() } }
    }

    /// Takes a frame of an unknown kind that asks to be skipped.
    pub(crate) fn skip_frame(&mut self, now: Instant) -> Result<(), ProtocolError> {
        if !self.greeted {
            return Err(ProtocolError::BadHello("something else came before it"));
        }
        self.budget.pay("unknown frames", now)
    }

    /// Files a call that came from the other side, and says whose call it descends from.
    pub(crate) fn serve(&mut self, incoming: &Incoming, now: Instant) -> Option<W> {
        if let Some(id) = incoming.id {
            let (token, path) = (incoming.cancel.clone(), incoming.path.clone());
            let deadline = incoming.deadline.filter(|_| incoming.ends.is_none());
            self.served.insert(id, Served { token, path, since: now, deadline });
        }
        incoming.parent.and_then(|parent| self.waiter_of(parent))
    }

    /// Who waits for a call of ours.
    pub(crate) fn waiter_of(&self, id: TransactionId) -> Option<W> {
        self.calls.get(id).map(|pending| pending.waiter.clone())
    }

    /// Takes the other side's ready.
    pub(crate) fn handle_ready(&mut self) {
        self.peer_ready = true;
        self.outbox.open();
    }

    /// Takes the other side's wish for no more calls. Says whether it is news.
    pub(crate) fn handle_go_away(&mut self) -> bool {
        !std::mem::replace(&mut self.peer_going_away, true)
    }

    /// Takes the other side's last words; what comes behind them is not looked at.
    pub(super) fn handle_bye(&mut self) {
        self.peer_left = true;
    }

    /// What the silence of the other side means when its time is over.
    pub(crate) fn overdue(&mut self, now: Instant) -> Option<ProtocolError> {
        if self.awaits_greeting().is_some_and(|at| at <= now) {
            let late = if self.greeted {
                "nothing behind it showed the key in time"
            } else {
                "it did not come in time"
            };
            return Some(ProtocolError::BadHello(late));
        }
        self.awaits_rest().filter(|at| *at <= now)?;
        // This side may have slept itself, with the rest in the transport: whoever reads has a moment.
        let again = self.suspects_since(self.inbox.waits_since()?);
        self.suspect = Some(now);
        again.then_some(ProtocolError::Stalled(self.stall_timeout))
    }

    /// When the other side must have gone on with what it has begun.
    pub(crate) fn awaits_rest(&self) -> Option<Instant> {
        let since = self.inbox.waits_since().filter(|_| !self.closed)?;
        match self.suspect.filter(|_| self.suspects_since(since)) {
            Some(suspected) => suspected.checked_add(RECONSIDER),
            None => since.checked_add(self.stall_timeout),
        }
    }

    /// Whether a wait that began then was found too long before.
    fn suspects_since(&self, since: Instant) -> bool {
        since.checked_add(self.stall_timeout).is_some_and(|due| self.suspect.is_some_and(|at| due <= at))
    }

    /// When the other side must have greeted, should it still have to.
    pub(crate) fn awaits_greeting(&self) -> Option<Instant> {
        self.greet_by.filter(|_| !self.is_greeted() && !self.closed)
    }

    /// The codec of the link, once it is known.
    pub(crate) fn codec(&self) -> Option<Codec> {
        self.codec
    }

    /// Both sides have agreed on a codec. What waits in both takes the one.
    pub(super) fn agree_on(&mut self, codec: Codec) {
        self.codec = Some(codec);
        self.outbox.settle(codec);
    }

    /// Why the link is over when the other end of the connection is gone.
    pub(crate) fn vanished(&self) -> CloseReason {
        if self.greeted { CloseReason::Gone } else { CloseReason::Protocol(ProtocolError::ClosedBeforeHello) }
    }

    /// Takes the end of a call that the other side answered; `None` if it had ended before.
    pub(crate) fn handle_answer(&mut self, bits: u64) -> Result<Option<W>, ProtocolError> {
        let Some((id, pending)) = self.calls.answered(bits)? else { return Ok(None) };
        self.outbox.call_ended();
        // Whoever waits for the call tells those at the ends of its streams.
        self.forget_stream(id);
        Ok(Some(pending.waiter))
    }

    /// Ends the calls whose time is over, one at a time, each with what there is to say about it.
    pub(crate) fn handle_timeout(&mut self, now: Instant) -> Option<Ended<W>> {
        let (id, pending) = self.calls.expire(now)?;
        Some(self.abandon(id, pending))
    }

    // What goes out.

    /// Files a call and queues it; `unbounded` ignores how many wait already. With an empty packet at hand, which
    /// is about to be sent, the call leaves in there if nothing is in its way.
    pub(crate) fn begin_call(
        &mut self,
        waiter: W,
        timer: Option<Instant>,
        cargo: Cargo,
        unbounded: bool,
        packet: Option<&mut Packet>,
    ) -> Result<TransactionId, Refused> {
        if let Err(refusal) = self.admit(unbounded, cargo.held()) {
            return Err((refusal, cargo));
        }
        let id = self.calls.begin(waiter, timer);
        if self.queue(Kind::Call, id, cargo, packet) {
            self.calls.mark_sent(id);
        }
        Ok(id)
    }

    /// Files a call that leaves at this moment, if nothing is in its way. For the other end in this
    /// process.
    pub(crate) fn begin_at_once(&mut self, waiter: &W) -> Option<TransactionId> {
        let free = self.admit(false, 0).is_ok() && self.outbox.call_may_pass();
        free.then(|| {
            self.outbox.call_passed();
            let id = self.calls.begin(waiter.clone(), None);
            self.calls.mark_sent(id);
            id
        })
    }

    /// Takes out a call that was answered without the machine.
    pub(crate) fn end_answered(&mut self, id: TransactionId) {
        if self.calls.end(id).is_some() {
            self.outbox.call_ended();
        }
    }

    /// Queues an event, or has it leave as a call does.
    pub(crate) fn begin_event(
        &mut self,
        cargo: Cargo,
        unbounded: bool,
        packet: Option<&mut Packet>,
    ) -> Result<(), Refused> {
        if let Err(refusal) = self.admit(unbounded, cargo.held()) {
            return Err((refusal, cargo));
        }
        let id = self.calls.issue();
        self.queue(Kind::Event, id, cargo, packet);
        Ok(())
    }

    pub(super) fn admit(&self, unbounded: bool, bytes: usize) -> Result<(), Refusal> {
        if self.closed {
            return Err(Refusal::Closed);
        }
        if self.going_away || self.peer_going_away {
            return Err(Refusal::ShuttingDown);
        }
        let (messages, _) = self.outbox.waiting();
        if !unbounded && (messages >= self.send_queue || !self.outbox.has_room(bytes)) {
            return Err(Refusal::Full(messages));
        }
        Ok(())
    }

    /// Says whether it is in the packet.
    pub(super) fn queue(
        &mut self,
        kind: Kind,
        id: TransactionId,
        cargo: Cargo,
        packet: Option<&mut Packet>,
    ) -> bool {
        let cargo = match (cargo.settle(self.codec), packet) {
            (Cargo::Bytes(load), Some(packet)) => {
                match self.outbox.pass(packet, Draft { kind, id: id.to_bits(), load }) {
                    Ok(()) => return true,
                    Err(draft) => Cargo::Bytes(draft.load),
                }
            }
            (Cargo::Moved(mut incoming, by), _) => {
                incoming.id = Some(id).filter(|_| kind.is_call());
                Cargo::Moved(incoming, by)
            }
            (cargo, _) => cargo,
        };
        self.outbox.push_start(Start { kind, id, cargo });
        false
    }

    /// Ends a call that nobody waits for any more, and tells the other side if it knows of it.
    pub(crate) fn cancel_call(&mut self, id: TransactionId) -> Option<Ended<W>> {
        let pending = self.calls.end(id)?;
        Some(self.abandon(id, pending))
    }

    fn abandon(&mut self, id: TransactionId, pending: Pending<W>) -> Ended<W> {
        self.forget_stream(id);
        if pending.sent {
            self.outbox.call_ended();
            // The cancel says that the rest of a call that has left in part does not come.
            self.outbox.cut_short(id);
            self.outbox.push_control(Draft::bare(Kind::Cancel, id.to_bits()));
            return Ended { waiter: pending.waiter, executed: Executed::Maybe, unsent: None };
        }
        Ended { waiter: pending.waiter, executed: Executed::No, unsent: self.outbox.withdraw(id) }
    }

    /// Ends the serving of a call, and says whether anybody still waits for its answer.
    pub(crate) fn finish_served(&mut self, id: TransactionId) -> Finish {
        let finish = match self.served.remove(&id) {
            Some(served) if served.token.is_cancelled() => Finish::GivenUp,
            Some(_) if !self.closed => return Finish::Awaited,
            _ => Finish::Over,
        };
        self.forget_stream(id);
        finish
    }

    /// Tells the other side, once, that calls may come.
    pub(crate) fn say_ready(&mut self) -> bool {
        let first = !self.ready && !self.closed;
        if first {
            self.ready = true;
            self.say_when_agreed(Kind::Ready);
        }
        first
    }

    /// Takes no calls from here on, in either direction; those under way go on.
    pub(crate) fn go_away(&mut self) {
        if !self.going_away && !self.closed {
            self.going_away = true;
            self.say_when_agreed(Kind::GoAway);
        }
    }

    /// Queues the last words. They go before what still waits, and nothing leaves after them.
    pub(crate) fn say_bye(&mut self, code: u16) {
        self.outbox.push_control(Draft::with(Kind::Bye, 0, |body| Bye { code }.write(body)));
    }

    /// Ends the calls in both directions and takes nothing from here on but what the other side sends;
    /// events that wait may still leave.
    pub(crate) fn end_calls(&mut self) -> Remains<W> {
        self.going_away = true;
        self.ending = true;
        let unsent = self.outbox.withdraw_calls();
        self.remains(unsent, 0)
    }

    fn remains(&mut self, unsent: Vec<Start>, unsent_events: u64) -> Remains<W> {
        let calls = self.drain_calls();
        let served = self.served.drain().map(|(_, served)| served.token).collect();
        let streams = self.drain_streams();
        Remains { calls, served, streams, unsent, unsent_events }
    }

    fn drain_calls(&mut self) -> Vec<Ended<W>> {
        let ended = |pending: Pending<W>| Ended {
            waiter: pending.waiter,
            executed: if pending.sent { Executed::Maybe } else { Executed::No },
            unsent: None,
        };
        self.calls.drain().into_iter().map(ended).collect()
    }

    /// Ends the link: everything that was under way, and how many events had not left. Once.
    pub(crate) fn close(&mut self) -> Option<Remains<W>> {
        if std::mem::replace(&mut self.closed, true) {
            return None;
        }
        self.alarms.clear();
        let streams = self.drain_streams();
        let (unsent, unsent_events) = self.outbox.clear();
        let remains = self.remains(unsent, unsent_events);
        Some(Remains { streams, ..remains })
    }

    /// Writes what may be sent now into `packet`; `false` when there is nothing.
    pub(crate) fn next_packet(&mut self, packet: &mut Packet) -> bool {
        let calls = &mut self.calls;
        self.outbox.next_packet(packet, |id| calls.mark_sent(id))
    }

    /// The next word of control for the other end in this process.
    pub(crate) fn next_control(&mut self) -> Option<Draft> {
        self.outbox.next_control()
    }

    /// The next call or event for the other end in this process.
    pub(crate) fn next_start(&mut self) -> Option<Start> {
        let start = self.outbox.next_start()?;
        self.calls.mark_sent(start.id);
        Some(start)
    }

    // What to wait for.

    /// Adds a time at which whoever receives must be woken.
    pub(crate) fn add_alarm(&mut self, at: Instant, key: usize) {
        self.alarms.insert((at, key));
    }

    pub(crate) fn remove_alarm(&mut self, at: Instant, key: usize) {
        self.alarms.remove(&(at, key));
    }

    /// Takes the alarms that are due.
    pub(crate) fn take_alarms(&mut self, now: Instant) -> bool {
        let before = self.alarms.len();
        self.alarms.retain(|(at, _)| *at > now);
        self.alarms.len() != before
    }

    /// When something has to be done next.
    pub(crate) fn next_alarm(&self) -> Option<Instant> {
        let alarm = self.alarms.first().map(|(at, _)| *at);
        let awaited = [self.awaits_greeting(), self.awaits_rest(), self.pulse_due()];
        [self.calls.next_timer(), alarm].into_iter().chain(awaited).flatten().min()
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed
    }

    /// Whether both sides have said that calls may come.
    pub(crate) fn is_open(&self) -> bool {
        self.peer_ready && self.ready && !self.closed
    }

    /// Whether this side takes no calls any more.
    pub(crate) fn is_going_away(&self) -> bool {
        self.going_away
    }

    /// Whether this side is about to say its last words.
    pub(crate) fn is_ending(&self) -> bool {
        self.ending
    }

    /// Whether the other side takes calls.
    pub(crate) fn peer_is_ready(&self) -> bool {
        self.peer_ready
    }
}

/// What a link leaves behind.
#[derive(Debug)]
pub(crate) struct Remains<W> {
    pub(crate) calls: Vec<Ended<W>>,
    pub(crate) served: Vec<CancelToken>,
    pub(crate) streams: Vec<Ends>,
    /// What had not left, to be dropped without a lock.
    pub(crate) unsent: Vec<Start>,
    pub(crate) unsent_events: u64,
}

/// How long whoever reads has to find the rest of a message that should have come.
const RECONSIDER: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests;
