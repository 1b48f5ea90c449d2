//! Numbers for each path, and a look at events as they come, for whoever has asked for them.
//!
//! Nobody else pays for it: a handler is wrapped when somebody asks, and unwrapped when nobody does any more. With
//! it a handler costs two looks at the clock and a few counters, which all callers of its path share.

use std::{
    any::{Any, TypeId},
    collections::BTreeMap,
    fmt,
    time::{Duration, Instant},
};

use super::{
    Context, Handler,
    handler::{Serve, Served},
};
use crate::{
    error::CallError,
    sync::{Arc, AtomicU64, AtomicUsize, Mutex, Ordering, RwLock},
    wire::{Codec, Path, Payload},
    workers::panics,
};

/// The numbers of one side.
#[derive(Default)]
pub(crate) struct Meters {
    paths: Mutex<BTreeMap<Path, Arc<Meter>>>,
    witnesses: RwLock<Vec<Arc<dyn Witness>>>,
    n_witnesses: AtomicUsize,
}

/// Sees events as they come. It neither blocks nor runs user code.
pub(crate) trait Witness: Send + Sync {
    /// Whether it wants to see those to this path.
    fn wants(&self, path: &Path) -> bool;

    /// Whether it may see what layers hide from others.
    fn is_local(&self) -> bool;

    /// Sees one.
    fn see(&self, path: &Path, arguments: &Seen);
}

/// What is known of the arguments of an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    Json(String),
    /// In the binary codec, of which only the handler knows the types.
    Binary(Vec<u8>),
    /// So many bytes are not kept.
    Large(usize),
    /// They cannot be encoded.
    Nothing,
}

/// The numbers of one path.
pub(crate) struct Meter {
    calls: AtomicU64,
    events: AtomicU64,
    running: AtomicU64,
    faults: AtomicU64,
    rejections: AtomicU64,
    longest: AtomicU64,
    /// How many took how long, see [`bucket`].
    times: [AtomicU64; BUCKETS],
}

/// What the numbers of one path are at a moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Reading {
    pub(crate) calls: u64,
    pub(crate) events: u64,
    pub(crate) running: u64,
    pub(crate) faults: u64,
    pub(crate) rejections: u64,
    pub(crate) half: Duration,
    pub(crate) p99: Duration,
    pub(crate) longest: Duration,
}

impl Meters {
    /// The handler of `path`, which counts from now on.
    pub(crate) fn wrap(self: &Arc<Meters>, path: &Path, handler: Handler) -> Handler {
        let inner = unwrapped(handler);
        let meter = self.paths.lock().entry(path.clone()).or_default().clone();
        let serve = Arc::new(Metered { inner: inner.serve.clone(), meter, meters: self.clone() });
        Handler { serve, ..inner }
    }

    /// The numbers of all paths that have been served meanwhile.
    pub(crate) fn read(&self) -> Vec<(Path, Reading)> {
        self.paths.lock().iter().map(|(path, meter)| (path.clone(), meter.read())).collect()
    }

    /// Shows it the events that come from now on.
    pub(crate) fn show(&self, witness: Arc<dyn Witness>) {
        let mut witnesses = self.witnesses.write();
        witnesses.push(witness);
        self.n_witnesses.store(witnesses.len(), Ordering::Relaxed);
    }

    /// Shows it no more of them.
    pub(crate) fn hide(&self, witness: &Arc<dyn Witness>) {
        let mut witnesses = self.witnesses.write();
        witnesses.retain(|other| !Arc::ptr_eq(other, witness));
        self.n_witnesses.store(witnesses.len(), Ordering::Relaxed);
    }

