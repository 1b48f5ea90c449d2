//! What `top` shows: the numbers of each path, and how they change.

use std::{
    collections::HashMap,
    iter::successors,
    time::{Duration, Instant},
};

use nape::inspect::{InFlight, MethodNumbers, Stage};
use serde::Serialize;

use crate::{
    link::Met,
    listing::is_at_or_below,
    output::{Look, Table, time},
    trouble::Trouble,
};

/// What a program told at one time.
#[derive(Debug)]
pub(crate) struct Sample {
    at: Instant,
    methods: Vec<MethodNumbers>,
    links: Vec<InFlight>,
}

/// One line of the table.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Row {
    /// Of the link that the program names so, empty for that of this tool; of all links where they are summed.
    pub(crate) link: String,
    pub(crate) path: String,
    /// Calls and events.
    pub(crate) calls_per_second: f64,
    pub(crate) calls: u64,
    pub(crate) events: u64,
    pub(crate) p50_ns: u64,
    pub(crate) p99_ns: u64,
    pub(crate) longest_ns: u64,
    pub(crate) in_flight: u64,
    pub(crate) queue: u64,
    pub(crate) faults: u64,
}

/// Which rows there are.
#[derive(Clone, Debug, Default)]
pub(crate) struct Choice {
    pub(crate) prefix: String,
    pub(crate) sum: bool,
    pub(crate) all: bool,
}

/// By what the rows are sorted, the most first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    Rate,
    Slowest,
    InFlight,
    Path,
}

impl Sample {
    pub(crate) fn take(met: &Met) -> Result<Sample, Trouble> {
        let (methods, links) = (met.ask("methods")?, met.ask("in_flight")?);
        Ok(Sample { at: Instant::now(), methods, links })
    }

    /// The rows, with rates since another sample.
    pub(crate) fn rows(&self, before: Option<&Sample>, choice: &Choice, order: Order) -> Vec<Row> {
        let mut rows: Vec<Row> = self.methods.iter().map(row).collect();
        before.inspect(|before| self.add_rates(&mut rows, before));
        self.links.iter().for_each(|link| add_waiting(&mut rows, link));
        rows.retain(|row| is_at_or_below(&row.path, &choice.prefix));
        if !choice.all {
            rows.retain(|row| row.is_used() && !is_at_or_below(&row.path, "nape"));
        }
        if choice.sum {
            rows = summed(rows);
        }
        rows.sort_by(|one, other| order.compare(one, other));
        rows
    }

    fn add_rates(&self, rows: &mut [Row], before: &Sample) {
        let seconds = self.at.saturating_duration_since(before.at).as_secs_f64();
        let counted =
            before.methods.iter().map(|it| ((&*it.link, &*it.path), it.calls.saturating_add(it.events)));
        let counted: HashMap<(&str, &str), u64> = counted.collect();
        for row in rows.iter_mut().filter(|_| seconds > 0.0) {
            let now = row.calls.saturating_add(row.events);
            let then = counted.get(&(&*row.link, &*row.path)).copied().unwrap_or(0);
            // Who counts less than before has begun anew.
            let new = if now < then { now } else { now - then };
            row.calls_per_second = new as f64 / seconds;
        }
    }
}

impl Row {
    fn is_used(&self) -> bool {
        [self.calls, self.events, self.in_flight, self.queue] != [0; 4]
    }

    /// What stands in the columns; the link only where there is a column for it.
    fn cells(&self, has_link: bool) -> Vec<String> {
        let link = if self.link.is_empty() { "-" } else { &self.link };
        let mut cells = if has_link { vec![link.to_owned()] } else { Vec::new() };
        cells.extend([
            self.path.clone(),
            format!("{:.1}", self.calls_per_second),
            time(Duration::from_nanos(self.p50_ns)),
            time(Duration::from_nanos(self.p99_ns)),
            self.in_flight.to_string(),
            self.queue.to_string(),
            self.faults.to_string(),
        ]);
        cells
    }
}

