//! A file whose header was read, and what unlocks it.

use crate::chunk_cipher::SEALED_CHUNK_BYTES;
use crate::decryptor::Decryptor;
use crate::file_key::{FileKey, PAYLOAD_NONCE_BYTES};
use crate::header::{Header, KeyStanzas, ReadHeaderError};
use crate::passphrase::{Passphrase, ScryptStanza, WorkFactor};
use crate::x25519::{Identity, LowOrderPoint, X25519Stanza};
use std::io::{self, BufReader, Read};

/// Encrypted file whose header was read but not authenticated.
pub enum EncryptedFile<R> {
    /// The file was encrypted to a passphrase.
    Passphrase(PassphraseFile<R>),
    /// The file was encrypted to recipients.
    Recipients(RecipientsFile<R>),
}

impl<R: Read> EncryptedFile<R> {
    /// Reads the header of a file.
    ///
    /// # Errors
    /// [`ReadHeaderError`] if reading fails, or the file does not start with a header of age v1.
    pub fn read(input: R) -> Result<Self, ReadHeaderError> {
        let mut input = BufReader::with_capacity(SEALED_CHUNK_BYTES, input);
        let header = Header::read(&mut input)?;
        let key_stanzas = header.key_stanzas()?;
        let payload = LockedPayload {
            header,
            nonce: read_nonce(&mut input)?,
            input,
        };
        Ok(match key_stanzas {
            KeyStanzas::Passphrase(stanza) => Self::Passphrase(PassphraseFile { stanza, payload }),
            KeyStanzas::Recipients(stanzas) => {
                Self::Recipients(RecipientsFile { stanzas, payload })
            }
        })
    }
}

fn read_nonce(input: &mut impl Read) -> Result<[u8; PAYLOAD_NONCE_BYTES], ReadHeaderError> {
    let mut nonce = [0; PAYLOAD_NONCE_BYTES];
    match input.read_exact(&mut nonce) {
        Ok(()) => Ok(nonce),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            Err(ReadHeaderError::Incomplete)
        }
        Err(error) => Err(ReadHeaderError::Input(error)),
    }
}

/// Error when a file cannot be unlocked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UnlockError {
    /// The passphrase does not open the file. Damage to the file's only stanza looks the same.
    #[error("the passphrase is wrong")]
    WrongPassphrase,
    /// The file is for other recipients.
    #[error("the file is not encrypted to any of the given identities")]
    NoMatchingIdentity,
    /// A stanza has an ephemeral share of low order, which no age program writes.
    #[error("the file is damaged: a recipient stanza of its header is invalid")]
    InvalidShare,
    /// The header is not the one that was written with this file key.
    #[error("the file is damaged: its header was altered")]
    AlteredHeader,
}

impl From<LowOrderPoint> for UnlockError {
    fn from(_: LowOrderPoint) -> Self {
        Self::InvalidShare
    }
}

/// File that a passphrase unlocks.
pub struct PassphraseFile<R> {
    stanza: ScryptStanza,
    payload: LockedPayload<R>,
}

impl<R: Read> PassphraseFile<R> {
    /// Returns the work factor, which determines how much memory and time unlocking takes.
    #[must_use]
    pub const fn work_factor(&self) -> WorkFactor {
        self.stanza.work_factor()
    }

    /// Unlocks the file.
    ///
    /// # Errors
    /// [`UnlockError`] if the passphrase is wrong or the header was altered.
    pub fn unlock(self, passphrase: &Passphrase) -> Result<Decryptor<R>, UnlockError> {
        let file_key = self.stanza.unwrap(passphrase);
        self.payload
            .unlock(&file_key.ok_or(UnlockError::WrongPassphrase)?)
    }
}

/// File that the identity of one of its recipients unlocks.
pub struct RecipientsFile<R> {
    stanzas: Vec<X25519Stanza>,
    payload: LockedPayload<R>,
}

impl<R: Read> RecipientsFile<R> {
    /// Unlocks the file with the first identity that matches.
    ///
    /// # Errors
    /// [`UnlockError`] if no identity matches or the header was altered.
    pub fn unlock(self, identities: &[Identity]) -> Result<Decryptor<R>, UnlockError> {
        for stanza in &self.stanzas {
            for identity in identities {
                if let Some(file_key) = stanza.unwrap(identity)? {
                    return self.payload.unlock(&file_key);
                }
            }
        }
        Err(UnlockError::NoMatchingIdentity)
    }
}

/// Payload whose file key is not known, with the header that it belongs to.
struct LockedPayload<R> {
    header: Header,
    nonce: [u8; PAYLOAD_NONCE_BYTES],
    input: BufReader<R>,
}

impl<R: Read> LockedPayload<R> {
    fn unlock(self, file_key: &FileKey) -> Result<Decryptor<R>, UnlockError> {
        if !self.header.is_authentic(file_key) {
            return Err(UnlockError::AlteredHeader);
        }
        let cipher = file_key.payload_cipher(&self.nonce);
        Ok(Decryptor::new(self.input, cipher))
    }
}