    #[cold]
    fn tell(&self, context: &Context, payload: &Payload, handler: &dyn Serve) {
        let path = context.path();
        // Asked before the lock is taken: it is code of the user's.
        let is_hidden = handler.hides(path, false);
        let wanted = |witness: &&Arc<dyn Witness>| witness.wants(path) && (witness.is_local() || !is_hidden);
        let witnesses: Vec<_> = self.witnesses.read().iter().filter(wanted).cloned().collect();
        if !witnesses.is_empty() {
            let seen = Seen::of(payload, context.codec());
            witnesses.iter().for_each(|witness| witness.see(path, &seen));
        }
    }
}

/// The handler as its API gave it.
pub(crate) fn unwrapped(handler: Handler) -> Handler {
    match handler.serve.inner() {
        Some(serve) => Handler { serve, ..handler },
        None => handler,
    }
}

impl Seen {
    fn of(payload: &Payload, codec: Codec) -> Seen {
        let codec = if payload.is_moved() { Codec::Json } else { codec };
        let (mut bytes, mut written) = (Vec::new(), false);
        // What moves is of a type of the user's.
        if panics(|| written = payload.write_to(codec, &mut bytes).is_ok()) || !written {
            return Seen::Nothing;
        }
        match (bytes.len() > MOST_BYTES, codec) {
            (true, _) => Seen::Large(bytes.len()),
            (false, Codec::Json) => String::from_utf8(bytes).map_or(Seen::Nothing, Seen::Json),
            (false, Codec::Binary) => Seen::Binary(bytes),
        }
    }
}

impl Default for Meter {
    fn default() -> Meter {
        Meter {
            calls: AtomicU64::default(),
            events: AtomicU64::default(),
            running: AtomicU64::default(),
            faults: AtomicU64::default(),
            rejections: AtomicU64::default(),
            longest: AtomicU64::default(),
            times: std::array::from_fn(|_| AtomicU64::default()),
        }
    }
}

impl Meter {
    fn begin(&self, is_event: bool) -> Run<'_> {
        up(if is_event { &self.events } else { &self.calls });
        up(&self.running);
        Run { meter: self, since: Instant::now(), end: End::Fault }
    }

    fn read(&self) -> Reading {
        let number = |of: &AtomicU64| of.load(Ordering::Relaxed);
        let times: Vec<u64> = self.times.iter().map(number).collect();
        let longest = number(&self.longest);
        let quantile = |percent| Duration::from_nanos(quantile(&times, percent).min(longest));
        Reading {
            calls: number(&self.calls),
            events: number(&self.events),
            running: number(&self.running),
            faults: number(&self.faults),
            rejections: number(&self.rejections),
            half: quantile(50),
            p99: quantile(99),
            longest: Duration::from_nanos(longest),
        }
    }
}

/// A handler that runs. One that panics ends here, too.
struct Run<'a> {
    meter: &'a Meter,
    since: Instant,
    end: End,
}

#[derive(Clone, Copy)]
enum End {
    Well,
    Fault,
    Rejected,
}

impl Run<'_> {
    fn end(mut self, end: End) {
        self.end = end;
    }
}

