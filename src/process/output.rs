//! What a child writes, line by line, on its way to a callback that may be slow.

use std::{collections::VecDeque, sync::Arc};

use crate::sync::{Condvar, Mutex};

/// A line that a child wrote to its stdout or its stderr.
///
/// What is no UTF-8 in it is replaced. A line of more than 8 KiB comes in pieces.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct OutputLine {
    /// The program, as its command names it.
    pub program: Arc<str>,
    /// The number of its process.
    pub pid: u32,
    /// Where it was written to.
    pub stream: OutputStream,
    /// The line, without what ends it.
    pub text: String,
    /// How many lines before this one were lost, because the callback was too slow for them.
    pub lost: u64,
}

/// Where a child wrote something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum OutputStream {
    /// Its standard output.
    Stdout,
    /// Its standard error.
    Stderr,
}

/// The lines that wait for the callback: so many, and the oldest go when there are more. Whoever reads from
/// the child never waits.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    state: Mutex<State>,
    news: Condvar,
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<OutputLine>,
    bytes: usize,
    lost: u64,
    /// Nothing more comes.
    closed: bool,
}

impl Lines {
    /// The next line; blocks until there is one. `None` once nothing more comes.
    pub(crate) fn next(&self) -> Option<OutputLine> {
        let mut state = self.state.lock();
        loop {
            if let Some(mut line) = state.waiting.pop_front() {
                state.bytes -= line.text.len();
                line.lost = std::mem::take(&mut state.lost);
                return Some(line);
            }
            if state.closed {
                return None;
            }
            self.news.wait(&mut state);
        }
    }

    /// Nothing more comes: whoever takes the lines ends with the last of them.
    pub(crate) fn close(&self) {
        self.state.lock().closed = true;
        self.news.notify_all();
    }

    /// Nobody takes any of those that wait.
    pub(crate) fn abandon(&self) {
        let mut state = self.state.lock();
        state.bytes = 0;
        state.waiting.clear();
    }

    fn push(&self, line: OutputLine) {
        let mut state = self.state.lock();
        if state.closed {
            return;
        }
        state.bytes += line.text.len();
        state.waiting.push_back(line);
        while state.waiting.len() > MOST_LINES || state.bytes > MOST_BYTES {
            let Some(lost) = state.waiting.pop_front() else { break };
            state.bytes -= lost.text.len();
            state.lost += 1;
        }
        drop(state);
        self.news.notify_all();
    }
}

/// Cuts what one stream of one child brings into lines.
pub(crate) struct LineWriter {
    lines: Arc<Lines>,
    program: Arc<str>,
    pid: u32,
    stream: OutputStream,
    /// What has come of a line that is not complete.
    begun: Vec<u8>,
}

impl LineWriter {
    pub(crate) fn new(lines: &Arc<Lines>, program: &Arc<str>, pid: u32, stream: OutputStream) -> LineWriter {
        LineWriter { lines: lines.clone(), program: program.clone(), pid, stream, begun: Vec::new() }
    }

    /// Takes what has come.
    pub(crate) fn take(&mut self, piece: &[u8]) {
        let mut rest = piece;
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            self.add(&rest[..end]);
            self.emit();
            rest = &rest[end + 1..];
        }
        self.add(rest);
    }

    /// A line that has begun is all of it.
    pub(crate) fn finish(&mut self) {
        if !self.begun.is_empty() {
            self.emit();
        }
    }

    fn add(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        while self.begun.len() + rest.len() > LONGEST {
            let (fits, behind) = rest.split_at(LONGEST - self.begun.len());
            self.begun.extend_from_slice(fits);
            self.emit();
            rest = behind;
        }
        self.begun.extend_from_slice(rest);
    }

    fn emit(&mut self) {
        let bytes = self.begun.strip_suffix(b"\r").unwrap_or(&self.begun);
        let text = String::from_utf8_lossy(bytes).into_owned();
        self.begun.clear();
        let (program, pid, stream) = (self.program.clone(), self.pid, self.stream);
        self.lines.push(OutputLine { program, pid, stream, text, lost: 0 });
    }
}

/// How many lines wait at most,
const MOST_LINES: usize = 1024;
/// and how many bytes of them.
const MOST_BYTES: usize = 256 * 1024;
/// The longest line that is passed on in one piece.
const LONGEST: usize = 8 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn lines_of(pieces: &[&[u8]]) -> Vec<(String, u64)> {
        let lines = Arc::new(Lines::default());
        let mut writer = LineWriter::new(&lines, &"program".into(), 7, OutputStream::Stderr);
        pieces.iter().for_each(|piece| writer.take(piece));
        writer.finish();
        lines.close();
        std::iter::from_fn(|| lines.next()).map(|line| (line.text, line.lost)).collect()
    }

    fn texts_of(pieces: &[&[u8]]) -> Vec<String> {
        lines_of(pieces).into_iter().map(|(text, _)| text).collect()
    }

    #[test]
    fn lines_come_whole_however_they_were_cut() {
        assert_eq!(texts_of(&[b"o", b"ne\ntw", b"o\r\n", b"\n", b"rest"]), ["one", "two", "", "rest"]);
        assert_eq!(texts_of(&[b"\xff\xfe\n"]), ["\u{fffd}\u{fffd}"]);
        assert!(texts_of(&[]).is_empty());
    }

    #[test]
    fn a_line_without_an_end_comes_in_pieces() {
        let texts = texts_of(&[&[b'x'; 3 * LONGEST], b"y\n"]);
        assert_eq!(texts.iter().map(String::len).collect::<Vec<_>>(), [LONGEST, LONGEST, LONGEST, 1]);
    }

    #[test]
    fn p_29_the_oldest_lines_go_and_are_counted() {
        let many: Vec<u8> = (0..MOST_LINES + 10).flat_map(|n| format!("{n}\n").into_bytes()).collect();
        let lines = lines_of(&[&many]);
        assert_eq!(lines.len(), MOST_LINES);
        assert_eq!(lines[0], ("10".to_owned(), 10));
        assert!(lines[1..].iter().all(|(_, lost)| *lost == 0));
        let long = [&[b'x'; LONGEST][..], b"\n"].concat();
        let lines = lines_of(&vec![&long[..]; 100]);
        assert_eq!(lines.len(), MOST_BYTES / LONGEST);
        assert_eq!(lines[0].1 as usize, 100 - lines.len());
    }
}
