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
            if let Some(event) = state.events.pop_front() {
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
        if state.events.len() == BOUND {
            state.events.pop_front();
            state.lost += 1;
        }
        state.events.push_back(event);
        drop(state);
        self.queue.news.notify_one();
    }
}

/// How many events wait for whoever takes them.
const BOUND: usize = 256;
/// How often a tail without events looks whether anybody still wants some.
const LOOK: Duration = Duration::from_millis(250);
