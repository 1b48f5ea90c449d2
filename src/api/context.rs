//! What a handler may know about the call that it serves.

use std::time::{Duration, Instant};

use super::{ApiHandle, Endpoint, endpoint::Inner, layered::Passed, shortcut::Shortcut};
use crate::{
    error::CallError,
    link::{Answer, CancelToken, Ends, Incoming, Link, Slot, Within},
    sync::{Arc, OnceLock},
    wire::{Codec, Path, Payload, Side, TransactionId},
};

/// A call or an event, as its handler sees it. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Context {
    place: Place,
    pub(crate) transaction: Option<TransactionId>,
    pub(crate) deadline: Option<Instant>,
    attempt: u32,
    cancel: Cancel,
    /// The ends of its items, if it is a stream.
    pub(crate) ends: Ends,
}

/// Where the call has come to.
#[derive(Clone, Debug)]
enum Place {
    /// Along a link.
    Away { path: Path, link: Arc<Link>, endpoint: Arc<Inner> },
    /// By the shortest way, on the caller's own thread.
    Here(Arc<Shortcut>),
}

#[derive(Clone, Debug)]
enum Cancel {
    Token(CancelToken),
    /// The same, of a call that has passed the layers of its API: few have any, so that nobody else makes room for it.
    Passed(CancelToken, Arc<Passed>),
    /// Few handlers that are short ask for theirs.
    OnDemand {
        outer: Option<CancelToken>,
        token: OnceLock<CancelToken>,
    },
}

impl Context {
    /// The context of a call or an event, and what else came with it.
    pub(crate) fn new(
        incoming: Incoming,
        link: &Arc<Link>,
        endpoint: Arc<Inner>,
    ) -> (Context, Payload, Option<Arc<Slot>>) {
        let Incoming { id, path, deadline, attempt, payload, cancel, caller, ends, .. } = incoming;
        let place = Place::Away { path, link: link.clone(), endpoint };
        let cancel = Cancel::Token(cancel);
        (Context { place, transaction: id, deadline, attempt, cancel, ends }, payload, caller)
    }

    /// The same for a stream, whose time is that until it has begun: its caller looks out for that.
    pub(super) fn unlimited(&self) -> Context {
        Context { deadline: None, ..self.clone() }
    }

    /// The context of a call that its caller's thread serves, made in the handler of the `outer` one.
    pub(super) fn here(
        shortcut: Arc<Shortcut>,
        transaction: TransactionId,
        deadline: Option<Instant>,
        outer: Option<CancelToken>,
    ) -> Context {
        let cancel = Cancel::OnDemand { outer, token: OnceLock::new() };
        let (place, ends) = (Place::Here(shortcut), Ends::default());
        Context { place, transaction: Some(transaction), deadline, attempt: 0, cancel, ends }
    }

    /// The same behind layers.
    pub(super) fn passed(&self, passed: Arc<Passed>) -> Context {
        let cancel = Cancel::Passed(self.cancel_token().clone(), passed);
        Context { cancel, ..self.clone() }
    }

    /// Shows the layers how the call ends, if it has passed any that have not seen it.
    pub(super) fn leave(&self, end: Result<Answer, CallError>) -> Result<Answer, CallError> {
        match &self.cancel {
            Cancel::Passed(_, passed) => passed.leave_all(end),
            _ => end,
        }
    }

    pub(super) fn shortcut(&self) -> Option<&Arc<Shortcut>> {
        match &self.place {
            Place::Here(shortcut) => Some(shortcut),
            Place::Away { .. } => None,
        }
    }

    /// The link that the call came over.
    pub(crate) fn link(&self) -> &Arc<Link> {
        match &self.place {
            Place::Away { link, .. } => link,
            Place::Here(shortcut) => &shortcut.far,
        }
    }

    /// This side.
    pub(crate) fn home(&self) -> &Arc<Inner> {
        match &self.place {
            Place::Away { endpoint, .. } => endpoint,
            Place::Here(shortcut) => &shortcut.host,
        }
    }

    /// Whether the call in whose handler this one was made has been given up.
    pub(super) fn outer_has_ended(&self) -> bool {
        match &self.cancel {
            Cancel::OnDemand { outer: Some(outer), .. } => outer.has_fired(),
            _ => false,
        }
    }

    /// What ends the calls that the handler makes.
    pub(super) fn within(&self) -> Within {
        match (&self.cancel, &self.place) {
            (Cancel::Token(token) | Cancel::Passed(token, _), _) if !self.is_event() => {
                Within::Token(token.clone())
            }
            (Cancel::OnDemand { outer, .. }, Place::Here(shortcut)) => {
                Within::Scope(shortcut.scope(outer.clone(), self.deadline))
            }
            _ => Within::Nothing,
        }
    }

    /// The full path that was called. A catch-all sees here what it caught.
    pub fn path(&self) -> &Path {
        match &self.place {
            Place::Away { path, .. } => path,
            Place::Here(shortcut) => &shortcut.path,
        }
    }

    /// Whether nobody waits for an answer, because this is an event.
    pub fn is_event(&self) -> bool {
        self.transaction.is_none()
    }

    /// The name of the call on its link; `None` for an event.
    pub fn transaction(&self) -> Option<TransactionId> {
        self.transaction
    }

    /// A random number that both sides know the link by: [`Endpoint::link_id`].
    pub fn link_id(&self) -> Option<u64> {
        self.link().id.get()
    }

    /// When the caller gives up; `None` if never.
    pub fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// The time until the caller gives up; `None` if it never does.
    pub fn remaining(&self) -> Option<Duration> {
        self.deadline.map(|at| at.saturating_duration_since(Instant::now()))
    }

    /// Whether the caller has given up, or its deadline has passed. Does not block.
    pub fn is_cancelled(&self) -> bool {
        self.cancel_token().is_cancelled() || self.deadline.is_some_and(|at| at <= Instant::now())
    }

    /// Fires when the caller gives up: it cancelled, ran out of time, or its link went. With it end the calls
    /// that the handler has under way, as cancelled; calls that it makes after that are over at once.
    pub fn cancel_token(&self) -> &CancelToken {
        match &self.cancel {
            Cancel::Token(token) | Cancel::Passed(token, _) => token,
            Cancel::OnDemand { token, .. } => token.get_or_init(|| match self.within() {
                Within::Scope(scope) => scope.token(),
                Within::Token(token) => token,
                Within::Nothing => CancelToken::default(),
            }),
        }
    }

    /// Which side called.
    pub fn peer(&self) -> Side {
        self.link().side().other()
    }

    /// What the link speaks that the call came over, for a handler of raw bytes.
    pub fn codec(&self) -> Codec {
        self.link().codec()
    }

    /// 0 for a first try, 1 for the first repetition.
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    /// This side, to call back with the client of a trait.
    pub fn endpoint(&self) -> Endpoint {
        Endpoint(self.home().clone())
    }

    /// The other side's APIs at and below `path`, to call back. A call made in a handler has at most
    /// the time that the handler has, and ends as cancelled when the caller of the handler gives up.
    pub fn api(&self, path: &str) -> ApiHandle {
        ApiHandle::new(self.home().clone(), path)
    }
}
