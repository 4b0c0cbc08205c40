//! Errors of opening and protecting a data key, each with what to do next.

use sealpost_e2ee::vault::{KeyFileError, PassphraseError, UnwrapError};
use sealpost_service::{DataDirError, SecretError, units::shell_quote};
use std::{io, path::PathBuf};

/// Error of opening or protecting a data key.
#[derive(Debug, thiserror::Error)]
pub(crate) enum VaultError {
    #[error("there is no node in {}", path.display())]
    NoNode { path: PathBuf },
    #[error("{} holds a node already", path.display())]
    HoldsNode { path: PathBuf },
    #[error("the key file {} is missing", path.display())]
    KeyFileMissing { path: PathBuf },
    #[error("{}: {source}", path.display())]
    KeyFile { path: PathBuf, source: KeyFileError },
    /// The key file that should become the new one is the current one.
    #[error("the key file {} protects the data key already", path.display())]
    SameKeyFile { path: PathBuf },
    #[error(transparent)]
    Secret(#[from] SecretError),
    #[error("{}: {reason}", path.display())]
    PassphraseFile { path: PathBuf, reason: String },
    #[error("a passphrase protects this node, and there is no terminal to ask for it")]
    NoTerminal,
    #[error("a credential protects this node, and no credential {name} was passed")]
    CredentialMissing { name: String },
    #[error(transparent)]
    Unwrap(#[from] UnwrapError),
    #[error(transparent)]
    Passphrase(#[from] PassphraseError),
    #[error(transparent)]
    DataDirectory(#[from] DataDirError),
    #[error("{}: {source}", path.display())]
    File { path: PathBuf, source: io::Error },
    /// The change is complete, except that the old key file is still there.
    #[error(
        "the new protection is in force, but the old key file {} could not be erased: {source}",
        path.display()
    )]
    NotErased { path: PathBuf, source: io::Error },
    #[error("interrupted")]
    Interrupted,
}

impl VaultError {
    /// Returns the next step for the user.
    pub(crate) fn next(&self) -> String {
        let next = match self {
            Self::NoNode { .. } => {
                "choose the data directory of the node with --data, or create a node with \
                 `sealpost init`"
            }
            Self::HoldsNode { .. } => {
                "start it with `sealpost serve`, or choose another directory with --data"
            }
            Self::KeyFileMissing { .. } => {
                "restore it from a copy, or make the disk available that holds it"
            }
            Self::KeyFile { .. } => "restore the key file from a copy, or choose another file",
            Self::SameKeyFile { .. } => "name a file that does not exist, for a new key",
            Self::Secret(SecretError::TooPermissive { path }) => {
                return format!("run chmod 600 {}", shell_quote(&path.to_string_lossy()));
            }
            Self::Secret(_) | Self::PassphraseFile { .. } => {
                "correct the file, its owner or its mode, or choose another one"
            }
            Self::NoTerminal => {
                "run the command in a terminal, or write the passphrase to a file of mode 0600 and \
                 set key.passphrase_file, or the variable SEALPOST_KEY_PASSPHRASE_FILE, to its path"
            }
            Self::CredentialMissing { name } => {
                return format!(
                    "pass it with LoadCredentialEncrypted={name} in the systemd unit; outside the \
                     service, run the command with systemd-run --property=LoadCredentialEncrypted=…"
                );
            }
            Self::Unwrap(UnwrapError::WrongPassphrase) => {
                "try the passphrase again; nothing was changed"
            }
            Self::Unwrap(UnwrapError::WrongKeyFile) => {
                "use the key file of this data directory; restore it from a copy"
            }
            Self::Unwrap(UnwrapError::WrongCredential) => {
                "pass the credential that was in use when the protection was chosen"
            }
            Self::Unwrap(UnwrapError::UnknownVersion { .. }) => "update this program",
            Self::Unwrap(UnwrapError::OutOfMemory { .. })
            | Self::Passphrase(PassphraseError::OutOfMemory) => {
                "free some memory or raise the limit, then run the command again"
            }
            Self::Unwrap(_) => "restore the file data-key from a copy, or restore a backup",
            Self::Passphrase(PassphraseError::TooShort { .. }) => {
                "choose a longer passphrase, for example five random words"
            }
            Self::DataDirectory(DataDirError::AlreadyInUse { .. }) => {
                "stop the node, for example with `systemctl stop sealpost`, then run the command \
                 again"
            }
            Self::DataDirectory(_) => "correct the data directory, or choose another one",
            Self::File { .. } => "check the path, its owner and the disk",
            Self::NotErased { .. } => "delete the old key file by hand",
            Self::Interrupted => "run the command again; nothing was changed",
        };
        next.to_owned()
    }
}
