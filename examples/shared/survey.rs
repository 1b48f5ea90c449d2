//! The API that is served: it walks a directory, counts and hashes.
//!
//! Nothing in here knows whether its caller sits in another process.

use std::{
    fmt,
    fs::{self, File},
    io::{self, Read},
    panic,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use nape::{Api, ApiError, Context, Fault};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use walkdir::WalkDir;

/// What there is in a directory.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Totals {
    pub(crate) files: u64,
    pub(crate) lines: u64,
    pub(crate) words: u64,
    pub(crate) bytes: u64,
}

/// A file and a number that belongs to it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Ranked {
    pub(crate) path: PathBuf,
    pub(crate) size: u64,
}

/// The event that tells how far the hashing is.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Step {
    pub(crate) done: u64,
    pub(crate) of: u64,
}

/// Why a survey failed. It arrives at the caller as what it is here.
#[derive(Debug, Serialize, Deserialize, thiserror::Error)]
pub(crate) enum SurveyError {
    #[error("there is no {path}")]
    Missing { path: PathBuf },
    #[error("cannot read {path}: {why}")]
    Unreadable { path: PathBuf, why: String },
    #[error("the caller gave up")]
    GivenUp,
}

/// The tree of handlers: `survey.count`, `survey.files.largest` and so on.
pub(crate) fn api() -> Result<Api, ApiError> {
    Api::new("survey")
        .workers(4)
        .handle("count", |cx: &Context, directory: PathBuf| count(cx, &directory))?
        .handle("files.largest", |_: &Context, (directory, n): (PathBuf, usize)| largest(&directory, n))?
        .handle("files.hash", |_: &Context, file: PathBuf| hash(&file))?
        .handle("hash", |cx: &Context, directory: PathBuf| hash_all(cx, &directory))?
        .handle("dawdle", |cx: &Context, time: Duration| dawdle(cx, time))?
        .handle("stumble", |_: &Context, _: ()| stumble())?
        .handle("signed", |cx: &Context, report: String| signed(cx, report))
}

fn count(cx: &Context, directory: &Path) -> Result<Totals, SurveyError> {
    let mut totals = Totals::default();
    for file in files(directory)? {
        // The caller may not be there any more: then nobody wants the rest.
        if cx.is_cancelled() {
            return Err(SurveyError::GivenUp);
        }
        let bytes = fs::read(&file.path).map_err(|error| unreadable(&file.path, &error))?;
        totals.files += 1;
        totals.lines += bytes.iter().filter(|byte| **byte == b'\n').count() as u64;
        totals.words += bytes.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty()).count() as u64;
        totals.bytes += bytes.len() as u64;
    }
    Ok(totals)
}

fn largest(directory: &Path, n: usize) -> Result<Vec<Ranked>, SurveyError> {
    let mut files = files(directory)?;
    files.sort_by(|a, b| b.size.cmp(&a.size).then_with(|| a.path.cmp(&b.path)));
    files.truncate(n);
    Ok(files)
}

fn hash(file: &Path) -> Result<String, SurveyError> {
    let mut hash = Sha256::new();
    feed(&mut hash, file)?;
    Ok(hex(hash))
}

/// Hashes all files as one, and tells the caller how far it is: by events, which nobody answers. Says how
/// many these were.
fn hash_all(cx: &Context, directory: &Path) -> Result<(String, u32), SurveyError> {
    let files = files(directory)?;
    let desk = cx.api("desk");
    let (of, mut hash, mut n_steps) = (files.len() as u64, Sha256::new(), 0);
    for (done, file) in (1..).zip(&files) {
        feed(&mut hash, &file.path)?;
        // A hundred steps are enough for any bar.
        if done * 100 / of > (done - 1) * 100 / of {
            desk.action("step", Step { done, of }).fire().map_err(|_| SurveyError::GivenUp)?;
            n_steps += 1;
        }
    }
    Ok((hex(hash), n_steps))
}

/// Takes its time, whether or not somebody still waits, and says so when nobody does.
fn dawdle(cx: &Context, time: Duration) -> Result<String, Fault> {
    thread::sleep(time);
    if cx.is_cancelled() {
        cx.api("desk").action("late", time).fire()?;
    }
    Ok("done".to_owned())
}

fn stumble() -> Result<(), Fault> {
    panic::panic_any(STUMBLE)
}

/// Calls back: the one who asked has to sign what it gets.
fn signed(cx: &Context, report: String) -> Result<String, Fault> {
    let signature: String = cx.api("desk").action("sign", report.clone()).call()?;
    Ok(format!("{report} ({signature})"))
}

/// The files below a directory with their sizes, always in the same order.
fn files(directory: &Path) -> Result<Vec<Ranked>, SurveyError> {
    if !directory.exists() {
        return Err(SurveyError::Missing { path: directory.to_owned() });
    }
    let entries = WalkDir::new(directory).sort_by_file_name().into_iter();
    let files = entries.filter(|entry| entry.as_ref().map_or(true, |entry| entry.file_type().is_file()));
    let ranked = files.map(|entry| {
        let entry = entry?;
        Ok(Ranked { size: entry.metadata()?.len(), path: entry.into_path() })
    });
    ranked.collect::<Result<_, walkdir::Error>>().map_err(|error| {
        let path = error.path().unwrap_or(directory).to_owned();
        unreadable(&path, &io::Error::from(error))
    })
}

fn feed(hash: &mut Sha256, file: &Path) -> Result<(), SurveyError> {
    let because = |error: io::Error| unreadable(file, &error);
    let mut open = File::open(file).map_err(because)?;
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match open.read(&mut buffer).map_err(because)? {
            0 => return Ok(()),
            n => hash.update(&buffer[..n]),
        }
    }
}

fn hex(hash: Sha256) -> String {
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unreadable(path: &Path, error: &dyn fmt::Display) -> SurveyError {
    SurveyError::Unreadable { path: path.to_owned(), why: error.to_string() }
}

/// Keeps the panic that is a part of the show from looking like a crash. Others are told as ever.
pub(crate) fn keep_quiet_on_purpose() {
    let usual = panic::take_hook();
    panic::set_hook(Box::new(move |panic| {
        let text = panic.payload().downcast_ref::<&str>().copied().unwrap_or_default();
        if text != STUMBLE {
            usual(panic);
        }
    }));
}

const STUMBLE: &str = "a stone on the way, put there on purpose";
