//! An allocator that counts, for as long as somebody wants to know.
#![allow(unsafe_code, reason = "a global allocator cannot be written without")]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
};

#[global_allocator]
static COUNTING: Counting = Counting;

/// Off while times are taken: then an allocation costs one load more than without this file.
static WANTED: AtomicBool = AtomicBool::new(false);
static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);
static BYTES: AtomicU64 = AtomicU64::new(0);

/// What was allocated, by all threads of this process.
#[derive(Clone, Copy, Default)]
pub(crate) struct Allocations {
    pub(crate) number: u64,
    pub(crate) bytes: u64,
}

/// Counts what `work` allocates; other threads meanwhile included.
pub(crate) fn during(work: impl FnOnce()) -> Allocations {
    let read = || Allocations { number: ALLOCATIONS.load(Relaxed), bytes: BYTES.load(Relaxed) };
    let before = read();
    WANTED.store(true, Relaxed);
    work();
    WANTED.store(false, Relaxed);
    let after = read();
    Allocations { number: after.number - before.number, bytes: after.bytes - before.bytes }
}

struct Counting;

fn count(bytes: usize) {
    if WANTED.load(Relaxed) {
        ALLOCATIONS.fetch_add(1, Relaxed);
        BYTES.fetch_add(bytes as u64, Relaxed);
    }
}

// SAFETY: every call goes to `System` with the arguments that it came with; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: the caller keeps the contract of `GlobalAlloc::alloc`, which is that of `System`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: as in `alloc`.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size);
        // SAFETY: `memory` came from `System`, because every allocation of this type does.
        unsafe { System.realloc(memory, layout, size) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: as in `realloc`.
        unsafe { System.dealloc(memory, layout) }
    }
}
