//! Attachments: a file becomes a **blob**, sealed chunk by chunk under a key of its own (`docs/e2ee-files-invites-vault.md#blob`).
//!
//! The chunks are the payload of age v1 (STREAM with ChaCha20-Poly1305), with a 32-byte file key, a commitment to that
//! key in front, and Padmé padding inside. [`BlobSealer`] takes plaintext in any pieces and yields parts;
//! [`BlobOpener`] takes the parts in order and yields plaintext, which counts for nothing before
//! [`BlobOpener::finish`]. Neither holds more than one part. A [`Descriptor`] is what the recipient needs to fetch and
//! open a blob; it travels inside the ratchet.

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
// Public for `benches/stream.rs`, which measures one chunk.
#[doc(hidden)]
pub use stream_cipher::{ChunkPosition, DecryptError, PayloadCipher};

use crate::primitive::{label, random};
use hkdf::Hkdf;
use rand_core::CryptoRng;
use sealpost_proto::limits::{
    BLOB_BYTES_MAX, BLOB_HEAD_BYTES, CHUNK_BYTES, FILE_BYTES_MAX, PART_BYTES,
};
use sha2::{Digest as _, Sha256};
use stream_cipher::TAG_BYTES;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

/// A plaintext is padded as if it had at least this many bytes.
pub const PADDED_BYTES_MIN: u64 = 4_096;

/// One chunk as it stands in a blob: ciphertext and tag.
const SEALED_CHUNK_BYTES: usize = CHUNK_BYTES + TAG_BYTES;
const SALT_BYTES: usize = 16;

/// The key of one upload (`FK`): 32 random bytes, never used for a second blob.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct FileKey([u8; 32]);

impl FileKey {
    /// Draws a new key.
    #[must_use]
    pub fn generate(rng: &mut (impl CryptoRng + ?Sized)) -> Self {
        Self(random(rng))
    }

    /// Takes 32 raw bytes as they are.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 raw bytes.
    #[must_use]
    pub const fn expose(&self) -> &[u8; 32] {
        &self.0
    }
}

/// The salt of one blob: 16 random bytes, public, the blob's first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlobSalt([u8; SALT_BYTES]);

impl BlobSalt {
    /// Draws a new salt.
    #[must_use]
    pub fn generate(rng: &mut (impl CryptoRng + ?Sized)) -> Self {
        Self(random(rng))
    }

    /// Takes 16 raw bytes as they are.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; SALT_BYTES]) -> Self {
        Self(bytes)
    }
}

/// What is known of a blob once it is sealed, and what an opener holds it to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sealed {
    /// Bytes of the whole blob, head included.
    pub ct_len: u64,
    /// SHA-256 over the concatenated SHA-256 of the parts.
    pub ct_hash: [u8; 32],
    /// Bytes of the file, without padding.
    pub pt_len: u64,
}

impl Sealed {
    /// Both lengths are within their limits, and the blob's is the one that the file's gives.
    fn has_valid_lengths(&self) -> bool {
        let within = self.pt_len <= FILE_BYTES_MAX && self.ct_len <= BLOB_BYTES_MAX;
        within && self.ct_len == blob_len(self.pt_len)
    }
}

/// Bytes of a file of `pt_len` bytes after padding: `padme(max(pt_len, 4096))`.
#[must_use]
pub const fn padded_len(pt_len: u64) -> u64 {
    padme(if pt_len > PADDED_BYTES_MIN {
        pt_len
    } else {
        PADDED_BYTES_MIN
    })
}

/// Bytes of the blob of a file of `pt_len` bytes: head, padded plaintext, and one tag for each chunk.
#[must_use]
pub const fn blob_len(pt_len: u64) -> u64 {
    let padded = padded_len(pt_len);
    BLOB_HEAD_BYTES as u64 + padded + padded.div_ceil(CHUNK_BYTES as u64) * TAG_BYTES as u64
}

/// How many parts a blob of `ct_len` bytes has.
#[must_use]
pub const fn part_count(ct_len: u64) -> u64 {
    ct_len
        .saturating_sub(BLOB_HEAD_BYTES as u64)
        .div_ceil(PART_BYTES as u64)
}

/// What `FK` and the salt give: the cipher of the chunks and the commitment in the head.
struct BlobKeys {
    cipher: PayloadCipher,
    commitment: [u8; 32],
}

impl BlobKeys {
    fn derive(file_key: &FileKey, salt: &BlobSalt) -> Self {
        let kdf = Hkdf::<Sha256>::new(Some(&salt.0), &file_key.0);
        let commitment = *expand(&kdf, label!("commit"));
        Self {
            cipher: PayloadCipher::new(&expand(&kdf, b"payload")),
            commitment,
        }
    }
}

#[expect(clippy::expect_used, reason = "HKDF-SHA256 gives up to 8,160 bytes")]
fn expand(kdf: &Hkdf<Sha256>, info: &[u8]) -> Zeroizing<[u8; 32]> {
    let mut key = Zeroizing::new([0; 32]);
    kdf.expand(info, key.as_mut_slice())
        .expect("32 bytes are within HKDF's range");
    key
}

fn sha256(hash: Sha256) -> [u8; 32] {
    hash.finalize().into()
}
