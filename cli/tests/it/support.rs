//! A canteen at an address of its own, and runs of the command.

use std::{
    path::PathBuf,
    process::{self, Command, Output, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::{Duration, Instant},
};

use nape::{Address, Token};

use crate::canteen::{self, Open};

/// How long anything may take before it counts as a hang.
pub const HANG: Duration = Duration::from_secs(60);

/// A canteen that is open.
pub struct Place {
    pub open: Open,
    /// As it is written on the command line.
    pub address: String,
}

/// At a Unix socket.
pub fn place() -> Place {
    let open = canteen::open(&Address::unix(spare_path("sock")).unwrap(), None).unwrap();
    Place { address: open.listener.address().to_string(), open }
}

/// At a port, behind a token.
pub fn place_over_tcp() -> (Place, Token) {
    let token = Token::random().unwrap();
    let open = canteen::open(&"tcp:127.0.0.1:0".parse().unwrap(), Some(token)).unwrap();
    (Place { address: open.listener.address().to_string(), open }, token)
}

/// A path that nothing has.
pub fn spare_path(kind: &str) -> PathBuf {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let n = NEXT.fetch_add(1, Ordering::Relaxed);
    std::env::temp_dir().join(format!("nape-cli-{}-{n}.{kind}", process::id()))
}

/// The command with these arguments, and nothing of the environment that it looks at.
pub fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_nape"));
    for name in ["NAPE_TOKEN", "NAPE_TOKEN_FILE", "NO_COLOR", "CLICOLOR_FORCE"] {
        command.env_remove(name);
    }
    command.args(arguments).stdin(Stdio::null());
    command
}

/// What came of a run.
#[derive(Debug, PartialEq)]
pub struct Ended {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

/// Runs it to its end.
pub fn run(arguments: &[&str]) -> Ended {
    finish(&mut command(arguments))
}

pub fn finish(command: &mut Command) -> Ended {
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let guard = Watchdog::over(child.id());
    let Output { status, stdout, stderr } = child.wait_with_output().unwrap();
    drop(guard);
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Ended { code: status.code(), out: text(stdout), err: text(stderr) }
}

/// What it prints if all is well.
pub fn printed(arguments: &[&str]) -> String {
    let ended = run(arguments);
    assert_eq!((ended.code, &*ended.err), (Some(0), ""), "{arguments:?}: {ended:?}");
    ended.out
}

/// The same, as JSON.
pub fn json(arguments: &[&str]) -> serde_json::Value {
    serde_json::from_str(&printed(arguments)).unwrap()
}

/// Fails the run of all tests if a command hangs, since nothing else would end it.
struct Watchdog(Option<std::sync::mpsc::Sender<()>>, Option<thread::JoinHandle<()>>);

impl Watchdog {
    fn over(pid: u32) -> Watchdog {
        let (alive, gone) = std::sync::mpsc::channel::<()>();
        let watch = thread::spawn(move || {
            if gone.recv_timeout(HANG) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
                eprintln!("process {pid} hangs");
                process::exit(101);
            }
        });
        Watchdog(Some(alive), Some(watch))
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        self.0.take();
        let _ = self.1.take().map(thread::JoinHandle::join);
    }
}

/// Waits until something holds.
pub fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + HANG;
    while !holds() {
        assert!(Instant::now() < end, "not in time: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}
