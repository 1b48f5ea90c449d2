//! What was measured, as lines of JSON for whoever wants to draw or compare.

use std::{
    env,
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use crate::{
    machine::Machine,
    measure::Figures,
    place::Place,
    roles::{Failure, Job},
    work::Work,
};

/// The file of one work at one place: a run of another one leaves it alone.
pub(crate) struct Log {
    file: File,
    path: PathBuf,
}

impl Log {
    /// Starts the file anew, in the folder that cargo builds into.
    pub(crate) fn create(work: Work, place: Place) -> io::Result<Log> {
        let program = env::current_exe()?;
        let target = program.ancestors().nth(2).ok_or(io::ErrorKind::NotFound)?;
        let folder = target.join("bench");
        fs::create_dir_all(&folder)?;
        let path = folder.join(format!("rivals-{}-{}.jsonl", work.name(), place.name().replace(' ', "-")));
        Ok(Log { file: File::create(&path)?, path })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn machine(&mut self, machine: &Machine, versions: &[(String, String)]) {
        let Machine { cpu, cores, kernel, rustc, load } = machine;
        let [cpu, kernel, rustc, load] = [cpu, kernel, rustc, load].map(|text| json(text));
        let versions: Vec<String> =
            versions.iter().map(|(name, version)| format!("{}:{}", json(name), json(version))).collect();
        let versions = versions.join(",");
        self.line(format!(
            r#""kind":"machine","cpu":{cpu},"cores":{cores},"kernel":{kernel},"rustc":{rustc},"load":{load},"versions":{{{versions}}}"#
        ));
    }

    pub(crate) fn run(&mut self, job: &Job, repetition: usize, run: &Result<Figures, Failure>) {
        let Job { contender, work, place, calls } = job;
        let who = format!(
            r#""kind":"run","contender":{},"work":"{}","unit":"{}","caller_core":{},"callee_core":{},"repetition":{repetition},"calls":{calls}"#,
            json(contender.name),
            work.name(),
            work.unit(),
            place.caller,
            place.callee
        );
        self.line(match run {
            Ok(Figures { figure, p99, cpu, lost }) => {
                format!(r#"{who},"figure":{figure},"p99_us":{p99},"cpu_us":{cpu},"lost":{lost}"#)
            }
            Err(failure) => {
                format!(r#"{who},"failure":{}"#, json(&format!("{failure:?}").to_lowercase()))
            }
        });
    }

    fn line(&mut self, fields: String) {
        writeln!(self.file, "{{{fields}}}").expect("the log was opened to be written to");
    }
}

/// A text as a JSON string.
fn json(text: &str) -> String {
    let plain: String = text.chars().filter(|c| !c.is_control()).collect();
    format!("\"{}\"", plain.replace('\\', "\\\\").replace('"', "\\\""))
}
