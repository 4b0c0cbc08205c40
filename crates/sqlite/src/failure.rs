use rusqlite::{Error, ErrorCode, ffi};
use sealpost_proto::limits::DISK_FULL_THRESHOLD_BYTES;
use std::path::Path;

/// A SQLite failure, classified by what the caller can do about it. Stores convert it to their own
/// errors, so that `rusqlite::Error` does not leave them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// No space is left on the disk; the operation can succeed again once there is.
    #[error("the disk is full")]
    DiskFull,
    /// Any other failure.
    #[error("the database failed: {reason}")]
    Failed {
        /// SQLite's error message, without stored values.
        reason: String,
    },
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::from(&error)
    }
}

impl From<&Error> for Failure {
    fn from(error: &Error) -> Self {
        if is_disk_full(error) {
            Self::DiskFull
        } else {
            Self::Failed {
                reason: error.to_string(),
            }
        }
    }
}

impl Failure {
    /// Guesses why SQLite rolled back a whole transaction, which it does not report: most often the
    /// disk is full.
    pub(crate) fn for_lost_transaction(path: Option<&Path>) -> Self {
        let space = path
            .and_then(Path::parent)
            .and_then(|directory| fs4::available_space(directory).ok());
        match space {
            Some(bytes) if bytes < DISK_FULL_THRESHOLD_BYTES => Self::DiskFull,
            _ => Self::Failed {
                reason: "the transaction was rolled back by SQLite".to_owned(),
            },
        }
    }
}

/// Recognises `SQLITE_FULL` and the I/O error of a shared-memory file that cannot grow.
fn is_disk_full(error: &Error) -> bool {
    let Error::SqliteFailure(code, _) = error else {
        return false;
    };
    code.code == ErrorCode::DiskFull || code.extended_code == ffi::SQLITE_IOERR_SHMSIZE
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn full_disks_are_recognised() {
        for (code, expected) in [
            (ffi::SQLITE_FULL, true),
            (ffi::SQLITE_IOERR_SHMSIZE, true),
            (ffi::SQLITE_IOERR, false),
            (ffi::SQLITE_CORRUPT, false),
        ] {
            let error = Error::SqliteFailure(ffi::Error::new(code), None);
            assert_eq!(
                Failure::from(error) == Failure::DiskFull,
                expected,
                "{code}"
            );
        }
    }
}
