//! Secrets at rest: one data key for a data folder, sealed columns, and what wraps the data key
//! (`docs/e2ee-files-invites-vault.md#vault`).
//!
//! A [`KeyFile`] stands outside the data folder and wraps the [`DataKey`]; the wrapped key stands inside. Nothing here
//! reads or writes a file: whoever does sets mode 0600.

use crate::primitive::{self, Key, NONCE_BYTES, TAG_BYTES, hash, label, random};
use crate::record::{ParseRecordError, Reader, Writer, push_lp};
use rand_core::CryptoRng;
use sealpost_proto::b64;
use zeroize::Zeroizing;

const CHECKSUM_BYTES: usize = 4;

/// What sealing adds to a column's value.
pub const COLUMN_OVERHEAD_BYTES: usize = NONCE_BYTES + TAG_BYTES;
/// Longest text of a key file.
pub const KEY_FILE_BYTES_MAX: usize = 128;
/// Longest wrapped data key.
pub const WRAPPED_KEY_BYTES_MAX: usize =
    2 + 4 + parameters_bytes(WrapKind::Passphrase) + NONCE_BYTES + 32 + TAG_BYTES;

const KEY_FILE_MARKER: &str = "sealpost-key1.";
const KEY_FILE_VERSION: u8 = 1;
const WRAP_VERSION: u8 = 1;

/// A sealed value does not open: another key, another place in the database, or altered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a stored secret does not open: it was altered, moved, or sealed under another key")]
pub struct ColumnError;

/// Why a text is not taken as a key file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyFileError {
    /// Something else altogether.
    #[error("not a key file of sealpost")]
    NotAKeyFile,
    /// The checksum does not fit.
    #[error("the key file is damaged: restore it from a copy")]
    Damaged,
    /// A form that this program does not know.
    #[error("the key file has version {version}, which is unknown here; update this program")]
    UnknownVersion {
        /// As it stands in the file.
        version: u8,
    },
}

/// Why a wrapped data key does not come out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UnwrapError {
    /// Not a wrapped key.
    #[error("the wrapped data key is malformed")]
    Malformed,
    /// A form that this program does not know.
    #[error(
        "the wrapped data key has version {version}, which is unknown here; update this program"
    )]
    UnknownVersion {
        /// As it stands in the record.
        version: u8,
    },
    /// It is wrapped by something else than a key file.
    #[error("the data key is wrapped by {kind}, not by a key file")]
    UnsupportedWrap {
        /// By what.
        kind: WrapKind,
    },
    /// The key file is not the one that wrapped it, or the record was altered.
    #[error("the key file does not belong to this data folder")]
    WrongKeyFile,
}

/// What wraps a data key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WrapKind {
    /// Argon2id (RFC 9106) over a passphrase.
    Passphrase,
    /// A key file.
    KeyFile,
    /// A key file's text that a service credential holds.
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

/// The key of all sealed columns of one data folder.
#[derive(Clone)]
pub struct DataKey(Key);

impl DataKey {
    /// Draws a new key.
    #[must_use]
    pub fn generate(rng: &mut (impl CryptoRng + ?Sized)) -> Self {
        Self(Key(random(rng)))
    }

    /// Takes 32 raw bytes as they are.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(Key(bytes))
    }
}

/// Where a sealed value stands; a value that was moved does not open.
#[derive(Debug, Clone, Copy)]
pub struct Column<'a> {
    /// The table's name.
    pub table: &'a str,
    /// The row's primary key as bytes, the same at every writing.
    pub pk: &'a [u8],
    /// The column's name.
    pub column: &'a str,
    /// The row's version; 0 where rows have none.
    pub version: u64,
}

impl Column<'_> {
    /// `LP(table) || LP(pk) || LP(column) || version u64`.
    fn associated(&self) -> Vec<u8> {
        let mut bytes =
            Vec::with_capacity(20 + self.table.len() + self.pk.len() + self.column.len());
        for field in [self.table.as_bytes(), self.pk, self.column.as_bytes()] {
            push_lp(&mut bytes, field);
        }
        bytes.extend_from_slice(&self.version.to_be_bytes());
        bytes
    }
}

