//! What travels between the two halves of a link, once it is taken out of its frames.

use std::time::Instant;

use super::{Slot, current::this_thread, load::Load, outbox::Draft, stream::Ends, token::CancelToken};
use crate::{
    error::Rejection,
    sync::Arc,
    wire::{Codec, FRAME_LIMIT, Kind, Path, Payload, TransactionId},
};

/// A call or an event that came from the other side.
#[derive(Debug)]
pub(crate) struct Incoming {
    /// `None` for an event.
    pub(crate) id: Option<TransactionId>,
    pub(crate) path: Path,
    /// The call of ours in whose handler the other side made this one.
    pub(crate) parent: Option<TransactionId>,
    pub(crate) deadline: Option<Instant>,
    pub(crate) attempt: u32,
    /// The number of the shapes that the caller knows the method with; 0 if it does not.
    pub(crate) shape: u64,
    pub(crate) payload: Payload,
    pub(crate) cancel: CancelToken,
    /// Within one process: where the answer goes.
    pub(crate) caller: Option<Arc<Slot>>,
    /// The ends of its streams, if it is one.
    pub(crate) ends: Ends,
    /// Within one process: made in a handler that runs on the very thread that waits for it, so that nobody
    /// else can serve what that one waits for.
    pub(crate) here: bool,
}

impl Incoming {
    pub(crate) fn event(path: Path, shape: u64, payload: Payload) -> Incoming {
        Incoming {
            id: None,
            path,
            parent: None,
            deadline: None,
            attempt: 0,
            shape,
            payload,
            cancel: CancelToken::never(),
            caller: None,
            ends: Ends::default(),
            here: false,
        }
    }

    /// Whether nobody waits for an answer any more.
    pub(crate) fn is_given_up(&self, now: Instant) -> bool {
        self.cancel.is_cancelled() || self.deadline.is_some_and(|at| at <= now)
    }
}

/// An event that came, and for which there is no room: whoever looks at it keeps nothing of it.
#[derive(Debug)]
pub(crate) struct Lost {
    pub(crate) event: Incoming,
    /// All of it is here. Else the arguments end anywhere.
    pub(crate) is_whole: bool,
    pub(crate) why: Rejection,
}

/// A call or an event that waits to leave.
#[derive(Debug)]
pub(crate) struct Start {
    pub(crate) kind: Kind,
    pub(crate) id: TransactionId,
    pub(crate) cargo: Cargo,
}

/// What a start is made of.
#[derive(Debug)]
pub(crate) enum Cargo {
    /// For the wire.
    Bytes(Load),
    /// For the wire, made before it was known which codec that speaks.
    Either(Box<Either>),
    /// For the other end in this process, as it is, and the [number](this_thread) of the thread that brings it.
    Moved(Box<Incoming>, usize),
}

/// Why a call or an event was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    Closed,
    ShuttingDown,
    /// So many messages wait already.
    Full(usize),
}

/// What was not taken, besides. It may hold values of the user's: to be dropped without a lock.
pub(crate) type Refused = (Refusal, Cargo);

/// The same in both codecs.
#[derive(Debug)]
pub(crate) struct Either {
    pub(crate) binary: Load,
    pub(crate) json: Load,
}

impl Cargo {
    /// What the calling thread brings for the other end in this process.
    pub(super) fn moved(incoming: Incoming) -> Cargo {
        Cargo::Moved(Box::new(incoming), this_thread())
    }

    /// Takes one of two codecs, if it is known which.
    #[inline]
    pub(crate) fn settle(self, codec: Option<Codec>) -> Cargo {
        match (self, codec) {
            (Cargo::Either(either), Some(Codec::Binary)) => Cargo::Bytes(either.binary),
            (Cargo::Either(either), Some(Codec::Json)) => Cargo::Bytes(either.json),
            (cargo, _) => cargo,
        }
    }

    /// The memory that its bytes take.
    pub(crate) fn held(&self) -> usize {
        match self {
            Cargo::Bytes(load) => load.held(),
            Cargo::Either(either) => either.binary.held() + either.json.held(),
            Cargo::Moved(incoming, _) => incoming.payload.held(),
        }
    }
}

impl Start {
    /// The bytes that it holds.
    pub(crate) fn size(&self) -> usize {
        match &self.cargo {
            Cargo::Bytes(load) => load.len(),
            Cargo::Either(either) => either.binary.len().max(either.json.len()),
            Cargo::Moved(incoming, _) => incoming.payload.held(),
        }
    }

    /// The memory that its bytes take.
    pub(crate) fn held(&self) -> usize {
        self.cargo.held()
    }

    /// Whether it takes more than one frame.
    pub(crate) fn is_large(&self) -> bool {
        !matches!(self.cargo, Cargo::Moved(..)) && self.size() > FRAME_LIMIT
    }

    /// The bytes of its first frame.
    pub(crate) fn frame_size(&self) -> usize {
        self.size().min(FRAME_LIMIT)
    }

    pub(crate) fn into_draft(self) -> Option<Draft> {
        match self.cargo {
            Cargo::Bytes(load) => Some(Draft { kind: self.kind, id: self.id.to_bits(), load }),
            // Nothing leaves before it is known.
            Cargo::Either(_) | Cargo::Moved(..) => None,
        }
    }
}