impl Order {
    pub(crate) fn next(self) -> Order {
        match self {
            Order::Rate => Order::Slowest,
            Order::Slowest => Order::InFlight,
            Order::InFlight => Order::Path,
            Order::Path => Order::Rate,
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Order::Rate => "calls/s",
            Order::Slowest => "p99",
            Order::InFlight => "in flight",
            Order::Path => "path",
        }
    }

    fn compare(self, one: &Row, other: &Row) -> std::cmp::Ordering {
        let by_name = (&one.path, &one.link).cmp(&(&other.path, &other.link));
        let first = match self {
            Order::Rate => other.calls_per_second.total_cmp(&one.calls_per_second),
            Order::Slowest => other.p99_ns.cmp(&one.p99_ns),
            Order::InFlight => (other.in_flight + other.queue).cmp(&(one.in_flight + one.queue)),
            Order::Path => std::cmp::Ordering::Equal,
        };
        first.then(by_name)
    }
}

/// The names of the columns, and the cells of each row.
pub(crate) fn columns(rows: &[Row]) -> (Vec<&'static str>, Vec<Vec<String>>) {
    let has_link = rows.iter().any(|row| !row.link.is_empty());
    let mut names = if has_link { vec!["LINK"] } else { Vec::new() };
    names.extend(NAMES);
    (names, rows.iter().map(|row| row.cells(has_link)).collect())
}

pub(crate) fn table(rows: &[Row]) -> Table {
    let (names, cells) = columns(rows);
    let mut table = Table::new(&names);
    for (row, cells) in rows.iter().zip(cells) {
        let look = if row.faults > 0 { Look::Alarm } else { Look::Plain };
        let last = cells.len() - 1;
        let look = |index| if index == last { look } else { Look::Plain };
        table.row(cells.into_iter().enumerate().map(|(index, cell)| (look(index), cell)));
    }
    table
}

fn row(numbers: &MethodNumbers) -> Row {
    Row {
        link: numbers.link.clone(),
        path: numbers.path.clone(),
        calls_per_second: 0.0,
        calls: numbers.calls,
        events: numbers.events,
        p50_ns: numbers.p50_ns,
        p99_ns: numbers.p99_ns,
        longest_ns: numbers.longest_ns,
        in_flight: numbers.running,
        queue: 0,
        faults: numbers.faults,
    }
}

/// Counts what is under way. What its handler has left to somebody else runs no more and is in flight all the same;
/// a call on the short way within a process runs and is in no list: so it is whichever is more.
fn add_waiting(rows: &mut [Row], link: &InFlight) {
    let of_link = rows.iter().enumerate().filter(|(_, row)| row.link == link.link);
    let places: HashMap<&str, usize> = of_link.map(|(at, row)| (&*row.path, at)).collect();
    let mut under_way: HashMap<usize, (u64, u64)> = HashMap::new();
    for running in &link.handlers {
        // The nearest one, since a catch-all takes what is below it.
        let mut nodes = successors(Some(&*running.path), |path| parent(path));
        let Some(&row) = nodes.find_map(|node| places.get(node)) else { continue };
        let (in_flight, queue) = under_way.entry(row).or_default();
        *(if running.stage == Stage::Queued { queue } else { in_flight }) += 1;
    }
    for (at, (in_flight, queue)) in under_way {
        rows[at].in_flight = rows[at].in_flight.max(in_flight);
        rows[at].queue = queue;
    }
}

/// The node above; the root has the empty path, and none above it.
fn parent(path: &str) -> Option<&str> {
    match path.rsplit_once('.') {
        Some((above, _)) => Some(above),
        None => (!path.is_empty()).then_some(""),
    }
}

/// One row for a path. The times of several links cannot be added up: they are those of the slowest.
fn summed(rows: Vec<Row>) -> Vec<Row> {
    let mut sums: HashMap<String, Row> = HashMap::new();
    for mut row in rows {
        row.link.clear();
        match sums.get_mut(&row.path) {
            None => drop(sums.insert(row.path.clone(), row)),
            Some(sum) => {
                sum.calls_per_second += row.calls_per_second;
                sum.calls = sum.calls.saturating_add(row.calls);
                sum.events = sum.events.saturating_add(row.events);
                sum.p50_ns = sum.p50_ns.max(row.p50_ns);
                sum.p99_ns = sum.p99_ns.max(row.p99_ns);
                sum.longest_ns = sum.longest_ns.max(row.longest_ns);
                sum.in_flight = sum.in_flight.saturating_add(row.in_flight);
                sum.queue = sum.queue.saturating_add(row.queue);
                sum.faults = sum.faults.saturating_add(row.faults);
            }
        }
    }
    sums.into_values().collect()
}

