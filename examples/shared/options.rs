//! The command line, and how an error is told to a person.

use std::{env, error::Error, path::PathBuf};

/// The directory to survey: the one argument, or the sources of this package.
pub(crate) fn directory() -> Result<PathBuf, String> {
    let mut arguments = env::args_os().skip(1);
    let directory = arguments.next().map_or_else(own_sources, PathBuf::from);
    if arguments.next().is_some() {
        return Err("one directory at most, please".to_owned());
    }
    match directory.metadata() {
        Ok(found) if found.is_dir() => Ok(directory),
        Ok(_) => Err(format!("{} is not a directory", directory.display())),
        Err(error) => Err(format!("{}: {error}", directory.display())),
    }
}

fn own_sources() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// An error and everything behind it, on one line.
pub(crate) fn in_full(error: &dyn Error) -> String {
    let mut line = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        line.push_str(": ");
        line.push_str(&error.to_string());
        source = error.source();
    }
    line.replace('\n', " ")
}
