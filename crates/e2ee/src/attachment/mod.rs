//! Attachments: a file becomes a **blob**, sealed in chunks under a key of its own
//! (docs/e2ee-files-invites-vault.md#blob).
//!
//! The chunks form an age v1 payload (STREAM with ChaCha20-Poly1305), with a 32-byte file key, a
//! commitment to that key in front, and Padmé padding inside. [`BlobSealer`] turns plaintext into
//! parts. [`BlobOpener`] turns the parts back into plaintext, which is provisional until
//! [`BlobOpener::finish`] succeeds. Each holds one part at a time. A [`Descriptor`] inside a
//! message gives the recipient what it needs to fetch and open a blob.

mod descriptor;
mod open;
mod seal;
mod stream_cipher;

#[cfg(test)]
mod age_vectors;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod vectors;

pub use crate::padme::padme;
pub use descriptor::{Descriptor, DescriptorError};
pub use open::{BlobOpener, OpenError, OpenedPart, Verified};
pub use seal::{BlobSealer, BlobTail, SealError, SealStep, SealedPart};
// Public for `benches/stream.rs`, which measures single chunks.
#[doc(hidden)]
pub use stream_cipher::{ChunkPosition, DecryptError, PayloadCipher};

use crate::primitive::{label, random_array};
use hkdf::Hkdf;
use rand_core::CryptoRng;
use sealpost_proto::limits::{
    BLOB_BYTES_MAX, BLOB_HEAD_BYTES, CHUNK_BYTES, FILE_BYTES_MAX, PART_BYTES,
};
use sealpost_proto::secret;
use sha2::{Digest as _, Sha256};
use stream_cipher::TAG_BYTES;
use zeroize::Zeroizing;

/// Plaintexts are padded to at least this size.
pub const PADDED_BYTES_MIN: u64 = 4_096;

/// Size of a full sealed chunk: ciphertext and tag.
const SEALED_CHUNK_BYTES: usize = CHUNK_BYTES + TAG_BYTES;
const SALT_BYTES: usize = 16;

secret! {
    /// Key of one blob (`FK`): 32 random bytes, never used for a second blob.
    pub struct FileKey([u8; 32]);
}

impl FileKey {
    /// Generates a new key.
    #[must_use]
    pub fn generate(rng: &mut (impl CryptoRng + ?Sized)) -> Self {
        Self::from_bytes(random_array(rng))
    }
}

/// Salt of one blob: 16 random bytes, public, at the start of the blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlobSalt([u8; SALT_BYTES]);

impl BlobSalt {
    /// Generates a new salt.
    #[must_use]
    pub fn generate(rng: &mut (impl CryptoRng + ?Sized)) -> Self {
        Self(random_array(rng))
    }

    /// Wraps 16 raw bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; SALT_BYTES]) -> Self {
        Self(bytes)
    }
}

/// Description of a sealed blob, against which an opener checks it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sealed {
    /// Size of the whole blob, including the head.
    pub ct_len: u64,
    /// SHA-256 over the concatenated SHA-256 of the parts.
    pub ct_hash: [u8; 32],
    /// Size of the file, without padding.
    pub pt_len: u64,
}

impl Sealed {
    /// Whether both lengths are within their limits and `ct_len` follows from `pt_len`.
    fn has_valid_lengths(&self) -> bool {
        let within = self.pt_len <= FILE_BYTES_MAX && self.ct_len <= BLOB_BYTES_MAX;
        within && self.ct_len == blob_len(self.pt_len)
    }
}

/// Returns the padded size of a file: `padme(max(pt_len, 4096))`.
#[must_use]
pub const fn padded_len(pt_len: u64) -> u64 {
    padme(if pt_len > PADDED_BYTES_MIN {
        pt_len
    } else {
        PADDED_BYTES_MIN
    })
}

/// Returns the size of the blob of a file: head, padded plaintext, and one tag per chunk.
#[must_use]
pub const fn blob_len(pt_len: u64) -> u64 {
    let padded = padded_len(pt_len);
    BLOB_HEAD_BYTES as u64 + padded + padded.div_ceil(CHUNK_BYTES as u64) * TAG_BYTES as u64
}

/// Returns the number of parts of a blob of `ct_len` bytes.
#[must_use]
pub const fn part_count(ct_len: u64) -> u64 {
    ct_len
        .saturating_sub(BLOB_HEAD_BYTES as u64)
        .div_ceil(PART_BYTES as u64)
}

/// What derives from `FK` and the salt: the chunk cipher and the commitment in the head.
struct BlobKeys {
    cipher: PayloadCipher,
    commitment: [u8; 32],
}

impl BlobKeys {
    fn derive(file_key: &FileKey, salt: &BlobSalt) -> Self {
        let kdf = Hkdf::<Sha256>::new(Some(&salt.0), file_key.expose());
        let commitment = *expand_key(&kdf, label!("commit"));
        Self {
            cipher: PayloadCipher::new(&expand_key(&kdf, b"payload")),
            commitment,
        }
    }
}

#[expect(clippy::expect_used, reason = "HKDF-SHA256 gives up to 8,160 bytes")]
fn expand_key(kdf: &Hkdf<Sha256>, info: &[u8]) -> Zeroizing<[u8; 32]> {
    let mut key = Zeroizing::new([0; 32]);
    kdf.expand(info, key.as_mut_slice())
        .expect("32 bytes are within HKDF's range");
    key
}

fn finish_sha256(hash: Sha256) -> [u8; 32] {
    hash.finalize().into()
}
