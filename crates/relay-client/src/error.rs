use sealpost_proto::Problem;
use std::{error::Error, time::Duration};

/// Why a route was not answered as wished.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ClientError {
    /// No response: the relay is down, or the way to it. Whether the request arrived is not known.
    #[error("the relay cannot be reached: {reason}")]
    Unreachable {
        /// What went wrong, without the URL.
        reason: String,
    },
    /// The relay said no.
    #[error(transparent)]
    Problem(#[from] Problem),
    /// An response that no relay gives: something else answers there, or stands in between.
    #[error("the relay's response makes no sense: {reason}")]
    Unexpected {
        /// What came.
        reason: String,
    },
}

impl ClientError {
    /// Whether the same request may succeed later without being changed.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        match self {
            // A proxy that finds no relay behind it answers in its own words.
            Self::Unreachable { .. } | Self::Unexpected { .. } => true,
            Self::Problem(problem) => problem.code.is_retryable(),
        }
    }

    /// When the relay wants to be asked again, if it said so.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Problem(problem) => problem.retry_after_ms.map(Duration::from_millis),
            Self::Unreachable { .. } | Self::Unexpected { .. } => None,
        }
    }

    pub(crate) fn unexpected(reason: impl Into<String>) -> Self {
        Self::Unexpected {
            reason: reason.into(),
        }
    }
}

impl From<reqwest::Error> for ClientError {
    fn from(error: reqwest::Error) -> Self {
        let reason = if error.is_timeout() {
            "no response in time".to_owned()
        } else {
            // The root_cause cause says most, and never holds the URL.
            root_cause(&error.without_url())
        };
        Self::Unreachable { reason }
    }
}

fn root_cause(error: &dyn Error) -> String {
    let mut root_cause = error;
    while let Some(cause) = root_cause.source() {
        root_cause = cause;
    }
    root_cause.to_string()
}
