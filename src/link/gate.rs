//! What those pass who call an inline handler of the other end in this process, on their own thread.
//!
//! Such a call is in no table: it cannot end before its handler has. The gate counts them, so that a link
//! that closes knows of them, and turns them away from then on.

use std::time::Instant;

use super::{
    aftermath::Later,
    token::{CancelToken, Own},
};
use crate::{
    sync::{Arc, AtomicU64, Mutex, Ordering, Weak, modelled},
    wire::{Side, TransactionId},
};

#[derive(Debug, Default)]
pub(crate) struct Gate {
    /// Two for each of those inside, and one once it is shut.
    word: modelled::AtomicU64,
    /// The tokens of the handlers that have asked for one.
    tokens: Mutex<Tokens>,
}

#[derive(Debug, Default)]
struct Tokens {
    list: Vec<Weak<Own>>,
    /// How long the list may grow before it is looked through.
    room: usize,
    ended: bool,
}

impl Gate {
    /// Lets a call in, unless the link is about to end.
    #[must_use = "whoever is in has to leave"]
    pub(crate) fn enter(&self) -> bool {
        // SYNC: gate. It is one word, so that of whoever enters and whoever shuts it one comes first, and the
        // other one sees that.
        let open = self.word.fetch_add(ONE_INSIDE, Ordering::AcqRel) & SHUT == 0;
        if !open {
            self.leave();
        }
        open
    }

    /// Counts a call out. Says whether the gate is shut, and somebody may wait for that.
    pub(crate) fn leave(&self) -> bool {
        self.word.fetch_sub(ONE_INSIDE, Ordering::AcqRel) & SHUT != 0
    }

    /// Lets nobody in any more.
    pub(super) fn shut(&self) {
        self.word.fetch_or(SHUT, Ordering::AcqRel);
    }

    pub(crate) fn is_shut(&self) -> bool {
        self.word.load(Ordering::Acquire) & SHUT != 0
    }

    pub(super) fn n_inside(&self) -> usize {
        (self.word.load(Ordering::Acquire) / ONE_INSIDE) as usize
    }

    /// Fires the tokens of those inside, and of those that ask for one later.
    pub(super) fn end(&self, later: &mut Later<'_>) {
        self.shut();
        let mut tokens = self.tokens.lock();
        tokens.ended = true;
        let list = std::mem::take(&mut tokens.list);
        drop(tokens);
        list.iter().filter_map(Weak::upgrade).for_each(|token| later.cancel(token.fire()));
    }

    /// Has a token fired when the link ends.
    pub(super) fn keep(&self, token: &Arc<Own>) {
        let mut tokens = self.tokens.lock();
        let ended = tokens.ended;
        if !ended {
            if tokens.list.len() >= tokens.room.max(16) {
                tokens.list.retain(|token| token.strong_count() > 0);
                tokens.room = 2 * tokens.list.len();
            }
            tokens.list.push(Arc::downgrade(token));
        }
        drop(tokens);
        if ended {
            token.fire().cancel();
        }
    }
}

/// What ends the calls that an inline handler makes, should it make some: it is made on first need.
#[derive(Clone, Debug)]
pub(crate) struct Scope {
    pub(crate) gate: Arc<Gate>,
    /// The call in whose handler the inline one was called.
    pub(crate) outer: Option<CancelToken>,
    pub(crate) deadline: Option<Instant>,
}

impl Scope {
    /// Whether the outer call or the link is.
    pub(super) fn is_over(&self) -> bool {
        self.gate.tokens.lock().ended || self.outer.as_ref().is_some_and(CancelToken::has_fired)
    }

    /// Makes the token.
    pub(crate) fn token(&self) -> CancelToken {
        CancelToken::inside(&self.gate, self.outer.as_ref(), self.deadline)
    }
}

/// The counter of the messages that one side has started.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ids(Arc<AtomicU64>);

impl Ids {
    /// A fresh id: none is given out twice.
    pub(crate) fn issue(&self, side: Side) -> TransactionId {
        TransactionId::new(side, self.0.fetch_add(1, Ordering::Relaxed) + 1)
    }

    /// The last counter that was given out.
    pub(super) fn last(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What the word of a gate is made of.
const SHUT: u64 = 1;
const ONE_INSIDE: u64 = 2;
