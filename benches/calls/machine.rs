//! Where this ran: figures from two machines, kernels or compilers cannot be compared.

use std::{fs, process::Command, thread};

/// What is printed above the tables.
pub(crate) struct Machine {
    pub(crate) cpu: String,
    pub(crate) cores: usize,
    pub(crate) kernel: String,
    pub(crate) rustc: String,
    /// How busy it was before the run: of a busy machine only the counts mean something.
    pub(crate) load: String,
}

impl Machine {
    pub(crate) fn this() -> Machine {
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        let model = read("/proc/cpuinfo")
            .lines()
            .find_map(|line| line.strip_prefix("model name")?.split_once(':'))
            .map(|(_, model)| model.trim().to_string());
        let rustc = Command::new("rustc").arg("--version").output();
        let rustc = rustc.ok().and_then(|output| String::from_utf8(output.stdout).ok());
        Machine {
            cpu: model.unwrap_or_else(|| "unknown".into()),
            cores: thread::available_parallelism().map_or(1, usize::from),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_string(),
            rustc: rustc.unwrap_or_else(|| "unknown".into()).trim().to_string(),
            load: read("/proc/loadavg").split(' ').next().unwrap_or_default().to_string(),
        }
    }
}
