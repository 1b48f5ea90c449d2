//! Lines for the log of the program: all of them pass here.
//!
//! Knows nothing of what they say. A logger is code of the user's: it takes as long as it likes, calls over the very
//! link that a line is about, waits for a thread that does, or panics. So a line is written where the calling thread
//! holds no lock, and where nobody waits for what it does next; what cannot be written there is kept as a [`Line`].

use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
};

use log::Level;

use crate::sync::hold_nothing;

/// Writes a line at once. In a debug build this panics where a lock is held, whether there is a logger or not.
macro_rules! say {
    ($level:ident, $($text:tt)+) => {
        $crate::logging::write(::log::Level::$level, ::core::module_path!(), ::core::format_args!($($text)+))
    };
}

/// Keeps a line to be [written](Line::write) later. `None` if nobody wants lines of this kind.
macro_rules! line {
    ($level:ident, $($text:tt)+) => {
        $crate::logging::is_wanted(::log::Level::$level).then(|| $crate::logging::Line {
            level: ::log::Level::$level,
            target: ::core::module_path!(),
            text: ::std::format!($($text)+),
        })
    };
}

pub(crate) use {line, say};

/// Text that is written later.
#[derive(Debug)]
#[must_use = "a line that is not written says nothing"]
pub(crate) struct Line {
    pub(crate) level: Level,
    pub(crate) target: &'static str,
    pub(crate) text: String,
}

impl Line {
    /// As [`say`].
    pub(crate) fn write(self) {
        write(self.level, self.target, format_args!("{}", self.text));
    }
}

/// Whether lines of this kind are written at all. It does not ask the logger.
pub(crate) fn is_wanted(level: Level) -> bool {
    level <= log::STATIC_MAX_LEVEL && level <= log::max_level()
}

pub(crate) fn write(level: Level, target: &str, text: fmt::Arguments<'_>) {
    hold_nothing();
    if !is_wanted(level) {
        return;
    }
    let written = catch_unwind(AssertUnwindSafe(|| log::log!(target: target, level, "{text}")));
    // Its panic ends nothing of ours, and neither does what that carries.
    if let Err(Err(worse)) = written.map_err(|panic| catch_unwind(AssertUnwindSafe(|| drop(panic)))) {
        std::mem::forget(worse);
    }
}
