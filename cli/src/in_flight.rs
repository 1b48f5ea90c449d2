//! `nape inflight`: what everybody is waiting for.

use std::time::Duration;

use nape::inspect::{Caller, InFlight, Running, Stage};

use crate::{
    args,
    link::Met,
    output::{Look, Out, Table, time},
    trouble::Trouble,
};

pub(crate) fn show(met: &Met, args: &args::Inflight, out: &mut Out) -> Result<(), Trouble> {
    let mut links: Vec<InFlight> = met.ask("in_flight")?;
    for link in &mut links {
        // The question itself, on whichever link it is seen.
        link.handlers.retain(|running| running.path != "nape.in_flight");
    }
    if args.json {
        return out.json(&links);
    }
    let mut table = Table::new(&["LINK", "PATH", "AGE", "STATE", "THREAD"]);
    let mut is_empty = true;
    for link in &links {
        let name = if link.link.is_empty() { "-" } else { &link.link };
        for running in &link.handlers {
            table.row(row(name, &running.path, running.age_us, stage(running), running.thread.as_deref()));
        }
        for caller in &link.callers {
            table.row(row(name, &caller.path, caller.age_us, waits(caller), caller.thread.as_deref()));
        }
        is_empty &= link.handlers.is_empty() && link.callers.is_empty();
    }
    if is_empty {
        out.line(&[(Look::Aside, "nothing is under way")])?;
    } else {
        out.table(&table)?;
    }
    for link in links.iter().filter(|link| link.is_stuck) {
        let name = if link.link.is_empty() { "this link" } else { &link.link };
        let (messages, bytes, answers) = (link.messages_to_send, link.bytes_to_send, link.answers_to_send);
        let text =
            format!("{name}: {messages} messages of {bytes} bytes and {answers} answers wait to be read");
        out.line(&[(Look::Alarm, &text)])?;
    }
    Ok(())
}

fn row(link: &str, path: &str, age_us: u64, state: String, thread: Option<&str>) -> Vec<(Look, String)> {
    let age = Duration::from_micros(age_us);
    let look = if age >= LONG { Look::Alarm } else { Look::Plain };
    let thread = thread.unwrap_or("-").to_owned();
    vec![
        (Look::Aside, link.to_owned()),
        (Look::Plain, path.to_owned()),
        (look, time(age)),
        (Look::Plain, state),
        (Look::Aside, thread),
    ]
}

/// What the other side of that link has called.
fn stage(running: &Running) -> String {
    let stage = match running.stage {
        Stage::Queued => "queued",
        Stage::Running => "running",
        Stage::Deferred => "deferred",
        _ => "served",
    };
    format!("{stage}{}", if running.given_up { ", given up" } else { "" })
}

/// What the program itself has called.
fn waits(caller: &Caller) -> String {
    let state = match (caller.id.is_some(), caller.sent) {
        (false, _) => "waits for a link",
        (true, false) => "waits to be sent",
        (true, true) if caller.is_stream => "takes items",
        (true, true) => "waits for the answer",
    };
    let left = caller.remaining_us.map(|left| format!(", {} left", time(Duration::from_micros(left))));
    format!("{state}{}", left.unwrap_or_default())
}

/// What takes longer is worth a look.
const LONG: Duration = Duration::from_secs(1);
