//! Lets the contenders take turns, and prints what came out.

use crate::{
    contender::Contender,
    log::Log,
    machine::Machine,
    measure::Figures,
    options::Options,
    place::Place,
    reaches, report,
    roles::{Failure, Job},
    table::CONTENDERS,
    versions,
    work::Work,
};

/// All repetitions of one contender at one work.
pub(crate) struct Series {
    pub(crate) contender: &'static Contender,
    pub(crate) runs: Vec<Figures>,
    pub(crate) hung: usize,
    pub(crate) failed: usize,
}

/// The whole run.
pub(crate) fn run(options: &Options) -> Result<(), String> {
    let (machine, versions) = (Machine::this(), versions::all());
    let place = place(options)?;
    report::head(options, &machine, place, &versions);
    let contenders: Vec<_> = CONTENDERS.iter().filter(|it| options.takes(it)).collect();
    let mut summary = report::Summary::of(&contenders);
    for work in &options.works {
        let mut log = Log::create(*work, place).map_err(|error| format!("no log can be written: {error}"))?;
        log.machine(&machine, &versions);
        let all = measure(options, &contenders, *work, place, &mut log)?;
        report::table(*work, &all);
        println!("every figure: {}", log.path().display());
        summary.add(*work, &all);
    }
    summary.print();
    reaches::print(&summary);
    Ok(())
}

impl Options {
    fn takes(&self, contender: &Contender) -> bool {
        self.filter.split('|').any(|part| contender.name.contains(part))
    }
}

fn place(options: &Options) -> Result<Place, String> {
    let place = Place::all().into_iter().find(|place| (place.caller == place.callee) == options.one_core);
    place.ok_or_else(|| "there is one core only: take --one-core".into())
}

/// The contenders take turns, and start with another one in each repetition.
fn measure(
    options: &Options,
    contenders: &[&'static Contender],
    work: Work,
    place: Place,
    log: &mut Log,
) -> Result<Vec<Series>, String> {
    let able = contenders.iter().filter(|contender| contender.works.contains(&work));
    let mut all: Vec<Series> =
        able.map(|contender| Series { contender, runs: Vec::new(), hung: 0, failed: 0 }).collect();
    for repetition in 0..options.repetitions {
        for turn in 0..all.len() {
            let index = (turn + repetition) % all.len();
            let Series { contender, runs, hung, failed } = &mut all[index];
            // Who did not come to an end twice will not the next time, and costs the limit each time.
            if *hung + *failed >= 2 {
                continue;
            }
            let job = Job { contender, work, place, calls: options.calls };
            let run = job.run().map_err(|error| format!("{}: {error}", contender.name))?;
            log.run(&job, repetition, &run);
            match run {
                Ok(figures) => runs.push(figures),
                Err(Failure::Hung) => *hung += 1,
                Err(Failure::Failed) => *failed += 1,
            }
        }
    }
    Ok(all)
}
