//! Pipes and sockets of the kernel, and nothing around them.

use std::{
    fs::File,
    io::{Read as _, Write as _},
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
    process::Stdio,
};

use crate::{
    contender::{Callee, Pair},
    frames::{Frames, Stream},
    lane,
    place::Place,
    roles,
    work::Work,
};
use rustix::{
    event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll},
    io::dup,
    net::{AddressFamily, SocketFlags, SocketType, socketpair},
    pipe::{PipeFlags, pipe_with},
};

/// How a reader waits.
#[derive(Clone, Copy)]
pub(crate) enum Wait {
    /// In the read itself.
    Blocking,
    /// On the descriptor and on another that could wake it, with a deadline: as nape has to.
    Polling,
}

/// Two pipes to a child.
pub(crate) fn pipes(name: &str, wait: Wait, place: &Place, work: Work) -> Pair {
    let (requests, to_callee) = pipe_with(PipeFlags::CLOEXEC).expect("a pipe can be made");
    let (from_callee, answers) = pipe_with(PipeFlags::CLOEXEC).expect("a pipe can be made");
    let mut command = roles::callee(place, name, work);
    let child = command.stdin(Stdio::from(requests)).stdout(Stdio::from(answers)).spawn();
    drop(command); // It holds the callee's ends, too.
    let wire = Wire::new(from_callee, to_callee, wait);
    Pair {
        body: lane::body(Frames::over(wire), work),
        callee: Callee::Process(child.expect("this program starts again")),
    }
}

/// A pair of stream sockets to a child.
pub(crate) fn sockets(name: &str, wait: Wait, place: &Place, work: Work) -> Pair {
    let (ours, theirs) = socket_pair();
    let other = dup(&theirs).expect("a descriptor can be had");
    let mut command = roles::callee(place, name, work);
    let child = command.stdin(Stdio::from(theirs)).stdout(Stdio::from(other)).spawn();
    drop(command);
    let wire = Wire::new(dup(&ours).expect("a descriptor can be had"), ours, wait);
    Pair {
        body: lane::body(Frames::over(wire), work),
        callee: Callee::Process(child.expect("this program starts again")),
    }
}

/// The callee of both: reads from stdin, answers to stdout.
pub(crate) fn serve(wait: Wait, work: Work) {
    let own = |fd: BorrowedFd<'_>| dup(fd).expect("a descriptor can be had");
    let (requests, answers) = (own(std::io::stdin().as_fd()), own(std::io::stdout().as_fd()));
    lane::answer(Frames::over(Wire::new(requests, answers, wait)), work);
}

/// Two stream sockets that are joined.
pub(crate) fn socket_pair() -> (OwnedFd, OwnedFd) {
    socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)
        .expect("sockets can be made")
}

/// The ends of what the kernel provides.
struct Wire {
    incoming: File,
    outgoing: File,
    wait: Wait,
    /// What could wake the reader; nobody does.
    alarm: OwnedFd,
}

impl Wire {
    fn new(incoming: OwnedFd, outgoing: OwnedFd, wait: Wait) -> Wire {
        let alarm = eventfd(0, EventfdFlags::CLOEXEC).expect("an eventfd can be made");
        Wire { incoming: incoming.into(), outgoing: outgoing.into(), wait, alarm }
    }

    /// Waits for bytes as it is told to.
    fn wait(&self) {
        if let Wait::Polling = self.wait {
            let mut both =
                [PollFd::new(&self.incoming, PollFlags::IN), PollFd::new(&self.alarm, PollFlags::IN)];
            let limit = Timespec { tv_sec: 30, tv_nsec: 0 };
            let ready = poll(&mut both, Some(&limit)).expect("descriptors can be polled");
            assert!(ready > 0, "the other end answers within half a minute");
        }
    }
}

impl Stream for Wire {
    fn read(&mut self, into: &mut [u8]) -> usize {
        self.wait();
        // An error is the end, too: the other side may have gone with bytes unread.
        self.incoming.read(into).unwrap_or(0)
    }

    fn write(&mut self, bytes: &[u8]) -> bool {
        self.outgoing.write_all(bytes).is_ok()
    }
}
