//! Errors of operator commands: a message, the next step, and an exit code.

use sealpost_proto::{ErrorCode, Problem};
use sealpost_service::escape::{escape_block, escape_line};
use serde::Serialize;
use std::{
    fmt::Display,
    io::{self, Write},
    process::ExitCode,
};

/// Reason why a command failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CliError {
    /// The relay refused the request.
    #[error("{}", .0.detail)]
    Refused(Problem),
    /// The command line is invalid.
    #[error("{message}")]
    Usage { message: String, next: String },
    /// The relay may be running, but the command cannot use it.
    #[error("{message}")]
    Failed { message: String, next: String },
    /// The relay is not running or does not respond.
    #[error("{message}")]
    Unreachable { message: String, next: String },
    /// Checks found problems, which are already printed.
    #[error("{failed} of {all} checks failed")]
    ChecksFailed { failed: usize, all: usize },
    /// Standard output cannot be written.
    #[error("cannot write the output: {0}")]
    Output(#[from] io::Error),
}

/// Failed command, with the format in which to report the error.
#[derive(Debug, thiserror::Error)]
#[error("{error}")]
pub(crate) struct CommandFailure {
    pub(super) error: CliError,
    pub(super) as_json: bool,
}

/// Error on standard error with `--json`.
#[derive(Serialize)]
struct ErrorDocument<'a> {
    code: &'a str,
    detail: String,
    next: &'a str,
}

impl CliError {
    pub(super) fn usage(message: impl Display, next: impl Into<String>) -> Self {
        Self::Usage {
            message: message.to_string(),
            next: next.into(),
        }
    }

    pub(super) fn failed(message: impl Into<String>, next: impl Into<String>) -> Self {
        Self::Failed {
            message: message.into(),
            next: next.into(),
        }
    }

    pub(super) fn unreachable(message: impl Into<String>, next: impl Into<String>) -> Self {
        Self::Unreachable {
            message: message.into(),
            next: next.into(),
        }
    }

    pub(super) fn not_found(message: impl Into<String>) -> Self {
        Self::Refused(Problem::new(ErrorCode::NotFound, message))
    }

    const fn code(&self) -> &'static str {
        match self {
            Self::Refused(problem) => problem.code.as_str(),
            Self::Usage { .. } => "usage",
            Self::Failed { .. } => "failed",
            Self::Unreachable { .. } => "relay_unreachable",
            Self::ChecksFailed { .. } => "checks_failed",
            Self::Output(_) => "output",
        }
    }

    fn next(&self) -> &str {
        match self {
            Self::Refused(problem) => next_step(problem.code),
            Self::Usage { next, .. }
            | Self::Failed { next, .. }
            | Self::Unreachable { next, .. } => next,
            Self::ChecksFailed { .. } => "follow the advice below each check that failed",
            Self::Output(_) => "check the destination of the output",
        }
    }
}

impl CommandFailure {
    /// Returns 1 if the request was refused or failed or a check failed, 2 for wrong usage, 3 if the relay does not
    /// respond.
    pub(super) fn exit_code(&self) -> ExitCode {
        ExitCode::from(match &self.error {
            // A broken pipe is normal: `head` closes it after the lines that it needs.
            CliError::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => 0,
            CliError::Refused(_)
            | CliError::Failed { .. }
            | CliError::ChecksFailed { .. }
            | CliError::Output(_) => 1,
            CliError::Usage { .. } => 2,
            CliError::Unreachable { .. } => 3,
        })
    }

    /// Writes the error as text or JSON.
    pub(super) fn write(&self, mut out: impl Write) -> io::Result<()> {
        let Self { error, as_json } = self;
        match error {
            CliError::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            _ if *as_json => {
                let document = ErrorDocument {
                    code: error.code(),
                    detail: error.to_string(),
                    next: error.next(),
                };
                writeln!(out, "{}", escape_block(&serde_json::to_string(&document)?))
            }
            _ => {
                let (error, next) = (error.to_string(), error.next());
                writeln!(
                    out,
                    "error: {}\nnext:  {}",
                    escape_line(&error),
                    escape_line(next)
                )
            }
        }
    }
}

/// Returns the next step after a refusal by the admin API.
const fn next_step(code: ErrorCode) -> &'static str {
    match code {
        ErrorCode::NotFound => {
            "list what exists: sealpost-relay accounts list, queue list or tokens list"
        }
        ErrorCode::Malformed => "correct the command",
        ErrorCode::Conflict => "choose another name, or revoke the existing token first",
        ErrorCode::QuotaExceeded => "revoke unused tokens: sealpost-relay tokens list",
        ErrorCode::AdminTokenInvalid => {
            "restart the relay; it writes its token to the data directory at startup"
        }
        ErrorCode::StorageFull => "free space on the disk of the data directory",
        _ => "try again in a moment; see the relay's log for details",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_of_the_relay_is_escaped() {
        let detail = "no account\u{1b}[2J\u{9b}2J\u{202e}\nnext:  rm -r /";
        for as_json in [false, true] {
            let error = CliError::Refused(Problem::new(ErrorCode::NotFound, detail));
            let mut written = Vec::new();
            CommandFailure { error, as_json }
                .write(&mut written)
                .unwrap();
            let written = String::from_utf8(written).unwrap();
            assert!(
                !written.contains(['\u{1b}', '\u{9b}', '\u{202e}']),
                "{written}"
            );
            assert_eq!(
                written.lines().count(),
                if as_json { 1 } else { 2 },
                "{written}"
            );
        }
    }
}
