//! What the children do.

use ipc_channel::ipc::IpcSender;

use super::*;
use crate::{
    os,
    process::invitation::{Arrival, Invitation, VARIABLE, WireEnd},
    transport::IpcEnds,
    wire::Token,
};

pub(super) fn play(role: &str) {
    match role {
        "exit" => die("last words", || std::process::exit(7)),
        "exit-now" => die("last words", || os::exit_now(8)),
        "kill-self" => die("last words", kill_self),
        "hang" => die("hanging", hang),
        "echo" => echo(),
        "wrong-token" => arrive_with(Token([0x5a; 16])),
        "garbage" => garbage(),
        "hang-up" => hang_up(hang),
        "hang-up-and-exit" => hang_up(|| std::process::exit(3)),
        "descriptors" => tell_descriptors(),
        "watch" => watch_over_the_wire(),
        "watch-and-report" => watch_and_report(),
        "middle" => middle(role_with_stdout("watch-and-report")),
        "middle-with-shell" => middle(shell_with_stdout("watch-and-report")),
        "middle-of-a-late-one" => middle(role_with_stdout("late")),
        "late" => late(),
        "parent" => parent_of_a_grandchild(),
        "grandchild" => report(why_not_a_neck()),
        "leave-a-holder" => leave_a_holder(),
        "flood" => flood(),
        other => play_head(other),
    }
}

/// The roles that test from within, because they change or measure the whole process.
fn play_head(role: &str) {
    let _watchdog = Watchdog::new();
    match role {
        "leaks" => leaks::nothing_is_left(),
        "few-descriptors" => leaks::with_few_descriptors(),
        "no-descriptors" => leaks::with_no_descriptors(),
        "gifts" => leaks::with_gifts(),
        "bad-directory" => start::with_a_bad_directory(),
        "ignoring" => life::with_children_ignored(),
        "robbed" => life::with_somebody_who_reaps(),
        "flooded" => life::with_a_flood(),
        "alone" => report(why_not_a_neck()),
        other => panic!("no role {other}"),
    }
}

fn die(words: &str, how: impl FnOnce()) {
    eprintln!("{words}");
    how();
}

fn hang() {
    loop {
        thread::park();
    }
}

fn kill_self() {
    rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL).unwrap();
    hang();
}

/// Gives every packet back, until the Head goes.
fn echo() {
    let mut neck = from_env().unwrap();
    while let Some(words) = hear_if_any(&mut neck.transport).filter(|_| !neck.guard.gone()) {
        say(&mut neck.transport, &words);
    }
}

fn invitation() -> Invitation {
    Invitation::parse(&env::var(VARIABLE).unwrap()).unwrap()
}

/// The name that it should connect to.
fn name() -> String {
    let WireEnd::Ipc(name) = invitation().wire else { panic!("there is no name") };
    name
}

fn arrive_with(token: Token) {
    let ends = IpcEnds::new().unwrap();
    let sender = IpcSender::connect(name()).unwrap();
    sender.send(Arrival::new(token, ends.theirs, super::super::tied::Brought)).unwrap();
    hang();
}

fn garbage() {
    let sender = IpcSender::connect(name()).unwrap();
    sender.send("what is this?".to_owned()).unwrap();
    hang();
}

fn hang_up(then: impl FnOnce()) {
    drop(IpcSender::<Arrival>::connect(name()).unwrap());
    then();
}

fn tell_descriptors() {
    let lifeline = invitation().lifeline.unwrap().number;
    let before = descriptors();
    let mut neck = from_env().unwrap();
    let words = format!("{lifeline}\n{before:?}\n{:?}", descriptors());
    say(&mut neck.transport, &words);
    wait_for_the_end(&neck.guard);
}

fn wait_for_the_end(guard: &HeadWatch) {
    while !guard.gone() {
        os::wait_readable(&guard.descriptors(), None).unwrap();
    }
}

fn watch_over_the_wire() {
    let mut neck = from_env().unwrap();
    wait_for_the_end(&neck.guard);
    say(&mut neck.transport, "gone");
    hang();
}

fn watch_and_report() {
    let neck = from_env().unwrap();
    report(format_args!("watching {} descriptors", neck.guard.descriptors().len()));
    wait_for_the_end(&neck.guard);
    report("gone");
}

fn role_with_stdout(name: &str) -> Command {
    let mut command = role(name);
    command.stdout(Stdio::inherit());
    command
}

fn shell_with_stdout(name: &str) -> Command {
    // The command behind it keeps the shell from replacing itself by the role.
    let mut command = role_in_shell(r#""$@"; true"#, name);
    command.stdout(Stdio::inherit());
    command
}

/// What the one in the middle talks to its child over, as the test that started it says.
fn wire_of_the_middle() -> Wire {
    let name = env::var(WIRE_OF_THE_MIDDLE).unwrap_or_default();
    super::WIRES.into_iter().find(|wire| format!("{wire:?}") == name).unwrap_or_default()
}

/// A Head that is there to be killed.
fn middle(command: Command) {
    let _launch = start(wire_of_the_middle(), command);
    hang();
}

/// Comes when the Head is no longer there.
fn late() {
    report("waiting");
    io::copy(&mut io::stdin(), &mut io::sink()).unwrap();
    report(why_not_a_neck());
}

fn why_not_a_neck() -> String {
    match from_env() {
        Ok(_) => "a Neck".to_owned(),
        Err(error) => error.to_string(),
    }
}

/// Tells what it is when it asks twice, and what a program that it starts is.
fn parent_of_a_grandchild() {
    let mut neck = from_env().unwrap();
    let second = why_not_a_neck();
    let mut child = role("grandchild").stdout(Stdio::piped()).spawn().unwrap();
    let grandchild = only_report(child.stdout.take().unwrap());
    child.wait().unwrap();
    say(&mut neck.transport, &format!("{second}\n{grandchild}"));
    wait_for_the_end(&neck.guard);
}

/// Leaves a grandchild behind that holds its stderr for as long as stdin is open.
#[allow(clippy::zombie_processes, reason = "it is to outlive this process")]
fn leave_a_holder() {
    let mut neck = from_env().unwrap();
    hear(&mut neck.transport);
    Command::new("/bin/cat").stdout(Stdio::null()).spawn().unwrap();
    die("left behind", || std::process::exit(0));
}

/// 64 MiB, half of it before it can be known that anybody reads it.
fn flood() {
    pour();
    let mut neck = from_env().unwrap();
    pour();
    eprintln!("the end");
    say(&mut neck.transport, "done");
    hang();
}

fn pour() {
    let lines = "xxxxxxx\n".repeat(8192);
    (0..512).for_each(|_| io::Write::write_all(&mut io::stderr(), lines.as_bytes()).unwrap());
}

/// Set for a Head in the middle that is to talk over a pipe.
pub(super) const WIRE_OF_THE_MIDDLE: &str = "NAPE_TEST_WIRE";
