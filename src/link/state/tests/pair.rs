//! Two machines, joined by queues of packets and a clock that only moves when it is told to. Whatever
//! leaves one of them is looked at by a watcher that keeps its own books.

use std::{
    collections::{HashSet, VecDeque},
    time::{Duration, Instant},
};

use crate::{
    config::Config,
    link::{
        flow::take_frames,
        load::Packet,
        message::Cargo,
        outbox::is_free,
        state::{Action, Finish, State},
    },
    transport::Window,
    wire::{
        CallHead, EventHead, FRAME_LIMIT, HEADER_LEN, Header, Kind, ProtocolError, Side, Taken, Tokens,
        TransactionId, take_frame,
    },
};

/// The index of a side.
pub(super) const HEAD: usize = 0;
pub(super) const NECK: usize = 1;

pub(super) struct Pair {
    pub(super) now: Instant,
    pub(super) ends: [End; 2],
}

pub(super) struct End {
    pub(super) state: State<u32>,
    /// What is under way to this end.
    pub(super) inward: VecDeque<Vec<u8>>,
    /// What its machine asked for and nobody has looked at yet.
    pub(super) actions: Vec<Action<u32>>,
    pub(super) watcher: Watcher,
}

/// What an onlooker knows of what leaves one end.
pub(super) struct Watcher {
    window: Window,
    in_flight: usize,
    sent: [u64; 2],
    acknowledged: [u64; 2],
    /// The ready of the other side has come in.
    may_start: bool,
    /// The calls that have left, at least in part, and were neither answered nor cancelled.
    flying: HashSet<u64>,
    /// Everything that left: its header, and the length of its body.
    pub(super) log: Vec<(Header, usize)>,
}

impl Pair {
    /// Two sides that have sent nothing yet.
    pub(super) fn new(config: &Config, window: Window) -> Pair {
        let now = Instant::now();
        let ends = [Side::Head, Side::Neck].map(|side| End {
            state: State::new(side, config, window, Tokens::default(), Some(now + config.start_timeout)),
            inward: VecDeque::new(),
            actions: Vec::new(),
            watcher: Watcher {
                window,
                in_flight: config.limits.in_flight,
                sent: [0; 2],
                acknowledged: [0; 2],
                may_start: false,
                flying: HashSet::new(),
                log: Vec::new(),
            },
        });
        Pair { now, ends }
    }

    /// Two sides that are ready.
    pub(super) fn ready(config: &Config, window: Window) -> Pair {
        let mut pair = Pair::new(config, window);
        pair.ends[HEAD].state.say_ready();
        pair.ends[NECK].state.say_ready();
        pair.settle();
        pair.ends.iter_mut().for_each(|end| drop(end.actions.drain(..)));
        pair
    }

    pub(super) fn advance(&mut self, millis: u64) {
        self.now += Duration::from_millis(millis);
    }

    /// Sends whatever one end may send. Says how many packets that is.
    pub(super) fn pump(&mut self, from: usize) -> usize {
        let (mut packet, mut n) = (Packet::default(), 0);
        while self.ends[from].state.next_packet(&mut packet) {
            self.ends[from].watcher.leaves(packet.bytes());
            self.ends[1 - from].inward.push_back(packet.bytes().to_vec());
            n += 1;
        }
        n
    }

    /// Hands one end the next packet that is under way to it, if there is one.
    pub(super) fn deliver(&mut self, to: usize) -> Result<bool, ProtocolError> {
        let end = &mut self.ends[to];
        let Some(packet) = end.inward.pop_front() else { return Ok(false) };
        end.watcher.arrives(&packet);
        take_frames(&mut end.state, packet, self.now, &mut end.actions).map(|()| true)
    }

    /// Goes on until nothing is under way and nobody has anything to send.
    pub(super) fn settle(&mut self) {
        for _ in 0..1_000_000 {
            let sent = self.pump(HEAD) + self.pump(NECK);
            let came = [HEAD, NECK].map(|to| self.deliver(to).expect("both keep the rules"));
            if sent == 0 && came == [false, false] {
                return;
            }
        }
        panic!("it never settles");
    }

    /// Makes a call with `size` bytes of arguments; nothing leaves yet.
    pub(super) fn call(&mut self, from: usize, waiter: u32, size: usize) -> TransactionId {
        self.ends[from].state.begin_call(waiter, None, call(waiter, size), true, None).expect("it is taken")
    }

    pub(super) fn event(&mut self, from: usize, number: u32, size: usize) {
        self.ends[from].state.begin_event(event(number, size), false, None).expect("it is taken");
    }

