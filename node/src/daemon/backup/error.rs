//! Errors of backups and restores, each with what to do next.

use crate::{
    daemon::{next_step::next_step, vault::VaultError},
    fault::Fault,
};
use sealpost_age::{EncryptError, PayloadError, ReadHeaderError, UnlockError};
use sealpost_service::{DataDirError, units::shell_quote};
use sealpost_sqlite::OpenError;
use std::{borrow::Cow, error::Error, io, path::PathBuf};

/// Error of a backup or a restore.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BackupError {
    #[error("{} exists already", path.display())]
    Exists { path: PathBuf },
    #[error("{} is from a backup or a restore that runs or was interrupted", path.display())]
    Unfinished { path: PathBuf },
    #[error("another backup of this node is running")]
    Running,
    /// The data key of the node cannot be opened or protected.
    #[error(transparent)]
    DataKey(#[from] VaultError),
    #[error("the database could not be copied: {0}")]
    Database(#[from] sealpost_sqlite::BackupError),
    #[error(transparent)]
    OpenDatabase(#[from] OpenError),
    #[error(transparent)]
    Fault(#[from] Fault),
    #[error("the backup could not be encrypted: {0}")]
    Encrypt(#[from] EncryptError),
    #[error("{}: {source}", path.display())]
    File { path: PathBuf, source: io::Error },
    #[error("{}: {source}", path.display())]
    NotEncrypted {
        path: PathBuf,
        source: ReadHeaderError,
    },
    /// The file with the passphrase or the identities cannot be used.
    #[error("{}: {reason}", path.display())]
    Secret { path: PathBuf, reason: String },
    #[error(transparent)]
    Unlock(#[from] UnlockError),
    /// The backup is encrypted to a recipient and not to a passphrase, or the other way round.
    #[error("the backup is encrypted to {0}")]
    WrongProtection(&'static str),
    #[error("the file is not a backup of a Sealpost node")]
    NotABackup,
    #[error("the backup was made by a newer version of this program ({program})")]
    Newer { program: String },
    #[error("the backup is damaged: {0}")]
    Damaged(String),
    #[error("the backup is of the node {name:?} with the fingerprint {fingerprint}")]
    OtherNode { name: String, fingerprint: String },
    #[error("the data directory {} is not empty", path.display())]
    NotEmpty { path: PathBuf },
    #[error(transparent)]
    DataDirectory(#[from] DataDirError),
}

impl BackupError {
    /// Returns the next step for the user.
    pub(crate) fn next(&self) -> Cow<'static, str> {
        let next = match self {
            Self::Exists { .. } => "choose another name; an existing file is never overwritten",
            Self::Unfinished { path } => {
                let path = shell_quote(&path.to_string_lossy());
                let next = format!("if none is running, run rm -r {path}, then the command again");
                return next.into();
            }
            Self::Running => "wait until it has finished, then run the command again",
            Self::DataKey(error) => return error.next().into(),
            Self::Database(error) => next_step(error),
            Self::OpenDatabase(error) => next_step(error),
            Self::Fault(error) => next_step(error),
            Self::Encrypt(_) => "check the recipients and the free space on the disk",
            Self::File { source, .. } if source.kind() == io::ErrorKind::StorageFull => {
                "free some space or choose another disk; nothing was left behind"
            }
            Self::File { .. } => "check the path, its owner and the disk",
            Self::Secret { .. } => "correct the file, or choose another one",
            Self::NotEncrypted { .. } | Self::NotABackup => {
                "choose a file that `sealpost backup` wrote"
            }
            Self::Unlock(UnlockError::WrongPassphrase) => {
                "try the passphrase again; nothing was written"
            }
            Self::Unlock(UnlockError::NoMatchingIdentity) => {
                "pass the key file of the recipient of the backup with --identity; nothing was \
                 written"
            }
            Self::Unlock(_) | Self::Damaged(_) => "use another copy of the backup, or an older one",
            Self::WrongProtection(_) => {
                "pass --identity KEYFILE for a recipient, or --passphrase-file FILE"
            }
            Self::Newer { .. } => "install that version or a later one, then run the command again",
            Self::OtherNode { .. } => {
                "choose a backup of the expected node, or leave out --fingerprint"
            }
            Self::NotEmpty { .. } => {
                "name a new directory with --data: a restore never replaces a node. Move the old \
                 directory away first if it belongs to this node"
            }
            Self::DataDirectory(error) => next_step(error),
        };
        next.into()
    }

    /// Describes why the archive cannot be read: it is damaged, or the disk fails.
    #[expect(clippy::needless_pass_by_value, reason = "a function for `map_err`")]
    pub(super) fn from_read(error: io::Error) -> Self {
        // The reader of the archive wraps the error of the decryption.
        let mut cause = error.get_ref().map(|inner| inner as &(dyn Error + 'static));
        while let Some(inner) = cause {
            if let Some(payload) = inner.downcast_ref::<PayloadError>() {
                return Self::Damaged(payload.to_string());
            }
            cause = match inner.downcast_ref::<io::Error>() {
                Some(wrapped) => wrapped.get_ref().map(|inner| inner as _),
                None => inner.source(),
            };
        }
        Self::Damaged(error.to_string())
    }
}
