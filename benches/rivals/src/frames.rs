//! Messages over a stream of bytes: four bytes of length, and so many bytes.

use serde::{Serialize, de::DeserializeOwned};

use crate::{
    codec::{decode, encode_behind},
    lane::Lane,
};

/// Both directions of a stream.
pub(crate) trait Stream {
    /// Blocks until there is something, and gives how much it took; 0 at the end.
    fn read(&mut self, into: &mut [u8]) -> usize;
    /// Blocks until there is room for all; false when the other end is gone.
    fn write(&mut self, bytes: &[u8]) -> bool;
}

/// Frames over a stream.
pub(crate) struct Frames<S> {
    stream: S,
    /// What was read and not taken yet lies in `inbox[start..end]`.
    inbox: Vec<u8>,
    start: usize,
    end: usize,
    outbox: Vec<u8>,
    bytes: Vec<u8>,
}

impl<S: Stream> Frames<S> {
    pub(crate) fn over(stream: S) -> Frames<S> {
        Frames { stream, inbox: vec![0; 64 << 10], start: 0, end: 0, outbox: Vec::new(), bytes: Vec::new() }
    }

    /// Reads on until there are `n` bytes in the inbox; false at the end.
    fn fill(&mut self, n: usize) -> bool {
        while self.end - self.start < n {
            if self.start > 0 {
                self.inbox.copy_within(self.start..self.end, 0);
                (self.start, self.end) = (0, self.end - self.start);
            }
            match self.stream.read(&mut self.inbox[self.end..]) {
                0 => return false,
                read => self.end += read,
            }
        }
        true
    }

    /// The next so many bytes of the inbox, which were filled.
    fn take(&mut self, n: usize) -> &[u8] {
        self.start += n;
        &self.inbox[self.start - n..self.start]
    }

    fn take_length(&mut self) -> Option<usize> {
        if !self.fill(4) {
            return None;
        }
        let length = self.take(4).try_into().expect("four bytes");
        Some(u32::from_le_bytes(length) as usize)
    }

    /// Takes bytes of any length into `self.bytes`: those that are here, then straight from the stream.
    fn take_bytes(&mut self) -> bool {
        let Some(length) = self.take_length() else { return false };
        self.bytes.resize(length, 0);
        let mut at = length.min(self.end - self.start);
        self.bytes[..at].copy_from_slice(&self.inbox[self.start..self.start + at]);
        self.start += at;
        while at < length {
            match self.stream.read(&mut self.bytes[at..]) {
                0 => return false,
                read => at += read,
            }
        }
        true
    }

    fn write_bytes(stream: &mut S, bytes: &[u8]) -> bool {
        let length = (bytes.len() as u32).to_le_bytes();
        stream.write(&length) && stream.write(bytes)
    }
}

impl<S: Stream, Out: Serialize, In: DeserializeOwned> Lane<Out, In> for Frames<S> {
    fn send(&mut self, message: Out) -> bool {
        self.outbox.clear();
        self.outbox.extend([0; 4]);
        encode_behind(&message, &mut self.outbox);
        let length = (self.outbox.len() - 4) as u32;
        self.outbox[..4].copy_from_slice(&length.to_le_bytes());
        self.stream.write(&self.outbox)
    }

    fn receive(&mut self) -> Option<In> {
        let length = self.take_length()?;
        if self.fill(length) { Some(decode(self.take(length))) } else { None }
    }

    fn send_bytes(&mut self, bytes: &[u8]) -> bool {
        Frames::write_bytes(&mut self.stream, bytes)
    }

    fn receive_bytes(&mut self, show: &dyn Fn(&[u8])) -> bool {
        let came = self.take_bytes();
        if came {
            show(&self.bytes);
        }
        came
    }

    fn echo_bytes(&mut self) -> bool {
        self.take_bytes() && Frames::write_bytes(&mut self.stream, &self.bytes)
    }
}
