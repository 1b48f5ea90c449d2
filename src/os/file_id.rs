//! Files, as one process can tell another one which is meant.

/// Which file a descriptor stands for, wherever and under whatever number it is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FileId {
    pub(crate) device: u64,
    pub(crate) inode: u64,
}
