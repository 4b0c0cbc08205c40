//! Sealing: plaintext goes in, in pieces of any size, and parts come out.

use super::stream_cipher::{ChunkPosition, PayloadCipher};
use super::{BlobKeys, BlobSalt, CHUNK_BYTES, FileKey, Sealed, finish_sha256, padded_len};
use sealpost_proto::limits::{CHUNKS_PER_PART, FILE_BYTES_MAX, PART_BYTES_MAX};
use sha2::{Digest as _, Sha256};

/// Error when a file cannot be sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// The file exceeds its limit. The last piece was not consumed.
    #[error("file too large: over {limit_bytes} bytes")]
    TooLarge {
        /// [`FILE_BYTES_MAX`].
        limit_bytes: u64,
    },
}

/// One sealed part, valid until the next call of the sealer.
#[derive(Debug)]
pub struct SealedPart<'a> {
    /// Index of the part, from 0.
    pub index: u32,
    /// Sealed bytes: 32 chunks, or fewer in the last part. Part 0 starts with the head. The caller
    /// may move the buffer out.
    pub bytes: &'a mut Vec<u8>,
    /// SHA-256 of the bytes.
    pub sha256: [u8; 32],
}

/// Result of [`BlobTail::step`].
#[derive(Debug)]
pub enum SealStep<'a> {
    /// The next part.
    Part(SealedPart<'a>),
    /// All parts were returned; the description of the blob.
    Done(Sealed),
}

/// Seals one file and holds one part at a time. The length need not be known in advance.
///
/// A full chunk is sealed only when more plaintext follows or the file ends, because its nonce
/// depends on whether it is the last.
pub struct BlobSealer {
    cipher: PayloadCipher,
    /// The current part: sealed chunks, then the plaintext of the open chunk.
    pub(super) part: Vec<u8>,
    open_chunk_start: usize,
    is_part_emitted: bool,
    chunks: u64,
    parts: u32,
    part_hash: Sha256,
    blob_hash: Sha256,
    pt_len: u64,
    ct_len: u64,
}

impl BlobSealer {
    /// Starts a blob. `file_key` and `salt` must be fresh: a second file under both would reuse
    /// nonces.
    #[must_use]
    pub fn new(file_key: &FileKey, salt: &BlobSalt) -> Self {
        let keys = BlobKeys::derive(file_key, salt);
        let mut sealer = Self {
            cipher: keys.cipher,
            part: Vec::with_capacity(PART_BYTES_MAX),
            open_chunk_start: 0,
            is_part_emitted: false,
            chunks: 0,
            parts: 0,
            part_hash: Sha256::new(),
            blob_hash: Sha256::new(),
            pt_len: 0,
            ct_len: 0,
        };
        sealer.part.extend_from_slice(&salt.0);
        sealer.part.extend_from_slice(&keys.commitment);
        sealer.part_hash.update(&sealer.part);
        sealer.open_chunk_start = sealer.part.len();
        sealer
    }

    /// Consumes `plaintext` from the front until it is empty (`None`) or a part is complete.
    ///
    /// Call it again with the same slice while it returns a part.
    ///
    /// # Errors
    /// [`SealError::TooLarge`] if the file exceeds [`FILE_BYTES_MAX`].
    pub fn push(&mut self, plaintext: &mut &[u8]) -> Result<Option<SealedPart<'_>>, SealError> {
        if self.pt_len.saturating_add(plaintext.len() as u64) > FILE_BYTES_MAX {
            return Err(SealError::TooLarge {
                limit_bytes: FILE_BYTES_MAX,
            });
        }
        self.start_next_part();
        while !plaintext.is_empty() {
            if self.chunk_bytes_left() == 0 && self.close_chunk(ChunkPosition::Inner) {
                return Ok(Some(self.close_part()));
            }
            let (taken, rest) = plaintext.split_at(plaintext.len().min(self.chunk_bytes_left()));
            self.part.extend_from_slice(taken);
            self.pt_len += taken.len() as u64;
            *plaintext = rest;
        }
        Ok(None)
    }

    /// Ends the plaintext. The [`BlobTail`] returns the padding and the remaining parts.
    #[must_use]
    pub fn finish(self) -> BlobTail {
        let padding_left = padded_len(self.pt_len) - self.pt_len;
        BlobTail {
            sealer: self,
            padding_left,
            is_finished: false,
        }
    }

    fn start_next_part(&mut self) {
        if self.is_part_emitted {
            self.part.clear();
            // The caller may have moved the buffer out.
            self.part.reserve(PART_BYTES_MAX);
            self.open_chunk_start = 0;
            self.is_part_emitted = false;
        }
    }

    /// Returns the number of plaintext bytes that still fit into the open chunk.
    fn chunk_bytes_left(&self) -> usize {
        CHUNK_BYTES - (self.part.len() - self.open_chunk_start)
    }

    /// Seals the open chunk. Returns whether it was the last of its part.
    fn close_chunk(&mut self, position: ChunkPosition) -> bool {
        let tag = self.cipher.seal(
            self.chunks,
            position,
            &mut self.part[self.open_chunk_start..],
        );
        self.part.extend_from_slice(&tag);
        // Hashed at once, while the chunk is still in the CPU cache.
        self.part_hash.update(&self.part[self.open_chunk_start..]);
        self.open_chunk_start = self.part.len();
        self.chunks += 1;
        self.chunks.is_multiple_of(CHUNKS_PER_PART as u64)
    }

    fn close_part(&mut self) -> SealedPart<'_> {
        let sha256 = finish_sha256(std::mem::take(&mut self.part_hash));
        self.blob_hash.update(sha256);
        self.ct_len += self.part.len() as u64;
        self.is_part_emitted = true;
        let index = self.parts;
        self.parts += 1;
        SealedPart {
            index,
            bytes: &mut self.part,
            sha256,
        }
    }
}

/// The end of a blob: its padding and its remaining parts.
pub struct BlobTail {
    sealer: BlobSealer,
    padding_left: u64,
    is_finished: bool,
}

impl BlobTail {
    /// Returns the next remaining part, then the description of the blob.
    pub fn next_step(&mut self) -> SealStep<'_> {
        if self.is_finished {
            return SealStep::Done(self.sealed());
        }
        self.sealer.start_next_part();
        loop {
            self.pad_chunk();
            self.is_finished = self.padding_left == 0;
            let position = if self.is_finished {
                ChunkPosition::Last
            } else {
                ChunkPosition::Inner
            };
            if self.sealer.close_chunk(position) || self.is_finished {
                return SealStep::Part(self.sealer.close_part());
            }
        }
    }

    fn pad_chunk(&mut self) {
        let capacity = self.sealer.chunk_bytes_left();
        let zeros = usize::try_from(self.padding_left).map_or(capacity, |left| left.min(capacity));
        self.sealer.part.resize(self.sealer.part.len() + zeros, 0);
        self.padding_left -= zeros as u64;
    }

    fn sealed(&self) -> Sealed {
        let ct_hash = finish_sha256(self.sealer.blob_hash.clone());
        Sealed {
            ct_len: self.sealer.ct_len,
            ct_hash,
            pt_len: self.sealer.pt_len,
        }
    }
}
