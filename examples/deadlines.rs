//! Time that is left, and a cancel that travels down: `cargo run --example deadlines`.
//!
//! The parent asks its child for work, and the child asks the parent back for a part of it, so that a call of
//! the parent's hangs below a call of the child's.

use std::{
    env,
    error::Error,
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use nape::{Api, CallError, Context, Fault, Head, Neck, Timeout};

/// What the child serves: all of it by one worker.
fn work() -> Result<Api, nape::ApiError> {
    let runs = AtomicU32::new(0);
    Api::new("work")
        .workers(1)
        // The child has no time of its own to give: what is left of the caller's is passed on.
        .handle("left", |cx: &Context, ()| -> Result<_, Fault> {
            let below = cx.api("parts").action("left", ()).timeout(Timeout::Never);
            Ok((cx.remaining(), below.call::<Option<Duration>>()?))
        })?
        .handle("long", |cx: &Context, ()| -> Result<(), Fault> {
            Ok(cx.api("parts").action("wait", ()).timeout(Timeout::Never).call::<()>()?)
        })?
        // Says how often it has run.
        .handle("count", move |_: &Context, ()| Ok::<_, Fault>(runs.fetch_add(1, Ordering::Relaxed) + 1))
}

/// What the parent serves, and a channel that tells how its long handler ends.
fn parts() -> nape::Result<(Api, std::sync::mpsc::Receiver<bool>)> {
    let (tell, told) = std::sync::mpsc::sync_channel(2);
    let api = Api::new("parts").handle("left", |cx: &Context, ()| Ok::<_, Fault>(cx.remaining()))?.handle(
        "wait",
        move |cx: &Context, ()| {
            tell.send(false)?;
            // A handler that takes long looks at its token, or sleeps on it.
            tell.send(cx.cancel_token().wait_timeout(Duration::from_secs(60)))?;
            Ok::<_, Fault>(())
        },
    )?;
    Ok((api, told))
}

fn main() -> Result<(), Box<dyn Error>> {
    if env::args().nth(1).as_deref() == Some("child") {
        return Ok(Neck::from_env()?.serve(work()?)?.run()?);
    }
    let (api, told) = parts()?;
    let mut child = Command::new(env::current_exe()?);
    child.arg("child");
    let head = Head::builder().serve(api).spawn(child)?;
    let work = head.api("work");

    // A handler sees what time is left, and so does the one that it calls.
    let left = work.action("left", ()).timeout(Duration::from_secs(5));
    let (there, back_here): (Option<Duration>, Option<Duration>) = left.call()?;
    println!("left in the child: {there:?}; in the parent, below it: {back_here:?}");
    assert!(back_here <= there && there <= Some(Duration::from_secs(6)));

    // The one worker is busy: what waits behind it runs out of time, and never runs.
    let long = work.action("long", ()).timeout(Timeout::Never).start::<()>()?;
    assert!(!told.recv().expect("the handler begins"));
    let late = work.action("count", ()).timeout(Duration::from_millis(50)).call::<u32>();
    println!("behind the busy worker: {}", late.as_ref().expect_err("it is over time"));
    assert!(matches!(late, Err(CallError::TimedOut { .. })));

    // To cancel the call cancels the one below it, too: from parent to child and back.
    long.cancel();
    assert!(told.recv().expect("the handler ends"), "its token has fired");
    println!("cancelled: {}", long.wait().expect_err("it was cancelled"));

    // The worker is free again, and the call that was over time has not run.
    assert_eq!(work.action("count", ()).call::<u32>()?, 1);
    Ok(())
}
