//! Room for large values, in large pages where the system has them.
//!
//! The first touch of a page of fresh memory costs several times the copy that follows, and fresh memory is what
//! an allocator gives out for each large value. In pages of 2 MiB there is one such touch instead of 512.

#![allow(unsafe_code)]

#[cfg(target_os = "linux")]
use rustix::mm::{Advice, madvise};

/// Makes room for `additional` more bytes.
pub(crate) fn make_room_for(buffer: &mut Vec<u8>, additional: usize) {
    grow(buffer, |buffer| buffer.reserve(additional));
}

/// The same, for not one byte more.
pub(crate) fn make_exact_room_for(buffer: &mut Vec<u8>, additional: usize) {
    grow(buffer, |buffer| buffer.reserve_exact(additional));
}

fn grow(buffer: &mut Vec<u8>, reserve: impl FnOnce(&mut Vec<u8>)) {
    let before = buffer.capacity();
    reserve(buffer);
    if buffer.capacity() != before && buffer.capacity() >= WORTHWHILE {
        prefer_large_pages(buffer);
    }
}

#[cfg(target_os = "linux")]
fn prefer_large_pages(buffer: &mut Vec<u8>) {
    let start = buffer.as_mut_ptr();
    // Inward: the pages around belong to others, too.
    let offset = start.align_offset(LARGE_PAGE);
    let Some(len) = buffer.capacity().checked_sub(offset).map(|len| len / LARGE_PAGE * LARGE_PAGE) else {
        return;
    };
    // SAFETY: the range is within the memory of the buffer, and the advice changes no byte of it. A kernel that
    // does not take it says so, and all is as before.
    let _ = unsafe { madvise(start.add(offset).cast(), len, Advice::LinuxHugepage) };
}

/// Other systems have no such advice, or give such pages by themselves.
#[cfg(not(target_os = "linux"))]
fn prefer_large_pages(_: &mut Vec<u8>) {}

const LARGE_PAGE: usize = 2 << 20;
/// Smaller buffers come from memory that an allocator keeps, and have been touched before.
const WORTHWHILE: usize = 2 * LARGE_PAGE;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_a_buffer_stays_there() {
        let mut buffer = vec![7; 100];
        for additional in [0, 1, LARGE_PAGE, WORTHWHILE, 5 * WORTHWHILE] {
            make_room_for(&mut buffer, additional);
            assert!(buffer.capacity() >= 100 + additional);
            assert!(buffer.iter().all(|byte| *byte == 7));
            assert_eq!(buffer.len(), 100);
        }
    }
}
