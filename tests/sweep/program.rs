//! The program: a Head with a child, and calls of every sort, which keeps account of itself.

use std::{
    env,
    error::Error,
    fs::{self, File, OpenOptions},
    io::Write,
    process::{Command, ExitCode},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use nape::{Api, CallError, Config, Context, Executed, Fault, Head, Neck, Wire};

/// The file into which the Neck writes the number of each call that it begins.
pub const LOG: &str = "NAPE_SWEEP_LOG";
/// What stands before the command of the Neck, with tabs between its words.
pub const BEFORE: &str = "NAPE_SWEEP_BEFORE";
/// The first line of a Head: from here on it is the library's.
pub const BEGUN: &str = "begun";
/// The last line of a Head whose calls have all come through.
pub const CLEAN: &str = "all came through";
/// The last line of a Head with calls that ended in an error as they may.
pub const CUT_OFF: &str = "cut off";

/// Serves until the link is over.
pub fn neck() -> ExitCode {
    let serve = || -> Result<(), Box<dyn Error>> {
        let log = OpenOptions::new().append(true).open(env::var(LOG)?)?;
        Ok(Neck::from_env()?.serve(api(Arc::new(log))?)?.run()?)
    };
    match serve() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("the neck: {error}");
            ExitCode::from(3)
        }
    }
}

fn api(log: Arc<File>) -> Result<Api, nape::ApiError> {
    let begin = move |number: u8| (&*log).write_all(&[number]);
    let (first, second) = (begin.clone(), begin);
    Api::new("work")
        .workers(2)
        .handle("echo", move |_: &Context, (number, bytes): (u8, Vec<u8>)| -> Result<Vec<u8>, Fault> {
            first(number)?;
            Ok(bytes)
        })?
        .handle("ask", move |cx: &Context, number: u8| -> Result<u8, Fault> {
            second(number)?;
            // A call within the call, back to the Head.
            Ok(cx.api("host").action("twice", number).call()?)
        })
}

/// Does its work, and says how it went.
pub fn head(wire: &str) -> ExitCode {
    println!("{BEGUN}");
    let before = descriptors();
    let wire = [Wire::Ipc, Wire::Pipe, Wire::Shm].into_iter().find(|known| format!("{known:?}") == wire);
    let start = Instant::now();
    let account = wire.ok_or("no such wire".into()).and_then(work);
    let verdict = account.and_then(|all_came| {
        nothing_is_left(&before)?;
        if start.elapsed() > TOO_LONG {
            return Err(format!("it took {:?}", start.elapsed()));
        }
        Ok(all_came)
    });
    match verdict {
        Ok(all_came) => {
            println!("{}", if all_came { CLEAN } else { CUT_OFF });
            ExitCode::SUCCESS
        }
        Err(what) => {
            println!("{what}");
            ExitCode::FAILURE
        }
    }
}

/// One call, by its number, and what came of it.
type End = (u8, Result<(), CallError>);

/// Says whether everything came through, or what went wrong.
fn work(wire: Wire) -> Result<bool, String> {
    let head = match spawn(wire) {
        Ok(head) => head,
        // It need not start, but it has to say so.
        Err(_) => return account(Vec::new()).map(|_| false),
    };
    let mut ends = blocking(&head);
    ends.extend(started(&head));
    ends.extend(nested(&head));
    let others = thread::scope(|scope| {
        let other = thread::Builder::new().spawn_scoped(scope, || echo(&head, 60, 100));
        let mine = echo(&head, 61, 100_000);
        let other = other.ok().map(|other| other.join().expect("it does not panic"));
        [Some(mine), other]
    });
    ends.extend(others.into_iter().flatten());
    drop(head);
    account(ends)
}

fn spawn(wire: Wire) -> nape::Result<Head> {
    let twice = |_: &Context, number: u8| Ok::<_, Fault>(number.wrapping_mul(2));
    let host = Api::new("host").handle("twice", twice)?;
    let config = Config::new().start_timeout(PATIENCE).grace(Duration::from_secs(1));
    Head::builder().config(config).wire(wire).serve(host).spawn(command())
}

