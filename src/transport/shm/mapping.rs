//! The memory that two ends share: how it is laid out, made, checked and mapped.

#![allow(unsafe_code)]

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    slice,
};

use super::lane::{Control, Lane};
use crate::{
    os::{Mapping, check_sealed, sealed_memory},
    sync::{
        Arc,
        modelled::{AtomicU64, Ordering},
    },
    wire::Side,
};

/// The first page of the memory.
#[repr(C)]
struct FirstPage {
    /// [`LABEL`], so that two versions that lay things out differently do not take each other's for theirs.
    label: Label,
    /// What the Head sends, and what the Neck sends.
    lanes: [Control; 2],
}

#[repr(C, align(128))]
struct Label(AtomicU64);

/// Memory for a connection that nobody has used yet.
pub(super) fn new_memory() -> io::Result<OwnedFd> {
    let memory = sealed_memory(LEN)?;
    Shared::map(memory.as_fd())?.first_page().label.0.store(LABEL, Ordering::Relaxed);
    Ok(memory)
}

/// The lanes out of and into the end that stands at this side, in memory from anywhere.
///
/// # Errors
///
/// When it is not what [`new_memory`] makes, or cannot be mapped.
pub(super) fn lanes(memory: BorrowedFd<'_>, side: Side) -> io::Result<(MappedLane, MappedLane)> {
    check_sealed(memory, LEN).map_err(refused)?;
    let shared = Arc::new(Shared::map(memory)?);
    if shared.first_page().label.0.load(Ordering::Relaxed) != LABEL {
        return Err(refused("it is laid out differently"));
    }
    let lane = |index| MappedLane { shared: shared.clone(), index };
    Ok(match side {
        Side::Head => (lane(0), lane(1)),
        Side::Neck => (lane(1), lane(0)),
    })
}

/// One direction, in the mapping.
#[derive(Clone, Debug)]
pub(super) struct MappedLane {
    shared: Arc<Shared>,
    index: usize,
}

impl Lane for MappedLane {
    fn control(&self) -> &Control {
        &self.shared.first_page().lanes[self.index]
    }

    fn words(&self) -> &[AtomicU64] {
        self.shared.words(self.index)
    }
}

/// Invariant: a mapping of [`LEN`] bytes of a file whose size is sealed, all zero when it was made.
#[derive(Debug)]
struct Shared(Mapping);

impl Shared {
    /// `memory` comes from `sealed_memory(LEN)` or has passed `check_sealed(LEN)`.
    fn map(memory: BorrowedFd<'_>) -> io::Result<Shared> {
        Mapping::new(memory, LEN).map(Shared)
    }

    fn first_page(&self) -> &FirstPage {
        // SAFETY: by the invariant of `Shared` there are LEN bytes from the start of a page on, which by
        // the assertion on FIRST_PAGE are enough and by that of a page's boundary aligned. All of it is
        // atomics, for which any bytes are a value and which others may change at any time. They are
        // borrowed from the mapping, so that it outlives them.
        unsafe { self.0.start().cast().as_ref() }
    }

    fn words(&self, index: usize) -> &[AtomicU64] {
        assert!(index < 2, "there are two lanes");
        let start = FIRST_PAGE + index * LANE;
        // SAFETY: `start + LANE` is at most LEN, so that the words lie in the mapping by the invariant of
        // `Shared`, and `start` is a multiple of 8 in it. They are atomics, as in `first_page`.
        unsafe { slice::from_raw_parts(self.0.start().add(start).cast().as_ptr(), WORDS) }
    }
}

fn refused(why: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("the shared memory is refused: {why}"))
}

const LABEL: u64 = u64::from_le_bytes(*b"nape shm");
/// The bytes before the words of the lanes.
const FIRST_PAGE: usize = 4096;
/// The bytes of a lane's words: see `WINDOW` in `ends.rs`.
pub(super) const LANE: usize = 256 * 1024;
const WORDS: usize = LANE / size_of::<AtomicU64>();
/// All of it.
pub(super) const LEN: usize = FIRST_PAGE + 2 * LANE;

const _: () = assert!(size_of::<FirstPage>() <= FIRST_PAGE && align_of::<FirstPage>() <= FIRST_PAGE);
const _: () = assert!(WORDS.is_power_of_two() && FIRST_PAGE.is_multiple_of(align_of::<AtomicU64>()));
