use sealpost_proto::Problem;
use std::{error::Error, time::Duration};

/// Error returned by a request to the relay.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ClientError {
    /// No response: the relay or the network is down. The request may have arrived.
    #[error("the relay cannot be reached: {reason}")]
    Unreachable {
        /// What happened to the request.
        loss: RequestLoss,
        /// Cause, without the URL.
        reason: String,
    },
    /// The relay responded with a problem.
    #[error(transparent)]
    Problem(#[from] Problem),
    /// A failure without a problem document, which a proxy in front of the relay sends.
    #[error("a proxy in front of the relay responded with {status}, not the relay itself")]
    Proxy {
        /// HTTP status of the response.
        status: u16,
        /// Delay that the header `Retry-After` requests.
        retry_after: Option<Duration>,
    },
    /// The address of the relay leads to another one, which the client does not follow: it would
    /// send signed requests to a server that the node was not created for.
    #[error(
        "the relay's address redirects to {target} ({status}), and the node follows no redirects: \
         the relay's operator has to serve the address that the node was created with, or the \
         node has to be created with --relay {target}"
    )]
    Redirected {
        /// HTTP status of the response.
        status: u16,
        /// Origin to which the address leads.
        target: String,
    },
    /// A response that no relay sends: another server runs at the address, or a proxy responded.
    #[error("the response is not from a relay: {reason}")]
    Unexpected {
        /// Description of the response.
        reason: String,
    },
}

/// What happened to a request that has no response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequestLoss {
    /// There was no connection, so it was not sent.
    NotSent,
    /// It was not answered in time.
    TimedOut,
    /// The connection was cut.
    Interrupted,
}

impl ClientError {
    /// Whether the same request, unchanged, may succeed later.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        match self {
            // A proxy whose relay is down responds with its own error page.
            Self::Unreachable { .. }
            | Self::Proxy { .. }
            | Self::Redirected { .. }
            | Self::Unexpected { .. } => true,
            Self::Problem(problem) => problem.code.is_retryable(),
        }
    }

    /// Returns the delay that the relay, or a proxy in front of it, requests before a retry.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Problem(problem) => problem.retry_after_ms.map(Duration::from_millis),
            Self::Proxy { retry_after, .. } => *retry_after,
            Self::Unreachable { .. } | Self::Redirected { .. } | Self::Unexpected { .. } => None,
        }
    }

    pub(crate) fn no_response() -> Self {
        Self::timed_out(RequestLoss::TimedOut)
    }

    fn timed_out(loss: RequestLoss) -> Self {
        Self::Unreachable {
            loss,
            reason: "no response in time".to_owned(),
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
        let loss = if error.is_connect() {
            RequestLoss::NotSent
        } else if error.is_timeout() {
            RequestLoss::TimedOut
        } else {
            RequestLoss::Interrupted
        };
        if error.is_timeout() {
            return Self::timed_out(loss);
        }
        // The root cause is the most specific, and never contains the URL.
        Self::Unreachable {
            loss,
            reason: root_cause(&error.without_url()),
        }
    }
}

fn root_cause(error: &dyn Error) -> String {
    let mut root_cause = error;
    while let Some(cause) = root_cause.source() {
        root_cause = cause;
    }
    root_cause.to_string()
}
