//! A child that somebody else started, over the pipes that are its standard streams.

use std::{
    fs::File,
    io::{self, Read, Write},
    os::fd::{AsFd, OwnedFd},
    process::Stdio,
    thread,
    time::Duration,
};

use nape::{CallError, CloseReason, Context, Fault, Head, Neck, transport::pipe_over};

use super::victim;
use crate::support::{HANG, watched};

/// What the child does: it reads its standard input, and writes to its standard error, since the harness that it
/// runs in prints to its standard output.
pub(crate) fn serve() {
    let own = |fd: &dyn AsFd| fd.as_fd().try_clone_to_owned().unwrap();
    let transport = pipe_over(own(&io::stdin()), own(&io::stderr())).unwrap();
    Neck::builder().serve(victim::api()).over(transport).unwrap().run().unwrap();
}

#[test]
fn a_child_is_spoken_to_over_its_standard_streams() {
    watched(|| {
        let mut command = victim::command("over-standard");
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let (reader, writer) = (child.stderr.take().unwrap(), child.stdin.take().unwrap());
        let head = Head::builder().over(pipe_over(reader.into(), writer.into()).unwrap()).unwrap();
        let child_id: u32 = head.api("victim").action("pid", ()).call().unwrap();
        assert_eq!(child_id, child.id());
        child.kill().unwrap();
        let end = head.api("victim").action("pid", ()).timeout(HANG).call::<u32>().unwrap_err();
        assert!(
            matches!(&end, CallError::Closed { reason, .. } if matches!(**reason, CloseReason::Gone)),
            "{end}"
        );
        child.wait().unwrap();
    });
}

#[test]
fn p_14_large_values_go_both_ways_through_pipes() {
    watched(|| {
        let ((their_in, our_out), (our_in, their_out)) = (io::pipe().unwrap(), io::pipe().unwrap());
        let neck = Neck::builder().over(pipe_over(their_in.into(), their_out.into()).unwrap()).unwrap();
        let echo = |_: &Context, text: String| Ok::<_, Fault>(text);
        let neck = neck.serve(nape::Api::new("pipes").handle("echo", echo).unwrap()).unwrap().start();
        let head = Head::builder().over(pipe_over(our_in.into(), our_out.into()).unwrap()).unwrap();
        thread::scope(|scope| {
            for fill in ["a", "b", "c"] {
                let pipes = head.api("pipes");
                scope.spawn(move || {
                    let text = fill.repeat(3 << 20);
                    assert!(pipes.action("echo", text.clone()).call::<String>().unwrap() == text);
                });
            }
        });
        drop(neck);
    });
}

#[test]
fn p_04_a_call_to_a_pipe_that_nobody_reads_ends_in_time() {
    watched(|| {
        let ((_their_in, our_out), (our_in, _their_out)) = (io::pipe().unwrap(), io::pipe().unwrap());
        let head = Head::builder().over(pipe_over(our_in.into(), our_out.into()).unwrap()).unwrap();
        let call = head.api("nobody").action("at-home", ()).timeout(Duration::from_millis(50));
        let end = call.call::<()>().unwrap_err();
        assert!(matches!(end, CallError::TimedOut { .. }), "{end}");
    });
}

#[test]
fn what_is_no_stream_is_refused() {
    let file = || OwnedFd::from(File::open(std::env::current_exe().unwrap()).unwrap());
    let (pipe, _other) = io::pipe().unwrap();
    let refused = pipe_over(pipe.into(), file()).unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::InvalidInput);
    let datagrams = std::os::unix::net::UnixDatagram::unbound().unwrap();
    assert_eq!(pipe_over(datagrams.into(), file()).unwrap_err().kind(), io::ErrorKind::InvalidInput);
}

#[test]
fn what_is_no_greeting_ends_the_link() {
    watched(|| {
        let ((mut their_in, our_out), (our_in, mut their_out)) = (io::pipe().unwrap(), io::pipe().unwrap());
        their_out.write_all(b"Welcome to the shell!\n").unwrap();
        let head = Head::builder().over(pipe_over(our_in.into(), our_out.into()).unwrap()).unwrap();
        let end = head.api("nobody").action("at-home", ()).timeout(HANG).call::<()>().unwrap_err();
        assert!(
            matches!(&end, CallError::Closed { reason, .. }
            if matches!(**reason, CloseReason::Protocol(_))),
            "{end}"
        );
        // Whoever reads the other end sees the end.
        their_in.read_to_end(&mut Vec::new()).unwrap();
    });
}
