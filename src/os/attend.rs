//! What a link's keeper watches besides the wire: the process at the other end.

use std::time::Duration;

use super::fd::BorrowedFd;
use crate::{error::CloseReason, logging::Line};

/// Somebody who knows by a descriptor that the other side is gone.
///
/// The keeper of a link sleeps on [`descriptors`](Attendant::descriptors) and calls
/// [`look`](Attendant::look) whenever one of them is readable. The list may change with every look,
/// so it is asked for anew each time; it is empty once there is nothing left to wait for.
pub(crate) trait Attendant: Send {
    /// What to wait on. A readable one asks for a look.
    fn descriptors(&self) -> Vec<BorrowedFd<'_>>;

    /// Takes note of what has happened; a reason once the other side is gone, and ever after. Does
    /// not block.
    fn look(&mut self) -> Option<CloseReason>;

    /// What it has to say to the log since it was asked last. Its looks say nothing by themselves: a logger may take its
    /// time, and whoever needs the attendant meanwhile would wait for that.
    fn take_words(&mut self) -> Vec<Line> {
        Vec::new()
    }

    /// The link is closed: lets the other side end by itself within `grace`, then sees to it.
    fn farewell(&mut self, grace: Duration);
}