/// This program as the Neck, perhaps under a tracer.
fn command() -> Command {
    let me = env::current_exe().expect("it has a name");
    let before = env::var(BEFORE).unwrap_or_default();
    let mut words = before.split('\t').filter(|word| !word.is_empty());
    let mut command = match words.next() {
        Some(first) => Command::new(first),
        None => Command::new(&me),
    };
    if !before.is_empty() {
        command.args(words).arg(me);
    }
    command.arg("neck");
    command
}

fn echo(head: &Head, number: u8, size: usize) -> End {
    let sent = vec![number; size];
    let work = head.api("work").timeout(PATIENCE);
    let outcome = work.action("echo", (number, sent.clone())).call::<Vec<u8>>();
    (number, outcome.map(|came| assert!(came == sent, "the answer of another call")))
}

fn blocking(head: &Head) -> Vec<End> {
    (1..=5).map(|number| echo(head, number, 10)).collect()
}

fn started(head: &Head) -> Vec<End> {
    let work = head.api("work").timeout(PATIENCE);
    let start = |number: u8| (number, work.action("echo", (number, vec![number; 20])).start::<Vec<u8>>());
    let all: Vec<_> = (10..20).map(start).collect();
    all.into_iter()
        .map(|(number, started)| {
            let outcome = started.and_then(|result| result.wait());
            (number, outcome.map(|came| assert!(came == vec![number; 20], "the answer of another call")))
        })
        .collect()
}

fn nested(head: &Head) -> Vec<End> {
    let work = head.api("work").timeout(PATIENCE);
    let ask = |number: u8| {
        let outcome = work.action("ask", number).call::<u8>();
        (number, outcome.map(|came| assert_eq!(came, 2 * number)))
    };
    (30..33).map(ask).collect()
}

/// Compares what the calls say of themselves with what the Neck has begun.
fn account(ends: Vec<End>) -> Result<bool, String> {
    let log = env::var(LOG).map_err(|error| error.to_string())?;
    // What is injected may hit this, too, and is over then.
    let begun = fs::read(&log).or_else(|_| fs::read(&log)).map_err(|error| error.to_string())?;
    let mut all_came = !ends.is_empty();
    for (number, outcome) in ends {
        let n = begun.iter().filter(|begun| **begun == number).count();
        match &outcome {
            Ok(()) if n == 1 => continue,
            // A handler that cannot write its log, or whose call back to the Head was cut off.
            Err(CallError::Fault(_)) if n <= 1 => {}
            Err(error @ (CallError::Closed { .. } | CallError::Rejected(_))) => {
                let may_be = if error.executed() == Executed::No { 0 } else { 1 };
                if n > may_be {
                    return Err(format!("{number} has begun {n} times, and says {outcome:?}"));
                }
            }
            _ => return Err(format!("{number} has begun {n} times, and ended with {outcome:?}")),
        }
        all_came = false;
    }
    Ok(all_came)
}

/// That there is one thread, no child, and no descriptor that was not there before.
fn nothing_is_left(before: &[String]) -> Result<(), String> {
    let end = Instant::now() + PATIENCE;
    loop {
        let (threads, now) = (n_threads(), descriptors());
        let children = fs::read_to_string("/proc/thread-self/children").unwrap_or_default();
        if threads == 1 && now == before && children.is_empty() {
            return Ok(());
        }
        if Instant::now() > end {
            return Err(format!(
                "left: {threads} threads, the children {children:?}, {now:?} for {before:?}"
            ));
        }
        thread::sleep(Duration::from_millis(1));
    }
}

fn n_threads() -> usize {
    fs::read_dir("/proc/self/task").map_or(0, Iterator::count)
}

fn descriptors() -> Vec<String> {
    let mut all: Vec<String> = (0..64)
        .filter_map(|number| fs::read_link(format!("/proc/self/fd/{number}")).ok())
        .map(|target| target.to_string_lossy().into_owned())
        .collect();
    all.sort();
    all
}

/// How long anything may take on a machine that is busy. No call may need it.
const PATIENCE: Duration = Duration::from_secs(25);
const TOO_LONG: Duration = Duration::from_secs(20);
