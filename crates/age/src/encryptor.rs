//! Encryption: a writer that seals each chunk as soon as the next one begins.

use crate::chunk_cipher::{CHUNK_BYTES, ChunkCipher, ChunkPosition, SEALED_CHUNK_BYTES};
use crate::file_key::{FileKey, PAYLOAD_NONCE_BYTES};
use crate::header::Header;
use crate::passphrase::{Passphrase, ScryptStanza, WorkFactor};
use crate::primitive::random_array;
use crate::stanza::Stanza;
use crate::x25519::{LowOrderPoint, Recipient, X25519Stanza};
use rand_core::CryptoRng;
use sealpost_proto::limits::AGE_RECIPIENTS_MAX;
use std::io::{self, Write};
use zeroize::Zeroizing;

/// Error when a file cannot be encrypted.
#[derive(Debug, thiserror::Error)]
pub enum EncryptError {
    /// Writing failed.
    #[error(transparent)]
    Output(#[from] io::Error),
    /// There is no recipient, so nobody could decrypt the file.
    #[error("the file needs at least one recipient")]
    NoRecipient,
    /// There are more recipients than [`AGE_RECIPIENTS_MAX`].
    #[error("a file can have up to {AGE_RECIPIENTS_MAX} recipients")]
    TooManyRecipients,
    /// A recipient is a point of low order: anyone could decrypt the file.
    #[error("the recipient {0} is not a valid public key")]
    InvalidRecipient(Recipient),
}

/// Writer that encrypts what is written to it.
///
/// The file is complete only after [`Encryptor::finish`]. If the encryptor is dropped before, the
/// file does not decrypt to its end, so a partial file cannot be mistaken for a complete one.
pub struct Encryptor<W: Write> {
    output: W,
    cipher: ChunkCipher,
    /// Plaintext of the current chunk. A full chunk waits here until more is written, because the
    /// last chunk is sealed differently and must not be empty.
    chunk: Zeroizing<Vec<u8>>,
    has_failed: bool,
}

impl<W: Write> Encryptor<W> {
    /// Starts a file that a passphrase decrypts, and writes its header.
    ///
    /// Deriving the key takes as much memory and time as the work factor says.
    ///
    /// # Errors
    /// [`EncryptError`] if writing fails.
    pub fn for_passphrase(
        output: W,
        passphrase: &Passphrase,
        work_factor: WorkFactor,
        rng: &mut (impl CryptoRng + ?Sized),
    ) -> Result<Self, EncryptError> {
        let file_key = FileKey::generate(rng);
        let stanza = ScryptStanza::wrap(&file_key, passphrase, work_factor, rng);
        Self::start(output, &file_key, vec![stanza], rng)
    }

    /// Starts a file that the identity of each recipient decrypts, and writes its header.
    ///
    /// # Errors
    /// [`EncryptError`] if writing fails, a recipient is invalid, or there is none or too many.
    pub fn for_recipients(
        output: W,
        recipients: &[Recipient],
        rng: &mut (impl CryptoRng + ?Sized),
    ) -> Result<Self, EncryptError> {
        if recipients.is_empty() {
            return Err(EncryptError::NoRecipient);
        }
        if recipients.len() > AGE_RECIPIENTS_MAX {
            return Err(EncryptError::TooManyRecipients);
        }
        let file_key = FileKey::generate(rng);
        let stanzas = recipients
            .iter()
            .map(|recipient| {
                X25519Stanza::wrap(&file_key, recipient, rng)
                    .map_err(|LowOrderPoint| EncryptError::InvalidRecipient(*recipient))
            })
            .collect::<Result<_, _>>()?;
        Self::start(output, &file_key, stanzas, rng)
    }

    fn start(
        mut output: W,
        file_key: &FileKey,
        stanzas: Vec<Stanza>,
        rng: &mut (impl CryptoRng + ?Sized),
    ) -> Result<Self, EncryptError> {
        let nonce: [u8; PAYLOAD_NONCE_BYTES] = random_array(rng);
        output.write_all(&Header::new(stanzas, file_key).encode())?;
        output.write_all(&nonce)?;
        Ok(Self::for_payload(output, file_key.payload_cipher(&nonce)))
    }

    /// Starts a payload behind its nonce.
    pub(crate) fn for_payload(output: W, cipher: ChunkCipher) -> Self {
        Self {
            output,
            cipher,
            // The chunk never outgrows this, so no copy of the plaintext is left behind.
            chunk: Zeroizing::new(Vec::with_capacity(SEALED_CHUNK_BYTES)),
            has_failed: false,
        }
    }

    /// Writes the last chunk, flushes the output and returns it.
    ///
    /// # Errors
    /// The error of the output, or an error if an earlier write failed.
    pub fn finish(mut self) -> io::Result<W> {
        self.write_chunk(ChunkPosition::Last)?;
        self.output.flush()?;
        Ok(self.output)
    }

    /// Seals and writes the current chunk.
    fn write_chunk(&mut self, position: ChunkPosition) -> io::Result<()> {
        // After a failed write nobody knows how much of the chunk was written.
        if self.has_failed {
            return Err(io::Error::other("an earlier write of this file failed"));
        }
        let tag = self.cipher.seal_next(position, &mut self.chunk);
        self.chunk.extend_from_slice(&tag);
        self.has_failed = true;
        self.output.write_all(&self.chunk)?;
        self.has_failed = false;
        self.chunk.clear();
        Ok(())
    }
}

impl<W: Write> Write for Encryptor<W> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        if data.is_empty() {
            return Ok(0);
        }
        if self.has_failed || self.chunk.len() == CHUNK_BYTES {
            self.write_chunk(ChunkPosition::Inner)?;
        }
        let len = data.len().min(CHUNK_BYTES - self.chunk.len());
        self.chunk.extend_from_slice(&data[..len]);
        Ok(len)
    }

    /// Flushes the chunks that were written. The current chunk stays in memory until it is full or
    /// [`Encryptor::finish`] is called.
    fn flush(&mut self) -> io::Result<()> {
        self.output.flush()
    }
}
