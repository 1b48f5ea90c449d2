//! Giving the core to whoever is waited for, as long as that pays.
//!
//! Two threads that take turns on one core hand it over by giving way for two thirds of what a sleep and a wake-up
//! cost. But a third thread, which only computes there, may then run for a whole time slice of some milliseconds,
//! where a sleeper would have been woken at once. So whoever was put aside for long sleeps at once for as long; and
//! where that comes again and again, for up to a hundred times as long, so that to try it costs one part in a hundred.

use std::{
    cell::Cell,
    thread::yield_now,
    time::{Duration, Instant},
};

/// Gives way, and then looks, up to so many times. Says whether there was something to be seen in the end.
pub(crate) fn give_way(times: u32, seen: impl FnMut() -> bool) -> bool {
    give_way_unless(LONG, times, seen)
}

/// Gives way once, for the sake of others: by a thread that could go on for long without a pause, since somebody
/// floods it, or since it tries again and again what it is refused. What else is to be done here, most of which is
/// short, need not wait for the end of its time slice.
pub(crate) fn let_others_run() {
    give_way_unless(SLICE, 1, || true);
}

/// Unless it was put aside for longer than this not long ago.
fn give_way_unless(long: Duration, times: u32, mut seen: impl FnMut() -> bool) -> bool {
    let mut before = Instant::now();
    if REST.get().is_some_and(|rest| before < rest.until) {
        return false;
    }
    for _ in 0..times {
        yield_now();
        let now = Instant::now();
        let away = now.saturating_duration_since(before);
        if away > long {
            REST.set(Rest::after(away, now));
            return seen();
        }
        if seen() {
            return true;
        }
        before = now;
    }
    false
}

/// A time in which a thread does not give way.
#[derive(Clone, Copy)]
struct Rest {
    until: Instant,
    length: Duration,
    /// How much longer it is than the thread was put aside.
    factor: u32,
}

impl Rest {
    fn after(away: Duration, now: Instant) -> Option<Rest> {
        let comes_again = |last: &Rest| now.saturating_duration_since(last.until) < last.length * AGAIN;
        let factor = REST.get().filter(comes_again).map_or(1, |last| (4 * last.factor).min(LONGEST));
        let length = away * factor;
        Some(Rest { until: now.checked_add(length)?, length, factor })
    }
}

thread_local! {
    /// The last one. It is a matter of the core, and so of the thread.
    static REST: Cell<Option<Rest>> = const { Cell::new(None) };
}

/// More than whoever is waited for takes for most of what is asked of it, and less than a time slice.
const LONG: Duration = Duration::from_micros(100);
/// More than what is short takes, and not more than a time slice.
const SLICE: Duration = Duration::from_millis(1);
/// What comes again within so many rests is no accident.
const AGAIN: u32 = 10;
/// How much longer than it was put aside a thread does not give way in the end.
const LONGEST: u32 = 100;

#[cfg(test)]
mod tests {
    use super::*;

    /// How often it looks, up to so many times, where it sees something the time with that number.
    fn n_looks(times: u32, sees_at: u32) -> u32 {
        let mut n_looks = 0;
        let seen = give_way(times, || {
            n_looks += 1;
            n_looks == sees_at
        });
        assert_eq!(seen, n_looks == sees_at, "{n_looks}");
        n_looks
    }

    #[test]
    fn it_looks_until_it_sees_something() {
        // Whatever else the machine does may put this thread aside in any of them.
        let tries_for = |times, sees_at, expected| {
            assert!((0..10_000).any(|_| {
                REST.set(None);
                n_looks(times, sees_at) == expected
            }));
        };
        tries_for(5, 3, 3);
        tries_for(5, 9, 5);
        tries_for(1, 1, 1);
    }

    /// Is put aside, and says how much longer the rest is than that.
    fn put_aside() -> u32 {
        let (away, last) = (10 * LONG, REST.get());
        loop {
            REST.set(last);
            let began = Instant::now();
            assert!(!give_way(2, || {
                std::thread::sleep(away);
                false
            }));
            let rest = REST.get().unwrap();
            // Whatever else the machine does may put it aside before that, and for less.
            if rest.length >= away * rest.factor {
                assert!(rest.until >= began + away + rest.length);
                return rest.factor;
            }
        }
    }

    #[test]
    fn whoever_lets_others_run_does_not_mind_what_is_short() {
        let rests_after = |long, away| {
            REST.set(None);
            give_way_unless(long, 2, || {
                std::thread::sleep(away);
                false
            });
            REST.get().is_some()
        };
        // Whatever else the machine does may put this thread aside for longer.
        assert!((0..100).any(|_| !rests_after(SLICE, 2 * LONG)));
        assert!(rests_after(LONG, 2 * LONG));
        assert!(rests_after(SLICE, 2 * SLICE));
    }

    fn end_rest(ago: Duration) {
        REST.set(REST.get().map(|rest| Rest { until: Instant::now().checked_sub(ago).unwrap(), ..rest }));
    }

    #[test]
    fn a_thread_that_was_put_aside_sleeps_at_once_for_a_while() {
        put_aside();
        let far = Instant::now() + Duration::from_secs(600);
        REST.set(REST.get().map(|rest| Rest { until: far, ..rest }));
        assert_eq!(n_looks(1, 1), 0);
        end_rest(Duration::ZERO);
        assert_eq!(n_looks(1, 1), 1);
    }

    #[test]
    fn the_rest_is_longer_where_it_comes_again() {
        // Whatever else the machine does may keep this thread away for so long that it is no rest that comes again.
        assert!((0..100).any(|_| {
            REST.set(None);
            let factors = (0..6).map(|_| {
                end_rest(Duration::ZERO);
                put_aside()
            });
            factors.eq([1, 4, 16, 64, 100, 100])
        }));
        end_rest(Duration::from_secs(60));
        assert_eq!(put_aside(), 1);
    }
}
