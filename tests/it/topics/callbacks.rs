//! Subscriptions by callback beside others: a callback may block, and holds itself up alone.

use nape::{Api, Backlog, Missed, Topic};

use crate::{
    support::Kind,
    tools::{Gate, LONG},
};

/// Red when whoever tells all of the end runs the callback.
fn p_12_a_callback_that_blocks_holds_up_the_end_of_no_other(kind: Kind) {
    let (topic, gate) = (Topic::<u64>::new(), Gate::default());
    let (head, neck) = kind.serving(Api::new("news").topic("ticks", &topic).unwrap());
    let _opens = gate.opens_at_the_end();
    let subscribe = || head.subscribe::<u64>("news.ticks", Backlog::default()).unwrap();
    let block = || {
        let gate = gate.clone();
        subscribe().on(move |news| {
            if news.is_err() {
                gate.pass()
            }
        })
    };
    // Whichever of them is told first.
    let mut others = Vec::new();
    let blocking = [(); 3].map(|()| {
        others.push(subscribe());
        block()
    });
    others.push(subscribe());
    drop(neck);
    for news in &mut others {
        assert!(matches!(news.next_timeout(LONG), Err(Missed::Closed(_))), "it is not told");
    }
    gate.await_waiting(3);
    gate.open();
    drop(blocking);
}

on_every_link! {
    p_12_a_callback_that_blocks_holds_up_the_end_of_no_other,
}
