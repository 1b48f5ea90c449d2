//! One subscription at the side that publishes: what waits for it, and how that is sent.

use std::{
    collections::VecDeque,
    panic::{AssertUnwindSafe, catch_unwind},
    time::{Duration, Instant},
};

use serde::Serialize;

use super::{ENDED, Note, Policy, TOO_SLOW, backlog::Waiting};
use crate::{
    api::{endpoint::Inner, tap::is_busy},
    error::{CallError, Misuse, Rejection},
    link::Link,
    logging::line,
    sync::{Arc, Condvar, Mutex, Weak},
    wire::Path,
    workers::{discard, discard_all, forget_panic, panic_text},
};

/// One subscription.
pub(super) struct Peer<T> {
    pub(super) place: Arc<()>,
    pub(super) number: u64,
    pub(super) endpoint: Weak<Inner>,
    pub(super) link: Arc<Link>,
    pub(super) items: Path,
    pub(super) end: Path,
    pub(super) bound: u64,
    pub(super) window: u64,
    pub(super) policy: Policy,
    pub(super) state: Mutex<State<T>>,
    pub(super) room: Condvar,
}

pub(super) struct State<T> {
    /// What waits to be sent, with its number.
    queue: Waiting<T>,
    /// The number of the next item.
    next: u64,
    /// Up to where the other side knows the numbers.
    told: u64,
    /// How many notes were sent, and how many of them were taken.
    sent: u64,
    taken: u64,
    /// Which of them was without an item, and is not taken yet. It has a place of its own, so that it takes
    /// none from an item.
    gap: Option<u64>,
    /// A thread is sending; it takes along what comes meanwhile.
    sending: bool,
    unsubscribed: bool,
    end: End,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    None,
    /// To be told behind what waits.
    Wanted(u8),
    Over,
}

/// What became of an item at one subscription.
pub(super) enum Offer {
    Taken,
    Lost,
    /// There is no room, and it may be waited for.
    Full,
    Over,
}

/// What goes to the other side.
enum Message<T> {
    Note(Note<T>),
    End(u64, u8),
}

impl<T> Peer<T> {
    /// Whether nothing is left of it. While its end waits for room it counts: else a peer could begin and end any
    /// number of them.
    pub(super) fn is_over(&self) -> bool {
        let state = self.state.lock();
        let is_over = state.end == End::Over && !state.sending;
        drop(state);
        is_over || self.link.is_closing()
    }

    /// Whether one more would be too many.
    fn is_full(&self, state: &State<T>) -> bool {
        state.queue.len() as u64 + state.under_way() >= self.bound || state.queue.is_full()
    }

    /// Ends it without a word, and drops what waits.
    pub(super) fn abandon(&self) {
        discard_all(self.part());
    }

    /// The same, and gives back what waits: it is to be dropped without a lock.
    #[must_use]
    pub(super) fn part(&self) -> VecDeque<(u64, Arc<T>)> {
        let mut state = self.state.lock();
        state.end = End::Over;
        self.room.notify_all();
        state.queue.take_all()
    }

    /// The other side has taken so many notes, all together. Says whether there is something to send: then the caller
    /// sees to it that it is.
    pub(super) fn note_taken(&self, total: u64) -> bool {
        let mut state = self.state.lock();
        state.taken = state.taken.max(total.min(state.sent));
        state.gap = state.gap.filter(|at| *at > state.taken);
        self.room.notify_all();
        let is_due = !state.sending && (!state.queue.is_empty() || state.told < state.next);
        state.sending |= is_due;
        is_due
    }

    /// The other side wants no more. Says whether that is news: then the caller has the end sent.
    pub(super) fn note_unsubscribed(&self) -> bool {
        let mut state = self.state.lock();
        let was_known = std::mem::replace(&mut state.unsubscribed, true);
        !was_known && state.end != End::Over
    }
}

