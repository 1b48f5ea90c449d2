//! A process that serves until it gets a signal. Children are this test binary, executed again.

use std::{
    env, fs,
    io::{BufRead, BufReader},
    os::unix::process::ExitStatusExt,
    process::{self, ChildStdout, Command, Stdio},
    sync::mpsc,
    time::Duration,
};

use nape::{Api, CallError, CloseReason, Context, Fault, Head, Neck, Rejection, Wire};
use rustix::process::{Pid, Signal, kill_process};

use crate::support::{HANG, watched};

const VERB: &str = "NAPE_ASKED";

fn command(verb: &str) -> Command {
    let mut command = Command::new(env::current_exe().unwrap());
    command.args(["lifecycle::asked::entry", "--exact", "--nocapture", "--test-threads=1"]).env(VERB, verb);
    command.stdout(Stdio::piped());
    command
}

/// Where children begin. Without a verb it does nothing, and is a test like any other.
#[test]
fn entry() {
    match env::var(VERB).as_deref() {
        Ok("neck") => {
            let hold = |cx: &Context, limit: Duration| {
                let _ = cx.api("held").action("", ()).call::<()>();
                std::thread::sleep(limit);
                Ok::<_, Fault>(5u8)
            };
            let api = Api::new("child").handle("hold", hold).unwrap();
            let stopped = Neck::from_env().unwrap().serve(api).unwrap().run_until_signal(HANG).unwrap();
            println!("\nstopped: {:?} {}", stopped.signal, stopped.drained);
            // Nobody reads what else would be said.
            process::exit(0);
        }
        Ok("listener") => {
            let listener = Head::listen("tcp:127.0.0.1:0").unwrap();
            println!("\nready");
            let stopped = listener.run_until_signal(HANG).unwrap();
            println!("\nstopped: {:?} {}", stopped.signal, stopped.drained);
            loop {
                std::thread::park();
            }
        }
        _ => {}
    }
}

fn send(signal: Signal, pid: u32) {
    kill_process(Pid::from_raw(pid.try_into().unwrap()).unwrap(), signal).unwrap();
}

/// Reads the child's lines until one begins like this.
fn expect(lines: &mut impl Iterator<Item = std::io::Result<String>>, begin: &str) -> String {
    lines.map(Result::unwrap).find(|line| line.starts_with(begin)).expect(begin)
}

/// A child that serves, and its lines.
fn child() -> (Head, impl Iterator<Item = std::io::Result<String>> + use<>) {
    // It must not kill a child that takes its own grace to end.
    let config = nape::Config::new().grace(HANG);
    let mut head = Head::builder().wire(Wire::Pipe).config(config).spawn(command("neck")).unwrap();
    let lines = BufReader::<ChildStdout>::new(head.take_stdout().unwrap()).lines();
    (head, lines)
}

/// A call whose handler runs by now, and runs for this long.
fn hold(head: &Head, limit: Duration) -> nape::AsyncResult<u8> {
    let (inside, entered) = mpsc::channel();
    let held = move |_: &Context, ()| Ok::<_, Fault>(inside.send(()).unwrap_or(()));
    head.attach(Api::new("held").handle("", held).unwrap()).unwrap();
    let call = head.api("child").action("hold", limit).timeout(HANG * 100).start().unwrap();
    entered.recv_timeout(HANG).unwrap();
    call
}

#[test]
fn a_neck_that_is_asked_to_end_drains_first() {
    for signal in [Signal::TERM, Signal::INT] {
        watched(move || {
            let (head, mut lines) = child();
            let call = hold(&head, Duration::from_millis(200));
            send(signal, head.child_id().unwrap());
            assert_eq!(call.wait().unwrap(), 5);
            let number = signal.as_raw();
            assert_eq!(expect(&mut lines, "stopped"), format!("stopped: Some({number}) true"));
            assert!(matches!(*closed(&head), CloseReason::Peer), "{:?}", closed(&head));
        });
    }
}

#[test]
fn a_second_signal_does_not_wait() {
    watched(|| {
        let (head, mut lines) = child();
        let call = hold(&head, HANG * 100);
        send(Signal::TERM, head.child_id().unwrap());
        let refused = || head.api("child").action("hold", Duration::ZERO).call::<u8>();
        while !matches!(refused(), Err(CallError::Rejected(Rejection::ShuttingDown))) {}
        send(Signal::TERM, head.child_id().unwrap());
        let error = call.wait().unwrap_err();
        assert!(matches!(error, CallError::Closed { .. }), "{error}");
        assert_eq!(expect(&mut lines, "stopped"), "stopped: Some(15) false");
    });
}

#[test]
fn without_a_signal_it_ends_with_the_link() {
    watched(|| {
        let (head, mut lines) = child();
        head.close();
        assert_eq!(expect(&mut lines, "stopped"), "stopped: None true");
    });
}

#[test]
fn a_listener_is_asked_to_end_and_afterwards_signals_do_what_they_do() {
    watched(|| {
        let mut child = command("listener").spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        expect(&mut lines, "ready");
        // It says so just before it listens for signals, and one that is too early would end it.
        let caught = || fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
        let is_ready = |status: &str| {
            let mask = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap();
            let mask = u64::from_str_radix(mask.trim(), 16).unwrap();
            [Signal::INT, Signal::TERM].iter().all(|signal| mask >> (signal.as_raw() - 1) & 1 == 1)
        };
        while !is_ready(&caught()) {
            std::thread::yield_now();
        }
        send(Signal::INT, child.id());
        assert_eq!(expect(&mut lines, "stopped"), "stopped: Some(2) true");
        send(Signal::TERM, child.id());
        assert_eq!(child.wait().unwrap().signal(), Some(15));
    });
}

fn closed(head: &Head) -> std::sync::Arc<CloseReason> {
    loop {
        match head.close_reason() {
            Some(reason) => return reason,
            None => std::thread::yield_now(),
        }
    }
}
