//! Opening: parts go in, in order; plaintext comes out, and at the very end the word that it is what was sealed.

use super::stream_cipher::{PayloadCipher, Position, TAG_BYTES};
use super::{BlobKeys, BlobSalt, CHUNK_BYTES, FileKey, SALT_BYTES, SEALED_CHUNK_BYTES, Sealed, sha256};
use sealpost_proto::limits::{BLOB_HEAD_BYTES, PART_BYTES};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

/// The blob is not the one its descriptor names. What was yielded of it must be thrown away.
///
/// One error for every cause, so that nothing is learnt from which check failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the file does not open: it is damaged or not the one that was sent")]
pub struct OpenError(Reason);

#[cfg(test)]
impl OpenError {
    pub(super) fn reason(self) -> Reason {
        self.0
    }
}

/// Which check failed; for tests only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reason {
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
    Spent,
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
    blob_hash: Option<Sha256>,
    spent: bool,
}

impl BlobOpener {
    /// Begins to open the blob that `sealed` describes.
    ///
    /// # Errors
    /// [`OpenError`] when a length is over its limit, or the blob's is not the one that the file's gives.
    pub fn new(file_key: &FileKey, sealed: &Sealed) -> Result<Self, OpenError> {
        if !sealed.lengths_agree() {
            return Err(OpenError(Reason::Lengths));
        }
        Ok(Self {
            file_key: file_key.clone(),
            sealed: *sealed,
            cipher: None,
            ct_left: sealed.ct_len,
            pt_left: sealed.pt_len,
            chunks: 0,
            blob_hash: Some(Sha256::new()),
            spent: false,
        })
    }

    /// Begins to open a blob that an opener has verified before, and that has stood since where nobody else writes. Every
    /// other check is made again, but its bytes are not hashed a second time.
    ///
    /// # Errors
    /// [`OpenError`] as [`BlobOpener::new`].
    pub fn of_verified(file_key: &FileKey, sealed: &Sealed) -> Result<Self, OpenError> {
        Ok(Self { blob_hash: None, ..Self::new(file_key, sealed)? })
    }

    /// Bytes of the part that comes next; 0 when none does.
    #[must_use]
    pub fn next_part_bytes(&self) -> usize {
        let head = if self.cipher.is_none() { BLOB_HEAD_BYTES } else { 0 };
        usize::try_from(self.ct_left).map_or(PART_BYTES + head, |left| left.min(PART_BYTES + head))
    }

    /// Opens the next part where it stands. What remains of it as plaintext is in the [`OpenedPart`]; padding is left
    /// out.
    ///
    /// # Errors
    /// [`OpenError`] when the part is not the next of this blob. The opener is then spent, and `part` holds nothing of
    /// use.
    pub fn open_part<'p>(&mut self, part: &'p mut [u8]) -> Result<OpenedPart<'p>, OpenError> {
        if self.spent {
            return Err(OpenError(Reason::Spent));
        }
        self.spent = true;
        let (from, pt_bytes) = self.open_whole_part(part).map_err(OpenError)?;
        self.spent = false;
        Ok(OpenedPart { chunks: &part[from..], left: pt_bytes })
    }

    /// Ends the blob: all parts have come, and their hash is the one that was announced.
    ///
    /// # Errors
    /// [`OpenError`] when a part is missing or did not open, or the hash differs.
    pub fn finish(self) -> Result<Verified, OpenError> {
        let is_described = self.blob_hash.is_none_or(|hash| sha256(hash).ct_eq(&self.sealed.ct_hash).into());
        if self.spent {
            Err(OpenError(Reason::Spent))
        } else if self.ct_left > 0 {
            Err(OpenError(Reason::Truncated))
        } else if !is_described {
            Err(OpenError(Reason::Hash))
        } else {
            Ok(Verified(()))
        }
    }

    /// Returns where the part's first chunk begins, and how many bytes of file are in all of them.
    fn open_whole_part(&mut self, part: &mut [u8]) -> Result<(usize, usize), Reason> {
        if part.is_empty() || part.len() != self.next_part_bytes() {
            return Err(Reason::PartLength);
        }
        self.ct_left -= part.len() as u64;
        let mut part_hash = self.blob_hash.as_ref().map(|_| Sha256::new());
        let (cipher, from) = match self.cipher.take() {
            Some(cipher) => (cipher, 0),
            None => (self.open_head(part, part_hash.as_mut())?, BLOB_HEAD_BYTES),
        };
        let mut pt_bytes = 0;
        let mut chunks = part[from..].chunks_mut(SEALED_CHUNK_BYTES).peekable();
        while let Some(chunk) = chunks.next() {
            // Hashed just before it is opened, so that the second reading finds it in the processor's cache.
            if let Some(hash) = &mut part_hash {
                hash.update(&chunk);
            }
            let last = self.ct_left == 0 && chunks.peek().is_none();
            pt_bytes += self.open_chunk(&cipher, chunk, last)?;
        }
        self.cipher = Some(cipher);
        if let (Some(blob_hash), Some(part_hash)) = (&mut self.blob_hash, part_hash) {
            blob_hash.update(sha256(part_hash));
        }
        Ok((from, pt_bytes))
    }

    /// Reads salt and commitment, and checks that the head commits to the file key.
    fn open_head(&self, part: &[u8], part_hash: Option<&mut Sha256>) -> Result<PayloadCipher, Reason> {
        let (head, _) = part.split_first_chunk::<BLOB_HEAD_BYTES>().ok_or(Reason::PartLength)?;
        if let Some(hash) = part_hash {
            hash.update(head);
        }
        let (salt, commitment) = head.split_first_chunk::<SALT_BYTES>().ok_or(Reason::PartLength)?;
        let keys = BlobKeys::derive(&self.file_key, &BlobSalt(*salt));
        if !bool::from(keys.commitment.ct_eq(commitment)) {
            return Err(Reason::Commitment);
        }
        Ok(keys.cipher)
    }

    /// Opens one chunk where it stands and returns how much of it is file; the rest is padding.
    fn open_chunk(&mut self, cipher: &PayloadCipher, chunk: &mut [u8], last: bool) -> Result<usize, Reason> {
        let (text, tag) = chunk.split_last_chunk_mut::<TAG_BYTES>().ok_or(Reason::PartLength)?;
        let position = if last { Position::Last } else { Position::Inner };
        cipher.open(self.chunks, position, text, *tag).map_err(|_| Reason::Chunk)?;
        self.chunks += 1;
        let kept = usize::try_from(self.pt_left).unwrap_or(usize::MAX).min(text.len());
        self.pt_left -= kept as u64;
        if text[kept..].iter().any(|byte| *byte != 0) {
            return Err(Reason::Padding);
        }
        Ok(kept)
    }
}
