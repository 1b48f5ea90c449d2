//! What descends from a call and is left to the thread that blocks for it, or will.

use std::collections::VecDeque;

use crate::workers::Job;

/// What became of an errand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Offer {
    /// A thread blocks for the call, and is going to run it. `reads`: the number of that thread if it is inside the
    /// transport, and has to come out, unless it is the calling one, which comes to it next.
    Taken { reads: Option<u32> },
    /// No thread does; one that comes to block runs it.
    Kept,
    /// The call has ended.
    Declined,
}

/// Those of one call, in their order. One that nobody has taken yet may have been run by a worker meanwhile.
#[derive(Default)]
pub(crate) struct Errands(VecDeque<Job>);

impl Errands {
    /// Adds one. Those that others have run come back, to be dropped without a lock.
    ///
    /// They are looked for when there is no room, so that a call for which nobody ever blocks keeps not much more
    /// than twice of what waits, and an errand costs no more for that.
    #[must_use]
    pub(super) fn push(&mut self, errand: Job) -> Vec<Job> {
        let mut run = Vec::new();
        if self.0.len() == self.0.capacity() {
            for errand in std::mem::take(&mut self.0) {
                if errand.is_over() { run.push(errand) } else { self.0.push_back(errand) }
            }
            self.0.reserve(self.0.len().max(FEW));
        }
        self.0.push_back(errand);
        run
    }

    pub(super) fn pop(&mut self) -> Option<Job> {
        self.0.pop_front()
    }

    pub(super) fn append(&mut self, mut others: Errands) {
        self.0.append(&mut others.0);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

impl IntoIterator for Errands {
    type Item = Job;
    type IntoIter = std::collections::vec_deque::IntoIter<Job>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

/// Room for so many at least.
const FEW: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        sync::{Arc, AtomicBool, Ordering},
        workers::{Shift, Work},
    };

    struct Offered(Arc<AtomicBool>);

    impl Work for Offered {
        fn run(self: Box<Offered>, _: &Shift<'_>) {}

        fn take_place(self: Box<Offered>) -> Option<Job> {
            None
        }

        fn is_over(&self) -> bool {
            self.0.load(Ordering::Relaxed)
        }
    }

    /// Red when nobody looks for those that others have run.
    #[test]
    fn p_15_what_others_have_run_is_not_kept() {
        let mut errands = Errands::default();
        let waits: Vec<_> = (0..10).map(|_| Arc::new(AtomicBool::new(false))).collect();
        waits.iter().for_each(|it| drop(errands.push(Box::new(Offered(it.clone())))));
        for _ in 0..10_000 {
            drop(errands.push(Box::new(Offered(Arc::new(AtomicBool::new(true))))));
        }
        assert!(errands.len() < 100, "{} are kept", errands.len());
        waits.iter().for_each(|it| it.store(true, Ordering::Relaxed));
        assert_eq!(waits.iter().filter(|it| Arc::strong_count(it) > 1).count(), 10, "they wait");
    }

    #[test]
    fn they_come_in_their_order() {
        let mut errands = Errands::default();
        let all: Vec<_> = (0..100).map(|_| Arc::new(AtomicBool::new(false))).collect();
        all.iter().for_each(|it| assert!(errands.push(Box::new(Offered(it.clone()))).is_empty()));
        for it in &all {
            drop(errands.pop().unwrap());
            assert_eq!(Arc::strong_count(it), 1);
        }
        assert!(errands.is_empty());
    }
}
