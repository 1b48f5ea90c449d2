//! What there is without nape: a pair of stream sockets, one end of which is the callee's stdin.

use std::{
    io::{self, Read, Write},
    os::{fd::OwnedFd, unix::net::UnixStream},
    process::Stdio,
    time::{Duration, Instant},
};

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};

use crate::{
    bare::{decode, encode},
    contender::{Args, Callee, Pair},
    place::Place,
};

/// Both sides wait with a deadline and for somebody who wants them to stop, as nape has to.
pub(crate) fn bare(place: &Place) -> Pair {
    pair(place, "bare socket A", |socket| Box::new(Polled::new(socket)))
}

/// The callee of [`bare`].
pub(crate) fn serve_bare(_: &[String]) {
    answer(Polled::new(inherited()));
}

/// Both sides block in their reads.
pub(crate) fn raw(place: &Place) -> Pair {
    pair(place, "raw socket", |socket| Box::new(socket))
}

/// The callee of [`raw`].
pub(crate) fn serve_raw(_: &[String]) {
    answer(inherited());
}

/// A stream of messages, each of which comes at one go.
trait Wire: Read + Write {}

impl<T: Read + Write> Wire for T {}

fn pair(place: &Place, name: &str, wrap: fn(UnixStream) -> Box<dyn Wire>) -> Pair {
    let (ours, theirs) = UnixStream::pair().expect("sockets can be made");
    let child = place.callee(name).stdin(Stdio::from(OwnedFd::from(theirs))).spawn();
    let mut wire = wrap(ours);
    let (mut packet, mut buffer) = (Vec::new(), [0; 4096]);
    let call = move |i| {
        encode(&Args::number(i), &mut packet);
        wire.write_all(&packet).expect("the callee is there");
        let len = wire.read(&mut buffer).expect("the callee answers");
        decode(&buffer[..len])
    };
    Pair::new(call, Callee::Process(child.expect("this program can be started again")))
}

fn inherited() -> UnixStream {
    let stdin = std::os::fd::AsFd::as_fd(&io::stdin()).try_clone_to_owned();
    UnixStream::from(stdin.expect("a descriptor can be copied"))
}

/// Answers until the caller is gone.
fn answer(mut wire: impl Wire) {
    let (mut packet, mut buffer) = (Vec::new(), [0; 4096]);
    while let Some(len) = wire.read(&mut buffer).ok().filter(|len| *len > 0) {
        encode(&decode::<Args>(&buffer[..len]).answer(), &mut packet);
        if wire.write_all(&packet).is_err() {
            break;
        }
    }
}

/// A socket that is waited for before it is read.
struct Polled {
    socket: UnixStream,
    wakeup: OwnedFd,
}

impl Polled {
    fn new(socket: UnixStream) -> Polled {
        let wakeup = eventfd(0, EventfdFlags::CLOEXEC).expect("an event can be made");
        Polled { socket, wakeup }
    }
}

impl Read for Polled {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let deadline = Instant::now() + Duration::from_secs(30);
        let left = deadline.saturating_duration_since(Instant::now());
        let left = Timespec::try_from(left).expect("it is not long");
        let mut polled = [PollFd::new(&self.socket, PollFlags::IN), PollFd::new(&self.wakeup, PollFlags::IN)];
        poll(&mut polled, Some(&left))?;
        self.socket.read(buffer)
    }
}

impl Write for Polled {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.socket.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
