//! A process that serves until it gets a signal. Children are this test binary, executed again.

use std::{
    env, fs,
    io::{BufRead, BufReader},
    ops::{Deref, DerefMut},
    os::unix::process::ExitStatusExt,
    process::{self, Child, ChildStdout, Command, Stdio},
    sync::mpsc,
    time::Duration,
};

use nape::{
    Api, CallError, CloseReason, Config, Context, Fault, Head, LinkState, Neck, Peer, Rejection, Wire,
};
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
        Ok("logged") => {
            log::set_logger(&KeepsWhatAsksToEnd).unwrap();
            log::set_max_level(log::LevelFilter::Info);
            let park = |_: &Context, ()| -> Result<(), Fault> { park() };
            let config = Config::new().grace(Duration::from_millis(50));
            let (head, neck) = Head::builder().in_process_with(Neck::builder().config(config)).unwrap();
            let neck = neck.serve(Api::new("child").handle("park", park).unwrap()).unwrap();
            let call = head.api("child").action("park", ()).timeout(HANG * 100).start::<()>().unwrap();
            println!("\nready");
            let stopped = neck.run_until_signal(HANG).unwrap();
            println!("\nstopped: {:?} {}", stopped.signal, stopped.drained);
            drop(call);
            process::exit(0);
        }
        Ok("listener") => {
            let listener = Head::listen("tcp:127.0.0.1:0").unwrap();
            println!("\nready");
            let stopped = listener.run_until_signal(HANG).unwrap();
            println!("\nstopped: {:?} {}", stopped.signal, stopped.drained);
            park();
        }
        Ok("again") => {
            let run = |asked: bool| {
                let (head, neck) = Head::in_process().unwrap();
                let other = std::thread::spawn(move || {
                    // It hears of signals before it is ready.
                    assert_eq!(head.wait_open(HANG), LinkState::Open);
                    if asked {
                        println!("\nready");
                        let _ = head.wait_closed(HANG);
                    }
                });
                let stopped = neck.run_until_signal(HANG).unwrap();
                println!("\nstopped: {:?} {}", stopped.signal, stopped.drained);
                other.join().unwrap();
            };
            run(false);
            run(true);
            process::exit(0);
        }
        Ok(stuck @ ("stuck" | "stuck-for-long")) => {
            let grace = if stuck == "stuck" { Duration::from_millis(50) } else { HANG };
            let hook = |_: &Peer, _: &CloseReason| park();
            let builder = Head::builder().config(Config::new().grace(grace)).listening();
            let listener = builder.on_departure(hook).listen("tcp:127.0.0.1:0").unwrap();
            let visitor = Neck::builder().token(*listener.token().unwrap());
            let _visitor = visitor.connect(listener.address()).unwrap().start();
            listener.accept(HANG).expect("it has come");
            println!("\nready");
            let stopped = listener.run_until_signal(grace).unwrap();
            println!("\nstopped: {:?} {}", stopped.signal, stopped.drained);
            process::exit(0);
        }
        _ => {}
    }
}

/// Does not come back from a line about a signal.
struct KeepsWhatAsksToEnd;

impl log::Log for KeepsWhatAsksToEnd {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        if record.args().to_string().contains("asked to end") {
            println!("\nlogging");
            park();
        }
    }

    fn flush(&self) {}
}

fn park() -> ! {
    loop {
        std::thread::park();
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
    let config = Config::new().grace(HANG);
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

/// Red when the thread that hears of signals writes to the log.
#[test]
fn a_second_signal_does_not_wait_for_a_logger_either() {
    watched(|| {
        let (mut child, mut lines) = alone("logged");
        await_hearing(&child);
        send(Signal::INT, child.id());
        expect(&mut lines, "logging");
        send(Signal::INT, child.id());
        assert_eq!(expect(&mut lines, "stopped"), "stopped: Some(2) false");
        assert!(child.wait().unwrap().success());
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
        let (mut child, mut lines) = alone("listener");
        await_hearing(&child);
        send(Signal::INT, child.id());
        assert_eq!(expect(&mut lines, "stopped"), "stopped: Some(2) true");
        send(Signal::TERM, child.id());
        assert_eq!(child.wait().unwrap().signal(), Some(15));
    });
}

#[test]
fn a_second_run_hears_of_signals_as_the_first_one_did() {
    watched(|| {
        let (mut child, mut lines) = alone("again");
        send(Signal::TERM, child.id());
        assert_eq!(expect(&mut lines, "stopped"), "stopped: Some(15) true");
        assert!(child.wait().unwrap().success());
    });
}

/// Red when the wait goes on for what the close has left behind.
#[test]
fn p_24_a_hook_that_never_returns_is_left_behind_where_a_listener_is_asked_to_end() {
    watched(|| {
        let (mut child, mut lines) = alone("stuck");
        await_hearing(&child);
        send(Signal::TERM, child.id());
        assert_eq!(expect(&mut lines, "stopped"), "stopped: Some(15) false");
        assert!(child.wait().unwrap().success());
    });
}

#[test]
fn a_third_signal_ends_a_process_whose_close_takes_its_time() {
    watched(|| {
        let (mut child, _lines) = alone("stuck-for-long");
        await_hearing(&child);
        // Some of them may come together, and be heard as one.
        let status = loop {
            send(Signal::TERM, child.id());
            if let Some(status) = child.try_wait().unwrap() {
                break status;
            }
            std::thread::yield_now();
        };
        assert_eq!(status.signal(), Some(15));
    });
}

/// Ends with the test, however that ends.
struct Alone(Child);

impl Deref for Alone {
    type Target = Child;

    fn deref(&self) -> &Child {
        &self.0
    }
}

impl DerefMut for Alone {
    fn deref_mut(&mut self) -> &mut Child {
        &mut self.0
    }
}

impl Drop for Alone {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A child that is no Neck of ours, and has said that it is ready, and its lines from there on.
fn alone(verb: &str) -> (Alone, impl Iterator<Item = std::io::Result<String>> + use<>) {
    let mut child = Alone(command(verb).spawn().unwrap());
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    expect(&mut lines, "ready");
    (child, lines)
}

/// It says that it is ready just before it listens for signals, and one that is too early would end it.
fn await_hearing(child: &Child) {
    let caught = || fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
    let is_ready = |status: &str| {
        let mask = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap();
        let mask = u64::from_str_radix(mask.trim(), 16).unwrap();
        [Signal::INT, Signal::TERM].iter().all(|signal| mask >> (signal.as_raw() - 1) & 1 == 1)
    };
    while !is_ready(&caught()) {
        std::thread::yield_now();
    }
}

fn closed(head: &Head) -> std::sync::Arc<CloseReason> {
    loop {
        match head.close_reason() {
            Some(reason) => return reason,
            None => std::thread::yield_now(),
        }
    }
}
