//! The stream by hand: bytes in any portions, a peer that lies, and a peer that dies.

use std::{
    io::{IoSlice, Write},
    mem::MaybeUninit,
    os::{fd::AsFd, unix::net::UnixStream},
    thread,
};

use proptest::prelude::*;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};

use super::*;
use crate::transport::contract::leaves_what_has_no_room;

/// A receiver whose other end writes bytes.
fn raw() -> (UnixStream, Transport) {
    let (theirs, ours) = PipeEnd::pair().unwrap();
    (UnixStream::from(OwnedFd::from(theirs)), ours.into_transport().unwrap())
}

fn frame(len: usize, fill: u8) -> Vec<u8> {
    let mut frame = vec![fill; len];
    frame[..4].copy_from_slice(&(len as u32 - 4).to_le_bytes());
    frame
}

/// All frames that are there, one after the other.
fn hear(transport: &mut Transport) -> Vec<u8> {
    let mut heard = Vec::new();
    while let Some(Received::Packet(packet)) = transport.receiver.try_receive().unwrap() {
        assert_eq!(whole_frames(&packet), packet.len(), "a part of a frame");
        heard.extend(packet);
    }
    heard
}

fn soon() -> Option<Instant> {
    Some(Instant::now() + Duration::from_millis(1))
}

fn session() -> Vec<u8> {
    [24, 59, 24, 100, 300, 24, 26].iter().zip(1..).flat_map(|(len, fill)| frame(*len, fill)).collect()
}

/// Red when what has come is handed out whole or not.
#[test]
fn p_21_every_cut_arrives_the_same() {
    let session = session();
    for cut in 0..=session.len() {
        let (mut peer, mut ours) = raw();
        peer.write_all(&session[..cut]).unwrap();
        let mut heard = hear(&mut ours);
        assert_eq!(heard.len(), whole_frames(&session[..cut]), "what is whole is there at once");
        // A part of a frame is no reason to come back.
        assert_eq!(ours.receiver.receive(soon()).unwrap(), Received::Deadline);
        peer.write_all(&session[cut..]).unwrap();
        heard.extend(hear(&mut ours));
        assert!(heard == session, "cut at {cut}");
    }
}

#[test]
fn p_21_one_byte_at_a_time_arrives_the_same() {
    let session = session();
    let (mut peer, mut ours) = raw();
    let mut heard = Vec::new();
    for byte in &session {
        peer.write_all(&[*byte]).unwrap();
        heard.extend(hear(&mut ours));
    }
    assert!(heard == session);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64 * crate::soak::rounds(1) as u32))]

    #[test]
    fn p_21_any_portions_arrive_the_same(
        sizes in prop::collection::vec(24usize..30_000, 1..12),
        portions in prop::collection::vec(1usize..70_000, 1..12),
    ) {
        let sent: Vec<u8> = sizes.iter().zip(1..).flat_map(|(len, fill)| frame(*len, fill)).collect();
        let (mut peer, mut ours) = raw();
        let (mut rest, mut heard) = (&sent[..], Vec::new());
        for portion in portions.into_iter().cycle() {
            let (now, later) = rest.split_at(portion.min(rest.len()));
            peer.write_all(now).unwrap();
            heard.extend(hear(&mut ours));
            rest = later;
            if rest.is_empty() {
                break;
            }
        }
        prop_assert!(heard == sent);
    }
}

/// Over a socket with the least room that there is, and over pipes of one page.
#[test]
fn p_21_writes_of_a_part_go_on_where_they_ended() {
    let (theirs, ours) = PipeEnd::pair().unwrap();
    os::make_room(ours.0.as_fd(), 1).unwrap();
    in_parts(theirs.into_transport().unwrap(), ours.into_transport().unwrap());
    #[cfg(target_os = "linux")]
    {
        let ((from_ours, to_theirs), (from_theirs, to_ours)) = (os::pipe().unwrap(), os::pipe().unwrap());
        let narrow = to_theirs.try_clone().unwrap();
        let theirs = pipe_over(from_ours, to_ours).unwrap();
        let ours = pipe_over(from_theirs, to_theirs).unwrap();
        // Not before, since who makes a link over a pipe asks for more.
        assert_eq!(rustix::pipe::fcntl_setpipe_size(&narrow, 4096).unwrap(), 4096);
        in_parts(theirs, ours);
    }
}

