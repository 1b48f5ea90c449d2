//! One run of the program with something injected, and what is to be said of it.

use std::{
    collections::BTreeSet,
    env, fs,
    io::Read,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio, id},
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::{Duration, Instant},
};

use crate::program::{BEFORE, BEGUN, CLEAN, LOG};

/// Which of the two processes it is injected into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Head,
    Neck,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// All its calls came through.
    Clean,
    /// Some did not, and each said so as it should; or the Head was killed, and left nothing.
    Hit,
    /// It did not even begin: the injection hit what loads programs.
    Early,
    Wrong(String),
}

pub struct Run {
    wire: String,
    side: Side,
    inject: Option<String>,
    kills: bool,
}

impl Run {
    pub fn plain(wire: &str) -> Run {
        Run { wire: wire.into(), side: Side::Head, inject: None, kills: false }
    }

    /// Kills a side as one of its threads enters one of these system calls for the `when`th time.
    pub fn kill(wire: &str, side: Side, calls: &str, when: usize) -> Run {
        Run {
            wire: wire.into(),
            side,
            inject: Some(format!("{calls}:signal=SIGKILL:when={when}")),
            kills: true,
        }
    }

    /// Has the `when`th of these system calls fail.
    pub fn fault(wire: &str, side: Side, calls: &str, error: &str, when: usize) -> Run {
        Run::fault_at(wire, side, calls, error, &when.to_string())
    }

    /// The same more than once: `1+2` stands for the first time and every second one after it.
    pub fn fault_at(wire: &str, side: Side, calls: &str, error: &str, when: &str) -> Run {
        Run {
            wire: wire.into(),
            side,
            inject: Some(format!("{calls}:error={error}:when={when}")),
            kills: false,
        }
    }

    /// Has these system calls say that there is something, where there is nothing: `when` says which of them.
    pub fn woken_at(wire: &str, side: Side, calls: &str, when: &str) -> Run {
        Run { wire: wire.into(), side, inject: Some(format!("{calls}:retval=1:when={when}")), kills: false }
    }

    /// One by its name.
    pub fn named(wire: &str, side: &str, inject: &str) -> Run {
        let side = if side == "Head" { Side::Head } else { Side::Neck };
        Run { wire: wire.into(), side, inject: Some(inject.into()), kills: inject.contains("signal=") }
    }

    pub fn name(&self) -> String {
        format!("{} {:?} {}", self.wire, self.side, self.inject.as_deref().unwrap_or("untouched"))
    }

    pub fn run(&self) -> Outcome {
        self.try_it().0
    }

    /// The same where nothing may show.
    pub fn run_cleanly(&self) -> Outcome {
        match self.run() {
            Outcome::Hit | Outcome::Early => Outcome::Wrong(format!("{}: it shows", self.name())),
            outcome => outcome,
        }
    }

    /// The same, and whether anything was injected at all: strace writes down what it did.
    pub fn try_it(&self) -> (Outcome, bool) {
        self.run_in(&Folder::new())
    }

    fn run_in(&self, folder: &Folder) -> (Outcome, bool) {
        let log = folder.0.join("log");
        let trace = folder.0.join("trace");
        fs::write(&log, []).expect("a file can be written");
        let me = env::current_exe().expect("it has a name");
        let mut command = match (&self.inject, self.side) {
            (Some(inject), Side::Head) => {
                let mut command = Command::new("strace");
                // The thread that it begins with alone, so that what is injected is injected once.
                command.args(strace(inject, &trace)).arg(me);
                command
            }
            _ => Command::new(me),
        };
        if let (Some(inject), Side::Neck) = (&self.inject, self.side) {
            let mut words = vec!["strace".to_owned(), "-D".into(), "-f".into()];
            words.extend(strace(inject, &trace));
            command.env(BEFORE, words.join("\t"));
        }
        command.args(["head", &self.wire]).env(LOG, &log).env("TMPDIR", &folder.0);
        command.env("RUST_BACKTRACE", "0").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("it starts");
        let ended = wait(&mut child);
        if ended.is_none() {
            let _ = child.kill();
        }
        let left = still_runs(folder);
        let (out, err) = (read(child.stdout.take()), read(child.stderr.take()));
        let _ = child.wait();
        let trace = text(&trace);
        let touched = trace.contains("(INJECTED)") || trace.contains("killed by SIGKILL");
        match self.judge(ended, &out, &err, &left) {
            Ok(outcome) => (outcome, touched),
            Err(what) => (Outcome::Wrong(format!("{}: {what}\n{out}{err}", self.name())), touched),
        }
    }

