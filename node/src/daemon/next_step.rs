//! Next steps for errors of the daemon and of backups.

use super::error::DaemonError;
use crate::fault::Fault;
use sealpost_service::{DataDirError, SecretError, config::ConfigError};
use sealpost_sqlite::{BackupError, OpenError};
use std::{error::Error, io};

const FREE_SPACE: &str = "free some space on the disk, then run the command again";
const CHECK_PERMISSIONS: &str =
    "check the owner and the permissions, or run the command as the user of the node";

/// Returns what to do about an error, from the first of its causes that is known.
pub(crate) fn next_step(error: &(dyn Error + 'static)) -> &'static str {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(next) = next_step_for_cause(error) {
            return next;
        }
        cause = error.source();
    }
    "see the log of the node"
}

fn next_step_for_cause(error: &(dyn Error + 'static)) -> Option<&'static str> {
    if let Some(error) = error.downcast_ref::<DaemonError>() {
        return Some(error.next());
    }
    if let Some(error) = error.downcast_ref::<OpenError>() {
        return Some(next_for_database(error));
    }
    if let Some(error) = error.downcast_ref::<DataDirError>() {
        return Some(next_for_directory(error));
    }
    if let Some(error) = error.downcast_ref::<Fault>() {
        return next_for_fault(error);
    }
    if error.is::<ConfigError>() {
        return Some("correct the setting, then run the command again");
    }
    if error.is::<SecretError>() {
        return Some(CHECK_PERMISSIONS);
    }
    if let Some(BackupError::DiskFull) = error.downcast_ref() {
        return Some(FREE_SPACE);
    }
    match error.downcast_ref::<io::Error>()?.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Some(FREE_SPACE),
        io::ErrorKind::PermissionDenied => Some(CHECK_PERMISSIONS),
        _ => None,
    }
}

const fn next_for_database(error: &OpenError) -> &'static str {
    match error {
        OpenError::NewerSchema { .. } => "install the newer version again",
        OpenError::NotOurs { .. } => "check --data, or restore a backup",
        OpenError::Locked { .. } => "stop the process that uses the database",
        OpenError::DiskFull => FREE_SPACE,
        OpenError::Failed { .. } => {
            "check the owner and the permissions of the data directory, and the disk"
        }
    }
}

fn next_for_directory(error: &DataDirError) -> &'static str {
    match error {
        DataDirError::AlreadyInUse { .. } => {
            "stop the process that uses it, or choose another directory with --data"
        }
        DataDirError::NotADirectory { .. } => "choose another directory with --data",
        DataDirError::TooPermissive { .. } => "deny other users access to it with chmod",
        DataDirError::Failed { source, .. } if source.kind() == io::ErrorKind::StorageFull => {
            FREE_SPACE
        }
        DataDirError::Failed { .. } => CHECK_PERMISSIONS,
    }
}

const fn next_for_fault(fault: &Fault) -> Option<&'static str> {
    match fault {
        Fault::DiskFull => Some(FREE_SPACE),
        Fault::Busy => Some("try again in a moment"),
        Fault::Damaged(_) => Some("restore a backup"),
        Fault::Refused(_) | Fault::Failed { .. } => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context as _;
    use std::path::PathBuf;

    fn next_for(error: impl Error + Send + Sync + 'static) -> &'static str {
        let wrapped = Err::<(), _>(error).context("starting").unwrap_err();
        next_step(wrapped.as_ref())
    }

    #[test]
    fn step_follows_from_the_wrapped_cause() {
        let path = PathBuf::from("/data");
        for (next, part) in [
            (next_for(Fault::DiskFull), "free some space"),
            (next_for(OpenError::DiskFull), "free some space"),
            (next_for(BackupError::DiskFull), "free some space"),
            (
                next_for(OpenError::Locked { path: path.clone() }),
                "stop the process",
            ),
            (
                next_for(OpenError::NotOurs { path: path.clone() }),
                "restore a backup",
            ),
            (
                next_for(DataDirError::AlreadyInUse { path }),
                "stop the process",
            ),
            (
                next_for(io::Error::from(io::ErrorKind::PermissionDenied)),
                "the permissions",
            ),
            (next_for(io::Error::other("?")), "see the log"),
        ] {
            assert!(next.contains(part), "{next}");
        }
    }
}
