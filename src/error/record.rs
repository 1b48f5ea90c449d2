//! Errors to numbered records and back, by hand: nothing public derives `Serialize`.

use std::{io, sync::Arc, time::Duration};

use super::{CallError, CloseReason, Death, Error, Executed, Exit, GivenUp, Misuse, Rejection, Silence};
use crate::wire::{Codec, Fault, FaultCode, FaultKind, FaultRecord, Form, Path, PathError, cut};

impl CallError {
    /// The failure as it stands on the wire of a link with this codec.
    pub(crate) fn to_record(&self, codec: Codec) -> FaultRecord {
        match self {
            CallError::TimedOut { path, after, executed } => {
                record(FaultCode::TimedOut, [micros(*after), executed.to_number()], [path.as_str()])
            }
            CallError::Cancelled => record(FaultCode::Cancelled, [0, 0], []),
            CallError::Closed { reason, executed } => reason.to_record(*executed),
            CallError::Rejected(why) => why.to_record(),
            CallError::Fault(fault) => fault.to_record(codec),
            CallError::NoAnswer => record(FaultCode::NoAnswer, [0, 0], []),
            CallError::Decode(what) => record(FaultCode::Decode, [0, 0], [&**what]),
            CallError::Misuse(what) => what.to_record(),
            CallError::Poisonous { path, crashes, last } => {
                let mut record = record(FaultCode::Poisonous, [u64::from(*crashes), 0], [path.as_str()]);
                last.to_record(Executed::Maybe).write(&mut record.value);
                record
            }
        }
    }

    /// Reads what [`CallError::to_record`] wrote. A code that is not known is a fault of kind `Other`.
    pub(crate) fn from_record(record: FaultRecord, codec: Codec) -> CallError {
        let Some(code) = FaultCode::from_number(record.code) else {
            return CallError::Fault(Fault::from_record(FaultKind::Other(record.code), record, codec));
        };
        let [first, second] = record.numbers;
        match code {
            FaultCode::TimedOut => CallError::TimedOut {
                path: record.path(0),
                after: Duration::from_micros(first),
                executed: Executed::from_number(second),
            },
            FaultCode::Cancelled => CallError::Cancelled,
            FaultCode::Closed => CallError::Closed {
                executed: Executed::from_number(second),
                reason: Arc::new(CloseReason::from_record(&record)),
            },
            FaultCode::NoAnswer => CallError::NoAnswer,
            FaultCode::Decode => CallError::Decode(record.text(0)),
            FaultCode::Misuse => CallError::Misuse(Misuse::from_record(&record)),
            FaultCode::Poisonous => {
                let last = FaultRecord::read(&record.value).ok();
                let last = last.filter(|last| last.code == FaultCode::Closed as u16);
                CallError::Poisonous {
                    path: record.path(0),
                    crashes: u32::try_from(first).unwrap_or(u32::MAX),
                    last: Arc::new(last.map_or(CloseReason::Gone, |last| CloseReason::from_record(&last))),
                }
            }
            FaultCode::Error => CallError::Fault(Fault::from_record(FaultKind::Error, record, codec)),
            FaultCode::Typed => CallError::Fault(Fault::from_record(FaultKind::Typed, record, codec)),
            FaultCode::Panicked => CallError::Fault(Fault::from_record(FaultKind::Panicked, record, codec)),
            FaultCode::Call => CallError::Fault(Fault::from_record(FaultKind::Call, record, codec)),
            FaultCode::NoHandler
            | FaultCode::BadArguments
            | FaultCode::Busy
            | FaultCode::TooLarge
            | FaultCode::ShuttingDown
            | FaultCode::Ambiguous
            | FaultCode::Expired
            | FaultCode::Denied
            | FaultCode::Mismatch => CallError::Rejected(Rejection::from_record(code, &record)),
        }
    }
}

impl Rejection {
    fn to_record(&self) -> FaultRecord {
        match self {
            Rejection::NoHandler { path } => record(FaultCode::NoHandler, [0, 0], [path.as_str()]),
            Rejection::BadArguments { path, expected, detail } => {
                record(FaultCode::BadArguments, [0, 0], [path.as_str(), expected, detail])
            }
            Rejection::Busy { path, detail } => record(FaultCode::Busy, [0, 0], [path.as_str(), detail]),
            Rejection::TooLarge { size, limit } => record(FaultCode::TooLarge, [*size, *limit], []),
            Rejection::ShuttingDown => record(FaultCode::ShuttingDown, [0, 0], []),
            Rejection::Ambiguous { path, count } => {
                record(FaultCode::Ambiguous, [u64::from(*count), 0], [path.as_str()])
            }
            Rejection::Expired => record(FaultCode::Expired, [0, 0], []),
            Rejection::Denied { path } => record(FaultCode::Denied, [0, 0], [path.as_str()]),
            Rejection::Mismatch { path, ours, theirs } => {
                record(FaultCode::Mismatch, [0, 0], [path.as_str(), theirs, ours])
            }
        }
    }