const NAMES: [&str; 7] = ["PATH", "CALLS/S", "P50", "P99", "IN FLIGHT", "QUEUE", "FAULTS"];

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn numbers(link: &str, path: &str, calls: u64, p99_ns: u64) -> Value {
        json!({"link": link, "path": path, "calls": calls, "events": 1, "running": 0, "faults": 2,
            "rejections": 0, "p50_ns": 5, "p99_ns": p99_ns, "longest_ns": 9})
    }

    fn sample(at: Instant, methods: Vec<Value>, handlers: Vec<Value>) -> Sample {
        let link = json!({"link": "a", "side": "head", "state": "open", "generation": 1, "threads": 1,
            "callers": [], "handlers": handlers, "messages_to_send": 0, "bytes_to_send": 0,
            "answers_to_send": 0, "is_stuck": false});
        Sample {
            at,
            methods: serde_json::from_value(Value::Array(methods)).expect("they are such numbers"),
            links: vec![serde_json::from_value(link).expect("it is such a link")],
        }
    }

    fn running(path: &str, stage: &str) -> Value {
        json!({"id": 1, "path": path, "age_us": 1, "stage": stage, "thread": null, "given_up": false})
    }

    #[test]
    fn rates_are_of_what_has_come_since() {
        let then = Instant::now();
        let before = sample(then, vec![numbers("a", "x", 10, 7), numbers("a", "anew", 90, 7)], vec![]);
        let now = then + Duration::from_secs(2);
        let after = sample(now, vec![numbers("a", "x", 30, 7), numbers("a", "anew", 3, 7)], vec![]);
        let rows = after.rows(Some(&before), &Choice::default(), Order::Rate);
        let rates: Vec<_> = rows.iter().map(|row| (&*row.path, row.calls_per_second)).collect();
        assert_eq!(rates, [("x", 10.0), ("anew", 2.0)]);
    }

    #[test]
    fn what_is_under_way_is_counted_where_it_belongs() {
        let methods = vec![numbers("a", "x", 1, 7), numbers("a", "x.y", 1, 7), numbers("b", "x.y", 1, 7)];
        let handlers = [("x.z", "running"), ("x.y", "queued"), ("x.y", "deferred"), ("q", "running")];
        let handlers = handlers.iter().map(|(path, stage)| running(path, stage)).collect();
        let rows = sample(Instant::now(), methods, handlers).rows(None, &Choice::default(), Order::Path);
        let counts: Vec<_> = rows.iter().map(|it| (&*it.path, &*it.link, it.in_flight, it.queue)).collect();
        assert_eq!(counts, [("x", "a", 1, 0), ("x.y", "a", 1, 1), ("x.y", "b", 0, 0)]);
    }

    #[test]
    fn numbers_that_cannot_be_are_shown_and_no_panic() {
        let most = |link| numbers(link, "x", u64::MAX, 7);
        let sample = || sample(Instant::now(), vec![most("a"), most("b")], vec![running("y..", "running")]);
        for sum in [false, true] {
            let choice = Choice { sum, ..Choice::default() };
            let rows = sample().rows(Some(&sample()), &choice, Order::Rate);
            assert_eq!(rows.iter().map(|row| row.calls).max(), Some(u64::MAX));
        }
    }

    #[test]
    fn links_are_summed_by_path() {
        let methods =
            vec![numbers("a", "x", 1, 7), numbers("b", "x", 2, 70), numbers("b", "nape.list", 2, 1)];
        let choice = Choice { sum: true, ..Choice::default() };
        let rows = sample(Instant::now(), methods, vec![]).rows(None, &choice, Order::Path);
        assert_eq!(rows.len(), 1);
        assert_eq!((rows[0].calls, rows[0].faults, rows[0].p99_ns), (3, 4, 70));
    }
}
