//! Looking out for a moment before a receiver sleeps in the kernel.
//!
//! Waking a thread on another core takes 20 us and more, several times of what a call over a socket takes. So a
//! receiver asks again and again for a moment before it sleeps, if that has paid lately: while a packet came
//! shortly before, and unless the last time was in vain. Each time in vain doubles the number of waits that
//! go to sleep at once. Where the peer shares the core it can run only if the kernel puts the receiver aside,
//! which counts as in vain, too.

use std::{
    io,
    time::{Duration, Instant},
};

/// What a receiver has learned about waiting.
#[derive(Debug, Default)]
pub(super) struct Spin {
    /// A packet is likely to come soon.
    soon: bool,
    /// When the last packet came.
    last: Option<Instant>,
    /// How many waits go to sleep at once.
    skip: u32,
    /// How many they were the last time.
    skipped: u32,
}

impl Spin {
    /// Looks until there is something or it does not pay to look any longer. A packet that comes otherwise has
    /// to be told: see [`Spin::came`].
    pub(super) fn look_out<T>(
        &mut self,
        mut look: impl FnMut() -> io::Result<Option<T>>,
    ) -> io::Result<Option<T>> {
        let Some(last) = self.last.filter(|_| self.soon) else { return Ok(None) };
        if self.skip > 0 {
            self.skip -= 1;
            return Ok(None);
        }
        let began = Instant::now();
        if began.saturating_duration_since(last) > RECENT {
            return Ok(None);
        }
        if let Some(found) = look()? {
            // Nobody had to wait, which says nothing about waiting.
            self.last = Some(began);
            return Ok(Some(found));
        }
        let (mut before, mut disturbed) = (began, false);
        loop {
            let found = look()?;
            let now = Instant::now();
            // Whoever could run only when this thread was put aside shares its core.
            disturbed |= now.saturating_duration_since(before) > GAP;
            before = now;
            if found.is_some() || now.saturating_duration_since(began) > LONGEST {
                self.learn(found.is_some() && !disturbed);
                self.last = Some(now);
                return Ok(found);
            }
        }
    }

    fn learn(&mut self, paid: bool) {
        self.skipped = if paid { 0 } else { (2 * self.skipped).clamp(1, MOST_SKIPPED) };
        self.skip = self.skipped;
    }

    /// Whether it is worth a try at all.
    pub(super) fn expect_soon(&mut self, soon: bool) {
        self.soon = soon;
    }

    /// A packet came after a sleep.
    pub(super) fn came(&mut self) {
        self.last = Some(Instant::now());
    }
}

/// Longer than a peer needs to wake up, or both would sleep in every call once they have begun to.
const LONGEST: Duration = Duration::from_micros(50);
/// No look takes this long, unless another thread has the core meanwhile.
const GAP: Duration = Duration::from_micros(4);
/// After a longer silence nobody knows when the next packet comes.
const RECENT: Duration = Duration::from_micros(200);
/// So that in vain costs less than a hundredth, and what has changed is found out within some milliseconds.
const MOST_SKIPPED: u32 = 512;

#[cfg(test)]
mod tests {
    use super::*;

    /// Waits once. Says how often it looked, where the one with that number finds something.
    fn wait(spin: &mut Spin, finds_at: Option<usize>) -> usize {
        let mut n_looks = 0;
        let found = spin.look_out(|| {
            n_looks += 1;
            Ok(finds_at.filter(|at| *at == n_looks))
        });
        assert_eq!(found.unwrap().is_some(), finds_at.is_some_and(|at| at <= n_looks));
        n_looks
    }

    fn expectant() -> Spin {
        Spin { soon: true, ..Spin::default() }
    }

    /// How many of so many waits looked at all. None finds anything.
    fn n_tried(spin: &mut Spin, n_waits: usize) -> usize {
        (0..n_waits).filter(|_| wait(spin, None) > 0).count()
    }

    #[test]
    fn nobody_looks_before_anything_came() {
        assert_eq!(wait(&mut expectant(), Some(1)), 0);
    }

    #[test]
    fn nobody_looks_for_what_need_not_come_soon() {
        let mut spin = expectant();
        spin.came();
        spin.expect_soon(false);
        assert_eq!(wait(&mut spin, Some(1)), 0);
    }

    #[test]
    fn after_a_packet_it_looks_until_there_is_one() {
        // A machine that is busy may put this thread aside in any of them.
        assert!((0..100).any(|_| {
            let mut spin = expectant();
            spin.came();
            wait(&mut spin, Some(3)) == 3
        }));
    }

    #[test]
    fn after_a_silence_it_does_not_look() {
        let mut spin = expectant();
        spin.came();
        std::thread::sleep(RECENT + RECENT);
        assert_eq!(wait(&mut spin, Some(1)), 0);
    }

    #[test]
    fn what_is_in_vain_is_tried_less_and_less() {
        let mut spin = expectant();
        spin.came();
        // 1, 2, 4 ... waits in between.
        assert!(n_tried(&mut spin, 1024) <= 11);
        spin.skip = 0;
        assert!(n_tried(&mut spin, 10 * MOST_SKIPPED as usize) <= 11);
    }

    #[test]
    fn a_peer_that_had_to_take_the_core_is_not_looked_out_for() {
        // A machine that is busy may let the packet before grow old first.
        let found_late = |_| {
            let mut spin = expectant();
            spin.came();
            let mut looks = 0;
            let put_aside = || {
                looks += 1;
                std::thread::sleep(if looks == 2 { 3 * GAP } else { Duration::ZERO });
                Ok((looks == 2).then_some(()))
            };
            spin.look_out(put_aside).unwrap().map(|()| spin.skip)
        };
        assert_eq!((0..100).find_map(found_late), Some(1));
    }
}
