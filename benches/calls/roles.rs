//! The two processes of a measurement: this program again, with other arguments.

use std::{
    env,
    fmt::Write as _,
    io::{Read as _, Write as _},
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use crossbeam_channel::bounded;

use crate::{
    contender::Contender,
    counts::{self, Counts},
    place::{Place, pin},
};

/// The first argument of a process that calls.
pub(crate) const CALLER: &str = "caller";
/// The first argument of a process that is called.
pub(crate) const CALLEE: &str = "callee";

/// A measurement to be made in a process of its own.
pub(crate) struct Job<'a> {
    pub(crate) contender: &'a Contender,
    pub(crate) place: Place,
    pub(crate) warm_up: u64,
    pub(crate) calls: u64,
}

impl Job<'_> {
    /// The time of each call, in nanoseconds.
    pub(crate) fn times(&self) -> Result<Vec<u64>, String> {
        let output = finish(self.command(&[], "times"), self.contender.name)?;
        output.lines().map(|line| line.parse().map_err(|_| format!("not a time: `{line}`"))).collect()
    }

    /// What the calls cost, apart from time.
    pub(crate) fn counts(&self) -> Result<Counts, String> {
        Counts::from_text(&finish(self.command(&[], "counts"), self.contender.name)?)
    }

    /// Makes the calls under another program, which is told how to start this one.
    pub(crate) fn under(&self, program: &[&str]) -> Result<(), String> {
        finish(self.command(program, "nothing"), self.contender.name).map(drop)
    }

    fn command(&self, under: &[&str], wanted: &str) -> Command {
        let this = env::current_exe().expect("this program has a file");
        let mut command = match under.split_first() {
            None => Command::new(this),
            Some((program, args)) => {
                let mut command = Command::new(program);
                command.args(args).arg(this);
                command
            }
        };
        let Place { caller, callee } = self.place;
        command.args([CALLER, self.contender.name, wanted]);
        command.args([caller as u64, callee as u64, self.warm_up, self.calls].map(|n| n.to_string()));
        command
    }
}

/// The caller's process: connects, warms up, calls, and prints what was asked for.
pub(crate) fn call(args: &[String]) {
    let number = |index: usize| args[index].parse::<u64>().expect("the driver passes numbers");
    let (contender, wanted) = (Contender::named(&args[0]), args[1].as_str());
    let place = Place { caller: number(2) as usize, callee: number(3) as usize };
    pin(place.caller);
    let mut pair = (contender.connect)(&place);
    pair.run(number(4));
    let calls = number(5);
    let output = match wanted {
        "counts" => counts::during(&mut pair, calls).to_text(),
        wanted => {
            let times = pair.run(calls);
            let mut text = String::new();
            for time in times.iter().filter(|_| wanted == "times") {
                writeln!(text, "{time}").expect("a string can be written to");
            }
            text
        }
    };
    drop(pair);
    std::io::stdout().write_all(output.as_bytes()).expect("the driver reads");
}

/// The callee's process: answers until the caller is gone.
pub(crate) fn serve(args: &[String]) {
    pin(args[1].parse().expect("the caller passes a number"));
    let serve = Contender::named(&args[0]).serve.expect("only a contender with a callee starts one");
    serve(&args[2..]);
}

/// Waits for a process and gives what it printed; ends it when it takes too long.
fn finish(mut command: Command, name: &str) -> Result<String, String> {
    let failed = |what: &dyn std::fmt::Display| format!("{name}: {what}");
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| failed(&format!("{:?} does not start: {error}", command.get_program())))?;
    let mut printed = child.stdout.take().expect("it is piped");
    let (done, all) = bounded(1);
    let reader = thread::Builder::new().name("output".into()).spawn(move || {
        let mut text = String::new();
        // Sending fails only when nobody waits any longer.
        let _ = done.send(printed.read_to_string(&mut text).map(|_| text));
    });
    reader.map_err(|error| failed(&error))?;
    let text = all.recv_timeout(LIMIT);
    if text.is_err() {
        // It may have ended in this very moment.
        let _ = child.kill();
    }
    let status = child.wait().map_err(|error| failed(&error))?;
    let text = text.map_err(|_| failed(&"it took too long"))?.map_err(|error| failed(&error))?;
    if status.success() { Ok(text) } else { Err(failed(&format!("it ended with {status}"))) }
}

/// The longest that one measurement may take.
const LIMIT: Duration = Duration::from_secs(120);
