//! How a call has ended in one word of a few, for numbers and spans.

use crate::{error::CallError, wire::Payload};

/// Each of them.
#[cfg(feature = "metrics")]
pub(super) const WORDS: [&str; 10] = [
    "ok",
    "fault",
    "rejected",
    "timed_out",
    "cancelled",
    "closed",
    "no_answer",
    "decode",
    "misuse",
    "poisonous",
];

pub(super) fn word(outcome: &Result<Payload, CallError>) -> &'static str {
    match outcome {
        Ok(_) => "ok",
        Err(CallError::Fault(_)) => "fault",
        Err(CallError::Rejected(_)) => "rejected",
        Err(CallError::TimedOut { .. }) => "timed_out",
        Err(CallError::Cancelled) => "cancelled",
        Err(CallError::Closed { .. }) => "closed",
        Err(CallError::NoAnswer) => "no_answer",
        Err(CallError::Decode { .. }) => "decode",
        Err(CallError::Misuse(_)) => "misuse",
        Err(CallError::Poisonous { .. }) => "poisonous",
    }
}
