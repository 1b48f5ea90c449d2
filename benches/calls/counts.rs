//! What a call costs apart from time: this differs less from one run to the next.

use std::{env, fs, path::PathBuf, process};

use crate::{allocations, contender::Pair, roles::Job};

/// Figures of one call, both sides together where nothing else is said.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Counts {
    /// Context switches, wanted and unwanted.
    pub(crate) switches: f64,
    /// Time on a core, in microseconds.
    pub(crate) cpu: f64,
    /// Allocations in the caller's process, which may be the callee's too.
    pub(crate) allocations: f64,
    /// Their bytes.
    pub(crate) allocated: f64,
}

impl Counts {
    pub(crate) fn to_text(self) -> String {
        format!("{} {} {} {}", self.switches, self.cpu, self.allocations, self.allocated)
    }

    pub(crate) fn from_text(text: &str) -> Result<Counts, String> {
        let numbers: Vec<f64> = text.split(' ').filter_map(|number| number.parse().ok()).collect();
        match numbers[..] {
            [switches, cpu, allocations, allocated] => Ok(Counts { switches, cpu, allocations, allocated }),
            _ => Err(format!("not counts: `{text}`")),
        }
    }
}

/// Makes the calls and counts. Threads that end meanwhile take their figures along.
pub(crate) fn during(pair: &mut Pair, calls: u64) -> Counts {
    let processes: Vec<u32> = [process::id()].into_iter().chain(pair.callee_id()).collect();
    let before = Tasks::read(&processes);
    let allocated = allocations::during(|| drop(pair.run(calls)));
    let after = Tasks::read(&processes);
    let each = |total: u64| total as f64 / calls as f64;
    Counts {
        switches: each(after.switches.saturating_sub(before.switches)),
        cpu: each(after.nanoseconds.saturating_sub(before.nanoseconds)) / 1000.0,
        // One more is the list of times itself.
        allocations: each(allocated.number - 1),
        allocated: each(allocated.bytes - 8 * calls),
    }
}

/// System calls of one call, both sides together: the difference between many calls and few, so that
/// what start and end cost does not count. None where `strace` does not work.
pub(crate) fn system_calls(job: &Job<'_>) -> Option<f64> {
    let (few, many) = (500, 1500);
    let total = |calls| {
        let report = env::temp_dir().join(format!("nape-calls-{}", process::id()));
        let program = ["strace", "-f", "-c", "-o", report.to_str()?];
        let done = Job { calls, ..*job }.under(&program);
        let text = fs::read_to_string(&report);
        // It is not there if strace did not run.
        let _ = fs::remove_file(&report);
        done.ok()?;
        text.ok()?.lines().rev().find_map(total_of)
    };
    // Those who spin make more of them in one run than in another, and may have made none.
    Some(((total(many)? - total(few)?) / (many - few) as f64).max(0.0))
}

/// The number of calls in strace's last line: `100.00  0.012  7  1712  3 total`.
fn total_of(line: &str) -> Option<f64> {
    let columns: Vec<&str> = line.split_whitespace().collect();
    if columns.last() == Some(&"total") { columns.get(3)?.parse().ok() } else { None }
}

/// What the kernel has written down about all threads of some processes.
#[derive(Default)]
struct Tasks {
    switches: u64,
    nanoseconds: u64,
}

impl Tasks {
    fn read(processes: &[u32]) -> Tasks {
        let mut sum = Tasks::default();
        for task in processes.iter().flat_map(|id| tasks(*id)) {
            let read = |name| fs::read_to_string(task.join(name)).unwrap_or_default();
            for line in read("status").lines() {
                // There is a line with `non` before it, too.
                if let Some((_, number)) = line.split_once("voluntary_ctxt_switches:") {
                    sum.switches += number.trim().parse::<u64>().unwrap_or(0);
                }
            }
            let on_core = read("schedstat").split(' ').next().and_then(|first| first.parse::<u64>().ok());
            sum.nanoseconds += on_core.unwrap_or(0);
        }
        sum
    }
}

fn tasks(process: u32) -> Vec<PathBuf> {
    let entries = fs::read_dir(format!("/proc/{process}/task")).into_iter().flatten();
    entries.filter_map(|entry| Some(entry.ok()?.path())).collect()
}
