//! Frames over a pair of stream sockets, between processes or within one.
//!
//! A hostile peer hurts its own connection and nothing else: what it announces is checked before it is
//! waited for, and nothing is allocated on its word. Each end has a buffer for one frame of the largest
//! size, which it keeps; what is handed out is a copy of exactly what has come. Descriptors that a peer
//! sends along are closed by the kernel, because nothing here has room for them.
//!
//! There are no lengths on the stream but those in the headers of the frames: a receiver takes what has
//! come, and hands out as many whole frames as are there. What cannot be the start of a frame goes out as
//! it is, with all that is there behind it, so that the link can name the rule that was broken.
//!
//! # System calls
//!
//! A receiver that sleeps waits in a `poll` on the socket and on the event of its nudge, and receives then: two
//! calls, and one for the sender, which makes 6.0 for a call there and back, as for bare sockets with a `poll`.
//! While packets follow each other on two cores it does not sleep: it tries to receive, for as long as waking it
//! would take. That is 8 to 15 of these calls, most of them in vain, and a fifth of the time: see
//! [`Spin`](super::spin).

use std::{
    io::{self, ErrorKind},
    sync::Arc,
    time::{Duration, Instant},
};

use super::{FrameReceiver, FrameSender, Nudge, Received, Transport, Window, spin::Spin};
use crate::{
    logging::say,
    os::{
        self, Wakeup,
        fd::{AsFd, BorrowedFd, OwnedFd},
    },
    wire::{FRAME_LIMIT, whole_frames},
};

/// Both ends of a connection over a pair of sockets, within this process. On Windows it is one over TCP.
///
/// # Errors
///
/// When the descriptors cannot be made.
pub fn pipe_pair() -> io::Result<(Transport, Transport)> {
    let (ours, theirs) = PipeEnd::pair()?;
    Ok((ours.into_transport()?, theirs.into_transport()?))
}

/// One end of a connection over two descriptors: one is read, the other is written.
///
/// Each may be one end of a pipe, as the standard input and output of a process often are, or a stream socket, and
/// both may be the same one. They do not block from now on, for whoever else shares them too.
///
/// The two ends greet each other with no token, so that both have to know who is there. Writing to a pipe that
/// nobody reads raises `SIGPIPE`, which Rust programs ignore; a program in another language that makes links has to
/// ignore it, too. Whatever else is written to the same descriptor breaks the link: a child that speaks over its
/// standard output must not print to it.
///
/// Over a pipe little is under way at a time, since not everybody can give it more room. On Windows an `OwnedFd` is the `OwnedSocket` of the standard library:
/// see [`guide::systems`](crate::guide::systems).
///
/// # Errors
///
/// When a descriptor is neither, or one of a terminal or a file, or when the system refuses what is needed.
///
/// ```
/// use std::io::pipe;
///
/// use nape::{Head, Neck, transport::pipe_over};
///
/// let ((their_in, our_out), (our_in, their_out)) = (pipe()?, pipe()?);
/// let theirs = pipe_over(their_in.into(), their_out.into())?;
/// let ours = pipe_over(our_in.into(), our_out.into())?;
///
/// let neck = Neck::builder().over(theirs)?.start();
/// let head = Head::builder().over(ours)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn pipe_over(reader: OwnedFd, writer: OwnedFd) -> io::Result<Transport> {
    let (from, to) = (Half::of(reader)?, Half::of(writer)?);
    // Both ends have to agree on what may be under way. How much more a pipe can be given depends on who asks, and
    // when: so they count on no more than every pipe has.
    let has_pipe = [&from, &to].iter().any(|half| matches!(half, Half::Pipe(_)));
    let window = if to.make_room()? < ROOM || has_pipe { NARROW } else { WINDOW };
    Ok(Transport { window, ..transport(from, to, Wakeup::new()?, &[], "pipe") })
}

/// What one direction goes through.
enum Half {
    /// The other direction may go through it, too.
    Socket(Arc<OwnedFd>),
    /// One end of a pipe.
    Pipe(OwnedFd),
}

