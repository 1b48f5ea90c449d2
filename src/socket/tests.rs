//! Doors and callers, without links.

use std::{
    fs,
    io::{Read, Write},
    os::fd::AsFd,
    os::unix::{
        fs::{PermissionsExt, symlink},
        net::{UnixListener, UnixStream},
    },
    path::PathBuf,
    sync::{
        Barrier,
        atomic::{AtomicU32, Ordering},
    },
    thread,
    time::Instant,
};

use super::{dial::dial, *};
use crate::{
    error::StartError,
    transport::{Transport, contract, tcp_pair},
    wire::{Hello, Side},
};

/// A directory of a test's own, gone with it.
struct Directory(PathBuf);

impl Directory {
    fn new() -> Directory {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("nape-door-{}-{number}", std::process::id()));
        fs::create_dir(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
        Directory(path)
    }

    fn socket(&self) -> PathBuf {
        self.0.join("a.sock")
    }

    fn address(&self) -> Address {
        Address::unix(self.socket()).unwrap()
    }

    fn open(&self) -> Result<Door, StartError> {
        Door::open(&self.address(), &Allow::default())
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap();
    }
}

/// Why a door could not be opened.
#[track_caller]
fn refused(door: Result<Door, StartError>) -> (std::io::ErrorKind, String) {
    match door.expect_err("it opened") {
        StartError::Listen { address, error } => (error.kind(), format!("{address}: {error}")),
        other => panic!("{other:?}"),
    }
}

fn unix_pair() -> (Transport, Transport) {
    let directory = Directory::new();
    let door = directory.open().unwrap();
    let ours = dial(&directory.address(), &Terms::default(), None).unwrap().transport;
    (ours, door.accept().unwrap().into_transport().unwrap())
}

#[test]
fn sockets_with_a_name_keep_the_contract() {
    contract::check(unix_pair);
}

#[test]
fn tcp_keeps_the_contract_but_for_who_only_stops_receiving() {
    let make = || tcp_pair().unwrap();
    contract::packets_arrive_unchanged(make);
    contract::frames_of_a_packet_keep_together(make);
    contract::what_is_no_frame_does_no_harm(make);
    contract::packets_keep_their_order(make);
    contract::a_full_window_never_blocks(make);
    contract::receiving_ends_at_the_deadline(make);
    contract::a_nudge_wakes_the_receiver(make);
    contract::nudges_merge_and_are_never_lost(make);
    contract::the_end_comes_after_the_packets(make);
    contract::the_halves_work_apart(make);
}

#[test]
fn sending_to_nobody_over_tcp_is_an_error() {
    let (mut ours, theirs) = tcp_pair().unwrap();
    drop(theirs);
    let packet = [&23u32.to_le_bytes()[..], &[0; 23]].concat();
    // The first one finds it out.
    let refused = (0..1000).find_map(|_| ours.sender.send(&packet).err()).expect("somebody still takes it");
    assert!(matches!(refused.kind(), std::io::ErrorKind::BrokenPipe | std::io::ErrorKind::ConnectionReset));
}

#[test]
fn a_socket_is_its_owners_alone_and_goes_with_its_door() {
    let directory = Directory::new();
    let door = directory.open().unwrap();
    assert_eq!(fs::metadata(directory.socket()).unwrap().permissions().mode() & 0o777, 0o600);
    drop(door);
    assert!(!directory.socket().exists());
    let door = Door::open(&directory.address(), &Allow::everybody()).unwrap();
    assert_eq!(fs::metadata(directory.socket()).unwrap().permissions().mode() & 0o777, 0o666);
    drop(door);
    assert!(fs::read_dir(&directory.0).unwrap().next().is_none(), "something is left");
}

