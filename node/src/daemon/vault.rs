//! The data key of a data directory: what protects it, and how it is opened.
//!
//! | file | content |
//! |---|---|
//! | `data-key` | the wrapped data key, which says what protects it |
//! | `key` | the key file, or a link to one elsewhere; only if a key file protects the data key |
//! | `key.next` | the key file that replaces `key`, while the protection is changed |
//!
//! Writing `data-key` puts a protection in force. Everything that the new protection needs is on
//! disk before, and what the old one needed is erased after, so a directory opens with the old
//! secret or the new one whenever a change is interrupted ([`change`]).

mod change;
mod error;

pub(crate) use change::{LockedVault, NewProtection};
pub(crate) use error::VaultError;

use change::ProtectionChange;
use sealpost_e2ee::vault::{Argon2Parameters, DataKey, KeyFile, Passphrase, WrapKind};
use sealpost_service::{DataDir, read_secret_file};
use std::{
    fs,
    path::{Path, PathBuf},
};
use zeroize::Zeroizing;

pub(super) const KEY_FILE: &str = "key";
pub(super) const DATA_KEY_FILE: &str = "data-key";
const STAGED_KEY_FILE: &str = "key.next";

/// Source of the secrets that open a data key. A secret is requested only if it is needed.
pub(crate) trait KeySecrets {
    fn passphrase(&self) -> Result<Passphrase, VaultError>;

    /// Returns the key file, unless it is the one that the data directory names.
    fn key_file(&self) -> Result<Option<KeyFile>, VaultError>;

    fn credential(&self) -> Result<KeyFile, VaultError>;
}

/// What protects the data key of a data directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum KeyProtection {
    Passphrase(Argon2Parameters),
    KeyFile(PathBuf),
    Credential,
}

/// New key file, and the data key that it wraps.
pub(super) struct WrappedDataKey {
    /// Content of [`KEY_FILE`].
    pub(super) key_file: Zeroizing<String>,
    /// Content of [`DATA_KEY_FILE`].
    pub(super) data_key: Vec<u8>,
}

/// Wraps a data key with a new key file.
pub(super) fn wrap(data_key: &DataKey) -> WrappedDataKey {
    let mut rng = sealpost_service::entropy();
    let key_file = KeyFile::generate(&mut rng);
    WrappedDataKey {
        key_file: key_file.encode(),
        data_key: key_file.wrap(data_key, &mut rng),
    }
}

/// Unwraps a data key with the content of a key file.
pub(super) fn unwrap(key_file: &[u8], wrapped: &[u8]) -> anyhow::Result<DataKey> {
    Ok(KeyFile::parse(&String::from_utf8_lossy(key_file))?.unwrap(wrapped)?)
}

/// Creates the data key of a new node, or opens the one that an interrupted `init` left.
pub(super) fn create(
    directory: &DataDir,
    protection: &NewProtection,
) -> Result<DataKey, VaultError> {
    if let Some(record) = directory.read_secret(DATA_KEY_FILE)? {
        let opened = match protection {
            NewProtection::Passphrase(passphrase) => passphrase.unwrap(&record).ok(),
            NewProtection::KeyFile(_) => open_with_key_file(directory.path(), &record)
                .map(|opened| opened.data_key)
                .ok(),
            NewProtection::Credential(key) => key.unwrap_as_credential(&record).ok(),
        };
        return opened.ok_or_else(|| VaultError::HoldsNode {
            path: directory.path().to_owned(),
        });
    }
    let data_key = DataKey::generate(&mut sealpost_service::entropy());
    protect(directory.path(), &data_key, protection)?;
    Ok(data_key)
}

/// Puts a protection in force in a directory that no other process uses.
pub(super) fn protect(
    directory: &Path,
    data_key: &DataKey,
    protection: &NewProtection,
) -> Result<(), VaultError> {
    ProtectionChange::prepare(directory, data_key, protection)?.apply()
}

/// Opens the data key of a data directory, which another process may use.
///
/// # Errors
/// The directory holds no node, or the secret that protects its data key is missing or wrong.
pub(crate) fn open(directory: &Path, secrets: &dyn KeySecrets) -> Result<DataKey, VaultError> {
    open_record(directory, secrets).map(|opened| opened.data_key)
}

/// Opens the data key of a data directory that this process has locked, and completes a change of
/// the protection that was interrupted.
pub(super) fn open_locked(
    directory: &DataDir,
    secrets: &dyn KeySecrets,
) -> Result<DataKey, VaultError> {
    let opened = open_record(directory.path(), secrets)?;
    change::finish_interrupted(directory.path(), opened.kind, opened.is_by_staged_key)?;
    Ok(opened.data_key)
}

