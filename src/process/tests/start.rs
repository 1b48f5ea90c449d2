//! How a start ends.

use std::{
    fs,
    os::{fd::AsFd, unix::fs::PermissionsExt},
    time::Instant,
};

use super::*;
use crate::{
    error::{CloseReason, Death, Exit},
    os,
    process::meeting::Meeting,
    soak::slow_rounds,
    wire::ProtocolError,
};

fn death(error: &StartError) -> &Death {
    match error {
        StartError::Died { death, .. } => death,
        other => panic!("{other:?} instead of a death"),
    }
}

fn refused(error: &StartError) -> &ProtocolError {
    let StartError::Refused { reason, .. } = error else { panic!("{error:?} instead of a refusal") };
    let CloseReason::Protocol(error) = &**reason else { panic!("{reason:?} instead of a protocol error") };
    error
}

on_every_wire_to_a_child! {
    frames_go_both_ways,
}

fn frames_go_both_ways(wire: Wire) {
    let _watchdog = Watchdog::new();
    // The thread that starts a child may end before it does.
    let mut launch = thread::spawn(move || start(wire, role("echo"))).join().unwrap();
    for words in ["one", "two", &"three".repeat(1000)] {
        launch.say(words);
        assert_eq!(launch.hear(), words);
    }
    assert!(launch.child.look().is_none());
}

#[test]
fn p_22_a_child_that_ends_first_is_seen_at_once_with_its_last_words() {
    let _watchdog = Watchdog::new();
    for (name, exit) in [("exit", Exit::Code(7)), ("exit-now", Exit::Code(8)), ("kill-self", Exit::Signal(9))]
    {
        let start = Instant::now();
        let error = fail(role(name), LONG);
        assert_eq!(death(&error).exit, exit);
        assert_eq!(&*death(&error).stderr, "last words\n");
        assert!(start.elapsed() < LONG / 6, "it was noticed by its death, not by the time limit");
    }
}

#[test]
fn stderr_can_be_left_as_it_was() {
    let _watchdog = Watchdog::new();
    let mut command = role("exit");
    command.stderr(Stdio::null());
    let stderr = Stderr::Inherit;
    let options =
        LaunchOptions { start_timeout: LONG, stderr, own_group: false, wire: Wire::Ipc, abort: None };
    let error = launch(&mut Program::new(command), options).err().unwrap();
    assert_eq!((death(&error).exit, &*death(&error).stderr), (Exit::Code(7), ""));
}

/// Red when the wait has no end.
#[test]
fn p_22_a_child_that_never_comes_costs_the_time_limit() {
    let _watchdog = Watchdog::new();
    for _ in 0..slow_rounds() {
        let limit = Duration::from_millis(500);
        let start = Instant::now();
        let error = fail(role("hang"), limit);
        let took = start.elapsed();
        let StartError::TimedOut { after, state, stderr, .. } = error else { panic!("{error:?}") };
        assert_eq!((after, state, &*stderr), (limit, "it never connected", "hanging\n"));
        assert!(took >= limit && took < limit + 5 * Duration::from_millis(200), "{took:?}");
    }
}

#[test]
fn no_time_at_all_is_a_time_limit() {
    let _watchdog = Watchdog::new();
    assert!(matches!(fail(role("hang"), Duration::ZERO), StartError::TimedOut { .. }));
}

#[test]
fn time_without_end_is_one_too() {
    let _watchdog = Watchdog::new();
    assert!(matches!(fail(role("exit"), Duration::MAX), StartError::Died { .. }));
}

#[test]
fn p_22_programs_that_know_nothing_of_us_are_no_necks() {
    let _watchdog = Watchdog::new();
    for _ in 0..slow_rounds() {
        assert_eq!(death(&fail(Command::new("/bin/true"), LONG)).exit, Exit::Code(0));
        let mut deaf = Command::new("/bin/cat");
        deaf.stdin(Stdio::null()).stdout(Stdio::null());
        assert_eq!(death(&fail(deaf, LONG)).exit, Exit::Code(0));
        let mut listening = Command::new("/bin/cat");
        listening.stdin(Stdio::piped()).stdout(Stdio::piped());
        assert!(matches!(fail(listening, Duration::from_millis(200)), StartError::TimedOut { .. }));
    }
}

