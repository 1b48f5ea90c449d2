//! What is left when it is over. Each of these has a process for itself, so that nothing else opens
//! or closes anything.

use std::{
    fs::{self, File},
    io::IoSlice,
    mem::MaybeUninit,
    os::{
        fd::{AsFd, OwnedFd},
        unix::net::UnixStream,
    },
    path::PathBuf,
};

use rustix::{
    net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg},
    process::{Resource, Rlimit, getrlimit, setrlimit},
};

use super::*;
use crate::{
    os,
    transport::{PipeEnd, Received},
};

/// Everything that a start makes.
#[derive(Debug, PartialEq)]
struct Snapshot {
    descriptors: Vec<(i32, String)>,
    threads: Vec<String>,
    children: String,
    files: Vec<PathBuf>,
}

impl Snapshot {
    fn take() -> Snapshot {
        let tasks: Vec<PathBuf> = entries("/proc/self/task");
        let read =
            |name: &str| tasks.iter().filter_map(|task| fs::read_to_string(task.join(name)).ok()).collect();
        let mut threads: Vec<String> = read("comm");
        threads.sort();
        let children: Vec<String> = read("children");
        let files = entries(env::temp_dir());
        Snapshot { descriptors: descriptors(), threads, children: children.concat(), files }
    }
}

fn entries(directory: impl Into<PathBuf>) -> Vec<PathBuf> {
    fs::read_dir(directory.into()).unwrap().flatten().map(|entry| entry.path()).collect()
}

#[test]
fn p_23_nothing_is_left_of_any_start() {
    in_own_directory("leaks");
}

#[test]
fn p_20_too_few_descriptors_are_an_error_and_the_next_start_works() {
    in_own_directory("few-descriptors");
}

/// Red when such a child is let go.
#[test]
fn p_20_a_child_that_cannot_be_watched_is_ended() {
    in_own_directory("no-descriptors");
}

#[test]
fn d_58_as_many_descriptors_as_may_come_along_and_no_room_for_them() {
    in_own_directory("gifts");
}

#[test]
fn p_26_a_child_that_comes_too_late_is_told_so_and_cleans_up() {
    let _watchdog = Watchdog::new();
    let directory = OwnDirectory::new("late");
    let mut middle = role("middle-of-a-late-one");
    middle.env("TMPDIR", &directory.0).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut middle = middle.spawn().unwrap();
    let mut said = reports(middle.stdout.take().unwrap());
    assert_eq!(said.next().unwrap(), "waiting");
    let stdin = middle.stdin.take();
    middle.kill().unwrap();
    middle.wait().unwrap();
    drop(stdin);
    assert_eq!(said.next().unwrap(), "cannot make the connection to the Head");
}

fn in_own_directory(name: &str) {
    let _watchdog = Watchdog::new();
    let directory = OwnDirectory::new(name);
    let mut command = role(name);
    command.env("TMPDIR", &directory.0);
    run(command);
}

/// A directory that must be empty in the end.
struct OwnDirectory(PathBuf);

impl OwnDirectory {
    fn new(name: &str) -> OwnDirectory {
        let directory = env::temp_dir().join(format!("nape-{name}-{}", std::process::id()));
        fs::create_dir(&directory).unwrap();
        OwnDirectory(directory)
    }
}

impl Drop for OwnDirectory {
    fn drop(&mut self) {
        let removed = fs::remove_dir(&self.0);
        assert!(thread::panicking() || removed.is_ok(), "{} is not empty", self.0.display());
    }
}

pub(super) fn nothing_is_left() {
    one_of_each();
    let before = Snapshot::take();
    for _ in 0..3 {
        one_of_each();
    }
    let left = || Snapshot::take();
    comes_true(|| left() == before);
    assert_eq!(left(), before);
}

