//! What encrypts a backup, and what decrypts it.

use super::error::BackupError;
use crate::daemon::vault::read_secret_line;
use rand_core::CryptoRng;
use sealpost_age::{Encryptor, Identity, Passphrase, Recipient, WorkFactor};
use sealpost_service::read_secret_file;
use std::{io::Write, path::Path};
use zeroize::Zeroizing;

/// What a backup is encrypted to.
pub(crate) enum Protection {
    Recipients(Vec<Recipient>),
    Passphrase(Passphrase),
}

impl Protection {
    pub(super) fn encrypt<W: Write>(
        &self,
        output: W,
        rng: &mut dyn CryptoRng,
    ) -> Result<Encryptor<W>, BackupError> {
        Ok(match self {
            Self::Recipients(recipients) => Encryptor::for_recipients(output, recipients, rng)?,
            Self::Passphrase(passphrase) => {
                Encryptor::for_passphrase(output, passphrase, WorkFactor::default(), rng)?
            }
        })
    }
}

/// What decrypts a backup.
pub(crate) enum Secret {
    Identities(Vec<Identity>),
    Passphrase(Passphrase),
}

/// Reads a passphrase from a file that others cannot read. A line break after it does not count.
pub(crate) fn read_passphrase(path: &Path) -> Result<Passphrase, BackupError> {
    let text = read_secret_line(path).map_err(|reason| secret_error(path, reason))?;
    Passphrase::new(text).map_err(|error| secret_error(path, error.to_string()))
}

/// Reads the identities of a key file of `age-keygen` that others cannot read.
pub(crate) fn read_identities(path: &Path) -> Result<Vec<Identity>, BackupError> {
    let content = read_text(path)?;
    let lines = content.lines().map(str::trim);
    let identities: Result<Vec<_>, _> = lines
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(Identity::parse)
        .collect();
    match identities {
        Ok(identities) if identities.is_empty() => {
            Err(secret_error(path, "it has no identity".to_owned()))
        }
        Ok(identities) => Ok(identities),
        Err(error) => Err(secret_error(path, error.to_string())),
    }
}

fn read_text(path: &Path) -> Result<Zeroizing<String>, BackupError> {
    let content = read_secret_file(path)
        .map_err(|error| secret_error(path, error.to_string()))?
        .ok_or_else(|| secret_error(path, "it does not exist".to_owned()))?;
    std::str::from_utf8(&content)
        .map(|text| Zeroizing::new(text.to_owned()))
        .map_err(|_| secret_error(path, "it is not UTF-8".to_owned()))
}

fn secret_error(path: &Path, reason: String) -> BackupError {
    BackupError::Secret {
        path: path.to_owned(),
        reason,
    }
}
