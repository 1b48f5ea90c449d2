//! What the user keeps for a thread goes with it, when the library has forgotten what that thread did. Each has a process of
//! its own, which else would end with all others: a panic there aborts it. Each test says which change to the library turns
//! it red.

use std::{cell::RefCell, thread};

use crossbeam_channel::{Sender, unbounded};
use nape::{Api, AsyncResult, CallError, Context, Fault, Head, Neck};

use crate::{
    support::Kind,
    tools::{LONG, alone},
};

on_every_link! {
    p_24_a_thread_may_take_both_ends_of_a_link_along,
    p_08_a_thread_that_ends_may_call,
}

/// Runs something when it goes.
struct Kept(Option<Box<dyn FnOnce()>>);

impl Drop for Kept {
    fn drop(&mut self) {
        self.0.take().into_iter().for_each(|last| last());
    }
}

thread_local! {
    static KEPT: RefCell<Vec<Kept>> = const { RefCell::new(Vec::new()) };
}

/// Has this run at the end of the calling thread.
fn at_the_end(last: impl FnOnce() + 'static) {
    KEPT.with_borrow_mut(|kept| kept.push(Kept(Some(Box::new(last)))));
}

/// What is kept is made before the library keeps anything there, or after.
fn in_either_order(kind: Kind, keep: impl Fn(Head, Neck) + Send + Clone + 'static) {
    let api = || {
        let wait = |cx: &Context, (): ()| Ok::<_, Fault>(cx.cancel_token().wait_timeout(LONG));
        Api::new("a")
            .handle("b", |_: &Context, n: u32| Ok::<_, Fault>(n))
            .unwrap()
            .handle("wait", wait)
            .unwrap()
    };
    for first in [true, false] {
        let keep = keep.clone();
        let run = move || {
            if first {
                at_the_end(|| ());
            }
            let (head, neck) = kind.serving(api());
            assert_eq!(head.api("a").action("b", 1u32).call::<u32>().unwrap(), 1);
            keep(head, neck);
        };
        thread::spawn(run).join().unwrap();
    }
}

/// Red when a thread that ends is asked what it serves, or whether it reads, by what has gone with it.
fn p_24_a_thread_may_take_both_ends_of_a_link_along(kind: Kind) {
    alone(|| {
        let (tell, told) = unbounded();
        in_either_order(kind, move |head, neck| {
            let wait: AsyncResult<bool> = head.api("a").action("wait", ()).start().unwrap();
            let end = head.endpoint().clone();
            let tell = tell.clone();
            at_the_end(move || {
                drop(wait);
                drop((head, neck));
                tell.send(end.counters().cancels).unwrap();
            });
        });
        assert_eq!(told.iter().collect::<Vec<_>>(), [1, 1]);
    });
}

/// Red when what a thread serves has to be there for a call.
fn p_08_a_thread_that_ends_may_call(kind: Kind) {
    type Ends = (Result<u32, CallError>, Result<u32, CallError>, Result<(), CallError>);
    alone(|| {
        let (tell, told): (Sender<Ends>, _) = unbounded();
        in_either_order(kind, move |head, neck| {
            let tell = tell.clone();
            at_the_end(move || {
                let b = || head.api("a").action("b", 7u32);
                let started = b().start::<u32>().and_then(AsyncResult::wait);
                tell.send((b().call(), started, b().fire())).unwrap();
                drop(neck);
            });
        });
        let ends: Vec<_> = told.iter().collect();
        let good =
            |(called, started, fired): &Ends| matches!((called, started, fired), (Ok(7), Ok(7), Ok(())));
        assert!(ends.len() == 2 && ends.iter().all(good), "{ends:?}");
    });
}
