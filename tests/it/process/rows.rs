//! What the table of faults in the guide says, where no test of a promise shows it. The number of a row is in the
//! name of its test.

use std::{
    fs,
    io::{BufRead, BufReader},
    os::unix::fs::PermissionsExt,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    path::PathBuf,
    process::{Child, ChildStdout, Command, Stdio},
    sync::{Arc, mpsc},
    thread,
    time::{Duration, Instant},
};

use nape::{
    Api, CallError, Config, Context, Error, Exit, Fault, Head, LinkState, Neck, Restarts, StartError,
    Timeout, Transition, Wire,
};
use rustix::process::Signal;

use super::{Watch, death, echo, five_times, head, head_with_grace, pulse::stop, victim};
use crate::{
    support::HANG,
    tools::{until, within},
};

on_every_wire_to_a_child! {
    row_09_a_stopped_child_is_given_up_in_time_whoever_drops,
    row_23_programs_that_are_no_necks_say_so,
    row_33_a_stopped_head_costs_its_child_the_timeouts_and_nothing_else,
    row_35_a_death_whose_status_others_took_is_a_death,
    p_27_the_dead_are_buried_at_once,
}

/// Red when a child may take all the time that it likes once it was said goodbye to.
fn row_09_a_stopped_child_is_given_up_in_time_whoever_drops(wire: Wire) {
    let grace = Duration::from_millis(100);
    for (who, drops) in WHO_DROPS {
        let head = head_with_grace(wire, "serve", grace);
        echo(&head);
        let child = stop(head.child_id().unwrap());
        let begin = Instant::now();
        drops(head);
        let took = begin.elapsed();
        assert!(took < grace + five_times(200), "{who}: {took:?}");
        assert!(child.has_ended(), "{who}");
    }
}

