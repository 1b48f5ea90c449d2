//! Calls that are made again: what holds of them between two tries.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use nape::{Api, CallError, Context, Executed, Fault, layers::Retry};

use crate::{support::Kind, tools::Gate};

on_every_link! {
    p_07_a_call_whose_try_is_looked_at_may_have_run,
}

/// An API whose handler fails, and how often it has run.
fn failing() -> (Api, Arc<AtomicU32>) {
    let runs = Arc::new(AtomicU32::new(0));
    let theirs = runs.clone();
    let fail = move |_: &Context, (): ()| {
        theirs.fetch_add(1, Ordering::SeqCst);
        Err::<(), _>(Fault::new("not now"))
    };
    (Api::new("it").handle("fails", fail).unwrap(), runs)
}

/// Red when nobody keeps in mind that a try is being looked at, which is neither under way nor counted.
fn p_07_a_call_whose_try_is_looked_at_may_have_run(kind: Kind) {
    let (api, runs) = failing();
    let (head, _neck) = kind.serving(api);
    let gate = Gate::default();
    let looks = gate.clone();
    let retry = Retry::new().when(move |_| {
        looks.pass();
        true
    });
    let it = head.api("it").retry(retry).timeout(Duration::from_secs(2));
    let call = it.action("fails", ()).retry_safe().start::<()>().unwrap();
    // A thread of the link looks whether another try is worth it.
    gate.await_waiting(1);
    assert_eq!(runs.load(Ordering::SeqCst), 1);
    let error = call.wait().unwrap_err();
    gate.open();
    assert!(matches!(error, CallError::TimedOut { .. }), "{error:?}");
    assert_eq!(error.executed(), Executed::Maybe);
}
