//! Secrets at rest: a data key per data directory, sealed columns, and the wrapping of the data key
//! (docs/e2ee-files-invites-vault.md#vault).
//!
//! A [`Passphrase`], or the key in a [`KeyFile`] or in a service credential, wraps the [`DataKey`].
//! The module performs no I/O: the caller stores the wrapped key in the data directory, with mode
//! 0600.

mod key_file;
mod passphrase;
mod wrapping;

pub use key_file::{KEY_FILE_BYTES_MAX, KeyFile, KeyFileError};
pub use passphrase::{Argon2Parameters, Passphrase, PassphraseError};
pub use wrapping::{UnwrapError, WRAPPED_KEY_BYTES_MAX, WrapKind};

use crate::primitive::{self, Key, NONCE_BYTES, TAG_BYTES, random_array};
use crate::record::push_lp;
use rand_core::CryptoRng;
use zeroize::Zeroizing;

/// Size that sealing adds to a column's value.
pub const COLUMN_OVERHEAD_BYTES: usize = NONCE_BYTES + TAG_BYTES;

/// Error when a sealed value does not open: the key or the place in the database is wrong, or the
/// value was altered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a stored secret does not open: it was altered, moved, or sealed under another key")]
pub struct ColumnError;

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
