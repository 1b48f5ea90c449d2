//! The tables, and the same as lines of JSON.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use crate::{
    contender::Contender,
    counts::Counts,
    machine::Machine,
    options::Options,
    place::Place,
    statistics::{Percentiles, Summary},
};

/// All repetitions of one contender at one place.
pub(crate) struct Series {
    pub(crate) contender: &'static Contender,
    pub(crate) place: Place,
    pub(crate) runs: Vec<Percentiles>,
}

/// What the calls of one contender cost apart from time.
pub(crate) struct Cost {
    pub(crate) contender: &'static Contender,
    pub(crate) place: Place,
    pub(crate) counts: Counts,
    pub(crate) system_calls: Option<f64>,
}

/// One of the two percentiles.
type Pick = fn(&Percentiles) -> f64;

const P50: Pick = |run| run.p50;
const P99: Pick = |run| run.p99;

pub(crate) fn machine(machine: &Machine) {
    let Machine { cpu, cores, kernel, rustc, load } = machine;
    println!("{cpu}, {cores} cores; Linux {kernel}; {rustc}; load {load}");
}

/// The times at one place.
pub(crate) fn times(options: &Options, all: &[Series]) {
    let Some(first) = all.first() else { return };
    println!(
        "\n{}: {} repetitions of {} calls; microseconds, median over the repetitions (least - greatest)",
        first.place.name(),
        options.repetitions,
        options.calls
    );
    println!("{:30}{:>27}{:>29}   ratio to baseline: p50, p99", "", "p50", "p99");
    for series in all {
        let ratio = all.iter().find(|other| other.contender.name == series.contender.baseline);
        let ratio = ratio.map(|baseline| {
            let (p50, p99) = (series.ratio(baseline, P50), series.ratio(baseline, P99));
            format!("{p50:.2}, {p99:.2}  {}", baseline.contender.name)
        });
        println!(
            "{:30}{:>27}{:>29}   {}",
            series.contender.name,
            microseconds(series.summary(P50)),
            microseconds(series.summary(P99)),
            ratio.unwrap_or_else(|| "-".into())
        );
    }
    for (a, b) in twins(all) {
        println!(
            "resolution, {} to {}: p50 {}, p99 {}",
            b.contender.name,
            a.contender.name,
            b.spread(a, P50),
            b.spread(a, P99)
        );
    }
}

/// What the calls at one place cost apart from time.
pub(crate) fn costs(options: &Options, all: &[Cost]) {
    let Some(first) = all.first() else { return };
    println!("\n{}: costs of one call, over {} calls", first.place.name(), options.calls);
    println!(
        "{:30}{:>10}{:>10}{:>10}{:>13}{:>15}",
        "", "switches", "CPU us", "syscalls", "allocations", "allocated B"
    );
    for Cost { contender, counts, system_calls, .. } in all {
        let system_calls = system_calls.map_or_else(|| "-".into(), |calls| format!("{calls:.2}"));
        println!(
            "{:30}{:>10.2}{:>10.2}{:>10}{:>13.2}{:>15.0}",
            contender.name, counts.switches, counts.cpu, system_calls, counts.allocations, counts.allocated
        );
    }
    println!("allocations: of the caller's process, and so of a callee on a thread too");
}

impl Series {
    fn summary(&self, pick: Pick) -> Summary {
        Summary::of(self.runs.iter().map(pick))
    }

    /// The ratio of the medians.
    fn ratio(&self, baseline: &Series, pick: Pick) -> f64 {
        self.summary(pick).median / baseline.summary(pick).median
    }

    /// The ratio of the medians, and the ratios within the single repetitions.
    fn spread(&self, baseline: &Series, pick: Pick) -> String {
        let pairs = self.runs.iter().zip(&baseline.runs);
        let single = Summary::of(pairs.map(|(run, other)| pick(run) / pick(other)));
        format!("{:.3} (single {:.2} - {:.2})", self.ratio(baseline, pick), single.min, single.max)
    }
}

/// The pairs of the same code: `... A` and `... B`.
fn twins(all: &[Series]) -> impl Iterator<Item = (&Series, &Series)> {
    all.iter().filter_map(|b| {
        let name = b.contender.name.strip_suffix(" B")?;
        let a = all.iter().find(|a| a.contender.name.strip_suffix(" A") == Some(name))?;
        Some((a, b))
    })
}

fn microseconds(Summary { median, min, max }: Summary) -> String {
    format!("{:.2} ({:.2} - {:.2})", median / 1000.0, min / 1000.0, max / 1000.0)
}

/// Lines of JSON about the last run, for whoever wants to draw or compare.
pub(crate) struct Log {
    file: File,
    path: PathBuf,
}

impl Log {
    /// Starts a new file in the folder that cargo builds into.
    pub(crate) fn create() -> io::Result<Log> {
        let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("it is a folder in another");
        let path = target.join("bench/calls.jsonl");
        fs::create_dir_all(target.join("bench"))?;
        Ok(Log { file: File::create(&path)?, path })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn machine(&mut self, machine: &Machine) {
        let (cpu, kernel, rustc) = (json(&machine.cpu), json(&machine.kernel), json(&machine.rustc));
        let (cores, load) = (machine.cores, json(&machine.load));
        self.line(format!(
            r#""kind":"machine","cpu":{cpu},"cores":{cores},"kernel":{kernel},"rustc":{rustc},"load":{load}"#
        ));
    }

    pub(crate) fn run(
        &mut self,
        contender: &Contender,
        place: Place,
        repetition: usize,
        calls: u64,
        run: Percentiles,
    ) {
        let who = who(contender, place);
        let Percentiles { p50, p99 } = run;
        self.line(format!(
            r#""kind":"run",{who},"repetition":{repetition},"calls":{calls},"p50_ns":{p50},"p99_ns":{p99}"#
        ));
    }

    pub(crate) fn cost(&mut self, cost: &Cost) {
        let who = who(cost.contender, cost.place);
        let Counts { switches, cpu, allocations, allocated } = cost.counts;
        let system_calls = cost.system_calls.map_or_else(|| "null".into(), |calls| calls.to_string());
        self.line(format!(
            r#""kind":"cost",{who},"switches":{switches},"cpu_us":{cpu},"system_calls":{system_calls},"allocations":{allocations},"allocated_bytes":{allocated}"#
        ));
    }

    fn line(&mut self, fields: String) {
        writeln!(self.file, "{{{fields}}}").expect("the log was opened to be written to");
    }
}

fn who(contender: &Contender, place: Place) -> String {
    let Place { caller, callee } = place;
    format!(r#""contender":{},"caller_core":{caller},"callee_core":{callee}"#, json(contender.name))
}

/// A text as a JSON string.
fn json(text: &str) -> String {
    let plain: String = text.chars().filter(|c| !c.is_control()).collect();
    format!("\"{}\"", plain.replace('\\', "\\\\").replace('"', "\\\""))
}
