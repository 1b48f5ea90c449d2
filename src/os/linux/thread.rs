//! Which thread this is, and what another one is called.

use std::{cell::Cell, fs};

use rustix::thread::gettid;

thread_local! {
    static ID: Cell<u32> = const { Cell::new(0) };
}

/// The number of the calling thread, never 0. It is asked for once in the life of a thread.
pub(crate) fn thread_id() -> u32 {
    ID.with(|id| {
        if id.get() == 0 {
            id.set(gettid().as_raw_nonzero().get().unsigned_abs());
        }
        id.get()
    })
}

/// What a thread of this process is called, as the kernel knows it: the first 15 bytes. `None` if there is no
/// such thread any more.
pub(crate) fn thread_name(id: u32) -> Option<String> {
    let name = fs::read(format!("/proc/self/task/{id}/comm")).ok()?;
    Some(String::from_utf8_lossy(&name).trim_end().to_owned())
}
