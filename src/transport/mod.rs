//! Moves whole frames between the two ends of a link.
//!
//! A transport knows no calls, ids or paths, and never cuts or joins frames: it takes a *packet* of one or
//! more whole frames at one end and hands the same frames out at the other. Its two directions are
//! separate values, so that one thread can send while another receives, without a lock.
//!
//! There is one for each need:
//!
//! - [`pipe_pair`]: a pair of stream sockets, between processes. A hostile peer hurts its own connection
//!   and nothing else.
//! - [`pipe_over`]: the same over any two descriptors of pipes or stream sockets, such as the standard input and
//!   output of a process.
//! - [`tcp_pair`]: the same over TCP on the loopback, for programs that meet there.
//! - [`ipc_pair`]: ipc-channel, between processes. For trusted peers only.
//! - [`memory_pair`]: within a process, where bytes are wanted.
//!
//! # The contract
//!
//! 1. Frames arrive whole, once, unchanged, and in the order of their sending. A transport of packets hands
//!    out the packets that were sent. A stream has no packets, but the length in the header of each frame:
//!    it hands out the whole frames that have come together, whatever packets they were sent in.
//! 2. A packet has one or more whole frames and at most [`FRAME_LIMIT`](crate::FRAME_LIMIT) bytes, at both
//!    ends. What a peer sends that is no frame is handed out as it is. Only a frame that has begun well and
//!    is not complete stays in a stream: until the rest has come, or to the end.
//! 3. [`FrameSender::send`] does not block as long as no more than the transport's own [`Window`] is
//!    under way unread, and eight packets of at most 320 bytes on top. The link keeps to that.
//! 4. [`FrameReceiver::receive`] blocks until there is a packet, a nudge, the end, or, where
//!    [`Transport::wakes_at_deadlines`] says so, the deadline. A packet that is there wins.
//! 5. [`Nudge::nudge`] may be called from any thread at any time. It makes the current `receive`
//!    return [`Received::Nudge`], or the next one if there is none. It never blocks for long, loses no
//!    packet, and comes after the packets that were there before it. Nudges may be merged.
//! 6. When the sender at one end is dropped, the receiver at the other gives what was sent and then
//!    [`Received::End`], where the transport can see it ([`Transport::sees_the_end`]). Sending to an
//!    end that is gone is an error or does nothing; it never blocks and never raises a signal.
//! 7. Nothing that a peer sends makes a transport panic.
//!
//! # Which there are
//!
//! | | between | the peer may be | deadlines | sees the end |
//! |---|---|---|---|---|
//! | [`memory_pair`] | threads | hostile | itself | itself |
//! | [`ipc_pair`] | processes or threads | trusted only: ipc-channel believes its lengths | by nudges | no |
//! | [`pipe_pair`] | processes or threads | hostile | itself | itself |
//! | [`tcp_pair`] | processes or threads | hostile | itself | itself |
//! | [`shm_pair`] | processes or threads | hostile | itself | itself, but for a process that is killed |
//!
//! [`contract::check`] tries all of it on any transport.

pub mod contract;
mod filter;
mod ipc;
mod memory;
mod pipe;
#[cfg(unix)]
#[cfg_attr(target_os = "macos", path = "no_shm.rs")]
mod shm;
mod spin;
mod tcp;

use std::{
    fmt, io,
    sync::Arc,
    time::{Duration, Instant},
};

#[cfg(feature = "encryption")]
pub use filter::BadKey;
pub(crate) use filter::{Session, filtered};
pub use ipc::ipc_pair;
pub(crate) use ipc::{IpcEnds, IpcParts};
pub use memory::memory_pair;
pub(crate) use pipe::PipeEnd;
pub use pipe::{pipe_over, pipe_pair};
#[cfg(all(target_os = "linux", any(test, fuzzing), not(loom)))]
pub(crate) use shm::fuzz_ring;
#[cfg(all(target_os = "linux", not(all(loom, test))))]
pub use shm::shm_pair;
pub(crate) use tcp::tcp_end;
pub use tcp::tcp_pair;
// For who starts processes by other means than ours: the benches.
#[cfg(all(target_os = "linux", not(all(loom, test))))]
#[doc(hidden)]
pub use shm::{DeathNotice, ShmEnds, ShmParts};
#[cfg(target_os = "macos")]
pub(crate) use shm::{ShmEnds, ShmParts};

