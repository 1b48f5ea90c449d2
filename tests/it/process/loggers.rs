//! The logger of a program whose child dies: it is the user's code, holds what others wait for, calls, and does not
//! come back. There is one for a process, so that each of these has a process of its own. Each test says which change
//! to the library turns it red.

use std::{
    sync::{Mutex, OnceLock},
    thread,
    time::{Duration, Instant},
};

use crossbeam_channel::unbounded;
use log::LevelFilter;
use nape::{CallError, Config, Endpoint, Head, Misuse, Restarts, Wire};

use super::{death, five_times, head, victim};
use crate::{
    support::HANG,
    tools::{Gate, LONG, alone, eventually, log_with, within},
};

on_every_wire_to_a_child! {
    p_04_a_call_of_a_logger_ends_with_its_link,
    p_24_a_logger_that_does_not_return_holds_no_call_up_and_no_drop,
    p_30_a_logger_that_calls_is_refused_where_the_supervisor_would_wait_for_itself,
}

/// What the loggers of these tests call over.
static OVER: OnceLock<Endpoint> = OnceLock::new();

/// Red when the line about the end of the link is written before the calls are told of that, or by a caller that
/// reads, which may hold what the logger waits for.
fn p_04_a_call_of_a_logger_ends_with_its_link(wire: Wire) {
    alone(|| {
        let head = head(wire);
        assert!(OVER.set(head.endpoint().clone()).is_ok());
        let (tell, told) = unbounded();
        let one_by_one = Mutex::new(());
        log_with(LevelFilter::Warn, move |record| {
            let _one = one_by_one.lock().unwrap();
            let Some(over) = OVER.get() else { return };
            let end: Result<(), CallError> = over.api("victim").action("wait", ()).timeout(LONG).call();
            tell.send((record.args().to_string(), end)).unwrap();
        });
        let logs = thread::spawn(|| log::warn!("something"));
        eventually(|| head.under_way().0 == 1);
        head.kill();
        let (line, end) = told.recv_timeout(five_times(2000)).expect("it waits for its own logger");
        assert_eq!(line, "something");
        death(&end.unwrap_err());
        let (line, _) = told.recv_timeout(LONG).unwrap();
        assert!(line.contains("link lost"), "{line}");
        logs.join().unwrap();
    });
}

/// Red when what is logged comes before what is under way is told, or when whoever ends the link waits for the logger.
fn p_24_a_logger_that_does_not_return_holds_no_call_up_and_no_drop(wire: Wire) {
    alone(|| {
        let grace = Duration::from_millis(300);
        let builder = Head::builder().wire(wire).config(Config::new().grace(grace));
        let head = builder.spawn(victim::command("serve")).unwrap();
        let gate = Gate::default();
        let opens = gate.opens_at_the_end();
        let theirs = gate.clone();
        log_with(LevelFilter::Warn, move |record| {
            if record.args().to_string().contains("link lost") {
                theirs.pass();
            }
        });
        let call = head.api("victim").action("wait", ()).timeout(LONG).start::<()>().unwrap();
        head.kill();
        death(&call.wait().unwrap_err());
        gate.await_waiting(1);
        let (end, began) = (head.endpoint().clone(), Instant::now());
        drop(head);
        let took = began.elapsed();
        assert!(took < grace + five_times(400), "{took:?}");
        assert_eq!(end.counters().threads_left_behind, 1);
        drop(opens);
    });
}

/// Red when the thread of the supervisor may wait, in a logger, for a start that it is to make itself.
fn p_30_a_logger_that_calls_is_refused_where_the_supervisor_would_wait_for_itself(wire: Wire) {
    alone(|| {
        let (tell, told) = unbounded();
        log_with(LevelFilter::Debug, move |record| {
            let line = record.args().to_string();
            let Some(over) = OVER.get().filter(|_| line.starts_with("supervisor of")) else { return };
            let end: Result<u64, CallError> = over.api("victim").action("echo", 7u64).timeout(LONG).call();
            tell.send((line, end)).unwrap();
        });
        let restarts = Restarts::on_crash().limit(100, HANG).backoff(Duration::ZERO, Duration::ZERO);
        let supervisor =
            Head::builder().wire(wire).supervise(restarts).spawn(victim::command("serve")).unwrap();
        assert!(OVER.set(supervisor.endpoint().clone()).is_ok());
        supervisor.kill();
        within(five_times(2000), "it runs again", || supervisor.generation() == 2);
        drop(supervisor);
        let told: Vec<_> = told.try_iter().collect();
        let refused = |end: &Result<u64, CallError>| {
            matches!(end, Err(CallError::Misuse(Misuse::WouldDeadlock { .. })))
        };
        assert!(told.len() >= 4 && told.iter().all(|(_, end)| refused(end)), "{told:?}");
    });
}
