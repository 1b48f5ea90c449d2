//! Places where the tests of the library have it panic, to see what becomes of those who wait, or where they do
//! something that another thread may have done.

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
