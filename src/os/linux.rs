//! The Linux calls, through `rustix` where it has them.

#![allow(unsafe_code)]

mod meet;
mod socket;
mod stream;
mod thread;

use std::{
    ffi::c_int,
    io,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd},
        unix::process::CommandExt,
    },
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI32, Ordering},
    },
    time::{Duration, Instant},
};

use rustix::{
    event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll},
    fs::{OFlags, fcntl_getfl, fcntl_setfl, fstat},
    io::{Errno, FdFlags, fcntl_dupfd_cloexec, fcntl_setfd, read, retry_on_intr, write},
    net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with},
    pipe::{PipeFlags, pipe_with},
    process::{
        Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, WaitIdStatus, getppid, pidfd_open, pidfd_send_signal,
        waitid,
    },
    rand::{GetRandomFlags, getrandom},
};

use crate::error::Exit;

pub(crate) use meet::{
    Standing, accept, connect_unix, knock_at, listen_unix, lock_directory, peer_ids, send_at_once, user_id,
    wait_for_any,
};
pub(crate) use socket::{make_room, receive_some, send_some, stop_receiving, stop_sending, stream_pair};
pub(crate) use stream::{StreamKind, make_room_in_pipe, read_more, stream_kind};
pub(crate) use thread::{ignore_signals, thread_id, thread_name};

/// Makes a thread that waits in [`wait_readable`] return, from any other thread.
#[derive(Debug)]
pub(crate) struct Wakeup(OwnedFd);

impl Wakeup {
    pub(crate) fn new() -> io::Result<Wakeup> {
        Ok(Wakeup(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?))
    }

    /// Makes the descriptor readable until it is drained. Never blocks.
    pub(crate) fn wake(&self) {
        // The only possible failure is a counter that is full, and then it is readable already.
        let _ = write(&self.0, &1u64.to_ne_bytes());
    }

    /// Forgets all wake-ups so far. Whoever drains looks afterwards at what it was woken for.
    pub(crate) fn drain(&self) {
        let _ = read(&self.0, &mut [0; 8]);
    }
}

impl AsFd for Wakeup {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Which of the descriptors given to [`wait_readable`] have something to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ready(u32);

impl Ready {
    /// Whether the descriptor at this place has.
    pub(crate) fn contains(self, index: usize) -> bool {
        index < MOST_WAITED_FOR && self.0 & (1 << index) != 0
    }