fn one_of_each() {
    for name in ["exit", "kill-self", "wrong-token", "garbage", "hang-up", "hang-up-and-exit"] {
        drop(fail(role(name), LONG));
    }
    drop(fail(role("hang"), Duration::from_millis(50)));
    drop(fail(Command::new("/nonexistent"), LONG));
    drop(fail(Command::new("/bin/true"), LONG));
    for wire in WIRES {
        drop(start(wire, role("echo")));
        let mut killed = start(wire, role("echo"));
        killed.child.kill().unwrap();
        assert!(killed.child.reap(LONG).is_some());
    }
}

pub(super) fn with_few_descriptors() {
    WIRES.into_iter().for_each(start_with_few_descriptors);
}

pub(super) fn with_no_descriptors() {
    let (usual, program) = (getrlimit(Resource::Nofile), "/bin/sleep".into());
    // With an end of a pipe of its own to make, or without.
    for stderr in [Stdio::null(), Stdio::piped()] {
        let before = Snapshot::take();
        let child = Command::new("/bin/sleep").arg("1000").stderr(stderr).spawn().unwrap();
        assert_ne!(Snapshot::take().children, before.children);
        let taken = take_all_but(0);
        let error = child::adopt(child, &program, std::time::Instant::now(), None, false).err().unwrap();
        setrlimit(Resource::Nofile, usual).unwrap();
        drop(taken);
        assert!(matches!(error, StartError::Setup { what: "process descriptor", .. }), "{error:?}");
        assert_eq!(Snapshot::take(), before);
    }
}

/// Starts with room for 0, 1, 2, .. descriptors; each start must end, in an error or not, and leave
/// the process as good as before.
fn start_with_few_descriptors(wire: Wire) {
    let usual = getrlimit(Resource::Nofile);
    // What is made once and kept is no leak.
    drop(start(wire, role("echo")));
    let before = Snapshot::take();
    let mut failed = 0;
    for room in 0..40 {
        let taken = take_all_but(room);
        let result = launch(&mut Program::new(role("echo")), options(wire, LONG));
        setrlimit(Resource::Nofile, usual).unwrap();
        failed += u32::from(result.is_err());
        drop((result, taken));
        comes_true(|| Snapshot::take() == before);
        assert_eq!(Snapshot::take(), before, "{wire:?} with room for {room} descriptors");
    }
    assert!((5..40).contains(&failed), "{failed} starts failed");
    let mut launch = start(wire, role("echo"));
    launch.say("still works");
    assert_eq!(launch.hear(), "still works");
}

/// Whoever is given descriptors with a frame, as many as go at once, takes the frame and none of them, whether there
/// are numbers for them or not.
pub(super) fn with_gifts() {
    let usual = getrlimit(Resource::Nofile);
    let (peer, ours) = PipeEnd::pair().unwrap();
    let (peer, mut ours) = (UnixStream::from(OwnedFd::from(peer)), ours.into_transport().unwrap());
    let (read, write) = os::pipe().unwrap();
    let before = descriptors();
    for room in [0, 1, 100] {
        let taken = take_all_but(room);
        let gifts = [write.as_fd(); 253];
        let mut space = vec![MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(253))];
        let mut along = SendAncillaryBuffer::new(&mut space);
        assert!(along.push(SendAncillaryMessage::ScmRights(&gifts)));
        let frame = [&20u32.to_le_bytes()[..], &[8; 20]].concat();
        sendmsg(&peer, &[IoSlice::new(&frame)], &mut along, SendFlags::empty()).unwrap();
        assert_eq!(ours.receiver.receive(None).unwrap(), Received::Packet(frame));
        setrlimit(Resource::Nofile, usual).unwrap();
        drop(taken);
        assert_eq!(descriptors(), before, "with room for {room}");
    }
    drop(write);
    assert!(os::has_hung_up(read.as_fd()), "somebody holds the other end of this pipe");
}

/// Leaves so many numbers for new descriptors: there may be free ones in between.
fn take_all_but(room: usize) -> Vec<File> {
    setrlimit(Resource::Nofile, Rlimit { current: Some(128), ..getrlimit(Resource::Nofile) }).unwrap();
    let mut taken: Vec<File> = std::iter::from_fn(|| File::open("/dev/null").ok()).collect();
    taken.truncate(taken.len() - room);
    taken
}