    /// What the machine of one end asked for since the last time.
    pub(super) fn take_actions(&mut self, of: usize) -> Vec<Action<u32>> {
        std::mem::take(&mut self.ends[of].actions)
    }

    /// Answers a call with `size` bytes behind the waiter's number.
    pub(super) fn answer(&mut self, at: usize, id: TransactionId, waiter: u32, size: usize) {
        let state = &mut self.ends[at].state;
        if state.finish_served(id) == Finish::Awaited {
            let mut buffer = vec![0; HEADER_LEN];
            buffer.extend(body(waiter, size));
            state.answer(id, Kind::Reply, buffer.into(), None);
        }
    }

    /// What left an end after the first `skip` frames: the kinds and ids of first frames.
    pub(super) fn starts_of(&self, from: usize, skip: usize) -> Vec<(Kind, u64)> {
        let log = self.ends[from].watcher.log.iter().skip(skip);
        log.filter(|(header, _)| !header.flags.continues)
            .map(|(header, _)| (header.kind, header.id))
            .collect()
    }
}

impl Watcher {
    fn leaves(&mut self, packet: &[u8]) {
        assert!((1..=FRAME_LIMIT).contains(&packet.len()), "a packet of {} bytes", packet.len());
        for (header, len) in frames(packet) {
            let starts = header.kind.is_call() || header.kind == Kind::Event;
            assert!(self.may_start || !starts, "{header:?} leaves before the other side is ready");
            if !is_free(header.kind) {
                let under_way = [0, 1].map(|i| self.sent[i] - self.acknowledged[i]);
                let Window { frames, bytes, large } = self.window;
                let few = under_way[1] < bytes.into() || under_way[0] < large.into();
                assert!(under_way[0] < frames.into() && few, "{under_way:?}");
                self.sent[0] += 1;
                self.sent[1] += len as u64;
            }
            if header.kind.is_call() && !header.flags.continues {
                assert!(self.flying.insert(header.id), "{header:?} leaves twice");
                assert!(self.flying.len() <= self.in_flight, "{} are in flight", self.flying.len());
            }
            if header.kind == Kind::Cancel {
                self.flying.remove(&header.id);
            }
            self.log.push((header, len - HEADER_LEN));
        }
    }

    /// Takes note of what the other side says it has read, and of its answers.
    fn arrives(&mut self, packet: &[u8]) {
        for (header, _) in frames(packet) {
            self.acknowledged = [header.ack.frames.into(), header.ack.bytes.into()];
            self.may_start |= header.kind == Kind::Ready;
            if matches!(header.kind, Kind::Reply | Kind::Fault) && !header.flags.more {
                self.flying.remove(&header.id);
            }
        }
    }
}

/// The frames of a packet, and how long each is.
pub(super) fn frames(mut packet: &[u8]) -> Vec<(Header, usize)> {
    let mut all = Vec::new();
    while !packet.is_empty() {
        let Ok(Taken::Frame(header, len)) = take_frame(packet) else { panic!("{packet:02x?} is no frame") };
        all.push((header, len));
        packet = &packet[len..];
    }
    all
}

/// A body of `size` bytes, or of 4 if that is more, that says whose it is.
pub(super) fn body(number: u32, size: usize) -> Vec<u8> {
    let pattern = (4..size).map(|at| (at as u32).wrapping_mul(number | 1) as u8);
    number.to_le_bytes().into_iter().chain(pattern).collect()
}

/// Whose body it is, if it is whole.
pub(super) fn number_of(bytes: &[u8]) -> u32 {
    let number = u32::from_le_bytes(bytes[..4].try_into().expect("it has four bytes"));
    assert!(bytes == body(number, bytes.len()), "the bytes of {number} are mixed up");
    number
}

pub(super) fn call(waiter: u32, size: usize) -> Cargo {
    let head = CallHead { parent: None, remaining: None, attempt: 0, shape: 0, path: b"x" };
    cargo(|out| head.write(out), body(waiter, size))
}

pub(super) fn event(number: u32, size: usize) -> Cargo {
    cargo(|out| EventHead { shape: 0, path: b"x" }.write(out), body(number, size))
}

fn cargo(head: impl FnOnce(&mut Vec<u8>), body: Vec<u8>) -> Cargo {
    let mut buffer = vec![0; HEADER_LEN];
    head(&mut buffer);
    buffer.extend(body);
    Cargo::Bytes(buffer.into())
}
