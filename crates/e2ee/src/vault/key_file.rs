//! Key files, and the wrapping of a data key by one. A service credential holds the same text.

use super::DataKey;
use super::wrapping::{UnwrapError, WrapKind, WrappedDataKey};
use crate::primitive::{Key, hash, random_array};
use crate::record::Writer;
use rand_core::CryptoRng;
use sealpost_proto::b64;
use zeroize::Zeroizing;

/// Maximum length of a key file.
pub const KEY_FILE_BYTES_MAX: usize = 128;

const CHECKSUM_BYTES: usize = 4;
const KEY_FILE_MARKER: &str = "sealpost-key1.";
const KEY_FILE_VERSION: u8 = 1;

/// Error when a text is not a valid key file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyFileError {
    /// The text is not a key file.
    #[error("not a Sealpost key file")]
    NotAKeyFile,
    /// The checksum or the length is wrong.
    #[error("the key file is damaged: restore it from a copy")]
    Damaged,
    /// The version is unknown.
    #[error("the key file has version {version}, which is unknown here; update this program")]
    UnknownVersion {
        /// The version in the file.
        version: u8,
    },
}

/// Key that a key file contains.
#[derive(Clone)]
pub struct KeyFile(Key);

impl KeyFile {
    /// Generates a new key.
    #[must_use]
    pub fn generate(rng: &mut (impl CryptoRng + ?Sized)) -> Self {
        Self(Key(random_array(rng)))
    }

    /// Returns the file's text: one line, `sealpost-key1.<base64url>`.
    #[must_use]
    pub fn encode(&self) -> Zeroizing<String> {
        let mut record = Writer::with_capacity(1 + 32 + CHECKSUM_BYTES);
        record.u8(KEY_FILE_VERSION).bytes(&self.0.0);
        let mut record = record.finish();
        let checksum = compute_checksum(&record);
        record.extend_from_slice(&checksum);
        let base64 = Zeroizing::new(b64::encode(&record));
        Zeroizing::new(format!("{KEY_FILE_MARKER}{}\n", base64.as_str()))
    }

    /// Parses the file's text. White space around it is ignored.
    ///
    /// # Errors
    /// [`KeyFileError`] with a message for the operator.
    pub fn parse(text: &str) -> Result<Self, KeyFileError> {
        if text.len() > KEY_FILE_BYTES_MAX {
            return Err(KeyFileError::NotAKeyFile);
        }
        let base64 = text
            .trim()
            .strip_prefix(KEY_FILE_MARKER)
            .ok_or(KeyFileError::NotAKeyFile)?;
        let record = Zeroizing::new(b64::parse(base64).map_err(|_| KeyFileError::Damaged)?);
        let (body, sum) = record
            .split_last_chunk::<CHECKSUM_BYTES>()
            .ok_or(KeyFileError::Damaged)?;
        if compute_checksum(body) != *sum {
            return Err(KeyFileError::Damaged);
        }
        match body.split_first() {
            Some((&KEY_FILE_VERSION, key)) => key
                .try_into()
                .map(|key| Self(Key(key)))
                .map_err(|_| KeyFileError::Damaged),
            Some((&version, _)) => Err(KeyFileError::UnknownVersion { version }),
            None => Err(KeyFileError::Damaged),
        }
    }

    /// Wraps a data key. Returns the record to store in the data directory.
    #[must_use]
    pub fn wrap(&self, data_key: &DataKey, rng: &mut (impl CryptoRng + ?Sized)) -> Vec<u8> {
        WrappedDataKey::seal(WrapKind::KeyFile, &[], &self.0, data_key, rng)
    }

    /// Unwraps the data key of a data directory.
    ///
    /// # Errors
    /// [`UnwrapError`] if the record is malformed, of another kind, or wrapped by another key file.
    pub fn unwrap(&self, record: &[u8]) -> Result<DataKey, UnwrapError> {
        let wrapped = WrappedDataKey::parse_as(WrapKind::KeyFile, record)?;
        wrapped.open(&self.0)?.ok_or(UnwrapError::WrongKeyFile)
    }

    /// Wraps a data key by a key that the service manager passes as a credential.
    #[must_use]
    pub fn wrap_as_credential(
        &self,
        data_key: &DataKey,
        rng: &mut (impl CryptoRng + ?Sized),
    ) -> Vec<u8> {
        WrappedDataKey::seal(WrapKind::Credential, &[], &self.0, data_key, rng)
    }

    /// Unwraps a data key that [`KeyFile::wrap_as_credential`] wrapped.
    ///
    /// # Errors
    /// [`UnwrapError`] if the record is malformed, of another kind, or wrapped by another key.
    pub fn unwrap_as_credential(&self, record: &[u8]) -> Result<DataKey, UnwrapError> {
        let wrapped = WrappedDataKey::parse_as(WrapKind::Credential, record)?;
        wrapped.open(&self.0)?.ok_or(UnwrapError::WrongCredential)
    }
}

fn compute_checksum(body: &[u8]) -> [u8; CHECKSUM_BYTES] {
    let [a, b, c, d, ..] = hash(&[body]);
    [a, b, c, d]
}
