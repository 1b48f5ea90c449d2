//! How long a consumer spins before it sleeps.
//!
//! A spin pays while the peer runs on another core and answers soon. It does harm when the peer needs
//! this very core, and it is waste when nothing comes soon. So a consumer spins only
//!
//! - while the core on which the peer last ran is known and is not its own; and
//! - as long as its spins have paid lately. One that was in vain halves the next one, down to none; a wait
//!   that turns out short, however it ended, brings the longest spin back at once.
//!
//! The longest spin outlasts the wake-up of a peer that sleeps. Were it shorter, two sides that both sleep
//! would both go on to sleep: each one's spin would end before the other one is awake.

use std::time::{Duration, Instant};

/// What a consumer has learned about waiting.
#[derive(Debug)]
pub(super) struct Patience {
    /// The next spin.
    spin: Duration,
    longest: Duration,
}

impl Patience {
    pub(super) fn new() -> Patience {
        Patience { spin: LONGEST, longest: LONGEST }
    }

    /// One that never spins, whatever it learns.
    #[cfg(any(test, fuzzing))]
    pub(super) fn none() -> Patience {
        Patience { spin: Duration::ZERO, longest: Duration::ZERO }
    }

    /// How long to spin in a wait that begins now. The peer's core is what it says, plus one.
    pub(super) fn spin(&self, ours: u32, theirs: u32) -> Duration {
        let elsewhere = theirs != 0 && theirs != ours.wrapping_add(1);
        if elsewhere { self.spin } else { Duration::ZERO }
    }

    /// Whether to give way first in a wait that begins now.
    pub(super) fn gives_way(&self, ours: u32, theirs: u32) -> bool {
        theirs == ours.wrapping_add(1) && !self.longest.is_zero()
    }

    /// Learns from a wait that spun for `spun` at most and took `took`.
    pub(super) fn learn(&mut self, spun: Duration, took: Duration) {
        let in_vain = !spun.is_zero() && took > spun;
        if in_vain {
            self.spin = Some(self.spin / 2).filter(|spin| *spin >= SHORTEST).unwrap_or_default();
        } else if took <= SHORT {
            self.spin = self.longest;
        }
    }
}

/// Spins until there is news or the time is over. Says whether there is news.
pub(super) fn spin(until: Instant, news: impl Fn() -> bool) -> bool {
    loop {
        if spin_once(&news) {
            return true;
        }
        if Instant::now() >= until {
            return false;
        }
    }
}

/// Spins for less than a microsecond or two. Says whether there is news.
pub(super) fn spin_once(news: impl Fn() -> bool) -> bool {
    for _ in 0..ROUND {
        if news() {
            return true;
        }
        std::hint::spin_loop();
    }
    false
}

/// Longer than a peer needs to wake up.
const LONGEST: Duration = Duration::from_micros(50);
/// A spin that is shorter than this never finds anything.
const SHORTEST: Duration = Duration::from_micros(3);
/// A wait in which a spin could have paid: two wake-ups and the work between them.
const SHORT: Duration = Duration::from_micros(100);
/// How many looks there are between two looks at the clock.
const ROUND: u32 = 32;

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_millis(1);
    const SOON: Duration = Duration::from_micros(1);

    #[test]
    fn nobody_spins_on_the_core_of_the_peer() {
        let patience = Patience::new();
        assert_eq!(patience.spin(0, 0), Duration::ZERO, "nobody knows where it runs");
        assert_eq!(patience.spin(3, 4), Duration::ZERO, "it is here");
        assert_eq!(patience.spin(u32::MAX, 1), LONGEST, "it is elsewhere");
        assert_eq!(patience.spin(0, 2), LONGEST, "it is elsewhere");
    }

    #[test]
    fn spins_in_vain_end() {
        let mut patience = Patience::new();
        let spun: Duration = (0..100)
            .map(|_| {
                let spin = patience.spin(0, 2);
                patience.learn(spin, LONG);
                spin
            })
            .sum();
        assert_eq!(patience.spin(0, 2), Duration::ZERO);
        assert!(spun < 2 * LONGEST, "{spun:?}");
    }

    #[test]
    fn a_short_wait_brings_the_spin_back() {
        let mut patience = Patience::new();
        (0..10).for_each(|_| patience.learn(patience.spin(0, 2), LONG));
        patience.learn(Duration::ZERO, SHORT);
        assert_eq!(patience.spin(0, 2), LONGEST);
        patience.learn(LONGEST, LONG);
        patience.learn(patience.spin(0, 2), SOON);
        assert_eq!(patience.spin(0, 2), LONGEST, "a hit is a short wait too");
    }
}
