//! Calls that wait for the next start of a program, or were under way, and end at the same time: none of them waits for
//! what another's end leads to.

use std::{sync::mpsc, thread, time::Duration};

#[cfg(feature = "json")]
use nape::Misuse;
use nape::{
    AsyncResult, CallError, Config, Head, LayerCall, Leave, Restarts, Supervisor, Timeout, Transition, Wire,
};

use super::victim;
use crate::{
    promises::together::{await_each_other, both_have_ended, held_at_the_end},
    support::HANG,
    tools::{Gate, LONG, until},
};

on_every_wire_to_a_child! {
    p_04_a_waker_may_wait_for_another_call_that_waits_for_the_next_start,
    p_04_a_waker_may_wait_for_another_call_that_a_crash_has_ended,
    p_10_a_layer_that_blocks_at_the_end_of_a_call_between_two_starts_holds_up_no_other,
}

/// How calls end that wait for the next start.
#[derive(Clone, Copy, Debug, PartialEq)]
enum How {
    Stop,
    Drop,
    /// Their time is over.
    Late,
}

impl How {
    fn timeout(self) -> Timeout {
        match self {
            How::Late => Timeout::After(Duration::from_secs(1)),
            How::Stop | How::Drop => Timeout::Never,
        }
    }

    /// Ends them on a thread, which says when it has done that, and then drops the supervisor.
    fn end(self, supervisor: Supervisor) -> (mpsc::Receiver<()>, Option<Supervisor>) {
        let (tell, told) = mpsc::channel();
        let kept = match self {
            How::Stop => {
                thread::spawn(move || {
                    supervisor.stop();
                    tell.send(()).unwrap();
                });
                None
            }
            How::Drop => {
                thread::spawn(move || tell.send(drop(supervisor)).unwrap());
                None
            }
            How::Late => {
                tell.send(()).unwrap();
                Some(supervisor)
            }
        };
        (told, kept)
    }
}

/// A program that has crashed, and whose next start nobody lives to see.
fn crashed(wire: Wire) -> Supervisor {
    let restarts = Restarts::on_crash().backoff(10 * HANG, 10 * HANG);
    let builder = Head::builder().wire(wire).config(Config::new().grace(Duration::from_millis(100)));
    let supervisor = builder.supervise(restarts).spawn(victim::command("serve")).unwrap();
    supervisor.kill();
    until("it backs off", || matches!(supervisor.last_transition(), Transition::BackingOff(_)));
    supervisor
}

fn start(victim: &nape::ApiHandle, timeout: Timeout) -> AsyncResult<()> {
    victim.action("wait", ()).timeout(timeout).start::<()>().unwrap()
}

/// Red when a waker is called before all of them have ended, or by the thread that watches their time.
fn p_04_a_waker_may_wait_for_another_call_that_waits_for_the_next_start(wire: Wire) {
    for how in [How::Stop, How::Drop, How::Late] {
        let supervisor = crashed(wire);
        let victim = supervisor.api("victim");
        let mut calls = [start(&victim, how.timeout()), start(&victim, how.timeout())];
        let told = await_each_other(&mut calls);
        let (done, _kept) = how.end(supervisor);
        both_have_ended(&told);
        done.recv_timeout(LONG).unwrap();
    }
}

/// The same for calls that were under way.
fn p_04_a_waker_may_wait_for_another_call_that_a_crash_has_ended(wire: Wire) {
    let restarts = Restarts::on_crash().poisonous_after(1);
    let supervisor = Head::builder().wire(wire).supervise(restarts).spawn(victim::command("serve")).unwrap();
    let wait = || supervisor.api("victim").action("wait", ()).retry_safe().timeout(Timeout::Never);
    let mut calls = [wait().start().unwrap(), wait().start().unwrap()];
    // So they have left.
    let echo = supervisor.api("victim").action("echo", 7u64).timeout(HANG);
    assert_eq!(echo.call::<u64>().unwrap(), 7);
    let told = await_each_other(&mut calls);
    supervisor.kill();
    both_have_ended(&told);
    for call in calls {
        let end = call.wait();
        assert!(matches!(end, Err(CallError::Poisonous { .. })), "{end:?}");
    }
}

/// The same for calls that a start cannot take, since it asks for another codec than the one before it.
#[cfg(feature = "json")]
mod at_the_next_start {
    use super::*;

    on_every_wire_to_a_child! {
        p_04_a_waker_may_wait_for_another_call_that_the_next_start_cannot_take,
    }

    fn p_04_a_waker_may_wait_for_another_call_that_the_next_start_cannot_take(wire: Wire) {
        let mark = std::env::temp_dir().join(format!("nape-codec-{wire:?}-{}", std::process::id()));
        let mut command = victim::command("another-codec");
        command.env(victim::MARK, &mark);
        // In that time two calls are made.
        let next = Duration::from_secs(3);
        let builder = Head::builder().wire(wire).supervise(Restarts::on_crash().backoff(next, next));
        let supervisor = builder.spawn(command).unwrap();
        supervisor.kill();
        until("it backs off", || matches!(supervisor.last_transition(), Transition::BackingOff(_)));
        let victim = supervisor.api("victim");
        let mut calls = [start(&victim, Timeout::Never), start(&victim, Timeout::Never)];
        let told = await_each_other(&mut calls);
        both_have_ended(&told);
        for call in calls {
            let end = call.wait();
            assert!(matches!(end, Err(CallError::Misuse(Misuse::Encode { .. }))), "{end:?}");
        }
        std::fs::remove_file(mark).unwrap();
    }
}

/// Red when the layer runs on the thread that ends them.
fn p_10_a_layer_that_blocks_at_the_end_of_a_call_between_two_starts_holds_up_no_other(wire: Wire) {
    for how in [How::Stop, How::Drop, How::Late] {
        let (supervisor, gate) = (crashed(wire), Gate::default());
        let end = supervisor.endpoint().clone();
        let _opens = gate.opens_at_the_end();
        let plain = supervisor.api("victim");
        let seen = plain.clone().layer(|_: &mut LayerCall<'_>| Ok(Leave::with(|_| ())));
        let first = start(&held_at_the_end(plain.clone(), &gate), how.timeout());
        let others = [start(&plain, how.timeout()), start(&seen, how.timeout())];
        let (done, _kept) = how.end(supervisor);
        gate.await_waiting(1);
        for other in others {
            other.ready().recv_timeout(LONG).expect("it has ended while the layer of the first blocks");
        }
        done.recv_timeout(LONG).expect("it waits for no layer but for the grace");
        assert_eq!(end.counters().threads_left_behind, u64::from(how == How::Drop));
        gate.open();
        let ended = first.wait();
        assert!(matches!(ended, Err(CallError::Closed { .. } | CallError::TimedOut { .. })), "{ended:?}");
    }
}
