//! A child that inherits its end of the wire, and does with it what no Neck does.

use std::{env, io::Write, net::Shutdown, os::unix::net::UnixStream, process, time::Duration};

use nape::{CloseReason, Config, Error, Exit, Head, ProtocolError, StartError, Wire};
use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};

use super::victim;
use crate::{
    raw_end::{HELLO, READY, frame, hello},
    support::{HANG, watched},
};

/// What the child does, in the process that was started for it.
pub(super) fn play(verb: &str) {
    let mut socket = socket();
    match verb {
        "raw-hang-up" => socket.shutdown(Shutdown::Both).unwrap(),
        "raw-hang-up-and-exit" => {
            socket.shutdown(Shutdown::Both).unwrap();
            std::thread::sleep(Duration::from_millis(20));
            process::exit(3);
        }
        "raw-garbage" => socket.write_all(b"GET / HTTP/1.1\r\n").unwrap(),
        "raw-half-a-hello" => socket.write_all(&frame(HELLO, 0, (0, 0), &hello())[..40]).unwrap(),
        "raw-wrong-token" => socket.write_all(&frame(HELLO, 0, (0, 0), &hello())).unwrap(),
        "raw-echo" => drop(std::io::copy(&mut socket.try_clone().unwrap(), &mut socket)),
        "raw-call-first" => socket.write_all(&frame(READY, 0, (0, 0), &[])).unwrap(),
        verb => panic!("no such verb: {verb}"),
    }
    victim::park();
}

/// What it was handed. The original stays open beside it.
fn socket() -> UnixStream {
    let invitation = env::var("NAPE_NECK").unwrap();
    let number = invitation.split(' ').nth(5).unwrap().split(':').next().unwrap().parse().unwrap();
    let this = pidfd_open(getpid(), PidfdFlags::empty()).unwrap();
    let copy = UnixStream::from(pidfd_getfd(&this, number, PidfdGetfdFlags::empty()).unwrap());
    copy.set_nonblocking(false).unwrap();
    copy
}

fn start(verb: &str, limit: Duration) -> StartError {
    let builder = Head::builder().wire(Wire::Pipe).config(Config::new().start_timeout(limit));
    let Error::Start(error) = builder.spawn(victim::command(verb)).unwrap_err() else { panic!("{verb}") };
    error
}

#[track_caller]
fn refused(verb: &str) -> ProtocolError {
    let StartError::Refused { reason, .. } = start(verb, HANG) else { panic!("{verb} is not refused") };
    let CloseReason::Protocol(error) = &*reason else { panic!("{verb}: {reason:?}") };
    error.clone()
}

#[test]
fn p_22_a_child_that_is_no_neck_is_refused_with_the_rule_that_it_broke() {
    watched(|| {
        assert_eq!(refused("raw-hang-up"), ProtocolError::ClosedBeforeHello);
        assert_eq!(refused("raw-wrong-token"), ProtocolError::AuthFailed);
        assert!(matches!(refused("raw-garbage"), ProtocolError::NotAPeer { .. }));
        assert!(matches!(refused("raw-echo"), ProtocolError::NotAPeer { .. }));
        assert!(matches!(refused("raw-call-first"), ProtocolError::BadHello(_)));
    });
}

#[test]
fn p_22_a_child_that_hangs_up_and_ends_is_quoted() {
    watched(|| {
        let StartError::Died { death, .. } = start("raw-hang-up-and-exit", HANG) else { panic!("it died") };
        assert_eq!(death.exit, Exit::Code(3));
    });
}

#[test]
fn p_22_half_a_hello_has_the_time_of_a_start_and_no_more() {
    watched(|| {
        let error = start("raw-half-a-hello", Duration::from_secs(2));
        let StartError::TimedOut { state, .. } = error else { panic!("{error:?}") };
        assert_eq!(state, "it never connected");
    });
}
