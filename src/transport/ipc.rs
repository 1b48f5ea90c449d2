//! Frames over ipc-channel, between processes or within one.
//!
//! **For trusted peers only**: ipc-channel itself believes the lengths that a peer states. What is
//! ours above it is checked like everything else.
//!
//! Of ipc-channel only the byte channels are used, with packets small enough to go as one datagram:
//! no descriptor and no mapping is made for a message. Its receive has no timeout and shows no
//! descriptor; each end therefore keeps a clone of the sender that feeds its own receiver, and an
//! empty packet through it is the nudge. While that clone lives there is no end of file: the death of
//! the other process has to be seen by other means.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use ipc_channel::{
    IpcError, TryRecvError,
    ipc::{IpcBytesReceiver, IpcBytesSender, bytes_channel},
};
use serde::{Deserialize, Serialize};

use super::{FrameReceiver, FrameSender, Nudge, Received, Transport, Window, spin::Spin};

/// Both ends of a connection over ipc-channel, within this process.
///
/// # Errors
///
/// When the sockets cannot be made.
pub fn ipc_pair() -> io::Result<(Transport, Transport)> {
    let ends = IpcEnds::new()?;
    Ok((ends.ours.into_transport(), ends.theirs.into_transport()))
}

/// The channels of a connection, before one end of it is sent to where it belongs.
pub(crate) struct IpcEnds {
    pub(crate) ours: IpcParts,
    pub(crate) theirs: IpcParts,
}

/// What one end needs. It can be sent through an ipc-channel.
#[derive(Serialize, Deserialize)]
pub(crate) struct IpcParts {
    out: IpcBytesSender,
    inward: IpcBytesReceiver,
    to_self: IpcBytesSender,
}

impl IpcEnds {
    pub(crate) fn new() -> io::Result<IpcEnds> {
        let (to_ours, ours) = bytes_channel()?;
        let (to_theirs, theirs) = bytes_channel()?;
        Ok(IpcEnds {
            ours: IpcParts { out: to_theirs.clone(), inward: ours, to_self: to_ours.clone() },
            theirs: IpcParts { out: to_ours, inward: theirs, to_self: to_theirs },
        })
    }
}

impl IpcParts {
    pub(crate) fn into_transport(self) -> Transport {
        let pending = Arc::new(AtomicBool::new(false));
        Transport {
            sender: Box::new(IpcSender(self.out)),
            receiver: Box::new(IpcReceiver {
                packets: self.inward,
                nudged: pending.clone(),
                spin: Spin::default(),
            }),
            nudge: Arc::new(IpcNudge { to_self: self.to_self, pending }),
            window: WINDOW,
            wakes_at_deadlines: false,
            sees_the_end: false,
            name: "ipc",
        }
    }
}

struct IpcSender(IpcBytesSender);

impl FrameSender for IpcSender {
    fn send(&mut self, packet: &[u8]) -> io::Result<()> {
        loop {
            match self.0.send(packet) {
                // Nothing of the packet was sent, and ipc-channel does not try again by itself.
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                done => return done,
            }
        }
    }
}

struct IpcReceiver {
    packets: IpcBytesReceiver,
    nudged: Arc<AtomicBool>,
    spin: Spin,
}

impl IpcReceiver {
    fn open(&self, packet: Vec<u8>) -> Received {
        if packet.is_empty() {
            // SYNC: nudged. Pairs with the swap in `nudge`: whoever found a nudge under way and sent
            // none has made visible what it nudged for.
            self.nudged.swap(false, Ordering::AcqRel);
            return Received::Nudge;
        }
        // ipc-channel receives into a buffer of the largest size; what is kept is no larger than it
        // needs to be.
        Received::Packet(if packet.len() < COPIED { packet.as_slice().to_vec() } else { packet })
    }
}

impl FrameReceiver for IpcReceiver {
    fn receive(&mut self, _deadline: Option<Instant>) -> io::Result<Received> {
        let mut spin = std::mem::take(&mut self.spin);
        let found = spin.look_out(|| self.try_receive());
        self.spin = spin;
        if let Some(received) = found? {
            return Ok(received);
        }
        loop {
            match self.packets.recv() {
                Ok(packet) => {
                    self.spin.came();
                    return Ok(self.open(packet));
                }
                Err(IpcError::Disconnected) => return Ok(Received::End),
                Err(IpcError::Io(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(IpcError::Io(error)) => return Err(error),
                Err(IpcError::SerializationError(error)) => return Err(io::Error::other(error)),
            }
        }
    }

    fn expect_soon(&mut self, soon: bool) {
        self.spin.expect_soon(soon);
    }

    fn try_receive(&mut self) -> io::Result<Option<Received>> {
        loop {
            match self.packets.try_recv() {
                Ok(packet) => return Ok(Some(self.open(packet))),
                Err(TryRecvError::Empty) => return Ok(None),
                Err(TryRecvError::IpcError(IpcError::Disconnected)) => return Ok(Some(Received::End)),
                Err(TryRecvError::IpcError(IpcError::Io(error)))
                    if error.kind() == io::ErrorKind::Interrupted => {}
                Err(TryRecvError::IpcError(IpcError::Io(error))) => return Err(error),
                Err(TryRecvError::IpcError(error)) => return Err(io::Error::other(error)),
            }
        }
    }
}

struct IpcNudge {
    to_self: IpcBytesSender,
    pending: Arc<AtomicBool>,
}

impl Nudge for IpcNudge {
    fn nudge(&self) {
        // One nudge under way is enough, and more could fill the socket.
        if !self.pending.swap(true, Ordering::AcqRel) && self.to_self.send(&[]).is_err() {
            self.pending.store(false, Ordering::Release);
        }
    }
}

/// What fits into a socket's send buffer of the usual 212,992 bytes, with what the kernel adds to each
/// datagram: it charges at most 896 bytes for one and 2 for each of its bytes, and 65,792 for one of the
/// largest. One of those may come on top of many small ones, which makes 194,816; or there are three of
/// them and nothing else, which makes 197,376. The rest, 15 KB, is for the few small packets that go beside
/// the window and for a nudge.
///
/// On Windows it is a pipe with room for 68 KiB, one frame of the largest size and little besides. On macOS a port
/// takes 1,024 messages whatever their size.
const WINDOW: Window = if cfg!(windows) {
    Window { frames: 48, bytes: 4 * 1024, large: 1 }
} else {
    Window { frames: 48, bytes: 42 * 1024, large: 3 }
};
/// Packets below this size are copied into a buffer of their own.
const COPIED: usize = 32 * 1024;
