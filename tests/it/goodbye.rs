//! A side that closes in the midst of calls tells the other one, whoever is sending at that moment.

use std::{
    sync::mpsc,
    thread::{self, JoinHandle},
};

use nape::{Api, CloseReason, Context, Endpoint, Fault};

use crate::support::Kind;

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

on_every_link! {
    the_other_side_hears_of_a_close_in_the_midst_of_calls,
}
