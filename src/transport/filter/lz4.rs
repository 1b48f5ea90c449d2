//! Blocks of LZ4, or nothing where the feature is off.

#[cfg(feature = "compression")]
pub(super) use on::{Table, expand, most};

#[cfg(not(feature = "compression"))]
pub(super) use off::{Table, expand, most};

#[cfg(feature = "compression")]
mod on {
    use lz4_flex::block::{
        CompressTable, DecompressError, compress_into_with_table, decompress_into, get_maximum_output_size,
    };

    /// What was seen before, within one packet; its memory is used again.
    #[derive(Default)]
    pub(in super::super) struct Table(CompressTable);

    impl Table {
        /// Into `out`, which has room for [`most`] bytes. Says how many there are.
        pub(in super::super) fn compress(&mut self, bytes: &[u8], out: &mut [u8]) -> Option<usize> {
            compress_into_with_table(bytes, out, &mut self.0).ok()
        }
    }

    /// The most that so many bytes can become.
    pub(in super::super) fn most(len: usize) -> usize {
        get_maximum_output_size(len)
    }

    /// Fills `out`, no more and no less.
    pub(in super::super) fn expand(block: &[u8], out: &mut [u8]) -> Result<(), &'static str> {
        match decompress_into(block, out) {
            Ok(len) if len == out.len() => Ok(()),
            Ok(_) => Err("it expands to less than it says"),
            Err(DecompressError::OutputTooSmall { .. }) => Err("it expands to more than it says"),
            Err(_) => Err("it does not decompress"),
        }
    }
}

#[cfg(not(feature = "compression"))]
mod off {
    /// Nobody has one.
    #[derive(Default)]
    pub(in super::super) struct Table;

    impl Table {
        pub(in super::super) fn compress(&mut self, _bytes: &[u8], _out: &mut [u8]) -> Option<usize> {
            None
        }
    }

    pub(in super::super) fn most(len: usize) -> usize {
        len
    }

    pub(in super::super) fn expand(_block: &[u8], _out: &mut [u8]) -> Result<(), &'static str> {
        Err("this program cannot decompress")
    }
}