/// Red when what a pipe can be given counts: the other end may get more, or less, and each blames the other then.
#[cfg(unix)]
#[test]
fn the_window_over_a_pipe_depends_on_nothing_that_one_end_alone_knows() {
    let ((from_ours, to_theirs), (from_theirs, to_ours)) = (os::pipe().unwrap(), os::pipe().unwrap());
    let ours = pipe_over(from_theirs, to_theirs).unwrap();
    let theirs = pipe_over(from_ours, to_ours).unwrap();
    assert_eq!((ours.window, theirs.window), (NARROW, NARROW));
    let (to_them, _from_us) = UnixStream::pair().unwrap();
    let (from_them, _to_us) = os::pipe().unwrap();
    assert_eq!(pipe_over(from_them, to_them.into()).unwrap().window, NARROW);
}

fn in_parts(mut theirs: Transport, mut ours: Transport) {
    let frames = [frame(FRAME_LIMIT, 1), frame(100, 2), frame(50_000, 3)];
    let sent = frames.clone();
    let sender = thread::spawn(move || sent.iter().for_each(|frame| ours.sender.send(frame).unwrap()));
    let mut heard = Vec::new();
    while heard.len() < frames.concat().len() {
        let Received::Packet(packet) = theirs.receiver.receive(None).unwrap() else { panic!() };
        heard.extend(packet);
    }
    sender.join().unwrap();
    assert!(heard == frames.concat());
}

/// As soon as the length is there, however it comes; with what is behind it, so that the link sees it.
#[test]
fn d_14_to_d_18_a_length_that_cannot_be_is_not_waited_for() {
    for len in [u32::MAX, FRAME_LIMIT as u32 - 3, 0, 19] {
        let (mut peer, mut ours) = raw();
        peer.write_all(&frame(30, 1)).unwrap();
        for byte in len.to_le_bytes() {
            peer.write_all(&[byte]).unwrap();
        }
        let expected = [frame(30, 1), len.to_le_bytes().to_vec()].concat();
        assert_eq!(ours.receiver.receive(None).unwrap(), Received::Packet(expected));
    }
}

#[test]
fn d_16_the_most_and_nothing_of_it_is_waited_for_and_the_rest_is_not_made_up() {
    let (mut peer, mut ours) = raw();
    let most = frame(FRAME_LIMIT, 7);
    peer.write_all(&most[..4]).unwrap();
    assert_eq!(ours.receiver.receive(soon()).unwrap(), Received::Deadline);
    peer.write_all(&most[4..]).unwrap();
    assert_eq!(ours.receiver.receive(None).unwrap(), Received::Packet(most));
}

#[test]
fn d_66_a_frame_that_never_gets_whole_is_an_error() {
    let (theirs, ours) = PipeEnd::pair().unwrap();
    let mut peer = UnixStream::from(OwnedFd::from(theirs));
    let mut ours = PipeReceiver::new(Half::Socket(Arc::new(ours.0)), Arc::new(Wakeup::new().unwrap()));
    peer.write_all(&frame(24, 1)).unwrap();
    peer.write_all(&frame(24, 2)[..7]).unwrap();
    assert_eq!(ours.receive(None).unwrap(), Received::Packet(frame(24, 1)));
    let due = ours.due.expect("it is waited for");
    // A byte more now and then changes nothing.
    peer.write_all(&frame(24, 2)[7..8]).unwrap();
    assert_eq!(ours.receive(soon()).unwrap(), Received::Deadline);
    assert_eq!(ours.due, Some(due));
    ours.due = Some(Instant::now());
    assert_eq!(ours.receive(None).unwrap_err().kind(), ErrorKind::TimedOut);
    // Should the rest be there in the last moment, all is well, and the next frame has its own time.
    peer.write_all(&frame(24, 2)[8..]).unwrap();
    assert_eq!(ours.receive(None).unwrap(), Received::Packet(frame(24, 2)));
    assert_eq!(ours.due, None);
}

#[test]
fn a_torn_frame_is_dropped_and_the_end_comes() {
    for rest in [1, 23, 50] {
        let (mut peer, mut ours) = raw();
        peer.write_all(&[frame(40, 1), frame(60, 2)[..rest].to_vec()].concat()).unwrap();
        drop(peer);
        assert_eq!(ours.receiver.receive(None).unwrap(), Received::Packet(frame(40, 1)));
        assert_eq!(ours.receiver.receive(None).unwrap(), Received::End);
        assert_eq!(ours.receiver.receive(None).unwrap(), Received::End, "and stays");
    }
}

