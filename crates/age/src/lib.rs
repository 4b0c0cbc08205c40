//! Streaming encryption of files in the [age v1 format](https://age-encryption.org/v1), so that the
//! `age` program decrypts what a node encrypts, and the other way round.
//!
//! [`Encryptor`] is a writer that encrypts to a [`Passphrase`] or to [`Recipient`]s.
//! [`EncryptedFile::read`] reads a file's header and tells which of the two it needs. Unlocking the
//! file gives a [`Decryptor`], a reader that returns no byte before its chunk is authenticated.
//!
//! The crate performs no I/O except on the reader or writer that the caller passes, and takes the
//! random source as an argument. It supports the recipient types `scrypt` and `X25519`; ASCII armor
//! and other recipient types are not supported.

#![warn(missing_docs)]

mod chunk_cipher;
mod decryptor;
mod encrypted_file;
mod encryptor;
mod file_key;
mod header;
mod passphrase;
mod primitive;
mod stanza;
mod x25519;

#[cfg(test)]
mod testkit;

pub use decryptor::{Decryptor, PayloadError};
pub use encrypted_file::{EncryptedFile, PassphraseFile, RecipientsFile, UnlockError};
pub use encryptor::{EncryptError, Encryptor};
pub use header::ReadHeaderError;
pub use passphrase::{EmptyPassphraseError, Passphrase, WorkFactor, WorkFactorError};
pub use x25519::{Identity, ParseIdentityError, ParseRecipientError, Recipient};
