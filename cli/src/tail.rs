//! `nape tail`: events as they come.

use std::time::{Duration, Instant};

use nape::{
    Next,
    inspect::{EventArguments, TailedEvent},
};

use crate::{
    args,
    link::Met,
    output::{Look, Out},
    trouble::Trouble,
};

pub(crate) fn tail(met: &Met, args: &args::Tail, out: &mut Out) -> Result<(), Trouble> {
    let began = Instant::now();
    let end = args.limit.and_then(|limit| began.checked_add(limit));
    let action = met.endpoint().api("nape").action("tail", args.prefix.clone());
    let mut events = action.open::<TailedEvent>().map_err(|error| met.trouble(&error, "nape.tail"))?;
    let mut n_left = args.count.unwrap_or(u64::MAX);
    while n_left > 0 {
        let left = end.map_or(Duration::MAX, |end| end.saturating_duration_since(Instant::now()));
        match events.next_timeout(left).map_err(|error| met.trouble(&error, "nape.tail"))? {
            Next::Item(event) => print(&event, began.elapsed(), args.json, out)?,
            Next::NotYet if end.is_some_and(|end| Instant::now() >= end) => break,
            Next::NotYet => continue,
            Next::End => break,
        }
        n_left -= 1;
    }
    Ok(())
}

fn print(event: &TailedEvent, at: Duration, json: bool, out: &mut Out) -> Result<(), Trouble> {
    if json {
        return out.json(event);
    }
    if event.lost > 0 {
        out.line(&[(Look::Alarm, &format!("{} events are missing here", event.lost))])?;
    }
    let link = if event.link.is_empty() { String::new() } else { format!("{} ", event.link) };
    let at = format!("+{:.3} s  ", at.as_secs_f64());
    let what = told(&event.arguments);
    out.line(&[
        (Look::Aside, &at),
        (Look::Aside, &link),
        (Look::Name, &event.path),
        (Look::Plain, " "),
        (Look::Plain, &what),
    ])
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
