//! The client for Python, tried against the real thing: its own tests in `clients/python`, to which this program is
//! the Head or the Neck at the other end.
//!
//! ```text
//! cargo test --test python
//! cargo test --test python -- calls        the test modules, classes or methods of Python to run, by a part of the name
//! ```
//!
//! Where there is no Python, nothing is tried, and that is said loudly; where `CI` is set, it is a failure.

#![allow(unreachable_pub, reason = "no item of a test is reachable from anywhere")]

mod parent;
mod peer;

use std::{
    env,
    path::Path,
    process::{Command, ExitCode},
};

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["listen", side, address] => told(peer::listen(side, address, None)),
        ["listen", side, address, token] => told(peer::listen(side, address, Some(token))),
        ["spawn", verb, python, script] => told(parent::spawn(verb, python, script)),
        // Whoever lists the tests finds one.
        ["--list", ..] => {
            println!("python: test");
            ExitCode::SUCCESS
        }
        _ => run(arguments.iter().filter(|word| !word.starts_with('-'))),
    }
}

/// What the tests of Python read of a program that has failed.
fn told(result: Result<(), Box<dyn std::error::Error>>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// Runs the tests of Python.
fn run<'a>(names: impl Iterator<Item = &'a String>) -> ExitCode {
    let python = env::var("PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let found =
        Command::new(&python).args(["-c", "import sys; sys.exit(sys.version_info < (3, 9))"]).status();
    if !found.as_ref().is_ok_and(|status| status.success()) {
        eprintln!(
            "\n*** NOT TESTED: the client for Python needs Python 3.9, and `{python}` is not that: {found:?} ***\n"
        );
        return if env::var_os("CI").is_some() { ExitCode::FAILURE } else { ExitCode::SUCCESS };
    }
    let client = Path::new(env!("CARGO_MANIFEST_DIR")).join("clients/python");
    let mut command = Command::new(&python);
    command
        .args(["-B", "-X", "dev", "-m", "unittest", "discover", "-s", "tests", "-t", "."])
        .current_dir(client);
    for name in names {
        command.args(["-k", name]);
    }
    command.env("NAPE_TEST_PEER", env::current_exe().expect("this program has a path"));
    match command.status() {
        Ok(status) if status.success() => ExitCode::SUCCESS,
        other => {
            eprintln!("the tests of the client for Python have failed: {other:?}");
            ExitCode::FAILURE
        }
    }
}
