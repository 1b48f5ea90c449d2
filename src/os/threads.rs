//! Numbers and names of threads, where the system has none that serve: numbers of our own, and the names that Rust
//! gave them.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicU32, Ordering},
    thread,
};

use crate::sync::Mutex;

thread_local! {
    static ME: Me = Me::new();
}

/// What the threads that have asked for their number are called, for as long as they live.
static NAMES: Mutex<BTreeMap<u32, String>> = Mutex::new(BTreeMap::new());

struct Me(u32);

impl Me {
    fn new() -> Me {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        // Nothing depends on the order.
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = thread::current().name().unwrap_or_default().to_owned();
        NAMES.lock().insert(id, name);
        Me(id)
    }
}

impl Drop for Me {
    fn drop(&mut self) {
        NAMES.lock().remove(&self.0);
    }
}

/// The number of the calling thread, never 0. It is asked for once in the life of a thread.
pub(crate) fn thread_id() -> u32 {
    // A thread that is about to end has forgotten its number, and waits for nobody any more.
    ME.try_with(|me| me.0).unwrap_or(u32::MAX)
}

/// What a thread of this process is called. `None` if there is no such thread any more.
pub(crate) fn thread_name(id: u32) -> Option<String> {
    NAMES.lock().get(&id).cloned()
}

/// Waits until a thread has ended as a whole. There is no way here to do that until a deadline.
#[cfg(any(not(target_os = "linux"), nape_portable))]
pub(crate) fn join_until(thread: thread::JoinHandle<()>, _: std::time::Instant) -> bool {
    let _ = thread.join();
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_known_for_as_long_as_the_thread_lives() {
        let named = thread::Builder::new().name("by name".into());
        let id = named
            .spawn(|| {
                assert_eq!(thread_name(thread_id()).as_deref(), Some("by name"));
                thread_id()
            })
            .unwrap();
        let id = id.join().unwrap();
        assert_ne!(id, thread_id());
        assert_eq!(thread_name(id), None);
    }
}
