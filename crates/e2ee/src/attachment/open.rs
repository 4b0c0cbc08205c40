//! Opening: parts go in, in order, and provisional plaintext comes out. The last step confirms that
//! the plaintext is the sealed file.

use super::stream_cipher::{ChunkPosition, PayloadCipher, TAG_BYTES};
use super::{
    BlobKeys, BlobSalt, CHUNK_BYTES, FileKey, SALT_BYTES, SEALED_CHUNK_BYTES, Sealed, finish_sha256,
};
use sealpost_proto::limits::{BLOB_HEAD_BYTES, CHUNKS_PER_PART, PART_BYTES};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

/// Error when a blob is not the one that its descriptor names. The caller must discard all
/// plaintext of it.
///
/// Every cause gives the same error, so that nobody learns which check failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the file does not open: it is damaged or not the one that was sent")]
pub struct OpenError(FailedCheck);

#[cfg(test)]
impl OpenError {
    pub(super) fn failed_check(self) -> FailedCheck {
        self.0
    }
}

/// The check that failed. For tests only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FailedCheck {
    /// A length exceeds its limit, or the lengths do not match.
    Lengths,
    /// A part has the wrong length, or there are too many parts.
    PartLength,
    /// The head does not commit to this file key.
    Commitment,
    /// A chunk was altered or moved, or has the wrong last-chunk flag.
    Chunk,
    /// The padding is not zero.
    Padding,
    /// Parts are missing at the end.
    Truncated,
    /// The hash of the parts differs.
    Hash,
    /// An earlier part did not open.
    AlreadyFailed,
}

/// Proof that every check passed: the plaintext is the file that was sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub struct Verified(());

/// Plaintext of one part: an iterator over non-empty slices of up to 64 KiB.
///
/// The plaintext is *provisional* until [`BlobOpener::finish`] succeeds: store it where nobody
/// reads it.
#[derive(Debug, Clone)]
#[must_use]
pub struct OpenedPart<'p> {
    /// Opened chunks, each followed by its tag.
    chunks: &'p [u8],
    left: usize,
}

impl OpenedPart<'_> {
    /// Returns the number of plaintext bytes not yet returned.
    #[must_use]
    pub const fn pt_bytes(&self) -> usize {
        self.left
    }
}

impl<'p> Iterator for OpenedPart<'p> {
    type Item = &'p [u8];

    fn next(&mut self) -> Option<&'p [u8]> {
        if self.left == 0 {
            return None;
        }
        let piece = &self.chunks[..self.left.min(CHUNK_BYTES)];
        self.chunks = self.chunks.get(SEALED_CHUNK_BYTES..).unwrap_or_default();
        self.left -= piece.len();
        Some(piece)
    }
}

/// Opens one blob, part by part.
///
/// The plaintext of a part is *provisional*: store it where nobody reads it until
/// [`BlobOpener::finish`] returns [`Verified`]. After a part fails to open, a clone made before it
/// can retry with other bytes.
#[derive(Clone)]
pub struct BlobOpener {
    file_key: FileKey,
    sealed: Sealed,
    cipher: Option<PayloadCipher>,
    ct_left: u64,
    pt_left: u64,
    chunks: u64,
    hashes: Option<Hashes>,
    has_failed: bool,
}

/// Hash over the digests of the opened parts, and hash of the current part.
#[derive(Clone, Default)]
struct Hashes {
    blob: Sha256,
    part: Sha256,
}

impl BlobOpener {
    /// Starts opening the blob that `sealed` describes.
    ///
    /// # Errors
    /// [`OpenError`] if a length exceeds its limit, or `ct_len` does not follow from `pt_len`.
    pub fn new(file_key: &FileKey, sealed: &Sealed) -> Result<Self, OpenError> {
        if !sealed.has_valid_lengths() {
            return Err(OpenError(FailedCheck::Lengths));
        }
        Ok(Self {
            file_key: file_key.clone(),
            sealed: *sealed,
            cipher: None,
            ct_left: sealed.ct_len,
            pt_left: sealed.pt_len,
            chunks: 0,
            hashes: Some(Hashes::default()),
            has_failed: false,
        })
    }

    /// Starts opening a blob that was verified before and has since been stored where nobody else
    /// writes. All checks except the hash are repeated.
    ///
    /// # Errors
    /// [`OpenError`] as from [`BlobOpener::new`].
    pub fn for_verified(file_key: &FileKey, sealed: &Sealed) -> Result<Self, OpenError> {
        Ok(Self {
            hashes: None,
            ..Self::new(file_key, sealed)?
        })
    }

    /// Returns the size of the next part, or of the rest of the current part; 0 at the end.
    #[must_use]
    pub fn next_part_bytes(&self) -> usize {
        let opened = self.chunks_opened_in_part() * SEALED_CHUNK_BYTES;
        self.bytes_due(PART_BYTES - opened)
    }

    /// Returns the size of the next chunk, which includes the head for the first; 0 at the end.
    #[must_use]
    pub fn next_chunk_bytes(&self) -> usize {
        self.bytes_due(SEALED_CHUNK_BYTES)
    }

