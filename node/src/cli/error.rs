//! What the CLI says when something did not work: what, and what to do next; and the exit code that goes with it.

use crate::api::problem::{Problem, ProblemCode};
use sealpost_node_core::text::visible_line;
use serde::Serialize;
use std::{borrow::Cow, io, process::ExitCode};

/// Why a command ended without doing all it was asked to.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// The daemon refused, or would refuse.
    #[error(transparent)]
    Problem(#[from] Problem),
    /// Refused here.
    #[error("{what}")]
    Refused {
        /// What is wrong.
        what: String,
        /// What to do.
        next: String,
    },
    /// The command line asks for something that makes no sense.
    #[error("{what}")]
    Usage {
        /// What is wrong.
        what: String,
        /// What to do.
        next: String,
    },
    /// Nobody answers at the daemon's address.
    #[error("{what}")]
    Unreachable {
        /// What was tried.
        what: String,
        /// How to start it.
        next: String,
    },
    /// The daemon itself ended with an error.
    #[error("{0:#}")]
    Daemon(anyhow::Error),
    /// Ctrl-C.
    #[error("interrupted")]
    Interrupted,
    /// Standard output does not take any more.
    #[error("the output cannot be written: {0}")]
    Output(io::Error),
}

/// The form of an error with `--json`, on standard error.
#[derive(Serialize)]
struct Document<'a> {
    code: &'a str,
    detail: String,
    next: &'a str,
}

impl CliError {
    /// Refused here, with words.
    #[must_use]
    pub fn refused(what: impl Into<String>, next: impl Into<String>) -> Self {
        Self::Refused {
            what: what.into(),
            next: next.into(),
        }
    }

    /// Wrong use, with words.
    #[must_use]
    pub fn usage(what: impl Into<String>, next: impl Into<String>) -> Self {
        Self::Usage {
            what: what.into(),
            next: next.into(),
        }
    }

    /// A refusal of the contract that the CLI already knows.
    #[must_use]
    pub fn problem(code: ProblemCode, detail: impl Into<Cow<'static, str>>) -> Self {
        Self::Problem(Problem::new(code, detail))
    }

    /// The word that programs read.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Problem(problem) => problem.code.as_str(),
            Self::Refused { .. } => "refused",
            Self::Usage { .. } => "usage",
            Self::Unreachable { .. } => "daemon_unreachable",
            Self::Daemon(_) => "daemon_failed",
            Self::Interrupted => "interrupted",
            Self::Output(_) => "output",
        }
    }

    /// What to do now.
    #[must_use]
    pub fn next(&self) -> &str {
        match self {
            Self::Problem(problem) => &problem.next,
            Self::Refused { next, .. }
            | Self::Usage { next, .. }
            | Self::Unreachable { next, .. } => next,
            Self::Daemon(error) => match error.downcast_ref::<Problem>() {
                Some(problem) => &problem.next,
                None => "correct what it says, then run the command again",
            },
            Self::Interrupted => "run it again when you like: nothing was left half-done",
            Self::Output(_) => "check where the output goes",
        }
    }

    /// The exit code: 1 refused or failed, 2 wrong use, 3 daemon not reachable, 130 interrupted.
    #[must_use]
    pub fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self {
            // Who reads through `head` has seen what was wanted.
            Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => 0,
            Self::Problem(_) | Self::Refused { .. } | Self::Daemon(_) | Self::Output(_) => 1,
            Self::Usage { .. } => 2,
            Self::Unreachable { .. } => 3,
            Self::Interrupted => 130,
        })
    }

    /// Writes it for people, or as JSON.
    ///
    /// # Errors
    /// When `out` does not take it.
    pub fn write(&self, out: &mut dyn io::Write, as_json: bool) -> io::Result<()> {
        let what = self.to_string();
        match self {
            Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            _ if as_json => {
                let document = Document {
                    code: self.code(),
                    detail: what,
                    next: self.next(),
                };
                writeln!(out, "{}", serde_json::to_string(&document)?)
            }
            _ => writeln!(
                out,
                "error: {}\nnext:  {}",
                visible_line(&what),
                visible_line(self.next())
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(error: &CliError, as_json: bool) -> String {
        let mut out = Vec::new();
        error.write(&mut out, as_json).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn an_error_ends_with_what_to_do() {
        let error = CliError::problem(ProblemCode::NotFound, "no message \u{1b}[31mCMG-1");
        let text = "error: no message ␛[31mCMG-1\nnext:  list what there is (`sealpost connections`, `sealpost inbox --all`) and take an id from there\n";
        assert_eq!(written(&error, false), text);
        let json: serde_json::Value = serde_json::from_str(&written(&error, true)).unwrap();
        assert_eq!(json["code"], "not_found");
    }

    #[test]
    fn a_closed_pipe_is_no_error() {
        let error = CliError::Output(io::ErrorKind::BrokenPipe.into());
        assert_eq!(written(&error, false), "");
        assert_eq!(error.exit_code(), ExitCode::SUCCESS);
    }
}
