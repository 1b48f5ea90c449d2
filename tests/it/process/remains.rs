//! After rounds of starting, using and dropping, with all kinds of faults, nothing is left.

use std::{
    env, fs,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    path::{Path, PathBuf},
    process::{self, Command},
    thread,
    time::{Duration, Instant},
};

use nape::{CallError, Head, Restarts, Timeout, Wire};
use rustix::process::Signal;

use crate::soak::rounds as rounds_wanted;

use super::{Watch, echo, five_times, head, head_with_grace, victim};
on_every_wire_to_a_child! {
    p_23_nothing_is_left_of_links_to_children,
}

/// In a process of its own, where no other test starts threads or children meanwhile.
/// Red when the keeper of a link is not joined.
fn p_23_nothing_is_left_of_links_to_children(wire: Wire) {
    let directory = PrivateDirectory::new(wire);
    let output = victim::command_over(wire, "rounds").env("TMPDIR", &directory.0).output().unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{told}{}", String::from_utf8_lossy(&output.stderr));
    let line = told.lines().find(|line| line.contains("rounds without a trace")).expect("it tells");
    println!("{wire:?}: {line}");
}

struct PrivateDirectory(PathBuf);

impl PrivateDirectory {
    fn new(wire: Wire) -> PrivateDirectory {
        let path = env::temp_dir().join(format!("nape-rounds-{wire:?}-{}", process::id()));
        fs::create_dir(&path).unwrap();
        PrivateDirectory(path)
    }
}

impl Drop for PrivateDirectory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The rounds, in the process that was started for them.
pub(super) fn rounds() {
    let wire = victim::wire_of_its_own();
    // What is made once and kept is no leak.
    FAULTS.iter().for_each(|fault| fault(wire));
    let before = Snapshot::at_rest();
    let mut seed = process::id();
    println!("seed {seed}");
    let wanted = rounds_wanted();
    let n_rounds = wanted.unwrap_or(ROUNDS);
    let mut resident = Vec::new();
    for round in 0..n_rounds {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let any = (seed >> 16) as usize % FAULTS.len();
        // In a long run a fault comes in every fifth round.
        let fault = if wanted.is_some() && !(seed >> 8).is_multiple_of(5) { 0 } else { any };
        FAULTS[fault](wire);
        // A thread that was joined may still be listed; what it had may not.
        let now = Snapshot::take();
        let what = format!("right after fault {fault} in round {round}");
        assert_eq!((now.descriptors, now.children, now.files), before.without_threads(), "{what}");
        resident.push(resident_kib());
        let after = Snapshot::settled(&before);
        assert_eq!(after, before, "after fault {fault} in round {round}");
    }
    let handles: Vec<_> = (0..5).map(|_| head(wire).api("victim")).collect();
    assert_eq!(Snapshot::settled(&before), before, "handles hold more than memory");
    handles.iter().for_each(|victim| drop(victim.action("echo", 1u64).call::<u64>().unwrap_err()));
    println!("{n_rounds} rounds without a trace, {}", growth(&resident));
}

/// How much memory grew: from the most in the second tenth of the rounds to the least in the last.
fn growth(resident: &[u64]) -> String {
    let tenth = resident.len().div_ceil(10);
    let (early, late) = (resident.chunks(tenth).nth(1), resident.chunks(tenth).last());
    let early = early.and_then(|all| all.iter().max().copied()).unwrap_or_default();
    let late = late.and_then(|all| all.iter().min().copied()).unwrap_or_default();
    let rounds = resident.len() as u64;
    // A round that keeps 4 KiB, the least that any thread, link or child would, shows in a long run.
    assert!(rounds < 200 || late < early + 2 * rounds, "{early} KiB grew to {late} KiB");
    format!("{early} KiB resident, and {late} KiB in the end")
}

pub(super) fn resident_kib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

const ROUNDS: u64 = 20;

const FAULTS: [fn(Wire); 13] = [
    // No fault at all.
    |wire| echo(&head(wire)),
    // Calls under way, in all forms.
    |wire| drop(pending(&head(wire))),
    |wire| dies(wire, "exit 0"),
    |wire| dies(wire, "abort"),
    killed_under_way,
    stopped,
    restarted,
    gave_up,
    |wire| {
        let builder = Head::builder().wire(wire).on_output(|_| ()).supervise(Restarts::always());
        drop(builder.spawn(victim::command("exit-early")).unwrap_err());
    },
    |wire| {
        let head = head(wire);
        head.api("victim").action("panic", ()).call::<()>().unwrap_err();
        echo(&head);
    },
    caller_panics,
    |wire| drop(Head::builder().wire(wire).spawn(victim::command("exit-early")).unwrap_err()),
    |wire| drop(Head::builder().wire(wire).spawn(Command::new("/nowhere/at/all")).unwrap_err()),
];

