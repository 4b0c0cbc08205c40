//! The error type of the node's transactions and of its store.

use sealpost_node_core::model::{Refusal, RefusalCode};
use sealpost_sqlite::{Damaged, Failure, ReadError, RowError, WriteError};
use std::borrow::Cow;

/// Why a transaction was rolled back: its request is refused, or the node cannot perform it now.
///
/// One type for both, because each of them ends a transaction at any depth without a change. The
/// local API maps it to an HTTP status. Only [`Fault::Refused`] is meant for the caller of the
/// request; a task logs the others and retries.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// The request is refused; the caller has to change it.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// A write needs more disk space; a retry succeeds once there is some.
    #[error("the disk is full")]
    DiskFull,
    /// Too many jobs wait for the database; a retry may succeed.
    #[error("the node is overloaded")]
    Busy,
    /// A row contains a value that this program cannot have written.
    #[error(transparent)]
    Damaged(#[from] Damaged),
    /// A bug in this program, a failing disk, or a request during shutdown.
    #[error("{reason}")]
    Failed {
        /// Description for the log; contains no secrets.
        reason: String,
    },
}

impl Fault {
    pub fn failed(reason: impl Into<String>) -> Self {
        Self::Failed {
            reason: reason.into(),
        }
    }

    pub fn refused(code: RefusalCode, detail: impl Into<Cow<'static, str>>) -> Self {
        Self::Refused(Refusal::new(code, detail))
    }

    /// Refuses a request and says what to do now.
    pub fn refused_with_next(
        code: RefusalCode,
        detail: impl Into<Cow<'static, str>>,
        next: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self::Refused(Refusal::new(code, detail).with_next(next))
    }

    /// Refuses a request because no resource has this id.
    pub fn not_found(noun: &str, id: impl std::fmt::Display) -> Self {
        Self::refused(RefusalCode::NotFound, format!("there is no {noun} {id}"))
    }

    pub(crate) fn from_write(error: WriteError<Self>) -> Self {
        match error {
            WriteError::Job(fault) => fault,
            WriteError::Busy => Self::Busy,
            WriteError::DiskFull => Self::DiskFull,
            WriteError::Failed { reason } => Self::Failed { reason },
            WriteError::Closed => Self::failed("the node is shutting down"),
        }
    }

    pub(crate) fn from_read(error: ReadError<Self>) -> Self {
        match error {
            ReadError::Job(fault) => fault,
            ReadError::Busy => Self::Busy,
            ReadError::Failed { reason } => Self::Failed { reason },
            ReadError::Closed => Self::failed("the node is shutting down"),
        }
    }
}

impl From<RowError> for Fault {
    fn from(error: RowError) -> Self {
        match error {
            RowError::Damaged(damaged) => Self::Damaged(damaged),
            RowError::Failed(failure) => failure.into(),
        }
    }
}

impl From<Failure> for Fault {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::DiskFull => Self::DiskFull,
            failure @ Failure::Failed { .. } => Self::failed(failure.to_string()),
        }
    }
}

impl From<rusqlite::Error> for Fault {
    fn from(error: rusqlite::Error) -> Self {
        Failure::from(error).into()
    }
}

impl From<std::io::Error> for Fault {
    fn from(error: std::io::Error) -> Self {
        match error.kind() {
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => Self::DiskFull,
            _ => Self::failed(format!("failed to read or write a file: {error}")),
        }
    }
}