#[test]
fn p_03_what_was_sent_is_read_before_the_reset_of_a_peer_that_left_something_unread() {
    let (mut peer, mut ours) = raw();
    ours.sender.send(&frame(100, 1)).unwrap();
    let sent: Vec<u8> = (1..=5).flat_map(|fill| frame(20_000, fill)).collect();
    peer.write_all(&sent).unwrap();
    drop(peer);
    let mut heard = Vec::new();
    while let Received::Packet(packet) = ours.receiver.receive(None).unwrap() {
        heard.extend(packet);
    }
    assert!(heard == sent);
    ours.sender.send(&frame(100, 1)).unwrap_err();
}

/// One at a time and as many as go: the frame counts, and no descriptor comes in.
#[test]
fn d_57_d_58_p_38_descriptors_that_come_along_are_closed() {
    let (peer, mut ours) = raw();
    let (read, write) = os::pipe().unwrap();
    let given = [write.as_fd()];
    for number in 0..10u8 {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut along = SendAncillaryBuffer::new(&mut space);
        assert!(along.push(SendAncillaryMessage::ScmRights(&given)));
        let frame = frame(24, number);
        sendmsg(&peer, &[IoSlice::new(&frame)], &mut along, SendFlags::empty()).unwrap();
        assert_eq!(ours.receiver.receive(None).unwrap(), Received::Packet(frame));
    }
    let many = [write.as_fd(); 253];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(253))];
    let mut along = SendAncillaryBuffer::new(&mut space);
    assert!(along.push(SendAncillaryMessage::ScmRights(&many)));
    sendmsg(&peer, &[IoSlice::new(&frame(24, 0))], &mut along, SendFlags::empty()).unwrap();
    assert_eq!(ours.receiver.receive(None).unwrap(), Received::Packet(frame(24, 0)));
    drop(write);
    assert!(os::has_hung_up(read.as_fd()), "nobody else holds the other end of this pipe");
}

#[test]
fn p_17_whoever_does_not_read_and_says_so_holds_no_sender_for_ever() {
    let (_peer, ours) = PipeEnd::pair().unwrap();
    let patience = Duration::from_millis(100);
    let mut sender = PipeSender { to: Half::Socket(Arc::new(ours.0)), patience, rest: Vec::new(), due: None };
    let (mut begin, mut end) = (Instant::now(), Ok(()));
    while end.is_ok() {
        begin = Instant::now();
        end = sender.send(&frame(FRAME_LIMIT, 1));
    }
    assert_eq!(end.unwrap_err().kind(), ErrorKind::TimedOut);
    assert!(begin.elapsed() >= patience && begin.elapsed() < 5 * patience, "{:?}", begin.elapsed());
}

/// Red when whoever sends waits for a peer that does not read.
#[test]
fn p_04_what_has_no_room_is_left_and_goes_later() {
    leaves_what_has_no_room(pipe_pair().unwrap());
}

/// Nothing waits for room, whatever the sizes of the frames: the sums at [`WINDOW`] are right.
#[test]
fn a_full_window_has_room_whatever_it_consists_of() {
    let sizes = [24, 192, 193, 200, 704, 705, 720, 1000, 1728, 1729, 1800, 3776, 3777, 4100, 8000, 20_000];
    for (one, other) in sizes.iter().flat_map(|one| sizes.map(|other| (*one, other))) {
        let (_theirs, ours) = PipeEnd::pair().unwrap();
        let (mut frames, mut bytes) = (0, 0);
        // As many of the larger ones as the bytes allow.
        while frames < WINDOW.frames as usize && bytes < WINDOW.bytes as usize {
            let left = (WINDOW.frames as usize - frames - 1) * one;
            let small = bytes + other + left >= WINDOW.bytes as usize;
            let last = frames + 1 == WINDOW.frames as usize || bytes + one >= WINDOW.bytes as usize;
            let len = if last {
                FRAME_LIMIT
            } else if small {
                one
            } else {
                other
            };
            fits(&ours, len);
            (frames, bytes) = (frames + 1, bytes + len);
        }
        (0..8).for_each(|_| fits(&ours, 320));
    }
    for len in [FRAME_LIMIT - 20_000, FRAME_LIMIT - 4096, FRAME_LIMIT - 1, FRAME_LIMIT] {
        let (_theirs, ours) = PipeEnd::pair().unwrap();
        (0..WINDOW.large).for_each(|_| fits(&ours, len));
        (0..8).for_each(|_| fits(&ours, 320));
    }
}

#[track_caller]
fn fits(end: &PipeEnd, len: usize) {
    let sent = os::send_some(end.0.as_fd(), &vec![0; len]);
    assert_eq!(sent.expect("there is room"), len);
}
