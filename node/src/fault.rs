//! What can go wrong inside the daemon, told apart by who has to do something about it.

use crate::api::problem::{Problem, ProblemCode};
use sealpost_sqlite::{ReadError, WriteError};

/// Why an operation of the daemon did not happen. In every case nothing of it did.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// The caller asked for something that cannot be; it is told what to do.
    #[error(transparent)]
    Refused(#[from] Problem),
    /// No space left.
    #[error("the disk is full")]
    DiskFull,
    /// Too much at once.
    #[error("the node is busy")]
    Busy,
    /// Our own fault, or the disk's.
    #[error("{reason}")]
    Failed {
        /// For the log; holds no secret.
        reason: String,
    },
}

impl Fault {
    /// A failure with its reason.
    #[must_use]
    pub fn failed(reason: impl Into<String>) -> Self {
        Self::Failed {
            reason: reason.into(),
        }
    }

    /// A refusal with its code and detail.
    #[must_use]
    pub fn refused(code: ProblemCode, detail: impl Into<std::borrow::Cow<'static, str>>) -> Self {
        Self::Refused(Problem::new(code, detail))
    }

    pub(crate) fn from_write(error: WriteError<Self>) -> Self {
        match error {
            WriteError::Job(fault) => fault,
            WriteError::Busy => Self::Busy,
            WriteError::DiskFull => Self::DiskFull,
            WriteError::Failed { reason } => Self::Failed { reason },
            WriteError::Closed => Self::failed("the node is stopping"),
        }
    }

    pub(crate) fn from_read(error: ReadError<Self>) -> Self {
        match error {
            ReadError::Job(fault) => fault,
            ReadError::Busy => Self::Busy,
            ReadError::Failed { reason } => Self::Failed { reason },
            ReadError::Closed => Self::failed("the node is stopping"),
        }
    }
}

impl From<rusqlite::Error> for Fault {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(rusqlite::ErrorCode::DiskFull) => Self::DiskFull,
            _ => Self::failed(format!("the database failed: {error}")),
        }
    }
}

impl From<std::io::Error> for Fault {
    fn from(error: std::io::Error) -> Self {
        match error.kind() {
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => Self::DiskFull,
            _ => Self::failed(format!("reading or writing a file failed: {error}")),
        }
    }
}
