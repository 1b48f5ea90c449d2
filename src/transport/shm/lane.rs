//! What lies in the shared memory for one direction, and where.
//!
//! Knows nothing of descriptors and mappings: the same words may lie in a mapping, on the heap, or in a
//! model checker.

use crate::sync::modelled::{AtomicU32, AtomicU64};

/// One direction of a connection: its words, wherever they live.
///
/// The other end may be in another process that writes whatever it likes to any of them at any time.
pub(super) trait Lane {
    /// The words that the two ends steer by.
    fn control(&self) -> &Control;

    /// The words that carry the packets. There are a power of two of them, always the same.
    fn words(&self) -> &[AtomicU64];
}

/// The words that the two ends of a lane steer by. All zero at the start.
#[repr(C)]
#[derive(Debug)]
pub(super) struct Control {
    pub(super) producer: ProducerLine,
    pub(super) consumer: ConsumerLine,
}

/// What the consumer watches. It is written by the producer alone while packets flow.
#[repr(C, align(128))]
#[derive(Debug)]
pub(super) struct ProducerLine {
    /// How many words were ever published.
    pub(super) tail: AtomicU64,
    /// See [`super::bell`].
    pub(super) bell: AtomicU32,
    /// The core on which the producer last ran, plus one; zero while nobody knows.
    pub(super) core: AtomicU32,
}

/// What the producer looks at when it needs room. It is written by the consumer alone.
#[repr(C, align(128))]
#[derive(Debug)]
pub(super) struct ConsumerLine {
    /// How many words were ever read, and may be written again.
    pub(super) head: AtomicU64,
}

/// A peer wrote something into the shared memory that no correct peer writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the shared ring is corrupt: {0}")]
pub(super) struct RingCorrupt(pub(super) &'static str);

impl From<RingCorrupt> for std::io::Error {
    fn from(corrupt: RingCorrupt) -> std::io::Error {
        std::io::Error::new(std::io::ErrorKind::InvalidData, corrupt)
    }
}

/// A lane on the heap, for tests.
#[cfg(any(test, fuzzing))]
#[derive(Clone, Debug)]
pub(super) struct HeapLane(std::sync::Arc<(Control, Box<[AtomicU64]>)>);

#[cfg(any(test, fuzzing))]
impl HeapLane {
    pub(super) fn new(words: usize) -> HeapLane {
        let control = Control {
            producer: ProducerLine {
                tail: AtomicU64::new(0),
                bell: AtomicU32::new(0),
                core: AtomicU32::new(0),
            },
            consumer: ConsumerLine { head: AtomicU64::new(0) },
        };
        HeapLane(std::sync::Arc::new((control, (0..words).map(|_| AtomicU64::new(0)).collect())))
    }
}

#[cfg(any(test, fuzzing))]
impl Lane for HeapLane {
    fn control(&self) -> &Control {
        &self.0.0
    }

    fn words(&self) -> &[AtomicU64] {
        &self.0.1
    }
}