    fn from_record(code: FaultCode, record: &FaultRecord) -> Rejection {
        let path = record.path(0);
        let [first, second] = record.numbers;
        match code {
            FaultCode::BadArguments => {
                Rejection::BadArguments { path, expected: record.text(1), detail: record.text(2) }
            }
            FaultCode::Busy => Rejection::Busy { path, detail: record.text(1) },
            FaultCode::TooLarge => Rejection::TooLarge { size: first, limit: second },
            FaultCode::ShuttingDown => Rejection::ShuttingDown,
            FaultCode::Ambiguous => {
                Rejection::Ambiguous { path, count: u32::try_from(first).unwrap_or(u32::MAX) }
            }
            FaultCode::Expired => Rejection::Expired,
            FaultCode::Denied => Rejection::Denied { path },
            FaultCode::Mismatch => Rejection::Mismatch { path, ours: record.text(2), theirs: record.text(1) },
            _ => Rejection::NoHandler { path },
        }
    }
}

impl Misuse {
    fn to_record(&self) -> FaultRecord {
        let (number, texts): (u64, Vec<&str>) = match self {
            Misuse::BadPath(why) => (1 | bad_path_number(why) << 8, vec![]),
            Misuse::Encode { path, detail } => (2, vec![path.as_str(), detail]),
            Misuse::Taken { path } => (3, vec![path.as_str()]),
            Misuse::WouldDeadlock { .. } => (4, vec![]),
            Misuse::NoThread { detail } => (5, vec![detail]),
            Misuse::Forked => (6, vec![]),
            Misuse::Item { path, detail } => (7, vec![path.as_str(), detail]),
        };
        record(FaultCode::Misuse, [number, 0], texts)
    }

    fn from_record(record: &FaultRecord) -> Misuse {
        match record.numbers[0] & 0xff {
            1 => Misuse::BadPath(bad_path(record.numbers[0] >> 8)),
            2 => Misuse::Encode { path: record.path(0), detail: record.text(1) },
            3 => Misuse::Taken { path: record.path(0) },
            4 => Misuse::WouldDeadlock { place: "a place at the other side" },
            6 => Misuse::Forked,
            7 => Misuse::Item { path: record.path(0), detail: record.text(1) },
            _ => Misuse::NoThread { detail: record.text(0) },
        }
    }
}

impl CloseReason {
    fn to_record(&self, executed: Executed) -> FaultRecord {
        let (number, text, details): (u64, String, Vec<u8>) = match self {
            CloseReason::Local => (1, String::new(), vec![]),
            CloseReason::Peer => (2, String::new(), vec![]),
            CloseReason::Died(death) => (3, death.stderr.to_string(), death.to_bytes()),
            CloseReason::Gone => (4, String::new(), vec![]),
            CloseReason::Io(error) => (5 | os_number(error) << 8, error.to_string(), vec![]),
            CloseReason::Protocol(error) => (6 | u64::from(error.code()) << 8, error.to_string(), vec![]),
            CloseReason::Accused { code } => (6 | u64::from(*code) << 8, String::new(), vec![]),
            CloseReason::Broken(what) => (7, what.to_string(), vec![]),
            CloseReason::Unresponsive { what, after } => {
                (8 | what.to_number() << 8, String::new(), micros(*after).to_le_bytes().to_vec())
            }
            CloseReason::GaveUp(why) => (9, why.to_string(), vec![]),
            CloseReason::TurnedAway(why) => (10 | u64::from(why.code()) << 8, String::new(), vec![]),
        };
        let mut record = record(FaultCode::Closed, [number, executed.to_number()], [text.as_str()]);
        record.value = details;
        record
    }

    fn from_record(record: &FaultRecord) -> CloseReason {
        match record.numbers[0] & 0xff {
            1 => CloseReason::Local,
            2 => CloseReason::Peer,
            3 => CloseReason::Died(Death::from_bytes(&record.value, record.text(0))),
            4 => CloseReason::Gone,
            5 => CloseReason::Io(Arc::new(os_error(record.numbers[0] >> 8, &record.text(0)))),
            6 => CloseReason::Accused { code: u16::try_from(record.numbers[0] >> 8).unwrap_or(u16::MAX) },
            8 => CloseReason::Unresponsive {
                what: Silence::from_number(record.numbers[0] >> 8),
                after: Duration::from_micros(number_at(&record.value, 0)),
            },
            10 => CloseReason::told_by(u16::try_from(record.numbers[0] >> 8).unwrap_or(u16::MAX)),
            9 => CloseReason::GaveUp(Arc::new(GivenUp { crashes: Vec::new(), summary: record.text(0) })),
            _ => CloseReason::Broken(record.text(0)),
        }
    }
}