impl Half {
    fn of(fd: OwnedFd) -> io::Result<Half> {
        let half = match os::stream_kind(fd.as_fd())? {
            os::StreamKind::Socket => Half::Socket(Arc::new(fd)),
            os::StreamKind::Pipe => Half::Pipe(fd),
        };
        os::set_nonblocking(half.as_fd())?;
        Ok(half)
    }

    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Half::Socket(socket) => socket.as_fd(),
            Half::Pipe(pipe) => pipe.as_fd(),
        }
    }

    /// Says how many bytes there is room for.
    fn make_room(&self) -> io::Result<usize> {
        match self {
            Half::Socket(socket) => os::make_room(socket.as_fd(), ROOM),
            Half::Pipe(pipe) => os::make_room_in_pipe(pipe.as_fd(), ROOM),
        }
    }

    fn receive(&self, buffer: &mut Vec<u8>) -> io::Result<usize> {
        match self {
            Half::Socket(socket) => os::receive_some(socket.as_fd(), buffer),
            Half::Pipe(pipe) => os::read_more(pipe.as_fd(), buffer),
        }
    }

    fn send(&self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Half::Socket(socket) => os::send_some(socket.as_fd(), bytes),
            Half::Pipe(pipe) => os::write_some(pipe.as_fd(), bytes),
        }
    }

    /// The other half may live on, and with it the socket. A pipe ends by itself.
    fn stop_sending(&self) {
        if let Half::Socket(socket) = self {
            os::stop_sending(socket.as_fd());
        }
    }

    fn stop_receiving(&self) {
        if let Half::Socket(socket) = self {
            os::stop_receiving(socket.as_fd());
        }
    }
}

/// One end of a connection, before it is where it belongs.
pub(crate) struct PipeEnd(OwnedFd);

impl PipeEnd {
    /// Two ends that no other program inherits.
    pub(crate) fn pair() -> io::Result<(PipeEnd, PipeEnd)> {
        let (left, right) = os::stream_pair()?;
        make_room(&left)?;
        make_room(&right)?;
        Ok((PipeEnd(left), PipeEnd(right)))
    }

    pub(crate) fn into_transport(self) -> io::Result<Transport> {
        Ok(self.with_nudge(Wakeup::new()?))
    }

    /// A socket that was connected or accepted and does not block. `heard` was received from it already, and is
    /// less than a frame of the largest size.
    pub(crate) fn met(socket: OwnedFd, heard: &[u8], name: &'static str) -> io::Result<Transport> {
        make_room(&socket)?;
        Ok(PipeEnd(socket).transport(Wakeup::new()?, heard, name))
    }

    /// The same for those who have made the event of the nudge already.
    pub(crate) fn with_nudge(self, wakeup: Wakeup) -> Transport {
        self.transport(wakeup, &[], "pipe")
    }

    fn transport(self, wakeup: Wakeup, heard: &[u8], name: &'static str) -> Transport {
        let socket = Arc::new(self.0);
        transport(Half::Socket(socket.clone()), Half::Socket(socket), wakeup, heard, name)
    }
}

fn transport(from: Half, to: Half, wakeup: Wakeup, heard: &[u8], name: &'static str) -> Transport {
    let wakeup = Arc::new(wakeup);
    let mut receiver = PipeReceiver::new(from, wakeup.clone());
    receiver.buffer.extend_from_slice(heard);
    receiver.more = !heard.is_empty();
    Transport {
        sender: Box::new(PipeSender { to, patience: WRITE_STALL, rest: Vec::new(), due: None }),
        receiver: Box::new(receiver),
        nudge: Arc::new(PipeNudge(wakeup)),
        window: WINDOW,
        wakes_at_deadlines: true,
        sees_the_end: true,
        name,
    }
}

fn make_room(socket: &OwnedFd) -> io::Result<()> {
    let granted = os::make_room(socket.as_fd(), ROOM)?;
    if granted < ROOM {
        // A send may have to wait then for a peer that is slow, and the link for both.
        say!(Warn, "a pipe has room for {granted} bytes instead of {ROOM}: see net.core.wmem_max");
    }
    Ok(())
}

/// An end that another process made.
impl From<OwnedFd> for PipeEnd {
    fn from(socket: OwnedFd) -> PipeEnd {
        PipeEnd(socket)
    }
}

