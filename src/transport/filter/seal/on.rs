//! The handshake and the seals.

use std::{fmt, io};

use chacha20poly1305::{AeadInOut, ChaCha20Poly1305, KeyInit};
use hkdf::Hkdf;
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::{
    config::{Config, Key},
    os,
    wire::{ProtocolError, Side},
};

/// What one side needs to show that it has the key, and to judge whether the other has it.
#[derive(Debug)]
pub(in super::super) struct Handshake {
    key: Key,
    side: Side,
    salt: Salt,
}

impl Handshake {
    /// # Errors
    ///
    /// When the system has no random bytes.
    pub(in super::super) fn new(config: &Config, side: Side) -> io::Result<Option<Handshake>> {
        let Some(key) = config.key().cloned() else { return Ok(None) };
        let mut salt = [0; SALT];
        for half in salt.chunks_exact_mut(SALT / 2) {
            half.copy_from_slice(&os::random_token()?);
        }
        Ok(Some(Handshake { key, side, salt }))
    }

    /// Appends salt and proof to the body of a hello, which begins at `start`.
    pub(in super::super) fn write(&self, start: usize, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.salt);
        let proof = self.proof(&out[start..]);
        out.extend_from_slice(&proof);
    }

    /// Takes the hello of the other side, whose fields are in order, and what stands `behind` them.
    pub(in super::super) fn judge(&self, body: &[u8], behind: &[u8]) -> Result<SessionKeys, ProtocolError> {
        let cut_off = ProtocolError::BadHello("its salt or its proof is cut off");
        let (salt, rest) = behind.split_first_chunk::<SALT>().ok_or(cut_off.clone())?;
        let (proof, later) = rest.split_first_chunk::<PROOF>().ok_or(cut_off)?;
        let proven = &body[..body.len() - later.len() - PROOF];
        let difference = self.proof(proven).iter().zip(proof).fold(0, |sum, (a, b)| sum | (a ^ b));
        // In a time that does not depend on where the first difference is.
        if std::hint::black_box(difference) != 0 {
            return Err(ProtocolError::WrongKey);
        }
        Ok(self.session_keys(salt))
    }

    fn proof(&self, hello: &[u8]) -> [u8; PROOF] {
        let mut proof = [0; PROOF];
        let from_key = Hkdf::<Sha256>::new(None, self.key.bytes());
        from_key.expand_multi_info(&[b"nape 1 hello", hello], &mut proof).expect(SHORT);
        proof
    }

    fn session_keys(&self, theirs: &Salt) -> SessionKeys {
        let (head, neck) = match self.side {
            Side::Head => (&self.salt, theirs),
            Side::Neck => (theirs, &self.salt),
        };
        let secret = Hkdf::<Sha256>::new(Some(&[*head, *neck].concat()), self.key.bytes());
        let from = |info: &[u8]| {
            let mut key = Zeroizing::new([0; Key::LEN]);
            secret.expand(info, &mut *key).expect(SHORT);
            key
        };
        let (of_head, of_neck) = (from(b"nape 1 from the head"), from(b"nape 1 from the neck"));
        match self.side {
            Side::Head => SessionKeys { outward: of_head, inward: of_neck },
            Side::Neck => SessionKeys { outward: of_neck, inward: of_head },
        }
    }

    /// With a salt that is no secret of chance, for bytes that are known beforehand.
    #[cfg(all(test, feature = "compression"))]
    pub(in super::super) fn salted(key: Key, side: Side, salt: Salt) -> Handshake {
        Handshake { key, side, salt }
    }
}

/// The keys of one link.
pub(in super::super) struct SessionKeys {
    outward: Zeroizing<[u8; Key::LEN]>,
    inward: Zeroizing<[u8; Key::LEN]>,
}

impl SessionKeys {
    pub(in super::super) fn outward(&self) -> Seal {
        Seal::new(&self.outward)
    }

    pub(in super::super) fn inward(&self) -> Seal {
        Seal::new(&self.inward)
    }
}

impl fmt::Debug for SessionKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SessionKeys(..)")
    }
}

/// Closes the records of one direction, or opens them.
pub(in super::super) struct Seal {
    cipher: ChaCha20Poly1305,
    /// The number of the next record.
    next: u64,
}

impl Seal {
    /// What it adds to a record.
    pub(in super::super) const LEN: usize = 16;

    fn new(key: &[u8; Key::LEN]) -> Seal {
        Seal { cipher: ChaCha20Poly1305::new(key.into()), next: 0 }
    }

    /// Encrypts a record but for its first `open` bytes, which are authenticated, and appends the proof of it all.
    pub(in super::super) fn close(&mut self, record: &mut Vec<u8>, open: usize) {
        let nonce = self.take_nonce();
        let (open, secret) = record.split_at_mut(open);
        let tag = self.cipher.encrypt_inout_detached(&nonce.into(), open, secret.into());
        record.extend_from_slice(&tag.expect("a record is far shorter than the cipher can take"));
    }

    /// Decrypts what `close` has made, and gives what stands behind the first `open` bytes.
    pub(in super::super) fn open<'a>(
        &mut self,
        record: &'a mut [u8],
        open: usize,
    ) -> Result<&'a [u8], ProtocolError> {
        let number = self.next;
        let nonce = self.take_nonce();
        let broken = ProtocolError::BadSeal(number);
        let (open, rest) = record.split_at_mut_checked(open).ok_or(broken.clone())?;
        let (secret, tag) = rest.split_last_chunk_mut::<{ Seal::LEN }>().ok_or(broken.clone())?;
        let opened =
            self.cipher.decrypt_inout_detached(&nonce.into(), open, (&mut *secret).into(), (&*tag).into());
        opened.map(|()| &*secret).map_err(|_| broken)
    }

    fn take_nonce(&mut self) -> [u8; NONCE] {
        let mut nonce = [0; NONCE];
        nonce[NONCE - 8..].copy_from_slice(&self.next.to_le_bytes());
        // At a record a nanosecond it would take 500 years.
        self.next = self.next.checked_add(1).expect("no link lives that long");
        nonce
    }
}

type Salt = [u8; SALT];

const SALT: usize = 32;
const PROOF: usize = 32;
const NONCE: usize = 12;
const SHORT: &str = "32 bytes are less than it can give";
