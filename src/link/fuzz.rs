//! One side of a link as a machine, and a peer that may send anything: both do what the bytes of a fuzzer say.
//!
//! The calls of this side and those that it serves are kept account of: whatever the peer sends, each call
//! ends once, nothing leaves that is no frame, and what waits for the peer has a bound.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use super::{
    flow::take_frames,
    load::Packet,
    message::Cargo,
    outbox::is_free,
    outlets::{Item, Room},
    state::{Action, Ended, Finish, Remains, State},
    stream::{Ends, Intake, Outlet},
};
use crate::{
    config::Config,
    transport::Window,
    wire::{
        Ack, CallHead, EventHead, FRAME_LIMIT, Feed, Flags, HEADER_LEN, Header, Hello, Kind, OpenHead, Path,
        ProtocolError, Quota, Side, Taken, Token, TransactionId, take_frame,
    },
};

/// Plays a session.
///
/// # Panics
///
/// When a promise is broken.
pub(crate) fn session(data: &[u8]) {
    let mut feed = Feed(data);
    let mut play = Play::new(feed.byte());
    while !feed.is_empty() {
        if play.step(&mut feed).is_err() {
            break;
        }
        play.check();
    }
    play.end();
}

struct Play {
    side: Side,
    state: State<u32>,
    now: Instant,
    packet: Packet,
    actions: Vec<Action<u32>>,
    /// What the peer has read of what counts.
    read: Ack,
    /// The calls of this side, and how often each has ended.
    calls: Vec<TransactionId>,
    ends: HashMap<u32, u32>,
    served: Vec<TransactionId>,
    took: HashMap<TransactionId, Quota>,
}

impl Play {
    fn new(choice: u8) -> Play {
        let side = if choice & 1 == 0 { Side::Head } else { Side::Neck };
        let config = Config::new()
            .served_calls(SERVED)
            .message_limit(MESSAGE_LIMIT)
            .send_queue(8)
            .send_queue_bytes(MESSAGE_LIMIT)
            .in_flight(4)
            .stream_items(4);
        let window = match choice >> 1 & 3 {
            0 => Window::default(),
            1 => Window { frames: 4, bytes: 1000, large: 1 },
            2 => Window { frames: 48, bytes: 42 * 1024, large: 3 },
            _ => Window { frames: 1, bytes: 1, large: 1 },
        };
        let now = Instant::now();
        let greet_by = Some(now + config.start_timeout);
        let mut play = Play {
            side,
            state: State::new(side, &config, window, Token::default().into(), greet_by),
            now,
            packet: Packet::default(),
            actions: Vec::new(),
            read: Ack::default(),
            calls: Vec::new(),
            ends: HashMap::new(),
            served: Vec::new(),
            took: HashMap::new(),
        };
        if choice & 8 == 0 {
            let hello = play.head_of(Kind::Hello);
            play.receive(play.frame(Kind::Hello as u8, 0, 0, play.read, &hello)).expect("it is a good one");
            play.receive(play.frame(Kind::Ready as u8, 0, 0, play.read, &[])).expect("it is a good one");
            play.state.say_ready();
        }
        play
    }

    fn step(&mut self, feed: &mut Feed<'_>) -> Result<(), ProtocolError> {
        let op = feed.byte();
        match op % 16 {
            0..=4 => self.some_frame(feed)?,
            5 => {
                let len = usize::from(feed.short());
                self.receive(feed.bytes(len.min(FRAME_LIMIT)).to_vec())?;
            }
            6 => self.call(feed.short(), op & 16 != 0),
            7 => {
                let cargo = cargo(|out| EventHead { shape: 0, path: b"x" }.write(out), feed.short());
                let _ = self.state.begin_event(cargo, false, None);
            }
            8 => self.answer(feed.byte(), feed.short()),
            9 => self.cancel(feed.byte()),
            10 => self.advance(feed.byte())?,
            11 => self.pump(usize::from(feed.byte())),
            12 => self.say(feed.byte()),
            13 => self.put(feed.byte(), feed.short()),
            14 => self.take(feed.byte()),
            _ => self.open(feed.byte(), feed.short()),
        }
        Ok(())
    }

    // The peer.

    /// A frame of which anything may be wrong, and mostly little is.
    fn some_frame(&mut self, feed: &mut Feed<'_>) -> Result<(), ProtocolError> {
        let [kind, flags, id, len] = [feed.byte(), feed.byte(), feed.byte(), feed.byte()];
        let side = if id & 32 == 0 { self.side.other() } else { self.side };
        let bits = match id & 64 {
            // The counter 0 is nobody's.
            0 => TransactionId::new(side, u64::MAX >> 1).to_bits() & (1 << 63) | u64::from(id & 31),
            _ => feed.long(),
        };
        let ack = match flags & 128 {
            0 => self.read,
            _ => Ack { frames: feed.word(), bytes: feed.word() },
        };
        let mut body = match kind & 128 {
            0 => Vec::new(),
            _ => Kind::of_number(kind & 31).map(|kind| self.head_of(kind)).unwrap_or_default(),
        };
        // Those of many bytes have little in the input.
        let (given, most) = (usize::from(len & 127), FRAME_LIMIT - HEADER_LEN);
        body.extend_from_slice(feed.bytes(given));
        if len & 128 != 0 {
            body.resize((given * 512).min(most).max(body.len()), 7);
        }
        self.receive(self.frame(kind & 31, flags & 7, bits, ack, &body))
    }

