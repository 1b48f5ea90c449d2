//! What it costs a call that somebody may look at it: instructions of both sides together, by callgrind.
//!
//! ```text
//! cargo bench --bench watching --all-features               all of it, where valgrind is
//! cargo bench --bench watching --all-features -- --quick    a few calls, to see that it runs
//! ```
//!
//! A figure is the difference between many calls and few, so that what start and end cost does not count. The
//! process keeps to one core, so that nobody spins.

use std::{
    env,
    process::{Command, ExitCode},
};

use nape::{
    Api, Context, Fault, Head, HeadBuilder, Inspection, LayerCall, Leave, Neck, NeckBuilder,
    transport::pipe_pair,
};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

const LINKS: [&str; 3] = ["inline", "in process", "pipe"];
const FEW: u64 = 1_000;
const MANY: u64 = 5_000;

/// What stands around the calls.
const WATCHES: &[&str] = &[
    "nothing",
    "an inspection that was",
    "an inspection",
    "a layer that does nothing, where it is served",
    #[cfg(feature = "metrics")]
    "metrics without a recorder, where it is served",
    #[cfg(feature = "tracing")]
    "tracing without a subscriber, where it is served",
    "a layer that does nothing, on both sides",
    #[cfg(feature = "metrics")]
    "metrics without a recorder, on both sides",
    #[cfg(feature = "tracing")]
    "tracing without a subscriber, on both sides",
];

fn main() -> ExitCode {
    let args: Vec<String> = env::args().collect();
    if let Some(at) = args.iter().position(|arg| arg == "--one") {
        run(&args[at + 1], &args[at + 2], args[at + 3].parse().expect("a number of calls"));
        return ExitCode::SUCCESS;
    }
    let is_quick = args.iter().any(|arg| arg == "--quick");
    println!("instructions a call, both sides: {}", LINKS.join(", "));
    for watch in WATCHES {
        let figures = LINKS.map(|link| match is_quick {
            true => {
                run(watch, link, 50);
                "-".to_owned()
            }
            false => instructions(watch, link).map_or("-".to_owned(), |figure| format!("{figure:.0}")),
        });
        println!("  {watch:50}{}", figures.map(|figure| format!("{figure:>10}")).concat());
    }
    ExitCode::SUCCESS
}

/// None where there is no valgrind.
fn instructions(watch: &str, link: &str) -> Option<f64> {
    let of = |calls: u64| {
        let out = ["--tool=callgrind", "--callgrind-out-file=/dev/null"];
        let mut valgrind = Command::new("valgrind");
        let this = env::current_exe().ok()?;
        let output =
            valgrind.args(out).arg(this).args(["--one", watch, link, &calls.to_string()]).output().ok()?;
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        let line = text.lines().find_map(|line| line.split_once("Collected : "))?;
        line.1.trim().parse::<f64>().ok()
    };
    Some((of(MANY)? - of(FEW)?) / (MANY - FEW) as f64)
}

fn run(watch: &str, link: &str, calls: u64) {
    let mut one = CpuSet::new();
    let allowed = sched_getaffinity(None).expect("the cores of this process");
    one.set((0..CpuSet::MAX_CPU).find(|core| allowed.is_set(*core)).expect("a core"));
    sched_setaffinity(None, &one).expect("it may keep to a core that it may use");
    let (head, neck) = around(watch, Head::builder(), Neck::builder());
    let (head, neck) = match link {
        "pipe" => {
            let (ours, theirs) = pipe_pair().expect("a pair of sockets");
            (head.over(ours).expect("a Head"), neck.over(theirs).expect("a Neck"))
        }
        _ => head.in_process_with(neck).expect("both ends"),
    };
    let api = Api::new("bench").handle("number", |_: &Context, n: u64| Ok::<_, Fault>(n)).expect("a path");
    let neck = neck.serve(if link == "inline" { api.inline() } else { api }).expect("an API").start();
    let inspection = || neck.attach(Inspection::new().into_api()).expect("it is free");
    match watch {
        "an inspection that was" => inspection().detach(),
        "an inspection" => drop(inspection()),
        _ => {}
    }
    let bench = head.api("bench");
    for n in 0..calls {
        assert_eq!(bench.action("number", n).call::<u64>().expect("an answer"), n);
    }
}

fn around(watch: &str, head: HeadBuilder, neck: NeckBuilder) -> (HeadBuilder, NeckBuilder) {
    let idle = |_: &mut LayerCall<'_>| Ok(Leave::nothing());
    let (what, where_to) = watch.split_once(", ").unwrap_or((watch, ""));
    let both = where_to == "on both sides";
    match what {
        "a layer that does nothing" => (if both { head.layer(idle) } else { head }, neck.layer(idle)),
        #[cfg(feature = "metrics")]
        "metrics without a recorder" => {
            let metrics = nape::layers::Metrics::new();
            (if both { head.layer(metrics.clone()) } else { head }, neck.layer(metrics))
        }
        #[cfg(feature = "tracing")]
        "tracing without a subscriber" => {
            let tracing = nape::layers::Tracing::new();
            (if both { head.layer(tracing) } else { head }, neck.layer(tracing))
        }
        _ => (head, neck),
    }
}