/// One end of a connection that moves frames. See the [module](self) for what it promises.
pub struct Transport {
    /// The way out.
    pub sender: Box<dyn FrameSender>,
    /// The way in.
    pub receiver: Box<dyn FrameReceiver>,
    /// Wakes whoever receives.
    pub nudge: Arc<dyn Nudge>,
    /// How much may be under way unread without a send that blocks. Both ends have to have the same: each counts what it
    /// sends and what it reads by its own.
    pub window: Window,
    /// Whether `receive` returns at its deadline by itself; else somebody has to nudge it then.
    pub wakes_at_deadlines: bool,
    /// Whether the receiver sees that the other end's sender is gone.
    pub sees_the_end: bool,
    /// What to call it in a log: `ipc`, `pipe`, `shm`, `unix`, `tcp`.
    pub name: &'static str,
}

/// The sending half of a transport.
pub trait FrameSender: Send {
    /// Sends a packet of whole frames.
    ///
    /// # Errors
    ///
    /// What the operating system says; the link closes with it.
    fn send(&mut self, packet: &[u8]) -> io::Result<()>;

    /// The same without waiting for room: `false` says that a part is left, with which [`go_on`](FrameSender::go_on)
    /// goes on before anything else is sent. A link sends by this, and leaves what is left to a thread of its own, so
    /// that nobody who calls waits for a peer that acknowledges what it does not read.
    ///
    /// By default it is `send`: right for whatever always has room for a [`Window`].
    ///
    /// # Errors
    ///
    /// As for `send`.
    fn try_send(&mut self, packet: &[u8]) -> io::Result<bool> {
        self.send(packet).map(|()| true)
    }

    /// Goes on with what [`try_send`](FrameSender::try_send) has left, and waits for room, until `until` at most. Says
    /// whether all of it has gone. By default there is nothing left.
    ///
    /// # Errors
    ///
    /// As for `send`; and when there was no room for as long as it may wait.
    fn go_on(&mut self, until: Instant) -> io::Result<bool> {
        let _ = until;
        Ok(true)
    }

    /// How long a send may wait for a peer that acknowledges what it does not read, where a transport waits.
    /// A link calls it once, before the first packet, with its [`write_stall`](crate::Config::write_stall);
    /// [`Duration::MAX`] is no limit. By default it changes nothing.
    fn be_patient_for(&mut self, limit: Duration) {
        let _ = limit;
    }
}

/// The receiving half of a transport.
pub trait FrameReceiver: Send {
    /// Blocks for the next packet; what ends the wait stands in the contract, point 4.
    ///
    /// # Errors
    ///
    /// What the operating system says; the link closes with it.
    fn receive(&mut self, deadline: Option<Instant>) -> io::Result<Received>;

    /// The next packet if it is there already; does not block.
    ///
    /// # Errors
    ///
    /// As for `receive`.
    fn try_receive(&mut self) -> io::Result<Option<Received>>;

    /// Whether the next packet is likely to come soon: then it may pay to look out for it for a moment before
    /// going to sleep. A hint, from time to time; by default nothing is made of it.
    fn expect_soon(&mut self, _soon: bool) {}
}

/// Wakes the receiving half of a transport from any thread.
pub trait Nudge: Send + Sync {
    /// Makes the current or the next `receive` return.
    fn nudge(&self);
}

/// What `receive` came back with.
#[derive(Debug, PartialEq, Eq)]
pub enum Received {
    /// Whole frames.
    Packet(Vec<u8>),
    /// Somebody nudged.
    Nudge,
    /// The deadline passed.
    Deadline,
    /// The other end is gone, and everything that it sent has been received.
    End,
}

/// How much may be under way that the other side has not yet acknowledged.
///
/// A buffer in a kernel is filled by many small frames long before their bytes fill it, but takes a few of
/// the largest for little more than their bytes. So there is a number for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Frames.
    pub frames: u32,
    /// Bytes, headers included. One frame may go over it.
    pub bytes: u32,
    /// So many frames may be under way whatever their bytes; at least one.
    pub large: u32,
}

impl Window {
    /// Whether another frame may be sent while so many frames and bytes are under way.
    #[must_use]
    pub fn has_room(&self, frames: u32, bytes: u32) -> bool {
        frames < self.frames && (bytes < self.bytes || frames < self.large)
    }
}

impl Default for Window {
    /// 128 frames; 128 KiB, or 4 frames.
    fn default() -> Window {
        Window { frames: 128, bytes: 128 * 1024, large: 4 }
    }
}

impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transport")
            .field("name", &self.name)
            .field("window", &self.window)
            .finish_non_exhaustive()
    }
}
