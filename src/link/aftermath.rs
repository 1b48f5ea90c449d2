//! What is left to do once a call has ended, and who else sees that.

use std::task::Waker;

use crate::{error::CallError, wire::TransactionId, workers::Job};

/// Sees how a call ends, and takes nothing.
pub(crate) trait Observer: Send {
    fn see(self: Box<Self>, end: Result<(), CallError>);
}

/// What was set aside for a call that was served, and goes back to where it came from.
pub(crate) trait Remains: Send {
    /// Ends the serving, and says of which call.
    fn settle(self: Box<Self>) -> Option<TransactionId>;
}

/// What is left to do after a slot was filled, once the reader role is given up.
#[derive(Default)]
pub(crate) struct Aftermath {
    pub(crate) waker: Option<Waker>,
    pub(crate) callback: Option<Job>,
    /// A thread that blocked for the call was woken.
    pub(crate) woke_caller: bool,
    /// That thread is inside the transport.
    pub(crate) nudge: bool,
}
