//! A child process that is ours: watched, killed and reaped by its descriptor, never by its number.

use std::{
    io,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use crate::{
    error::{CloseReason, Death, Exit, StartError},
    logging::{Line, line},
    os::{
        self, Attendant, Origin, ProcessWatch,
        fd::{AsFd, BorrowedFd},
    },
};

use super::{
    caught::caught,
    output::{LineWriter, Lines, OutputStream},
    spawn::{LaunchOptions, Stderr},
    stderr::LastWords,
};

/// A running program that we started, and its last words. Dropping it kills and reaps the process.
pub(crate) struct ChildHandle {
    program: Arc<str>,
    process: Arc<Process>,
    started: Instant,
    words: LastWords,
    /// Its stdout, where that is taken line by line.
    print: LastWords,
    death: Option<Death>,
    /// What is still to be said to the log.
    said: Vec<Line>,
    stdin: Option<ChildStdin>,
    stdout: Option<ChildStdout>,
}

/// Who a process is. Shared, so that one thread can kill what another one watches.
pub(crate) struct Process {
    pid: u32,
    watch: ProcessWatch,
    /// Who started it: a fork of that process must leave it alone.
    owner: Origin,
    /// It leads a process group, and what is left of that is to end with it.
    leads: bool,
}

impl ChildHandle {
    /// Starts the program.
    ///
    /// # Errors
    ///
    /// Whatever the error, no process is left.
    pub(crate) fn spawn(
        command: &mut Command,
        program: &Arc<str>,
        options: &LaunchOptions,
    ) -> Result<ChildHandle, StartError> {
        // Shows whether such descriptors can be made at all while there is no child yet that would
        // have to be killed without one, and holds a place in the table for the child's.
        let place = ProcessWatch::place().map_err(StartError::setup("process descriptor"))?;
        let lines = match &options.stderr {
            Stderr::Inherit => None,
            Stderr::PassOn => {
                command.stderr(Stdio::piped());
                None
            }
            Stderr::Lines(lines) => {
                command.stderr(Stdio::piped()).stdout(Stdio::piped());
                Some(lines)
            }
        };
        if options.own_group {
            os::lead_group(command);
        }
        let started = Instant::now();
        let child = caught("it cannot be executed, and somebody else has reaped it", || command.spawn())
            .map_err(|error| StartError::Spawn { program: program.clone(), error: Arc::new(error) })?;
        drop(place);
        adopt(child, program, started, lines, options.own_group)
    }

    /// The number of the process, for a log.
    pub(crate) fn pid(&self) -> u32 {
        self.process.pid
    }

    /// What the program is called.
    pub(crate) fn program(&self) -> &Arc<str> {
        &self.program
    }

    /// The process, to be killed from elsewhere.
    pub(crate) fn process(&self) -> Arc<Process> {
        self.process.clone()
    }

    /// The writing end of its stdin, once, if the command asked for a pipe there.
    pub(crate) fn take_stdin(&mut self) -> Option<ChildStdin> {
        self.stdin.take()
    }

    /// The reading end of its stdout, once, if the command asked for a pipe there.
    pub(crate) fn take_stdout(&mut self) -> Option<ChildStdout> {
        self.stdout.take()
    }

    /// The last of its stderr so far.
    pub(crate) fn tail(&self) -> String {
        self.words.tail()
    }

    /// Its end and its stderr; nothing once it has been reaped.
    pub(crate) fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        if self.death.is_some() {
            return Vec::new();
        }
        let streams = [self.words.descriptor(), self.print.descriptor()];
        std::iter::once(self.process.watch.as_fd()).chain(streams.into_iter().flatten()).collect()
    }

    /// Reads what it has written, and reaps it once it has ended. Does not block.
    ///
    /// The end of its stderr is never waited for: a grandchild may hold the pipe for as long as it
    /// likes.
    pub(crate) fn look(&mut self) -> Option<Death> {
        if self.death.is_none() {
            // In this order, because what it wrote before its end is in the pipe once it has ended.
            let ended = self.process.has_ended();
            for stream in [&mut self.words, &mut self.print] {
                if ended { stream.drain_last(AFTER_DEATH) } else { stream.drain(AT_ONCE) }
            }
            self.death = ended.then(|| self.bury());
        }
        self.death.clone()
    }

    fn bury(&mut self) -> Death {
        let exit = self.process.reap(&mut self.said);
        for stream in [&mut self.words, &mut self.print] {
            stream.finish();
        }
        if self.words.withheld() > 0 {
            let withheld = self.words.withheld();
            let program = &self.program;
            self.said
                .extend(line!(Debug, "{withheld} bytes of the stderr of {program} found no room in ours"));
        }
        Death { exit, after: self.started.elapsed(), stderr: self.tail().into() }
    }

    /// Keeps a line for whoever looks after it to write.
    pub(crate) fn note(&mut self, line: Option<Line>) {
        self.said.extend(line);
    }

    /// Ends the process at once. One that has ended already is fine, reaped or not.
    pub(crate) fn kill(&self) -> io::Result<()> {
        self.process.kill()
    }

    /// Waits for its end, and reaps it; `None` when it still runs after `limit`.
    ///
    /// Goes on reading its stderr, so that it can finish what it wants to say.
    pub(crate) fn reap(&mut self, limit: Duration) -> Option<Death> {
        let deadline = Instant::now().checked_add(limit);
        loop {
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            if let Some(death) = self.look() {
                return Some(death);
            }
            if left == Some(Duration::ZERO) || os::wait_readable(&self.descriptors(), left).is_err() {
                return None;
            }
        }
    }

    /// Kills and reaps, for as long as that may reasonably take.
    pub(crate) fn finish(&mut self) -> Option<Death> {
        if let Err(error) = self.kill() {
            let (program, pid) = (&self.program, self.pid());
            self.said.extend(line!(Warn, "cannot kill {program} (process {pid}): {error}"));
        }
        self.reap(KILLED_WITHIN)
    }
}