    /// How a good message of this kind begins.
    fn head_of(&self, kind: Kind) -> Vec<u8> {
        let mut body = Vec::new();
        match kind {
            Kind::Hello => Hello::ours(self.side.other(), Token::default()).write(&mut body),
            Kind::Open => OpenHead { sends: true, takes: Some(QUOTA) }.write(&mut body),
            Kind::Event => EventHead { shape: 0, path: b"x" }.write(&mut body),
            Kind::StreamQuota => QUOTA.write(&mut body),
            Kind::StreamItem => body.extend([1, 0, 0, 0, 5]),
            _ => {}
        }
        if kind.is_call() {
            CallHead { parent: None, remaining: None, attempt: 0, shape: 0, path: b"x" }.write(&mut body);
        }
        body
    }

    fn frame(&self, kind: u8, flags: u8, id: u64, ack: Ack, body: &[u8]) -> Vec<u8> {
        let mut frame = vec![0; HEADER_LEN];
        frame.extend_from_slice(body);
        Header { kind: Kind::Ping, flags: Flags::default(), id, ack }.write(&mut frame);
        (frame[4], frame[5]) = (kind, flags);
        frame
    }

    fn receive(&mut self, packet: Vec<u8>) -> Result<(), ProtocolError> {
        if packet.is_empty() {
            return Ok(());
        }
        let taken = take_frames(&mut self.state, packet, self.now, &mut self.actions);
        let actions = std::mem::take(&mut self.actions);
        let over = actions.iter().any(|action| matches!(action, Action::Close(_)));
        actions.into_iter().for_each(|action| self.act(action));
        // What has come before a mistake counts; then the link ends, as it does after a goodbye.
        if over { Err(ProtocolError::ClosedBeforeHello) } else { taken }
    }

    fn act(&mut self, action: Action<u32>) {
        match action {
            Action::Complete(waiter, _) => self.ended(waiter),
            Action::Dispatch(incoming, _) => {
                let Some(id) = incoming.id else { return };
                assert_eq!(id.side(), self.side.other());
                assert!(!self.served.contains(&id), "{id} is served twice");
                self.served.push(id);
                if !incoming.ends.is_none() {
                    self.state.accept_stream(id, QUOTA);
                }
            }
            Action::Cancelled(token, _) => drop(token.fire()),
            _ => {}
        }
    }

    /// Reads what has left, and says so in the next frame.
    fn pump(&mut self, packets: usize) {
        for _ in 0..packets {
            if self.next_frames().is_empty() {
                return;
            }
        }
    }

    /// What leaves next, which the peer reads.
    fn next_frames(&mut self) -> Vec<Header> {
        let mut headers = Vec::new();
        if !self.state.next_packet(&mut self.packet) {
            return headers;
        }
        let mut rest = self.packet.bytes();
        assert!((1..=FRAME_LIMIT).contains(&rest.len()));
        while !rest.is_empty() {
            let Ok(Taken::Frame(header, len)) = take_frame(rest) else { panic!("{rest:02x?} is no frame") };
            if !is_free(header.kind) {
                self.read.frames = self.read.frames.wrapping_add(1);
                self.read.bytes = self.read.bytes.wrapping_add(len as u32);
            }
            headers.push(header);
            rest = &rest[len..];
        }
        self.packet.sent();
        headers
    }

    // This side.

    fn call(&mut self, size: u16, hurried: bool) {
        let waiter = self.calls.len() as u32;
        let timer = hurried.then(|| self.now + Duration::from_millis(50));
        let head = CallHead { parent: None, remaining: None, attempt: 0, shape: 0, path: b"x" };
        if let Ok(id) = self.state.begin_call(waiter, timer, cargo(|out| head.write(out), size), false, None)
        {
            self.calls.push(id);
        }
    }

    fn open(&mut self, way: u8, size: u16) {
        let waiter = self.calls.len() as u32;
        let path = Path::new("x").expect("it is a path");
        let (sends, takes) = (way & 1 != 0, way & 1 == 0 || way & 2 != 0);
        let head = |out: &mut Vec<u8>| {
            OpenHead { sends, takes: takes.then_some(QUOTA) }.write(out);
            CallHead { parent: None, remaining: None, attempt: 0, shape: 0, path: b"x" }.write(out);
        };
        if let Ok(id) = self.state.begin_stream(waiter, None, cargo(head, size)) {
            let intake = takes.then(|| Intake::new(&path));
            let outlet = sends.then(|| Outlet::new(&path));
            self.state.add_stream(id, &Ends { intake, outlet }, QUOTA);
            self.calls.push(id);
        }
    }

