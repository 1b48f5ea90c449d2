//! The items of streams that wait to be sent: how many may, and in which order they go.
//!
//! The streams take turns, a message each. What was put in together goes together: as many items as fit into
//! a frame are one message. The end of a stream, or the answer to its call, goes behind its last item.

use std::collections::VecDeque;

use rustc_hash::FxHashMap;

use super::{inbox::SHORT, load::Load, outbox::Draft, stream::Outlet};
use crate::{
    config::Config,
    sync::Arc,
    wire::{FRAME_LIMIT, HEADER_LEN, Kind, Quota},
};

/// The sending ends of the streams of one side, by the bits of their calls.
#[derive(Debug)]
pub(crate) struct Outlets {
    table: FxHashMap<u64, Sending>,
    /// Those that have something to send, in turn.
    ready: VecDeque<u64>,
    /// How much of one stream may wait, whatever the other side allows.
    window: Quota,
    /// The bytes that wait, and how many may.
    pub(super) bytes: usize,
    pub(super) limit: usize,
    /// Those that found too many.
    starved: Vec<(u64, Arc<Outlet>)>,
    /// Some of those have been answered meanwhile, and are to be told whatever waits.
    answered: bool,
}

#[derive(Debug)]
struct Sending {
    outlet: Arc<Outlet>,
    /// What the other side has granted, from the start.
    granted: Quota,
    /// What was put in, from the start, and what of it has left.
    put: Quota,
    left: Quota,
    /// The messages that wait, and how many items and bytes each has.
    waiting: VecDeque<(Load, Quota)>,
    /// A message of it has left in part.
    cutting: bool,
    lined_up: bool,
    /// The other side knows of the stream. An end before that would overtake its beginning.
    begun: bool,
    /// It is among those that found too much waiting.
    starved: bool,
    last: Last,
}

/// What comes behind the items.
#[derive(Debug)]
enum Last {
    Unknown,
    End,
    Answer(Draft),
    Gone,
}

/// What becomes of an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Room {
    /// Another one may be put in.
    Some,
    /// Not now.
    None,
    /// Never.
    Over,
}

/// An item, with its length before it.
#[derive(Debug)]
pub(crate) enum Item<'a> {
    Small(&'a [u8]),
    /// It has a message of its own, with room for the header in front.
    Large(Load),
}

impl Outlets {
    pub(crate) fn new(config: &Config) -> Outlets {
        Outlets {
            table: FxHashMap::default(),
            ready: VecDeque::new(),
            window: Quota { items: config.limits.stream_items, bytes: config.limits.stream_bytes },
            bytes: 0,
            limit: config.limits.send_queue_bytes,
            starved: Vec::new(),
            answered: false,
        }
    }

    /// A stream of which so much may be sent; nothing yet without a quota.
    pub(crate) fn open(&mut self, id: u64, outlet: Arc<Outlet>, granted: Option<Quota>) {
        let sending = Sending {
            outlet,
            granted: granted.unwrap_or_default(),
            put: Quota::default(),
            left: Quota::default(),
            waiting: VecDeque::new(),
            cutting: false,
            lined_up: false,
            begun: granted.is_some(),
            starved: false,
            last: Last::Unknown,
        };
        self.table.insert(id, sending);
    }

    pub(crate) fn contains(&self, id: u64) -> bool {
        self.table.contains_key(&id)
    }

    pub(crate) fn get(&self, id: u64) -> Option<&Arc<Outlet>> {
        self.table.get(&id).map(|sending| &sending.outlet)
    }

    /// Takes what the other side grants. `None` if there is no such stream or it can send nothing any more;
    /// else whether the quota can be right, and whether it is news.
    pub(crate) fn grant(&mut self, id: u64, granted: Quota) -> Option<Result<bool, ()>> {
        let sending = self.table.get_mut(&id)?;
        if !granted.follows(sending.granted) {
            return Some(Err(()));
        }
        let news = std::mem::replace(&mut sending.granted, granted) != granted;
        sending.begun = true;
        self.line_up(id);
        Some(Ok(news))
    }

