//! Opening: parts go in, in order, whole or chunk by chunk; plaintext comes out, and at the very end the word that it is
//! what was sealed.

use super::stream_cipher::{ChunkPosition, PayloadCipher, TAG_BYTES};
use super::{
    BlobKeys, BlobSalt, CHUNK_BYTES, FileKey, SALT_BYTES, SEALED_CHUNK_BYTES, Sealed, sha256,
};
use sealpost_proto::limits::{BLOB_HEAD_BYTES, CHUNKS_PER_PART, PART_BYTES};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

/// The blob is not the one its descriptor names. What was yielded of it must be thrown away.
///
/// One error for every cause, so that nothing is learnt from which check failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the file does not open: it is damaged or not the one that was sent")]
pub struct OpenError(FailedCheck);

#[cfg(test)]
impl OpenError {
    pub(super) fn failed_check(self) -> FailedCheck {
        self.0
    }
}

/// Which check failed; for tests only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FailedCheck {
    /// The lengths exceed a limit, or do not belong together.
    Lengths,
    /// A part is longer or shorter than the lengths say, or one too many.
    PartLength,
    /// The head does not commit to this file key.
    Commitment,
    /// A chunk was altered, moved, or has the wrong last-chunk flag.
    Chunk,
    /// The padding is not zero.
    Padding,
    /// Parts are missing at the end.
    Truncated,
    /// The hash over the parts differs.
    Hash,
    /// An earlier part did not open.
    AlreadyFailed,
}

/// Every check held: the plaintext that was yielded is the file that was sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub struct Verified(());

/// The plaintext of one part, piece by piece: an iterator over slices of at most 64 KiB, none empty.
///
/// *Provisional* until [`BlobOpener::finish`]: keep it where nobody reads it.
#[derive(Debug, Clone)]
#[must_use]
pub struct OpenedPart<'p> {
    /// Opened chunks, each with its tag still behind it.
    chunks: &'p [u8],
    left: usize,
}

impl OpenedPart<'_> {
    /// Bytes of plaintext that are still to come.
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
/// The plaintext of a part is *provisional*: keep it where nobody reads it until [`BlobOpener::finish`] returns
/// [`Verified`]. A clone that was made before a part did not open can be given other bytes for it.
#[derive(Clone)]
pub struct BlobOpener {
    file_key: FileKey,
    sealed: Sealed,
    cipher: Option<PayloadCipher>,
    ct_left: u64,
    pt_left: u64,
    chunks: u64,
    hashes: Option<Hashes>,
    failed: bool,
}

/// Over the digests of the parts that are open, and over the part that is being opened.
#[derive(Clone, Default)]
struct Hashes {
    blob: Sha256,
    part: Sha256,
}

impl BlobOpener {
    /// Begins to open the blob that `sealed` describes.
    ///
    /// # Errors
    /// [`OpenError`] when a length is over its limit, or the blob's is not the one that the file's gives.
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
            failed: false,
        })
    }

    /// Begins to open a blob that an opener has verified before, and that has stood since where nobody else writes. Every
    /// other check is made again, but its bytes are not hashed a second time.
    ///
    /// # Errors
    /// [`OpenError`] as [`BlobOpener::new`].
    pub fn for_verified(file_key: &FileKey, sealed: &Sealed) -> Result<Self, OpenError> {
        Ok(Self {
            hashes: None,
            ..Self::new(file_key, sealed)?
        })
    }

    /// Bytes of the part that comes next, or of what is left of it; 0 when none does.
    #[must_use]
    pub fn next_part_bytes(&self) -> usize {
        let opened = self.chunks_opened_in_part() * SEALED_CHUNK_BYTES;
        self.bytes_due(PART_BYTES - opened)
    }

    /// Bytes of the chunk that comes next, the first with the head before it; 0 when none does.
    #[must_use]
    pub fn next_chunk_bytes(&self) -> usize {
        self.bytes_due(SEALED_CHUNK_BYTES)
    }

    /// Opens the next part where it stands. What remains of it as plaintext is in the [`OpenedPart`]; padding is left
    /// out.
    ///
    /// # Errors
    /// [`OpenError`] when the part is not the next of this blob. The opener is then failed, and `part` holds nothing of
    /// use.
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

    /// Opens the next chunk where it stands, so that nobody has to hold a whole part; the first comes with the head.
    /// Returns what of it is file, which is as *provisional* as an [`OpenedPart`].
    ///
    /// # Errors
    /// [`OpenError`] when the chunk is not the next of this blob. The opener is then failed, and `chunk` holds nothing of
    /// use.
    pub fn open_chunk<'c>(&mut self, chunk: &'c mut [u8]) -> Result<&'c [u8], OpenError> {
        self.run_unless_failed(|opener| opener.open_next(chunk))
    }

    /// Ends the blob: all parts have come, and their hash is the one that was announced.
    ///
    /// # Errors
    /// [`OpenError`] when a part is missing or did not open, or the hash differs.
    pub fn finish(self) -> Result<Verified, OpenError> {
        let is_described = self
            .hashes
            .is_none_or(|hashes| sha256(hashes.blob).ct_eq(&self.sealed.ct_hash).into());
        if self.failed {
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
        if self.failed {
            return Err(OpenError(FailedCheck::AlreadyFailed));
        }
        let opened = open(self);
        self.failed = opened.is_err();
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

    /// Chunks of the part that are open.
    fn chunks_opened_in_part(&self) -> usize {
        usize::try_from(self.chunks % CHUNKS_PER_PART as u64).unwrap_or_default()
    }

    fn open_next<'c>(&mut self, chunk: &'c mut [u8]) -> Result<&'c [u8], FailedCheck> {
        if chunk.is_empty() || chunk.len() != self.next_chunk_bytes() {
            return Err(FailedCheck::PartLength);
        }
        self.ct_left -= chunk.len() as u64;
        // Hashed just before it is opened, so that the second reading finds it in the processor's cache.
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
            hashes.blob.update(sha256(std::mem::take(&mut hashes.part)));
        }
        Ok(opened)
    }

    /// Reads salt and commitment, and checks that the head commits to the file key.
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

    /// Opens one chunk where it stands and returns what of it is file; the rest is padding.
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
        let kept = usize::try_from(self.pt_left)
            .unwrap_or(usize::MAX)
            .min(text.len());
        self.pt_left -= kept as u64;
        let (file, padding) = text.split_at(kept);
        if padding.iter().any(|byte| *byte != 0) {
            return Err(FailedCheck::Padding);
        }
        Ok(file)
    }
}
