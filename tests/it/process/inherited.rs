//! A child that inherits its end of the wire, and does with it what no Neck does.

use std::{env, io::Write, net::Shutdown, os::unix::net::UnixStream, process, time::Duration};

use nape::{CloseReason, Config, Error, Exit, Head, ProtocolError, StartError, Wire};
use rustix::process::{PidfdFlags, PidfdGetfdFlags, Signal, getpid, kill_process, pidfd_getfd, pidfd_open};

use super::victim;
use crate::{
    raw_end::{EVENT, HELLO, READY, frame, hello},
    support::{HANG, watched},
    tools::until,
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
        "raw-die-within-a-frame" => die_within_a_frame(&mut socket),
        verb => panic!("no such verb: {verb}"),
    }
    victim::park();
}

/// As a good Neck until it has sent half of an event.
fn die_within_a_frame(socket: &mut UnixStream) {
    let mut hello = hello();
    hello[16..32].copy_from_slice(&token());
    let event = frame(EVENT, 1 << 63 | 1, (0, 0), b"\x04noneand more");
    let ready = frame(READY, 0, (0, 0), &[]);
    let sent = [frame(HELLO, 0, (0, 0), &hello), ready, event[..30].to_vec()].concat();
    socket.write_all(&sent).unwrap();
    eprintln!("half an event");
    kill_process(getpid(), Signal::KILL).unwrap();
}

/// What a Neck has to show.
fn token() -> [u8; 16] {
    let invitation = env::var("NAPE_NECK").unwrap();
    let hex = invitation.split(' ').nth(2).unwrap();
    std::array::from_fn(|at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).unwrap())
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

#[test]
fn p_03_a_child_that_dies_within_a_frame_is_quoted_and_not_accused() {
    watched(|| {
        for _ in 0..20 {
            let spawned = Head::builder().wire(Wire::Pipe).spawn(victim::command("raw-die-within-a-frame"));
            let death = match spawned {
                // It may be seen to be ready before it is seen to be dead.
                Ok(head) => {
                    until("its end is seen", || head.close_reason().is_some());
                    let reason = head.close_reason().unwrap();
                    let CloseReason::Died(death) = &*reason else { panic!("{reason:?}") };
                    death.clone()
                }
                Err(Error::Start(StartError::Died { death, .. })) => death,
                Err(error) => panic!("{error:?}"),
            };
            assert_eq!(death.exit, Exit::Signal(9));
            assert!(death.stderr.contains("half an event"), "{death}");
        }
    });
}