    /// Whether an item may be put in, beside so many bytes of other messages.
    pub(crate) fn room(&mut self, id: u64, others: usize) -> Room {
        let Some(sending) = self.table.get_mut(&id).filter(|it| matches!(it.last, Last::Unknown)) else {
            return Room::Over;
        };
        if !sending.granted.has_room(sending.put) {
            return Room::None;
        }
        if self.bytes + others < self.limit && sending.has_room(self.window) {
            return Room::Some;
        }
        if !std::mem::replace(&mut sending.starved, true) {
            self.starved.push((id, sending.outlet.clone()));
        }
        Room::None
    }

    /// Puts an item in, if the stream still sends. Whoever does it has asked for room. Says how many
    /// messages it has waiting.
    pub(crate) fn put(&mut self, id: u64, bytes: usize, item: Item<'_>) -> Option<usize> {
        let sending = self.table.get_mut(&id).filter(|it| matches!(it.last, Last::Unknown))?;
        sending.put = sending.put.with_item(bytes);
        let quota = Quota::default().with_item(bytes);
        match item {
            Item::Small(item) => {
                let fits = |(load, _): &&mut (Load, Quota)| load.len() + item.len() <= FRAME_LIMIT;
                match sending.waiting.back_mut().filter(fits) {
                    Some((load, quota)) => {
                        let before = load.held();
                        load.append(item);
                        self.bytes += load.held() - before;
                        *quota = quota.with_item(bytes);
                    }
                    None => {
                        let mut buffer = Vec::with_capacity((HEADER_LEN + 4 * item.len()).max(FIRST));
                        buffer.resize(HEADER_LEN, 0);
                        buffer.extend_from_slice(item);
                        self.bytes += buffer.capacity();
                        sending.waiting.push_back((buffer.into(), quota));
                    }
                }
            }
            Item::Large(load) => {
                self.bytes += load.held();
                sending.waiting.push_back((load, quota));
            }
        }
        let n = sending.waiting.len();
        self.line_up(id);
        Some(n)
    }

    /// No more items come.
    pub(crate) fn end(&mut self, id: u64) {
        if let Some(sending) = self.table.get_mut(&id)
            && matches!(sending.last, Last::Unknown)
        {
            sending.last = Last::End;
            self.line_up(id);
        }
    }

    /// The call is answered. The answer comes back if it may go at once.
    pub(crate) fn answer(&mut self, id: u64, answer: Draft) -> Option<Draft> {
        let Some(sending) = self.table.get_mut(&id) else { return Some(answer) };
        self.bytes += held(&answer);
        // An end that waits has nothing to add to it.
        sending.last = Last::Answer(answer);
        if sending.waiting.is_empty() && std::mem::take(&mut sending.lined_up) {
            self.ready.retain(|other| *other != id);
        }
        self.release(id)
    }

    /// Forgets a stream, and what of it waits.
    pub(crate) fn remove(&mut self, id: u64) -> Option<Arc<Outlet>> {
        let sending = self.table.remove(&id)?;
        if sending.starved {
            self.starved.retain(|(other, _)| *other != id);
        }
        self.bytes -= sending.bytes();
        if sending.lined_up {
            self.ready.retain(|other| *other != id);
        }
        Some(sending.outlet)
    }

    /// The other side takes no more items: what waits is forgotten. The answer comes back if it may go now.
    pub(crate) fn stop(&mut self, id: u64) -> Option<(Arc<Outlet>, Option<Draft>)> {
        let sending = self.table.get_mut(&id)?;
        let outlet = sending.outlet.clone();
        self.bytes -= sending.bytes();
        if let Last::Answer(answer) = &sending.last {
            self.bytes += held(answer);
        }
        sending.waiting.clear();
        if !matches!(sending.last, Last::Answer(_)) {
            sending.last = Last::Gone;
        }
        // Whoever waits for room is told by whoever has stopped it.
        if std::mem::take(&mut sending.starved) {
            self.starved.retain(|(other, _)| *other != id);
        }
        if std::mem::take(&mut sending.lined_up) {
            self.ready.retain(|other| *other != id);
        }
        Some((outlet, self.release(id)))
    }

    /// Forgets all.
    pub(crate) fn clear(&mut self) -> Vec<(u64, Arc<Outlet>)> {
        self.ready.clear();
        self.starved.clear();
        self.bytes = 0;
        self.table.drain().map(|(id, sending)| (id, sending.outlet)).collect()
    }