impl Death {
    fn to_bytes(&self) -> Vec<u8> {
        let (kind, number) = match self.exit {
            Exit::Code(code) => (1, code),
            Exit::Signal(signal) => (2, signal),
            Exit::Unknown => (0, 0),
        };
        let mut bytes = vec![kind];
        bytes.extend_from_slice(&number.to_le_bytes());
        bytes.extend_from_slice(&micros(self.after).to_le_bytes());
        bytes
    }

    fn from_bytes(bytes: &[u8], stderr: Arc<str>) -> Death {
        let number = bytes.get(1..5).and_then(|n| n.try_into().ok()).map_or(0, i32::from_le_bytes);
        let after = number_at(bytes, 5);
        let exit = match bytes.first() {
            Some(1) => Exit::Code(number),
            Some(2) => Exit::Signal(number),
            _ => Exit::Unknown,
        };
        Death { exit, after: Duration::from_micros(after), stderr }
    }
}

impl Silence {
    fn to_number(self) -> u64 {
        u64::from(self == Silence::Read)
    }

    fn from_number(number: u64) -> Silence {
        if number == 0 { Silence::Answer } else { Silence::Read }
    }
}

impl Executed {
    fn to_number(self) -> u64 {
        u64::from(self == Executed::Maybe)
    }

    fn from_number(number: u64) -> Executed {
        if number == 0 { Executed::No } else { Executed::Maybe }
    }
}

impl Fault {
    /// The error of a call that the handler made itself and passed on. Of more than 32 in each other there is none: they
    /// are an [`Error`](FaultKind::Error) where they come over a link.
    pub fn call_error(&self) -> Option<CallError> {
        match self.kind {
            FaultKind::Call => {
                let codec = self.form.any();
                FaultRecord::read(self.value_in(codec)?)
                    .ok()
                    .map(|record| CallError::from_record(record, codec))
            }
            _ => None,
        }
    }

    fn to_record(&self, codec: Codec) -> FaultRecord {
        let value = match self.kind {
            FaultKind::Call => self.call_record(codec),
            _ => self.value_in(codec).map(<[u8]>::to_vec),
        };
        let code = match self.kind {
            // What came over a link with another codec goes on as its texts.
            FaultKind::Typed | FaultKind::Call if value.is_none() => FaultCode::Error as u16,
            FaultKind::Error => FaultCode::Error as u16,
            FaultKind::Typed => FaultCode::Typed as u16,
            FaultKind::Panicked => FaultCode::Panicked as u16,
            FaultKind::Call => FaultCode::Call as u16,
            FaultKind::Other(code) => code,
        };
        let texts = [&*self.message, &*self.type_name].into_iter().chain(self.chain()).map(str::to_owned);
        let value = value.unwrap_or_default();
        FaultRecord { code, numbers: [0, 0], texts: texts.collect(), value }
    }

    /// The record of the call that failed, for a link with this codec. Made anew where that is another one, since
    /// an error may stand in it.
    fn call_record(&self, codec: Codec) -> Option<Vec<u8>> {
        match self.value_in(codec) {
            Some(value) => Some(value.to_vec()),
            None => as_texts(self.value_in(self.form.any())?),
        }
    }

    fn from_record(kind: FaultKind, mut record: FaultRecord, codec: Codec) -> Fault {
        let mut kind = kind;
        if kind == FaultKind::Call && nests_too_deep(&record.value) {
            // Its texts say what happened. Whoever looks for the first error copies the rest at every step.
            (kind, record.value) = (FaultKind::Error, Vec::new());
        }
        let mut texts = record.texts.into_iter();
        let (message, type_name) = (texts.next().unwrap_or_default(), texts.next().unwrap_or_default());
        Fault {
            kind,
            message: message.into(),
            type_name: type_name.into(),
            chain: texts.map(String::into_boxed_str).collect(),
            value: Arc::new(record.value.into()),
            form: Form::One(codec),
        }
    }
}

