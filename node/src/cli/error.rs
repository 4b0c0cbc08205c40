//! CLI errors: a message, the next step for the user, and the exit code.

use crate::{
    api::problem::{Problem, ProblemCode},
    daemon::{backup::BackupError, next_step, vault::VaultError},
};
use sealpost_node_core::text::visible_line;
use sealpost_service::{config::ConfigError, escape::escape_block};
use serde::Serialize;
use std::{borrow::Cow, io, process::ExitCode};

/// Error that ends a command.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// The daemon refused the request, or would refuse it.
    #[error(transparent)]
    Problem(#[from] Problem),
    /// The command failed before or after the daemon handled its request.
    #[error("{message}")]
    Failed { message: String, next: String },
    #[error("{message}")]
    Usage { message: String, next: String },
    /// The daemon does not respond.
    #[error("{message}")]
    Unreachable { message: String, next: String },
    /// `init` or `serve` failed.
    #[error("{0:#}")]
    Daemon(anyhow::Error),
    /// The user pressed Ctrl-C.
    #[error("interrupted")]
    Interrupted { next: Cow<'static, str> },
    #[error("cannot write to standard output: {0}")]
    Output(io::Error),
}

/// JSON document for an error, written to standard error with `--json`.
#[derive(Serialize)]
struct Document<'a> {
    code: &'a str,
    detail: String,
    next: &'a str,
}

impl From<BackupError> for CliError {
    fn from(error: BackupError) -> Self {
        let next = error.next();
        Self::failed(error.to_string(), next)
    }
}

impl From<VaultError> for CliError {
    fn from(error: VaultError) -> Self {
        match error {
            VaultError::Interrupted => Self::interrupted(),
            error => Self::failed(error.to_string(), error.next()),
        }
    }
}

impl From<ConfigError> for CliError {
    fn from(error: ConfigError) -> Self {
        Self::Daemon(error.into())
    }
}

impl CliError {
    /// Converts an error of `init` or `serve`.
    #[must_use]
    pub fn from_daemon(error: anyhow::Error) -> Self {
        match error.downcast::<VaultError>() {
            Ok(error) => error.into(),
            Err(error) => Self::Daemon(error),
        }
    }

    #[must_use]
    pub fn failed(message: impl Into<String>, next: impl Into<String>) -> Self {
        Self::Failed {
            message: message.into(),
            next: next.into(),
        }
    }

    #[must_use]
    pub fn usage(message: impl Into<String>, next: impl Into<String>) -> Self {
        Self::Usage {
            message: message.into(),
            next: next.into(),
        }
    }

    /// Creates the error for Ctrl-C during a command that may have done a part of its work.
    #[must_use]
    pub const fn interrupted() -> Self {
        Self::Interrupted {
            next: Cow::Borrowed("check what was done, then run the command again"),
        }
    }

    /// Creates the error that the daemon would return, for a request that the CLI rejects early.
    #[must_use]
    pub fn problem(code: ProblemCode, detail: impl Into<Cow<'static, str>>) -> Self {
        Self::Problem(Problem::new(code, detail))
    }

    /// Returns the machine-readable error code.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Problem(problem) => problem.code.as_str(),
            Self::Failed { .. } => "failed",
            Self::Usage { .. } => "usage",
            Self::Unreachable { .. } => "daemon_unreachable",
            Self::Daemon(_) => "daemon_failed",
            Self::Interrupted { .. } => "interrupted",
            Self::Output(_) => "output",
        }
    }

    /// Returns the next step for the user.
    #[must_use]
    pub fn next(&self) -> &str {
        match self {
            Self::Problem(problem) => &problem.next,
            Self::Failed { next, .. }
            | Self::Usage { next, .. }
            | Self::Unreachable { next, .. } => next,
            Self::Interrupted { next } => next,
            Self::Daemon(error) => match error.downcast_ref::<Problem>() {
                Some(problem) => &problem.next,
                None => next_step(error.as_ref()),
            },
            Self::Output(_) => "check the target of the output",
        }
    }

    /// Returns the exit code: 1 failed, 2 usage error, 3 daemon not reachable,
    /// 130 interrupted.
    #[must_use]
    pub fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self {
            // A reader such as `head` has closed the pipe because it has enough.
            Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => 0,
            Self::Problem(_) | Self::Failed { .. } | Self::Daemon(_) | Self::Output(_) => 1,
            Self::Usage { .. } => 2,
            Self::Unreachable { .. } => 3,
            Self::Interrupted { .. } => 130,
        })
    }

    /// Writes the error as text or as JSON.
    pub fn write(&self, out: &mut dyn io::Write, as_json: bool) -> io::Result<()> {
        let message = self.to_string();
        match self {
            Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            _ if as_json => {
                let document = Document {
                    code: self.code(),
                    detail: message,
                    next: self.next(),
                };
                writeln!(out, "{}", escape_block(&serde_json::to_string(&document)?))
            }
            _ => writeln!(
                out,
                "error: {}\nnext:  {}",
                visible_line(&message),
                visible_line(self.next())
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write_to_string(error: &CliError, as_json: bool) -> String {
        let mut out = Vec::new();
        error.write(&mut out, as_json).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn errors_are_escaped_and_end_with_the_next_step() {
        let detail = "no message \u{1b}[31mCMG-1\u{9b}2J\u{202e}";
        let error = CliError::problem(ProblemCode::NotFound, detail);
        let next = ProblemCode::NotFound.next();
        let text = format!("error: no message ␛[31mCMG-1\u{fffd}2J\u{fffd}\nnext:  {next}\n");
        assert_eq!(write_to_string(&error, false), text);
        let written = write_to_string(&error, true);
        assert!(
            !written.contains(['\u{1b}', '\u{9b}', '\u{202e}']),
            "{written}"
        );
        let json: serde_json::Value = serde_json::from_str(&written).unwrap();
        assert_eq!(
            (&json["code"], &json["detail"]),
            (&"not_found".into(), &detail.into())
        );
    }

    #[test]
    fn closed_pipe_is_not_an_error() {
        let error = CliError::Output(io::ErrorKind::BrokenPipe.into());
        assert_eq!(write_to_string(&error, false), "");
        assert_eq!(error.exit_code(), ExitCode::SUCCESS);
    }
}
