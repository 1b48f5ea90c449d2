//! A child that crashes and is started again, behind the same handle. This program is both.
//!
//! ```sh
//! cargo run --example supervised
//! ```

use std::{
    env,
    error::Error,
    process::{self, Command},
    time::Duration,
};

use nape::{Api, CallError, Config, Context, Fault, Head, Neck, Restarts};

fn main() -> Result<(), Box<dyn Error>> {
    if env::args().nth(1).as_deref() == Some("child") { child() } else { parent() }
}

fn child() -> Result<(), Box<dyn Error>> {
    // Some files are too much for it, and one of them always is.
    let parse = |cx: &Context, file: String| {
        if file == "poison.bin" || (file == "odd.bin" && cx.attempt() == 0) {
            eprintln!("cannot stand {file}");
            process::exit(70);
        }
        Ok::<_, Fault>(format!("{file}, parsed by process {}", process::id()))
    };
    let parser = Api::new("parser").handle("parse", parse)?;
    Ok(Neck::from_env()?.serve(parser)?.run()?)
}

fn parent() -> Result<(), Box<dyn Error>> {
    let mut command = Command::new(env::current_exe()?);
    command.arg("child");
    let config = Config::new().heartbeat(Duration::from_secs(1), Duration::from_secs(5));
    let restarts = Restarts::on_crash().limit(5, Duration::from_secs(60));
    let supervisor = Head::builder()
        .config(config)
        .on_output(|line| println!("    {}: {}", line.pid, line.text))
        .supervise(restarts.backoff(Duration::from_millis(20), Duration::from_secs(1)))
        .on_transition(|transition| println!("  {transition}"))
        .spawn(command)?;
    let parser = supervisor.api("parser").timeout(Duration::from_secs(10));

    // It crashes, and runs again on the next start.
    let odd = parser.action("parse", "odd.bin".to_owned()).retry_safe();
    println!("{}", odd.call::<String>()?);
    println!("generation {} by now", supervisor.generation());

    // It crashes every time, and is not tried for ever.
    let poison = parser.action("parse", "poison.bin".to_owned()).retry_safe();
    match poison.call::<String>() {
        Err(error @ CallError::Poisonous { .. }) => println!("refused: {error}"),
        other => return Err(format!("it should have been refused: {other:?}").into()),
    }

    // What is called between two starts waits; nobody need know that there was a crash.
    println!("{}", parser.action("parse", "fine.bin".to_owned()).call::<String>()?);
    println!("{}", supervisor.hang_report());
    supervisor.stop();
    println!("in the end: {}", supervisor.last_transition());
    Ok(())
}