impl<T: Serialize + Send + Sync + 'static> Peer<T> {
    /// Takes an item in. With a time, there may be a wait for room: since when, and how long at most.
    pub(super) fn offer(self: &Arc<Peer<T>>, item: &Arc<T>, wait: Option<(Instant, Duration)>) -> Offer {
        let mut state = self.state.lock();
        if let (Policy::Block(micros), Some((since, patience))) = (self.policy, wait) {
            let until = since.checked_add(patience.min(Duration::from_micros(micros)));
            while state.end == End::None && self.is_full(&state) {
                match until {
                    Some(at) if self.room.wait_until(&mut state, at).timed_out() => break,
                    Some(_) => {}
                    None => self.room.wait(&mut state),
                }
            }
        }
        if state.end != End::None {
            return Offer::Over;
        }
        let number = state.next;
        let is_full = self.policy != Policy::DropOldest && self.is_full(&state);
        let is_kept = !is_full && state.queue.push(number, item.clone());
        let mut oldest = None;
        let offer = match self.policy {
            _ if is_kept => Offer::Taken,
            Policy::DropOldest => {
                oldest = state.queue.replace_oldest(number, item.clone());
                Offer::Taken
            }
            Policy::Block(_) if wait.is_none() => return Offer::Full,
            Policy::Disconnect => {
                state.end = End::Wanted(TOO_SLOW);
                Offer::Lost
            }
            _ => Offer::Lost,
        };
        if matches!(offer, Offer::Lost) || oldest.is_some() {
            self.link.tally().items_unsent.up();
        }
        state.next += 1;
        drop(state);
        discard(oldest);
        self.send();
        offer
    }

    /// Ends it behind what waits.
    pub(super) fn want_end(self: &Arc<Peer<T>>, code: u8) {
        let mut state = self.state.lock();
        if state.end == End::None {
            state.end = End::Wanted(code);
        }
        self.room.notify_all();
        drop(state);
        self.send();
    }

    /// Sends the end, without what waits before it.
    pub(super) fn send_end(self: &Arc<Peer<T>>) {
        let mut state = self.state.lock();
        let queue = state.queue.take_all();
        state.told = state.next;
        drop(state);
        discard_all(queue);
        self.want_end(ENDED);
    }

    /// Sends what may be sent, unless another thread is at it.
    pub(super) fn send(self: &Arc<Peer<T>>) {
        // Whoever is at it looks again, under this lock, before it stops.
        if !std::mem::replace(&mut self.state.lock().sending, true) {
            self.send_all();
        }
    }

    /// The same for the thread that set `sending`.
    pub(super) fn send_all(self: &Arc<Peer<T>>) {
        let mut state = self.state.lock();
        while let Some(message) = state.next_message(self.window) {
            // What was taken out has left a place.
            self.room.notify_all();
            drop(state);
            let outcome = self.contained(|| match &message {
                Message::Note(note) => self.link.fire(&self.items, note.clone()),
                Message::End(number, code) => self.link.fire(&self.end, (*number, *code)),
            });
            if is_busy(&outcome) {
                // Whoever runs what has its turn goes on.
                let peer = self.clone();
                return self.link.send_in_turn(Box::new(move || peer.send_in_turn(message)));
            }
            self.note_sent(&message, outcome);
            discard(message);
            state = self.state.lock();
        }
        state.sending = false;
    }

    fn send_in_turn(self: Arc<Peer<T>>, message: Message<T>) {
        let outcome = self.contained(|| match &message {
            Message::Note(note) => self.link.fire_in_turn(&self.items, note.clone()),
            Message::End(number, code) => self.link.fire_in_turn(&self.end, (*number, *code)),
        });
        self.note_sent(&message, outcome);
        discard(message);
        self.send_all();
    }

    /// Sends something, which encodes it: an item whose type panics there is one that does not encode.
    ///
    /// Whoever sends may have published something else, and what is left in the middle is never sent again.
    fn contained(&self, send: impl FnOnce() -> Result<(), CallError>) -> Result<(), CallError> {
        catch_unwind(AssertUnwindSafe(send)).unwrap_or_else(|panic| {
            let detail = format!("it panicked: {}", panic_text(&*panic)).into();
            forget_panic(panic);
            Err(Misuse::Encode { path: self.items.clone(), detail }.into())
        })
    }

    fn note_sent(&self, message: &Message<T>, outcome: Result<(), CallError>) {
        let Message::Note(note) = message else { return };
        match outcome {
            Ok(()) => {
                let told = note.number + u64::from(note.item.is_some());
                self.state.lock().told = told;
            }
            Err(CallError::Closed { .. } | CallError::Rejected(Rejection::ShuttingDown)) => self.abandon(),
            Err(error) => {
                self.link.tally().items_unsent.up();
                let mut state = self.state.lock();
                // It takes no room there. Nobody else has sent anything since.
                state.sent -= 1;
                drop(state);
                self.room.notify_all();
                self.link.say(line!(Warn, "an item of {} is lost: {error}", self.items));
            }
        }
    }
}

impl<T> Drop for Peer<T> {
    fn drop(&mut self) {
        let queue = self.state.lock().queue.take_all();
        discard_all(queue);
    }
}

impl<T> State<T> {
    pub(super) fn new(queue: Waiting<T>) -> State<T> {
        let (sending, unsubscribed) = (false, false);
        State { queue, next: 0, told: 0, sent: 0, taken: 0, gap: None, sending, unsubscribed, end: End::None }
    }

    /// How many notes that count were sent and are not taken.
    fn under_way(&self) -> u64 {
        // A peer may say that it has taken what is being sent at this moment, and cannot be.
        self.sent.saturating_sub(self.taken).saturating_sub(self.gap.is_some().into())
    }

    fn next_message(&mut self, window: u64) -> Option<Message<T>> {
        if self.end == End::Over {
            return None;
        }
        let may_send = self.under_way() < window;
        if may_send && let Some((number, item)) = self.queue.pop() {
            self.sent += 1;
            return Some(Message::Note(Note { number, item: Some(item) }));
        }
        if !self.queue.is_empty() {
            return None;
        }
        if let End::Wanted(code) = self.end {
            self.end = End::Over;
            return Some(Message::End(self.next, code));
        }
        // What was lost behind the last item that was sent.
        let is_gap = may_send && self.told < self.next && self.gap.is_none();
        is_gap.then(|| {
            self.sent += 1;
            self.gap = Some(self.sent);
            Message::Note(Note { number: self.next, item: None })
        })
    }
}
