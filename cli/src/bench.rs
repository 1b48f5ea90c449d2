//! `nape bench`: one call again and again, from one thread or several.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use serde::Serialize;

use crate::{
    args,
    link::Met,
    output::{Look, Out, time},
    trouble::{Exit, Trouble},
};

/// How long the calls took: counts of times in steps of a thirty-second of a doubling.
struct Times {
    counts: Vec<u64>,
    longest: u64,
}

/// What one thread has done.
#[derive(Default)]
struct Tally {
    times: Times,
    failed: u64,
    first: Option<Trouble>,
}

/// What is told in the end. Times are of calls that were answered, and told too long by a thirty-second at most.
#[derive(Serialize)]
struct Summary {
    path: String,
    concurrency: u16,
    seconds: f64,
    calls: u64,
    failed: u64,
    calls_per_second: f64,
    p50_ns: u64,
    p99_ns: u64,
    longest_ns: u64,
}

pub(crate) fn bench(met: &Met, args: &args::Bench, arguments: Vec<u8>, out: &mut Out) -> Result<(), Trouble> {
    // What cannot work at all is told once, instead of as often as it is tried.
    met.call(&args.path, &arguments).map_err(|error| met.trouble(&error, &args.path))?;
    let began = Instant::now();
    let end = if args.calls.is_some() { None } else { began.checked_add(args.limit) };
    let left = AtomicU64::new(args.calls.unwrap_or(u64::MAX));
    let mut all = Tally::default();
    thread::scope(|scope| {
        let one = || run(met, args, &arguments, end, &left);
        let mut callers = Vec::new();
        for number in 1..=args.concurrency {
            match thread::Builder::new().spawn_scoped(scope, one) {
                Ok(caller) => callers.push(caller),
                Err(error) => {
                    // Fewer would measure something else. Those that there are come to their end at once.
                    left.store(0, Ordering::Relaxed);
                    let text =
                        format!("thread {number} of {} could not be started: {error}", args.concurrency);
                    all.first = Some(Trouble::new(Exit::Failed, text));
                    break;
                }
            }
        }
        for caller in callers {
            all.add(caller.join().unwrap_or_default());
        }
    });
    let summary = all.summary(args, began.elapsed());
    if args.json {
        out.json(&summary)?
    } else {
        summary.print(out)?
    }
    all.first.map_or(Ok(()), Err)
}

fn run(met: &Met, args: &args::Bench, arguments: &[u8], end: Option<Instant>, left: &AtomicU64) -> Tally {
    let mut tally = Tally::default();
    let take = |left: u64| left.checked_sub(1);
    while end.is_none_or(|end| Instant::now() < end) {
        if left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_err() {
            break;
        }
        let began = Instant::now();
        match met.call(&args.path, arguments) {
            Ok(_) => tally.times.add(began.elapsed()),
            Err(error) => {
                tally.failed += 1;
                let is_over = matches!(error, nape::CallError::Closed { .. });
                tally.first.get_or_insert_with(|| met.trouble(&error, &args.path));
                if is_over {
                    break;
                }
            }
        }
    }
    tally
}

impl Tally {
    fn add(&mut self, other: Tally) {
        self.times.counts.iter_mut().zip(other.times.counts).for_each(|(sum, count)| *sum += count);
        self.times.longest = self.times.longest.max(other.times.longest);
        self.failed += other.failed;
        self.first = self.first.take().or(other.first);
    }

    fn summary(&self, args: &args::Bench, took: Duration) -> Summary {
        let calls = self.times.counts.iter().sum::<u64>();
        Summary {
            path: args.path.clone(),
            concurrency: args.concurrency,
            seconds: took.as_secs_f64(),
            calls,
            failed: self.failed,
            calls_per_second: calls as f64 / took.as_secs_f64(),
            p50_ns: self.times.quantile(50),
            p99_ns: self.times.quantile(99),
            longest_ns: self.times.longest,
        }
    }
}

impl Summary {
    fn print(&self, out: &mut Out) -> Result<(), Trouble> {
        let (rate, seconds) = (self.calls_per_second, self.seconds);
        let calls = format!("{} calls in {seconds:.2} s, {rate:.0} a second, ", self.calls);
        let at_a_time = format!("{} at a time", self.concurrency);
        out.line(&[(Look::Name, &self.path), (Look::Plain, ": "), (Look::Plain, &(calls + &at_a_time))])?;
        let told = |nanos| time(Duration::from_nanos(nanos));
        let times = [("p50 ", self.p50_ns), ("  p99 ", self.p99_ns), ("  longest ", self.longest_ns)];
        let texts = times.map(|(name, nanos)| (name, told(nanos)));
        let pieces: Vec<_> =
            texts.iter().flat_map(|(name, text)| [(Look::Aside, *name), (Look::Plain, &**text)]).collect();
        out.line(&pieces)?;
        if self.failed > 0 {
            out.line(&[(Look::Alarm, &format!("{} calls failed", self.failed))])?;
        }
        Ok(())
    }
}

impl Default for Times {
    fn default() -> Times {
        Times { counts: vec![0; (64 - STEP_BITS as usize + 1) << STEP_BITS], longest: 0 }
    }
}

impl Times {
    fn add(&mut self, took: Duration) {
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.counts[step(nanos)] += 1;
        self.longest = self.longest.max(nanos);
    }

    /// The time that so many of a hundred do not exceed; 0 without any.
    fn quantile(&self, percent: u64) -> u64 {
        let wanted = (self.counts.iter().sum::<u64>() * percent).div_ceil(100);
        let mut seen = 0;
        let reaches = |count: &u64| {
            seen += count;
            seen >= wanted
        };
        let step = self.counts.iter().position(reaches).unwrap_or(0);
        last_of(step).min(self.longest)
    }
}

/// The step of a time: itself while it is small, then the highest bit and those behind it.
fn step(nanos: u64) -> usize {
    let top = nanos.max(1).ilog2();
    if top < STEP_BITS {
        return nanos as usize;
    }
    let shift = top - STEP_BITS;
    (((shift + 1) as usize) << STEP_BITS) + ((nanos >> shift) as usize & ((1 << STEP_BITS) - 1))
}

/// The longest time of a step.
fn last_of(step: usize) -> u64 {
    let (shift, rest) = ((step >> STEP_BITS) as u32, step as u64 & ((1 << STEP_BITS) - 1));
    if shift == 0 { rest } else { (((rest | 1 << STEP_BITS) + 1) << (shift - 1)).wrapping_sub(1) }
}

const STEP_BITS: u32 = 5;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_holds_times_that_are_alike() {
        for nanos in [0, 1, 31, 32, 33, 63, 64, 1000, 1_000_000, u64::MAX / 2, u64::MAX] {
            let last = last_of(step(nanos));
            assert!(last >= nanos && last - nanos <= nanos / 32, "{nanos} is told as {last}");
        }
        assert!(step(u64::MAX) < Times::default().counts.len());
    }

    #[test]
    fn quantiles_are_of_all_calls() {
        let mut times = Times::default();
        assert_eq!(times.quantile(99), 0);
        (1..=1000).for_each(|n| times.add(Duration::from_micros(n)));
        let (half, most) = (times.quantile(50), times.quantile(99));
        assert!((500_000..=516_000).contains(&half), "{half}");
        assert!((990_000..=1_000_000).contains(&most), "{most}");
    }
}
