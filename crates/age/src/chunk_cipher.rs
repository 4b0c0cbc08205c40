//! STREAM: the payload's chunks, each with its number and with whether it is the last in the nonce.
//!
//! `chacha20poly1305` encrypts the chunks, not ring as in `sealpost-e2ee`: it zeroises the key, and
//! it is still several times faster than the disk that a backup is written to.

use crate::primitive::{Cipher, TAG_BYTES};

/// Plaintext of every chunk but the last.
pub(crate) const CHUNK_BYTES: usize = 64 * 1024;
/// Size of a full chunk with its tag.
pub(crate) const SEALED_CHUNK_BYTES: usize = CHUNK_BYTES + TAG_BYTES;

/// Whether a chunk is the last of its payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ChunkPosition {
    Inner,
    Last,
}

/// Cipher of one payload's chunks, in order.
pub(crate) struct ChunkCipher {
    cipher: Cipher,
    next_index: u64,
}

impl ChunkCipher {
    pub(crate) fn new(key: &[u8; 32]) -> Self {
        Self {
            cipher: Cipher::new(key),
            next_index: 0,
        }
    }

    /// Whether no chunk was sealed or opened yet.
    pub(crate) const fn is_at_start(&self) -> bool {
        self.next_index == 0
    }

    /// Seals the next chunk in place and returns its tag.
    pub(crate) fn seal_next(
        &mut self,
        position: ChunkPosition,
        text: &mut [u8],
    ) -> [u8; TAG_BYTES] {
        let tag = self.cipher.seal(self.next_nonce(position), text);
        self.next_index += 1;
        tag
    }

    /// Opens the next chunk in place. If it is not the next chunk or has another position, `text`
    /// is left as it was, the chunk remains the next one, and the result is false.
    #[must_use]
    pub(crate) fn open_next(
        &mut self,
        position: ChunkPosition,
        text: &mut [u8],
        tag: [u8; TAG_BYTES],
    ) -> bool {
        let is_valid = self.cipher.open(self.next_nonce(position), text, tag);
        self.next_index += u64::from(is_valid);
        is_valid
    }

    /// Builds the nonce: the index in 11 bytes, then 1 for the last chunk.
    fn next_nonce(&self, position: ChunkPosition) -> [u8; 12] {
        let mut nonce = [0; 12];
        nonce[3..11].copy_from_slice(&self.next_index.to_be_bytes());
        nonce[11] = u8::from(position == ChunkPosition::Last);
        nonce
    }
}