    /// Opens the next part in place. The [`OpenedPart`] returns its plaintext without padding.
    ///
    /// # Errors
    /// [`OpenError`] if this is not the next part of the blob. The opener then refuses further
    /// input, and the content of `part` is undefined.
    pub fn open_part<'p>(&mut self, part: &'p mut [u8]) -> Result<OpenedPart<'p>, OpenError> {
        self.run_unless_failed(move |opener| {
            if part.is_empty() || part.len() != opener.next_part_bytes() {
                return Err(FailedCheck::PartLength);
            }
            let (from, mut left, mut rest) = (opener.head_bytes(), 0, &mut *part);
            while !rest.is_empty() {
                let (chunk, after) = rest.split_at_mut(opener.next_chunk_bytes());
                left += opener.open_next(chunk)?.len();
                rest = after;
            }
            Ok(OpenedPart {
                chunks: &part[from..],
                left,
            })
        })
    }

    /// Opens the next chunk in place and returns its plaintext without padding, so that the caller
    /// need not hold a whole part. The first chunk includes the head. The plaintext is
    /// *provisional*, as in an [`OpenedPart`].
    ///
    /// # Errors
    /// [`OpenError`] if this is not the next chunk of the blob. The opener then refuses further
    /// input, and the content of `chunk` is undefined.
    pub fn open_chunk<'c>(&mut self, chunk: &'c mut [u8]) -> Result<&'c [u8], OpenError> {
        self.run_unless_failed(|opener| opener.open_next(chunk))
    }

    /// Ends the blob: checks that all parts were opened and that their hash is the expected one.
    ///
    /// # Errors
    /// [`OpenError`] if a part is missing or did not open, or the hash differs.
    pub fn finish(self) -> Result<Verified, OpenError> {
        let is_described = self.hashes.is_none_or(|hashes| {
            finish_sha256(hashes.blob)
                .ct_eq(&self.sealed.ct_hash)
                .into()
        });
        if self.has_failed {
            Err(OpenError(FailedCheck::AlreadyFailed))
        } else if self.ct_left > 0 {
            Err(OpenError(FailedCheck::Truncated))
        } else if !is_described {
            Err(OpenError(FailedCheck::Hash))
        } else {
            Ok(Verified(()))
        }
    }

    fn run_unless_failed<T>(
        &mut self,
        open: impl FnOnce(&mut Self) -> Result<T, FailedCheck>,
    ) -> Result<T, OpenError> {
        if self.has_failed {
            return Err(OpenError(FailedCheck::AlreadyFailed));
        }
        let opened = open(self);
        self.has_failed = opened.is_err();
        opened.map_err(OpenError)
    }

    const fn head_bytes(&self) -> usize {
        if self.cipher.is_none() {
            BLOB_HEAD_BYTES
        } else {
            0
        }
    }

    fn bytes_due(&self, without_head: usize) -> usize {
        let bytes = without_head + self.head_bytes();
        usize::try_from(self.ct_left).map_or(bytes, |left| left.min(bytes))
    }

    /// Returns how many chunks of the current part are open.
    fn chunks_opened_in_part(&self) -> usize {
        usize::try_from(self.chunks % CHUNKS_PER_PART as u64).unwrap_or_default()
    }

    fn open_next<'c>(&mut self, chunk: &'c mut [u8]) -> Result<&'c [u8], FailedCheck> {
        if chunk.is_empty() || chunk.len() != self.next_chunk_bytes() {
            return Err(FailedCheck::PartLength);
        }
        self.ct_left -= chunk.len() as u64;
        // Hashed just before it is opened, so that the cipher finds the chunk in the CPU cache.
        if let Some(hashes) = &mut self.hashes {
            hashes.part.update(&*chunk);
        }
        let (cipher, chunk) = match self.cipher.take() {
            Some(cipher) => (cipher, chunk),
            None => self.open_head(chunk)?,
        };
        let opened = self.open_sealed(&cipher, chunk)?;
        self.cipher = Some(cipher);
        if (self.chunks_opened_in_part() == 0 || self.ct_left == 0)
            && let Some(hashes) = &mut self.hashes
        {
            hashes
                .blob
                .update(finish_sha256(std::mem::take(&mut hashes.part)));
        }
        Ok(opened)
    }

    /// Parses the salt and checks that the head commits to the file key.
    fn open_head<'c>(
        &self,
        first: &'c mut [u8],
    ) -> Result<(PayloadCipher, &'c mut [u8]), FailedCheck> {
        let (head, chunk) = first
            .split_first_chunk_mut::<BLOB_HEAD_BYTES>()
            .ok_or(FailedCheck::PartLength)?;
        let (salt, commitment) = head
            .split_first_chunk::<SALT_BYTES>()
            .ok_or(FailedCheck::PartLength)?;
        let keys = BlobKeys::derive(&self.file_key, &BlobSalt(*salt));
        if !bool::from(keys.commitment.ct_eq(commitment)) {
            return Err(FailedCheck::Commitment);
        }
        Ok((keys.cipher, chunk))
    }

    /// Opens one chunk in place, checks its padding and returns its plaintext.
    fn open_sealed<'c>(
        &mut self,
        cipher: &PayloadCipher,
        chunk: &'c mut [u8],
    ) -> Result<&'c [u8], FailedCheck> {
        let (text, tag) = chunk
            .split_last_chunk_mut::<TAG_BYTES>()
            .ok_or(FailedCheck::PartLength)?;
        let position = if self.ct_left == 0 {
            ChunkPosition::Last
        } else {
            ChunkPosition::Inner
        };
        cipher
            .open(self.chunks, position, text, *tag)
            .map_err(|_| FailedCheck::Chunk)?;
        self.chunks += 1;
        let file_bytes = usize::try_from(self.pt_left)
            .unwrap_or(usize::MAX)
            .min(text.len());
        self.pt_left -= file_bytes as u64;
        let (file, padding) = text.split_at(file_bytes);
        if padding.iter().any(|byte| *byte != 0) {
            return Err(FailedCheck::Padding);
        }
        Ok(file)
    }
}
