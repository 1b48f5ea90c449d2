//! Events as they come, for somebody who may not keep up with them.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use super::{EventArguments, TailedEvent, is_below};
use crate::{
    api::{Meters, Seen, Witness},
    link::CancelToken,
    sync::{Arc, Condvar, Mutex},
    wire::{Bytes, Fault, Path},
};

/// What is to be seen of all events.
pub(super) struct Sight {
    pub(super) prefix: String,
    pub(super) hidden: Vec<String>,
    /// Whether that which layers hide from others is.
    pub(super) local: bool,
}

/// Where the events of one tail wait.
struct Queue {
    sight: Sight,
    state: Mutex<State>,
    news: Condvar,
}

#[derive(Default)]
struct State {
    events: VecDeque<TailedEvent>,
    /// How much they take.
    bytes: usize,
    /// How many went since the last one that was taken.
    lost: u64,
}

/// What sees the events of one link for a tail.
struct Ear {
    link: String,
    queue: Arc<Queue>,
}

/// The items of a tail. It ends when its caller gives it up.
pub(super) struct Tailing {
    queue: Arc<Queue>,
    ears: Vec<(Arc<Meters>, Arc<dyn Witness>)>,
    caller: CancelToken,
    /// There is room for so many of them.
    _place: Arc<()>,
}

impl State {
    /// Makes room for an event by the oldest ones.
    fn keep(&mut self, event: TailedEvent) {
        self.bytes += size(&event);
        self.events.push_back(event);
        while self.events.len() > BOUND || self.bytes > MOST_BYTES {
            self.take();
            self.lost += 1;
        }
    }

    fn take(&mut self) -> Option<TailedEvent> {
        let event = self.events.pop_front()?;
        self.bytes -= size(&event);
        Some(event)
    }
}

/// What an event takes in memory.
fn size(event: &TailedEvent) -> usize {
    let arguments = match &event.arguments {
        EventArguments::Json(text) => text.len(),
        EventArguments::Binary(bytes) => bytes.len(),
        EventArguments::Large(_) | EventArguments::Unknown => 0,
    };
    size_of::<TailedEvent>() + event.link.len() + event.path.len() + arguments
}

impl Tailing {
    /// Sees what comes over these links from now on.
    pub(super) fn new(
        sight: Sight,
        links: Vec<(String, Arc<Meters>)>,
        caller: CancelToken,
        place: Arc<()>,
    ) -> Tailing {
        let queue = Queue { sight, state: Mutex::default(), news: Condvar::new() };
        let queue = Arc::new(queue);
        let listen = |(link, meters): (String, Arc<Meters>)| {
            let ear: Arc<dyn Witness> = Arc::new(Ear { link, queue: queue.clone() });
            meters.show(ear.clone());
            (meters, ear)
        };
        let ears = links.into_iter().map(listen).collect();
        Tailing { queue, ears, caller, _place: place }
    }
}

impl Iterator for Tailing {
    type Item = Result<TailedEvent, Fault>;

    fn next(&mut self) -> Option<Result<TailedEvent, Fault>> {
        let mut state = self.queue.state.lock();
        loop {
            if self.caller.is_cancelled() {
                return None;
            }
            if let Some(event) = state.take() {
                let lost = std::mem::take(&mut state.lost);
                return Some(Ok(TailedEvent { lost, ..event }));
            }
            // Nobody says that the caller has gone while nothing comes.
            let _ = self.queue.news.wait_until(&mut state, Instant::now() + LOOK);
        }
    }
}

impl Drop for Tailing {
    fn drop(&mut self) {
        self.ears.iter().for_each(|(meters, ear)| meters.hide(ear));
    }
}

impl Witness for Ear {
    fn wants(&self, path: &Path) -> bool {
        let Sight { prefix, hidden, .. } = &self.queue.sight;
        is_below(path.as_str(), prefix) && !hidden.iter().any(|hidden| is_below(path.as_str(), hidden))
    }

    fn is_local(&self) -> bool {
        self.queue.sight.local
    }

    fn see(&self, path: &Path, arguments: &Seen) {
        let arguments = match arguments {
            Seen::Json(text) => EventArguments::Json(text.clone()),
            Seen::Binary(bytes) => EventArguments::Binary(Bytes::from(&bytes[..])),
            Seen::Large(len) => EventArguments::Large(*len as u64),
            Seen::Nothing => EventArguments::Unknown,
        };
        let event = TailedEvent { link: self.link.clone(), path: path.to_string(), arguments, lost: 0 };
        let mut state = self.queue.state.lock();
        state.keep(event);
        drop(state);
        self.queue.news.notify_one();
    }
}

/// How many events wait for whoever takes them, and how much they take, where the arguments of each are 16 KiB at most.
const BOUND: usize = 256;
const MOST_BYTES: usize = 1 << 20;
/// How often a tail without events looks whether anybody still wants some.
const LOOK: Duration = Duration::from_millis(250);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_is_bounded_in_number_and_in_bytes() {
        let event = |len| TailedEvent {
            link: String::new(),
            path: "a.b".into(),
            arguments: EventArguments::Json("x".repeat(len)),
            lost: 0,
        };
        let mut state = State::default();
        (0..1000).for_each(|_| state.keep(event(0)));
        assert_eq!((state.events.len(), state.lost), (BOUND, 1000 - BOUND as u64));
        (0..1000).for_each(|_| state.keep(event(16 << 10)));
        assert!((60..64).contains(&state.events.len()) && state.bytes <= MOST_BYTES);
        assert_eq!(state.lost, 2000 - state.events.len() as u64);
        while state.take().is_some() {}
        assert_eq!(state.bytes, 0);
    }
}