#[test]
fn p_22_what_cannot_be_executed_says_so() {
    let _watchdog = Watchdog::new();
    for _ in 0..slow_rounds() {
        for (program, kind) in [
            ("/nonexistent/program", io::ErrorKind::NotFound),
            ("no-program-has-this-name", io::ErrorKind::NotFound),
            ("/", io::ErrorKind::PermissionDenied),
            ("/dev/null", io::ErrorKind::PermissionDenied),
            ("/proc/self/status", io::ErrorKind::PermissionDenied),
            ("a\0b", io::ErrorKind::InvalidInput),
        ] {
            let error = fail(Command::new(program), LONG);
            let StartError::Spawn { error, .. } = error else { panic!("{error:?} from {program:?}") };
            assert_eq!(error.kind(), kind, "{program:?}");
        }
    }
}

#[test]
fn p_36_strangers_are_refused() {
    let _watchdog = Watchdog::new();
    assert_eq!(refused(&fail(role("wrong-token"), LONG)), &ProtocolError::AuthFailed);
    assert!(matches!(refused(&fail(role("garbage"), LONG)), ProtocolError::NotAPeer { .. }));
    assert_eq!(refused(&fail(role("hang-up"), LONG)), &ProtocolError::ClosedBeforeHello);
    assert_eq!(death(&fail(role("hang-up-and-exit"), LONG)).exit, Exit::Code(3));
}

#[test]
fn without_a_head_there_is_no_neck() {
    let _watchdog = Watchdog::new();
    for (text, words) in [(None, "is not set"), (Some("1 ipc what?"), "is not understood")] {
        let mut command = role("alone");
        command.env_remove(crate::process::invitation::VARIABLE);
        command.envs(text.map(|text| (crate::process::invitation::VARIABLE, text)));
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let said = only_report(child.stdout.take().unwrap());
        child.wait().unwrap();
        assert!(said.starts_with("this process was not started by a Head") && said.contains(words), "{said}");
    }
}

/// Red when nobody looks who may remove what stands in the directory.
#[test]
fn row_44_a_directory_for_the_name_that_will_not_do_is_an_error() {
    let mut deep = env::temp_dir();
    deep.push("x".repeat(90));
    for directory in
        [OsStr::new("/nonexistent"), OsStr::new("/dev/null"), OsStr::new("/proc"), deep.as_os_str()]
    {
        let mut command = role("bad-directory");
        command.env("TMPDIR", directory);
        run(command);
    }
    // Whoever may rename what stands there could meet the child in our place.
    let everybodys = env::temp_dir().join(format!("nape-everybodys-{}", std::process::id()));
    fs::create_dir(&everybodys).unwrap();
    fs::set_permissions(&everybodys, fs::Permissions::from_mode(0o777)).unwrap();
    let mut command = role("bad-directory");
    command.env("TMPDIR", &everybodys);
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| run(command)));
    fs::remove_dir(&everybodys).unwrap();
    outcome.unwrap();
    let mut command = role("bad-directory");
    command.env("TMPDIR", std::os::unix::ffi::OsStrExt::from_bytes(b"/tmp/\xff") as &OsStr);
    run(command);
}

pub(super) fn with_a_bad_directory() {
    let before = descriptors();
    assert!(matches!(fail(role("echo"), LONG), StartError::Setup { .. }));
    assert_eq!(descriptors(), before);
}

#[test]
fn p_36_a_silent_stranger_under_the_name_costs_a_bounded_time() {
    let _watchdog = Watchdog::new();
    let meeting = Meeting::new().unwrap();
    let name = meeting.name().to_owned();
    let waiting = meeting.open().unwrap();
    let strangers = strangers_at(&name, 40);
    let start = Instant::now();
    drop(waiting);
    assert!(start.elapsed() < Duration::from_secs(5));
    // The thread ends with them, and takes its directory along.
    drop(strangers);
    assert!(comes_true(|| !std::fs::exists(&name).unwrap()));
}

/// More than the queue of the socket holds.
fn strangers_at(name: &str, count: usize) -> Vec<OwnedFd> {
    use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
    let connected = (0..count).map(|_| {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).unwrap();
        let _ = connect(&socket, &SocketAddrUnix::new(name).unwrap());
        socket
    });
    connected.collect()
}

#[test]
fn a_meeting_that_nobody_comes_to_ends_at_once() {
    let _watchdog = Watchdog::new();
    let meeting = Meeting::new().unwrap();
    let name = meeting.name().to_owned();
    let waiting = meeting.open().unwrap();
    assert!(!os::is_readable(waiting.as_fd()));
    let start = Instant::now();
    drop(waiting);
    assert!(start.elapsed() < Duration::from_millis(500));
    assert!(!std::fs::exists(&name).unwrap());
    assert!(os::knock(&name).is_err());
}
