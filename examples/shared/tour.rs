//! The tour: every way of calling, and everything that a call can come to.

use std::{
    future::Future,
    path::PathBuf,
    pin::pin,
    sync::{Arc, mpsc},
    task::{Context, Poll, Wake, Waker},
    thread::{self, Thread},
    time::Duration,
};

use indicatif::{ProgressBar, ProgressStyle};
use nape::{ApiHandle, CallError, Head, Result, Semaphore};

use super::{
    desk::Desk,
    options::in_full,
    survey::{Ranked, SurveyError, Totals},
};

/// Walks through it from the first call to the last.
pub(crate) fn walk(head: &Head, directory: PathBuf) -> Result<()> {
    let survey = head.api("survey").timeout(PATIENCE);
    let tour = Tour { head, survey, directory, desk: Desk::open(head)? };
    tour.call_and_wait()?;
    tour.start_and_poll()?;
    tour.be_called_back()?;
    tour.release_a_semaphore()?;
    tour.await_it()?;
    tour.lose_patience()?;
    tour.call_nobody();
    tour.get_a_typed_error();
    tour.see_a_panic()?;
    tour.be_called_by_the_child()?;
    tour.count_everything();
    Ok(())
}

struct Tour<'a> {
    head: &'a Head,
    survey: ApiHandle,
    directory: PathBuf,
    desk: Desk,
}

