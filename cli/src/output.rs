//! What is printed: for people, in colors where there is a terminal, or for scripts.

use std::{
    io::{self, IsTerminal, Write},
    time::Duration,
};

use clap::builder::styling::{AnsiColor, Style};
use serde::Serialize;

use crate::{args::When, trouble::Trouble};

/// Stdout.
pub(crate) struct Out {
    to: io::BufWriter<io::Stdout>,
    colors: bool,
}

/// What a piece of text is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Look {
    Plain,
    /// A path, or the name of a column.
    Name,
    /// What is said besides.
    Aside,
    /// Something to look at.
    Alarm,
}

/// A table for people: as wide as what stands in it.
#[derive(Debug, Default)]
pub(crate) struct Table {
    rows: Vec<Vec<(Look, String)>>,
}

impl Out {
    pub(crate) fn new(colors: When) -> Out {
        Out { to: io::BufWriter::new(io::stdout()), colors: wants_colors(colors) }
    }

    /// One line, made of pieces. It is on its way when this returns.
    pub(crate) fn line(&mut self, pieces: &[(Look, &str)]) -> Result<(), Trouble> {
        for (look, text) in pieces {
            self.piece(*look, text)?;
        }
        self.to.write_all(b"\n")?;
        Ok(self.to.flush()?)
    }

    /// Bytes as they are.
    pub(crate) fn raw(&mut self, bytes: &[u8]) -> Result<(), Trouble> {
        self.to.write_all(bytes)?;
        Ok(self.to.flush()?)
    }

    /// One line of JSON.
    pub(crate) fn json(&mut self, value: &impl Serialize) -> Result<(), Trouble> {
        self.json_text(&serde_json::to_string(value).map_err(io::Error::from)?)
    }

    /// JSON as it is written, and nothing in it that speaks to a terminal.
    pub(crate) fn json_text(&mut self, text: &str) -> Result<(), Trouble> {
        self.raw((escaped(text) + "\n").as_bytes())
    }

    pub(crate) fn table(&mut self, table: &Table) -> Result<(), Trouble> {
        let n_columns = table.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| {
            let cells = table.rows.iter().filter_map(|row| row.get(column));
            cells.map(|(_, text)| clean(text).chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..n_columns).map(width).collect();
        for row in &table.rows {
            for (index, (look, text)) in row.iter().enumerate() {
                self.piece(*look, text)?;
                if index + 1 < row.len() {
                    let blanks = widths[index] + 2 - clean(text).chars().count();
                    write!(self.to, "{:blanks$}", "")?;
                }
            }
            self.to.write_all(b"\n")?;
        }
        Ok(self.to.flush()?)
    }

    fn piece(&mut self, look: Look, text: &str) -> io::Result<()> {
        let (style, text) = (self.style(look), clean(text));
        write!(self.to, "{}{text}{}", style.render(), style.render_reset())
    }

    fn style(&self, look: Look) -> Style {
        match look {
            Look::Name if self.colors => AnsiColor::Cyan.on_default().bold(),
            Look::Aside if self.colors => Style::new().dimmed(),
            Look::Alarm if self.colors => AnsiColor::Red.on_default().bold(),
            _ => Style::new(),
        }
    }
}

impl Table {
    /// With the names of the columns.
    pub(crate) fn new(names: &[&str]) -> Table {
        Table { rows: vec![names.iter().map(|name| (Look::Name, (*name).to_owned())).collect()] }
    }

    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = (Look, String)>) {
        self.rows.push(cells.into_iter().collect());
    }
}

/// Whether a terminal is there that shows colors to somebody who wants them.
pub(crate) fn wants_colors(when: When) -> bool {
    let is_set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let is_dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
    match when {
        When::Always => true,
        When::Never => false,
        When::Auto => io::stdout().is_terminal() && !is_set("NO_COLOR") && !is_dumb,
    }
}

/// One line that does nothing to a terminal: what comes from another program may be made to.
pub(crate) fn clean(text: &str) -> String {
    let clean = |c: char| if c.is_whitespace() { ' ' } else { char::REPLACEMENT_CHARACTER };
    text.chars().map(|c| if c.is_control() { clean(c) } else { c }).collect::<String>()
}

/// JSON with those control characters escaped that JSON itself allows: they stand in texts only.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len() + 1);
    for c in text.chars() {
        match c {
            '\u{7f}'..='\u{9f}' => escaped.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => escaped.push(c),
        }
    }
    escaped
}

/// JSON on one line: without the white space between its parts.
pub(crate) fn on_one_line(text: &str) -> String {
    let (mut in_text, mut after_backslash) = (false, false);
    let stays = |c: &char| {
        let ends = *c == '"' && !after_backslash;
        after_backslash = in_text && *c == '\\' && !after_backslash;
        in_text ^= ends;
        in_text || !c.is_ascii_whitespace()
    };
    text.chars().filter(stays).collect()
}

/// A time with three digits or so.
pub(crate) fn time(time: Duration) -> String {
    let nanos = time.as_nanos();
    let (unit, size): (&str, u32) = match nanos {
        0..1_000 => return format!("{nanos} ns"),
        1_000..1_000_000 => ("us", 1_000),
        1_000_000..1_000_000_000 => ("ms", 1_000_000),
        1_000_000_000..120_000_000_000 => ("s", 1_000_000_000),
        _ => return long_time(time.as_secs()),
    };
    // A time of so few seconds is a small number.
    let value = nanos as f64 / f64::from(size);
    let digits = if value < 10.0 { 2 } else { usize::from(value < 100.0) };
    format!("{value:.digits$} {unit}")
}

fn long_time(seconds: u64) -> String {
    let (minutes, hours) = (seconds / 60, seconds / 3600);
    if hours == 0 {
        format!("{minutes} m {} s", seconds % 60)
    } else {
        format!("{hours} h {} m", minutes % 60)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_short() {
        let told = |nanos| time(Duration::from_nanos(nanos));
        assert_eq!(told(0), "0 ns");
        assert_eq!(told(1_500), "1.50 us");
        assert_eq!(told(15_000_000), "15.0 ms");
        assert_eq!(told(999_000_000), "999 ms");
        assert_eq!(told(2_000_000_000), "2.00 s");
        assert_eq!(told(125_000_000_000), "2 m 5 s");
        assert_eq!(told(7_500_000_000_000), "2 h 5 m");
    }

    #[test]
    fn a_peer_cannot_speak_to_the_terminal() {
        assert_eq!(clean("a\u{1b}[2Jb\nc\td\u{9b}"), "a\u{fffd}[2Jb c d\u{fffd}");
    }
    #[test]
    fn json_is_one_line_and_does_nothing_to_a_terminal() {
        let text = "{ \"a b\\\" \\\\\" :\n [1.0,\t\" \u{9b}31m\u{7f}\"] }\r\n";
        let line = escaped(&on_one_line(text));
        assert_eq!(line, "{\"a b\\\" \\\\\":[1.0,\" \\u009b31m\\u007f\"]}");
        let value = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
        assert_eq!(value(&line), value(text));
    }
}