#[test]
fn row_41_a_live_socket_is_in_use() {
    let directory = Directory::new();
    let door = directory.open().unwrap();
    let (kind, text) = refused(directory.open());
    assert_eq!(kind, std::io::ErrorKind::AddrInUse);
    assert!(text.contains(directory.socket().to_str().unwrap()), "{text}");
    // It still works, and who knocked is merely gone.
    let mut knock = door.accept().unwrap();
    assert!(matches!(knock.listen(Side::Neck, &Default::default()), Heard::Gone));
    dial(&directory.address(), &Terms::default(), None).unwrap();
    drop(door);

    // Of another program, whatever it speaks, and with nobody who accepts.
    let others = UnixListener::bind(directory.socket()).unwrap();
    assert_eq!(refused(directory.open()).0, std::io::ErrorKind::AddrInUse);
    drop(others);
}

#[test]
fn row_42_a_stale_socket_makes_way() {
    let directory = Directory::new();
    drop(UnixListener::bind(directory.socket()).unwrap());
    assert!(directory.socket().exists());
    drop(directory.open().unwrap());
    assert!(!directory.socket().exists());
}

#[test]
fn row_42_what_is_no_socket_stays() {
    let directory = Directory::new();
    fs::write(directory.socket(), "precious").unwrap();
    let (kind, text) = refused(directory.open());
    assert_eq!(kind, std::io::ErrorKind::AlreadyExists, "{text}");
    assert_eq!(fs::read_to_string(directory.socket()).unwrap(), "precious");

    fs::remove_file(directory.socket()).unwrap();
    drop(UnixListener::bind(directory.0.join("b.sock")).unwrap());
    symlink(directory.0.join("b.sock"), directory.socket()).unwrap();
    assert_eq!(refused(directory.open()).0, std::io::ErrorKind::AlreadyExists);
    fs::create_dir(directory.0.join("c")).unwrap();
    let below = Address::unix(directory.0.join("c")).unwrap();
    assert_eq!(refused(Door::open(&below, &Allow::default())).0, std::io::ErrorKind::AlreadyExists);
}