impl Drop for ChildHandle {
    fn drop(&mut self) {
        let ours = !self.process.owner.is_elsewhere();
        if ours && self.death.is_none() && self.finish().is_none() {
            let (program, pid) = (&self.program, self.pid());
            self.said.extend(line!(Warn, "{program} (process {pid}) was killed and does not end"));
        }
        self.take_words().into_iter().for_each(Line::write);
    }
}

impl Attendant for ChildHandle {
    fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        ChildHandle::descriptors(self)
    }

    fn look(&mut self) -> Option<CloseReason> {
        ChildHandle::look(self).map(CloseReason::Died)
    }

    fn take_words(&mut self) -> Vec<Line> {
        std::mem::take(&mut self.said)
    }

    fn farewell(&mut self, grace: Duration) {
        if self.reap(grace).is_none() {
            self.finish();
        }
    }
}

impl Process {
    /// The number of the process, for a log.
    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    /// Ends the process at once; one that has ended already is fine. One that is another's is let alone.
    pub(crate) fn kill(&self) -> io::Result<()> {
        if self.owner.is_elsewhere() {
            return Ok(());
        }
        self.watch.kill()
    }

    /// Whether it has ended, reaped or not.
    pub(crate) fn has_ended(&self) -> bool {
        os::is_readable(self.watch.as_fd())
    }

    /// The status of a process that has ended.
    fn reap(&self, said: &mut Vec<Line>) -> Exit {
        // While its number, and that of its group, is still its own.
        if self.leads
            && let Err(error) = self.watch.kill_group(self.pid)
        {
            said.extend(line!(Warn, "cannot kill what process {} has left behind: {error}", self.pid));
        }
        for _ in 0..TRACER_ROUNDS {
            match self.watch.exit() {
                Ok(Some(exit)) => return exit,
                // A tracer is told of the end before the parent is, and the status is ours only when
                // it has let go.
                Ok(None) => thread::sleep(TRACER_PAUSE),
                Err(error) => {
                    said.extend(line!(Warn, "cannot reap process {}: {error}", self.pid));
                    return Exit::Unknown;
                }
            }
        }
        Exit::Unknown
    }
}

