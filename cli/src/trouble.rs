//! What can go wrong, in one line, and the exit code that goes with it.

use std::{error::Error, fmt, io, process::ExitCode};

use nape::{CallError, CloseReason, Endpoint, Rejection, inspect::NotServed};

/// Exit codes. They stand in the help, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    Fine = 0,
    Failed = 1,
    Usage = 2,
    NotMet = 3,
    Refused = 4,
    Fault = 5,
    TimedOut = 6,
    Lost = 7,
    BadFile = 8,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit as u8)
    }
}

/// Why there is no result.
#[derive(Debug)]
pub(crate) struct Trouble {
    exit: Exit,
    text: String,
    is_broken_pipe: bool,
}

impl Trouble {
    pub(crate) fn new(exit: Exit, text: impl Into<String>) -> Trouble {
        Trouble { exit, text: text.into(), is_broken_pipe: false }
    }

    pub(crate) fn usage(text: impl Into<String>) -> Trouble {
        Trouble::new(Exit::Usage, text)
    }

    /// No link came of it. The text of the error names the address.
    pub(crate) fn not_met(error: &nape::Error) -> Trouble {
        Trouble::new(Exit::NotMet, chain(error))
    }

    /// A call to this path of a program at this address has failed.
    pub(crate) fn of_call(error: &CallError, path: &str, endpoint: &Endpoint, address: &str) -> Trouble {
        match error {
            // It is told what its caller cannot know: a protocol error may have come before the goodbye.
            CallError::Closed { .. } => {
                let reason = endpoint.close_reason();
                let reason = reason.as_deref().filter(|it| !matches!(it, CloseReason::Local));
                let why = reason.map_or_else(|| chain(error), |reason| chain(reason));
                Trouble::new(Exit::Lost, format!("{path}: the link to {address} is lost: {why}"))
            }
            CallError::TimedOut { after, .. } => {
                Trouble::new(Exit::TimedOut, format!("{path} of {address} timed out after {after:.3?}"))
            }
            CallError::Rejected(Rejection::NoHandler { path }) => {
                let hint = if path.as_str().starts_with("nape.") {
                    "it serves no Inspection"
                } else {
                    "`nape ls` tells what it serves"
                };
                Trouble::new(Exit::Refused, format!("{address} has no handler for {path}: {hint}"))
            }
            CallError::Rejected(why @ Rejection::Expired) => {
                Trouble::new(Exit::TimedOut, format!("{path} of {address}: {why}"))
            }
            CallError::Rejected(why) => {
                let gives_items = |expected: &str| expected.contains("takes items (`open`)");
                let hint = match why {
                    Rejection::BadArguments { expected, .. } if gives_items(expected) => {
                        ": try call --stream"
                    }
                    _ => "",
                };
                Trouble::new(Exit::Refused, format!("refused by {address}: {why}{hint}"))
            }
            CallError::Misuse(why) => Trouble::usage(format!("{path}: {why}")),
            CallError::Fault(fault) if fault.typed::<NotServed>().is_some_and(|it| it.path == path) => {
                Trouble::new(Exit::Refused, format!("{address} has nothing at {path}"))
            }
            CallError::Fault(fault) => Trouble::new(Exit::Fault, format!("{path} failed: {}", told(fault))),
            other => Trouble::new(Exit::Fault, format!("{path} failed: {}", chain(other))),
        }
    }

    pub(crate) fn exit(&self) -> Exit {
        self.exit
    }

    pub(crate) fn is_broken_pipe(&self) -> bool {
        self.is_broken_pipe
    }
}

impl From<io::Error> for Trouble {
    /// Of the output: all else that may fail says what it was.
    fn from(error: io::Error) -> Trouble {
        let is_broken_pipe = error.kind() == io::ErrorKind::BrokenPipe;
        Trouble { exit: Exit::Failed, text: format!("cannot write: {error}"), is_broken_pipe }
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// An error and what is behind it.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}

fn told(fault: &nape::Fault) -> String {
    let how = if fault.kind() == nape::FaultKind::Panicked { "it panicked: " } else { "" };
    let chain: String = fault.chain().map(|source| format!(": {source}")).collect();
    format!("{how}{}{chain}", fault.message())
}

/// What is wrong with the arguments, and the tip if there is one.
pub(crate) fn in_one_line(error: &clap::Error) -> String {
    let text = error.render().to_string();
    let paragraphs = text.split("\n\n").map(|lines| lines.split_whitespace().collect::<Vec<_>>().join(" "));
    let told = paragraphs.filter(|it| !it.starts_with("Usage:") && !it.starts_with("For more"));
    let line = told.filter(|it| !it.is_empty()).collect::<Vec<_>>().join("; ");
    line.strip_prefix("error: ").map(str::to_owned).unwrap_or(line)
}
