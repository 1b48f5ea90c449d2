//! Who gets the role, and who looks after it.

use std::{io, time::Instant};

use super::*;
use crate::{
    link::slot::Woken,
    transport::Received,
    wire::{Path, Payload},
};

struct Nothing;

impl FrameReceiver for Nothing {
    fn receive(&mut self, _: Option<Instant>) -> io::Result<Received> {
        Ok(Received::Nudge)
    }

    fn try_receive(&mut self) -> io::Result<Option<Received>> {
        Ok(None)
    }
}

fn role() -> Role {
    Role::new(Box::new(Nothing), None)
}

fn slot() -> Arc<Slot> {
    Arc::new(Slot::new(Path::new("a.b").unwrap(), Instant::now(), None))
}

fn leads(post: Post) -> Reader {
    match post {
        Post::Lead(reader) => reader,
        Post::Tick => panic!("it ticks"),
        Post::Nothing => panic!("it does nothing"),
    }
}

#[test]
fn one_thread_at_a_time_has_the_role() {
    let role = role();
    let reader = role.take().unwrap();
    assert!(role.take().is_none());
    let _ = role.release(reader, false);
    assert!(role.take().is_some());
}

#[test]
fn whoever_gives_it_up_asks_the_first_that_still_waits() {
    let role = role();
    let reader = role.take().unwrap();
    let [gone, done, waits] = [slot(), slot(), slot()];
    for slot in [&gone, &done, &waits] {
        assert!(role.take_or_line_up(slot, false).is_none());
    }
    let _ = role.step_out(&gone);
    let _ = done.complete(Ok(Payload::from_bytes(vec![])), Instant::now());
    assert!(!role.release(reader, false), "a caller takes it, so that nobody has to be woken");
    assert!(!gone.take_promotion() && !done.take_promotion());
    assert!(waits.take_promotion());
}

#[test]
fn a_caller_that_was_asked_and_leaves_passes_it_on() {
    let role = role();
    let reader = role.take().unwrap();
    let [first, second] = [slot(), slot()];
    assert!(role.take_or_line_up(&first, false).is_none());
    assert!(role.take_or_line_up(&second, false).is_none());
    assert!(!role.release(reader, false));
    assert!(!role.step_out(&first), "the second is asked, so that nobody has to be woken");
    assert!(second.take_promotion());
}

/// Red when who wakes for the role has answered by that: nobody would read from here on.
#[test]
fn a_caller_that_was_asked_and_wakes_with_nothing_to_wait_for_passes_it_on() {
    for others in [true, false] {
        let role = role();
        let reader = role.take().unwrap();
        let [seat, other] = [slot(), slot()];
        assert!(role.take_or_line_up(&seat, false).is_none());
        assert!(!others || role.take_or_line_up(&other, false).is_none());
        seat.rouse();
        assert!(!role.release(reader, false));
        assert!(matches!(seat.park(None), Woken::Promoted));
        assert_eq!(role.step_out(&seat), !others);
        assert_eq!(other.take_promotion(), others);
    }
}

#[test]
fn a_caller_that_finds_the_role_taken_again_has_answered() {
    let role = role();
    let reader = role.take().unwrap();
    let waits = slot();
    assert!(role.take_or_line_up(&waits, false).is_none());
    assert!(!role.release(reader, false));
    let reader = role.take().expect("a thread that came first");
    assert!(matches!(waits.park(None), Woken::Promoted));
    assert!(role.take_or_line_up(&waits, true).is_none());
    assert!(!role.release(reader, false), "it stands in line once more");
    assert!(waits.take_promotion());
}

#[test]
fn the_last_caller_that_leaves_without_taking_it_has_a_thread_woken() {
    let role = role();
    let reader = role.take().unwrap();
    let only = slot();
    assert!(role.take_or_line_up(&only, false).is_none());
    assert!(!role.release(reader, false));
    assert!(role.step_out(&only), "or nobody would read from here on");
}

#[test]
fn a_vacant_role_is_taken_after_a_tick_without_use() {
    let role = role();
    assert!(matches!(role.stand_by(false), Post::Tick));
    let reader = role.take().unwrap();
    assert!(!role.release(reader, false), "somebody ticks");
    assert!(matches!(role.stand_by(true), Post::Tick), "it was used");
    leads(role.stand_by(true));
}

#[test]
fn one_thread_ticks_and_the_others_rest() {
    let role = role();
    assert!(matches!(role.stand_by(false), Post::Tick));
    assert!(matches!(role.stand_by(false), Post::Nothing));
}

#[test]
fn a_ticker_sleeps_while_one_thread_keeps_the_role_and_is_woken_afterwards() {
    let role = role();
    assert!(matches!(role.stand_by(false), Post::Tick));
    let reader = role.take().unwrap();
    assert!(matches!(role.stand_by(true), Post::Tick));
    assert!(matches!(role.stand_by(true), Post::Nothing));
    assert!(role.release(reader, false));
}

#[test]
fn an_urgent_role_is_taken_at_once() {
    let role = role();
    assert!(matches!(role.stand_by(false), Post::Tick));
    let reader = role.take().unwrap();
    assert!(role.release(reader, true), "urgent has somebody woken, whoever ticks");
    assert!(!role.ticker_left(), "whoever was woken is on its way");
    leads(role.stand_by(false));
}

#[test]
fn a_ticker_that_leaves_a_vacant_role_has_another_woken() {
    let role = role();
    assert!(matches!(role.stand_by(false), Post::Tick));
    assert!(role.ticker_left());
    let reader = role.take().unwrap();
    assert!(!role.ticker_left(), "whoever has it will see to it");
    let _ = role.release(reader, false);
}

#[test]
fn a_closed_role_is_no_ones() {
    let role = role();
    let reader = role.take().unwrap();
    let waits = slot();
    assert!(role.take_or_line_up(&waits, false).is_none());
    role.close();
    assert!(waits.take_promotion(), "it has to look why");
    assert!(!role.release(reader, true));
    assert!(role.take().is_none());
    assert!(matches!(role.stand_by(false), Post::Nothing));
}
