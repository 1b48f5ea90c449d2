//! A child whose link is over, and whose Head is held: it is looked after to its end.

use std::{
    path::Path,
    sync::mpsc::{self, Receiver},
};

use nape::{Head, OutputLine, OutputStream, Wire};

use super::{Watch, five_times, victim};
use crate::{support::HANG, tools::within};

on_every_wire_to_a_child! {
    p_29_what_a_child_writes_behind_the_link_is_read,
    p_27_a_child_that_ends_behind_the_link_is_buried_at_once,
}

/// What it is called, the verb of the child, and what brings it about.
type End = (&'static str, &'static str, fn(&Head));

const WAYS: [End; 3] = [
    ("it is closed", "write-behind", Head::close),
    ("it is shut down", "write-behind", |head| assert!(head.shut_down(HANG))),
    ("the child says goodbye", "leave-and-write", leave),
];

fn leave(head: &Head) {
    // The goodbye may come before the answer: the child does not wait for its own handler.
    let _: Result<(), _> = head.api("door").action("leave", 0).call();
}

fn started(wire: Wire, verb: &str) -> (Head, Receiver<OutputLine>) {
    let (tell, told) = mpsc::channel();
    let tell = move |line: &OutputLine| tell.send(line.clone()).unwrap();
    let builder = Head::builder().wire(wire).own_group().on_output(tell);
    (builder.spawn(victim::command(verb)).unwrap(), told)
}

/// Red when whoever ends the link has nobody look after the child any more: it waits for room in a pipe for ever.
fn p_29_what_a_child_writes_behind_the_link_is_read(wire: Wire) {
    for (how, verb, end) in WAYS {
        let (head, told) = started(wire, verb);
        let child = Watch::child_of(&head);
        end(&head);
        assert!(child.wait_end(HANG).is_some(), "{how}: it still writes");
        // Those that find no room on the way to the callback are lost, and the last ones are not.
        let last = format!("written {} ", victim::WRITTEN - 1);
        let mut missing = vec![OutputStream::Stdout, OutputStream::Stderr];
        while !missing.is_empty() {
            let line = told.recv_timeout(HANG).unwrap_or_else(|_| panic!("{how}: not told by {missing:?}"));
            missing.retain(|stream| *stream != line.stream || !line.text.starts_with(&last));
        }
        drop(head);
    }
}

/// Red when it is buried by the drop.
fn p_27_a_child_that_ends_behind_the_link_is_buried_at_once(wire: Wire) {
    for (how, verb, end) in WAYS {
        let (head, _told) = started(wire, verb);
        let (child, pid) = (Watch::child_of(&head), head.child_id().unwrap());
        let leave: Result<u32, _> = head.api("victim").action("leave-grandchild", ()).call();
        let left = Watch::of(leave.unwrap());
        end(&head);
        assert!(child.wait_end(HANG).is_some(), "{how}: it still writes");
        let entry = format!("/proc/{pid}");
        within(five_times(100), "it is buried", || !Path::new(&entry).exists());
        assert!(left.wait_end(five_times(200)).is_some(), "{how}: its group has not ended");
        assert_eq!(head.child_id(), Some(pid));
        head.kill();
        drop(head);
    }
}