impl Drop for Run<'_> {
    fn drop(&mut self) {
        let took = u64::try_from(self.since.elapsed().as_nanos()).unwrap_or(u64::MAX);
        match self.end {
            End::Well => {}
            End::Fault => up(&self.meter.faults),
            End::Rejected => up(&self.meter.rejections),
        }
        up(&self.meter.times[bucket(took)]);
        self.meter.longest.fetch_max(took, Ordering::Relaxed);
        self.meter.running.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A handler that is counted.
struct Metered {
    inner: Arc<dyn Serve>,
    meter: Arc<Meter>,
    meters: Arc<Meters>,
}

impl Serve for Metered {
    fn serve(&self, context: &Context, payload: &mut Payload) -> Served {
        if context.is_event() && self.meters.n_witnesses.load(Ordering::Relaxed) > 0 {
            self.meters.tell(context, payload, &*self.inner);
        }
        let run = self.meter.begin(context.is_event());
        let served = self.inner.serve(context, payload);
        run.end(match &served {
            Served::Failed(CallError::Rejected(_)) => End::Rejected,
            Served::Failed(_) => End::Fault,
            Served::Done | Served::Later | Served::Answer(_) | Served::Stream(_) => End::Well,
        });
        served
    }

    fn fits(&self, arguments: TypeId, result: TypeId) -> bool {
        self.inner.fits(arguments, result)
    }

    fn serve_here(
        &self,
        context: &Context,
        arguments: &mut dyn Any,
        result: &mut dyn Any,
    ) -> Result<(), CallError> {
        let run = self.meter.begin(false);
        let served = self.inner.serve_here(context, arguments, result);
        run.end(if served.is_ok() { End::Well } else { End::Fault });
        served
    }

    fn inner(&self) -> Option<Arc<dyn Serve>> {
        Some(self.inner.clone())
    }

    fn bare(&self) -> Option<&Arc<dyn Serve>> {
        self.inner.bare()
    }

    fn hides(&self, path: &Path, local: bool) -> bool {
        self.inner.hides(path, local)
    }
}

impl fmt::Debug for Meters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Meters").finish_non_exhaustive()
    }
}

fn up(number: &AtomicU64) {
    number.fetch_add(1, Ordering::Relaxed);
}

/// Where a time is counted: each doubling has eight steps, so that none is told wrong by more than an eighth.
fn bucket(nanoseconds: u64) -> usize {
    match nanoseconds.checked_ilog2() {
        None | Some(..STEP_BITS) => nanoseconds as usize,
        Some(exponent) => {
            let step = nanoseconds >> (exponent - STEP_BITS) & (STEPS - 1);
            let bucket = (u64::from(exponent - STEP_BITS) + 1) * STEPS + step;
            (bucket as usize).min(BUCKETS - 1)
        }
    }
}

/// The longest time that is counted there.
fn longest_in(bucket: usize) -> u64 {
    let (doubling, step) = (bucket as u64 / STEPS, bucket as u64 % STEPS);
    match doubling {
        0 => step,
        doubling => ((STEPS + step + 1) << (doubling - 1)) - 1,
    }
}

/// The time that so many of a hundred did not exceed.
fn quantile(times: &[u64], percent: u64) -> u64 {
    let all: u64 = times.iter().sum();
    let rank = (all * percent).div_ceil(100).max(1);
    let mut seen = 0;
    for (bucket, count) in times.iter().enumerate() {
        seen += count;
        if seen >= rank {
            return longest_in(bucket);
        }
    }
    0
}

const STEP_BITS: u32 = 3;
const STEPS: u64 = 1 << STEP_BITS;
/// Up to some four hours; what is longer is counted with the last.
const BUCKETS: usize = 42 * STEPS as usize;
/// Arguments of more bytes than this are not shown.
const MOST_BYTES: usize = 16 * 1024;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_time_is_told_wrong_by_an_eighth_at_most(took in 0u64..1 << 44) {
            let told = longest_in(bucket(took));
            prop_assert!(told >= took && told - took <= took / 8, "{took} is told as {told}");
        }

        #[test]
        fn quantiles_are_those_of_a_sorted_list(mut times in proptest::collection::vec(0u64..1 << 40, 1..200)) {
            let mut counts = vec![0; BUCKETS];
            times.iter().for_each(|took| counts[bucket(*took)] += 1);
            times.sort_unstable();
            for percent in [50, 99, 100] {
                let exact = times[(times.len() * percent).div_ceil(100) - 1];
                let told = quantile(&counts, percent as u64);
                prop_assert!(told >= exact && told - exact <= exact / 8, "{exact} is told as {told}");
            }
        }
    }

    #[test]
    fn the_ends_of_the_scale() {
        assert_eq!([0, 1, 7, 8, 9, 15, 16, 17, 18].map(bucket), [0, 1, 7, 8, 9, 15, 16, 16, 17]);
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
        assert_eq!(quantile(&[0; BUCKETS], 50), 0);
    }
}