impl From<PipeEnd> for OwnedFd {
    fn from(end: PipeEnd) -> OwnedFd {
        end.0
    }
}

struct PipeSender {
    to: Half,
    /// How long one packet may wait for room, all in all.
    patience: Duration,
    /// What is left of a packet, and until when it may wait. Nobody comes to this while the peer keeps to the window.
    rest: Vec<u8>,
    due: Option<Instant>,
}

impl PipeSender {
    /// Sends as much as there is room for, and says how much that was.
    fn push(&self, packet: &[u8]) -> io::Result<usize> {
        let mut sent = 0;
        while sent < packet.len() {
            match self.to.send(&packet[sent..]) {
                Ok(len) => sent += len,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(sent)
    }
}

impl FrameSender for PipeSender {
    fn send(&mut self, packet: &[u8]) -> io::Result<()> {
        let mut whole = self.try_send(packet)?;
        while !whole {
            whole = self.go_on(Instant::now() + WRITE_STALL)?;
        }
        Ok(())
    }

    fn try_send(&mut self, packet: &[u8]) -> io::Result<bool> {
        let sent = self.push(packet)?;
        let whole = sent == packet.len();
        if !whole {
            self.rest = packet[sent..].to_vec();
            self.due = Instant::now().checked_add(self.patience);
        }
        Ok(whole)
    }

    fn go_on(&mut self, until: Instant) -> io::Result<bool> {
        loop {
            let sent = self.push(&self.rest)?;
            self.rest.drain(..sent);
            if self.rest.is_empty() {
                return Ok(true);
            }
            let first = self.due.map_or(until, |due| due.min(until));
            if !os::wait_writable_until(self.to.as_fd(), Some(first))? {
                if first == until {
                    return Ok(false);
                }
                return Err(io::Error::new(
                    ErrorKind::TimedOut,
                    "the peer acknowledges what it does not read",
                ));
            }
        }
    }

    fn be_patient_for(&mut self, limit: Duration) {
        self.patience = limit;
    }
}

impl Drop for PipeSender {
    fn drop(&mut self) {
        self.to.stop_sending();
    }
}

struct PipeReceiver {
    from: Half,
    wakeup: Arc<Wakeup>,
    /// What has come and is not handed out, less than a frame, with room for one of the largest size. The
    /// rest of it is never written to, so that a link with small messages has no need of the memory.
    buffer: Vec<u8>,
    /// When the frame that has come in part must be whole.
    due: Option<Instant>,
    /// There was no room for all that had come, or just enough; or nobody has looked at what is there.
    more: bool,
    spin: Spin,
}

impl PipeReceiver {
    fn new(from: Half, wakeup: Arc<Wakeup>) -> PipeReceiver {
        PipeReceiver {
            from,
            wakeup,
            buffer: Vec::with_capacity(FRAME_LIMIT),
            due: None,
            more: false,
            spin: Spin::default(),
        }
    }

    /// Receives what is there, and hands out what is whole.
    fn look(&mut self) -> io::Result<Option<Received>> {
        let room = self.buffer.capacity() - self.buffer.len();
        match self.from.receive(&mut self.buffer) {
            // What has come of a frame is dropped: the peer died while it sent the rest.
            Ok(0) => Ok(Some(Received::End)),
            Ok(len) => {
                self.more = len == room;
                Ok(self.take_whole().map(Received::Packet))
            }
            Err(error) => match error.kind() {
                ErrorKind::WouldBlock => {
                    // What was received before there was a receiver may be whole.
                    let more = std::mem::take(&mut self.more);
                    Ok(if more { self.take_whole().map(Received::Packet) } else { None })
                }
                // The peer has left something unread. A stream tells of that behind all that was sent.
                ErrorKind::ConnectionReset => Ok(Some(Received::End)),
                _ => Err(error),
            },
        }
    }

    fn take_whole(&mut self) -> Option<Vec<u8>> {
        let whole = whole_frames(&self.buffer);
        let packet = self.cut_off(whole);
        let begun = whole > 0 || self.due.is_none();
        if self.buffer.is_empty() {
            self.due = None;
        } else if begun {
            self.due = Some(Instant::now() + FRAME_STALL);
        }
        (whole > 0).then_some(packet)
    }

    /// Takes the first bytes out of the buffer. Of a large packet it is the rest that is copied.
    fn cut_off(&mut self, len: usize) -> Vec<u8> {
        if len < COPIED {
            let packet = self.buffer[..len].to_vec();
            self.buffer.drain(..len);
            return packet;
        }
        let mut rest = Vec::with_capacity(FRAME_LIMIT);
        rest.extend_from_slice(&self.buffer[len..]);
        self.buffer.truncate(len);
        std::mem::replace(&mut self.buffer, rest)
    }

    fn look_out(&mut self) -> io::Result<Option<Received>> {
        let mut spin = std::mem::take(&mut self.spin);
        let found = spin.look_out(|| self.look());
        self.spin = spin;
        found
    }

    /// Waits for anything to happen.
    fn wait(&mut self, deadline: Option<Instant>) -> io::Result<Option<Received>> {
        let until = deadline.into_iter().chain(self.due).min();
        let ready = os::wait_readable_until(&[self.from.as_fd(), self.wakeup.as_fd()], until)?;
        if ready.contains(SOCKET) {
            self.spin.came();
            return self.look();
        }
        if ready.any() {
            self.wakeup.drain();
            return Ok(Some(Received::Nudge));
        }
        if self.due.is_some_and(|due| due <= Instant::now()) {
            return Err(io::Error::new(ErrorKind::TimedOut, "the rest of a frame does not come"));
        }
        Ok(Some(Received::Deadline))
    }
}

impl FrameReceiver for PipeReceiver {
    fn receive(&mut self, deadline: Option<Instant>) -> io::Result<Received> {
        loop {
            let received = if self.more { self.look()? } else { self.look_out()? };
            if let Some(received) = received {
                return Ok(received);
            }
            if let Some(received) = self.wait(deadline)? {
                return Ok(received);
            }
        }
    }

    fn expect_soon(&mut self, soon: bool) {
        self.spin.expect_soon(soon);
    }

    fn try_receive(&mut self) -> io::Result<Option<Received>> {
        loop {
            let before = self.buffer.len();
            match self.look()? {
                // Only a part of a frame: the rest may be there already.
                None if self.buffer.len() > before => {}
                received => return Ok(received),
            }
        }
    }
}

impl Drop for PipeReceiver {
    fn drop(&mut self) {
        self.from.stop_receiving();
    }
}

struct PipeNudge(Arc<Wakeup>);

impl Nudge for PipeNudge {
    fn nudge(&self) {
        self.0.wake();
    }
}

/// The place of the socket among what a receiver waits on.
const SOCKET: usize = 0;
/// What may be under way unread as the kernel counts it: what everybody may ask for where nobody has
/// changed that, which is twice the usual size.
const ROOM: usize = 2 * 212_992;
/// What fits into [`ROOM`]. The kernel charges for each send a power of two that has room for its bytes and
/// 320 more, and 256 on top: 768 bytes for up to 192, 1,280 for up to 704, 2,304 for up to 1,728, 4,352 for
/// up to 3,776, and less than 2.5 a byte beyond. 96 frames of 98,304 bytes cost the most when they are of
/// 704 and 1,728 bytes and one more: 68 of those and 28 of these, 280 KB. A frame of the largest size may
/// come on top with 63 KB, and eight small ones beside the window with 10 KB: 353 KB of 426. There
/// would be room for six of the largest size, but what is small waits behind all that is under way; and with
/// two of four read, the credit wakes the sender early enough, with three of six it comes late.
const WINDOW: Window = Window { frames: 96, bytes: 96 * 1024, large: 4 };
/// What fits into 64 KiB, which a pipe has where nobody can ask for more: a frame of the largest size, and little
/// besides.
const NARROW: Window = Window { frames: 16, bytes: 1024, large: 1 };
/// Packets below this size are copied, so that what is kept is no larger than it needs to be.
const COPIED: usize = 32 * 1024;
/// How long a send may wait for room. Only a peer that acknowledges what it has not read makes it wait.
const WRITE_STALL: Duration = Duration::from_secs(10);
/// How long the rest of a frame may take. Frames of a good peer are sent at one go.
const FRAME_STALL: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests;
