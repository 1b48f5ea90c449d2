//! Who is who, and which call is which.

use std::fmt;

/// The two ends of a link.
///
/// Apart from start-up they can do the same things; the side tells their transactions apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Side {
    /// Spawns, owns or accepts.
    Head,
    /// The child, or the one that connects.
    Neck,
}

impl Side {
    /// The other end.
    pub fn other(self) -> Side {
        match self {
            Side::Head => Side::Neck,
            Side::Neck => Side::Head,
        }
    }
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Side::Head => "Head",
            Side::Neck => "Neck",
        })
    }
}

/// The name of one call on one link: the side that made it, and a counter that starts at 1, rises
/// with each call, and is never used again.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TransactionId(u64);

impl TransactionId {
    /// The id of the `counter`th message of `side`; a counter is at most 2^63 - 1, and not 0.
    pub(crate) fn new(side: Side, counter: u64) -> TransactionId {
        debug_assert!(counter != 0 && counter & NECK_BIT == 0);
        TransactionId(match side {
            Side::Head => counter,
            Side::Neck => counter | NECK_BIT,
        })
    }

    /// Reads an id from the wire; 0 is none.
    pub(crate) fn from_bits(bits: u64) -> Option<TransactionId> {
        (bits & !NECK_BIT != 0).then_some(TransactionId(bits))
    }

    /// The id as it stands on the wire: the counter, and the highest bit for the Neck.
    pub(crate) fn to_bits(self) -> u64 {
        self.0
    }

    /// Who made the call.
    pub fn side(self) -> Side {
        if self.0 & NECK_BIT == 0 { Side::Head } else { Side::Neck }
    }

    /// How many messages that side had started before, plus one.
    pub fn counter(self) -> u64 {
        self.0 & !NECK_BIT
    }
}

impl fmt::Debug for TransactionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for TransactionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}#{}", self.side(), self.counter())
    }
}

const NECK_BIT: u64 = 1 << 63;
