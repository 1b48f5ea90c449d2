//! Places where the tests of the library have it panic, or get no thread, to see what becomes of those who wait.

use std::io;

/// Where to panic next, and how the threads are called that do.
static WHERE: parking_lot::Mutex<Option<(&str, &str)>> = parking_lot::Mutex::new(None);

/// The next thread that comes to this place panics, once, if it is called so. What was not come to is given back.
pub(crate) fn fail_once(place: Option<&'static str>, threads: &'static str) -> Option<&'static str> {
    std::mem::replace(&mut *WHERE.lock(), place.map(|place| (place, threads))).map(|(place, _)| place)
}

/// Whether that is to come.
pub(crate) fn is_to_fail() -> bool {
    WHERE.lock().is_some()
}

/// Panics if it is to. As a panic, but without the noise on stderr.
pub(crate) fn fail_here(place: &str) {
    let here = |(at, threads): &mut (&str, &str)| {
        *at == place && std::thread::current().name().is_some_and(|name| name.starts_with(*threads))
    };
    if WHERE.lock().take_if(here).is_some() {
        std::panic::resume_unwind(Box::new(format!("at {place}")));
    }
}

/// The crews that get no thread any more.
static STARVED: parking_lot::Mutex<Vec<&str>> = parking_lot::Mutex::new(Vec::new());

/// Crews of this name get no thread any more.
pub(crate) fn starve(crew: &'static str) {
    STARVED.lock().push(crew);
}

/// As if the operating system had no thread left, for a crew that is to get none.
pub(crate) fn thread_to_be_had(crew: &str) -> io::Result<()> {
    if !STARVED.lock().contains(&crew) {
        return Ok(());
    }
    // The threads before it are likely to have come to where they wait by now.
    std::thread::sleep(std::time::Duration::from_millis(20));
    Err(io::ErrorKind::WouldBlock.into())
}
