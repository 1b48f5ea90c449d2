//! Numbers for each path, for whatever exports them.

use std::{
    fmt,
    time::{Duration, Instant},
};

use metrics::{
    Counter, Gauge, Histogram, Recorder, Unit, counter, describe_counter, describe_gauge, describe_histogram,
    gauge, histogram, with_local_recorder,
};
use rustc_hash::FxHashMap;

use super::outcome::{WORDS, word};
use crate::{
    api::{Layer, LayerCall, Leave},
    error::CallError,
    sync::{Arc, OnceLock, RwLock},
    wire::{Path, Payload},
};

/// Counts and times each call and event that passes, on either side: with the feature `metrics`, for the
/// recorder that this program has installed with the crate of that name, and whatever that exports to.
///
/// | name | kind | labels besides `way` and `path` |
/// |---|---|---|
/// | `nape_calls_total` | counter: calls and streams that have ended | `outcome` |
/// | `nape_events_total` | counter: events that have been sent, or handled | `outcome` |
/// | `nape_in_flight` | gauge: what is under way | |
/// | `nape_call_seconds` | histogram: how long a call took, a handler where it is served | |
/// | `nape_bytes_total` | counter: bytes of values as they travelled | `part`: `arguments` or `result` |
///
/// `way` is `called` or `served`. `outcome` is `ok`, `fault` (the handler failed), `rejected`, `timed_out`,
/// `cancelled`, `closed`, `no_answer`, `decode`, `misuse` or `poisonous`. Bytes are counted where the layer
/// sees some: arguments and results where they are served, results where they are called, and neither where
/// values move within a process.
///
/// `path` has a bound, because a catch-all takes whatever a peer asks for: the first 256 paths of each way
/// have numbers of their own, and all others count together as `(others)`.
///
/// The recorder is asked for its counters when the first call of a path ends or begins, and never again for
/// the same ones: install it before that, or give it to [`Metrics::to`]. Without one nothing is recorded. One
/// layer is for many links: it is cheap to clone, and every clone is the same one.
///
/// ```
/// use nape::{Head, Neck, layers::Metrics};
///
/// let metrics = Metrics::new();
/// let (head, neck) = Head::builder()
///     .layer(metrics.clone())
///     .in_process_with(Neck::builder().layer(metrics))?;
/// # Ok::<(), nape::Error>(())
/// ```
#[derive(Clone)]
pub struct Metrics(Arc<Shared>);

struct Shared {
    recorder: Sink,
    most_paths: usize,
    called: Paths,
    served: Paths,
}

/// `None` is that of the program.
type Sink = Option<Arc<dyn Recorder + Send + Sync>>;
type Paths = RwLock<FxHashMap<Path, Arc<Numbers>>>;

/// Of one path and one way. Those that are never used are never registered.
struct Numbers {
    recorder: Sink,
    way: &'static str,
    path: String,
    calls: [OnceLock<Counter>; WORDS.len()],
    events: [OnceLock<Counter>; WORDS.len()],
    in_flight: Gauge,
    seconds: OnceLock<Histogram>,
    arguments: OnceLock<Counter>,
    results: OnceLock<Counter>,
}

impl Metrics {
    /// For the recorder of this program.
    pub fn new() -> Metrics {
        Metrics::with(None)
    }

    /// For this recorder, whichever the program has.
    pub fn to(recorder: impl Recorder + Send + Sync + 'static) -> Metrics {
        Metrics::with(Some(Arc::new(recorder)))
    }

    /// The same with numbers for so many paths of each way: 256 unless told otherwise. To be said before the
    /// layer is put anywhere: what comes back begins anew.
    pub fn most_paths(self, paths: usize) -> Metrics {
        let recorder = self.0.recorder.clone();
        Metrics(Arc::new(Shared { most_paths: paths, ..Shared::new(recorder) }))
    }

    fn with(recorder: Sink) -> Metrics {
        register(&recorder, || {
            describe_counter!("nape_calls_total", "calls and streams that have ended");
            describe_counter!("nape_events_total", "events that have been sent or handled");
            describe_gauge!("nape_in_flight", "calls and events under way");
            describe_histogram!("nape_call_seconds", Unit::Seconds, "how long calls took");
            describe_counter!("nape_bytes_total", Unit::Bytes, "bytes of arguments and results");
        });
        Metrics(Arc::new(Shared::new(recorder)))
    }