fn pending(head: &Head) -> Vec<nape::AsyncResult<()>> {
    let wait = || head.api("victim").action("wait", ()).timeout(Timeout::Never);
    wait().then(|outcome: Result<(), CallError>| drop(outcome)).unwrap();
    (0..16).map(|_| wait().start().unwrap()).collect()
}

fn dies(wire: Wire, how: &str) {
    let head = head(wire);
    head.api("victim").action("die", how.to_owned()).call::<()>().unwrap_err();
}

fn killed_under_way(wire: Wire) {
    let head = head(wire);
    let pending = pending(&head);
    head.kill();
    pending.into_iter().for_each(|call| drop(call.wait().unwrap_err()));
}

fn stopped(wire: Wire) {
    let head = head_with_grace(wire, "serve", Duration::from_millis(20));
    Watch::child_of(&head).send(Signal::STOP);
    drop(pending(&head));
}

/// Crashes with calls under way and calls that wait, and an end between two starts or soon after.
fn restarted(wire: Wire) {
    let builder = Head::builder().wire(wire).on_output(|_| ());
    let restarts = Restarts::on_crash().backoff(Duration::from_millis(1), Duration::from_millis(1));
    let supervisor = builder.supervise(restarts).spawn(victim::command("serve")).unwrap();
    let survive = || supervisor.api("victim").action("survive", 1u32).retry_safe();
    assert_eq!(survive().call::<u32>().unwrap(), 1);
    let _pending = supervisor.api("victim").action("wait", ()).retry_safe().start::<()>().unwrap();
    supervisor.kill();
    survive().then(|outcome: Result<u32, CallError>| drop(outcome)).unwrap();
}

fn gave_up(wire: Wire) {
    let builder = Head::builder().wire(wire).supervise(Restarts::never());
    let supervisor = builder.spawn(victim::command("serve")).unwrap();
    let wait = supervisor.api("victim").action("wait", ()).retry_safe().start::<()>().unwrap();
    supervisor.kill();
    wait.wait().unwrap_err();
}

fn caller_panics(wire: Wire) {
    let caller = AssertUnwindSafe(|| {
        let head = head(wire);
        let _pending = pending(&head);
        resume_unwind(Box::new("a panic that is a part of the test"));
    });
    assert!(catch_unwind(caller).is_err());
}

/// What this process has: its threads, descriptors, children and temporary files.
#[derive(Debug, PartialEq)]
struct Snapshot {
    threads: Vec<String>,
    descriptors: Vec<String>,
    children: String,
    files: Vec<PathBuf>,
}

impl Snapshot {
    fn take() -> Snapshot {
        let tasks = list(Path::new("/proc/self/task"));
        let read = |task: &PathBuf, what| fs::read_to_string(task.join(what)).unwrap_or_default();
        let mut threads: Vec<_> = tasks.iter().map(|task| read(task, "comm")).collect();
        threads.sort();
        let target = |link: PathBuf| fs::read_link(&link).ok().map(|to| kind(&to.to_string_lossy()));
        let mut descriptors: Vec<_> =
            list(Path::new("/proc/self/fd")).into_iter().filter_map(target).collect();
        descriptors.sort();
        let children = tasks.iter().map(|task| read(task, "children")).collect();
        let files = list(&env::temp_dir());
        Snapshot { threads, descriptors, children, files }
    }

    /// What stays the same for a moment.
    fn at_rest() -> Snapshot {
        let mut last = Snapshot::take();
        loop {
            thread::sleep(Duration::from_millis(50));
            let now = Snapshot::take();
            if now == last {
                return now;
            }
            last = now;
        }
    }

    fn without_threads(&self) -> (Vec<String>, String, Vec<PathBuf>) {
        (self.descriptors.clone(), self.children.clone(), self.files.clone())
    }

    /// The state of things once it is what it was before, or does not become so.
    fn settled(before: &Snapshot) -> Snapshot {
        let begin = Instant::now();
        loop {
            let now = Snapshot::take();
            // The kernel takes a moment to forget a thread that was joined.
            if now == *before || begin.elapsed() > five_times(400) {
                return now;
            }
            thread::sleep(Duration::from_millis(1));
        }
    }
}

/// What a descriptor is, without the number that tells it from others of its kind.
fn kind(target: &str) -> String {
    target.trim_end_matches(|c: char| c.is_ascii_digit() || "[]".contains(c)).to_owned()
}

fn list(directory: &Path) -> Vec<PathBuf> {
    let mut all: Vec<_> = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    all.sort();
    all
}
