//! Frames between threads of one process, over crossbeam channels.
//!
//! This is the in-process link with its wire *forced*: everything is encoded as between processes.
//! Tests use it to show that a program behaves the same both ways, and to hold the other end of a
//! link in their own hands. The peer is as untrusted as over a socket.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TryRecvError};

use super::{FrameReceiver, FrameSender, Nudge, Received, Transport, Window};

/// Both ends of a connection within this process that moves bytes.
pub fn memory_pair() -> (Transport, Transport) {
    let (to_left, left) = crossbeam_channel::unbounded();
    let (to_right, right) = crossbeam_channel::unbounded();
    (end(to_right.clone(), left, to_left.clone()), end(to_left, right, to_right))
}

/// The channels have no bound of their own: the window of the link is the bound, and a peer that
/// ignores it loses the link at the first packet that is read.
fn end(out: Sender<Item>, inward: Receiver<Item>, to_self: Sender<Item>) -> Transport {
    let pending = Arc::new(AtomicBool::new(false));
    Transport {
        sender: Box::new(MemorySender(out)),
        receiver: Box::new(MemoryReceiver { items: inward, nudged: pending.clone(), ended: false }),
        nudge: Arc::new(MemoryNudge { to_self, pending }),
        window: Window::default(),
        wakes_at_deadlines: true,
        sees_the_end: true,
        name: "memory",
    }
}

enum Item {
    Packet(Vec<u8>),
    Nudge,
    /// Stands for the dropped sender: the other end holds a sender to itself, so that the channel
    /// never disconnects by itself.
    End,
}

struct MemorySender(Sender<Item>);

impl FrameSender for MemorySender {
    fn send(&mut self, packet: &[u8]) -> io::Result<()> {
        self.0.send(Item::Packet(packet.to_vec())).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

impl Drop for MemorySender {
    fn drop(&mut self) {
        // An error means that the receiver is gone: there is nobody to tell.
        let _ = self.0.send(Item::End);
    }
}

struct MemoryReceiver {
    items: Receiver<Item>,
    nudged: Arc<AtomicBool>,
    ended: bool,
}

impl MemoryReceiver {
    fn open(&mut self, item: Item) -> Received {
        match item {
            Item::Packet(packet) => Received::Packet(packet),
            Item::Nudge => {
                // SYNC: nudged. Pairs with the swap in `nudge`: whoever found a nudge under way and sent
                // none has made visible what it nudged for.
                self.nudged.swap(false, Ordering::AcqRel);
                Received::Nudge
            }
            Item::End => {
                self.ended = true;
                Received::End
            }
        }
    }
}

impl FrameReceiver for MemoryReceiver {
    fn receive(&mut self, deadline: Option<Instant>) -> io::Result<Received> {
        if self.ended {
            return Ok(Received::End);
        }
        let item = match deadline {
            Some(deadline) => self.items.recv_deadline(deadline),
            None => self.items.recv().map_err(|_| RecvTimeoutError::Disconnected),
        };
        Ok(match item {
            Ok(item) => self.open(item),
            Err(RecvTimeoutError::Timeout) => Received::Deadline,
            Err(RecvTimeoutError::Disconnected) => Received::End,
        })
    }

    fn try_receive(&mut self) -> io::Result<Option<Received>> {
        if self.ended {
            return Ok(Some(Received::End));
        }
        Ok(match self.items.try_recv() {
            Ok(item) => Some(self.open(item)),
            Err(TryRecvError::Empty) => None,
            Err(TryRecvError::Disconnected) => Some(Received::End),
        })
    }
}

struct MemoryNudge {
    to_self: Sender<Item>,
    pending: Arc<AtomicBool>,
}

impl Nudge for MemoryNudge {
    fn nudge(&self) {
        // One nudge in the channel is enough: it makes a receive return, and is taken by it.
        if !self.pending.swap(true, Ordering::AcqRel) {
            let _ = self.to_self.send(Item::Nudge);
        }
    }
}
