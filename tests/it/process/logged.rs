//! What is logged of a child, where the logger does not come back.

use std::{
    io::Read,
    os::fd::OwnedFd,
    process::Stdio,
    sync::atomic::{AtomicBool, Ordering},
};

use nape::{Head, Wire};

use super::victim;
use crate::tools::until;

on_every_wire_to_a_child! {
    p_24_a_head_is_dropped_while_the_logger_keeps_what_is_said_of_its_child,
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
