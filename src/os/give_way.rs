//! Giving the core to whoever is waited for, as long as that pays.
//!
//! Two threads that take turns on one core hand it over by giving way for two thirds of what a sleep and a wake-up
//! cost. But a third thread, which only computes there, may then run for a whole time slice of some milliseconds,
//! where a sleeper would have been woken at once. So whoever was put aside for long sleeps at once from then
//! on, for a hundred times as long: to try it again costs at most one part in a hundred.

use std::{
    cell::Cell,
    thread::yield_now,
    time::{Duration, Instant},
};

/// Gives way, and then looks, up to so many times. Says whether there was something to be seen in the end.
pub(crate) fn give_way(times: u32, mut seen: impl FnMut() -> bool) -> bool {
    let mut before = Instant::now();
    if RESTS_UNTIL.get().is_some_and(|until| before < until) {
        return false;
    }
    for _ in 0..times {
        yield_now();
        let now = Instant::now();
        let away = now.saturating_duration_since(before);
        if away > LONG {
            RESTS_UNTIL.set(now.checked_add(away * REST));
            return seen();
        }
        if seen() {
            return true;
        }
        before = now;
    }
    false
}

thread_local! {
    /// It is a matter of the core, and so of the thread.
    static RESTS_UNTIL: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// More than whoever is waited for takes for most of what is asked of it, and less than a time slice.
const LONG: Duration = Duration::from_micros(100);
/// How much longer than it was put aside a thread does not give way.
const REST: u32 = 100;

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
            assert!((0..100).any(|_| {
                RESTS_UNTIL.set(None);
                n_looks(times, sees_at) == expected
            }));
        };
        tries_for(5, 3, 3);
        tries_for(5, 9, 5);
        tries_for(1, 1, 1);
    }

    #[test]
    fn a_thread_that_was_put_aside_sleeps_at_once_for_a_while() {
        let began = Instant::now();
        assert!(!give_way(2, || {
            std::thread::sleep(10 * LONG);
            false
        }));
        assert!(RESTS_UNTIL.get().unwrap() >= began + 10 * LONG * REST);
        RESTS_UNTIL.set(Instant::now().checked_add(Duration::from_secs(600)));
        assert_eq!(n_looks(1, 1), 0);
        // It tries again when that is over.
        RESTS_UNTIL.set(Some(began));
        assert_eq!(n_looks(1, 1), 1);
    }
}
