//! Descriptors that are no shared memory of ours. Each is refused before it is mapped.

use std::{
    fs::File,
    io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::{fs::FileExt, net::UnixStream},
    },
};

use rustix::fs::{
    FallocateFlags, MemfdFlags, SealFlags, fallocate, fcntl_add_seals, ftruncate, memfd_create,
};

use crate::{
    os::pipe,
    transport::{
        Received,
        shm::{ShmEnds, ShmParts, mapping::LEN, shm_pair},
    },
    wire::Side,
};

const FIXED: SealFlags = SealFlags::SHRINK.union(SealFlags::GROW).union(SealFlags::SEAL);

fn memory(len: u64, seals: SealFlags) -> OwnedFd {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let memory = memfd_create(c"test", flags).unwrap();
    ftruncate(&memory, len).unwrap();
    fcntl_add_seals(&memory, seals).unwrap();
    memory
}

fn refusal(memory: OwnedFd) -> String {
    let error = ShmParts::from_fd(memory, Side::Neck).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{error}");
    error.to_string()
}

#[test]
fn d_59_what_is_no_memory_is_refused() {
    let file = File::open(std::env::current_exe().unwrap()).unwrap();
    let null = File::options().read(true).write(true).open("/dev/null").unwrap();
    let socket = UnixStream::pair().unwrap().0;
    for other in [file.into(), null.into(), socket.into(), pipe().unwrap().0] {
        assert!(refusal(other).starts_with("the shared memory is refused: it"));
    }
}

#[test]
fn d_60_memory_of_a_wrong_size_is_refused() {
    for len in [0, 1, 4096, LEN as u64 - 1, LEN as u64 + 1, 1 << 40] {
        assert!(refusal(memory(len, FIXED)).ends_with("its size is wrong"), "{len}");
    }
}

#[test]
fn d_60_memory_that_could_shrink_or_grow_is_refused() {
    for missing in [SealFlags::SHRINK, SealFlags::GROW, SealFlags::SEAL, FIXED] {
        assert!(
            refusal(memory(LEN as u64, FIXED - missing)).ends_with("its size is not sealed"),
            "{missing:?}"
        );
    }
}

#[test]
fn d_60_memory_that_cannot_be_written_is_refused() {
    for seal in [SealFlags::WRITE, SealFlags::FUTURE_WRITE] {
        let refused = refusal(memory(LEN as u64, FIXED | seal));
        assert!(refused.ends_with("it is sealed against writing"), "{refused}");
    }
}

#[test]
fn d_60_memory_of_another_layout_is_refused() {
    assert!(refusal(memory(LEN as u64, FIXED)).ends_with("it is laid out differently"));
}

#[test]
fn d_60_memory_that_cannot_be_mapped_for_writing_is_refused() {
    let memory = ShmEnds::new().unwrap().theirs.into_fd();
    let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&memory));
    assert!(ShmParts::from_fd(File::open(path).unwrap().into(), Side::Neck).is_err());
}

/// The peer cannot take the memory away, and what it can do to it does no harm.
#[test]
fn p_39_nobody_can_shrink_the_memory() {
    let ends = ShmEnds::new().unwrap();
    let file = File::from(ends.ours.memory().try_clone_to_owned().unwrap());
    let (mut ours, theirs) = (ends.ours.into_transport().unwrap(), ends.theirs.into_transport().unwrap());
    for len in [0, 4096, 2 * LEN as u64] {
        assert_eq!(file.set_len(len).unwrap_err().kind(), io::ErrorKind::PermissionDenied);
    }
    // Holes can be made, and are filled with zeros.
    let hole = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    fallocate(file.as_fd(), hole, 0, LEN as u64).unwrap();
    ours.sender.send(&[1, 2, 3]).unwrap();
    drop(theirs);
    assert!(ours.receiver.receive(None).is_ok());
}

/// The descriptor is not needed any more once both are there, and all of it is writable.
#[test]
fn what_we_make_ourselves_is_taken() {
    let ends = ShmEnds::new().unwrap();
    let memory = ends.theirs.into_fd();
    File::from(memory.try_clone().unwrap()).write_all_at(&[0; 8], LEN as u64 - 8).unwrap();
    let mut theirs = ShmParts::from_fd(memory, Side::Neck).unwrap();
    let mut ours = ends.ours.into_transport().unwrap();
    theirs.sender.send(b"here").unwrap();
    assert_eq!(ours.receiver.receive(None).unwrap(), Received::Packet(b"here".to_vec()));
    assert!(shm_pair().is_ok());
}
