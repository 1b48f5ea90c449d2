//! Memory that two processes share: of a size that nobody can change, and mapped only if it is.

#![allow(unsafe_code)]

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    ptr::{self, NonNull},
};

use rustix::{
    fs::{
        FallocateFlags, FileType, MemfdFlags, SealFlags, fallocate, fcntl_add_seals, fcntl_get_seals, fstat,
        ftruncate, memfd_create,
    },
    io::retry_on_intr,
    mm::{MapFlags, ProtFlags, mmap, munmap},
};

use super::unix::above_standard;

/// Memory of exactly `len` bytes, all of it there and zero, whose size is fixed for ever.
///
/// # Errors
///
/// What the operating system says; there is no memory left to fail over later.
pub(crate) fn sealed_memory(len: usize) -> io::Result<OwnedFd> {
    let memory = memfd_create(c"nape", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    let memory = above_standard(memory)?;
    ftruncate(&memory, len as u64)?;
    fill(memory.as_fd(), len)?;
    fcntl_add_seals(&memory, FIXED)?;
    Ok(memory)
}

/// Whether the descriptor is memory of exactly `len` bytes whose size is fixed for ever, and that may be
/// written to.
///
/// # Errors
///
/// Why not, in words.
pub(crate) fn check_sealed(memory: BorrowedFd<'_>, len: usize) -> Result<(), &'static str> {
    let stat = fstat(memory).map_err(|_| "it cannot be measured")?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err("it is no memory");
    }
    if u64::try_from(stat.st_size) != Ok(len as u64) {
        return Err("its size is wrong");
    }
    let seals = fcntl_get_seals(memory).map_err(|_| "it is no memory")?;
    if !seals.contains(FIXED) {
        return Err("its size is not sealed");
    }
    if seals.intersects(SealFlags::WRITE | SealFlags::FUTURE_WRITE) {
        return Err("it is sealed against writing");
    }
    Ok(())
}

/// A mapping of shared memory, unmapped when it is dropped.
#[derive(Debug)]
pub(crate) struct Mapping {
    /// Invariant: the start of `len` mapped bytes that can be read and written, on the boundary of a page.
    start: NonNull<u8>,
    len: usize,
}

impl Mapping {
    /// Maps the first `len` bytes, and has all of them in place, so that no access has to wait for it.
    ///
    /// The descriptor has to have passed [`check_sealed`] with this length: else the file could shrink
    /// under the mapping, and an access would end the process.
    ///
    /// # Errors
    ///
    /// What the operating system says.
    pub(crate) fn new(memory: BorrowedFd<'_>, len: usize) -> io::Result<Mapping> {
        // Whoever made it should have done so. A hole would be filled at the first access, or not.
        fill(memory, len)?;
        let (access, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED | MapFlags::POPULATE);
        // SAFETY: the kernel chooses the place, so that no other memory of this process is touched.
        let start = unsafe { mmap(ptr::null_mut(), len, access, flags, memory, 0)? };
        let start = NonNull::new(start.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Mapping { start, len })
    }

    /// Where the mapped bytes start. They stay there while the mapping lives, and other processes may
    /// change them at any time.
    pub(crate) fn start(&self) -> NonNull<u8> {
        self.start
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: `start` and `len` are those of our own mapping, and nobody has a reference into it any
        // more: whoever borrows from it borrows this value. An error leaves it mapped, which is safe.
        let _ = unsafe { munmap(self.start.as_ptr().cast(), self.len) };
    }
}

// SAFETY: the value is an address and a length; what they stand for belongs to the process, not to a
// thread. It gives out a pointer only: who reads or writes through that has to see to the rest.
unsafe impl Send for Mapping {}
// SAFETY: as above; no method changes the value.
unsafe impl Sync for Mapping {}

fn fill(memory: BorrowedFd<'_>, len: usize) -> io::Result<()> {
    Ok(retry_on_intr(|| fallocate(memory, FallocateFlags::empty(), 0, len as u64))?)
}

/// What keeps a file from shrinking under its mappings.
const FIXED: SealFlags = SealFlags::SHRINK.union(SealFlags::GROW).union(SealFlags::SEAL);