    fn numbers(&self, is_served: bool, path: &Path) -> Arc<Numbers> {
        let (paths, way) = match is_served {
            true => (&self.0.served, "served"),
            false => (&self.0.called, "called"),
        };
        loop {
            let known = paths.read();
            // The root is what no path of a call can be: it stands for those beyond the bound, once there are any.
            let others = || known.get(&Path::root());
            if let Some(numbers) = known.get(path).or_else(others) {
                return numbers.clone();
            }
            let is_full = known.len() >= self.0.most_paths;
            drop(known);
            let (key, label) = if is_full { (Path::root(), OTHERS) } else { (path.clone(), path.as_str()) };
            // Without the lock: the recorder is the user's, and may make calls that come here.
            let fresh = Arc::new(Numbers::new(&self.0.recorder, way, label));
            let mut known = paths.write();
            if let Some(numbers) = known.get(&key) {
                return numbers.clone();
            }
            if is_full || known.len() < self.0.most_paths {
                known.insert(key, fresh.clone());
                return fresh;
            }
        }
    }
}

impl Default for Metrics {
    fn default() -> Metrics {
        Metrics::new()
    }
}

impl Shared {
    fn new(recorder: Sink) -> Shared {
        Shared { recorder, most_paths: MOST_PATHS, called: Paths::default(), served: Paths::default() }
    }
}

impl Numbers {
    fn new(recorder: &Sink, way: &'static str, path: &str) -> Numbers {
        let label = path.to_owned();
        Numbers {
            recorder: recorder.clone(),
            way,
            path: path.to_owned(),
            calls: Default::default(),
            events: Default::default(),
            in_flight: register(recorder, || gauge!("nape_in_flight", "way" => way, "path" => label)),
            seconds: OnceLock::new(),
            arguments: OnceLock::new(),
            results: OnceLock::new(),
        }
    }

    fn count(&self, name: &'static str, of: &[OnceLock<Counter>; WORDS.len()], outcome: &'static str) {
        let index = WORDS.iter().position(|word| *word == outcome).unwrap_or_default();
        let (way, path) = (self.way, || self.path.clone());
        let ask = || counter!(name, "way" => way, "path" => path(), "outcome" => outcome);
        self.asked(&of[index], ask).increment(1);
    }

    fn add_bytes(&self, to: &OnceLock<Counter>, part: &'static str, bytes: Option<usize>) {
        let Some(bytes) = bytes else { return };
        let (way, path) = (self.way, || self.path.clone());
        let ask = || counter!("nape_bytes_total", "way" => way, "path" => path(), "part" => part);
        self.asked(to, ask).increment(bytes as u64);
    }

    fn took(&self, time: Duration) {
        let (way, path) = (self.way, || self.path.clone());
        let ask = || histogram!("nape_call_seconds", "way" => way, "path" => path());
        self.asked(&self.seconds, ask).record(time);
    }

    /// What the recorder was asked for once, or is asked for now: others may come here meanwhile.
    fn asked<'a, T>(&self, once: &'a OnceLock<T>, ask: impl FnOnce() -> T) -> &'a T {
        once.get().unwrap_or_else(|| {
            let fresh = register(&self.recorder, ask);
            once.get_or_init(|| fresh)
        })
    }
}

impl Layer for Metrics {
    fn enter(&self, call: &mut LayerCall<'_>) -> Result<Leave, CallError> {
        let numbers = self.numbers(call.context().is_some(), call.path());
        let (is_event, began) = (call.is_event(), Instant::now());
        numbers.add_bytes(&numbers.arguments, "arguments", call.size());
        numbers.in_flight.increment(1.0);
        Ok(Leave::with(move |outcome| {
            numbers.in_flight.decrement(1.0);
            if is_event {
                return numbers.count("nape_events_total", &numbers.events, word(outcome));
            }
            numbers.count("nape_calls_total", &numbers.calls, word(outcome));
            numbers.took(began.elapsed());
            numbers.add_bytes(&numbers.results, "result", outcome.as_ref().ok().and_then(Payload::size));
        }))
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

/// Asks the recorder for something.
fn register<T>(recorder: &Sink, ask: impl FnOnce() -> T) -> T {
    match recorder {
        Some(recorder) => with_local_recorder(&**recorder, ask),
        None => ask(),
    }
}

const MOST_PATHS: usize = 256;
const OTHERS: &str = "(others)";
