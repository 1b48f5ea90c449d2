//! A child that lives: calls both ways, its output, and its end with its Head.

use std::{
    io::{BufRead, BufReader, Read, Write},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use nape::{Api, CallError, Config, Context, Executed, Fault, Head, Timeout, Wire};
use rustix::process::Signal;

use super::{Watch, call_for_ever, echo, five_times, head, head_with_grace, victim};
use crate::support::{HANG, watched};

on_every_wire_to_a_child! {
    ac_97_a_child_may_call_before_it_is_ready,
    ac_74_a_child_that_is_stopped_costs_no_more_than_the_timeouts,
    a_child_that_stays_after_the_goodbye_is_killed,
    a_child_whose_handler_never_returns_is_killed,
    a_child_ends_by_itself_when_its_head_is_dropped,
    a_child_outlives_the_thread_that_spawned_it,
    a_child_ends_soon_after_its_head_was_killed,
    p_26_a_child_ends_however_its_head_ends,
    p_24_what_a_callback_for_output_holds_may_panic_as_it_goes,
}

fn ac_97_a_child_may_call_before_it_is_ready(wire: Wire) {
    let host = Api::new("host").handle("name", |_: &Context, _: ()| Ok::<_, Fault>("Heidi".to_owned()));
    let head = Head::builder().wire(wire).serve(host.unwrap()).spawn(victim::command("greet")).unwrap();
    assert_eq!(head.api("heard").action("name", ()).call::<String>().unwrap(), "Heidi");
}

fn ac_74_a_child_that_is_stopped_costs_no_more_than_the_timeouts(wire: Wire) {
    let grace = Duration::from_millis(200);
    let head = head_with_grace(wire, "serve", grace);
    let victim = Watch::child_of(&head);
    echo(&head);
    victim.send(Signal::STOP);
    for limit in [50, 200].map(Duration::from_millis) {
        let begin = Instant::now();
        let error = head.api("victim").action("wait", ()).timeout(limit).call::<()>().unwrap_err();
        let CallError::TimedOut { executed, .. } = error else { panic!("{error:?}") };
        assert_eq!(executed, Executed::Maybe);
        let took = begin.elapsed();
        assert!(took >= limit && took < limit + five_times(50), "{took:?} instead of {limit:?}");
    }
    assert!(!victim.has_ended());
    drop_takes_at_most(head, grace);
    assert!(victim.has_ended());
}

fn a_child_that_stays_after_the_goodbye_is_killed(wire: Wire) {
    let grace = Duration::from_millis(300);
    let head = head_with_grace(wire, "linger", grace);
    let victim = Watch::child_of(&head);
    echo(&head);
    let begin = Instant::now();
    drop_takes_at_most(head, grace);
    assert!(begin.elapsed() >= grace, "it had its time");
    assert!(victim.has_ended());
}

struct Explosive;

impl Drop for Explosive {
    fn drop(&mut self) {
        panic!("it goes with a bang");
    }
}

/// Red when nobody is told then that the callback has seen all: the end waits for its whole grace.
fn p_24_what_a_callback_for_output_holds_may_panic_as_it_goes(wire: Wire) {
    let held = Explosive;
    let builder = Head::builder().wire(wire).config(Config::new().grace(HANG));
    let head = builder.on_output(move |_| _ = &held).spawn(victim::command("serve")).unwrap();
    echo(&head);
    let begin = Instant::now();
    drop(head);
    assert!(begin.elapsed() < HANG / 4, "{:?}", begin.elapsed());
}

fn a_child_whose_handler_never_returns_is_killed(wire: Wire) {
    let grace = Duration::from_millis(300);
    let head = head_with_grace(wire, "serve", grace);
    let victim = Watch::child_of(&head);
    let pending = head.api("victim").action("spin", ()).start::<()>().unwrap();
    echo(&head);
    drop_takes_at_most(head, grace);
    assert!(victim.has_ended());
    assert!(matches!(pending.wait(), Err(CallError::Closed { .. })));
}

#[track_caller]
fn drop_takes_at_most(head: Head, grace: Duration) {
    let begin = Instant::now();
    drop(head);
    let took = begin.elapsed();
    assert!(took < grace + five_times(200), "{took:?} with a grace of {grace:?}");
}

fn a_child_ends_by_itself_when_its_head_is_dropped(wire: Wire) {
    ends_by_itself(wire, |head| echo(head));
    // With answers on their way, that is: the goodbye is seen behind all that cannot be sent.
    for _ in 0..10 {
        ends_by_itself(wire, |head| drop(call_for_ever(head)));
    }
}

fn ends_by_itself(wire: Wire, usage: impl Fn(&Head)) {
    // The shell tells how it ended: the Head keeps that to itself once it is gone.
    let child = victim::command("serve");
    let mut shell = Command::new("/bin/sh");
    shell.args(["-c", "\"$0\" \"$@\"; echo code $?"]).arg(child.get_program()).args(child.get_args());
    shell.envs(child.get_envs().filter_map(|(name, value)| Some((name, value?))));
    shell.stdout(Stdio::piped());
    let mut head = Head::builder().wire(wire).spawn(shell).unwrap();
    let mut stdout = head.take_stdout().unwrap();
    usage(&head);
    drop(head);
    let mut output = String::new();
    stdout.read_to_string(&mut output).unwrap();
    assert!(output.ends_with("code 0\n"), "{output}");
}

#[test]
fn what_a_child_prints_goes_where_its_stdout_goes() {
    watched(|| {
        let mut command = victim::command("serve");
        command.stdout(Stdio::piped());
        let mut head = Head::spawn(command).unwrap();
        let mut stdout = head.take_stdout().unwrap();
        assert!(head.take_stdout().is_none(), "it is handed out once");
        head.api("victim").action("print", 100usize).call::<()>().unwrap();
        drop(head);
        let mut output = String::new();
        stdout.read_to_string(&mut output).unwrap();
        let printed = |line: &&str| line.starts_with("printed ");
        let of_ours: Vec<_> = output.lines().map(after_the_test_runner).filter(printed).collect();
        assert!(of_ours.iter().copied().eq((0..100).map(|line| format!("printed {line}"))), "{output}");
        let others: Vec<_> =
            output.lines().map(after_the_test_runner).filter(|line| !printed(line)).collect();
        let of_the_runner =
            |line: &&str| line.is_empty() || OF_THE_RUNNER.iter().any(|start| line.starts_with(start));
        assert!(others.iter().all(of_the_runner), "{others:?}");
    });
}

/// The test runner begins a line with the name of the test, and leaves the rest to the test.
fn after_the_test_runner(line: &str) -> &str {
    line.strip_prefix("test process::victim::entry ... ").unwrap_or(line)
}

const OF_THE_RUNNER: [&str; 3] = ["running 1 test", "ok", "test result: ok."];

#[test]
fn a_child_whose_stdout_nobody_reads_still_answers() {
    watched(|| {
        let mut command = victim::command("serve");
        command.stdout(Stdio::piped());
        let mut head = Head::spawn(command).unwrap();
        let mut stdout = head.take_stdout().unwrap();
        // Far more than a pipe holds: this one handler waits for us.
        let print = head.api("victim").action("print", 100_000usize).timeout(Timeout::Never);
        let print = print.start::<()>().unwrap();
        (0..100).for_each(|_| echo(&head));
        assert!(!print.is_done());
        let reader = thread::spawn(move || std::io::copy(&mut stdout, &mut std::io::sink()).unwrap());
        print.wait().unwrap();
        drop(head);
        assert!(reader.join().unwrap() > 1_000_000);
    });
}

fn a_child_outlives_the_thread_that_spawned_it(wire: Wire) {
    let head = thread::spawn(move || head(wire)).join().unwrap();
    (0..10).for_each(|_| echo(&head));
}

/// Red when the child does not watch its lifeline.
fn a_child_ends_soon_after_its_head_was_killed(wire: Wire) {
    for _ in 0..3 {
        CHILDREN.iter().for_each(|how| ends_with_its_head(wire, how, "killed"));
    }
}

/// The same for other ends.
fn p_26_a_child_ends_however_its_head_ends(wire: Wire) {
    for end in ["abort", "exit", "panic"] {
        CHILDREN.iter().for_each(|how| ends_with_its_head(wire, how, end));
    }
}

/// What the child is about: nothing, a handler that never returns, something behind its link, a write to a stdout that
/// nobody reads, or a logger that does not come back from what the library has to say.
const CHILDREN: [&str; 5] = ["idle", "busy", "lingering", "stuck", "logging"];

fn ends_with_its_head(wire: Wire, how: &str, end: &str) {
    let mut command = victim::command_over(wire, "middle");
    command.env(HOW, how).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut middle = Middle(command.spawn().unwrap());
    let neck = Watch::of(middle.neck());
    let ended = Instant::now();
    if end == "killed" {
        middle.0.kill().unwrap();
    } else {
        middle.0.stdin.take().unwrap().write_all(end.as_bytes()).unwrap();
    }
    neck.wait_end(HANG).expect("it ends with its Head");
    // One that is dropped while it unwinds waits for its child as ever.
    let grace = if end == "panic" { MIDDLE_GRACE } else { Duration::ZERO };
    assert!(ended.elapsed() < grace + five_times(1000), "{how} {end}: {:?}", ended.elapsed());
}

/// A process that has a Head, and is killed with it.
struct Middle(Child);

impl Middle {
    /// The process of its Neck, as it says.
    fn neck(&mut self) -> u32 {
        let lines = BufReader::new(self.0.stdout.as_mut().unwrap()).lines();
        let told = lines.map(Result::unwrap).find_map(|line| line.split_once("neck ")?.1.parse().ok());
        told.expect("it tells")
    }
}

impl Drop for Middle {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What the process in the middle does: it says which process its Neck is, and never ends by itself.
pub(super) fn middle() {
    let how = std::env::var(HOW).unwrap();
    let verb = match how.as_str() {
        "lingering" => "linger",
        "logging" => "log-for-ever",
        _ => "serve",
    };
    let builder = Head::builder().wire(victim::wire_of_its_own()).config(Config::new().grace(MIDDLE_GRACE));
    let head = builder.spawn(victim::command(verb)).unwrap();
    let victim = head.api("victim").timeout(Timeout::Never);
    match how.as_str() {
        "busy" => victim.action("spin", ()).then(|_: Result<(), CallError>| ()).unwrap(),
        // Far more than the pipe holds which both have for their stdout, and which is read as far as the next line.
        "stuck" => victim.action("print", 100_000usize).then(|_: Result<(), CallError>| ()).unwrap(),
        _ => {}
    }
    echo(&head);
    println!("neck {}", head.child_id().unwrap());
    // Until it is told how to end, or the tests are gone.
    let mut end = String::new();
    let _ = std::io::stdin().read_to_string(&mut end);
    match end.as_str() {
        "abort" => std::process::abort(),
        // Nothing is dropped.
        "exit" => std::process::exit(0),
        "panic" => std::panic::resume_unwind(Box::new("a panic that is a part of the test")),
        _ => {}
    }
}

const MIDDLE_GRACE: Duration = Duration::from_millis(500);

pub(super) const HOW: &str = "NAPE_TEST_MIDDLE";
