//! What must be true of every history, whatever happened to its link.

use std::collections::HashMap;

use nape::{CallError, Executed};

use super::{
    callers::{Event, Outcome},
    served::{Method, answer_to},
};

/// What is known of one call.
#[derive(Default)]
struct Call<'a> {
    method: Option<Method>,
    /// When it had left, if it calls back.
    left_at: Option<usize>,
    ends: Vec<(usize, &'a Outcome)>,
    dropped: bool,
}

/// How many calls there were, and how many of them got their value.
#[derive(Clone, Copy, Debug, Default)]
pub struct Told {
    pub calls: usize,
    pub values: usize,
    pub failed: usize,
}

/// Looks at a whole history; says the first thing in it that must not be.
pub fn check(history: &[(u64, Event)], ran: &HashMap<u64, u32>) -> Result<Told, String> {
    let mut calls: HashMap<u64, Call<'_>> = HashMap::new();
    let (mut drop_begins, mut drop_ended) = (usize::MAX, usize::MAX);
    for (at, (number, event)) in history.iter().enumerate() {
        let call = || format!("call {number}");
        match event {
            Event::DropBegins => drop_begins = at,
            Event::DropEnded => drop_ended = at,
            Event::Wrong(what) => return Err(format!("{}: {what}", call())),
            Event::Begin(method) => {
                let fresh = Call { method: Some(*method), ..Call::default() };
                if calls.insert(*number, fresh).is_some() {
                    return Err(format!("{} began twice", call()));
                }
            }
            Event::Left => calls.get_mut(number).ok_or_else(call)?.left_at = Some(at),
            Event::End(outcome) => calls.get_mut(number).ok_or_else(call)?.ends.push((at, outcome)),
            Event::Dropped => calls.get_mut(number).ok_or_else(call)?.dropped = true,
        }
    }
    let mut told = Told::default();
    for (number, call) in &calls {
        let times = ran.get(number).copied().unwrap_or(0);
        let method = call.method.ok_or("it began")?;
        // Whoever waits may take its time to write down what it has got; a callback has run when it is over.
        let late = |at: usize| at > drop_ended && call.left_at.is_some_and(|left| left < drop_begins);
        check_call(*number, method, call, times, late)
            .map_err(|what| format!("call {number} of {method:?}: {what}"))?;
        told.calls += 1;
        match call.ends.first() {
            Some((_, Ok(_))) => told.values += 1,
            Some((_, Err(_))) => told.failed += 1,
            None => {}
        }
    }
    Ok(told)
}

fn check_call(
    number: u64,
    method: Method,
    call: &Call<'_>,
    times: u32,
    late: impl Fn(usize) -> bool,
) -> Result<(), String> {
    if times > 1 {
        return Err(format!("its handler ran {times} times"));
    }
    match (&*call.ends, call.dropped) {
        ([], true) => Ok(()),
        ([(at, outcome)], false) if !late(*at) => check_end(number, method, outcome, times),
        ([_], false) => Err("it ended after the drop had returned".to_owned()),
        (ends, dropped) => Err(format!("{} ends, dropped: {dropped}: {ends:?}", ends.len())),
    }
}

fn check_end(number: u64, method: Method, outcome: &Outcome, times: u32) -> Result<(), String> {
    let error = match outcome {
        Ok(value) if times == 0 => return Err(format!("a value of {} bytes from no handler", value.len())),
        Ok(value) if *value == answer_to(&method.argument(number)) => return may_answer(method),
        Ok(value) => return Err(format!("a wrong value of {} bytes", value.len())),
        Err(error) => error,
    };
    if times > 0 && error.executed() == Executed::No {
        return Err(format!("its handler ran, and it is said that it did not: {error:?}"));
    }
    match error {
        CallError::Fault(fault) => {
            let text = fault.to_string();
            let own =
                matches!(method, Method::Fail | Method::Panic) && text.contains(&format!("no {number}"));
            // What it calls back for can end in every way, too.
            if own || method == Method::Back { Ok(()) } else { Err(format!("not its fault: {text}")) }
        }
        CallError::TimedOut { .. } | CallError::Cancelled | CallError::Closed { .. } => Ok(()),
        CallError::Rejected(nape::Rejection::Busy { .. } | nape::Rejection::ShuttingDown) => Ok(()),
        // A link that ends drops what its APIs have kept.
        CallError::NoAnswer if matches!(method, Method::Never | Method::Later) => Ok(()),
        other => Err(format!("no end for it: {other:?}")),
    }
}

fn may_answer(method: Method) -> Result<(), String> {
    match method {
        Method::Never | Method::Fail | Method::Panic => Err("a value that nobody gave".to_owned()),
        _ => Ok(()),
    }
}