/// Seals the value of a column: a random nonce of 24 bytes, then ciphertext and tag.
#[must_use]
pub fn seal_column(
    data_key: &DataKey,
    column: &Column<'_>,
    value: &[u8],
    rng: &mut (impl CryptoRng + ?Sized),
) -> Vec<u8> {
    seal(&data_key.0, value, &column.associated(), rng)
}

/// Opens what [`seal_column`] sealed for the same place.
///
/// # Errors
/// [`ColumnError`] for any other key, place or bytes.
pub fn open_column(
    data_key: &DataKey,
    column: &Column<'_>,
    sealed: &[u8],
) -> Result<Zeroizing<Vec<u8>>, ColumnError> {
    open(&data_key.0, sealed, &column.associated()).ok_or(ColumnError)
}

/// The key that a key file holds.
#[derive(Clone)]
pub struct KeyFile(Key);

impl KeyFile {
    /// Draws a new key.
    #[must_use]
    pub fn generate(rng: &mut (impl CryptoRng + ?Sized)) -> Self {
        Self(Key(random(rng)))
    }

    /// The file's text: one line, `sealpost-key1.<base64url>`.
    #[must_use]
    pub fn encode(&self) -> Zeroizing<String> {
        let mut record = Writer::with_capacity(1 + 32 + CHECKSUM_BYTES);
        record.u8(KEY_FILE_VERSION).bytes(&self.0.0);
        let mut record = record.finish();
        let checksum = checksum(&record);
        record.extend_from_slice(&checksum);
        let base64 = Zeroizing::new(b64::encode(&record));
        Zeroizing::new(format!("{KEY_FILE_MARKER}{}\n", base64.as_str()))
    }

    /// Reads the file's text; white space around it is allowed.
    ///
    /// # Errors
    /// [`KeyFileError`] in words for the operator.
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
        if checksum(body) != *sum {
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

    /// Wraps a data key: the record that stands in the data folder.
    #[must_use]
    pub fn wrap(&self, data_key: &DataKey, rng: &mut (impl CryptoRng + ?Sized)) -> Vec<u8> {
        let mut record = vec![WRAP_VERSION, WrapKind::KeyFile.encode()];
        push_lp(&mut record, &[]);
        let sealed = seal(&self.0, &data_key.0.0, &wrap_associated(&record), rng);
        record.extend_from_slice(&sealed);
        record
    }

    /// Unwraps the data key of a data folder.
    ///
    /// # Errors
    /// [`UnwrapError`] says whether the record, its kind or the key file is wrong.
    pub fn unwrap(&self, record: &[u8]) -> Result<DataKey, UnwrapError> {
        let wrapped = Wrapped::parse(record)?;
        if wrapped.kind != WrapKind::KeyFile {
            return Err(UnwrapError::UnsupportedWrap { kind: wrapped.kind });
        }
        let key = open(&self.0, wrapped.sealed, &wrap_associated(wrapped.head))
            .ok_or(UnwrapError::WrongKeyFile)?;
        key.as_slice()
            .try_into()
            .map(DataKey::from_bytes)
            .map_err(|_| UnwrapError::Malformed)
    }
}

/// A wrapped data key, taken apart.
struct Wrapped<'a> {
    kind: WrapKind,
    /// All before the nonce.
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

/// A passphrase needs salt 16, memory in KiB u32, passes u32 and lanes u32; the others need nothing.
const fn parameters_bytes(kind: WrapKind) -> usize {
    match kind {
        WrapKind::Passphrase => 16 + 4 + 4 + 4,
        WrapKind::KeyFile | WrapKind::Credential => 0,
    }
}

/// `P" wrap" || 00 ||` all that stands before the nonce.
fn wrap_associated(head: &[u8]) -> Vec<u8> {
    [label!("wrap"), &[0], head].concat()
}

/// A random nonce, then `X(key, nonce, value, associated)`.
fn seal(
    key: &Key,
    value: &[u8],
    associated: &[u8],
    rng: &mut (impl CryptoRng + ?Sized),
) -> Vec<u8> {
    let nonce = random(rng);
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

fn checksum(body: &[u8]) -> [u8; CHECKSUM_BYTES] {
    let [a, b, c, d, ..] = hash(&[body]);
    [a, b, c, d]
}
