//! `nape check`: what is wrong with a file that describes links and APIs.

use std::{fs, path::Path};

use nape::config_file::{BadValue, ConfigFile};
use serde::Serialize;

use crate::{
    args::Check,
    output::{Look, Out},
    trouble::{Exit, Trouble},
};

/// What `--json` prints.
#[derive(Serialize)]
struct Checked<'a> {
    file: String,
    is_good: bool,
    links: Vec<&'a str>,
    apis: Vec<&'a str>,
    mistakes: Vec<Mistake<'a>>,
}

#[derive(Serialize)]
struct Mistake<'a> {
    line: Option<usize>,
    column: Option<usize>,
    key: &'a str,
    found: &'a str,
    expected: &'a str,
    /// The known name that may be meant.
    nearest: Option<&'a str>,
}

pub(crate) fn check(what: &Check, out: &mut Out) -> Result<(), Trouble> {
    let name = what.file.display().to_string();
    let text = fs::read_to_string(&what.file)
        .map_err(|error| Trouble::usage(format!("cannot read {name}: {error}")))?;
    match ConfigFile::parse(&text) {
        Ok(file) if what.json => out.json(&Checked::new(name, Some(&file), &[])),
        Ok(file) => {
            let said = format!(" is good: {}, {}", list("link", file.links()), list("API", file.apis()));
            out.line(&[(Look::Name, &name), (Look::Plain, &said)])
        }
        Err(first) => {
            let all = match ConfigFile::mistakes(&text) {
                all if all.is_empty() => vec![first],
                all => all,
            };
            tell(&what.file, &name, &all, what.json, out)?;
            let n = if all.len() == 1 { "a mistake".into() } else { format!("{} mistakes", all.len()) };
            Err(Trouble::new(Exit::BadFile, format!("{name} has {n}")))
        }
    }
}

/// Each on a line that an editor can jump to.
fn tell(file: &Path, name: &str, all: &[BadValue], json: bool, out: &mut Out) -> Result<(), Trouble> {
    if json {
        return out.json(&Checked::new(name.to_owned(), None, all));
    }
    for bad in all {
        let mut bad = bad.clone();
        bad.file = Some(file.to_owned());
        out.line(&[(Look::Plain, &bad.to_string())])?;
    }
    Ok(())
}

impl<'a> Checked<'a> {
    fn new(name: String, file: Option<&'a ConfigFile>, mistakes: &'a [BadValue]) -> Checked<'a> {
        let mistake = |bad: &'a BadValue| Mistake {
            line: bad.place.map(|(line, _)| line),
            column: bad.place.map(|(_, column)| column),
            key: &bad.key,
            found: &bad.found,
            expected: &bad.expected,
            nearest: bad.nearest.as_deref(),
        };
        Checked {
            file: name,
            is_good: mistakes.is_empty(),
            links: file.map_or_else(Vec::new, |file| file.links().collect()),
            apis: file.map_or_else(Vec::new, |file| file.apis().collect()),
            mistakes: mistakes.iter().map(mistake).collect(),
        }
    }
}

/// `no link`, `link a`, `links a, b`.
fn list<'a>(kind: &str, names: impl Iterator<Item = &'a str>) -> String {
    match &names.collect::<Vec<_>>()[..] {
        [] => format!("no {kind}"),
        [one] => format!("{kind} {one}"),
        all => format!("{kind}s {}", all.join(", ")),
    }
}
