//! Places where the tests of the library have it panic, get no thread, or do what another thread may have done, to see
//! what becomes of those who wait.

use std::io;

/// What to do next, where, and how the threads are called that do.
static WHERE: parking_lot::Mutex<Option<(&str, &str, Deed)>> = parking_lot::Mutex::new(None);

type Deed = Box<dyn FnOnce() + Send>;

/// The next thread that comes to this place panics, once, if it is called so. What was not come to is given back.
pub(crate) fn fail_once(place: Option<&'static str>, threads: &'static str) -> Option<&'static str> {
    // As a panic, but without the noise on stderr.
    let panic =
        |place| -> Deed { Box::new(move || std::panic::resume_unwind(Box::new(format!("at {place}")))) };
    let next = place.map(|place| (place, threads, panic(place)));
    std::mem::replace(&mut *WHERE.lock(), next).map(|(place, ..)| place)
}

/// The next thread that comes to this place does this there, once, if it is called so.
pub(crate) fn do_once(place: &'static str, threads: &'static str, deed: impl FnOnce() + Send + 'static) {
    *WHERE.lock() = Some((place, threads, Box::new(deed)));
}

/// Whether that is to come.
pub(crate) fn is_to_fail() -> bool {
    WHERE.lock().is_some()
}

/// Panics if it is to, or does what else it is to do.
pub(crate) fn fail_here(place: &str) {
    let here = |(at, threads, _): &mut (&str, &str, Deed)| {
        *at == place && std::thread::current().name().is_some_and(|name| name.starts_with(*threads))
    };
    let found = WHERE.lock().take_if(here);
    if let Some((.., deed)) = found {
        deed();
    }
}

/// The crews that get no thread any more, and how often each has asked for one.
static STARVED: parking_lot::Mutex<Vec<(&str, u32)>> = parking_lot::Mutex::new(Vec::new());

/// Crews of this name get no thread any more.
pub(crate) fn starve(crew: &'static str) {
    STARVED.lock().push((crew, 0));
}

/// It gets threads again. Says how often it has asked for one meanwhile.
pub(crate) fn feed(crew: &str) -> u32 {
    STARVED.lock().extract_if(.., |(starved, _)| *starved == crew).map(|(_, asked)| asked).sum()
}

/// As if the operating system had no thread left, for a crew that is to get none.
pub(crate) fn thread_to_be_had(crew: &str) -> io::Result<()> {
    let is_starved = |(starved, asked): &mut (&str, u32)| {
        *asked += u32::from(*starved == crew);
        *starved == crew
    };
    if !STARVED.lock().iter_mut().any(is_starved) {
        return Ok(());
    }
    // The threads before it are likely to have come to where they wait by now.
    std::thread::sleep(std::time::Duration::from_millis(20));
    Err(io::ErrorKind::WouldBlock.into())
}
