//! The same work over nape and over what else there is. How to run it, and what the figures mean, stands
//! in `README.md`.
//!
//! The driver starts a fresh process for each measurement. That process, the *caller*, connects to a
//! callee, which is a process of its own or a thread; warms up; does one kind of work; and prints its
//! figures. The contenders take turns, and the order is rotated from one repetition to the next, so that
//! what changes on the machine meets them all. Everything runs pinned.

mod codec;
mod contender;
mod cpu;
mod driver;
mod frames;
mod futures;
mod lane;
mod log;
#[path = "../../calls/machine.rs"]
mod machine;
mod measure;
mod options;
#[path = "../../calls/place.rs"]
mod place;
mod reaches;
mod report;
mod rivals;
mod roles;
#[path = "../../calls/statistics.rs"]
mod statistics;
mod table;
mod versions;
mod work;

use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.first().map(String::as_str) {
        Some(roles::CALLER) => roles::call(&args[1..]),
        Some(roles::CALLEE) => roles::serve(&args[1..]),
        _ => {
            if let Err(what) = options::Options::parse(&args).and_then(|options| driver::run(&options)) {
                eprintln!("{what}");
                return ExitCode::FAILURE;
            }
        }
    }
    ExitCode::SUCCESS
}
