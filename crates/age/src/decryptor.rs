//! Decryption: a reader that opens one chunk at a time.

use crate::chunk_cipher::{
    ChunkCipher,
    ChunkPosition::{Inner, Last},
    SEALED_CHUNK_BYTES,
};
use crate::primitive::TAG_BYTES;
use std::io::{self, BufRead as _, BufReader, Read};
use std::ops::Range;
use zeroize::Zeroizing;

/// Error when a file's payload is not what was encrypted.
///
/// A [`Decryptor`] returns it inside of an [`io::Error`] of the kind
/// [`io::ErrorKind::InvalidData`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PayloadError {
    /// A chunk was altered, moved or cut.
    #[error("the file is damaged or incomplete")]
    Damaged,
    /// The last chunk is missing.
    #[error("the file is incomplete: its end is missing")]
    Truncated,
    /// Bytes follow the last chunk.
    #[error("the file is damaged: data follows its end")]
    TrailingData,
    /// The input failed earlier, so the position within the payload is unknown.
    #[error("an earlier read of this file failed")]
    InputFailed,
}

impl From<PayloadError> for io::Error {
    fn from(error: PayloadError) -> Self {
        Self::new(io::ErrorKind::InvalidData, error)
    }
}

/// Reader that decrypts a file.
///
/// It returns only authenticated plaintext, but a file can turn out to be damaged after its first
/// chunks were returned. The plaintext is complete when a read returns no bytes, or when
/// [`Decryptor::finish`] succeeds; until then the caller must be able to discard it.
pub struct Decryptor<R> {
    input: BufReader<R>,
    cipher: ChunkCipher,
    /// Full sealed chunk in length, so that it never moves and leaves no copy of the plaintext.
    chunk: Zeroizing<Vec<u8>>,
    /// Plaintext within `chunk` that was not returned yet.
    unread: Range<usize>,
    next: Next,
}

/// What follows the plaintext of the current chunk.
#[derive(Debug, Clone, Copy)]
enum Next {
    Chunk,
    End,
    Error(PayloadError),
}

impl<R: Read> Decryptor<R> {
    pub(crate) fn new(input: BufReader<R>, cipher: ChunkCipher) -> Self {
        Self {
            input,
            cipher,
            chunk: Zeroizing::new(vec![0; SEALED_CHUNK_BYTES]),
            unread: 0..0,
            next: Next::Chunk,
        }
    }

    /// Verifies the rest of the file and returns the input. Plaintext that was not read is
    /// discarded.
    ///
    /// # Errors
    /// The error of the input, or a [`PayloadError`] inside of an [`io::Error`].
    pub fn finish(mut self) -> io::Result<R> {
        while !matches!(self.next, Next::End) {
            self.load_chunk()?;
        }
        Ok(self.input.into_inner())
    }

    /// Replaces the current chunk with the next one; at the end, with nothing.
    fn load_chunk(&mut self) -> io::Result<()> {
        self.unread = 0..0;
        match self.next {
            Next::Chunk => {}
            Next::End => return Ok(()),
            Next::Error(error) => return Err(error.into()),
        }
        self.next = Next::Error(PayloadError::InputFailed);
        let len = read_until_full(&mut self.input, &mut self.chunk)?;
        let is_end = is_at_end(&mut self.input)?;
        match self.open_chunk(len, is_end) {
            Ok(next) => {
                self.next = next;
                self.unread = 0..len - TAG_BYTES;
                Ok(())
            }
            Err(error) => {
                self.next = Next::Error(error);
                Err(error.into())
            }
        }
    }

    /// Opens the next chunk, of `len` bytes with its tag, and returns what follows its plaintext.
    ///
    /// A chunk with a valid tag at the wrong position tells truncation and appended data from
    /// damage. Its plaintext is authentic and returned before the error, as `age` does.
    fn open_chunk(&mut self, len: usize, is_end: bool) -> Result<Next, PayloadError> {
        let is_first = self.cipher.is_at_start();
        let (text, tag) = self.chunk[..len]
            .split_last_chunk_mut::<TAG_BYTES>()
            .ok_or(PayloadError::Truncated)?;
        let (expected, other, next, problem) = if is_end {
            (Last, Inner, Next::End, PayloadError::Truncated)
        } else {
            (Inner, Last, Next::Chunk, PayloadError::TrailingData)
        };
        if self.cipher.open_next(expected, text, *tag) {
            // Only an empty file may end in an empty chunk.
            let is_allowed = is_first || !text.is_empty();
            return is_allowed.then_some(next).ok_or(PayloadError::Damaged);
        }
        if len == SEALED_CHUNK_BYTES && self.cipher.open_next(other, text, *tag) {
            return Ok(Next::Error(problem));
        }
        Err(PayloadError::Damaged)
    }
}

impl<R: Read> Read for Decryptor<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        if self.unread.is_empty() {
            self.load_chunk()?;
        }
        let len = buffer.len().min(self.unread.len());
        let end = self.unread.start + len;
        buffer[..len].copy_from_slice(&self.chunk[self.unread.start..end]);
        self.unread.start = end;
        Ok(len)
    }
}

/// Reads until the buffer is full or the input ends, and returns the number of bytes.
fn read_until_full(input: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut len = 0;
    while len < buffer.len() {
        match input.read(&mut buffer[len..]) {
            Ok(0) => break,
            Ok(read) => len += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(len)
}

/// Whether the input has no more bytes.
fn is_at_end(input: &mut BufReader<impl Read>) -> io::Result<bool> {
    loop {
        match input.fill_buf() {
            Ok(buffered) => return Ok(buffered.is_empty()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}
