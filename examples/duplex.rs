//! A chat between a Head and its Neck: both talk over one stream, whenever they like. This program is both.
//!
//! ```sh
//! cargo run --example duplex
//! ```

use std::{env, error::Error, process::Command, thread, time::Duration};

use nape::{Api, CallError, Context, Fault, Head, Incoming, Neck, Outgoing};

fn main() -> Result<(), Box<dyn Error>> {
    if env::args().nth(1).as_deref() == Some("child") { child() } else { parent() }
}

/// The one who is asked. It answers each line, and says something by itself now and then.
fn chat(
    _: &Context,
    name: String,
    lines: Incoming<String>,
    mut out: Outgoing<String>,
) -> Result<usize, Fault> {
    out.send(format!("Hello {name}! I am process {}.", std::process::id()))?;
    let mut heard = 0;
    for line in lines {
        let line = line?;
        heard += 1;
        out.send(match line.strip_suffix('?') {
            Some(_) => "That I do not know.".into(),
            None => format!("You say \"{line}\"?"),
        })?;
        if heard == 2 {
            out.send("I find this interesting.".into())?;
        }
    }
    // The other one has said all. Its half is closed, and ours still works.
    out.send("Good bye.".into())?;
    Ok(heard)
}

fn child() -> Result<(), Box<dyn Error>> {
    Ok(Neck::from_env()?.serve(Api::new("chat").duplex("join", chat)?)?.run()?)
}

fn parent() -> Result<(), Box<dyn Error>> {
    let mut command = Command::new(env::current_exe()?);
    command.arg("child");
    let head = Head::spawn(command)?;

    let (mut out, lines, answer) =
        head.api("chat").action("join", "Head").duplex::<String, String, usize>()?.split();
    // Another thread listens, so that both may talk at once.
    let listener = thread::Builder::new().name("listener".into()).spawn(move || {
        for line in lines {
            println!("Neck: {}", line?);
        }
        Ok::<_, CallError>(())
    })?;
    for line in ["The weather is fine.", "What is a duplex stream?", "I have to go."] {
        println!("Head: {line}");
        out.send(line.into())?;
        thread::sleep(Duration::from_millis(20));
    }
    out.end();
    listener.join().map_err(|_| "the listener panicked")??;
    println!("The Neck has heard {} lines.", answer.wait()?);
    Ok(())
}
