//! The same tour with both sides in this process: only the making of the two ends differs.
//!
//! ```sh
//! cargo run --example in_process               # surveys the sources of this package
//! cargo run --example in_process -- DIR
//! ```

#[path = "../shared/mod.rs"]
mod shared;

use std::{error::Error, process::ExitCode};

use nape::Head;
use shared::{options, survey, tour};

fn main() -> ExitCode {
    match both() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("in_process: {}", options::in_full(&*error));
            ExitCode::FAILURE
        }
    }
}

/// Head and Neck: one serves, the other calls.
fn both() -> Result<(), Box<dyn Error>> {
    let directory = options::directory()?;
    survey::keep_quiet_on_purpose();
    let (head, neck) = Head::in_process()?;
    let neck = neck.serve(survey::api()?)?.start();
    println!("Surveying {}", directory.display());
    println!("with both sides in process {}.", std::process::id());
    tour::walk(&head, directory)?;
    drop(head);
    neck.wait()?;
    println!("\nBoth sides have ended.");
    Ok(())
}