#[test]
fn row_42_of_many_who_find_a_stale_socket_one_gets_it() {
    for _ in 0..300 {
        let directory = Directory::new();
        drop(UnixListener::bind(directory.socket()).unwrap());
        let barrier = Barrier::new(4);
        let opened: Vec<_> = thread::scope(|scope| {
            let start = || {
                barrier.wait();
                directory.open()
            };
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(start)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        let (won, lost): (Vec<_>, Vec<_>) = opened.into_iter().partition(Result::is_ok);
        assert_eq!(won.len(), 1);
        lost.into_iter().for_each(|door| assert_eq!(refused(door).0, std::io::ErrorKind::AddrInUse));
        // The one that has it is the one that is found.
        let door = won.into_iter().next().unwrap().unwrap();
        while let Ok(knock) = door.accept() {
            drop(knock);
        }
        let _dialed = dial(&directory.address(), &Terms::default(), None).unwrap();
        door.accept().unwrap();
    }
}

#[test]
fn row_42_whoever_has_lost_the_file_leaves_that_of_another_alone() {
    let directory = Directory::new();
    let first = directory.open().unwrap();
    fs::remove_file(directory.socket()).unwrap();
    let _second = directory.open().unwrap();
    drop(first);
    dial(&directory.address(), &Terms::default(), None).unwrap();
}

#[test]
fn row_44_a_directory_must_be_there_and_not_everybodys() {
    let directory = Directory::new();
    let below = directory.0.join("missing/a.sock");
    let (kind, text) = refused(Door::open(&Address::unix(below).unwrap(), &Allow::default()));
    assert_eq!(kind, std::io::ErrorKind::NotFound);
    assert!(text.contains("the directory"), "{text}");

    fs::set_permissions(&directory.0, fs::Permissions::from_mode(0o777)).unwrap();
    let (kind, text) = refused(directory.open());
    assert_eq!(kind, std::io::ErrorKind::PermissionDenied);
    assert!(text.contains("0777") && text.contains("0700"), "{text}");
    // As in the directory for temporary files.
    fs::set_permissions(&directory.0, fs::Permissions::from_mode(0o1777)).unwrap();
    directory.open().unwrap();
}

#[test]
fn only_whom_the_rule_lets_in_is_connected_to() {
    let directory = Directory::new();
    let _door = directory.open().unwrap();
    let me = crate::os::user_id();
    let dial_with = |allow| dial(&directory.address(), &Terms { allow, token: None }, None);
    for allow in [
        Allow::users([me + 1]),
        Allow::users([]),
        Allow::when(|_| false),
        Allow::when(|_| panic!("a panic that is a part of the test")),
    ] {
        let Err(StartError::Connect { error, .. }) = dial_with(allow) else { panic!("it connected") };
        assert_eq!(error.kind(), std::io::ErrorKind::PermissionDenied);
        assert!(error.to_string().contains(&format!("user {me}")), "{error}");
    }
    dial_with(Allow::users([me + 1, me])).unwrap();
    let pid = std::process::id();
    dial_with(Allow::when(move |peer| peer.uid == me && peer.pid == Some(pid))).unwrap();
}

#[test]
fn a_line_that_is_full_is_waited_for_within_the_time() {
    let directory = Directory::new();
    let _door = directory.open().unwrap();
    let mut line = Vec::new();
    let error = loop {
        let deadline = Instant::now() + std::time::Duration::from_millis(50);
        match crate::os::connect_unix(&directory.socket(), Some(deadline)) {
            Ok(socket) => line.push(socket),
            Err(error) => break error,
        }
        assert!(line.len() < 10_000);
    };
    assert_eq!(error.kind(), std::io::ErrorKind::TimedOut, "{error}");
    // And it counts as live.
    assert_eq!(refused(directory.open()).0, std::io::ErrorKind::AddrInUse);
}

/// A door and somebody who has connected to it.
fn visit() -> (Directory, UnixStream, Caller) {
    let directory = Directory::new();
    let door = directory.open().unwrap();
    let visitor = UnixStream::connect(directory.socket()).unwrap();
    let caller = door.accept().unwrap();
    (directory, visitor, caller)
}

fn greeting(side: Side, token: crate::wire::Token) -> Vec<u8> {
    let mut frame = vec![0; crate::wire::HEADER_LEN];
    Hello::ours(side, token).write(&mut frame);
    let (kind, flags, ack) = (crate::wire::Kind::Hello, Default::default(), Default::default());
    crate::wire::Header { kind, flags, id: 0, ack }.write(&mut frame);
    frame
}

#[test]
fn a_greeting_is_heard_byte_by_byte_and_nothing_behind_it() {
    let (_directory, mut visitor, mut caller) = visit();
    let token = Token::random().unwrap();
    let tokens = Token::of_caller(Some(token));
    let expected = Token::of_listener(Some(token)).theirs;
    let frame = greeting(Side::Neck, tokens.ours);
    for byte in &frame[..frame.len() - 1] {
        visitor.write_all(&[*byte]).unwrap();
        assert!(matches!(caller.listen(Side::Neck, &expected), Heard::Part));
    }
    visitor.write_all(&[frame[frame.len() - 1], 1, 2, 3]).unwrap();
    assert!(matches!(caller.listen(Side::Neck, &expected), Heard::Greeting));
    assert_eq!(caller.heard, frame);
    // It comes out of the transport once more, and then what stands behind it.
    let mut transport = caller.into_transport().unwrap();
    let received = transport.receiver.receive(None).unwrap();
    assert_eq!(received, crate::transport::Received::Packet(frame));
}

#[test]
fn d_57_descriptors_that_come_along_are_closed() {
    use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
    let (_directory, visitor, mut caller) = visit();
    let (read, write) = crate::os::pipe().unwrap();
    let frame = greeting(Side::Neck, Default::default());
    let given = [write.as_fd()];
    // One with the greeting, and one with what the link reads.
    let mut transport = None;
    for bytes in [&frame, &frame] {
        let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut along = SendAncillaryBuffer::new(&mut space);
        assert!(along.push(SendAncillaryMessage::ScmRights(&given)));
        let sent = sendmsg(&visitor, &[std::io::IoSlice::new(bytes)], &mut along, SendFlags::empty());
        assert_eq!(sent.unwrap(), bytes.len());
        if transport.is_none() {
            assert!(matches!(caller.listen(Side::Neck, &Default::default()), Heard::Greeting));
            transport = Some(std::mem::replace(&mut caller, visit().2).into_transport().unwrap());
        }
    }
    let mut received = 0;
    while received < 2 * frame.len() {
        match transport.as_mut().unwrap().receiver.receive(None).unwrap() {
            crate::transport::Received::Packet(packet) => received += packet.len(),
            other => panic!("{other:?}"),
        }
    }
    drop(write);
    assert!(crate::os::has_hung_up(read.as_fd()), "somebody here holds the other end of this pipe");
}

#[test]
fn d_04_what_is_no_greeting_is_found_out_at_once() {
    for bytes in [
        &b"GET "[..],
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        &[0; 4],
        &[0xff; 4],
        &[0, 4, 0, 0],
        &[60, 0, 0, 0, 3],
        &[0xff; 100_000],
    ] {
        let (_directory, mut visitor, mut caller) = visit();
        visitor.write_all(bytes).unwrap();
        let heard = caller.listen(Side::Neck, &Default::default());
        assert!(matches!(heard, Heard::Wrong(_)), "{heard:?} after {:?}", &bytes[..4]);
        assert!(!caller.is_nape());
    }
    for (frame, code) in [
        (greeting(Side::Head, Default::default()), 1),
        (greeting(Side::Neck, crate::wire::Token([1; 16])), 5),
    ] {
        let (_directory, mut visitor, mut caller) = visit();
        visitor.write_all(&frame).unwrap();
        let Heard::Wrong(error) = caller.listen(Side::Neck, &Default::default()) else { panic!("{code}") };
        assert!(error.code() == code && caller.is_nape(), "{error}");
        caller.turn_away(code);
        let mut told = Vec::new();
        visitor.read_to_end(&mut told).unwrap();
        assert_eq!(told, [&[22, 0, 0, 0, 14][..], &[0; 19], &[code as u8, 0]].concat());
    }
}

#[test]
fn a_token_goes_through_a_file_that_is_its_owners_alone() {
    let directory = Directory::new();
    let path = directory.0.join("token");
    let token = Token::random().unwrap();
    fs::write(&path, "what was there before").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    assert_eq!(Token::read(&path).unwrap_err().kind(), std::io::ErrorKind::PermissionDenied);
    token.write(&path).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(Token::read(&path).unwrap().reveal(), token.reveal());
    assert_eq!(fs::read_dir(&directory.0).unwrap().count(), 1);
    assert_eq!(token.reveal().len(), 64);
    assert_ne!(token.reveal(), Token::random().unwrap().reveal());
    assert_eq!(format!("{token:?}"), "Token(..)");
    for text in ["", "0", &token.reveal()[1..], &format!("{}0", token.reveal()), &"g".repeat(64)] {
        fs::write(&path, text).unwrap();
        assert_eq!(Token::read(&path).unwrap_err().kind(), std::io::ErrorKind::InvalidData, "{text}");
    }
}

#[test]
fn p_36_what_somebody_else_may_have_written_is_no_secret() {
    let directory = Directory::new();
    let path = directory.0.join("token");
    Token::random().unwrap().write(&path).unwrap();
    let told =
        |path: &PathBuf| Token::read(path).map(|_| ()).map_err(|error| (error.kind(), error.to_string()));
    assert_eq!(told(&path), Ok(()));
    // Only root can give a file away.
    if std::os::unix::fs::chown(&path, Some(54_321), None).is_ok() {
        let (kind, text) = told(&path).unwrap_err();
        assert_eq!(kind, std::io::ErrorKind::PermissionDenied);
        assert!(text.contains("54321") && text.contains(&*path.to_string_lossy()), "{text}");
    }
    // Nobody writes into it, so that whoever waits for a line waits for ever.
    let pipe = directory.0.join("pipe");
    rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR).unwrap();
    for odd in [pipe, directory.0.clone()] {
        let (kind, text) = told(&odd).unwrap_err();
        assert!(kind == std::io::ErrorKind::InvalidInput && text.contains(&*odd.to_string_lossy()), "{text}");
    }
}
