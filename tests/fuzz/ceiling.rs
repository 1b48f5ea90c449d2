//! An allocator that ends the program when a target asks for more than its input can be worth.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    process,
};

thread_local! {
    static LEFT: Cell<Option<usize>> = const { Cell::new(None) };
}

/// Runs a target that may hold so much more than it held: a few of the largest frames, and what the largest
/// expansion of its input takes.
pub fn under(input: usize, target: impl FnOnce()) {
    LEFT.set(Some(CEILING + EXPANSION * input));
    target();
    LEFT.set(None);
}

struct Counting;

#[global_allocator]
static COUNTING: Counting = Counting;

// SAFETY: every call is passed on as it is; what is counted beside it allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        take(layout.size());
        // SAFETY: the caller's promises are those that are asked for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        give(layout.size());
        // SAFETY: the caller's promises are those that are asked for.
        unsafe { System.dealloc(memory, layout) }
    }
}

fn take(size: usize) {
    // Without a thread there is no target.
    let _ = LEFT.try_with(|left| {
        let Some(before) = left.get() else { return };
        let Some(after) = before.checked_sub(size) else {
            if std::thread::panicking() {
                return;
            }
            left.set(None);
            eprintln!("{size} bytes more than the ceiling allows: {before} were left");
            process::abort();
        };
        left.set(Some(after));
    });
}

fn give(size: usize) {
    let _ = LEFT.try_with(|left| left.set(left.get().map(|before| before + size)));
}

const CEILING: usize = 4 << 20;
const EXPANSION: usize = 64;
