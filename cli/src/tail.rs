//! `nape tail`: events, or the items of a topic, as they come.

use std::time::{Duration, Instant};

use nape::{
    Backlog, CallError, Executed, Missed, Next,
    inspect::{EventArguments, PathInfo, PathKind, TailedEvent},
};
use serde::Serialize;
use serde_json::Value;

use crate::{
    args,
    link::Met,
    output::{Look, Out},
    trouble::{Exit, Trouble},
};

/// What has come, as it is printed for scripts, too.
#[derive(Serialize)]
struct Line<'a> {
    link: &'a str,
    path: &'a str,
    arguments: EventArguments,
    lost: u64,
}

/// What is left to be printed, and until when.
struct Left {
    began: Instant,
    end: Option<Instant>,
    n: u64,
}

/// The items of a topic go to whoever subscribes; all else is events that come to the program.
pub(crate) fn tail(met: &Met, args: &args::Tail, out: &mut Out) -> Result<(), Trouble> {
    let began = Instant::now();
    let end = args.limit.and_then(|limit| began.checked_add(limit));
    let left = Left { began, end, n: args.count.unwrap_or(u64::MAX) };
    match is_topic(met, &args.prefix) {
        true => items(met, args, left, out),
        false => events(met, args, left, out),
    }
}

/// Whether it is a topic of the link that is asked over.
fn is_topic(met: &Met, path: &str) -> bool {
    let describe = met.endpoint().api("nape").action("describe", path.to_owned());
    let is_one = |info: PathInfo| info.kind == PathKind::Topic && info.path == path && info.link.is_empty();
    !path.is_empty() && describe.call::<PathInfo>().is_ok_and(is_one)
}

fn events(met: &Met, args: &args::Tail, mut left: Left, out: &mut Out) -> Result<(), Trouble> {
    let action = met.endpoint().api("nape").action("tail", args.prefix.clone());
    let mut events = action.open::<TailedEvent>().map_err(|error| met.trouble(&error, "nape.tail"))?;
    while left.n > 0 {
        match events.next_timeout(left.time()).map_err(|error| met.trouble(&error, "nape.tail"))? {
            Next::Item(event) => {
                let TailedEvent { link, path, arguments, lost, .. } = &event;
                let line = Line { link, path, arguments: arguments.clone(), lost: *lost };
                left.print(&line, args.json, out)?;
            }
            Next::NotYet if left.is_over() => break,
            Next::NotYet => continue,
            Next::End => break,
        }
    }
    Ok(())
}

fn items(met: &Met, args: &args::Tail, mut left: Left, out: &mut Out) -> Result<(), Trouble> {
    let path = &args.prefix;
    let subscribed = met.root().subscribe_untyped::<Value>(path, Backlog::drop_oldest(BACKLOG));
    let mut items = subscribed.map_err(|error| met.trouble(&error, path))?;
    let mut lost = 0;
    while left.n > 0 {
        match items.next_timeout(left.time()) {
            Ok(Some(item)) => {
                let arguments = EventArguments::Json(item.to_string());
                let line = Line { link: "", path, arguments, lost: std::mem::take(&mut lost) };
                left.print(&line, args.json, out)?;
            }
            Ok(None) if left.is_over() => break,
            Ok(None) => {}
            Err(Missed::Lagged(n)) => lost += n,
            Err(Missed::Ended) => break,
            Err(Missed::Closed(reason)) => {
                let closed = CallError::Closed { reason, executed: Executed::Maybe };
                return Err(met.trouble(&closed, path));
            }
            Err(other) => return Err(Trouble::new(Exit::Fault, format!("{path}: {other}"))),
        }
    }
    Ok(())
}

impl Left {
    fn time(&self) -> Duration {
        self.end.map_or(Duration::MAX, |end| end.saturating_duration_since(Instant::now()))
    }

    fn is_over(&self) -> bool {
        self.end.is_some_and(|end| Instant::now() >= end)
    }

    fn print(&mut self, line: &Line<'_>, json: bool, out: &mut Out) -> Result<(), Trouble> {
        self.n -= 1;
        if json {
            return out.json(line);
        }
        if line.lost > 0 {
            out.line(&[(Look::Alarm, &format!("{} are missing here", line.lost))])?;
        }
        let link = if line.link.is_empty() { String::new() } else { format!("{} ", line.link) };
        let at = format!("+{:.3} s  ", self.began.elapsed().as_secs_f64());
        let what = told(&line.arguments);
        out.line(&[
            (Look::Aside, &at),
            (Look::Aside, &link),
            (Look::Name, line.path),
            (Look::Plain, " "),
            (Look::Plain, &what),
        ])
    }
}

fn told(arguments: &EventArguments) -> String {
    match arguments {
        EventArguments::Json(text) => text.clone(),
        EventArguments::Binary(bytes) => {
            let digits: String = bytes.iter().take(MOST).map(|byte| format!("{byte:02x}")).collect();
            let more = if bytes.len() > MOST { ".." } else { "" };
            format!("({} bytes: {digits}{more})", bytes.len())
        }
        EventArguments::Large(n) => format!("({n} bytes)"),
        _ => "(not known)".into(),
    }
}

/// How many bytes of what is not JSON are shown to people.
const MOST: usize = 64;
/// How many items of a topic wait to be printed; then the oldest go.
const BACKLOG: u32 = 256;
