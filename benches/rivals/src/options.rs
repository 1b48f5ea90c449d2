//! The command line.

use crate::work::Work;

/// What to measure, and how much of it.
#[derive(Debug)]
pub(crate) struct Options {
    /// A part of the names of the contenders that take part; several are separated by `|`.
    pub(crate) filter: String,
    pub(crate) works: Vec<Work>,
    pub(crate) repetitions: usize,
    /// Small calls in one measurement; the other kinds of work have a number that goes with it.
    pub(crate) calls: u64,
    /// Whether caller and callee share a core.
    pub(crate) one_core: bool,
}

impl Options {
    /// Reads the arguments, or says what is wrong with them.
    pub(crate) fn parse(args: &[String]) -> Result<Options, String> {
        let has = |name: &str| args.iter().any(|arg| arg == name);
        let (repetitions, calls) = if has("--quick") { (3, 500) } else { (9, 20_000) };
        let mut options = Options {
            filter: String::new(),
            works: Work::ALL.to_vec(),
            repetitions,
            calls,
            one_core: has("--one-core"),
        };
        let mut rest = args.iter();
        while let Some(arg) = rest.next() {
            match arg.as_str() {
                "--quick" | "--one-core" => {}
                "--filter" => options.filter = value(arg, rest.next())?.clone(),
                "--work" => options.works = works(value(arg, rest.next())?)?,
                "--reps" => options.repetitions = number(arg, rest.next())? as usize,
                "--calls" => options.calls = number(arg, rest.next())?,
                other => return Err(format!("no option `{other}`: see README.md")),
            }
        }
        Ok(options)
    }
}

fn value<'a>(name: &str, value: Option<&'a String>) -> Result<&'a String, String> {
    value.ok_or_else(|| format!("{name} takes a value"))
}

fn number(name: &str, text: Option<&String>) -> Result<u64, String> {
    let number = value(name, text)?.parse().ok().filter(|number| *number > 0);
    number.ok_or_else(|| format!("{name} takes a number above zero"))
}

fn works(names: &str) -> Result<Vec<Work>, String> {
    let all = || Work::ALL.map(Work::name).join(", ");
    let one = |name| Work::named(name).ok_or_else(|| format!("no work `{name}`: there are {}", all()));
    names.split(',').map(one).collect()
}
