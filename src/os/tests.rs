//! What the calls promise, tried on pipes and events. Processes are tried by the layer above.

use std::{
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use super::{poll::MOST_WAITED_FOR, *};

const LONG: Option<Duration> = Some(Duration::from_secs(30));

#[test]
fn a_wakeup_lasts_until_it_is_drained() {
    let wakeup = Wakeup::new().unwrap();
    assert!(!is_readable(wakeup.as_fd()));
    wakeup.wake();
    wakeup.wake();
    assert!(is_readable(wakeup.as_fd()));
    wakeup.drain();
    assert!(!is_readable(wakeup.as_fd()));
    wakeup.drain();
}

#[test]
fn a_wakeup_ends_a_wait_in_another_thread() {
    let wakeup = Arc::new(Wakeup::new().unwrap());
    let other = wakeup.clone();
    let waiter = thread::spawn(move || wait_readable(&[other.as_fd()], LONG).unwrap());
    wakeup.wake();
    assert!(waiter.join().unwrap().contains(0));
}

#[test]
fn a_wait_names_the_descriptors_that_are_ready() {
    let events: Vec<Wakeup> = (0..MOST_WAITED_FOR).map(|_| Wakeup::new().unwrap()).collect();
    events[3].wake();
    events[MOST_WAITED_FOR - 1].wake();
    let fds: Vec<BorrowedFd<'_>> = events.iter().map(AsFd::as_fd).collect();
    let ready = wait_readable(&fds, LONG).unwrap();
    let places: Vec<usize> = (0..=MOST_WAITED_FOR).filter(|&place| ready.contains(place)).collect();
    assert_eq!(places, [3, MOST_WAITED_FOR - 1]);
}

#[test]
fn too_many_descriptors_are_refused() {
    let event = Wakeup::new().unwrap();
    let fds = vec![event.as_fd(); MOST_WAITED_FOR + 1];
    assert_eq!(wait_readable(&fds, LONG).unwrap_err().kind(), io::ErrorKind::InvalidInput);
}

#[test]
fn no_wait_ends_before_its_time() {
    let event = Wakeup::new().unwrap();
    for limit in [0, 1, 999_999, 1_000_001, 20_000_000].map(Duration::from_nanos) {
        for fds in [&[event.as_fd()][..], &[]] {
            let start = Instant::now();
            assert!(!wait_readable(fds, Some(limit)).unwrap().any());
            assert!(start.elapsed() >= limit);
        }
    }
}

#[test]
fn a_time_without_end_is_no_error() {
    let event = Wakeup::new().unwrap();
    event.wake();
    assert!(wait_readable(&[event.as_fd()], Some(Duration::MAX)).unwrap().any());
    assert!(wait_readable(&[event.as_fd()], None).unwrap().any());
}

#[test]
fn the_end_of_a_pipe_is_seen_and_waited_for() {
    let (read, write) = pipe().unwrap();
    assert!(!has_hung_up(read.as_fd()));
    drop(write);
    assert!(wait_readable(&[read.as_fd()], LONG).unwrap().contains(0));
    assert!(has_hung_up(read.as_fd()));
    assert_eq!(read_some(read.as_fd(), &mut [0; 8]).unwrap(), 0);
}

#[test]
fn a_full_pipe_takes_nothing_and_neither_does_a_broken_one() {
    let (read, write) = pipe().unwrap();
    set_nonblocking(read.as_fd()).unwrap();
    let mut written = 0;
    while can_take(write.as_fd()) {
        written += write_some(write.as_fd(), &[0; 4096]).unwrap();
    }
    assert!(written >= 4096);
    while read_some(read.as_fd(), &mut [0; 4096]).is_ok_and(|len| len > 0) {}
    assert!(can_take(write.as_fd()));
    drop(read);
    assert!(!can_take(write.as_fd()));
}

/// Red where it is a plain write, which waits until somebody reads.
#[test]
#[cfg(all(target_os = "linux", not(nape_portable)))]
fn what_another_writer_has_taken_is_not_waited_for() {
    let (_read, write) = pipe().unwrap();
    let (told, hear) = crossbeam_channel::bounded(1);
    thread::spawn(move || {
        let piece = [0; 4096];
        while super::imp::write_at_once(write.as_fd(), &piece).is_ok_and(|len| len > 0) {}
        told.send(()).unwrap();
    });
    hear.recv_timeout(Duration::from_secs(30)).expect("it waits in the write");
}

#[test]
fn an_empty_pipe_does_not_block_once_told_so() {
    let (read, _write) = pipe().unwrap();
    set_nonblocking(read.as_fd()).unwrap();
    assert_eq!(read_some(read.as_fd(), &mut [0; 8]).unwrap_err().kind(), io::ErrorKind::WouldBlock);
}

#[test]
fn the_identity_is_that_of_the_file_and_not_of_the_number() {
    let (read, write) = pipe().unwrap();
    let (other, _write) = pipe().unwrap();
    let again = read.try_clone().unwrap();
    assert_ne!(read.as_raw_fd(), again.as_raw_fd());
    assert_eq!(identity(read.as_fd()).unwrap(), identity(again.as_fd()).unwrap());
    assert_eq!(identity(read.as_fd()).unwrap(), identity(write.as_fd()).unwrap());
    assert_ne!(identity(read.as_fd()).unwrap(), identity(other.as_fd()).unwrap());
}

#[test]
fn a_descriptor_that_is_not_what_was_meant_is_not_taken() {
    let (read, _write) = pipe().unwrap();
    let (other, _write) = pipe().unwrap();
    let id = identity(read.as_fd()).unwrap();
    for number in [-1, 0, 2, other.as_raw_fd(), i32::MAX] {
        assert!(take_inherited([(number, id)]).is_err(), "{number}");
    }
    let twice = [(read.as_raw_fd(), id), (read.as_raw_fd(), id)];
    assert!(take_inherited(twice).unwrap_err().contains("twice"));
}

#[test]
fn a_stream_ends_behind_what_was_sent() {
    let (left, right) = stream_pair().unwrap();
    assert_eq!(
        receive_some(right.as_fd(), &mut Vec::with_capacity(8)).unwrap_err().kind(),
        io::ErrorKind::WouldBlock
    );
    assert_eq!(send_some(left.as_fd(), b"words").unwrap(), 5);
    stop_sending(left.as_fd());
    let mut buffer = b"in ".to_vec();
    buffer.reserve_exact(8);
    assert_eq!(receive_some(right.as_fd(), &mut buffer).unwrap(), 5);
    assert_eq!(receive_some(right.as_fd(), &mut buffer).unwrap(), 0);
    assert_eq!(buffer, b"in words");
    stop_receiving(left.as_fd());
    assert_eq!(send_some(right.as_fd(), b"x").unwrap_err().kind(), io::ErrorKind::BrokenPipe);
}

#[test]
fn a_full_stream_is_waited_for_no_longer_than_it_should() {
    let (left, right) = stream_pair().unwrap();
    assert!(make_room(left.as_fd(), 100_000).unwrap() >= 100_000);
    while send_some(left.as_fd(), &[0; 4096]).is_ok() {}
    let deadline = Instant::now() + Duration::from_millis(20);
    assert!(!wait_writable_until(left.as_fd(), Some(deadline)).unwrap());
    assert!(Instant::now() >= deadline);
    while receive_some(right.as_fd(), &mut Vec::with_capacity(4096)).is_ok() {}
    assert!(wait_writable_until(left.as_fd(), None).unwrap());
}

#[test]
fn tokens_differ() {
    assert_ne!(random_token().unwrap(), random_token().unwrap());
}

#[test]
fn nobody_answers_a_knock_at_a_dead_name() {
    assert!(knock("/nonexistent/socket").is_err());
    assert!(knock(&"x".repeat(200)).is_err());
}
