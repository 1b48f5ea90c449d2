//! A side that closes in the midst of calls tells the other one, whoever is sending at that moment.

use std::{
    sync::mpsc,
    thread::{self, JoinHandle},
    time::Duration,
};

use nape::{Api, CloseReason, Context, Endpoint, Fault, LinkState};

use crate::{support::Kind, tools::LONG};

/// How often it is tried: what can go wrong is a matter of moments.
const ROUNDS: usize = 50;

fn the_other_side_hears_of_a_close_in_the_midst_of_calls(kind: Kind) {
    for round in 0..ROUNDS {
        let (head, neck) = kind.ends();
        let echo = Api::new("a").handle("echo", |_: &Context, n: u64| Ok::<_, Fault>(n)).unwrap();
        let neck = neck.serve(echo).unwrap().start();
        let callers = call_for_ever(&head);
        if round % 2 == 0 {
            drop(head)
        } else {
            head.close()
        }
        neck.wait().unwrap();
        let reason = neck.close_reason().unwrap();
        assert!(matches!(*reason, CloseReason::Peer), "{reason:?}");
        callers.into_iter().for_each(|caller| caller.join().unwrap());
    }
}

/// Threads that call and fire until they cannot. They have begun.
fn call_for_ever(end: &Endpoint) -> Vec<JoinHandle<()>> {
    let (sender, calling) = mpsc::channel();
    let caller = |_| {
        let (api, sender) = (end.api("a"), sender.clone());
        thread::spawn(move || {
            let call = |number: u64| api.action("echo", number).call::<u64>().is_ok();
            assert!(call(0));
            sender.send(()).unwrap();
            while call(1) && api.action("echo", 2u64).fire().is_ok() {}
        })
    };
    let callers: Vec<_> = (0..4).map(caller).collect();
    callers.iter().for_each(|_| calling.recv().unwrap());
    callers
}

/// Red when the end of a link wakes nobody who waits for it.
fn whoever_waits_for_the_end_is_told_of_it(kind: Kind) {
    let (head, neck) = kind.ends();
    let neck = neck.start();
    assert_eq!(head.wait_open(LONG), LinkState::Open);
    assert_eq!(head.wait_closed(Duration::from_millis(1)), LinkState::Open);
    let end = head.endpoint().clone();
    let waits = thread::spawn(move || end.wait_closed(LONG));
    neck.close();
    assert_eq!(waits.join().unwrap(), LinkState::Closed);
    assert_eq!(head.wait_closed(Duration::ZERO), LinkState::Closed);
}

on_every_link! {
    whoever_waits_for_the_end_is_told_of_it,
    the_other_side_hears_of_a_close_in_the_midst_of_calls,
}
