//! What a link does to its bytes besides carrying them, as it stands in a hello.

use std::fmt;

use super::ProtocolError;

/// The filters that a side has, as bits of the features in its hello. Both sides must have the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct FilterSet(u32);

impl FilterSet {
    /// What the features of a hello say.
    pub(crate) fn of(features: u32) -> FilterSet {
        FilterSet(features & ALL)
    }

    #[cfg_attr(not(feature = "compression"), allow(dead_code, reason = "nobody has it without the feature"))]
    pub(crate) fn with_lz4(self) -> FilterSet {
        FilterSet(self.0 | LZ4)
    }

    #[cfg_attr(not(feature = "encryption"), allow(dead_code, reason = "nobody has it without the feature"))]
    pub(crate) fn with_seal(self) -> FilterSet {
        FilterSet(self.0 | SEAL)
    }

    pub(crate) fn bits(self) -> u32 {
        self.0
    }

    pub(crate) fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub(crate) fn has_lz4(self) -> bool {
        self.0 & LZ4 != 0
    }

    pub(crate) fn has_seal(self) -> bool {
        self.0 & SEAL != 0
    }

    /// Whether the other side has the same.
    pub(crate) fn agree(self, theirs: FilterSet) -> Result<(), ProtocolError> {
        if self == theirs {
            return Ok(());
        }
        Err(ProtocolError::FiltersDiffer { ours: self.names(), theirs: theirs.names() })
    }

    fn names(self) -> &'static str {
        match self.0 {
            0 => "none",
            LZ4 => "lz4",
            SEAL => "chacha20-poly1305",
            BOTH => "lz4 and chacha20-poly1305",
            _ => "one that this side does not know",
        }
    }
}

impl fmt::Display for FilterSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.names())
    }
}

const LZ4: u32 = 1 << 1;
const SEAL: u32 = 1 << 2;
const BOTH: u32 = LZ4 | SEAL;
/// All bits that are filters, or will be.
const ALL: u32 = 0xfe;

#[cfg(test)]
mod tests {
    use super::*;

    /// Red when a filter of one side alone goes unnoticed.
    #[test]
    fn filters_agree_when_they_are_the_same() {
        let none = FilterSet::default();
        let all = [none, none.with_lz4(), none.with_seal(), none.with_lz4().with_seal(), FilterSet::of(8)];
        for (i, ours) in all.iter().enumerate() {
            for (j, theirs) in all.iter().enumerate() {
                assert_eq!(ours.agree(*theirs).is_ok(), i == j, "{ours} with {theirs}");
            }
        }
        let text = all[1].agree(all[3]).unwrap_err().to_string();
        assert!(text.contains("lz4;") && text.contains("lz4 and chacha20-poly1305"), "{text}");
    }

    #[test]
    fn other_features_are_no_filters() {
        assert!(FilterSet::of(!ALL).is_empty());
        assert_eq!(FilterSet::of(0xffff_ff03), FilterSet::default().with_lz4());
    }
}
