//! A Head whose child is a program in Python.

use std::{error::Error, process::Command, time::Duration};

use nape::{CallError, Config, Head, Wire};
use serde_json::Value;

use crate::peer;

/// Starts the script as a child, and tries what the verb says.
pub fn spawn(verb: &str, python: &str, script: &str) -> Result<(), Box<dyn Error>> {
    let mut command = Command::new(python);
    command.args(["-B", script, verb]);
    let builder = peer::served()?.into_iter().fold(Head::builder(), |head, api| head.serve(api));
    let wire = if verb == "ipc" { Wire::Ipc } else { Wire::Pipe };
    let head = builder.config(Config::new().start_timeout(LONG)).wire(wire).spawn(command)?;
    let py = head.api("py").timeout(LONG);
    match verb {
        // Who leaves takes its child along: its pid is told, for the test to look for.
        "leave" | "linger" => {
            println!("{}", head.child_id().ok_or("it has no number")?);
            assert_eq!(py.action("echo", 1u8).call::<u8>()?, 1);
            if verb == "linger" {
                // Without a goodbye, as when the Head is killed.
                std::process::abort();
            }
        }
        "die" => {
            let error = py.action("die", ()).call::<()>().err().ok_or("it has not died")?;
            let CallError::Closed { reason, .. } = &error else { return Err(error.into()) };
            println!("{reason}");
        }
        _ => {
            assert_eq!(py.action("echo", "é".repeat(100_000)).call::<String>()?, "é".repeat(100_000));
            // It calls back within the call.
            assert_eq!(py.action("depth", 5u8).call::<u8>()?, 5);
            let items = py.action("count", 300u32).open::<u32>()?.collect::<Result<Vec<_>, _>>()?;
            assert_eq!(items, (0..300).collect::<Vec<_>>());
            let wrong = peer::told(py.action("nowhere", ()).call::<Value>());
            assert_eq!(wrong["detail"], "NoHandler { path: \"py.nowhere\" }", "{wrong}");
            println!("fine");
        }
    }
    Ok(())
}

/// Far more than anything takes here.
const LONG: Duration = Duration::from_secs(30);
