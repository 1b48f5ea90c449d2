//! What a child writes, passed on as it comes; and its last words, remembered to the end.

use std::{collections::VecDeque, io, time::Instant};

use super::output::LineWriter;
use crate::os::{
    self,
    fd::{AsFd, BorrowedFd, OwnedFd},
};

/// The reading end of a child's stderr or stdout, and the last of what came out of it.
pub(crate) struct LastWords {
    /// Gone once everybody who could write has closed the other end.
    pipe: Option<OwnedFd>,
    /// What takes it line by line; else it goes to our own stderr.
    lines: Option<LineWriter>,
    forgetful: bool,
    tail: Tail,
    /// How many bytes our own stderr had no room for.
    withheld: u64,
}

impl LastWords {
    /// Reads from this pipe from now on, on which nothing blocks. Without a writer of lines it goes on to our own stderr.
    pub(crate) fn new(pipe: OwnedFd, lines: Option<LineWriter>) -> LastWords {
        LastWords { pipe: Some(pipe), lines, ..LastWords::none() }
    }

    /// The same for lines of which none are remembered.
    pub(crate) fn forgetful(pipe: OwnedFd, lines: LineWriter) -> LastWords {
        LastWords { forgetful: true, ..LastWords::new(pipe, Some(lines)) }
    }

    /// Nothing to read, now and later.
    pub(crate) fn none() -> LastWords {
        LastWords { pipe: None, lines: None, forgetful: false, tail: Tail::default(), withheld: 0 }
    }

    /// Reads what is there, but no more than `limit` bytes, so that a child which writes without a
    /// pause cannot keep us here.
    pub(crate) fn drain(&mut self, limit: usize) {
        self.drain_until(limit, None);
    }

    /// The same for a child that has ended: all of what it wrote is there, or on the way.
    pub(crate) fn drain_last(&mut self, limit: usize) {
        let due = (!os::OUTPUT_LAG.is_zero()).then(|| Instant::now() + os::OUTPUT_LAG);
        self.drain_until(limit, due);
    }

    fn drain_until(&mut self, limit: usize, due: Option<Instant>) {
        let mut buffer = [0; PIECE];
        let mut taken = 0;
        while taken < limit {
            let Some(pipe) = &self.pipe else { return };
            match os::read_some(pipe.as_fd(), &mut buffer) {
                Ok(len @ 1..) => {
                    taken += len;
                    self.take(&buffer[..len]);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => match due {
                    Some(due) if is_readable_by(pipe, due) => {}
                    _ => return,
                },
                Ok(0) | Err(_) => self.pipe = None,
            }
        }
    }

    /// Nothing more is read: a line that has begun is all of it.
    pub(crate) fn finish(&mut self) {
        self.pipe = None;
        self.lines.iter_mut().for_each(LineWriter::finish);
    }

    fn take(&mut self, piece: &[u8]) {
        if !self.forgetful {
            self.tail.push(piece);
        }
        match &mut self.lines {
            Some(lines) => lines.take(piece),
            None => self.withheld += (piece.len() - os::pass_on(piece)) as u64,
        }
    }

    /// What to wait on for more.
    pub(crate) fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.pipe.as_ref().map(AsFd::as_fd)
    }

    /// How many bytes our own stderr had no room for.
    pub(crate) fn withheld(&self) -> u64 {
        self.withheld
    }

    /// The last 4 KiB, cut at a line.
    pub(crate) fn tail(&self) -> String {
        self.tail.text(QUOTED)
    }
}

/// Whether there is more, or the end, before `due` has passed.
fn is_readable_by(pipe: &OwnedFd, due: Instant) -> bool {
    os::wait_readable_until(&[pipe.as_fd()], Some(due)).is_ok_and(|ready| ready.any())
}

/// The last bytes of a long text.
#[derive(Default)]
struct Tail(VecDeque<u8>);

impl Tail {
    fn push(&mut self, piece: &[u8]) {
        let piece = &piece[piece.len().saturating_sub(KEPT)..];
        let excess = (self.0.len() + piece.len()).saturating_sub(KEPT);
        self.0.drain(..excess);
        self.0.extend(piece);
    }

    /// The last lines that fit into `limit` bytes, or the end of the last one if it alone does not.
    fn text(&self, limit: usize) -> String {
        let start = self.0.len().saturating_sub(limit);
        let bytes: Vec<u8> = self.0.range(start..).copied().collect();
        // Every byte that is no UTF-8 grows to three, so the limit is kept a second time below.
        let text = String::from_utf8_lossy(&bytes);
        let cut = start > 0 || text.len() > limit;
        if cut { from_line_start(last(&text, limit)).to_owned() } else { text.into_owned() }
    }
}

/// The end of a text, at most `limit` bytes of it.
fn last(text: &str, limit: usize) -> &str {
    let mut start = text.len().saturating_sub(limit);
    while !text.is_char_boundary(start) {
        start += 1;
    }
    &text[start..]
}

/// Without the line that was cut, unless there is no other.
fn from_line_start(text: &str) -> &str {
    match text.split_once('\n') {
        Some((_, rest)) if !rest.is_empty() => rest,
        _ => text,
    }
}

/// A pipe that is ready for writing has room for this much.
const PIECE: usize = 4096;
/// How much is remembered.
const KEPT: usize = 64 * 1024;
/// How much goes into an error.
const QUOTED: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    fn tail_of(pieces: &[&[u8]]) -> Tail {
        let mut tail = Tail::default();
        pieces.iter().for_each(|piece| tail.push(piece));
        tail
    }

    #[test]
    fn a_short_text_is_whole() {
        assert_eq!(tail_of(&[b"one\ntw", b"o\n"]).text(QUOTED), "one\ntwo\n");
        assert_eq!(tail_of(&[]).text(QUOTED), "");
    }

    #[test]
    fn a_long_text_begins_with_a_whole_line() {
        let lines: Vec<u8> = (0..2000).flat_map(|line| format!("line {line}\n").into_bytes()).collect();
        let text = tail_of(&[&lines]).text(QUOTED);
        assert!(text.starts_with("line "), "{text}");
        assert!(text.ends_with("line 1999\n"));
        assert!(text.len() <= QUOTED && text.len() > QUOTED - 20);
    }

    #[test]
    fn one_endless_line_keeps_its_end() {
        let text = tail_of(&[&[b'x'; 10_000], b"end\n"]).text(QUOTED);
        assert_eq!(text.len(), QUOTED);
        assert!(text.ends_with("xend\n"));
    }

    #[test]
    fn what_is_no_text_stays_within_the_limit() {
        let text = tail_of(&[&[0xff; 10_000]]).text(QUOTED);
        assert!(text.len() <= QUOTED && text.len() > QUOTED - 4);
        assert!(text.chars().all(|c| c == char::REPLACEMENT_CHARACTER));
    }

    #[test]
    fn no_more_than_the_ring_is_remembered() {
        let mut tail = Tail::default();
        for round in 0..100u8 {
            tail.push(&[round; 3000]);
        }
        tail.push(&[b'!'; 3 * KEPT]);
        assert_eq!(tail.0.len(), KEPT);
        assert!(tail.0.iter().all(|&byte| byte == b'!'));
    }
}
