//! What a child has started itself, where that is to end with it.

use std::{
    process::{Command, Stdio},
    time::Duration,
};

use nape::{Error, Exit, Head, HeadBuilder, Restarts, StartError, Wire};

use super::{Watch, echo, five_times, victim};
use crate::{support::HANG, tools::until};

on_every_wire_to_a_child! {
    p_26_what_a_child_leaves_behind_ends_with_it_if_that_is_asked,
    p_26_what_a_start_that_failed_leaves_behind_ends_too,
    p_26_each_start_of_a_supervised_child_has_a_group_of_its_own,
}

fn builder(wire: Wire) -> HeadBuilder {
    Head::builder().wire(wire).own_group()
}

/// A process that the child has started, which holds all that it has.
fn grandchild(head: &Head) -> Watch {
    Watch::of(head.api("victim").action("leave-grandchild", ()).call().unwrap())
}

/// What it is called, and what brings it about.
type End = (&'static str, fn(Head));

/// Red when the group is not killed as the child is reaped.
fn p_26_what_a_child_leaves_behind_ends_with_it_if_that_is_asked(wire: Wire) {
    let beside = builder(wire).spawn(victim::command("serve")).unwrap();
    let stays = grandchild(&beside);
    let ways: [End; 4] = [
        ("it is dropped", |head| drop(head)),
        ("it is killed", |head| {
            head.kill();
            until("its end is seen", || head.close_reason().is_some());
        }),
        ("it dies", |head| {
            let die = head.api("victim").action("die", "abort".to_owned());
            die.call::<()>().unwrap_err();
        }),
        ("it ends by itself", |head| {
            let die = head.api("victim").action("die", "exit 0".to_owned());
            die.call::<()>().unwrap_err();
        }),
    ];
    for (how, end) in ways {
        let head = builder(wire).spawn(victim::command("serve")).unwrap();
        let left = [grandchild(&head), grandchild(&head)];
        end(head);
        for left in left {
            assert!(left.wait_end(five_times(200)).is_some(), "{how}");
        }
        echo(&beside);
        assert!(!stays.has_ended(), "{how}: another's group has ended");
    }
    drop(beside);
    assert!(stays.wait_end(five_times(200)).is_some());
}

fn p_26_what_a_start_that_failed_leaves_behind_ends_too(wire: Wire) {
    let mut shell = Command::new("/bin/sh");
    shell.args(["-c", "sleep 600 >/dev/null & echo left $! >&2; exit 3"]).stdin(Stdio::null());
    let Err(Error::Start(StartError::Died { death, .. })) = builder(wire).spawn(shell) else { panic!() };
    assert_eq!(death.exit, Exit::Code(3));
    let pid = death.stderr.trim().strip_prefix("left ").unwrap().to_owned();
    let is_gone = || {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        // Whoever has inherited it may not have buried it.
        stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with('Z'))
    };
    until("it has ended", is_gone);
}

fn p_26_each_start_of_a_supervised_child_has_a_group_of_its_own(wire: Wire) {
    let restarts = Restarts::on_crash().backoff(Duration::from_millis(1), Duration::from_millis(1));
    let supervisor = builder(wire).supervise(restarts).spawn(victim::command("serve")).unwrap();
    let leave = || {
        let leave = supervisor.api("victim").action("leave-grandchild", ()).timeout(HANG).retry_safe();
        Watch::of(leave.call::<u32>().unwrap())
    };
    let first = leave();
    supervisor.kill();
    assert!(first.wait_end(five_times(200)).is_some());
    let second = leave();
    assert_eq!(supervisor.generation(), 2);
    assert!(!second.has_ended());
    drop(supervisor);
    assert!(second.wait_end(five_times(200)).is_some());
}
