//! What is logged of a child, where the logger does not come back.

use std::{
    io::Read,
    os::fd::OwnedFd,
    process::Stdio,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use nape::{Config, Head, Restarts, Wire};

use super::{Watch, victim};
use crate::{support::HANG, tools::until};

on_every_wire_to_a_child! {
    p_24_a_head_is_dropped_while_the_logger_keeps_what_is_said_of_its_child,
    p_23_a_child_is_ended_while_the_logger_keeps_what_is_said_of_its_start,
}

/// In a process of its own. Red when a supervisor's thread logs of a child that nobody else has so far.
fn p_23_a_child_is_ended_while_the_logger_keeps_what_is_said_of_its_start(wire: Wire) {
    let (mut told, out) = std::io::pipe().unwrap();
    let mut command = victim::command_over(wire, "logged-start");
    command.stdout(Stdio::from(OwnedFd::from(out)));
    let mut middle = command.spawn().unwrap();
    drop(command);
    let mut text = String::new();
    told.read_to_string(&mut text).unwrap();
    assert!(text.contains(LAST_WORD), "{text}");
    assert!(middle.wait().unwrap().success());
}

/// Has a child started again, of which the logger keeps every line.
pub(super) fn start_again() {
    log::set_logger(&KeepsWhatIsSaidOfTheStart).unwrap();
    log::set_max_level(log::LevelFilter::Debug);
    let soon = Duration::from_millis(1);
    let builder = Head::builder().wire(victim::wire_of_its_own()).config(Config::new().grace(100 * soon));
    let supervisor =
        builder.supervise(Restarts::on_crash().backoff(soon, soon)).spawn(victim::command("serve"));
    let supervisor = supervisor.unwrap();
    KEEPS.store(true, Ordering::SeqCst);
    supervisor.kill();
    until("it was started again", || supervisor.generation() == 2);
    let child = Watch::of(supervisor.child_id().unwrap());
    drop(supervisor);
    assert!(child.wait_end(HANG).is_some(), "it is still there");
    println!("{LAST_WORD}");
    std::process::exit(0);
}

static KEEPS: AtomicBool = AtomicBool::new(false);

/// Does not come back from lines about a process that has come.
struct KeepsWhatIsSaidOfTheStart;

impl log::Log for KeepsWhatIsSaidOfTheStart {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        if KEEPS.load(Ordering::SeqCst) && record.args().to_string().contains("has connected") {
            victim::park();
        }
    }

    fn flush(&self) {}
}

/// In a process of its own, whose stderr nobody reads. Red when the thread that watches the child has it with itself
/// while it logs.
fn p_24_a_head_is_dropped_while_the_logger_keeps_what_is_said_of_its_child(wire: Wire) {
    let (mut told, out) = std::io::pipe().unwrap();
    let (_unread, err) = std::io::pipe().unwrap();
    let mut command = victim::command_over(wire, "logged");
    command.stdout(Stdio::from(OwnedFd::from(out))).stderr(Stdio::from(OwnedFd::from(err)));
    let mut middle = command.spawn().unwrap();
    drop(command);
    let (mut text, mut byte) = (String::new(), [0]);
    while !text.contains(LAST_WORD) && told.read(&mut byte).unwrap() > 0 {
        text.push(byte[0].into());
    }
    middle.kill().unwrap();
    middle.wait().unwrap();
    assert!(text.contains(LAST_WORD), "{text}");
}

/// Has a child that says more than anybody takes, and dies.
pub(super) fn lose_a_child() {
    log::set_logger(&KeepsWhatIsWithheld).unwrap();
    log::set_max_level(log::LevelFilter::Debug);
    let head = Head::builder().wire(victim::wire_of_its_own()).spawn(victim::command("serve")).unwrap();
    let say = head.api("victim").action("say", (String::new(), "much of it\n".repeat(20_000)));
    say.call::<()>().unwrap();
    head.kill();
    until("the logger has what is said", || KEPT.load(Ordering::SeqCst));
    drop(head);
    println!("{LAST_WORD}");
}

/// Does not come back from one line.
struct KeepsWhatIsWithheld;

static KEPT: AtomicBool = AtomicBool::new(false);

impl log::Log for KeepsWhatIsWithheld {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        if record.args().to_string().contains("found no room") {
            KEPT.store(true, Ordering::SeqCst);
            victim::park();
        }
    }

    fn flush(&self) {}
}

const LAST_WORD: &str = "it is dropped";
