//! Descriptors that a process gets from the one that starts it.

use std::{
    io,
    os::{
        fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd},
        unix::process::CommandExt,
    },
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI32, Ordering},
    },
};

use rustix::{
    fs::fstat,
    io::{FdFlags, fcntl_setfd},
};

use super::{FIRST_FREE, imp};
use crate::os::FileId;

/// Which file this descriptor stands for.
// The types of the fields differ from platform to platform.
#[allow(clippy::unnecessary_cast)]
pub(crate) fn identity(fd: BorrowedFd<'_>) -> io::Result<FileId> {
    let stat = fstat(fd)?;
    Ok(FileId { device: stat.st_dev as u64, inode: stat.st_ino as u64 })
}

/// What the processes of one command get besides their standard streams. Nothing else goes to them, and each
/// can get other descriptors than the one before it.
pub(crate) struct HandDown {
    numbers: Arc<[AtomicI32; MOST_HANDED]>,
    held: Vec<OwnedFd>,
}

impl HandDown {
    /// Nothing so far. To be asked for once for a command.
    pub(crate) fn by(command: &mut Command) -> HandDown {
        let numbers: Arc<[AtomicI32; MOST_HANDED]> = Arc::new([const { AtomicI32::new(NONE) }; MOST_HANDED]);
        let theirs = numbers.clone();
        let prepare = move || {
            // Somebody else's code may have left descriptors open to be inherited, if only for a moment:
            // ipc-channel does so when it accepts. Where this cannot be done the child gets what was left
            // open, as from any other spawn.
            let _ = imp::mark_all_close_on_exec();
            theirs.iter().try_for_each(|number| match number.load(Ordering::Acquire) {
                NONE => Ok(()),
                // SAFETY: `HandDown` owns the descriptor of every number that stands here, and the thread that
                // spawns has it in its hands.
                number => Ok(fcntl_setfd(unsafe { BorrowedFd::borrow_raw(number) }, FdFlags::empty())?),
            })
        };
        // SAFETY: `prepare` reads memory of its own and makes system calls. It allocates nothing, takes no
        // lock and runs no code of anybody else, so it may run in the forked child of a process with many
        // threads.
        unsafe { command.pre_exec(prepare) };
        HandDown { numbers, held: Vec::new() }
    }

    /// The next process gets these under the numbers that they have here, and no others.
    pub(crate) fn give(&mut self, fds: Vec<OwnedFd>) {
        debug_assert!(fds.len() <= MOST_HANDED);
        self.take_back();
        for (number, fd) in self.numbers.iter().zip(&fds) {
            number.store(fd.as_raw_fd(), Ordering::Release);
        }
        self.held = fds;
    }

    /// Closes what was given here: else nobody would see the end of the process that has it.
    pub(crate) fn take_back(&mut self) {
        self.numbers.iter().for_each(|number| number.store(NONE, Ordering::Release));
        self.held.clear();
    }
}

impl Drop for HandDown {
    fn drop(&mut self) {
        self.take_back();
    }
}

/// Takes the descriptors that the parent handed down under these numbers, if each is that very file.
///
/// Works once in a process. An environment variable that names the numbers outlives the descriptors,
/// and whoever reads it a second time must not come to own a number that has an owner. What a
/// process is given at its start belongs to the whole process, hence a flag for the whole process.
///
/// # Errors
///
/// Why they cannot be taken, in words; then none is.
pub(crate) fn take_inherited<const N: usize>(
    handed: [(RawFd, FileId); N],
) -> Result<[OwnedFd; N], &'static str> {
    static TAKEN: AtomicBool = AtomicBool::new(false);
    if TAKEN.load(Ordering::Acquire) {
        return Err(TAKEN_ALREADY);
    }
    for (place, (number, expected)) in handed.iter().enumerate() {
        check_inherited(*number, *expected)?;
        if handed[..place].iter().any(|(other, _)| other == number) {
            return Err("it names a descriptor twice");
        }
    }
    // SYNC: taken. Of two threads that come here at the same time only one sees `false`.
    if TAKEN.swap(true, Ordering::AcqRel) {
        return Err(TAKEN_ALREADY);
    }
    // SAFETY: the numbers differ, and each is open on the file that the parent opened for this process
    // alone; nobody here made it, so nobody here owns it, and the flag `TAKEN` lets this line run once.
    let taken = handed.map(|(number, _)| unsafe { OwnedFd::from_raw_fd(number) });
    let marked = taken.iter().try_for_each(|fd| fcntl_setfd(fd, FdFlags::CLOEXEC));
    marked.map_err(|_| "a descriptor it names cannot be kept from children").map(|()| taken)
}

fn check_inherited(number: RawFd, expected: FileId) -> Result<(), &'static str> {
    if number < FIRST_FREE {
        return Err("the descriptor it names is a standard stream");
    }
    // SAFETY: the number is not -1, and the value lives for the `fstat` of the next line only, which
    // merely fails when nothing is open under it.
    let candidate = unsafe { BorrowedFd::borrow_raw(number) };
    if identity(candidate).ok() != Some(expected) {
        return Err("the descriptor it names is not open here, so it was meant for another process");
    }
    Ok(())
}

/// The most descriptors that a process is given besides its standard streams.
const MOST_HANDED: usize = 2;
/// No number of a descriptor.
const NONE: i32 = -1;
const TAKEN_ALREADY: &str = "it was taken already, and a process is a Neck once";
