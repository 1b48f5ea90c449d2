//! A tour with a child process: this program starts itself a second time, as the child, which surveys
//! a directory.
//!
//! ```sh
//! cargo run --example head_and_neck            # surveys the sources of this package
//! cargo run --example head_and_neck -- DIR
//! ```

#[path = "../shared/mod.rs"]
mod shared;

use std::{
    env,
    error::Error,
    process::{Command, ExitCode},
};

use nape::{Head, Neck};
use shared::{options, survey, tour};

fn main() -> ExitCode {
    let is_child = env::args_os().nth(1).is_some_and(|argument| argument == AS_CHILD);
    match if is_child { child() } else { parent() } {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("head_and_neck: {}", options::in_full(&*error));
            ExitCode::FAILURE
        }
    }
}

/// The Neck: serves until the Head is gone.
fn child() -> Result<(), Box<dyn Error>> {
    survey::keep_quiet_on_purpose();
    Neck::from_env()?.serve(survey::api()?)?.run()?;
    Ok(())
}

/// The Head: starts the child, and calls it.
fn parent() -> Result<(), Box<dyn Error>> {
    let directory = options::directory()?;
    let mut command = Command::new(env::current_exe()?);
    command.arg(AS_CHILD);
    let head = Head::spawn(command)?;
    let child = head.child_id().unwrap_or_default();
    println!("Surveying {}", directory.display());
    println!("from process {}, in its child, process {child}.", std::process::id());
    tour::walk(&head, directory)?;
    // Says goodbye, waits for the child to end, and leaves nothing behind.
    drop(head);
    println!("\nThe child has ended.");
    Ok(())
}

const AS_CHILD: &str = "--as-child";
