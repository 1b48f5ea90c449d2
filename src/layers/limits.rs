//! How many calls at a time, and how many in a time.

use std::time::{Duration, Instant};

use super::busy;
use crate::{
    api::{Layer, LayerCall, Leave},
    error::CallError,
    sync::{Arc, AtomicUsize, Mutex, Ordering},
};

/// Lets at most so many calls pass at a time, and refuses the others as [busy](crate::Rejection::Busy), at once.
///
/// Around an API it counts what its handlers have begun and not yet answered, deferred calls and streams
/// included; [`Api::workers`](crate::Api::workers) is for those who should wait. Around a handle it counts what is
/// under way.
///
/// ```
/// use nape::{Api, layers::ConcurrencyLimit};
///
/// let api = Api::new("render").layer(ConcurrencyLimit::new(8));
/// ```
#[derive(Debug)]
pub struct ConcurrencyLimit {
    limit: usize,
    passing: Arc<AtomicUsize>,
}

impl ConcurrencyLimit {
    /// At most `limit` calls at a time; 0 refuses all.
    pub fn new(limit: usize) -> ConcurrencyLimit {
        ConcurrencyLimit { limit, passing: Arc::default() }
    }
}

impl Layer for ConcurrencyLimit {
    fn enter(&self, call: &mut LayerCall<'_>) -> Result<Leave, CallError> {
        let room = |passing: usize| (passing < self.limit).then_some(passing + 1);
        if self.passing.fetch_update(Ordering::Relaxed, Ordering::Relaxed, room).is_err() {
            return Err(busy(call.path(), format!("{} calls pass already", self.limit)));
        }
        let passing = self.passing.clone();
        Ok(Leave::with(move |_| {
            passing.fetch_sub(1, Ordering::Relaxed);
        }))
    }
}

/// Lets so many calls and events pass in a time on average, and refuses the others as
/// [busy](crate::Rejection::Busy), at once. After a silence, and at first, as many pass together, so that within the
/// time that begins with them it may be nearly twice as many.
///
/// ```
/// use std::time::Duration;
///
/// use nape::{Api, layers::RateLimit};
///
/// let api = Api::new("mail").layer(RateLimit::new(100, Duration::from_secs(1)));
/// ```
#[derive(Debug)]
pub struct RateLimit {
    calls: u32,
    per: Duration,
    bucket: Mutex<Bucket>,
}

/// What may pass now, counted in the time after which it may.
#[derive(Debug)]
struct Bucket {
    saved: Duration,
    seen: Instant,
}

impl RateLimit {
    /// One call in a `calls`th of `per`, and `calls` together after a silence; 0 refuses all, and a time of zero none.
    pub fn new(calls: u32, per: Duration) -> RateLimit {
        RateLimit { calls, per, bucket: Mutex::new(Bucket { saved: per, seen: Instant::now() }) }
    }

    fn admit(&self, now: Instant) -> bool {
        let Some(price) = self.per.checked_div(self.calls) else { return false };
        let mut bucket = self.bucket.lock();
        let earned = now.saturating_duration_since(bucket.seen);
        bucket.saved = bucket.saved.saturating_add(earned).min(self.per);
        bucket.seen = bucket.seen.max(now);
        match bucket.saved.checked_sub(price) {
            Some(rest) => {
                bucket.saved = rest;
                true
            }
            None => false,
        }
    }
}

impl Layer for RateLimit {
    fn enter(&self, call: &mut LayerCall<'_>) -> Result<Leave, CallError> {
        match self.admit(Instant::now()) {
            true => Ok(Leave::nothing()),
            false => Err(busy(call.path(), format!("{} calls in {:?} have passed", self.calls, self.per))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_pass_together_as_in_the_time_and_then_one_after_the_other() {
        let limit = RateLimit::new(4, Duration::from_millis(400));
        let start = Instant::now();
        let at = |millis| limit.admit(start + Duration::from_millis(millis));
        assert_eq!((0..6).filter(|_| at(1)).count(), 4);
        assert!(!at(99) && at(102) && !at(103));
        assert_eq!((0..9).filter(|_| at(10_000)).count(), 4, "no more is saved than the limit");
        assert!(!RateLimit::new(0, Duration::from_secs(1)).admit(start));
        let free = RateLimit::new(1, Duration::ZERO);
        assert!((0..9).all(|_| free.admit(start)));
    }
}
