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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]

        #[test]
        fn an_id_says_who_made_it_and_as_which(counter in 1u64..1 << 63) {
            for side in [Side::Head, Side::Neck] {
                let id = TransactionId::new(side, counter);
                prop_assert_eq!((id.side(), id.counter()), (side, counter));
                prop_assert_eq!(TransactionId::from_bits(id.to_bits()), Some(id));
            }
        }

        #[test]
        fn every_number_with_a_counter_is_an_id(bits in any::<u64>()) {
            let id = TransactionId::from_bits(bits);
            prop_assert_eq!(id.is_some(), bits << 1 != 0);
            prop_assert!(id.is_none_or(|id| id.to_bits() == bits));
        }
    }

    #[test]
    fn d_27_an_id_without_a_counter_is_none() {
        assert_eq!(TransactionId::from_bits(0), None);
        assert_eq!(TransactionId::from_bits(1 << 63), None);
        assert_eq!(TransactionId::from_bits(u64::MAX).map(TransactionId::side), Some(Side::Neck));
    }

    #[test]
    fn d_25_the_same_counter_of_the_other_side_is_another_id() {
        assert_ne!(TransactionId::new(Side::Head, 7), TransactionId::new(Side::Neck, 7));
        assert_eq!(TransactionId::new(Side::Neck, 7).to_string(), "Neck#7");
        assert_eq!(Side::Head.other().other(), Side::Head);
    }
}
