//! What waits to be sent, in which order it goes, and how much may be under way.
//!
//! Four lines, the first that has something goes first: *control*, *answers*, *starts* (calls and
//! events, in the order of their making), and *bulk*, the rest of messages that do not fit into one
//! frame, which take turns. A start waits until the other side is ready, and a call until fewer than
//! `in_flight` calls are unanswered. Everything but the few kinds in [`is_free`] keeps to the window.

use std::collections::VecDeque;

use super::message::Start;
use crate::{
    transport::Window,
    wire::{Ack, FRAME_LIMIT, Flags, HEADER_LEN, Header, Kind, ProtocolError, TransactionId},
};

/// A message on its way out: room for a header, then the body.
#[derive(Debug)]
pub(crate) struct Draft {
    pub(crate) kind: Kind,
    pub(crate) id: u64,
    pub(crate) buffer: Vec<u8>,
}

impl Draft {
    /// A message without a body.
    pub(crate) fn bare(kind: Kind, id: u64) -> Draft {
        Draft { kind, id, buffer: vec![0; HEADER_LEN] }
    }
}

#[derive(Debug)]
pub(crate) struct Outbox {
    control: VecDeque<Draft>,
    answers: VecDeque<Draft>,
    starts: VecDeque<Start>,
    bulk: VecDeque<(Draft, usize)>,
    starts_bytes: usize,
    /// The other side takes calls.
    open: bool,
    in_flight: usize,
    in_flight_limit: usize,
    window: Window,
    /// Frames and bytes of windowed kinds that went out so far, modulo 2^32.
    sent: Ack,
    /// Of these, what the other side says it has read.
    acknowledged: Ack,
    /// What we have read, to be told on the next header.
    read: Ack,
    /// Of that, what the other side knows already.
    told: Ack,
}

impl Outbox {
    pub(crate) fn new(window: Window, in_flight_limit: usize) -> Outbox {
        Outbox {
            control: VecDeque::new(),
            answers: VecDeque::new(),
            starts: VecDeque::new(),
            bulk: VecDeque::new(),
            starts_bytes: 0,
            open: false,
            in_flight: 0,
            in_flight_limit,
            window,
            sent: Ack::default(),
            acknowledged: Ack::default(),
            read: Ack::default(),
            told: Ack::default(),
        }
    }

    pub(crate) fn push_control(&mut self, draft: Draft) {
        self.control.push_back(draft);
    }

    pub(crate) fn push_answer(&mut self, draft: Draft) {
        self.answers.push_back(draft);
    }

    pub(crate) fn push_start(&mut self, start: Start) {
        self.starts_bytes += start.size();
        self.starts.push_back(start);
    }

    /// The other side is ready: starts may leave.
    pub(crate) fn open(&mut self) {
        self.open = true;
    }

    /// Takes a call back that has not left.
    pub(crate) fn withdraw(&mut self, id: TransactionId) -> Option<Start> {
        let at = self.starts.iter().position(|start| start.id == id)?;
        let start = self.starts.remove(at)?;
        self.starts_bytes -= start.size();
        Some(start)
    }

