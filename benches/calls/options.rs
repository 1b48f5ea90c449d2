//! The command line.

/// What to measure, and how much of it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Options {
    /// A part of the names of the contenders that take part.
    pub(crate) filter: String,
    pub(crate) repetitions: usize,
    /// Calls in one measurement.
    pub(crate) calls: u64,
    /// Calls before that.
    pub(crate) warm_up: u64,
    /// Whether system calls are counted, which takes `strace`.
    pub(crate) system_calls: bool,
}

impl Options {
    /// Reads the arguments. What it does not know it leaves alone: cargo adds some of its own.
    pub(crate) fn parse(args: &[String]) -> Options {
        let has = |name: &str| args.iter().any(|arg| arg == name);
        let value = |name: &str| args.iter().skip_while(|arg| *arg != name).nth(1);
        let number = |name: &str| {
            value(name).map(|text| {
                let number = text.parse().ok().filter(|number| *number > 0);
                number.unwrap_or_else(|| panic!("{name} takes a number above zero, not `{text}`"))
            })
        };
        let (repetitions, calls) = if has("--quick") { (3, 500) } else { (9, 20_000) };
        let calls = number("--calls").unwrap_or(calls);
        Options {
            filter: value("--filter").cloned().unwrap_or_default(),
            repetitions: number("--reps").unwrap_or(repetitions) as usize,
            calls,
            warm_up: calls / 10 + 100,
            system_calls: has("--counts"),
        }
    }
}
