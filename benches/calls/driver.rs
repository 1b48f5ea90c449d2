//! Lets the contenders take turns, and prints what came out.

use std::process::ExitCode;

use crate::{
    contender::{CONTENDERS, Contender},
    counts,
    machine::Machine,
    options::Options,
    place::Place,
    report::{self, Cost, Log, Series},
    roles::Job,
    statistics::Percentiles,
};

/// The whole run.
pub(crate) fn run(options: &Options) -> ExitCode {
    match try_run(options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(what) => {
            eprintln!("{what}");
            ExitCode::FAILURE
        }
    }
}

fn try_run(options: &Options) -> Result<(), String> {
    let contenders = chosen(&options.filter)?;
    let machine = Machine::this();
    let mut log = Log::create().map_err(|error| format!("the log cannot be written: {error}"))?;
    report::machine(&machine);
    log.machine(&machine);
    for series in measure(options, &contenders, &mut log)?.chunk_by(|a, b| a.place == b.place) {
        report::times(options, series);
    }
    for place in Place::all() {
        let costs = count(options, &contenders, place)?;
        costs.iter().for_each(|cost| log.cost(cost));
        report::costs(options, &costs);
    }
    println!("\nEvery figure: {}", log.path().display());
    Ok(())
}

/// The contenders that were asked for, and those that they are compared with.
fn chosen(filter: &str) -> Result<Vec<&'static Contender>, String> {
    let asked = || CONTENDERS.iter().filter(|it| it.name.contains(filter));
    let is_baseline = |name: &str| asked().any(|it| it.baseline == name);
    let chosen: Vec<_> =
        CONTENDERS.iter().filter(|it| it.name.contains(filter) || is_baseline(it.name)).collect();
    if chosen.is_empty() { Err(format!("no contender has `{filter}` in its name")) } else { Ok(chosen) }
}

/// The times of all contenders, sorted by place. The contenders take turns, and start with another one
/// in each repetition.
fn measure(
    options: &Options,
    contenders: &[&'static Contender],
    log: &mut Log,
) -> Result<Vec<Series>, String> {
    let mut all: Vec<Series> = Place::all()
        .into_iter()
        .flat_map(|place| {
            contenders.iter().map(move |contender| Series { contender, place, runs: Vec::new() })
        })
        .collect();
    for repetition in 0..options.repetitions {
        eprintln!("repetition {} of {}", repetition + 1, options.repetitions);
        for series in all.chunk_by_mut(|a, b| a.place == b.place) {
            for turn in 0..series.len() {
                let index = (turn + repetition) % series.len();
                let Series { contender, place, runs } = &mut series[index];
                let job = Job { contender, place: *place, warm_up: options.warm_up, calls: options.calls };
                let run = Percentiles::of(job.times()?);
                log.run(contender, *place, repetition, options.calls, run);
                runs.push(run);
            }
        }
    }
    Ok(all)
}

/// What calls cost apart from time, of each contender once: these figures hardly differ.
fn count(options: &Options, contenders: &[&'static Contender], place: Place) -> Result<Vec<Cost>, String> {
    let cost = |contender: &&'static Contender| {
        let job = Job { contender, place, warm_up: options.warm_up, calls: options.calls };
        let system_calls = if options.system_calls { counts::system_calls(&job) } else { None };
        Ok(Cost { contender, place, counts: job.counts()?, system_calls })
    };
    contenders.iter().map(cost).collect()
}