    fn judge(
        &self,
        ended: Option<ExitStatus>,
        out: &str,
        err: &str,
        left: &[u32],
    ) -> Result<Outcome, String> {
        let Some(status) = ended else { return Err("it hangs".into()) };
        if !left.is_empty() {
            return Err(format!("{left:?} still run"));
        }
        // What cannot be done without memory ends the program; that is the standard library's way.
        let out_of_memory = err.contains("memory allocation of") || err.contains("failed to allocate");
        // ipc-channel panics where it cannot make a socket. That is caught, and an error like any other.
        let its_own = err.matches("panicked").count() == err.matches("/ipc-channel-").count();
        if err.contains("panicked") && !out_of_memory && !its_own {
            return Err("it panicked".into());
        }
        if !out.starts_with(BEGUN) {
            return Ok(Outcome::Early);
        }
        if self.kills && self.side == Side::Head && status.code().is_none() {
            return Ok(Outcome::Hit);
        }
        match status.code() {
            Some(0) if out.contains(CLEAN) => Ok(Outcome::Clean),
            Some(0) => Ok(Outcome::Hit),
            _ if out_of_memory => Ok(Outcome::Hit),
            _ => Err(format!("it ended with {status}")),
        }
    }
}

/// The names of the system calls that a side makes.
pub fn system_calls(wire: &str, side: Side) -> BTreeSet<String> {
    // A signal that is ignored, at a time that never comes.
    let run =
        Run { wire: wire.into(), side, inject: Some("all:signal=SIGURG:when=65535".into()), kills: false };
    let folder = Folder::new();
    run.run_in(&folder);
    let name = |line: &str| {
        let call = line.split_once('(')?.0.rsplit(' ').next()?;
        call.chars().all(|c| c.is_alphanumeric() || c == '_').then(|| call.to_owned())
    };
    text(&folder.0.join("trace")).lines().filter_map(name).filter(|name| !name.is_empty()).collect()
}

fn text(file: &Path) -> String {
    String::from_utf8_lossy(&fs::read(file).unwrap_or_default()).into_owned()
}

fn strace(inject: &str, trace: &Path) -> Vec<String> {
    let set = inject.split(':').next().unwrap_or_default();
    let trace = trace.to_string_lossy();
    let words = ["-o", &trace, "-e", &format!("trace={set}"), "-e", &format!("inject={inject}")];
    words.map(str::to_owned).to_vec()
}

/// Whether there is an strace, and it may trace.
pub fn has_strace() -> bool {
    let mut command = Command::new("strace");
    command.args(strace("getpid:error=EPERM:when=1", Path::new("/dev/null"))).arg("true");
    command.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}

fn wait(child: &mut Child) -> Option<ExitStatus> {
    let end = Instant::now() + HANG;
    loop {
        match child.try_wait() {
            Ok(None) if Instant::now() < end => thread::sleep(Duration::from_millis(1)),
            ended => return ended.ok().flatten(),
        }
    }
}

/// The processes of a run that do not end by themselves. They are killed.
fn still_runs(folder: &Folder) -> Vec<u32> {
    let end = Instant::now() + GRACE;
    loop {
        let left = folder.processes();
        if left.is_empty() || Instant::now() > end {
            for process in &left {
                let _ = Command::new("kill").args(["-9", &process.to_string()]).status();
            }
            return left;
        }
        thread::sleep(Duration::from_millis(1));
    }
}

fn read(stream: Option<impl Read>) -> String {
    let mut text = Vec::new();
    let _ = stream.map(|mut stream| stream.read_to_end(&mut text));
    String::from_utf8_lossy(&text).into_owned()
}

/// The folder of a run, by whose name its processes are told from all others.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Folder {
        static N: AtomicUsize = AtomicUsize::new(0);
        let number = N.fetch_add(1, Ordering::Relaxed);
        let path = env::temp_dir().join(format!("nape-sweep-{}-{number}.", id()));
        fs::create_dir(&path).expect("a folder can be made");
        Folder(path)
    }

    /// Those that have its name in their environment, and live.
    fn processes(&self) -> Vec<u32> {
        let name = self.0.to_string_lossy().into_owned();
        let numbers = fs::read_dir("/proc").into_iter().flatten().flatten();
        let numbers = numbers.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
        numbers
            .filter(|process| {
                let environment = fs::read(format!("/proc/{process}/environ")).unwrap_or_default();
                String::from_utf8_lossy(&environment).contains(&name)
            })
            .collect()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// More than any run takes that does not hang.
const HANG: Duration = Duration::from_secs(60);
/// How long what is left may need to see that it is.
const GRACE: Duration = Duration::from_secs(10);