    /// Takes back the calls that have not left.
    pub(crate) fn withdraw_calls(&mut self) -> Vec<Start> {
        let (calls, events): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.starts).into_iter().partition(|start| start.kind == Kind::Call);
        self.starts = events.into();
        self.starts_bytes = self.starts.iter().map(Start::size).sum();
        calls
    }

    /// The next word of control, whatever the window.
    pub(crate) fn next_control(&mut self) -> Option<Draft> {
        self.control.pop_front()
    }

    /// A call that had left is no longer waited for.
    pub(crate) fn call_ended(&mut self) {
        self.in_flight = self.in_flight.saturating_sub(1);
    }

    /// The next call or event that may leave now, without regard to the window.
    pub(crate) fn next_start(&mut self) -> Option<Start> {
        let kind = self.starts.front()?.kind;
        if !self.open || (kind == Kind::Call && self.in_flight >= self.in_flight_limit) {
            return None;
        }
        let start = self.starts.pop_front()?;
        self.starts_bytes -= start.size();
        self.in_flight += usize::from(kind == Kind::Call);
        Some(start)
    }

    /// Empties every line. Gives back what had not started to leave, and says how many events are lost.
    pub(crate) fn clear(&mut self) -> (Vec<Start>, u64) {
        let starts = Vec::from(std::mem::take(&mut self.starts));
        let bulk = self.bulk.drain(..).map(|(draft, _)| draft.kind);
        let kinds = starts.iter().map(|start| start.kind).chain(bulk);
        let events = kinds.filter(|kind| *kind == Kind::Event).count();
        self.control.clear();
        self.answers.clear();
        self.starts_bytes = 0;
        (starts, events as u64)
    }

    /// Whether nothing waits that may ever be sent.
    pub(crate) fn is_drained(&self) -> bool {
        self.control.is_empty() && self.answers.is_empty() && self.starts.is_empty() && self.bulk.is_empty()
    }

    /// How many messages and bytes wait to be started.
    pub(crate) fn waiting(&self) -> (usize, usize) {
        (self.starts.len(), self.starts_bytes)
    }

    /// How many answers to pings wait.
    pub(crate) fn n_pongs(&self) -> usize {
        self.control.iter().filter(|draft| draft.kind == Kind::Pong).count()
    }

    /// Takes the acknowledgement of a frame, and says whether it tells anything new.
    pub(crate) fn acknowledge(&mut self, ack: Ack) -> Result<bool, ProtocolError> {
        let frames = ack.frames.wrapping_sub(self.acknowledged.frames);
        let bytes = ack.bytes.wrapping_sub(self.acknowledged.bytes);
        let under_way = self.under_way();
        if frames > under_way.frames || bytes > under_way.bytes {
            return Err(ProtocolError::FlowControl);
        }
        self.acknowledged = ack;
        Ok(frames != 0)
    }

    /// Counts a frame that was read, if the other side had room for it in its window.
    pub(crate) fn count_read(&mut self, kind: Kind, len: usize) -> Result<(), ProtocolError> {
        if is_free(kind) {
            return Ok(());
        }
        let untold = self.untold();
        if untold.frames >= self.window.frames || untold.bytes >= self.window.bytes {
            return Err(ProtocolError::FlowControl);
        }
        self.read.frames = self.read.frames.wrapping_add(1);
        self.read.bytes = self.read.bytes.wrapping_add(len as u32);
        Ok(())
    }

    /// Writes as many frames as may go now into `packet`, at most [`FRAME_LIMIT`] bytes, and calls
    /// `started` with the id of each call that leaves. `false` when there is nothing to send.
    pub(crate) fn next_packet(
        &mut self,
        packet: &mut Vec<u8>,
        mut started: impl FnMut(TransactionId),
    ) -> bool {
        packet.clear();
        while let Some(draft) = self.next_draft(FRAME_LIMIT - packet.len(), &mut started) {
            let (draft, from) = draft;
            let len = (draft.buffer.len() - from).min(FRAME_LIMIT - HEADER_LEN);
            let more = from + len < draft.buffer.len();
            let continues = from > HEADER_LEN;
            if packet.is_empty() && !more && !continues {
                // The usual case: the message is the frame, and the frame is the packet.
                *packet = draft.buffer;
                let len = packet.len();
                self.seal(packet, draft.kind, draft.id, Flags { more, continues });
                debug_assert!(len <= FRAME_LIMIT);
            } else {
                let start = packet.len();
                packet.resize(start + HEADER_LEN, 0);
                packet.extend_from_slice(&draft.buffer[from..from + len]);
                self.seal(&mut packet[start..], draft.kind, draft.id, Flags { more, continues });
                if more {
                    self.bulk.push_back((draft, from + len));
                }
            }
        }
        if packet.is_empty() && self.owes_credit() {
            packet.resize(HEADER_LEN, 0);
            self.seal(packet, Kind::Credit, 0, Flags::default());
        }
        !packet.is_empty()
    }

    /// The next message, or part of one, that fits into `room` and may go; and where it goes on.
    fn next_draft(&mut self, room: usize, started: &mut impl FnMut(TransactionId)) -> Option<(Draft, usize)> {
        let fits = |draft: &Draft| draft.buffer.len().min(FRAME_LIMIT) <= room;
        let window_open = self.window_is_open();
        if let Some(draft) = self.control.front()
            && fits(draft)
            && (window_open || is_free(draft.kind))
        {
            return self.control.pop_front().map(|draft| (draft, HEADER_LEN));
        }
        if !window_open {
            return None;
        }
        if let Some(draft) = self.answers.front() {
            return if fits(draft) {
                self.answers.pop_front().map(|draft| (draft, HEADER_LEN))
            } else {
                None
            };
        }
        if self.starts.front().is_some_and(|start| start.size().min(FRAME_LIMIT) <= room)
            && let Some(start) = self.next_start()
        {
            if start.kind == Kind::Call {
                started(start.id);
            }
            return start.into_draft().map(|draft| (draft, HEADER_LEN));
        }
        let (draft, from) = self.bulk.front()?;
        if (draft.buffer.len() - from).min(FRAME_LIMIT - HEADER_LEN) + HEADER_LEN > room {
            return None;
        }
        self.bulk.pop_front()
    }

    /// Writes the header of a frame that goes now.
    fn seal(&mut self, frame: &mut [u8], kind: Kind, id: u64, flags: Flags) {
        Header { kind, flags, id, ack: self.read }.write(frame);
        self.told = self.read;
        if !is_free(kind) {
            self.sent.frames = self.sent.frames.wrapping_add(1);
            self.sent.bytes = self.sent.bytes.wrapping_add(frame.len() as u32);
        }
    }

    fn window_is_open(&self) -> bool {
        let under_way = self.under_way();
        under_way.frames < self.window.frames && under_way.bytes < self.window.bytes
    }

    fn under_way(&self) -> Ack {
        Ack {
            frames: self.sent.frames.wrapping_sub(self.acknowledged.frames),
            bytes: self.sent.bytes.wrapping_sub(self.acknowledged.bytes),
        }
    }

    fn untold(&self) -> Ack {
        Ack {
            frames: self.read.frames.wrapping_sub(self.told.frames),
            bytes: self.read.bytes.wrapping_sub(self.told.bytes),
        }
    }

    /// Whether the other side could soon wait for an acknowledgement that nothing else carries.
    fn owes_credit(&self) -> bool {
        let untold = self.untold();
        untold.frames >= self.window.frames / 2 || untold.bytes >= self.window.bytes / 2
    }
}

/// Whether a frame goes without regard to the window. Of each of these only a few can be under way,
/// so that they fit beside a full window; a credit that had to wait for credit would never come.
pub(crate) fn is_free(kind: Kind) -> bool {
    matches!(kind, Kind::Hello | Kind::Ready | Kind::Credit | Kind::GoAway | Kind::Bye)
}
