//! What children write, on its way in and on its way out.

use std::{
    io::{self, Read, Write},
    thread::Builder,
    time::Duration,
};

use crossbeam_channel::{Sender, bounded};

use crate::{
    os::{fd::OwnedFd, pump::pump},
    sync::OnceLock,
};

/// What a child writes, as something that can be waited for.
pub(crate) fn output(pipe: impl Read + Send + 'static) -> io::Result<OwnedFd> {
    pump(pipe)
}

/// How much later than a child's end its last words may come: they go through a thread.
pub(crate) const OUTPUT_LAG: Duration = Duration::from_millis(200);

/// Writes to our own stderr, if there is room for it; gives how much that was. Whoever reads our stderr may have
/// stopped, so a thread of its own waits for that. It lives as long as the process.
pub(crate) fn pass_on(piece: &[u8]) -> usize {
    static WRITER: OnceLock<Option<Sender<Vec<u8>>>> = OnceLock::new();
    let sent =
        WRITER.get_or_init(writer).as_ref().is_some_and(|writer| writer.try_send(piece.to_vec()).is_ok());
    if sent { piece.len() } else { 0 }
}

fn writer() -> Option<Sender<Vec<u8>>> {
    let (sender, pieces) = bounded::<Vec<u8>>(MOST_WAITING);
    let write = move || {
        for piece in pieces {
            // Nobody is left to be told.
            let _ = io::stderr().write_all(&piece);
        }
    };
    Builder::new().name("nape-stderr".into()).spawn(write).ok().map(|_| sender)
}

/// How many pieces, of a page each, wait for somebody to read our stderr.
const MOST_WAITING: usize = 64;
