//! Bytes into words of shared memory, and out of them.
//!
//! The peer may write to the same words at the same time. Word by word it is one or the other; in a block, which
//! the processor copies with one instruction, byte by byte. Either way each byte is read once, and the copy stays
//! what it is.

use crate::sync::modelled::{AtomicU64, Ordering};

/// Copies bytes into words. The last one is filled up with zeros.
pub(super) fn store(words: &[AtomicU64], bytes: &[u8]) {
    let (whole, rest) = bytes.as_chunks::<WORD>();
    if whole.len() < BLOCK || !block::store(&words[..whole.len()], &bytes[..whole.len() * WORD]) {
        for (word, bytes) in words.iter().zip(whole) {
            word.store(u64::from_ne_bytes(*bytes), Ordering::Relaxed);
        }
    }
    if !rest.is_empty() {
        let mut last = [0; WORD];
        last[..rest.len()].copy_from_slice(rest);
        words[whole.len()].store(u64::from_ne_bytes(last), Ordering::Relaxed);
    }
}

/// Copies words into bytes.
pub(super) fn load(words: &[AtomicU64], bytes: &mut [u8]) {
    let n_whole = bytes.len() / WORD;
    let (whole, rest) = bytes.split_at_mut(n_whole * WORD);
    if n_whole < BLOCK || !block::load(&words[..n_whole], whole) {
        for (word, bytes) in words.iter().zip(whole.as_chunks_mut::<WORD>().0) {
            *bytes = word.load(Ordering::Relaxed).to_ne_bytes();
        }
    }
    if !rest.is_empty() {
        let last = words[n_whole].load(Ordering::Relaxed).to_ne_bytes();
        rest.copy_from_slice(&last[..rest.len()]);
    }
}

/// With the string instruction of the processor, which writes whole cache lines without reading them first: a
/// line of a ring has last been in the cache of the other side.
#[cfg(all(target_arch = "x86_64", not(loom), not(miri), not(nape_sanitized)))]
mod block {
    #![allow(unsafe_code)]

    use std::arch::asm;

    use super::{AtomicU64, WORD};

    pub(super) fn store(words: &[AtomicU64], bytes: &[u8]) -> bool {
        assert_eq!(size_of_val(words), bytes.len());
        // SAFETY: both are of this many bytes, and these are atomics, which may be written through a shared
        // reference. They are not read or written here as anything that the compiler knows, so that it does not
        // matter who else writes at the same time. Later stores are seen after all of these.
        unsafe { copy(words.as_ptr().cast_mut().cast(), bytes.as_ptr(), bytes.len()) };
        true
    }

    pub(super) fn load(words: &[AtomicU64], bytes: &mut [u8]) -> bool {
        assert_eq!(words.len() * WORD, bytes.len());
        // SAFETY: as above, and `bytes` is ours alone.
        unsafe { copy(bytes.as_mut_ptr(), words.as_ptr().cast(), bytes.len()) };
        true
    }

    /// # Safety
    ///
    /// `from` is good for `len` bytes to read, and `to` for as many to write.
    unsafe fn copy(to: *mut u8, from: *const u8, len: usize) {
        // SAFETY: see above; the direction flag is clear whenever Rust code runs.
        unsafe {
            asm!(
                "rep movsb",
                inout("rcx") len => _,
                inout("rdi") to => _,
                inout("rsi") from => _,
                options(nostack, preserves_flags),
            );
        }
    }
}

/// As plain memory, for sanitizers: they do not see an instruction that is written down, and find that nobody else is at
/// the same words only where these are no atomics.
#[cfg(nape_sanitized)]
mod block {
    #![allow(unsafe_code)]

    use std::ptr::copy_nonoverlapping;

    use super::{AtomicU64, WORD};

    pub(super) fn store(words: &[AtomicU64], bytes: &[u8]) -> bool {
        assert_eq!(words.len() * WORD, bytes.len());
        // SAFETY: both are of this many bytes, and atomics may be written through a shared reference. That nobody else
        // is at them is what the sanitizer is to see.
        unsafe { copy_nonoverlapping(bytes.as_ptr(), words.as_ptr().cast_mut().cast(), bytes.len()) };
        true
    }

    pub(super) fn load(words: &[AtomicU64], bytes: &mut [u8]) -> bool {
        assert_eq!(words.len() * WORD, bytes.len());
        // SAFETY: as above, and `bytes` is ours alone.
        unsafe { copy_nonoverlapping(words.as_ptr().cast(), bytes.as_mut_ptr(), bytes.len()) };
        true
    }
}

#[cfg(not(any(nape_sanitized, all(target_arch = "x86_64", not(loom), not(miri)))))]
mod block {
    use super::AtomicU64;

    pub(super) fn store(_: &[AtomicU64], _: &[u8]) -> bool {
        false
    }

    pub(super) fn load(_: &[AtomicU64], _: &mut [u8]) -> bool {
        false
    }
}

/// The bytes of a word.
pub(super) const WORD: usize = size_of::<u64>();
/// The words from which on a block is worth it. Sanitizers are to see all.
const BLOCK: usize = if cfg!(nape_sanitized) { 1 } else { 128 };

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn what_is_stored_is_loaded_whatever_its_length() {
        let words: Vec<AtomicU64> = (0..4 * BLOCK).map(|_| AtomicU64::new(u64::MAX)).collect();
        let lengths =
            (0..20).chain(BLOCK.saturating_sub(2) * WORD..(BLOCK + 2) * WORD).chain([4 * BLOCK * WORD]);
        for len in lengths {
            let bytes: Vec<u8> = (0..len).map(|at| (at * 7 + len) as u8).collect();
            store(&words, &bytes);
            let mut loaded = vec![0; len];
            load(&words, &mut loaded);
            assert_eq!(loaded, bytes, "of {len} bytes");
            if let Some(rest) = bytes.len().checked_rem(WORD).filter(|rest| *rest > 0) {
                let last = words[len / WORD].load(Ordering::Relaxed).to_ne_bytes();
                assert!(last[rest..].iter().all(|byte| *byte == 0), "the last word is filled up with zeros");
            }
            words[len.div_ceil(WORD)..].iter().for_each(|word| {
                assert_eq!(
                    word.swap(u64::MAX, Ordering::Relaxed),
                    u64::MAX,
                    "nothing behind it is written to"
                );
            });
            words.iter().for_each(|word| word.store(u64::MAX, Ordering::Relaxed));
        }
    }
}