impl Tour<'_> {
    fn call_and_wait(&self) -> Result<()> {
        title("A call that blocks, for 20 s at the most");
        let count = self.survey.action("count", self.directory.clone());
        let totals: Totals = count.timeout(Duration::from_secs(20)).call()?;
        let Totals { files, lines, words, bytes } = totals;
        say("survey.count", format!("{files} files, {lines} lines, {words} words, {bytes} bytes"));
        Ok(())
    }

    fn start_and_poll(&self) -> Result<()> {
        title("A call that is started and polled, while events tell how far it is");
        let bar = progress_bar();
        let mut hash = self.survey.action("hash", self.directory.clone()).start::<(String, u32)>()?;
        let mut n_seen = 0;
        let (all, n_steps) = loop {
            if let Some(value) = hash.try_wait()? {
                break value;
            }
            // Wakes for the next step; looks after the result now and then in any case.
            if let Ok(step) = self.desk.steps().recv_timeout(Duration::from_millis(20)) {
                n_seen += 1;
                bar.set_length(step.of);
                bar.set_position(step.done);
            }
        };
        bar.finish_and_clear();
        say("survey.hash", format!("{}..., in {:.1?}", short(&all), hash.elapsed()));
        // A reply may overtake events that were sent before it.
        while n_seen < n_steps && self.desk.steps().recv_timeout(PATIENCE).is_ok() {
            n_seen += 1;
        }
        say("desk.step", format!("{n_seen} events told how far it was"));
        Ok(())
    }

    fn be_called_back(&self) -> Result<()> {
        title("A callback");
        let (sender, came) = mpsc::channel();
        let largest = self.survey.action("files.largest", (self.directory.clone(), 1usize));
        largest.then(move |outcome: Result<Vec<Ranked>, CallError>| {
            // On a thread of the library; the other end waits below.
            let _ = sender.send(outcome);
        })?;
        let outcome = came.recv().unwrap_or(Err(CallError::NoAnswer))?;
        match outcome.first() {
            Some(file) => say("files.largest", format!("{}, {} bytes", self.name(file), file.size)),
            None => say("files.largest", "there are no files"),
        }
        Ok(())
    }

    fn release_a_semaphore(&self) -> Result<()> {
        title("Four calls at once that release one semaphore");
        let four = self.survey.action("files.largest", (self.directory.clone(), 4usize));
        let files: Vec<Ranked> = four.call()?;
        if files.is_empty() {
            say("files.hash", "there are no files");
        }
        let semaphore = Semaphore::new(0);
        let mut hashes = Vec::new();
        for file in &files {
            let hash = self.survey.action("files.hash", file.path.clone()).releasing(&semaphore);
            hashes.push(hash.start::<String>()?);
        }
        // One permit for each that has ended, in whatever order they do.
        files.iter().for_each(|_| semaphore.acquire());
        for (file, hash) in files.iter().zip(hashes) {
            let took = hash.elapsed();
            say("files.hash", format!("{}...  {} in {took:.1?}", short(&hash.wait()?), self.name(file)));
        }
        Ok(())
    }

    fn await_it(&self) -> Result<()> {
        title("A call that is awaited, by an executor of fifteen lines");
        let largest = self.survey.action("files.largest", (self.directory.clone(), 1000usize));
        let files: Vec<Ranked> = block_on(largest.start()?)?;
        let empty = files.iter().filter(|file| file.size == 0).count();
        say("files.largest", format!("{} files, {empty} of them empty", files.len()));
        Ok(())
    }

    fn lose_patience(&self) -> Result<()> {
        title("A call that takes too long, and its late end, which does no harm");
        let dawdle = self.survey.action("dawdle", Duration::from_millis(150));
        tell("survey.dawdle", dawdle.timeout(Duration::from_millis(50)).call::<String>());
        if let Ok(time) = self.desk.late().recv_timeout(PATIENCE) {
            say("", format!("the handler ended after {time:?} all the same, and nobody got its reply"));
        }
        let again: String = self.survey.action("dawdle", Duration::ZERO).call()?;
        say("survey.dawdle", format!("the next one is {again}"));
        Ok(())
    }

    fn call_nobody(&self) {
        title("A call that nobody handles");
        tell("survey.weather", self.survey.action("weather", ()).call::<String>());
    }

    fn get_a_typed_error(&self) {
        title("A handler that fails, with an error of a type of its own");
        let nowhere = self.directory.join("no such directory");
        let outcome = self.survey.action("count", nowhere).call::<Totals>();
        match outcome.as_ref().err().and_then(CallError::fault).and_then(nape::Fault::typed) {
            Some(SurveyError::Missing { .. }) => {
                say("survey.count", "SurveyError::Missing, as it was returned")
            }
            Some(error) => say("survey.count", format!("another error: {error}")),
            None => tell("survey.count", outcome),
        }
    }

    fn see_a_panic(&self) -> Result<()> {
        title("A handler that panics, on purpose: nothing has crashed");
        tell("survey.stumble", self.survey.action("stumble", ()).call::<()>());
        let alive: Vec<Ranked> =
            self.survey.action("files.largest", (self.directory.clone(), 0usize)).call()?;
        say("files.largest", format!("is served as before ({} files were asked for)", alive.len()));
        Ok(())
    }

    fn be_called_by_the_child(&self) -> Result<()> {
        title("A handler that calls back, to one that is registered while everything runs");
        let signed = || self.survey.action("signed", "all is well".to_owned()).call::<String>();
        tell("survey.signed", signed());
        self.desk.start_to_sign()?;
        tell("survey.signed", signed());
        Ok(())
    }

    fn count_everything(&self) {
        title("What has been counted on this side");
        let n = self.head.counters();
        say("made", format!("{} calls: {} values, {} faults", n.calls, n.values, n.faults));
        say("", format!("{} refused, {} timed out, {} cut off", n.rejections, n.timeouts, n.cut_off));
        say("served", format!("{} calls, {} events", n.calls_served, n.events_served));
    }

    /// A file as seen from the directory.
    fn name(&self, file: &Ranked) -> String {
        file.path.strip_prefix(&self.directory).unwrap_or(&file.path).display().to_string()
    }
}

/// The whole executor: sleeps until the waker wakes this thread.
fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park(),
        }
    }
}

/// Hidden by itself where stderr is no terminal.
fn progress_bar() -> ProgressBar {
    let style = ProgressStyle::with_template("   {bar:40} {pos} of {len} files");
    ProgressBar::new(0).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

fn title(text: &str) {
    println!("\n{text}");
}

fn say(what: &str, text: impl std::fmt::Display) {
    println!("   {what:<16}{text}");
}

/// The value of a call, or why there is none.
fn tell<T: std::fmt::Debug>(what: &str, outcome: Result<T, CallError>) {
    match outcome {
        Ok(value) => say(what, format!("{value:?}")),
        Err(error) => say(what, format!("error: {}", in_full(&error))),
    }
}

fn short(hash: &str) -> &str {
    hash.get(..16).unwrap_or(hash)
}

/// For whatever has no timeout of its own.
const PATIENCE: Duration = Duration::from_secs(60);
