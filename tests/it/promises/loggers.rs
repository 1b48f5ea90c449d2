//! A logger is the user's code: it calls over the very link that a line is about, and it panics. There is one for a
//! process, so that each of these has a process of its own. Each test says which change to the library turns it red.

use std::sync::OnceLock;

use crossbeam_channel::unbounded;
use log::LevelFilter;
use nape::{Api, CallError, Context, Endpoint, Fault, Head, LinkState, Neck};

use crate::{
    support::Kind,
    tools::{LONG, alone, eventually, log_with},
};

on_every_link! {
    p_16_a_logger_calls_over_the_link_that_a_line_is_about,
    p_18_a_logger_that_panics_hurts_nobody,
}

/// What the loggers of these tests call over.
static OVER: OnceLock<Endpoint> = OnceLock::new();

/// Red when a line is written under the lock of the link, or while a call that has ended has not been told.
fn p_16_a_logger_calls_over_the_link_that_a_line_is_about(kind: Kind) {
    alone(|| {
        let (tell, told) = unbounded();
        let take = move |_: &Context, line: String| Ok::<_, Fault>(tell.send(line)?);
        let lines = || Api::new("log").handle("line", take.clone()).unwrap();
        let (head, neck) = kind.ends_with(Head::builder().serve(lines()), Neck::builder());
        assert!(OVER.set(neck.endpoint().clone()).is_ok());
        let (ended, ends) = unbounded();
        log_with(LevelFilter::Debug, move |record| {
            let line = record.args().to_string();
            let Some(over) = OVER.get() else { return };
            let _ = over.api("log").action("line", line.clone()).fire();
            let end: Result<(), CallError> =
                over.api("log").action("line", line.clone()).timeout(LONG).call();
            ended.send((line, end)).unwrap();
        });
        let neck = neck.start();
        let of_neck = |lines: Vec<String>, state: &str| {
            lines.iter().filter(|line| line.starts_with("Neck") && line.ends_with(state)).count()
        };
        // The fired one and the called one.
        let mut lines = Vec::new();
        while of_neck(lines.clone(), "Open") < 2 {
            lines.push(told.recv_timeout(LONG).unwrap());
        }
        drop(neck);
        drop(head);
        let ends: Vec<_> = ends.try_iter().collect();
        let late = |end: &Result<(), CallError>| matches!(end, Err(CallError::TimedOut { .. }));
        assert!(!ends.iter().any(|(_, end)| late(end)), "{ends:?}");
        let of_states: Vec<_> = ends.iter().filter(|(line, _)| line.starts_with("Neck link")).collect();
        let states = ["Open", "Disconnected", "Closed"];
        assert!(
            of_states.iter().zip(states).all(|((line, _), state)| line.ends_with(state))
                && of_states.len() == 3,
            "{ends:?}"
        );
    });
}

/// Red when the panic of a logger is not contained.
fn p_18_a_logger_that_panics_hurts_nobody(kind: Kind) {
    alone(|| {
        let (logged, lines) = unbounded();
        log_with(LevelFilter::Trace, move |record| {
            logged.send(record.args().to_string()).unwrap();
            // As a panic, but without the noise on stderr.
            std::panic::resume_unwind(Box::new("a logger that panics"));
        });
        let (head, neck) =
            kind.serving(Api::new("a").handle("b", |_: &Context, n: u32| Ok::<_, Fault>(n)).unwrap());
        let (tell, states) = unbounded();
        head.on_state(move |state| tell.send(state).unwrap());
        assert_eq!(head.api("a").action("b", 7u32).call::<u32>().unwrap(), 7);
        drop(neck);
        eventually(|| head.state() == LinkState::Closed);
        drop(head);
        let states: Vec<_> = states.try_iter().collect();
        assert_eq!(states, [LinkState::Open, LinkState::Disconnected, LinkState::Closed]);
        assert!(lines.len() >= 6, "{:?}", lines.try_iter().collect::<Vec<_>>());
    });
}
