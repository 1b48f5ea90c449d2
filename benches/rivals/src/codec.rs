//! The codec of the bare contenders, which is the one of nape.

use serde::{Serialize, de::DeserializeOwned};

/// Encodes behind what is in a buffer, which is used again: the least that anybody can do.
pub(crate) fn encode_behind(value: &impl Serialize, packet: &mut Vec<u8>) {
    bincode::serde::encode_into_std_write(value, packet, bincode::config::standard())
        .expect("plain values can be encoded");
}

pub(crate) fn decode<T: DeserializeOwned>(packet: &[u8]) -> T {
    bincode::serde::decode_from_slice(packet, bincode::config::standard())
        .expect("it was encoded by `encode_behind`")
        .0
}
