//! A process that has no descriptor left: its calls end in time all the same.

use std::{fs, sync::mpsc, thread, time::Duration};

use nape::{Api, ApiHandle, CallError, Context, Head, Neck, Responder, Wire, transport::ipc_pair};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::host::{LAST_WORD, alone};
use crate::support::HANG;

/// Red when the thread that watches the clock needs a descriptor to start.
#[test]
fn p_04_timeouts_hold_where_no_descriptor_is_left() {
    crate::support::watched(|| drop(alone(Wire::Ipc, "fileless")));
}

/// The process.
pub(super) fn calls() {
    let never = |_: Context, (): (), answer: Responder<()>| std::mem::forget(answer);
    let api = || Api::new("a").deferred("never", never).unwrap();
    let (near, near_neck) = Head::builder().in_process_with(Neck::builder().serve(api())).unwrap();
    let (ours, theirs) = ipc_pair().unwrap();
    let far = Head::builder().over(ours).unwrap();
    let ends = (near_neck.start(), Neck::builder().serve(api()).over(theirs).unwrap().start());
    // Each in all ways, which also starts whatever else is needed.
    for handle in [near.api("a"), far.api("a")] {
        time_out(&handle);
    }
    while keepers() > 0 {
        thread::sleep(Duration::from_millis(10));
    }
    let few = Rlimit { current: Some(24), ..getrlimit(Resource::Nofile) };
    setrlimit(Resource::Nofile, few).unwrap();
    while let Ok(file) = fs::File::open("/dev/null") {
        std::mem::forget(file);
    }
    for handle in [near.api("a"), far.api("a")] {
        time_out(&handle);
    }
    println!("{LAST_WORD}");
    drop((near, far, ends));
}

fn time_out(handle: &ApiHandle) {
    let never = handle.action("never", ()).timeout(Duration::from_millis(50));
    let is_late = |end| assert!(matches!(end, Err(CallError::TimedOut { .. })), "{end:?}");
    let (tell, told) = mpsc::channel();
    let called = tell.clone();
    thread::spawn(move || tell.send(never.call::<()>()));
    is_late(told.recv_timeout(HANG).expect("who blocks is told"));
    let never = handle.action("never", ()).timeout(Duration::from_millis(50));
    never.then(move |end: Result<(), CallError>| called.send(end).unwrap()).unwrap();
    is_late(told.recv_timeout(HANG).expect("who is called back is told"));
}

/// How many threads watch the clock.
fn keepers() -> usize {
    let tasks = fs::read_dir("/proc/self/task").unwrap().flatten();
    tasks
        .filter(|task| fs::read_to_string(task.path().join("comm")).is_ok_and(|it| it.contains("keeper")))
        .count()
}
