//! Deadlines of calls in their order.

use std::{
    collections::{BTreeSet, VecDeque},
    time::Instant,
};

/// Knows which deadline comes first.
///
/// Most calls of a link have the same timeout, so that a new deadline is usually the last of all and goes to the
/// end of a list. What ends before its time stays in there until it comes to the front, or until half of the
/// list is such.
#[derive(Debug, Default)]
pub(super) struct Timers {
    /// In order. The first one is of a call that has not ended.
    list: VecDeque<(Instant, u64)>,
    /// How many in the list are of calls that have ended.
    ended: usize,
    /// Those that came out of order.
    others: BTreeSet<(Instant, u64)>,
}

/// Where the deadline of a call is.
#[derive(Clone, Copy, Debug)]
pub(super) enum Timer {
    Listed,
    Other(Instant),
}

impl Timers {
    /// Adds the deadline of the call with this counter.
    pub(super) fn add(&mut self, at: Instant, counter: u64) -> Timer {
        if self.list.back().is_some_and(|(last, _)| *last > at) {
            self.others.insert((at, counter));
            return Timer::Other(at);
        }
        self.list.push_back((at, counter));
        Timer::Listed
    }

    /// Adds the deadline of a call that may get another one before it ends.
    pub(super) fn add_apart(&mut self, at: Instant, counter: u64) -> Timer {
        self.others.insert((at, counter));
        Timer::Other(at)
    }

    /// Forgets the deadline of a call that has just ended, or one that was added apart.
    pub(super) fn remove(&mut self, timer: Timer, counter: u64, is_pending: impl Fn(u64) -> bool) {
        if let Timer::Other(at) = timer {
            self.others.remove(&(at, counter));
            return;
        }
        self.ended += 1;
        if self.list.front().is_some_and(|(_, first)| *first == counter) {
            while self.ended > 0 && self.list.front().is_some_and(|(_, first)| !is_pending(*first)) {
                self.list.pop_front();
                self.ended -= 1;
            }
        } else if self.ended > FEW && self.ended > self.list.len() / 2 {
            self.list.retain(|(_, counter)| is_pending(*counter));
            self.ended = 0;
        }
    }

    /// The first deadline, and whose it is.
    pub(super) fn first(&self) -> Option<(Instant, u64)> {
        let (listed, other) = (self.list.front().copied(), self.others.first().copied());
        listed.into_iter().chain(other).min()
    }

    pub(super) fn clear(&mut self) {
        *self = Timers::default();
    }

    /// How many deadlines are held, of calls that have ended too.
    #[cfg(test)]
    fn len(&self) -> usize {
        self.list.len() + self.others.len()
    }
}

/// So many of calls that have ended are not worth a look at all.
const FEW: usize = 32;

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, time::Duration};

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Against a map in which one looks for everything: with deadlines in order, out of order, and the same.
        #[test]
        fn the_first_is_the_first(ops in proptest::collection::vec((0..3u8, 0..20u64, 0..200usize), 1..400)) {
            let start = Instant::now();
            let (mut timers, mut pending) = (Timers::default(), BTreeMap::new());
            let mut last = 0;
            for (op, millis, which) in ops {
                if op < 2 {
                    last += 1;
                    let at = start + Duration::from_millis(if op == 0 { last } else { millis });
                    pending.insert(last, (at, timers.add(at, last)));
                } else if let Some((&counter, _)) = pending.iter().nth(which % pending.len().max(1)) {
                    let (_, timer) = pending.remove(&counter).expect("it is there");
                    timers.remove(timer, counter, |counter| pending.contains_key(&counter));
                }
                let first = pending.iter().map(|(counter, (at, _))| (*at, *counter)).min();
                prop_assert_eq!(timers.first(), first);
                prop_assert!(timers.len() <= 2 * pending.len() + FEW + 1, "{} for {}", timers.len(), pending.len());
            }
        }
    }
}
