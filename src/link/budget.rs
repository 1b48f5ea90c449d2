//! How much a peer may send that costs it nothing and us something.

use std::time::Instant;

use crate::wire::ProtocolError;

/// A bucket that refills with time. What a program does in earnest never empties it: where one thing may follow from
/// another, as the cancel of a call does, the first pays for the second, however often that is.
#[derive(Debug)]
pub(crate) struct Budget {
    left: u32,
    /// What was paid in advance.
    earned: u32,
    refilled: Option<Instant>,
}

impl Budget {
    pub(crate) fn new() -> Budget {
        Budget { left: BURST, earned: 0, refilled: None }
    }

    /// So many frames may follow from what has happened now.
    pub(crate) fn earn(&mut self, frames: u32) {
        self.earned = self.earned.saturating_add(frames).min(MOST_EARNED);
    }

    /// Pays for one frame of this sort.
    pub(crate) fn pay(&mut self, what: &'static str, now: Instant) -> Result<(), ProtocolError> {
        if let Some(rest) = self.earned.checked_sub(1) {
            self.earned = rest;
            return Ok(());
        }
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

/// What may follow from a call that was taken: its cancel.
pub(crate) const OF_A_CALL: u32 = 1;
/// What may follow from a stream: a cancel and a stop, and quotas that were on their way when it ended.
pub(crate) const OF_A_STREAM: u32 = 4;
/// What follows comes soon: more than this is not kept for a flood of something else.
const MOST_EARNED: u32 = 1 << 20;
/// How many other such frames may come at once, and how many a second after that.
const BURST: u32 = 20_000;
const A_SECOND: u32 = 20_000;

#[cfg(test)]
mod tests;