    fn answer(&mut self, which: u8, size: u16) {
        let Some(at) = usize::from(which).checked_rem(self.served.len()) else { return };
        let id = self.served.swap_remove(at);
        self.state.last_of_stream(id);
        if self.state.finish_served(id) == Finish::Awaited {
            self.state.answer(id, Kind::Reply, vec![0; HEADER_LEN + usize::from(size)].into(), None);
        }
    }

    fn cancel(&mut self, which: u8) {
        let Some(at) = usize::from(which).checked_rem(self.calls.len()) else { return };
        if let Some(Ended { waiter, .. }) = self.state.cancel_call(self.calls[at]) {
            self.ended(waiter);
        }
    }

    fn advance(&mut self, by: u8) -> Result<(), ProtocolError> {
        self.now += Duration::from_millis(1 << (by % 16));
        while let Some(Ended { waiter, .. }) = self.state.handle_timeout(self.now) {
            self.ended(waiter);
        }
        self.state.overdue(self.now).map_or(Ok(()), Err)
    }

    fn say(&mut self, what: u8) {
        match what % 8 {
            0..=3 => drop(self.state.say_ready()),
            4 => self.state.go_away(),
            5 => {
                let remains = self.state.end_calls();
                self.remains(remains);
            }
            _ => self.state.say_bye(0),
        }
    }

    /// One of the streams, in whichever direction it goes.
    fn stream(&self, which: u8) -> Option<TransactionId> {
        let all = self.calls.len() + self.served.len();
        self.calls.iter().chain(&self.served).nth(usize::from(which & 127).checked_rem(all)?).copied()
    }

    fn put(&mut self, which: u8, size: u16) {
        let Some(id) = self.stream(which) else { return };
        if which & 128 != 0 {
            return self.state.end_items(id);
        }
        if self.state.room_for_items(id) != Room::Some {
            return;
        }
        let size = usize::from(size);
        let mut item = vec![0; HEADER_LEN];
        item.extend((size as u32).to_le_bytes());
        item.resize(item.len() + size, 3);
        let put = match item.len() <= FRAME_LIMIT {
            true => self.state.put_item(id, size, Item::Small(&item[HEADER_LEN..])),
            false => self.state.put_item(id, size, Item::Large(item.into())),
        };
        assert!(put.is_some(), "there was room");
    }

    fn take(&mut self, which: u8) {
        let Some(id) = self.stream(which) else { return };
        if which & 128 != 0 {
            return self.state.stop_items(id);
        }
        let took = self.took.entry(id).or_default();
        *took = took.with_item(5);
        self.state.grant(id, *took, QUOTA);
    }

    // The account.

    fn ended(&mut self, waiter: u32) {
        let ends = self.ends.entry(waiter).or_default();
        *ends += 1;
        assert_eq!(*ends, 1, "a call ends more than once");
    }

    fn remains(&mut self, remains: Remains<u32>) {
        remains.calls.into_iter().for_each(|ended| self.ended(ended.waiter));
        remains.served.into_iter().for_each(|token| drop(token.fire()));
        self.served.clear();
    }

    fn check(&self) {
        assert!(self.state.n_served() <= SERVED);
        assert!(self.state.n_calls() + self.ends.len() == self.calls.len(), "a call is lost");
        assert!(self.state.n_answers() <= SERVED * 12 + 1, "{} answers wait", self.state.n_answers());
        assert!(self.state.outbox.n_pongs() <= 65);
        let (messages, bytes) = self.state.outbox.waiting();
        assert!(messages <= 9 && bytes <= 3 * MESSAGE_LIMIT, "{messages} of {bytes} bytes wait");
    }

    fn end(&mut self) {
        if let Some(remains) = self.state.close() {
            self.remains(remains);
        }
        assert!(self.state.close().is_none() && self.state.next_alarm().is_none());
        assert_eq!((self.state.n_calls(), self.state.n_served()), (0, 0));
        assert_eq!(self.ends.len(), self.calls.len(), "a call has no end");
        // The last words may still leave, and word of what was read.
        for header in self.next_frames() {
            assert!(matches!(header.kind, Kind::Bye | Kind::Credit), "{header:?} leaves a link that is over");
        }
        assert!(self.next_frames().is_empty(), "the last words have no end");
    }
}

fn cargo(head: impl FnOnce(&mut Vec<u8>), size: u16) -> Cargo {
    let mut buffer = vec![0; HEADER_LEN];
    head(&mut buffer);
    buffer.resize(buffer.len() + usize::from(size), 1);
    Cargo::Bytes(buffer.into())
}

const SERVED: usize = 4;
const MESSAGE_LIMIT: usize = 100_000;
const QUOTA: Quota = Quota { items: 4, bytes: 2000 };
