//! ChaCha20-Poly1305 (RFC 8439) over one chunk, the only place that names the implementation.
//!
//! ring, because it needs three fifths of the pure-Rust crate's time (`docs/decisions/use-ring-for-attachment-chunks.md`). It does
//! not wipe its key when dropped; that key opens one file, whose plaintext is in the same memory.

use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, Tag, UnboundKey};

/// Bytes of a tag.
pub(super) const TAG_BYTES: usize = 16;
const NONCE_BYTES: usize = 12;

/// Whether a chunk is the last of its blob; it is part of the nonce.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChunkPosition {
    /// Another chunk follows.
    Inner,
    /// Nothing follows.
    Last,
}

/// The chunk is not what was sealed at this position under this key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DecryptError;

/// The payload key of one blob (`PK`), ready to seal and open its chunks.
#[derive(Clone)]
pub struct PayloadCipher(LessSafeKey);

impl PayloadCipher {
    /// Takes `PK`.
    #[must_use]
    #[expect(clippy::expect_used, reason = "ring refuses a key only for its length")]
    pub fn new(key: &[u8; 32]) -> Self {
        Self(LessSafeKey::new(
            UnboundKey::new(&CHACHA20_POLY1305, key).expect("32 bytes are a ChaCha20 key"),
        ))
    }

    /// Seals a chunk where it stands and returns its tag.
    #[must_use]
    pub fn seal(&self, index: u64, position: ChunkPosition, chunk: &mut [u8]) -> [u8; TAG_BYTES] {
        self.seal_with(&nonce(index, position), b"", chunk)
    }

    /// Opens a chunk where it stands, without its tag.
    ///
    /// # Errors
    /// [`DecryptError`]; what then stands in `chunk` is of no use.
    pub fn open(
        &self,
        index: u64,
        position: ChunkPosition,
        chunk: &mut [u8],
        tag: [u8; TAG_BYTES],
    ) -> Result<(), DecryptError> {
        self.open_with(&nonce(index, position), b"", chunk, tag)
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

/// `u88(index) || last`, as in the payload of age v1.
fn nonce(index: u64, position: ChunkPosition) -> [u8; NONCE_BYTES] {
    let mut bytes = [0; NONCE_BYTES];
    bytes[3..11].copy_from_slice(&index.to_be_bytes());
    bytes[11] = u8::from(position == ChunkPosition::Last);
    bytes
}
