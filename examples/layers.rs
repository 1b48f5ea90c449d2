//! Layers on both sides: the one that serves checks a token and times its handlers, the one that calls limits
//! itself and makes calls again that were refused.
//!
//! ```sh
//! cargo run --example layers
//! ```

use std::{
    error::Error,
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use nape::{
    Api, CallError, Context, Fault, Head, LayerCall, Leave, Rejection,
    layers::{CheckToken, ConcurrencyLimit, Retry, SendToken},
};

/// Before and after: the time that each handler took.
fn timed(call: &mut LayerCall<'_>) -> Result<Leave, CallError> {
    let (path, began) = (call.path().clone(), Instant::now());
    Ok(Leave::with(move |outcome| {
        let how = if outcome.is_ok() { "served" } else { "failed" };
        println!("  {path} {how} in {} us", began.elapsed().as_micros());
    }))
}

/// Refuses every call but each third one, as a busy program would.
fn busy(call: &mut LayerCall<'_>) -> Result<Leave, CallError> {
    static CALLS: AtomicU32 = AtomicU32::new(1);
    match CALLS.fetch_add(1, Ordering::Relaxed) % 3 {
        0 => Ok(Leave::nothing()),
        _ => Err(Rejection::Busy { path: call.path().clone(), detail: "try again".into() }.into()),
    }
}

/// The end of every call, in words.
fn logged(call: &mut LayerCall<'_>) -> Result<Leave, CallError> {
    let path = call.path().clone();
    Ok(Leave::with(move |outcome| match outcome {
        Ok(_) => println!("{path}: done"),
        Err(error) => println!("{path}: {error}"),
    }))
}

fn main() -> Result<(), Box<dyn Error>> {
    let (head, neck) = Head::in_process()?;
    let words = Api::new("words")
        .handle("count", |_: &Context, text: String| Ok::<_, Fault>(text.split_whitespace().count()))?
        .layer(CheckToken::new("sesame"))
        .layer(timed)
        .layer(busy);
    let _neck = neck.serve(words)?.start();

    let words = head.api("words").layer(logged).layer(ConcurrencyLimit::new(8));
    let text = || "the quick brown fox".to_owned();
    let denied = words.action("count", text()).call::<usize>();
    assert!(matches!(denied, Err(CallError::Rejected(Rejection::Denied { .. }))));

    let pauses = Retry::new().pauses(Duration::from_millis(1), Duration::from_millis(10));
    let words = words.layer(SendToken::new("sesame")).retry(pauses);
    let n: usize = words.action("count", text()).retry_safe().call()?;
    println!("{n} words");
    assert_eq!(n, 4);
    Ok(())
}
