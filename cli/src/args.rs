//! What can be asked for on the command line.

use std::{path::PathBuf, time::Duration};

use clap::{
    ArgAction, Args as ClapArgs, Parser, Subcommand, ValueEnum, ValueHint,
    builder::styling::{AnsiColor, Styles},
};
use nape::Address;

/// Look inside a running program that listens at an address and serves an Inspection.
///
/// ADDR is `unix:/path/of/a.sock`, `/path/of/a.sock` or `tcp:127.0.0.1:port`.
#[derive(Debug, Parser)]
#[command(name = "nape", version, styles = STYLES, after_help = AFTER, arg_required_else_help = true)]
#[command(max_term_width = 100)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) command: Command,
    /// Colors; `auto` is on a terminal where NO_COLOR is not set.
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto")]
    pub(crate) color: When,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List what is served, as a tree, with signatures and what doc comments say.
    Ls(Ls),
    /// Tell everything about one path.
    Describe(Describe),
    /// Call a path with JSON, and print its result as JSON.
    Call(Call),
    /// Print events, or the items of a topic, as they come.
    Tail(Tail),
    /// Tell what everybody is waiting for, and for how long.
    Inflight(Inflight),
    /// Show a live table of calls, times, queues and faults for each path.
    Top(Top),
    /// Call a path again and again, and tell how long it takes.
    Bench(Bench),
    /// Tell what is wrong with a file that describes links and APIs.
    Check(Check),
    /// Print what a shell needs to complete these commands.
    Completions {
        /// For which shell.
        shell: clap_complete::Shell,
    },
}

/// Whom to ask, and how.
#[derive(Debug, ClapArgs)]
pub(crate) struct Target {
    /// Where the program listens.
    #[arg(value_name = "ADDR", value_parser = address, value_hint = ValueHint::FilePath)]
    pub(crate) address: Address,
    /// The file with its token, which TCP requires. The variable NAPE_TOKEN may hold the token itself.
    #[arg(long, value_name = "FILE", env = "NAPE_TOKEN_FILE", value_hint = ValueHint::FilePath)]
    pub(crate) token: Option<PathBuf>,
    /// A user whose program it may be, by number; may be given again. Without it only your own.
    #[arg(long, value_name = "UID", action = ArgAction::Append)]
    pub(crate) uid: Vec<u32>,
    /// How long connecting may take, and then each call: `500ms`, `2s`, `1m`, or a number of seconds.
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = time)]
    pub(crate) timeout: Duration,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Ls {
    #[command(flatten)]
    pub(crate) target: Target,
    /// Only this path, and what is below it.
    pub(crate) prefix: Option<String>,
    /// One JSON array, for scripts.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Describe {
    #[command(flatten)]
    pub(crate) target: Target,
    /// The full path, such as `thumbs.cache.clear`.
    pub(crate) path: String,
    /// One JSON object, for scripts.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Call {
    #[command(flatten)]
    pub(crate) target: Target,
    /// The full path.
    pub(crate) path: String,
    /// A JSON value for each argument, none for none; `-` reads one from stdin. For a method of a trait it may be one
    /// object with the names of the arguments.
    #[arg(value_name = "JSON", allow_negative_numbers = true)]
    pub(crate) arguments: Vec<String>,
    /// The path gives a stream: print each item on a line, as it comes.
    #[arg(long)]
    pub(crate) stream: bool,
    /// Send an event, which has no answer.
    #[arg(long, conflicts_with = "stream")]
    pub(crate) event: bool,
    /// Indent the result.
    #[arg(long, conflicts_with_all = ["event", "raw"])]
    pub(crate) pretty: bool,
    /// Write the bytes of the result as they are: they need not be JSON.
    #[arg(long, conflicts_with_all = ["event", "stream"])]
    pub(crate) raw: bool,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Tail {
    #[command(flatten)]
    pub(crate) target: Target,
    /// A topic, or a path: then only events to it and below it.
    #[arg(default_value = "", hide_default_value = true)]
    pub(crate) prefix: String,
    /// End after so many.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) count: Option<u64>,
    /// End after this time.
    #[arg(long = "for", value_name = "TIME", value_parser = time)]
    pub(crate) limit: Option<Duration>,
    /// One JSON object a line, for scripts.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Inflight {
    #[command(flatten)]
    pub(crate) target: Target,
    /// One JSON array, for scripts.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Top {
    #[command(flatten)]
    pub(crate) target: Target,
    /// Only paths at and below this one.
    #[arg(default_value = "", hide_default_value = true)]
    pub(crate) prefix: String,
    /// Print one table, and end.
    #[arg(long)]
    pub(crate) once: bool,
    /// How often to look; with --once, how long to count.
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = time)]
    pub(crate) interval: Duration,
    /// One row for a path, with the calls of all links, and the times of the slowest one.
    #[arg(long)]
    pub(crate) sum: bool,
    /// Also paths that nobody has called, and those of the inspection itself.
    #[arg(long)]
    pub(crate) all: bool,
    /// One JSON array, for scripts.
    #[arg(long, requires = "once")]
    pub(crate) json: bool,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Bench {
    #[command(flatten)]
    pub(crate) target: Target,
    /// The full path.
    pub(crate) path: String,
    /// As for `call`.
    #[arg(value_name = "JSON", allow_negative_numbers = true)]
    pub(crate) arguments: Vec<String>,
    /// For how long.
    #[arg(long = "for", value_name = "TIME", value_parser = time, default_value = "3s")]
    pub(crate) limit: Duration,
    /// So many calls instead, however long they take.
    #[arg(long, short = 'n', value_name = "N", conflicts_with = "limit")]
    #[arg(value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) calls: Option<u64>,
    /// How many calls are under way at a time.
    #[arg(long, short = 'c', value_name = "N", default_value = "1")]
    #[arg(value_parser = clap::value_parser!(u16).range(1..=512))]
    pub(crate) concurrency: u16,
    /// One JSON object, for scripts.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Check {
    /// The file, in TOML.
    #[arg(value_hint = ValueHint::FilePath)]
    pub(crate) file: PathBuf,
    /// One JSON object, for scripts.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum When {
    Auto,
    Always,
    Never,
}

