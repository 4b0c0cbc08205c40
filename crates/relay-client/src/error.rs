use sealpost_proto::Problem;
use std::{error::Error, time::Duration};

/// Error returned by a request to the relay.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ClientError {
    /// No response: the relay or the network is down. The request may have arrived.
    #[error("the relay cannot be reached: {reason}")]
    Unreachable {
        /// Cause, without the URL.
        reason: String,
    },
    /// The relay responded with a problem.
    #[error(transparent)]
    Problem(#[from] Problem),
    /// A response that no relay sends: another server runs at the address, or a proxy responded.
    #[error("the response is not from a relay: {reason}")]
    Unexpected {
        /// Description of the response.
        reason: String,
    },
}

impl ClientError {
    /// Whether the same request, unchanged, may succeed later.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        match self {
            // A proxy whose relay is down responds with its own error page.
            Self::Unreachable { .. } | Self::Unexpected { .. } => true,
            Self::Problem(problem) => problem.code.is_retryable(),
        }
    }

    /// Returns the delay that the relay requests before a retry.
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
            // The root cause is the most specific, and never contains the URL.
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
