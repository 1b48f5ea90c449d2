//! When to start a program again, when to wait, and when to give up: a pure machine on a time that it is told.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

/// When a [`Supervisor`](crate::Supervisor) starts its program again.
///
/// A program that this side stops is never started again, whatever stands here.
///
/// ```
/// use std::time::Duration;
///
/// use nape::Restarts;
///
/// let restarts = Restarts::on_crash()
///     .limit(5, Duration::from_secs(60))
///     .backoff(Duration::from_millis(50), Duration::from_secs(2));
/// ```
#[derive(Clone, Debug)]
#[must_use = "it is for `HeadBuilder::supervise`"]
pub struct Restarts {
    when: When,
    most: u32,
    window: Duration,
    first: Duration,
    longest: Duration,
    pub(super) poison_after: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum When {
    Never,
    OnCrash,
    Always,
}

impl Restarts {
    /// Never again: the first end is the last. The handles say why then, as ever.
    pub fn never() -> Restarts {
        Restarts::with(When::Never)
    }

    /// After a crash, and not when it has ended by itself: with exit code 0, or with a goodbye and no other
    /// exit code than 0. One that says goodbye and does not end within the [grace](crate::Config::grace) is killed,
    /// and has ended by itself.
    ///
    /// Where others reap its process nobody knows how that ended: then it has crashed unless it said goodbye.
    pub fn on_crash() -> Restarts {
        Restarts::with(When::OnCrash)
    }

    /// However it ended.
    pub fn always() -> Restarts {
        Restarts::with(When::Always)
    }

    fn with(when: When) -> Restarts {
        Restarts {
            when,
            most: 3,
            window: Duration::from_secs(10),
            first: Duration::from_millis(100),
            longest: Duration::from_secs(5),
            poison_after: 3,
        }
    }

    /// How many restarts there may be within any time of this length: 3 in 10 s by default. When one more
    /// would be needed, the supervisor gives up.
    pub fn limit(mut self, restarts: u32, window: Duration) -> Restarts {
        (self.most, self.window) = (restarts, window);
        self
    }

    /// How long to wait before a restart: about 100 ms before the first by default, twice as long before each
    /// that follows, and never more than 5 s. It begins anew when the program has run for longer than the
    /// [window](Restarts::limit).
    ///
    /// The time is cut by up to a half at random, so that programs that crash together do not start together.
    pub fn backoff(mut self, first: Duration, longest: Duration) -> Restarts {
        (self.first, self.longest) = (first, longest.max(first));
        self
    }

    /// In how many crashes in a row a call that is [safe to repeat](crate::Action::retry_safe) may be under
    /// way before it is refused as [poisonous](crate::CallError::Poisonous): 3 by default, at least 1.
    pub fn poisonous_after(mut self, crashes: u32) -> Restarts {
        self.poison_after = crashes.max(1);
        self
    }
}

impl Restarts {
    /// How many crashes are too many, at least.
    pub(super) fn n_crashes(&self) -> usize {
        if self.when == When::Never { 1 } else { (self.most as usize).saturating_add(1) }
    }
}

/// How a run of the program came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// By itself, with nothing wrong.
    Clean,
    Crash,
}

/// What is to be done after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Decision {
    /// Start it again after this time.
    Restart(Duration),
    /// It has done its work.
    Rest,
    GiveUp,
}

/// What has happened so far, as far as it matters.
#[derive(Debug)]
pub(super) struct Policy {
    restarts: Restarts,
    /// When it was started again, within the last window.
    recent: VecDeque<Instant>,
    /// How many ends there were in a row without a long run between them.
    streak: u32,
    began: Instant,
}

impl Policy {
    pub(super) fn new(restarts: Restarts, now: Instant) -> Policy {
        Policy { restarts, recent: VecDeque::new(), streak: 0, began: now }
    }

    /// The program is about to be started.
    pub(super) fn begin(&mut self, now: Instant) {
        self.began = now;
    }

    /// It has ended. `random` is any number, and each equally likely.
    pub(super) fn ended(&mut self, end: End, now: Instant, random: u64) -> Decision {
        match (self.restarts.when, end) {
            (When::Never | When::OnCrash, End::Clean) => return Decision::Rest,
            (When::Never, End::Crash) => return Decision::GiveUp,
            (When::OnCrash, End::Crash) | (When::Always, _) => {}
        }
        let window = self.restarts.window;
        self.recent.retain(|at| now.saturating_duration_since(*at) < window);
        if self.recent.len() >= self.restarts.most as usize {
            return Decision::GiveUp;
        }
        if now.saturating_duration_since(self.began) > window {
            self.streak = 0;
        }
        let delay = self.delay(random);
        self.streak = self.streak.saturating_add(1);
        self.recent.push_back(now);
        Decision::Restart(delay)
    }

