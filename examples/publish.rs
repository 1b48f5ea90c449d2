//! A child tells how far it is, to whoever wants to know.
//!
//! It publishes; the parent subscribes twice: a progress display that only ever wants the newest, and a log
//! that wants everything and says so if it missed something.
//!
//! ```text
//! cargo run --example publish
//! ```

use std::{process::Command, thread, time::Duration};

use nape::{Api, Backlog, Context, Fault, Head, Missed, Neck, Topic};
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Progress {
    done: u32,
    of: u32,
    file: String,
}

const FILES: u32 = 200;

fn main() -> nape::Result<()> {
    if std::env::args().nth(1).as_deref() == Some("child") {
        return child();
    }
    let mut command = Command::new(std::env::current_exe().expect("a program knows where it is"));
    command.arg("child");
    let head = Head::spawn(command)?;

    // A callback, and never more than one item waits for it.
    let display = head.subscribe::<Progress>("copy.progress", Backlog::latest())?.on(|news| match news {
        Ok(progress) => println!("{} of {}: {}", progress.done, progress.of, progress.file),
        Err(Missed::Lagged(n)) => println!("... {n} more ..."),
        Err(end) => println!("the display ends: {end}"),
    });

    // An iterator on a thread of its own, with room for everything there is.
    let log = head.subscribe::<Progress>("copy.progress", Backlog::drop_newest(FILES))?;
    let log = thread::spawn(move || {
        let (mut files, mut missed) = (0, 0);
        for news in log {
            match news {
                Ok(progress) if progress.done == progress.of => return (files + 1, missed),
                Ok(_) => files += 1,
                Err(Missed::Lagged(n)) => missed += n,
                Err(_) => break,
            }
        }
        (files, missed)
    });

    head.api("copy").action("run", FILES).call::<()>()?;
    let (files, missed) = log.join().expect("the log does not panic");
    println!("the log has {files} files and missed {missed}");
    assert_eq!(files + missed, u64::from(FILES));
    drop(display);
    Ok(())
}

fn child() -> nape::Result<()> {
    let progress = Topic::new();
    let theirs = progress.clone();
    let api = Api::new("copy").topic("progress", &progress)?.handle("run", move |_: &Context, of: u32| {
        for done in 1..=of {
            thread::sleep(Duration::from_micros(200));
            // Nobody is waited for here, however slow the other side is.
            theirs.publish(Progress { done, of, file: format!("file {done}") });
        }
        Ok::<_, Fault>(())
    })?;
    Neck::from_env()?.serve(api)?.run()
}
