//! Who wakes the consumer of a lane, and how nobody is woken in vain or missed.
//!
//! Two words take part. The *bell* lies in the shared memory, where the peer may write whatever it likes.
//! The consumer's *own* word lies in its process, where the peer cannot. The consumer falls asleep over
//! both of them: it says so in both, looks once more, and sleeps only if neither has changed since. So
//! the peer rings by changing the bell, and the threads of the own process by changing the own word; then
//! they wake those who sleep on the bell. Nobody makes a system call while nobody sleeps.

use std::{io, time::Instant};

use super::{
    lane::Control,
    sleep::{self, Unchanged},
};
use crate::sync::{
    Arc,
    modelled::{AtomicU32, Ordering},
};

impl Control {
    /// Wakes the consumer if it sleeps. What it is to see has to be published. Says whether there is a
    /// consumer.
    pub(super) fn ring(&self) -> bool {
        // SYNC: bell. Of this and the consumer's `fetch_or` in `doze` one comes first. If this does, the
        // consumer has acquired what we published and does not fall asleep over it; if the other does, we
        // see that the consumer sleeps or is about to, and the mark that is gone keeps it awake or the
        // wake-up wakes it.
        let before = self.producer.bell.fetch_and(!ASLEEP, Ordering::AcqRel);
        if before & ASLEEP != 0 {
            sleep::wake(&self.producer.bell);
        }
        before & DEAF == 0
    }

    /// The producer will not send any more.
    pub(super) fn hang_up(&self) {
        // SYNC: bell. As in `ring`; and whoever sees the mark sees all that was published.
        let before = self.producer.bell.fetch_or(CLOSED, Ordering::AcqRel);
        if before & ASLEEP != 0 {
            sleep::wake(&self.producer.bell);
        }
    }

    /// Whether the producer said that it will not send any more. All that it sent can be seen then.
    pub(super) fn is_hung_up(&self) -> bool {
        // SYNC: bell. Pairs with `hang_up`.
        self.producer.bell.load(Ordering::Acquire) & CLOSED != 0
    }

    /// The consumer will not read any more.
    pub(super) fn turn_deaf(&self) {
        // Nothing depends on when it is seen.
        self.producer.bell.fetch_or(DEAF, Ordering::Relaxed);
    }

    /// Whether the consumer said that it will not read any more.
    pub(super) fn is_deaf(&self) -> bool {
        self.producer.bell.load(Ordering::Relaxed) & DEAF != 0
    }
}

/// The consumer's own word, shared with the threads of its process that may wake it.
#[derive(Clone, Debug)]
pub(super) struct OwnBell(Arc<AtomicU32>);

impl OwnBell {
    pub(super) fn new() -> OwnBell {
        OwnBell(Arc::new(AtomicU32::new(0)))
    }

    /// Makes the consumer take a nudge.
    pub(super) fn nudge(&self, control: &Control) {
        self.mark(NUDGED, control);
    }

    /// Makes the consumer see the end, once it has read what was sent.
    pub(super) fn end(&self, control: &Control) {
        self.mark(CLOSED, control);
    }

    fn mark(&self, mark: u32, control: &Control) {
        // SYNC: own. Of this and the consumer's `fetch_or` in `doze` one comes first: either the consumer
        // sees the mark, or we see that it sleeps or is about to. Then this word has changed, and it does
        // not fall asleep any more; or it sleeps already, and the wake-up wakes it.
        if self.0.fetch_or(mark, Ordering::AcqRel) & ASLEEP != 0 {
            // A kernel that cannot watch two words watches the bell, so that has to change as well.
            control.producer.bell.fetch_xor(POKED, Ordering::Relaxed);
            sleep::wake(&control.producer.bell);
        }
    }

    /// Takes the nudge, if there is one: what happened before it can be seen.
    pub(super) fn take_nudge(&self) -> bool {
        // SYNC: own. Pairs with the `fetch_or` in `mark`. The load is for the usual case, that there is none.
        self.is_marked(NUDGED) && self.0.fetch_and(!NUDGED, Ordering::AcqRel) & NUDGED != 0
    }

    /// Whether somebody of this process said that it is the end.
    pub(super) fn is_ended(&self) -> bool {
        self.is_marked(CLOSED)
    }

    /// Whether there is something to see.
    pub(super) fn is_rung(&self) -> bool {
        self.is_marked(NUDGED | CLOSED)
    }

    fn is_marked(&self, marks: u32) -> bool {
        // SYNC: own. Pairs with the `fetch_or` in `mark`.
        self.0.load(Ordering::Acquire) & marks != 0
    }

    /// Sleeps until somebody rings or the deadline passes, unless `news` says that there is something to
    /// see. May come back for no reason; says whether that may be the doing of whoever rings.
    pub(super) fn doze(
        &self,
        control: &Control,
        deadline: Option<Instant>,
        news: impl FnOnce() -> bool,
    ) -> io::Result<bool> {
        let bell = &control.producer.bell;
        // SYNC: bell, own. Pairs with `ring`, `hang_up` and `mark`, each of which says how.
        let shared = bell.fetch_or(ASLEEP, Ordering::AcqRel) | ASLEEP;
        let own = self.0.fetch_or(ASLEEP, Ordering::AcqRel) | ASLEEP;
        let slept = if news() {
            Ok(true)
        } else {
            let shared = Unchanged { word: bell, value: shared };
            sleep::sleep_on(shared, Unchanged { word: &self.0, value: own }, deadline)
        };
        self.0.fetch_and(!ASLEEP, Ordering::Relaxed);
        // Whoever rings from now on need not wake anybody.
        bell.fetch_and(!ASLEEP, Ordering::Relaxed);
        slept
    }
}

/// The consumer sleeps or is about to.
const ASLEEP: u32 = 1;
/// There is nobody any more who sends.
const CLOSED: u32 = 2;
/// There is nobody any more who reads.
const DEAF: u32 = 4;
/// Means nothing; it changes.
const POKED: u32 = 8;
/// Somebody nudged. In the own word only.
const NUDGED: u32 = 16;
