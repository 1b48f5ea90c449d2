//! What only the operating system can do, one safe function for each thing.
//!
//! Knows no link, no transport and no process of ours: only descriptors, numbers and time. Everything else uses
//! what this module gives out, which is the same on every system:
//!
//! - `poll`, `socket`, `room` and `give_way` are for all of them. A descriptor on Windows is a socket.
//! - `unix` is what Linux and macOS share. Below it is `linux`, for the calls that only Linux has, or `posix`, which
//!   makes the same out of what every Unix has: for macOS, and for Linux where it is built with `--cfg nape_portable`,
//!   so that the tests can run it.
//! - `futex` and `memory` are for shared memory, which is for Linux only, and so is `knock`.
//! - `windows` is for Windows, with `nudge` and `pump`, which know nothing of it, so that the tests can run them on
//!   Linux. `threads` is for it and for `posix`.

mod attend;
mod file_id;
#[cfg(target_os = "linux")]
mod futex;
mod give_way;
#[cfg(target_os = "linux")]
mod knock;
#[cfg(all(target_os = "linux", not(nape_portable)))]
mod linux;
#[cfg(target_os = "linux")]
mod memory;
#[cfg(any(windows, test))]
mod nudge;
mod poll;
#[cfg(all(unix, any(not(target_os = "linux"), nape_portable)))]
mod posix;
#[cfg(any(windows, test))]
mod pump;
mod room;
#[cfg(unix)]
mod secret;
mod socket;
#[cfg(any(not(target_os = "linux"), nape_portable, test))]
mod threads;
#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

#[cfg(all(target_os = "linux", not(nape_portable)))]
use linux as imp;
#[cfg(all(unix, any(not(target_os = "linux"), nape_portable)))]
use posix as imp;
#[cfg(unix)]
use unix as common;
#[cfg(windows)]
use windows as imp;
#[cfg(windows)]
use windows as common;

#[cfg(not(any(target_os = "linux", target_os = "macos", windows)))]
compile_error!("nape runs on Linux, and compiles for macOS and Windows");

/// Descriptors: those of the system, and sockets on Windows.
pub(crate) mod fd {
    pub(crate) use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
}

pub(crate) use attend::Attendant;
pub(crate) use common::{
    HandDown, OUTPUT_LAG, Origin, StreamKind, exit_now, ignore_signals, lead_group, output, pass_on,
    read_more, read_some, set_nonblocking, stream_kind, write_some,
};
pub(crate) use file_id::FileId;
#[cfg(target_os = "linux")]
pub(crate) use futex::{Unchanged, current_core, sleep_on, wake};
pub(crate) use give_way::{give_way, let_others_run};
pub(crate) use imp::{
    ProcessWatch, Wakeup, accept, join_until, make_room_in_pipe, random_token, stream_pair, thread_id,
    thread_name,
};
#[cfg(target_os = "linux")]
pub(crate) use knock::knock;
#[cfg(target_os = "linux")]
pub(crate) use memory::{Mapping, check_sealed, sealed_memory};
pub(crate) use poll::{is_readable, wait_for_any, wait_readable, wait_readable_until, wait_writable_until};
pub(crate) use room::{make_exact_room_for, make_room_for};
#[cfg(all(unix, feature = "encryption"))]
pub(crate) use secret::{read_secret, write_secret};
pub(crate) use socket::{make_room, receive_some, send_at_once, send_some, stop_receiving, stop_sending};
#[cfg(all(unix, test))]
pub(crate) use {poll::can_take, unix::ignore_children};
// What only a Unix has.
#[cfg(unix)]
pub(crate) use {
    imp::{peer_ids, pipe},
    poll::has_hung_up,
    secret::open_secret,
    unix::{
        Standing, check_directory, connect_unix, identity, knock_at, listen_unix, lock_directory, parent_id,
        take_inherited, user_id,
    },
};

#[cfg(test)]
mod tests;
