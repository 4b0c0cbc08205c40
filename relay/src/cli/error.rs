//! What a command says when it did not work: what, and what to do next; and the exit code that goes with it.

use sealpost_proto::{ErrorCode, Problem};
use serde::Serialize;
use std::{
    fmt::Display,
    io::{self, Write},
    process::ExitCode,
};

/// Why a command did not do what it was asked to.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CliError {
    /// The relay refused.
    #[error("{}", .0.detail)]
    Refused(Problem),
    /// The command line asks for something that makes no sense.
    #[error("{what}")]
    Usage {
        /// What is wrong.
        what: String,
        /// What to do.
        next: String,
    },
    /// Nobody answers.
    #[error("{what}")]
    Unreachable {
        /// What was tried.
        what: String,
        /// What to do.
        next: String,
    },
    /// Standard output does not take any more.
    #[error("the output cannot be written: {0}")]
    Output(#[from] io::Error),
}

/// The end of a command that did not work, on its way to standard error.
#[derive(Debug, thiserror::Error)]
#[error("{error}")]
pub(crate) struct Failed {
    /// Why.
    pub(super) error: CliError,
    /// Whether programs read it.
    pub(super) as_json: bool,
}

/// The form of an error with `--json`, on standard error.
#[derive(Serialize)]
struct Document<'a> {
    code: &'a str,
    detail: String,
    next: &'a str,
}

impl CliError {
    pub(super) fn usage(what: impl Display, next: impl Into<String>) -> Self {
        Self::Usage {
            what: what.to_string(),
            next: next.into(),
        }
    }

    pub(super) fn unreachable(what: impl Into<String>, next: impl Into<String>) -> Self {
        Self::Unreachable {
            what: what.into(),
            next: next.into(),
        }
    }

    pub(super) fn not_found(what: impl Into<String>) -> Self {
        Self::Refused(Problem::new(ErrorCode::NotFound, what))
    }

    const fn code(&self) -> &'static str {
        match self {
            Self::Refused(problem) => problem.code.as_str(),
            Self::Usage { .. } => "usage",
            Self::Unreachable { .. } => "relay_unreachable",
            Self::Output(_) => "output",
        }
    }

    fn next(&self) -> &str {
        match self {
            Self::Refused(problem) => next(problem.code),
            Self::Usage { next, .. } | Self::Unreachable { next, .. } => next,
            Self::Output(_) => "check where the output goes",
        }
    }
}

impl Failed {
    /// 1 refused or failed, 2 wrong use, 3 the relay does not answer.
    pub(super) fn exit_code(&self) -> ExitCode {
        ExitCode::from(match &self.error {
            // Who reads through `head` has seen what was wanted.
            CliError::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => 0,
            CliError::Refused(_) | CliError::Output(_) => 1,
            CliError::Usage { .. } => 2,
            CliError::Unreachable { .. } => 3,
        })
    }

    /// Writes it for people, or as JSON.
    pub(super) fn write(&self, mut out: impl Write) -> io::Result<()> {
        let Self { error, as_json } = self;
        match error {
            CliError::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            _ if *as_json => {
                let document = Document {
                    code: error.code(),
                    detail: error.to_string(),
                    next: error.next(),
                };
                writeln!(out, "{}", serde_json::to_string(&document)?)
            }
            _ => writeln!(out, "error: {error}\nnext:  {}", error.next()),
        }
    }
}

/// What to do about a refusal of the operator's API.
const fn next(code: ErrorCode) -> &'static str {
    match code {
        ErrorCode::NotFound => {
            "list what there is (sealpost-relay accounts list, queue list, tokens list)"
        }
        ErrorCode::Malformed => "correct the command",
        ErrorCode::Conflict => "choose another name, or revoke the token of this name first",
        ErrorCode::QuotaExceeded => {
            "revoke tokens that nobody needs any more (sealpost-relay tokens list)"
        }
        ErrorCode::AdminTokenInvalid => {
            "start the relay again: it writes its token into the data folder"
        }
        ErrorCode::StorageFull => "make room on the disk of the data folder",
        _ => "try again in a moment; the relay's log says more",
    }
}