/// Describes what protects the data key of a data directory.
pub(crate) fn describe(directory: &Path) -> Result<KeyProtection, VaultError> {
    let record = read_record(directory)?;
    Ok(match WrapKind::of_record(&record)? {
        WrapKind::Passphrase => KeyProtection::Passphrase(Argon2Parameters::of_record(&record)?),
        WrapKind::KeyFile => KeyProtection::KeyFile(locate_key_file(directory)),
        WrapKind::Credential => KeyProtection::Credential,
    })
}

/// Reads a key file that others cannot read; `None` if it does not exist.
pub(crate) fn read_key_file(path: &Path) -> Result<Option<KeyFile>, VaultError> {
    let Some(content) = read_secret_file(path)? else {
        return Ok(None);
    };
    parse_key_file(path, &content).map(Some)
}

/// Parses the content of a key file.
pub(crate) fn parse_key_file(path: &Path, content: &[u8]) -> Result<KeyFile, VaultError> {
    // Bytes that are not UTF-8 are replaced by a character that no key file contains.
    let text = Zeroizing::new(String::from_utf8_lossy(content).into_owned());
    KeyFile::parse(&text).map_err(|source| VaultError::KeyFile {
        path: path.to_owned(),
        source,
    })
}

/// Reads a secret of one line from a file that others cannot read. A line break after it does not
/// count.
///
/// # Errors
/// Why the file cannot be used.
pub(super) fn read_secret_line(path: &Path) -> Result<Zeroizing<String>, String> {
    let content = read_secret_file(path)
        .map_err(|error| error.to_string())?
        .ok_or("it does not exist")?;
    let text = std::str::from_utf8(&content).map_err(|_| "it is not UTF-8")?;
    let line = text.strip_suffix('\n').unwrap_or(text);
    let line = line.strip_suffix('\r').unwrap_or(line);
    Ok(Zeroizing::new(line.to_owned()))
}

/// Reads the passphrase of a data key from a file that others cannot read.
pub(crate) fn read_passphrase(path: &Path) -> Result<Passphrase, VaultError> {
    let text = read_secret_line(path).map_err(|reason| VaultError::PassphraseFile {
        path: path.to_owned(),
        reason,
    })?;
    Ok(Passphrase::new(text))
}

struct OpenedRecord {
    data_key: DataKey,
    kind: WrapKind,
    is_by_staged_key: bool,
}

fn open_record(directory: &Path, secrets: &dyn KeySecrets) -> Result<OpenedRecord, VaultError> {
    let record = read_record(directory)?;
    let kind = WrapKind::of_record(&record)?;
    let mut is_by_staged_key = false;
    let data_key = match kind {
        WrapKind::Passphrase => secrets.passphrase()?.unwrap(&record)?,
        WrapKind::Credential => secrets.credential()?.unwrap_as_credential(&record)?,
        WrapKind::KeyFile => {
            if let Some(key) = secrets.key_file()? {
                key.unwrap(&record)?
            } else {
                let opened = open_with_key_file(directory, &record)?;
                is_by_staged_key = opened.is_staged;
                opened.data_key
            }
        }
    };
    Ok(OpenedRecord {
        data_key,
        kind,
        is_by_staged_key,
    })
}

fn read_record(directory: &Path) -> Result<Zeroizing<Vec<u8>>, VaultError> {
    read_secret_file(&directory.join(DATA_KEY_FILE))?.ok_or_else(|| VaultError::NoNode {
        path: directory.to_owned(),
    })
}

struct OpenedByKeyFile {
    data_key: DataKey,
    /// Whether the key file has not replaced the old one yet.
    is_staged: bool,
}

/// Opens a data key with the key file of the data directory. After an interrupted change it is the
/// staged one.
fn open_with_key_file(directory: &Path, record: &[u8]) -> Result<OpenedByKeyFile, VaultError> {
    let mut first_error = None;
    for (name, is_staged) in [(KEY_FILE, false), (STAGED_KEY_FILE, true)] {
        let opened = match read_key_file(&directory.join(name)) {
            Ok(None) => continue,
            Ok(Some(key)) => key.unwrap(record).map_err(VaultError::from),
            Err(error) => Err(error),
        };
        match opened {
            Ok(data_key) => {
                return Ok(OpenedByKeyFile {
                    data_key,
                    is_staged,
                });
            }
            Err(error) => {
                first_error.get_or_insert(error);
            }
        }
    }
    Err(first_error.unwrap_or_else(|| VaultError::KeyFileMissing {
        path: locate_key_file(directory),
    }))
}

/// Returns the path of the key file, which may be a link to a file elsewhere.
fn locate_key_file(directory: &Path) -> PathBuf {
    let path = directory.join(KEY_FILE);
    fs::read_link(&path).unwrap_or(path)
}

#[cfg(test)]
pub(super) mod tests;
