//! What a link says to the log of the program, one line after the other.

use super::Link;
use crate::{
    logging::Line,
    sync::hold_nothing,
    workers::{Admission, Job},
};

impl Link {
    /// Has a line written by a thread of the link, behind those before it.
    ///
    /// Not by the calling one, which may be a caller that reads for itself, and holds what the logger waits for. Should no
    /// thread be had it is that one after all, as it is for all that is the user's: so it holds no lock.
    pub(crate) fn say(&self, line: Option<Line>) {
        hold_nothing();
        self.line_up_words(line).into_iter().for_each(|job| self.submit(job));
    }

    /// The same under the lock. What comes back is to be submitted once that is free.
    #[must_use]
    pub(super) fn line_up_words(&self, line: Option<Line>) -> Option<Job> {
        let (line, link) = (line?, self.strong()?);
        // Behind a logger that does not come back no more than these wait.
        let Admission::Run(first) = self.words.admit(line, MOST) else { return None };
        Some(Box::new(move || {
            let mut next = Some(first);
            while let Some(line) = next {
                line.write();
                next = link.words.next();
            }
        }))
    }
}

/// How many lines wait.
const MOST: usize = 256;