    fn delay(&self, random: u64) -> Duration {
        let factor = 1u32.checked_shl(self.streak).unwrap_or(u32::MAX);
        let full = self.restarts.first.saturating_mul(factor).min(self.restarts.longest);
        // Between a half of it and all of it.
        full / 2 + (full / 2).mul_f64(random as f64 / u64::MAX as f64)
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn policy(restarts: Restarts) -> (Policy, Instant) {
        let now = Instant::now();
        (Policy::new(restarts, now), now)
    }

    /// Red when their number is not looked at.
    #[test]
    fn p_30_three_restarts_in_ten_seconds_and_no_more() {
        let (mut policy, start) = policy(Restarts::on_crash());
        for crash in 0..3 {
            let decision = policy.ended(End::Crash, start + MS * 1000 * crash, u64::MAX);
            assert_eq!(decision, Decision::Restart(MS * 100 * 2u32.pow(crash)));
        }
        assert_eq!(policy.ended(End::Crash, start + MS * 9_999, 0), Decision::GiveUp);
        // The first of them is forgotten now.
        assert!(matches!(policy.ended(End::Crash, start + MS * 10_000, 0), Decision::Restart(_)));
        assert_eq!(policy.ended(End::Crash, start + MS * 10_001, 0), Decision::GiveUp);
    }

    #[test]
    fn p_30_a_clean_end_is_an_end_unless_it_is_to_run_always() {
        for (restarts, clean, crash) in [
            (Restarts::never(), Decision::Rest, Decision::GiveUp),
            (Restarts::on_crash(), Decision::Rest, Decision::Restart(MS * 50)),
            (Restarts::always(), Decision::Restart(MS * 50), Decision::Restart(MS * 50)),
        ] {
            let (mut first, now) = policy(restarts.clone());
            assert_eq!(first.ended(End::Clean, now, 0), clean, "{restarts:?}");
            let (mut second, now) = policy(restarts.clone());
            assert_eq!(second.ended(End::Crash, now, 0), crash, "{restarts:?}");
        }
    }

    #[test]
    fn a_long_run_makes_the_wait_short_again() {
        let (mut policy, mut now) = policy(Restarts::on_crash().limit(u32::MAX, MS * 10_000));
        let delays: Vec<_> = (0..8)
            .map(|_| {
                policy.begin(now);
                match policy.ended(End::Crash, now, u64::MAX) {
                    Decision::Restart(delay) => delay.as_millis(),
                    other => panic!("{other:?}"),
                }
            })
            .collect();
        assert_eq!(delays, [100, 200, 400, 800, 1600, 3200, 5000, 5000]);
        policy.begin(now);
        now += MS * 10_001;
        assert_eq!(policy.ended(End::Crash, now, u64::MAX), Decision::Restart(MS * 100));
    }

    #[test]
    fn no_limit_of_time_or_number_overflows() {
        let (mut policy, now) =
            policy(Restarts::always().limit(u32::MAX, Duration::MAX).backoff(Duration::MAX, MS));
        for _ in 0..70 {
            assert!(matches!(policy.ended(End::Crash, now, 1), Decision::Restart(_)));
        }
        let mut none = Policy::new(Restarts::always().limit(0, MS), now);
        assert_eq!(none.ended(End::Crash, now, 1), Decision::GiveUp);
    }

    proptest! {
        #[test]
        fn p_30_no_window_has_more_restarts_than_it_may(
            pauses in vec(0u32..5_000, 1..60),
            randoms in any::<u64>(),
            most in 0u32..6,
        ) {
            let (mut policy, mut now) = policy(Restarts::on_crash().limit(most, MS * 10_000));
            let mut restarts: Vec<Instant> = Vec::new();
            for pause in pauses {
                now += MS * pause;
                policy.begin(now);
                let recent = restarts.iter().filter(|at| now - **at < MS * 10_000).count();
                match policy.ended(End::Crash, now, randoms) {
                    Decision::Restart(delay) => {
                        prop_assert!(recent < most as usize);
                        prop_assert!(delay >= MS * 50 && delay <= MS * 5_000);
                        restarts.push(now);
                    }
                    Decision::GiveUp => prop_assert_eq!(recent, most as usize),
                    Decision::Rest => prop_assert!(false, "it crashed"),
                }
            }
        }
    }
}
