//! How much a peer may send that costs it nothing and us something.

use std::time::Instant;

use crate::wire::ProtocolError;

/// A bucket that refills with time: what a program does in earnest never empties it.
#[derive(Debug)]
pub(crate) struct Budget {
    left: u32,
    refilled: Option<Instant>,
}

impl Budget {
    pub(crate) fn new() -> Budget {
        Budget { left: BURST, refilled: None }
    }

    /// Pays for one frame of this sort.
    pub(crate) fn pay(&mut self, what: &'static str, now: Instant) -> Result<(), ProtocolError> {
        if self.left == 0 {
            self.refill(now);
        }
        self.left = self.left.checked_sub(1).ok_or(ProtocolError::Flood(what))?;
        self.refilled.get_or_insert(now);
        Ok(())
    }

    /// What has grown back since the last time, at most a full bucket.
    fn refill(&mut self, now: Instant) {
        let passed = self.refilled.map_or(0, |at| now.saturating_duration_since(at).as_micros());
        let grown = passed.saturating_mul(u128::from(A_SECOND)) / 1_000_000;
        self.left = u32::try_from(grown).unwrap_or(BURST).min(BURST);
        self.refilled = Some(now);
    }
}

/// How many such frames may come at once, and how many a second after that.
const BURST: u32 = 20_000;
const A_SECOND: u32 = 20_000;

#[cfg(test)]
mod tests;
