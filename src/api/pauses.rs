//! Calls that wait until they are made again.

use std::{
    thread::{Builder, JoinHandle},
    time::Instant,
};

use super::relay::Relay;
use crate::sync::{Arc, Condvar, Mutex};

/// Those of one endpoint. One thread watches them while there are any.
#[derive(Default)]
pub(crate) struct Pauses {
    waiting: Mutex<Waiting>,
    news: Condvar,
}

#[derive(Default)]
struct Waiting {
    relays: Vec<(Instant, Arc<Relay>)>,
    /// There is a thread.
    watched: bool,
    watcher: Option<JoinHandle<()>>,
}

impl Pauses {
    /// Makes a call again at this time. `false` if there is no thread for it.
    pub(super) fn add(self: &Arc<Pauses>, at: Instant, relay: Arc<Relay>, name: &str) -> bool {
        let mut waiting = self.waiting.lock();
        waiting.relays.push((at, relay));
        if waiting.watched {
            drop(waiting);
            self.news.notify_all();
            return true;
        }
        let theirs = self.clone();
        match Builder::new().name(format!("{name}-pauses")).spawn(move || theirs.watch()) {
            Ok(thread) => {
                waiting.watched = true;
                // The one before it has run its last line, or is about to.
                waiting.watcher = Some(thread);
                true
            }
            Err(error) => {
                log::warn!("no thread to make calls again: {error}");
                waiting.relays.pop();
                false
            }
        }
    }

    /// All that wait, which do not any more.
    pub(super) fn take_all(&self) -> Vec<Arc<Relay>> {
        let all = std::mem::take(&mut self.waiting.lock().relays);
        self.news.notify_all();
        all.into_iter().map(|(_, relay)| relay).collect()
    }

    /// Whether nobody waits.
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.lock().relays.is_empty()
    }

    fn watch(&self) {
        loop {
            let mut waiting = self.waiting.lock();
            let now = Instant::now();
            let due: Vec<_> =
                waiting.relays.extract_if(.., |(at, relay)| *at <= now || relay.is_over()).collect();
            if due.is_empty() {
                let next = waiting.relays.iter().map(|(at, _)| *at).min();
                let Some(next) = next else {
                    waiting.watched = false;
                    return;
                };
                self.news.wait_until(&mut waiting, next);
                continue;
            }
            drop(waiting);
            due.into_iter().for_each(|(_, relay)| relay.again());
        }
    }

    /// Waits for the thread, which has nothing to watch any more.
    pub(super) fn join(&self) {
        let watcher = self.waiting.lock().watcher.take();
        if let Some(watcher) = watcher.filter(|watcher| watcher.thread().id() != std::thread::current().id())
        {
            let _ = watcher.join();
        }
    }
}
