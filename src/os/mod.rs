//! What only the operating system can do, one safe function for each thing.
//!
//! Knows no link, no transport and no process of ours: only descriptors, numbers and time. The one
//! `cfg` for the platform stands here; everything else uses what this module gives out.

mod attend;
#[cfg(target_os = "linux")]
mod futex;
mod give_way;
#[cfg(target_os = "linux")]
mod linux;
#[cfg(target_os = "linux")]
mod memory;
#[cfg(target_os = "linux")]
mod room;
mod secret;

#[cfg(target_os = "linux")]
use linux as imp;

#[cfg(not(target_os = "linux"))]
compile_error!("nape runs on Linux only so far");

pub(crate) use attend::Attendant;
#[cfg(target_os = "linux")]
pub(crate) use futex::{Unchanged, current_core, sleep_on, wake};
pub(crate) use give_way::give_way;
#[cfg(test)]
pub(crate) use imp::ignore_children;
pub(crate) use imp::{
    FileId, HandDown, Standing, StreamKind, Wakeup, accept, can_take, connect_unix, exit_now, exit_of,
    has_hung_up, identity, is_readable, kill_process, knock, knock_at, listen_unix, lock_directory,
    make_room, make_room_in_pipe, open_process, parent_id, peer_ids, pipe, random_token, read_more,
    read_some, receive_some, send_at_once, send_some, set_nonblocking, stop_receiving, stop_sending,
    stream_kind, stream_pair, take_inherited, thread_id, thread_name, user_id, wait_for_any, wait_readable,
    wait_readable_until, wait_writable_until, write_some,
};
#[cfg(target_os = "linux")]
pub(crate) use memory::{Mapping, check_sealed, sealed_memory};
#[cfg(target_os = "linux")]
pub(crate) use room::{make_exact_room_for, make_room_for};
pub(crate) use secret::{read_secret, write_secret};