    /// Turns to a message that may go; with `large`, also one that has to be cut. Says whether there is any.
    pub(crate) fn turn(&mut self, large: bool) -> bool {
        for _ in 0..self.ready.len() {
            if large || self.next_size() <= FRAME_LIMIT {
                return true;
            }
            // It makes way for the others.
            self.ready.rotate_left(1);
        }
        false
    }

    /// The size of the message that goes next.
    pub(crate) fn next_size(&self) -> usize {
        let first = self.ready.front().and_then(|id| self.table.get(id));
        first.and_then(|sending| sending.waiting.front()).map_or(HEADER_LEN, |(load, _)| load.len())
    }

    /// Takes the message that goes next, and the answer that may go behind it.
    pub(crate) fn next(&mut self) -> Option<(Draft, Option<Draft>)> {
        let id = self.ready.pop_front()?;
        let sending = self.table.get_mut(&id)?;
        sending.lined_up = false;
        let Some((load, quota)) = sending.waiting.pop_front() else {
            sending.last = Last::Gone;
            return Some((Draft::bare(Kind::StreamEnd, id), None));
        };
        self.bytes -= load.held();
        sending.left = sending.left.plus(quota);
        sending.cutting = load.is_large();
        self.line_up(id);
        Some((Draft { kind: Kind::StreamItem, id, load }, self.release(id)))
    }

    /// A message has left wholly that had been cut. The answer comes back if it may go now.
    pub(crate) fn has_left(&mut self, id: u64) -> Option<Draft> {
        self.table.get_mut(&id)?.cutting = false;
        self.line_up(id);
        self.release(id)
    }

    /// The answer to a call all of whose items have left.
    fn release(&mut self, id: u64) -> Option<Draft> {
        let sending = self.table.get(&id)?;
        let due = sending.waiting.is_empty() && !sending.cutting && matches!(sending.last, Last::Answer(_));
        let over = due.then(|| self.table.remove(&id))??;
        self.answered |= over.starved;
        if let Last::Answer(answer) = over.last {
            self.bytes -= held(&answer);
            Some(answer)
        } else {
            None
        }
    }

    /// Those that may go on now, of those for which too much waited, beside so many bytes of other messages.
    pub(crate) fn take_starved(&mut self, others: usize) -> Vec<Arc<Outlet>> {
        let has_room = self.bytes + others < self.limit;
        if !has_room && !std::mem::take(&mut self.answered) {
            return Vec::new();
        }
        let starved = std::mem::take(&mut self.starved).into_iter();
        let may_go_on = |sending: &Sending| has_room && sending.has_room(self.window);
        let (fed, starved) = starved.partition(|(id, _)| self.table.get(id).is_none_or(may_go_on));
        self.starved = starved;
        let fed: Vec<(u64, Arc<Outlet>)> = fed;
        let feed = |(id, outlet)| {
            if let Some(sending) = self.table.get_mut(&id) {
                sending.starved = false;
            }
            outlet
        };
        fed.into_iter().map(feed).collect()
    }

    /// Whether there are any that found too many.
    pub(crate) fn has_starved(&self) -> bool {
        !self.starved.is_empty()
    }

    /// Whether there are no streams that send.
    pub(crate) fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// Whether nothing waits that may go.
    pub(crate) fn is_drained(&self) -> bool {
        self.ready.is_empty()
    }

    fn line_up(&mut self, id: u64) {
        let Some(sending) = self.table.get_mut(&id) else { return };
        let has_some = !sending.waiting.is_empty() || matches!(sending.last, Last::End);
        let may_go = sending.begun && !sending.cutting && has_some;
        if may_go && !sending.lined_up {
            sending.lined_up = true;
            self.ready.push_back(id);
        }
    }
}

impl Sending {
    /// Whether less waits than may.
    fn has_room(&self, window: Quota) -> bool {
        let waiting = self.put.since(self.left);
        waiting.items < window.items && waiting.bytes < window.bytes
    }

    fn bytes(&self) -> usize {
        let answer = if let Last::Answer(answer) = &self.last { held(answer) } else { 0 };
        self.waiting.iter().map(|(load, _)| load.held()).sum::<usize>() + answer
    }
}

/// What an answer takes of the room for what waits. A short one takes none: their number has a limit.
pub(super) fn held(answer: &Draft) -> usize {
    Some(answer.load.held()).filter(|held| *held > SHORT).unwrap_or_default()
}

/// The room in a message that is begun.
const FIRST: usize = 512;

#[cfg(test)]
mod tests;