/// Whose doing it is, and what it is.
type Dropping = (&'static str, fn(Head));

/// Who drops a Head, and returns when that is done.
const WHO_DROPS: [Dropping; 6] = [
    ("the thread that has spawned", |head| drop(head)),
    ("another thread", |head| thread::spawn(|| drop(head)).join().unwrap()),
    ("whoever unwinds", |head| {
        let owner = AssertUnwindSafe(move || {
            let _head = head;
            resume_unwind(Box::new("a panic that is a part of the test"));
        });
        assert!(catch_unwind(owner).is_err());
    }),
    ("a callback of its own", |head| {
        let wait = head.api("victim").action("wait", ()).timeout(Duration::from_millis(1));
        let place = Arc::new(std::sync::Mutex::new(Some(head)));
        let (tell, told) = mpsc::channel();
        let theirs = place.clone();
        // It is not there before this thread lets it go.
        let held = place.lock().unwrap();
        wait.then(move |_: Result<(), CallError>| {
            drop(theirs.lock().unwrap().take());
            tell.send(()).unwrap();
        })
        .unwrap();
        drop(held);
        told.recv_timeout(HANG).unwrap();
    }),
    ("two at once", |head| {
        let head = Arc::new(head);
        let other = head.clone();
        let closing = thread::spawn(move || other.close());
        head.close();
        closing.join().unwrap();
        drop(Arc::into_inner(head));
    }),
    ("somebody, while much waits to be sent", |head| {
        let large = || head.api("victim").action("take", nape::Payload::from_bytes(vec![1; 60_000]));
        while large().fire().is_ok() {}
        drop(head);
    }),
];

/// Programs that are nothing of ours.
fn row_23_programs_that_are_no_necks_say_so(wire: Wire) {
    let died = |error: StartError, code: i32| {
        let StartError::Died { death, .. } = error else { panic!("{error:?}") };
        assert_eq!(death.exit, Exit::Code(code));
    };
    died(start(wire, Command::new("/bin/true"), HANG), 0);
    died(start(wire, Command::new("/bin/false"), HANG), 1);
    let limit = Duration::from_millis(500);
    let mut sleep = Command::new("/bin/sleep");
    sleep.arg("100");
    let mut cat = Command::new("/bin/cat");
    cat.stdin(Stdio::piped()).stdout(Stdio::null());
    for deaf in [sleep, cat] {
        let begin = Instant::now();
        let StartError::TimedOut { after, .. } = start(wire, deaf, limit) else { panic!("it is deaf") };
        assert_eq!(after, limit);
        assert!(begin.elapsed() < limit + five_times(200), "{:?}", begin.elapsed());
    }
    for nothing in ["/dev/null", "/", "/nowhere/at/all"] {
        assert!(matches!(start(wire, Command::new(nothing), HANG), StartError::Spawn { .. }), "{nothing}");
    }
    let script = Script::new(wire);
    match start(wire, Command::new(&script.0), HANG) {
        // The C library has the shell run what nobody else can, as a shell does.
        error @ StartError::Died { .. } => died(error, 7),
        error => assert!(matches!(error, StartError::Spawn { .. }), "{error:?}"),
    }
}

fn start(wire: Wire, command: Command, limit: Duration) -> StartError {
    let config = Config::new().start_timeout(limit);
    match Head::builder().wire(wire).config(config).spawn(command) {
        Err(Error::Start(error)) => error,
        other => panic!("{other:?}"),
    }
}

/// An executable text that does not say what is to run it.
struct Script(PathBuf);

impl Script {
    fn new(wire: Wire) -> Script {
        let path = std::env::temp_dir().join(format!("nape-script-{wire:?}-{}", std::process::id()));
        fs::write(&path, "exit 7\n").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
        Script(path)
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// A child that calls its Head is told by its timeouts that nobody answers, and is answered again later.
fn row_33_a_stopped_head_costs_its_child_the_timeouts_and_nothing_else(wire: Wire) {
    let mut middle = Told::of(victim::command_over(wire, "middle-that-is-asked"));
    middle.hear("answered");
    let pid = middle.process.id();
    for _ in 0..2 {
        let watch = stop(pid);
        middle.hear("timed out");
        middle.hear("timed out");
        watch.send(Signal::CONT);
        middle.hear("answered");
    }
}

/// The process in the middle, which is stopped.
pub(super) fn be_asked() {
    let name = |_: &Context, (): ()| Ok::<_, Fault>("Heidi".to_owned());
    let host = Api::new("host").handle("name", name).unwrap();
    let builder = Head::builder().wire(victim::wire_of_its_own()).serve(host);
    let _head = builder.spawn(victim::command("ask")).unwrap();
    super::until_stdin_ends();
}

/// Its child, which holds the stdout of both.
pub(super) fn ask() {
    let neck = Neck::from_env().unwrap().serve(victim::api()).unwrap().start();
    let host = neck.api("host").timeout(Duration::from_millis(100));
    while neck.state() <= LinkState::Open {
        match host.action("name", ()).call::<String>() {
            Ok(_) => println!("answered"),
            Err(CallError::TimedOut { .. }) => println!("timed out"),
            Err(error) => println!("wrong: {error:?}"),
        }
        thread::sleep(Duration::from_millis(10));
    }
}

/// A process, and what it says.
pub(super) struct Told {
    pub(super) process: Child,
    lines: BufReader<ChildStdout>,
}

impl Told {
    pub(super) fn of(mut command: Command) -> Told {
        let mut process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(process.stdout.take().unwrap());
        Told { process, lines }
    }

    /// Reads on until a line has these words, and gives what follows them.
    #[track_caller]
    pub(super) fn hear(&mut self, wanted: &str) -> String {
        loop {
            let mut line = String::new();
            assert!(self.lines.read_line(&mut line).unwrap() > 0, "it is gone");
            assert!(!line.contains("wrong: "), "{line}");
            if let Some((_, rest)) = line.split_once(wanted) {
                return rest.trim().to_owned();
            }
        }
    }
}

impl Drop for Told {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// In a process of its own, whose children others reap, or nobody wants to hear of.
fn row_35_a_death_whose_status_others_took_is_a_death(wire: Wire) {
    super::host::alone(wire, "ignoring");
    super::host::alone(wire, "robbed");
}

/// Many deaths, with calls under way; none has a status that was made up.
pub(super) fn deaths_of_unknown_cause() {
    let wire = victim::wire_of_its_own();
    for _ in 0..5 {
        let head = head(wire);
        let watch = Watch::child_of(&head);
        let wait = || head.api("victim").action("wait", ()).timeout(Timeout::Never).start::<()>().unwrap();
        let pending: Vec<_> = (0..8).map(|_| wait()).collect();
        echo(&head);
        let killed = Instant::now();
        head.kill();
        for call in pending {
            let exit = death(&call.wait().unwrap_err()).exit;
            assert!(matches!(exit, Exit::Unknown | Exit::Signal(9)), "{exit:?}");
        }
        assert!(killed.elapsed() < five_times(100), "{:?}", killed.elapsed());
        assert!(watch.has_ended());
        // There is nobody any more whom this could hurt.
        head.kill();
        assert!(matches!(
            start(wire, victim::command("exit-early"), HANG),
            StartError::Died { death, .. } if matches!(death.exit, Exit::Unknown | Exit::Code(3))
        ));
    }
}

/// A goodbye says enough about an end whose status others have. Red when it counts as a crash all the same.
pub(super) fn goodbyes_of_unknown_cause() {
    let soon = Duration::from_millis(1);
    for _ in 0..5 {
        let restarts = Restarts::on_crash().limit(1000, HANG).backoff(soon, soon);
        let builder = Head::builder().wire(victim::wire_of_its_own()).supervise(restarts);
        let supervisor = builder.spawn(victim::command("leave")).unwrap();
        supervisor.api("door").action("leave", 0).fire().unwrap();
        until("it has stopped", || matches!(supervisor.last_transition(), Transition::Stopped));
        assert_eq!(supervisor.generation(), 1);
    }
}

/// While the Head lives on, and whether anybody calls or not.
fn p_27_the_dead_are_buried_at_once(wire: Wire) {
    for _ in 0..5 {
        let head = head(wire);
        let pid = head.child_id().unwrap();
        echo(&head);
        head.kill();
        let is_gone = || !fs::exists(format!("/proc/{pid}")).unwrap();
        within(five_times(100), "there is no zombie", is_gone);
    }
}
