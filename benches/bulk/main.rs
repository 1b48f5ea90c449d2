//! Small calls beside large values: what 64 MiB on their way in each direction cost a call of 64 bytes.
//!
//! ```text
//! cargo bench --bench bulk                 over each wire to a child
//! cargo bench --bench bulk -- --quick      a few calls, to see that it runs
//! cargo bench --bench bulk -- --raw        the large values as raw payloads, which no codec touches
//! cargo bench --bench bulk -- --wire shm   one wire alone
//! ```
//!
//! One thread makes small calls, one after the other, first alone, then while another thread sends values of
//! 64 MiB and a third one fetches such, without a pause. The child has workers for all three. The values are
//! [`Bytes`] in a struct. With fewer cores than there are threads at work, which are four then, the figures
//! tell of the scheduler as well; the table gives the number of cores.

use std::{
    process::{Command, ExitCode},
    sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    thread,
    time::{Duration, Instant},
};

use nape::{Api, ApiHandle, Bytes, CallError, Config, Context, Fault, Head, Neck, Payload, Wire};
use serde::{Deserialize, Serialize};

const LARGE: usize = 64 << 20;
const CALLEE: &str = "--callee";

/// A large value, as users have it.
#[derive(Serialize, Deserialize)]
struct Image {
    name: String,
    pixels: Bytes,
}

struct Options {
    /// Small calls, alone and beside large values.
    calls: usize,
    /// At least so long, so that several large values go by.
    least: Duration,
    raw: bool,
    wire: Option<String>,
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().collect();
    let has = |name: &str| args.iter().any(|arg| arg == name);
    let wire = args.iter().skip_while(|arg| *arg != "--wire").nth(1).cloned();
    let (calls, least) =
        if has("--quick") { (200, Duration::ZERO) } else { (10_000, Duration::from_secs(3)) };
    let run =
        || if has(CALLEE) { serve() } else { measure(&Options { calls, least, raw: has("--raw"), wire }) };
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn config() -> Config {
    Config::new().message_limit(2 * LARGE).send_queue_bytes(4 * LARGE)
}

fn serve() -> nape::Result<()> {
    let take = |_: &Context, image: Image| Ok::<_, Fault>(image.pixels.len());
    let make = |_: &Context, ()| Ok::<_, Fault>(Image { name: "made".into(), pixels: vec![2; LARGE].into() });
    let api = Api::new("bulk")
        .handle("echo", |_: &Context, text: String| Ok::<_, Fault>(text))?
        .handle("take", take)?
        .handle("make", make)?
        .handle("take_raw", |_: &Context, raw: Payload| Ok::<_, Fault>(raw.bytes().len()))?
        .handle("make_raw", |_: &Context, ()| Ok::<_, Fault>(Payload::from_bytes(vec![2; LARGE])))?;
    Neck::builder().config(config()).serve(api).from_env()?.run()
}

fn measure(options: &Options) -> nape::Result<()> {
    let cores = thread::available_parallelism().map_or(0, usize::from);
    let what = if options.raw { "raw payloads" } else { "Bytes in a struct" };
    println!(
        "{cores} cores; {} small calls; {} MiB each way as {what}; microseconds",
        options.calls,
        LARGE >> 20
    );
    println!(
        "{:8}{:>10}{:>10}{:>12}{:>12}{:>12}{:>10}",
        "", "idle p50", "p99", "beside p50", "p99", "p99 ratio", "MiB/s"
    );
    for (name, wire) in [("ipc", Wire::Ipc), ("pipe", Wire::Pipe), ("shm", Wire::Shm)] {
        if options.wire.as_ref().is_none_or(|only| only == name) {
            row(options, name, wire)?;
        }
    }
    Ok(())
}

fn row(options: &Options, name: &str, wire: Wire) -> nape::Result<()> {
    let mut callee = Command::new(std::env::current_exe().expect("this program has a path"));
    callee.arg(CALLEE);
    let head = Head::builder().config(config()).wire(wire).spawn(callee)?;
    let bulk = head.api("bulk");
    echoes(&bulk, 100, Duration::ZERO)?;
    let idle = echoes(&bulk, options.calls, Duration::ZERO)?;
    let (stop, moved) = (AtomicBool::new(false), AtomicU64::new(0));
    let since = Instant::now();
    let beside = thread::scope(|scope| {
        let flow = |verb: fn(&ApiHandle, bool) -> Result<usize, CallError>| {
            let (bulk, stop, moved, raw) = (bulk.clone(), &stop, &moved, options.raw);
            scope.spawn(move || {
                while !stop.load(Relaxed) {
                    let len = verb(&bulk, raw).expect("large values arrive");
                    moved.fetch_add(len as u64, Relaxed);
                }
            })
        };
        let flows = [flow(take), flow(make)];
        let beside = echoes(&bulk, options.calls, options.least);
        stop.store(true, Relaxed);
        flows.into_iter().for_each(|flow| flow.join().expect("it does not panic"));
        beside
    })?;
    let rate = moved.load(Relaxed) as f64 / f64::from(1 << 20) / since.elapsed().as_secs_f64();
    let ratio = beside.1 / idle.1;
    println!(
        "{name:8}{:>10.1}{:>10.1}{:>12.1}{:>12.1}{ratio:>12.1}{rate:>10.0}",
        idle.0, idle.1, beside.0, beside.1
    );
    Ok(())
}

fn take(bulk: &ApiHandle, raw: bool) -> Result<usize, CallError> {
    let bytes = vec![1; LARGE];
    match raw {
        true => bulk.action("take_raw", Payload::from_bytes(bytes)).call(),
        false => bulk.action("take", Image { name: "sent".into(), pixels: bytes.into() }).call(),
    }
}

fn make(bulk: &ApiHandle, raw: bool) -> Result<usize, CallError> {
    match raw {
        true => bulk.action("make_raw", ()).call::<Payload>().map(|raw| raw.bytes().len()),
        false => bulk.action("make", ()).call::<Image>().map(|image| image.pixels.len()),
    }
}

/// Makes small calls, so many and for so long at least: their p50 and p99.
fn echoes(bulk: &ApiHandle, calls: usize, least: Duration) -> Result<(f64, f64), CallError> {
    let (text, began) = ("x".repeat(64), Instant::now());
    let mut times = Vec::with_capacity(calls);
    while times.len() < calls || began.elapsed() < least {
        let before = Instant::now();
        bulk.action("echo", text.clone()).call::<String>()?;
        times.push(before.elapsed().as_nanos() as f64 / 1000.0);
    }
    times.sort_by(f64::total_cmp);
    Ok((times[times.len() / 2], times[times.len() * 99 / 100]))
}