/// Puts a new child under our watch instead of that of `std`, which from here on neither kills nor
/// reaps it.
pub(super) fn adopt(
    mut child: Child,
    program: &Arc<str>,
    started: Instant,
    lines: Option<&Arc<Lines>>,
    leads: bool,
) -> Result<ChildHandle, StartError> {
    let watched = ProcessWatch::of(&child);
    match (watched, streams(&mut child, program, lines)) {
        (Ok(watch), Ok((words, print))) => Ok(ChildHandle {
            program: program.clone(),
            process: Arc::new(Process { pid: child.id(), watch, owner: Origin::here(), leads }),
            started,
            words,
            print,
            death: None,
            said: Vec::new(),
            stdin: child.stdin.take(),
            stdout: child.stdout.take(),
        }),
        (Err(error), Ok((mut words, mut print))) if error.raw_os_error() == Some(NO_SUCH_PROCESS) => {
            // It has ended and somebody else has reaped it, all since the spawn.
            for stream in [&mut words, &mut print] {
                stream.drain_last(AFTER_DEATH);
                stream.finish();
            }
            let stderr = words.tail().into();
            let death = Death { exit: Exit::Unknown, after: started.elapsed(), stderr };
            Err(StartError::Died { program: program.clone(), death })
        }
        (Err(error), _) | (_, Err(error)) => {
            // Without a descriptor the number is all there is; nobody has reaped the child yet.
            let _ = child.kill();
            let _ = child.wait();
            Err(StartError::setup("process descriptor")(error))
        }
    }
}

/// What a child writes, as it is to be read.
fn streams(
    child: &mut Child,
    program: &Arc<str>,
    lines: Option<&Arc<Lines>>,
) -> io::Result<(LastWords, LastWords)> {
    let writer = |stream, lines: &Arc<Lines>| LineWriter::new(lines, program, child.id(), stream);
    let (of_stderr, of_stdout) = (
        lines.map(|lines| writer(OutputStream::Stderr, lines)),
        lines.map(|lines| writer(OutputStream::Stdout, lines)),
    );
    let words = match child.stderr.take() {
        Some(pipe) => LastWords::new(os::output(pipe)?, of_stderr),
        None => LastWords::none(),
    };
    let print = match of_stdout.and_then(|writer| Some((child.stdout.take()?, writer))) {
        Some((pipe, writer)) => LastWords::forgetful(os::output(pipe)?, writer),
        None => LastWords::none(),
    };
    Ok((words, print))
}

/// How much of a living child's stderr is read in one look.
const AT_ONCE: usize = 256 * 1024;
/// How much of a dead child's stderr is read at most: the largest pipe that everybody may have. A
/// grandchild may go on writing.
const AFTER_DEATH: usize = 1024 * 1024;
/// How long a killed process may take to end. One with much memory takes a while.
const KILLED_WITHIN: Duration = Duration::from_secs(2);
const TRACER_ROUNDS: u32 = 100;
const TRACER_PAUSE: Duration = Duration::from_millis(1);
/// `ESRCH`, which has no [`io::ErrorKind`] of its own.
const NO_SUCH_PROCESS: i32 = 3;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_that_was_reaped_before_we_looked_still_has_last_words() {
        let program: Arc<str> = "/bin/sh".into();
        let mut command = Command::new("/bin/sh");
        let mut child = command.args(["-c", "echo last words >&2"]).stderr(Stdio::piped()).spawn().unwrap();
        child.wait().unwrap();
        let error = adopt(child, &program, Instant::now(), None, false).err().unwrap();
        let StartError::Died { death, .. } = error else { panic!("{error:?}") };
        assert_eq!((death.exit, &*death.stderr), (Exit::Unknown, "last words\n"));
    }
}
