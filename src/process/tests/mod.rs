//! Real processes: the test binary runs itself again, and [`child_entry`] is the `main` of the child.

/// Makes a test of each function for each wire.
macro_rules! on_every_wire_to_a_child {
    ($($test:ident),* $(,)?) => {
        mod ipc { $(#[test] fn $test() { super::$test(super::Wire::Ipc) })* }
        mod pipe { $(#[test] fn $test() { super::$test(super::Wire::Pipe) })* }
        mod shm { $(#[test] fn $test() { super::$test(super::Wire::Shm) })* }
    };
}

mod leaks;
mod life;
mod roles;
mod start;

use std::{
    env,
    ffi::OsStr,
    io::{self, BufRead, BufReader},
    os::fd::OwnedFd,
    process::{ChildStdout, Command, Stdio},
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::Duration,
};

use super::*;
use crate::{
    error::StartError,
    transport::{Received, Transport},
    wire::{Ack, Flags, HEADER_LEN, Header, Kind},
};

/// The `main` of every child. In a normal run of the tests it does nothing.
#[test]
fn child_entry() {
    if let Ok(role) = env::var(ROLE) {
        roles::play(&role);
    }
}

/// A command that plays this role. Its stdout is shut, because the test harness writes to it.
fn role(name: &str) -> Command {
    let mut command = Command::new(env::current_exe().unwrap());
    command.args(ARGUMENTS).env(ROLE, name).stdout(Stdio::null());
    command
}

/// The same, begun by a shell that does something first. The role is run by `"$@"`.
fn role_in_shell(script: &str, name: &str) -> Command {
    let mut command = Command::new("/bin/sh");
    command.args(["-c", script, "sh"]).arg(env::current_exe().unwrap()).args(ARGUMENTS);
    command.env(ROLE, name).stdout(Stdio::null());
    command
}

fn options(wire: Wire, start_timeout: Duration) -> LaunchOptions {
    LaunchOptions { start_timeout, stderr: Stderr::PassOn, own_group: false, wire, abort: None }
}

/// Starts a command that should come.
fn start(wire: Wire, command: Command) -> Launch {
    launch(&mut Program::new(command), options(wire, LONG)).unwrap()
}

/// Starts a command that should not come, where it has to connect.
fn fail(command: Command, start_timeout: Duration) -> StartError {
    launch(&mut Program::new(command), options(Wire::Ipc, start_timeout))
        .err()
        .expect("it should not have come")
}

impl Launch {
    fn say(&mut self, words: &str) {
        say(&mut self.transport, words);
    }

    fn hear(&mut self) -> String {
        hear(&mut self.transport)
    }
}

/// Sends words as the body of a frame, since only frames are sure to arrive as they were.
fn say(transport: &mut Transport, words: &str) {
    let mut frame = vec![0; HEADER_LEN];
    frame.extend(words.as_bytes());
    let header = Header { kind: Kind::Event, flags: Flags::default(), id: 1, ack: Ack::default() };
    header.write(&mut frame);
    transport.sender.send(&frame).unwrap();
}

fn hear(transport: &mut Transport) -> String {
    hear_if_any(transport).expect("the other side is there")
}

/// `None` when the other side is gone.
fn hear_if_any(transport: &mut Transport) -> Option<String> {
    match transport.receiver.receive(None).unwrap() {
        Received::Packet(packet) => Some(String::from_utf8(packet[HEADER_LEN..].to_vec()).unwrap()),
        Received::End => None,
        other => panic!("{other:?} instead of a packet"),
    }
}

/// Runs a program of one role to its end; its assertions are the test.
fn run(mut command: Command) {
    let status = command.status().unwrap();
    assert!(status.success(), "{status}; what it says stands above");
}

/// Says something on stdout, past the words of the test harness.
fn report(words: impl std::fmt::Display) {
    println!("{REPORT}{words}");
}

/// What the processes at the other end of this pipe report, to the end of the last of them.
fn reports(stdout: ChildStdout) -> impl Iterator<Item = String> {
    let lines = BufReader::new(stdout).lines().map_while(Result::ok);
    lines.filter_map(|line| line.strip_prefix(REPORT).map(str::to_owned))
}

/// The only report of a program that is read to its end.
fn only_report(stdout: ChildStdout) -> String {
    let mut all: Vec<String> = reports(stdout).collect();
    assert_eq!(all.len(), 1, "{all:?}");
    all.remove(0)
}

/// Ends the whole test run when one test hangs.
struct Watchdog {
    _fed: mpsc::SyncSender<()>,
}

impl Watchdog {
    fn new() -> Watchdog {
        let (fed, starved) = mpsc::sync_channel(0);
        let test = thread::current().name().unwrap_or("?").to_owned();
        thread::spawn(move || {
            if starved.recv_timeout(crate::soak::patience() * 2 * LONG) == Err(RecvTimeoutError::Timeout) {
                // Past the capture of the harness, which would keep it for a test that never ends.
                let _ = io::Write::write_all(&mut io::stderr(), format!("{test} hangs\n").as_bytes());
                std::process::abort();
            }
        });
        Watchdog { _fed: fed }
    }
}

/// The open descriptors of this process, with what each stands for.
fn descriptors() -> Vec<(i32, String)> {
    let mut open: Vec<(i32, String)> = std::fs::read_dir("/proc/self/fd")
        .unwrap()
        .flatten()
        .filter_map(|entry| {
            let number = entry.file_name().to_str()?.parse().ok()?;
            Some((number, std::fs::read_link(entry.path()).ok()?.to_string_lossy().into_owned()))
        })
        // The directory that is being read is one itself.
        .filter(|(_, file)| !file.ends_with("/fd"))
        .collect();
    open.sort();
    open
}

/// Waits for a condition that nothing announces; false when it has not come true in time.
fn comes_true(condition: impl Fn() -> bool) -> bool {
    (0..2000).any(|_| condition() || (thread::sleep(Duration::from_millis(5)), false).1)
}

const WIRES: [Wire; 3] = [Wire::Ipc, Wire::Pipe, Wire::Shm];
const ROLE: &str = "NAPE_TEST_ROLE";
const REPORT: &str = "report: ";
const ARGUMENTS: [&str; 3] = ["process::tests::child_entry", "--exact", "--nocapture"];
const LONG: Duration = Duration::from_secs(60);
