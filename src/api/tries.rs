//! What has become of a call that may need more than one link, and what is to be done after an attempt.

use std::time::Instant;

use crate::{
    error::{CallError, CloseReason, Executed},
    link::Outcome,
    sync::Arc,
    wire::Path,
};

/// What has become of a call so far.
#[derive(Debug)]
pub(super) struct Tries {
    path: Path,
    began: Instant,
    retry_safe: bool,
    poison_after: u32,
    /// Another link comes in the place of one that ends.
    pub(super) renews: bool,
    /// How many attempts may have run, and how the last of those has ended.
    ran: u32,
    last_run: Option<CallError>,
    /// How many were refused, and made again.
    refused: u32,
    /// In how many crashes in a row it was under way.
    crashes: u32,
}

/// What is to be done after an attempt.
pub(super) enum Verdict {
    Again,
    End(Outcome),
}

impl Tries {
    pub(super) fn new(path: Path, began: Instant, retry_safe: bool, poison_after: u32) -> Tries {
        let (ran, last_run, refused, crashes) = (0, None, 0, 0);
        Tries { path, began, retry_safe, poison_after, renews: true, ran, last_run, refused, crashes }
    }

    pub(super) fn judge(&mut self, outcome: Outcome) -> Verdict {
        match outcome {
            Err(CallError::Closed { reason, executed }) => self.judge_closed(reason, executed),
            Err(CallError::TimedOut { executed, .. }) => Verdict::End(Err(self.timed_out(executed))),
            end => Verdict::End(end),
        }
    }

    fn judge_closed(&mut self, reason: Arc<CloseReason>, executed: Executed) -> Verdict {
        let ran = executed == Executed::Maybe;
        if ran {
            self.note_run(CallError::Closed { reason: reason.clone(), executed });
        }
        // What has not left this side can go again whatever it is. Our own close is no crash.
        let may = self.renews && (self.retry_safe || !ran) && !matches!(*reason, CloseReason::Local);
        if !may {
            return Verdict::End(Err(self.closed(reason)));
        }
        self.crashes += u32::from(ran && !matches!(*reason, CloseReason::Peer));
        if self.crashes >= self.poison_after {
            let (path, crashes) = (self.path.clone(), self.crashes);
            return Verdict::End(Err(CallError::Poisonous { path, crashes, last: reason }));
        }
        Verdict::Again
    }

    /// An attempt has ended with this, and another one is made.
    pub(super) fn note_failed(&mut self, error: &CallError) {
        match error.executed() {
            Executed::No => self.refused += 1,
            Executed::Maybe => self.note_run(error.clone()),
        }
    }

    fn note_run(&mut self, end: CallError) {
        self.ran += 1;
        self.last_run = Some(end);
    }

    /// How the call ends whose last attempt has ended with this. One that has not run says so of itself, and not of
    /// the call: if one before it may have run, the call ends as that did.
    pub(super) fn ended(&mut self, last: Outcome) -> Outcome {
        last.map_err(|error| match error.executed() {
            Executed::No => self.last_run.take().unwrap_or(error),
            Executed::Maybe => error,
        })
    }

    pub(super) fn closed(&self, reason: Arc<CloseReason>) -> CallError {
        CallError::Closed { reason, executed: self.executed(Executed::No) }
    }

    pub(super) fn timed_out(&self, executed: Executed) -> CallError {
        let (path, after) = (self.path.clone(), self.began.elapsed());
        CallError::TimedOut { path, after, executed: self.executed(executed) }
    }

    /// How many came before this one.
    pub(super) fn attempt(&self) -> u32 {
        self.ran + self.refused
    }

    fn executed(&self, last: Executed) -> Executed {
        if self.ran > 0 { Executed::Maybe } else { last }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::error::{Death, Exit, Rejection};

    fn tries(retry_safe: bool) -> Tries {
        Tries::new(Path::new("a.b").unwrap(), Instant::now(), retry_safe, 3)
    }

    fn closed(reason: CloseReason, executed: Executed) -> Outcome {
        Err(CallError::Closed { reason: Arc::new(reason), executed })
    }

    fn died() -> CloseReason {
        CloseReason::Died(Death { exit: Exit::Signal(9), after: Duration::ZERO, stderr: "".into() })
    }

    fn end(verdict: Verdict) -> CallError {
        match verdict {
            Verdict::End(outcome) => outcome.unwrap_err(),
            Verdict::Again => panic!("again"),
        }
    }

    #[test]
    fn a_call_that_may_have_run_runs_again_only_if_it_may() {
        let error = end(tries(false).judge(closed(died(), Executed::Maybe)));
        assert!(error.death().is_some() && error.executed() == Executed::Maybe, "{error:?}");
        assert!(matches!(tries(false).judge(closed(died(), Executed::No)), Verdict::Again));
        let mut safe = tries(true);
        assert!(matches!(safe.judge(closed(died(), Executed::Maybe)), Verdict::Again));
        assert_eq!(safe.ran, 1);
        let error = end(safe.judge(closed(CloseReason::Local, Executed::No)));
        assert_eq!(error.executed(), Executed::Maybe, "an attempt before it may have run");
    }

    #[test]
    fn p_30_what_was_under_way_in_three_crashes_is_poisonous() {
        let mut safe = tries(true);
        for _ in 0..2 {
            assert!(matches!(safe.judge(closed(died(), Executed::Maybe)), Verdict::Again));
            // Neither a goodbye nor what never left is a crash with it.
            assert!(matches!(safe.judge(closed(CloseReason::Peer, Executed::Maybe)), Verdict::Again));
            assert!(matches!(safe.judge(closed(died(), Executed::No)), Verdict::Again));
        }
        let error = end(safe.judge(closed(died(), Executed::Maybe)));
        assert!(matches!(error, CallError::Poisonous { crashes: 3, .. }), "{error:?}");
    }

    /// Red when the last attempt alone says whether the call may have run.
    #[test]
    fn p_07_a_call_that_is_refused_in_the_end_may_have_run_before_its_link_broke() {
        let busy = || CallError::from(Rejection::Busy { path: Path::new("a.b").unwrap(), detail: "".into() });
        let mut safe = tries(true);
        assert!(matches!(safe.judge(closed(died(), Executed::No)), Verdict::Again));
        let error = safe.ended(Err(busy())).unwrap_err();
        assert!(matches!(error, CallError::Rejected(_)), "it has not run: {error:?}");
        assert!(matches!(safe.judge(closed(died(), Executed::Maybe)), Verdict::Again));
        let error = safe.ended(Err(busy())).unwrap_err();
        assert!(error.death().is_some() && error.executed() == Executed::Maybe, "{error:?}");
        let mut safe = tries(true);
        safe.note_failed(&busy());
        safe.note_failed(&CallError::NoAnswer);
        safe.note_failed(&busy());
        assert_eq!(safe.attempt(), 3);
        assert!(matches!(safe.ended(Err(busy())), Err(CallError::NoAnswer)));
    }

    #[test]
    fn a_late_call_says_whether_any_attempt_may_have_run() {
        let late = || {
            let (path, after) = (Path::new("a.b").unwrap(), Duration::ZERO);
            Err(CallError::TimedOut { path, after, executed: Executed::No })
        };
        assert_eq!(end(tries(true).judge(late())).executed(), Executed::No);
        let mut safe = tries(true);
        assert!(matches!(safe.judge(closed(died(), Executed::Maybe)), Verdict::Again));
        assert_eq!(end(safe.judge(late())).executed(), Executed::Maybe);
    }
}
