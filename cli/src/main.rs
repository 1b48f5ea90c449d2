//! `nape`: looks inside a running program from a shell.

mod args;
mod bench;
mod call;
mod check;
mod in_flight;
mod link;
mod listing;
mod numbers;
mod output;
mod tail;
mod top;
mod trouble;

use std::{io::Write, process::ExitCode};

use clap::{CommandFactory, Parser, error::ErrorKind};

use args::{Args, Command};
use link::Met;
use output::Out;
use trouble::{Exit, Trouble};

fn main() -> ExitCode {
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => return refuse(&error),
    };
    match run(args) {
        Ok(()) => Exit::Fine.into(),
        // Whoever read the output has enough of it.
        Err(trouble) if trouble.is_broken_pipe() => Exit::Fine.into(),
        Err(trouble) => {
            complain(&trouble.to_string());
            trouble.exit().into()
        }
    }
}

fn run(args: Args) -> Result<(), Trouble> {
    let mut out = Out::new(args.color);
    let met = |target: &args::Target| Met::connect(target);
    match args.command {
        Command::Ls(it) => listing::list(&met(&it.target)?, &it, &mut out),
        Command::Describe(it) => listing::describe(&met(&it.target)?, &it, &mut out),
        Command::Call(it) => {
            // What is wrong with them shows before anybody is bothered.
            let arguments = call::arguments(&it.arguments)?;
            call::call(&met(&it.target)?, &it, arguments, &mut out)
        }
        Command::Tail(it) => tail::tail(&met(&it.target)?, &it, &mut out),
        Command::Inflight(it) => in_flight::show(&met(&it.target)?, &it, &mut out),
        Command::Top(it) => {
            top::check(&it)?;
            top::top(&met(&it.target)?, &it, &mut out)
        }
        Command::Bench(it) => {
            let arguments = call::arguments(&it.arguments)?;
            bench::bench(&met(&it.target)?, &it, arguments, &mut out)
        }
        Command::Check(it) => check::check(&it, &mut out),
        Command::Completions { shell } => completions(shell, &mut out),
    }
}

fn completions(shell: clap_complete::Shell, out: &mut Out) -> Result<(), Trouble> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Args::command(), "nape", &mut script);
    out.raw(&script)
}

/// Help is printed as it is; of what is wrong with the arguments one line.
fn refuse(error: &clap::Error) -> ExitCode {
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            let _ = error.print();
            return Exit::Fine.into();
        }
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            let _ = error.print();
        }
        _ => complain(&trouble::in_one_line(error)),
    }
    Exit::Usage.into()
}

fn complain(text: &str) {
    // Nobody is left to be told that this failed.
    let _ = writeln!(std::io::stderr(), "nape: {}", output::clean(text.trim()));
}
