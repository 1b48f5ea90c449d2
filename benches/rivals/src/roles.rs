//! The two processes of a measurement: this program again, with other arguments.

use std::{
    env, io,
    io::Read as _,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Signal, set_parent_process_death_signal};

use crate::{
    contender::Contender,
    measure::{self, Figures},
    place::{Place, pin},
    table,
    work::Work,
};

/// The first argument of a process that calls.
pub(crate) const CALLER: &str = "caller";
/// The first argument of a process that is called.
pub(crate) const CALLEE: &str = "callee";

/// A measurement to be made in a process of its own.
pub(crate) struct Job {
    pub(crate) contender: &'static Contender,
    pub(crate) work: Work,
    pub(crate) place: Place,
    pub(crate) calls: u64,
}

/// Why there are no figures.
#[derive(Debug)]
pub(crate) enum Failure {
    /// It did not come to an end.
    Hung,
    /// It ended with an error.
    Failed,
}

impl Job {
    /// Makes the measurement.
    pub(crate) fn run(&self) -> io::Result<Result<Figures, Failure>> {
        let Place { caller, callee } = self.place;
        let mut command = Command::new(env::current_exe()?);
        command.args([CALLER, self.contender.name, self.work.name()]);
        command.args([caller as u64, callee as u64, self.calls].map(|n| n.to_string()));
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
        if !ends_in_time(&mut child)? {
            // Its callee dies with it.
            child.kill()?;
            child.wait()?;
            return Ok(Err(Failure::Hung));
        }
        let mut text = String::new();
        child.stdout.take().expect("it is piped").read_to_string(&mut text)?;
        let figures = if child.wait()?.success() { Figures::from_text(&text) } else { None };
        Ok(figures.ok_or(Failure::Failed))
    }
}

/// The caller's process: connects, warms up, works, and prints the figures.
pub(crate) fn call(args: &[String]) {
    let number = |index: usize| args[index].parse::<u64>().expect("the driver passes numbers");
    let contender = table::named(&args[0]);
    let work = Work::named(&args[1]).expect("the driver passes a work");
    let place = Place { caller: number(2) as usize, callee: number(3) as usize };
    die_with_parent();
    pin(place.caller);
    let pair = (contender.connect)(&place, work);
    println!("{}", measure::measure(pair, work, number(4)).to_text());
}

/// The callee's process: answers until the caller is gone.
pub(crate) fn serve(args: &[String]) {
    die_with_parent();
    pin(args[1].parse().expect("the caller passes a number"));
    let serve = table::named(&args[0]).serve.expect("only a contender with a callee starts one");
    serve(Work::named(&args[2]).expect("the caller passes a work"), &args[3..]);
}

/// The command that starts the callee of a contender as a process.
pub(crate) fn callee(place: &Place, name: &str, work: Work) -> Command {
    let mut command = place.callee(name);
    command.arg(work.name());
    command
}

/// Of a measurement that hangs nothing may stay: whoever ends the caller ends the callee.
fn die_with_parent() {
    set_parent_process_death_signal(Some(Signal::KILL)).expect("a process may ask for that");
}

/// Waits for a process; what it prints is short enough for the pipe.
fn ends_in_time(child: &mut Child) -> io::Result<bool> {
    let end = Instant::now() + LIMIT;
    while child.try_wait()?.is_none() {
        if Instant::now() > end {
            return Ok(false);
        }
        // The cores belong to those who are measured.
        thread::sleep(Duration::from_millis(5));
    }
    Ok(true)
}

/// The longest that one measurement may take.
const LIMIT: Duration = Duration::from_secs(15);
