//! Record of a wrapped data key, which says what wraps it.

use super::{DataKey, open, seal};
use crate::primitive::{Key, NONCE_BYTES, TAG_BYTES, label};
use crate::record::{ParseRecordError, Reader, push_lp};
use rand_core::CryptoRng;

/// Maximum size of a wrapped data key.
pub const WRAPPED_KEY_BYTES_MAX: usize =
    2 + 4 + parameters_bytes(WrapKind::Passphrase) + NONCE_BYTES + 32 + TAG_BYTES;

const WRAP_VERSION: u8 = 1;

/// Error when a data key cannot be unwrapped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UnwrapError {
    /// The record is not a wrapped key.
    #[error("the wrapped data key is malformed")]
    Malformed,
    /// The version is unknown.
    #[error(
        "the wrapped data key has version {version}, which is unknown here; update this program"
    )]
    UnknownVersion {
        /// The version in the record.
        version: u8,
    },
    /// Something else wraps the key.
    #[error("the data key is protected by {actual}, not by {expected}")]
    OtherKind {
        /// What wraps it.
        actual: WrapKind,
        /// What was expected to wrap it.
        expected: WrapKind,
    },
    /// Another key file wrapped the key, or the record was altered.
    #[error("the key file does not belong to this data directory")]
    WrongKeyFile,
    /// Another credential wrapped the key, or the record was altered.
    #[error("the credential does not belong to this data directory")]
    WrongCredential,
    /// Another passphrase wrapped the key, or the record was altered.
    #[error("the passphrase is wrong")]
    WrongPassphrase,
    /// The parameters of Argon2id are outside the limits, so that a forged record cannot demand any
    /// amount of memory and time.
    #[error("the wrapped data key demands parameters of Argon2id that are out of range")]
    ParametersOutOfRange,
    /// The memory for Argon2id cannot be allocated.
    #[error("there is not enough memory to check the passphrase: it needs {kib} KiB")]
    OutOfMemory {
        /// Size of the memory.
        kib: u32,
    },
}

impl From<ParseRecordError> for UnwrapError {
    fn from(_: ParseRecordError) -> Self {
        Self::Malformed
    }
}

/// What wraps a data key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WrapKind {
    /// Argon2id (RFC 9106) over a passphrase.
    Passphrase,
    /// The key in a key file.
    KeyFile,
    /// The key in a key file's text, passed as a service credential.
    Credential,
}

impl WrapKind {
    /// Returns what wraps the data key of a record.
    ///
    /// # Errors
    /// [`UnwrapError::Malformed`] and [`UnwrapError::UnknownVersion`].
    pub fn of_record(record: &[u8]) -> Result<Self, UnwrapError> {
        WrappedDataKey::parse(record).map(|wrapped| wrapped.kind)
    }

    const fn encode(self) -> u8 {
        match self {
            Self::Passphrase => 1,
            Self::KeyFile => 2,
            Self::Credential => 3,
        }
    }

    const fn parse(kind: u8) -> Option<Self> {
        match kind {
            1 => Some(Self::Passphrase),
            2 => Some(Self::KeyFile),
            3 => Some(Self::Credential),
            _ => None,
        }
    }
}

impl std::fmt::Display for WrapKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Passphrase => "a passphrase",
            Self::KeyFile => "a key file",
            Self::Credential => "a credential",
        })
    }
}

/// Parsed record of a wrapped data key.
pub(super) struct WrappedDataKey<'a> {
    kind: WrapKind,
    /// Of the size that belongs to the kind.
    pub(super) parameters: &'a [u8],
    /// Everything before the nonce.
    head: &'a [u8],
    sealed: &'a [u8],
}

impl<'a> WrappedDataKey<'a> {
    fn parse(record: &'a [u8]) -> Result<Self, UnwrapError> {
        let mut reader = Reader::new(record);
        let version = reader.u8()?;
        if version != WRAP_VERSION {
            return Err(UnwrapError::UnknownVersion { version });
        }
        let kind = WrapKind::parse(reader.u8()?).ok_or(UnwrapError::Malformed)?;
        let parameters = reader.lp()?;
        if parameters.len() != parameters_bytes(kind) {
            return Err(UnwrapError::Malformed);
        }
        let (head, sealed) = (reader.consumed(), reader.remaining());
        if sealed.len() != NONCE_BYTES + 32 + TAG_BYTES {
            return Err(UnwrapError::Malformed);
        }
        Ok(Self {
            kind,
            parameters,
            head,
            sealed,
        })
    }

    /// Parses a record of one kind.
    pub(super) fn parse_as(expected: WrapKind, record: &'a [u8]) -> Result<Self, UnwrapError> {
        let wrapped = Self::parse(record)?;
        if wrapped.kind == expected {
            return Ok(wrapped);
        }
        Err(UnwrapError::OtherKind {
            actual: wrapped.kind,
            expected,
        })
    }

    /// Opens the data key. Returns `None` if the tag is invalid.
    pub(super) fn open(&self, key: &Key) -> Result<Option<DataKey>, UnwrapError> {
        let Some(bytes) = open(key, self.sealed, &associated_data(self.head)) else {
            return Ok(None);
        };
        let bytes = bytes.as_slice().try_into();
        let bytes = bytes.map_err(|_| UnwrapError::Malformed)?;
        Ok(Some(DataKey::from_bytes(bytes)))
    }

    /// Builds the record of a data key.
    pub(super) fn seal(
        kind: WrapKind,
        parameters: &[u8],
        key: &Key,
        data_key: &DataKey,
        rng: &mut (impl CryptoRng + ?Sized),
    ) -> Vec<u8> {
        let mut record = vec![WRAP_VERSION, kind.encode()];
        push_lp(&mut record, parameters);
        let sealed = seal(key, &data_key.0.0, &associated_data(&record), rng);
        record.extend_from_slice(&sealed);
        record
    }
}

/// Size of the wrapping's parameters. A passphrase has salt 16, memory in KiB u32, passes u32 and
/// lanes u32.
const fn parameters_bytes(kind: WrapKind) -> usize {
    match kind {
        WrapKind::Passphrase => 16 + 4 + 4 + 4,
        WrapKind::KeyFile | WrapKind::Credential => 0,
    }
}

/// Builds the associated data: `P" wrap" || 00 ||` everything before the nonce.
fn associated_data(head: &[u8]) -> Vec<u8> {
    [label!("wrap"), &[0], head].concat()
}
