use rusqlite::{Error, ErrorCode, ffi};
use sealpost_proto::limits::DISK_FULL_BELOW_BYTES;
use std::path::Path;

/// What went wrong inside SQLite, sorted by what can be done about it. Stores turn it into their own errors, so that
/// `rusqlite::Error` never leaves them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// No space left: it works again when there is.
    #[error("the disk is full")]
    DiskFull,
    /// Anything else.
    #[error("the database failed: {reason}")]
    Failed {
        /// SQLite's words; they name no values.
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
    /// Why SQLite gave up a whole transaction by itself, which it does not tell: by far most often a full disk.
    pub(crate) fn of_lost_transaction(path: Option<&Path>) -> Self {
        let space = path
            .and_then(Path::parent)
            .and_then(|folder| fs4::available_space(folder).ok());
        match space {
            Some(bytes) if bytes < DISK_FULL_BELOW_BYTES => Self::DiskFull,
            _ => Self::Failed {
                reason: "the transaction was rolled back by SQLite".to_owned(),
            },
        }
    }
}

/// SQLITE_FULL, and the one I/O error that a full disk shows itself as: the shared-memory file cannot grow.
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
    fn a_full_disk_is_told_from_the_rest() {
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
