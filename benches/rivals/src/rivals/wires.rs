//! Pipes and sockets of the kernel, and nothing around them.

use std::{
    fs::File,
    io::{Read as _, Write as _},
    os::fd::{AsFd as _, OwnedFd},
    process::Stdio,
};

use rustix::{
    event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll},
    io::dup,
    net::{AddressFamily, SocketFlags, SocketType, socketpair},
    pipe::{PipeFlags, pipe_with},
};
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    codec::{decode, encode_behind},
    contender::{Callee, Pair},
    lane::{self, Lane},
    place::Place,
    roles,
    work::Work,
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
    Pair { body: lane::body(wire, work), callee: Callee::Process(child.expect("this program starts again")) }
}

/// A pair of stream sockets to a child.
pub(crate) fn sockets(name: &str, wait: Wait, place: &Place, work: Work) -> Pair {
    let (ours, theirs) = socket_pair();
    let other = dup(&theirs).expect("a descriptor can be had");
    let mut command = roles::callee(place, name, work);
    let child = command.stdin(Stdio::from(theirs)).stdout(Stdio::from(other)).spawn();
    drop(command);
    let wire = Wire::new(dup(&ours).expect("a descriptor can be had"), ours, wait);
    Pair { body: lane::body(wire, work), callee: Callee::Process(child.expect("this program starts again")) }
}

/// The callee of both: reads from stdin, answers to stdout.
pub(crate) fn serve(wait: Wait, work: Work) {
    let own = |fd: std::os::fd::BorrowedFd<'_>| dup(fd).expect("a descriptor can be had");
    let (requests, answers) = (own(std::io::stdin().as_fd()), own(std::io::stdout().as_fd()));
    lane::answer(Wire::new(requests, answers, wait), work);
}

/// Two stream sockets that are joined.
pub(crate) fn socket_pair() -> (OwnedFd, OwnedFd) {
    socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)
        .expect("sockets can be made")
}

/// Frames over a stream: four bytes of length, and so many bytes.
struct Wire {
    incoming: File,
    outgoing: File,
    wait: Wait,
    /// What could wake the reader; nobody does.
    alarm: OwnedFd,
    /// What was read and not taken yet lies in `inbox[start..end]`.
    inbox: Vec<u8>,
    start: usize,
    end: usize,
    outbox: Vec<u8>,
    bytes: Vec<u8>,
}

impl Wire {
    fn new(incoming: OwnedFd, outgoing: OwnedFd, wait: Wait) -> Wire {
        Wire {
            incoming: incoming.into(),
            outgoing: outgoing.into(),
            wait,
            alarm: eventfd(0, EventfdFlags::CLOEXEC).expect("an eventfd can be made"),
            inbox: vec![0; 64 << 10],
            start: 0,
            end: 0,
            outbox: Vec::new(),
            bytes: Vec::new(),
        }
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

    /// Reads on until there are `n` bytes in the inbox; false at the end.
    fn fill(&mut self, n: usize) -> bool {
        while self.end - self.start < n {
            if self.start > 0 {
                self.inbox.copy_within(self.start..self.end, 0);
                (self.start, self.end) = (0, self.end - self.start);
            }
            self.wait();
            match self.incoming.read(&mut self.inbox[self.end..]) {
                Ok(0) | Err(_) => return false,
                Ok(read) => self.end += read,
            }
        }
        true
    }

    /// The next so many bytes of the inbox, which were filled.
    fn take(&mut self, n: usize) -> &[u8] {
        self.start += n;
        &self.inbox[self.start - n..self.start]
    }

    fn take_length(&mut self) -> Option<usize> {
        if !self.fill(4) {
            return None;
        }
        let length = self.take(4).try_into().expect("four bytes");
        Some(u32::from_le_bytes(length) as usize)
    }

    /// Takes bytes of any length into `self.bytes`: those that are here, then straight from the kernel.
    fn take_bytes(&mut self) -> bool {
        let Some(length) = self.take_length() else { return false };
        self.bytes.resize(length, 0);
        let here = length.min(self.end - self.start);
        self.bytes[..here].copy_from_slice(&self.inbox[self.start..self.start + here]);
        self.start += here;
        let mut at = here;
        while at < length {
            self.wait();
            match self.incoming.read(&mut self.bytes[at..]) {
                Ok(0) | Err(_) => return false,
                Ok(read) => at += read,
            }
        }
        true
    }
}

impl<Out: Serialize, In: DeserializeOwned> Lane<Out, In> for Wire {
    fn send(&mut self, message: Out) -> bool {
        self.outbox.clear();
        self.outbox.extend([0; 4]);
        encode_behind(&message, &mut self.outbox);
        let length = (self.outbox.len() - 4) as u32;
        self.outbox[..4].copy_from_slice(&length.to_le_bytes());
        self.outgoing.write_all(&self.outbox).is_ok()
    }

    fn receive(&mut self) -> Option<In> {
        let length = self.take_length()?;
        if !self.fill(length) {
            return None;
        }
        Some(decode(self.take(length)))
    }

    fn send_bytes(&mut self, bytes: &[u8]) -> bool {
        let length = (bytes.len() as u32).to_le_bytes();
        self.outgoing.write_all(&length).and_then(|()| self.outgoing.write_all(bytes)).is_ok()
    }

    fn receive_bytes(&mut self, show: &dyn Fn(&[u8])) -> bool {
        let came = self.take_bytes();
        if came {
            show(&self.bytes);
        }
        came
    }

    fn echo_bytes(&mut self) -> bool {
        if !self.take_bytes() {
            return false;
        }
        let bytes = std::mem::take(&mut self.bytes);
        let sent = <Wire as Lane<Out, In>>::send_bytes(self, &bytes);
        self.bytes = bytes;
        sent
    }
}
