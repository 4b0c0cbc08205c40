//! ChaCha20-Poly1305 (RFC 8439) over one chunk. The only module that names the implementation.
//!
//! The implementation is ring, which takes three fifths of the time of the pure-Rust crate
//! (`docs/decisions/use-ring-for-attachment-chunks.md`). ring does not zeroise its key. The key
//! opens one file, whose plaintext is in the same memory.

use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, Tag, UnboundKey};

/// Size of a tag.
pub(super) const TAG_BYTES: usize = 16;
const NONCE_BYTES: usize = 12;

/// Whether a chunk is the last of its blob. Part of the nonce.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChunkPosition {
    /// Another chunk follows.
    Inner,
    /// The last chunk.
    Last,
}

/// Error when a chunk was not sealed at this position with this key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DecryptError;

/// Cipher of one blob's chunks, initialised with the payload key (`PK`).
#[derive(Clone)]
pub struct PayloadCipher(LessSafeKey);

impl PayloadCipher {
    /// Initialises the cipher with `PK`.
    #[must_use]
    #[expect(clippy::expect_used, reason = "ring refuses a key only for its length")]
    pub fn new(key: &[u8; 32]) -> Self {
        Self(LessSafeKey::new(
            UnboundKey::new(&CHACHA20_POLY1305, key).expect("32 bytes are a ChaCha20 key"),
        ))
    }

    /// Seals a chunk in place and returns its tag.
    #[must_use]
    pub fn seal(&self, index: u64, position: ChunkPosition, chunk: &mut [u8]) -> [u8; TAG_BYTES] {
        self.seal_with(&build_nonce(index, position), b"", chunk)
    }

    /// Opens a chunk in place. `chunk` excludes the tag.
    ///
    /// # Errors
    /// [`DecryptError`]; the content of `chunk` is then undefined.
    pub fn open(
        &self,
        index: u64,
        position: ChunkPosition,
        chunk: &mut [u8],
        tag: [u8; TAG_BYTES],
    ) -> Result<(), DecryptError> {
        self.open_with(&build_nonce(index, position), b"", chunk, tag)
    }

    #[expect(
        clippy::expect_used,
        reason = "ring refuses a plaintext only over 256 GiB"
    )]
    pub(super) fn seal_with(
        &self,
        nonce: &[u8; NONCE_BYTES],
        associated: &[u8],
        text: &mut [u8],
    ) -> [u8; TAG_BYTES] {
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let sealed = self
            .0
            .seal_in_place_separate_tag(nonce, Aad::from(associated), text);
        let mut tag = [0; TAG_BYTES];
        tag.copy_from_slice(
            sealed
                .expect("a chunk is far below the cipher's limit")
                .as_ref(),
        );
        tag
    }

    pub(super) fn open_with(
        &self,
        nonce: &[u8; NONCE_BYTES],
        associated: &[u8],
        text: &mut [u8],
        tag: [u8; TAG_BYTES],
    ) -> Result<(), DecryptError> {
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let opened = self.0.open_in_place_separate_tag(
            nonce,
            Aad::from(associated),
            Tag::from(tag),
            text,
            0..,
        );
        opened.map(|_| ()).map_err(|_| DecryptError)
    }
}

/// Builds the nonce `u88(index) || last` of an age v1 payload.
fn build_nonce(index: u64, position: ChunkPosition) -> [u8; NONCE_BYTES] {
    let mut bytes = [0; NONCE_BYTES];
    bytes[3..11].copy_from_slice(&index.to_be_bytes());
    bytes[11] = u8::from(position == ChunkPosition::Last);
    bytes
}