/// The records in each other of calls that failed, without the values that only a link with their own codec can read:
/// of those the texts go on. `None` where they are no records, or too many: a peer may have made them.
fn as_texts(mut record: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    for _ in 0..MAX_NESTED {
        let (mut head, value) = FaultRecord::read_head(record).ok()?;
        let value = match FaultCode::from_number(head.code) {
            Some(FaultCode::Call) => {
                head.write(&mut out);
                record = value;
                continue;
            }
            Some(FaultCode::Typed) => {
                head.code = FaultCode::Error as u16;
                &[]
            }
            Some(FaultCode::Error | FaultCode::Panicked) | None => &[][..],
            // What the library says itself is the same in every codec.
            Some(_) => value,
        };
        head.write(&mut out);
        out.extend_from_slice(value);
        return Some(out);
    }
    None
}

/// Whether more records stand in each other than anybody's calls do.
fn nests_too_deep(mut record: &[u8]) -> bool {
    for _ in 0..MAX_NESTED {
        match FaultRecord::read_head(record) {
            Ok((head, value)) if head.code == FaultCode::Call as u16 => record = value,
            _ => return false,
        }
    }
    true
}

impl<E: std::error::Error + 'static> From<E> for Fault {
    fn from(error: E) -> Fault {
        let any: &(dyn std::error::Error + 'static) = &error;
        let call_error = match any.downcast_ref() {
            Some(Error::Call(call_error)) => Some(call_error),
            _ => any.downcast_ref::<CallError>(),
        };
        let kind = if call_error.is_some() { FaultKind::Call } else { FaultKind::Error };
        let mut fault = Fault::of(kind, error.to_string(), std::any::type_name::<E>());
        if let Some(call_error) = call_error {
            // With the error as it came: whoever sends this on knows the codec.
            let form = match call_error {
                CallError::Fault(fault) => fault.form,
                _ => Form::One(Codec::Binary),
            };
            let mut value = Vec::new();
            call_error.to_record(form.any()).write(&mut value);
            fault.form = form;
            if let Form::Both(_) = form {
                fault.form = Form::Both(value.len() as u32);
                call_error.to_record(Codec::Json).write(&mut value);
            }
            fault.value = Arc::new(value.into());
        }
        let sources = std::iter::successors(any.source(), |error| error.source());
        fault.chain = sources.take(MAX_SOURCES).map(|source| cut(source.to_string()).into()).collect();
        fault
    }
}

impl FaultRecord {
    fn text(&self, at: usize) -> Arc<str> {
        self.texts.get(at).map_or_else(|| "".into(), |text| text.as_str().into())
    }

    /// A path that a peer sent; one that is no path becomes the root.
    fn path(&self, at: usize) -> Path {
        self.texts.get(at).and_then(|text| Path::new(text).ok()).unwrap_or_else(Path::root)
    }
}

fn record<'a>(code: FaultCode, numbers: [u64; 2], texts: impl IntoIterator<Item = &'a str>) -> FaultRecord {
    let texts = texts.into_iter().map(str::to_owned).collect();
    FaultRecord { code: code as u16, numbers, texts, value: Vec::new() }
}

/// A number in the bytes of a value; 0 where there is none.
fn number_at(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..at + 8).and_then(|n| n.try_into().ok()).map_or(0, u64::from_le_bytes)
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

fn bad_path_number(why: &PathError) -> u64 {
    match why {
        PathError::Empty => 0,
        PathError::TooLong(len) => 1 | (*len as u64) << 8,
        PathError::EmptySegment => 2,
        PathError::BadCharacter(c) => 3 | u64::from(u32::from(*c)) << 8,
        PathError::NotUtf8 => 4,
    }
}

fn bad_path(number: u64) -> PathError {
    match number & 0xff {
        0 => PathError::Empty,
        1 => PathError::TooLong(usize::try_from(number >> 8).unwrap_or(usize::MAX)),
        2 => PathError::EmptySegment,
        3 => PathError::BadCharacter(bad_character(number >> 8)),
        _ => PathError::NotUtf8,
    }
}

fn bad_character(number: u64) -> char {
    u32::try_from(number).ok().and_then(char::from_u32).unwrap_or(char::REPLACEMENT_CHARACTER)
}

/// The number that the operating system gave to an error; 0 is none.
fn os_number(error: &io::Error) -> u64 {
    error.raw_os_error().and_then(|number| u64::try_from(number).ok()).unwrap_or(0)
}

/// Both sides run on one machine, so that a number means the same to both.
fn os_error(number: u64, text: &str) -> io::Error {
    match i32::try_from(number) {
        Ok(number @ 1..) => io::Error::from_raw_os_error(number),
        _ => io::Error::other(text.to_owned()),
    }
}

/// How many sources of an error travel.
const MAX_SOURCES: usize = 16;
/// In how many records of calls that failed another one may stand: more than a call has sides that pass it on.
const MAX_NESTED: usize = 32;

#[cfg(test)]
mod tests;
