//! The tables.

use crate::{
    contender::Contender, driver::Series, machine::Machine, measure::Figures, options::Options, place::Place,
    statistics, work::Work,
};

/// Where, with what and how much.
pub(crate) fn head(options: &Options, machine: &Machine, place: Place, versions: &[(String, String)]) {
    let Machine { cpu, cores, kernel, rustc, load } = machine;
    println!("{cpu}, {cores} cores; Linux {kernel}; {rustc}; load {load}");
    let versions: Vec<String> = versions.iter().map(|(name, version)| format!("{name} {version}")).collect();
    println!("{}", versions.join(", "));
    let Options { repetitions, calls, .. } = options;
    println!("pinned to {}; {repetitions} repetitions in turns, {calls} small calls in each", place.name());
}

/// One kind of work: medians over the repetitions, with the least and the greatest.
pub(crate) fn table(work: Work, all: &[Series]) {
    println!("\n{}: median (least - greatest)", work.name());
    println!("{:36}{:>36}{:>12}{:>12}{:>8}", "", work.unit(), "p99 us", "CPU us", "lost");
    for series in all {
        let Series { contender, runs, .. } = series;
        print!("{:36}", contender.name);
        if runs.is_empty() {
            println!("{:>36}", series.trouble());
            continue;
        }
        let of = |pick: fn(&Figures) -> f64| statistics::Summary::of(runs.iter().map(pick));
        let figure = of(|run| run.figure);
        let [median, min, max] = [figure.median, figure.min, figure.max].map(|value| short(work, value));
        let p99 = if work.is_time() { format!("{:.1}", of(|run| run.p99).median) } else { "-".into() };
        let lost: f64 = runs.iter().map(|run| run.lost).sum();
        let cpu = of(|run| run.cpu).median;
        let spread = format!("{median} ({min} - {max})");
        println!("{spread:>36}{p99:>12}{cpu:>12.2}{lost:>8}  {}", series.trouble());
    }
}

impl Series {
    /// What went wrong, if anything did.
    fn trouble(&self) -> String {
        let times = |n: usize, what: &str| if n > 0 { format!("{what} {n}x ") } else { String::new() };
        format!("{}{}", times(self.hung, "hung"), times(self.failed, "failed"))
    }
}

/// Every contender and every work.
pub(crate) struct Summary {
    names: Vec<&'static str>,
    columns: Vec<(Work, Vec<Cell>)>,
}

enum Cell {
    /// The median.
    Figure(f64),
    /// What went wrong.
    Trouble(String),
    /// It does not do that.
    Dash,
}

impl Summary {
    pub(crate) fn of(contenders: &[&'static Contender]) -> Summary {
        Summary { names: contenders.iter().map(|contender| contender.name).collect(), columns: Vec::new() }
    }

    pub(crate) fn add(&mut self, work: Work, all: &[Series]) {
        let cell = |name: &&str| match all.iter().find(|series| series.contender.name == *name) {
            None => Cell::Dash,
            Some(series) if series.runs.is_empty() => Cell::Trouble(series.trouble()),
            Some(series) => {
                Cell::Figure(statistics::Summary::of(series.runs.iter().map(|run| run.figure)).median)
            }
        };
        self.columns.push((work, self.names.iter().map(cell).collect()));
    }

    /// The median of one contender, if there is one.
    pub(crate) fn figure(&self, work: Work, name: &str) -> Option<f64> {
        let row = self.names.iter().position(|other| *other == name)?;
        let (_, cells) = self.columns.iter().find(|(other, _)| *other == work)?;
        if let Cell::Figure(figure) = cells[row] { Some(figure) } else { None }
    }

    /// All in one table of Markdown.
    pub(crate) fn print(&self) {
        let titles: Vec<String> =
            self.columns.iter().map(|(work, _)| format!("{}, {}", work.name(), work.unit())).collect();
        println!("\n| | {} |", titles.join(" | "));
        println!("|---|{}", "---|".repeat(titles.len()));
        for (row, name) in self.names.iter().enumerate() {
            let cells: Vec<String> =
                self.columns.iter().map(|(work, cells)| cells[row].text(*work)).collect();
            println!("| {name} | {} |", cells.join(" | "));
        }
        println!();
    }
}

impl Cell {
    fn text(&self, work: Work) -> String {
        match self {
            Cell::Figure(figure) => short(work, *figure),
            Cell::Trouble(what) => what.trim().to_owned(),
            Cell::Dash => "-".into(),
        }
    }
}

/// A figure with as many digits as mean something.
fn short(work: Work, value: f64) -> String {
    match work {
        Work::Call | Work::Silence | Work::Echo1 | Work::Echo16 => format!("{value:.2}"),
        Work::InFlight | Work::Threads | Work::Events => thousands(value),
    }
}

fn thousands(value: f64) -> String {
    if value >= 1e6 { format!("{:.2} M", value / 1e6) } else { format!("{:.1} k", value / 1e3) }
}