    /// Whether any has; none has when the time is over.
    pub(crate) fn any(self) -> bool {
        self.0 != 0
    }
}

/// Waits until one of the descriptors is readable, has ended or has failed, or the time is over.
///
/// `None` waits without limit, and so does a time too long to be counted. Zero only looks.
///
/// # Errors
///
/// What the operating system says; more than [`MOST_WAITED_FOR`] descriptors are invalid input.
pub(crate) fn wait_readable(fds: &[BorrowedFd<'_>], timeout: Option<Duration>) -> io::Result<Ready> {
    wait_readable_until(fds, timeout.and_then(after))
}

/// The same until an instant; one that has passed only looks.
pub(crate) fn wait_readable_until(fds: &[BorrowedFd<'_>], deadline: Option<Instant>) -> io::Result<Ready> {
    let Some(&filler) = fds.first() else {
        poll_until(&mut [], deadline)?;
        return Ok(Ready(0));
    };
    if fds.len() > MOST_WAITED_FOR {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // On the stack, so that a wait allocates nothing; what is beyond `fds` is not polled.
    let mut polled: [PollFd<'_>; MOST_WAITED_FOR] = std::array::from_fn(|index| {
        PollFd::from_borrowed_fd(*fds.get(index).unwrap_or(&filler), PollFlags::IN)
    });
    let polled = &mut polled[..fds.len()];
    poll_until(polled, deadline)?;
    let bits = polled.iter().enumerate().filter(|(_, fd)| !fd.revents().is_empty());
    Ok(Ready(bits.fold(0, |bits, (index, _)| bits | 1 << index)))
}

/// Waits until the descriptor takes bytes, has ended or has failed, at most until `deadline`. Says whether
/// it does.
pub(crate) fn wait_writable_until(fd: BorrowedFd<'_>, deadline: Option<Instant>) -> io::Result<bool> {
    let mut polled = [PollFd::from_borrowed_fd(fd, PollFlags::OUT)];
    poll_until(&mut polled, deadline)?;
    Ok(!polled[0].revents().is_empty())
}

/// Whether the descriptor is readable, has ended or has failed; does not wait.
pub(crate) fn is_readable(fd: BorrowedFd<'_>) -> bool {
    !state(fd, PollFlags::IN).is_empty()
}

/// Whether every writer of this pipe is gone; does not wait.
pub(crate) fn has_hung_up(fd: BorrowedFd<'_>) -> bool {
    state(fd, PollFlags::IN).contains(PollFlags::HUP)
}

/// Whether a write of up to 4,096 bytes would not wait. A reader that is gone is no reason to write:
/// that could raise a signal.
pub(crate) fn can_take(fd: BorrowedFd<'_>) -> bool {
    state(fd, PollFlags::OUT) == PollFlags::OUT
}

fn state(fd: BorrowedFd<'_>, interest: PollFlags) -> PollFlags {
    let mut polled = [PollFd::from_borrowed_fd(fd, interest)];
    match poll_until(&mut polled, after(Duration::ZERO)) {
        Ok(()) => polled[0].revents(),
        Err(_) => PollFlags::empty(),
    }
}

/// One poll, begun again with what is left of the time when a signal handler ran in between.
fn poll_until(fds: &mut [PollFd<'_>], deadline: Option<Instant>) -> io::Result<()> {
    loop {
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        // The kernel takes nanoseconds, so that nothing is rounded and no wait ends too early.
        let left = left.and_then(|left| Timespec::try_from(left).ok());
        match poll(fds, left.as_ref()) {
            Err(Errno::INTR) => {}
            done => return Ok(done.map(drop)?),
        }
    }
}

/// None for a time too long to be counted, which is no limit.
fn after(time: Duration) -> Option<Instant> {
    Instant::now().checked_add(time)
}

/// Reads what is there; zero is the end. Meant for descriptors that do not block.
pub(crate) fn read_some(fd: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<usize> {
    Ok(retry_on_intr(|| read(fd, &mut *buffer))?)
}

/// Writes a part or all of the bytes.
pub(crate) fn write_some(fd: BorrowedFd<'_>, bytes: &[u8]) -> io::Result<usize> {
    Ok(retry_on_intr(|| write(fd, bytes))?)
}

/// Makes reads and writes fail with `WouldBlock` instead of waiting, for everyone who shares this
/// end.
pub(crate) fn set_nonblocking(fd: BorrowedFd<'_>) -> io::Result<()> {
    Ok(fcntl_setfl(fd, fcntl_getfl(fd)? | OFlags::NONBLOCK)?)
}

/// A pipe, read end first, that no other program inherits.
pub(crate) fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let (read, write) = pipe_with(PipeFlags::CLOEXEC)?;
    Ok((above_standard(read)?, above_standard(write)?))
}

/// In a process that has closed its standard streams a new descriptor takes one of their numbers,
/// and a child's own streams would then be put over it.
pub(super) fn above_standard(fd: OwnedFd) -> io::Result<OwnedFd> {
    if fd.as_raw_fd() >= FIRST_FREE { Ok(fd) } else { Ok(fcntl_dupfd_cloexec(&fd, FIRST_FREE)?) }
}

/// Which file a descriptor stands for, wherever and under whatever number it is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FileId {
    pub(crate) device: u64,
    pub(crate) inode: u64,
}

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
            // ipc-channel does so when it accepts. A kernel before 5.11 cannot do this; there the child
            // gets what was left open, as from any other spawn.
            let _ = mark_all_close_on_exec();
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

fn mark_all_close_on_exec() -> io::Result<()> {
    // SAFETY: with this flag the call only sets the close-on-exec mark of descriptors; it closes none
    // and touches no memory.
    match unsafe { libc::syscall(libc::SYS_close_range, FIRST_FREE, c_int::MAX, libc::CLOSE_RANGE_CLOEXEC) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
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

/// A descriptor for a process; it becomes readable when the process ends, and never stands for
/// another process that gets the same number later.
pub(crate) fn open_process(pid: u32) -> io::Result<OwnedFd> {
    let pid = i32::try_from(pid).ok().filter(|&pid| pid > 0).and_then(Pid::from_raw);
    Ok(pidfd_open(pid.ok_or(Errno::SRCH)?, PidfdFlags::empty())?)
}

/// Ends the process at once; one that has ended already is fine.
pub(crate) fn kill_process(pidfd: BorrowedFd<'_>) -> io::Result<()> {
    match pidfd_send_signal(pidfd, Signal::KILL) {
        Ok(()) | Err(Errno::SRCH) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// How the child ended; `None` while it has not. Reaps it, so the answer comes once.
///
/// [`Exit::Unknown`] stands for a process that is no unreaped child of ours: somebody else has reaped
/// it, or the kernel has because nobody wants to hear of children.
pub(crate) fn exit_of(pidfd: BorrowedFd<'_>) -> io::Result<Option<Exit>> {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
    match retry_on_intr(|| waitid(WaitId::PidFd(pidfd), options)) {
        Ok(status) => Ok(status.map(|status| exit(&status))),
        Err(Errno::CHILD) => Ok(Some(Exit::Unknown)),
        Err(error) => Err(error.into()),
    }
}

fn exit(status: &WaitIdStatus) -> Exit {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => Exit::Code(code),
        (None, Some(signal)) => Exit::Signal(signal),
        (None, None) => Exit::Unknown,
    }
}

/// The number of the process that is the parent now; zero when it is in another namespace.
pub(crate) fn parent_id() -> u32 {
    getppid().map_or(0, |pid| pid.as_raw_nonzero().get().unsigned_abs())
}

/// Ends this process without running anything: no destructor, no handler registered for the exit.
pub(crate) fn exit_now(code: i32) -> ! {
    // SAFETY: it takes a number and does not return.
    unsafe { libc::_exit(code) }
}

/// 128 bits that nobody can guess.
pub(crate) fn random_token() -> io::Result<[u8; 16]> {
    let mut token = [0; 16];
    let mut filled = 0;
    while filled < token.len() {
        filled += retry_on_intr(|| getrandom(&mut token[filled..], GetRandomFlags::empty()))?;
    }
    Ok(token)
}

/// Connects to a listening socket of packets and hangs up at once. Does not wait, not even when the
/// queue there is full.
pub(crate) fn knock(path: &str) -> io::Result<()> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
    Ok(connect(&socket, &SocketAddrUnix::new(path)?)?)
}

/// As some programs do: nobody is told of the end of a child, and nobody reaps it.
#[cfg(test)]
pub(crate) fn ignore_children() {
    // SAFETY: no handler is installed; the kernel is told to ignore the signal.
    unsafe { libc::signal(libc::SIGCHLD, libc::SIG_IGN) };
}

/// The most descriptors that one [`wait_readable`] takes.
pub(crate) const MOST_WAITED_FOR: usize = 16;
/// The most descriptors that a process is given besides its standard streams.
const MOST_HANDED: usize = 2;
/// No number of a descriptor.
const NONE: i32 = -1;
/// The first number behind the standard streams.
const FIRST_FREE: RawFd = 3;
const TAKEN_ALREADY: &str = "it was taken already, and a process is a Neck once";

#[cfg(test)]
#[path = "linux_tests.rs"]
mod tests;
