//! Secrets at rest: a data key per data directory, sealed columns, and the wrapping of the data key
//! (docs/e2ee-files-invites-vault.md#vault).
//!
//! A [`KeyFile`] wraps the [`DataKey`]. The module performs no I/O: the caller stores the key file
//! and the wrapped key in the data directory, with mode 0600.

use crate::primitive::{self, Key, NONCE_BYTES, TAG_BYTES, hash, label, random_array};
use crate::record::{ParseRecordError, Reader, Writer, push_lp};
use rand_core::CryptoRng;
use sealpost_proto::b64;
use zeroize::Zeroizing;

const CHECKSUM_BYTES: usize = 4;

/// Size that sealing adds to a column's value.
pub const COLUMN_OVERHEAD_BYTES: usize = NONCE_BYTES + TAG_BYTES;
/// Maximum length of a key file.
pub const KEY_FILE_BYTES_MAX: usize = 128;
/// Maximum size of a wrapped data key.
pub const WRAPPED_KEY_BYTES_MAX: usize =
    2 + 4 + parameters_bytes(WrapKind::Passphrase) + NONCE_BYTES + 32 + TAG_BYTES;

const KEY_FILE_MARKER: &str = "sealpost-key1.";
const KEY_FILE_VERSION: u8 = 1;
const WRAP_VERSION: u8 = 1;

/// Error when a sealed value does not open: the key or the place in the database is wrong, or the
/// value was altered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a stored secret does not open: it was altered, moved, or sealed under another key")]
pub struct ColumnError;

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
    /// The key is not wrapped by a key file.
    #[error("the data key is wrapped by {kind}, not by a key file")]
    UnsupportedWrap {
        /// What wraps it.
        kind: WrapKind,
    },
    /// Another key file wrapped the key, or the record was altered.
    #[error("the key file does not belong to this data directory")]
    WrongKeyFile,
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

/// Key of all sealed columns of one data directory.
#[derive(Clone)]
pub struct DataKey(Key);

impl DataKey {
    /// Generates a new key.
    #[must_use]
    pub fn generate(rng: &mut (impl CryptoRng + ?Sized)) -> Self {
        Self(Key(random_array(rng)))
    }

    /// Wraps 32 raw bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(Key(bytes))
    }
}

/// Place of a sealed value. A value moved to another place does not open.
#[derive(Debug, Clone, Copy)]
pub struct Column<'a> {
    /// The table's name.
    pub table: &'a str,
    /// Bytes that identify the row and never change.
    pub pk: &'a [u8],
    /// The column's name.
    pub column: &'a str,
    /// The row's version; 0 if rows have no version.
    pub version: u64,
}

impl Column<'_> {
    /// Encodes `LP(table) || LP(pk) || LP(column) || version u64`.
    fn associated_data(&self) -> Vec<u8> {
        let mut bytes =
            Vec::with_capacity(20 + self.table.len() + self.pk.len() + self.column.len());
        for field in [self.table.as_bytes(), self.pk, self.column.as_bytes()] {
            push_lp(&mut bytes, field);
        }
        bytes.extend_from_slice(&self.version.to_be_bytes());
        bytes
    }
}

/// Seals a column's value: a random 24-byte nonce, then ciphertext and tag.
#[must_use]
pub fn seal_column(
    data_key: &DataKey,
    column: &Column<'_>,
    value: &[u8],
    rng: &mut (impl CryptoRng + ?Sized),
) -> Vec<u8> {
    seal(&data_key.0, value, &column.associated_data(), rng)
}

/// Opens the output of [`seal_column`] for the same place.
///
/// # Errors
/// [`ColumnError`] for another key or place, or altered bytes.
pub fn open_column(
    data_key: &DataKey,
    column: &Column<'_>,
    sealed: &[u8],
) -> Result<Zeroizing<Vec<u8>>, ColumnError> {
    open(&data_key.0, sealed, &column.associated_data()).ok_or(ColumnError)
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
        let mut record = vec![WRAP_VERSION, WrapKind::KeyFile.encode()];
        push_lp(&mut record, &[]);
        let sealed = seal(&self.0, &data_key.0.0, &wrap_associated_data(&record), rng);
        record.extend_from_slice(&sealed);
        record
    }

    /// Unwraps the data key of a data directory.
    ///
    /// # Errors
    /// [`UnwrapError`] if the record is malformed, of another kind, or wrapped by another key file.
    pub fn unwrap(&self, record: &[u8]) -> Result<DataKey, UnwrapError> {
        let wrapped = Wrapped::parse(record)?;
        if wrapped.kind != WrapKind::KeyFile {
            return Err(UnwrapError::UnsupportedWrap { kind: wrapped.kind });
        }
        let key = open(&self.0, wrapped.sealed, &wrap_associated_data(wrapped.head))
            .ok_or(UnwrapError::WrongKeyFile)?;
        key.as_slice()
            .try_into()
            .map(DataKey::from_bytes)
            .map_err(|_| UnwrapError::Malformed)
    }
}

/// Parsed record of a wrapped data key.
struct Wrapped<'a> {
    kind: WrapKind,
    /// Everything before the nonce.
    head: &'a [u8],
    sealed: &'a [u8],
}

impl<'a> Wrapped<'a> {
    fn parse(record: &'a [u8]) -> Result<Self, UnwrapError> {
        let mut reader = Reader::new(record);
        let version = reader.u8()?;
        if version != WRAP_VERSION {
            return Err(UnwrapError::UnknownVersion { version });
        }
        let kind = WrapKind::parse(reader.u8()?).ok_or(UnwrapError::Malformed)?;
        if reader.lp()?.len() != parameters_bytes(kind) {
            return Err(UnwrapError::Malformed);
        }
        let (head, sealed) = (reader.consumed(), reader.remaining());
        if sealed.len() != NONCE_BYTES + 32 + TAG_BYTES {
            return Err(UnwrapError::Malformed);
        }
        Ok(Self { kind, head, sealed })
    }
}

impl From<ParseRecordError> for UnwrapError {
    fn from(_: ParseRecordError) -> Self {
        Self::Malformed
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
fn wrap_associated_data(head: &[u8]) -> Vec<u8> {
    [label!("wrap"), &[0], head].concat()
}

/// Returns a random nonce, then `X(key, nonce, value, associated)`.
fn seal(
    key: &Key,
    value: &[u8],
    associated: &[u8],
    rng: &mut (impl CryptoRng + ?Sized),
) -> Vec<u8> {
    let nonce = random_array(rng);
    [
        &nonce,
        primitive::seal(key, &nonce, value, associated).as_slice(),
    ]
    .concat()
}

fn open(key: &Key, sealed: &[u8], associated: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let (nonce, sealed) = sealed.split_first_chunk()?;
    primitive::open(key, nonce, sealed, associated)
}

fn compute_checksum(body: &[u8]) -> [u8; CHECKSUM_BYTES] {
    let [a, b, c, d, ..] = hash(&[body]);
    [a, b, c, d]
}