/// A path of a file counts as that of a socket.
fn address(text: &str) -> Result<Address, nape::AddressError> {
    if text.starts_with('/') { Address::unix(text) } else { text.parse() }
}

/// A number of seconds, or one with a unit.
fn time(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match &text[digits.len()..] {
        "ms" => 0.001,
        "" | "s" => 1.0,
        "m" | "min" => 60.0,
        "h" => 3600.0,
        _ => f64::NAN,
    };
    let seconds = digits.parse::<f64>().unwrap_or(f64::NAN) * unit;
    match Duration::try_from_secs_f64(seconds) {
        Ok(time) if !time.is_zero() => Ok(time),
        _ => Err("a time is `500ms`, `2s`, `1m`, or a number of seconds above zero".into()),
    }
}

const STYLES: Styles = Styles::styled()
    .header(AnsiColor::Yellow.on_default().bold())
    .usage(AnsiColor::Yellow.on_default().bold())
    .literal(AnsiColor::Cyan.on_default().bold())
    .placeholder(AnsiColor::Green.on_default());

const AFTER: &str = "\
Exit codes:
  0  done
  1  the output cannot be written, or something else here failed
  2  the arguments are wrong
  3  nobody was met at the address
  4  the call was refused: no such path, arguments that do not fit, a full queue
  5  the handler failed
  6  time ran out
  7  the link was lost
  8  the file that was checked has mistakes";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_holds_together() {
        <Args as clap::CommandFactory>::command().debug_assert();
    }

    #[test]
    fn times_have_units() {
        for (text, millis) in [("500ms", 500), ("2s", 2000), ("1m", 60_000), ("0.25", 250), ("1h", 3_600_000)]
        {
            assert_eq!(time(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for text in ["", "s", "-1", "0", "1y", "nan", "inf", "1e300"] {
            assert!(time(text).is_err(), "{text}");
        }
    }
}
