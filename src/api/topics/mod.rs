//! Publish and subscribe: topics over calls and events.
//!
//! Knows the link as something that events are fired over; how a topic looks there is written down in the
//! guide to topics, so that the other side may be another program.
//!
//! A [`Topic`] has a queue for each of its subscriptions, and a [`Subscription`] has one of its own. The
//! items of a subscription are numbered. Whoever reads it sees a gap in the numbers, whichever side lost
//! what is missing.

mod backlog;
mod inlet;
mod peer;
mod publisher;
mod subscription;

use std::{marker::PhantomData, time::Duration};

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{Error, SeqAccess, Visitor},
};

pub use publisher::{Published, Topic};
pub use subscription::{Listening, Subscription};

use crate::{
    error::{CallError, CloseReason},
    sync::Arc,
    wire::{Path, PathError},
};

/// How many items may wait for the one who reads a [`Subscription`], and what becomes of the rest. By
/// default the newest 64 are kept.
///
/// What is lost is told where it is missing, as [`Missed::Lagged`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backlog {
    bound: u32,
    policy: Policy,
}

/// What happens to an item for which there is no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Policy {
    /// The oldest goes.
    DropOldest,
    /// It goes itself.
    DropNewest,
    /// Whoever publishes it waits, for at most so many microseconds.
    Block(u64),
    /// The subscription ends.
    Disconnect,
}

impl Default for Backlog {
    fn default() -> Backlog {
        Backlog::drop_oldest(64)
    }
}

impl Backlog {
    /// The newest `items` are kept; the oldest gives way to a new one.
    ///
    /// While the reader is busy, items keep coming, at the pace at which this side takes them in: what it
    /// finds is never old.
    pub const fn drop_oldest(items: u32) -> Backlog {
        Backlog::of(items, Policy::DropOldest)
    }

    /// The newest item alone is kept.
    pub const fn latest() -> Backlog {
        Backlog::drop_oldest(1)
    }

    /// The first `items` are kept; a new one for which there is no room is lost. Nothing is sent then.
    ///
    /// There is room again when the reader has taken half of them.
    pub const fn drop_newest(items: u32) -> Backlog {
        Backlog::of(items, Policy::DropNewest)
    }

    /// With `items` waiting, [`Topic::publish`] blocks until there is room, for at most `limit` and at most
    /// as long as the topic [allows](Topic::patience); then the item is lost.
    pub const fn block(items: u32, limit: Duration) -> Backlog {
        let micros = limit.as_micros();
        let micros = if micros > u64::MAX as u128 { u64::MAX } else { micros as u64 };
        Backlog::of(items, Policy::Block(micros))
    }

    /// With `items` waiting, the next one ends the subscription with [`Missed::TooSlow`].
    pub const fn disconnect(items: u32) -> Backlog {
        Backlog::of(items, Policy::Disconnect)
    }

    const fn of(items: u32, policy: Policy) -> Backlog {
        let bound = if items == 0 { 1 } else { items };
        Backlog { bound, policy }
    }

    fn drops_oldest(self) -> bool {
        self.policy == Policy::DropOldest
    }

    /// How many items may be under way that are not reported as taken.
    fn window(self) -> u32 {
        match self.policy {
            // Taken means arrived.
            Policy::DropOldest => self.bound.clamp(4, 64),
            // Taken means read.
            _ => self.bound,
        }
    }
}

/// What a [`Subscription`] gives besides items. After [`Lagged`](Missed::Lagged),
/// [`Decode`](Missed::Decode), [`Restarted`](Missed::Restarted) and [`WouldDeadlock`](Missed::WouldDeadlock) it goes on;
/// every other one is its end.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Missed {
    /// So many items are missing here, because the reader or the link did not keep up.
    #[error("{0} items were lost")]
    Lagged(u64),
    /// One item came and does not fit the type that was asked for.
    #[error("an item does not decode: {0}")]
    Decode(Arc<str>),
    /// The program that publishes has ended, and runs again under its [`Supervisor`](crate::Supervisor): the
    /// subscription was made again. What was published in between is missing, and nobody can tell how much.
    #[error("the program that publishes was started again")]
    Restarted,
    /// The program that publishes was started again, and does not take the subscription.
    #[error("the subscription was refused when it was made again")]
    Refused(#[source] Box<CallError>),
    /// Nothing is here, and it was not waited for: the place is one that cannot be served while it blocks. Nothing is
    /// missing.
    #[error("waiting for an item in {place} would wait for itself")]
    WouldDeadlock {
        /// Which place.
        place: &'static str,
    },
    /// The reader did not keep up, and [asked](Backlog::disconnect) to be disconnected then.
    #[error("the reader was too slow")]
    TooSlow,
    /// The topic is not served any more.
    #[error("the topic has ended")]
    Ended,
    /// The link is closed.
    #[error("the link is closed")]
    Closed(#[source] Arc<CloseReason>),
}

/// The arguments of `<topic>.subscribe`.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Request {
    number: u64,
    bound: u32,
    window: u32,
    /// What the items look like to the one who subscribes; 0 if that does not matter.
    shape: u64,
    policy: Policy,
}

/// An item, or the news that there is none at this number and before it. What is shared is shared in one
/// process, too.
struct Note<T> {
    number: u64,
    item: Option<Arc<T>>,
}

impl<T> Clone for Note<T> {
    fn clone(&self) -> Note<T> {
        Note { number: self.number, item: self.item.clone() }
    }
}

impl<T: Serialize> Serialize for Note<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            // There, nothing and an item that is nothing look the same.
            return match self.item.as_deref() {
                Some(item) => (self.number, item).serialize(serializer),
                None => (self.number,).serialize(serializer),
            };
        }
        (self.number, self.item.as_deref()).serialize(serializer)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Note<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Note<T>, D::Error> {
        if deserializer.is_human_readable() {
            return deserializer.deserialize_seq(OneOrTwo(PhantomData));
        }
        let (number, item) = <(u64, Option<T>)>::deserialize(deserializer)?;
        Ok(Note { number, item: item.map(Arc::new) })
    }
}

/// A number, and an item if there is one.
struct OneOrTwo<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for OneOrTwo<T> {
    type Value = Note<T>;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a number, or a number and an item")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Note<T>, A::Error> {
        let number = seq.next_element()?.ok_or_else(|| A::Error::invalid_length(0, &self))?;
        Ok(Note { number, item: seq.next_element()?.map(Arc::new) })
    }
}

/// How a topic ends a subscription, on the wire.
const TOO_SLOW: u8 = 1;
const ENDED: u8 = 0;

/// Where the items of a subscription go, and where its end.
fn ways(topic: &Path, number: u64) -> Result<(Path, Path), PathError> {
    Ok((topic.join(&format!("item.{number}"))?, topic.join(&format!("end.{number}"))?))
}
