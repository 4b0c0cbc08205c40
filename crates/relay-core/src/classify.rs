//! Classification of a webhook call by its result (`docs/protocol.md`, *Failures*).

use sealpost_proto::limits::{RETRY_AFTER_MAX, RETRY_AFTER_MIN};
use std::time::Duration;

/// Result of a call, as the HTTP client observed it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallResult {
    /// No connection: name resolution, address, TCP or TLS failed.
    NotConnected,
    /// No complete response in time.
    TimedOut,
    /// No complete response on an established connection: reset, or not HTTP.
    Interrupted,
    /// The endpoint responded.
    Status {
        /// HTTP status, 100 to 999.
        status: u16,
        /// Header `Retry-After`, if present and valid.
        retry_after: Option<Duration>,
        /// Whether the body of a 200 response has the expected format.
        is_parseable: bool,
    },
}

/// Outcome class of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// 200 with results.
    Succeeded,
    /// The endpoint cannot be reached or limits the rate of calls. This and the next two classes
    /// indicate an outage, not a problem with the content.
    Unreachable,
    /// No response in time, perhaps because the call was too large for the link.
    TimedOut,
    /// A proxy in front of the endpoint reports an outage, perhaps because the call was too large.
    Unavailable,
    /// The endpoint failed, perhaps because of the content or size of the call.
    EndpointError,
    /// The endpoint or a proxy in front of it refused the call because of its size.
    TooLarge,
    /// The endpoint requested a delay, between [`RETRY_AFTER_MIN`] and [`RETRY_AFTER_MAX`].
    RetryAfter(Duration),
    /// The endpoint refused the call.
    Refused,
    /// The endpoint responded with 410 and refuses all further calls.
    Gone,
}

/// Classifies the result of a call.
///
/// | result | class |
/// |---|---|
/// | 200 that parses | succeeded |
/// | no connection, 425, 429 | unreachable |
/// | timeout, 408, 504 | timed out |
/// | 502, 503 | unavailable |
/// | reset, another 2xx, 200 that does not parse, any other 5xx | endpoint error |
/// | 413 | too large |
/// | 429, 503, 504 with `Retry-After` | retry after |
/// | 410 | gone |
/// | any other status | refused |
#[must_use]
pub fn classify(call: CallResult) -> Class {
    match call {
        CallResult::NotConnected => Class::Unreachable,
        CallResult::TimedOut => Class::TimedOut,
        CallResult::Interrupted => Class::EndpointError,
        CallResult::Status {
            status: 200,
            is_parseable: true,
            ..
        } => Class::Succeeded,
        CallResult::Status {
            status: 429 | 503 | 504,
            retry_after: Some(wait),
            ..
        } => Class::RetryAfter(wait.clamp(RETRY_AFTER_MIN, RETRY_AFTER_MAX)),
        CallResult::Status { status: 410, .. } => Class::Gone,
        CallResult::Status { status: 413, .. } => Class::TooLarge,
        CallResult::Status {
            status: 408 | 504, ..
        } => Class::TimedOut,
        CallResult::Status {
            status: 425 | 429, ..
        } => Class::Unreachable,
        CallResult::Status {
            status: 502 | 503, ..
        } => Class::Unavailable,
        CallResult::Status {
            status: 200..=299 | 500..=599,
            ..
        } => Class::EndpointError,
        CallResult::Status { .. } => Class::Refused,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(status: u16, retry_after: Option<u64>, parses: bool) -> Class {
        classify(CallResult::Status {
            status,
            retry_after: retry_after.map(Duration::from_secs),
            is_parseable: parses,
        })
    }

    #[test]
    fn every_status_has_a_class() {
        assert_eq!(classify(CallResult::NotConnected), Class::Unreachable);
        assert_eq!(classify(CallResult::TimedOut), Class::TimedOut);
        assert_eq!(classify(CallResult::Interrupted), Class::EndpointError);
        assert_eq!(status(200, None, true), Class::Succeeded);
        assert_eq!(status(410, None, false), Class::Gone);
        assert_eq!(status(413, Some(3), false), Class::TooLarge);
        for code in [408, 504] {
            assert_eq!(status(code, None, false), Class::TimedOut, "{code}");
        }
        for code in [425, 429] {
            assert_eq!(status(code, None, false), Class::Unreachable, "{code}");
        }
        for code in [502, 503] {
            assert_eq!(status(code, None, false), Class::Unavailable, "{code}");
        }
        for error in [200, 201, 204, 500, 501, 505, 599] {
            assert_eq!(status(error, None, false), Class::EndpointError, "{error}");
        }
        for refused in [
            100, 300, 301, 302, 307, 308, 400, 401, 403, 404, 405, 418, 600,
        ] {
            assert_eq!(status(refused, Some(3), false), Class::Refused, "{refused}");
        }
    }

    #[test]
    fn retry_after_is_clamped() {
        for status_code in [429, 503, 504] {
            assert_eq!(
                status(status_code, Some(0), false),
                Class::RetryAfter(RETRY_AFTER_MIN)
            );
            assert_eq!(
                status(status_code, Some(30), false),
                Class::RetryAfter(Duration::from_secs(30))
            );
            assert_eq!(
                status(status_code, Some(9_999_999), false),
                Class::RetryAfter(RETRY_AFTER_MAX)
            );
        }
        assert_eq!(status(500, Some(30), false), Class::EndpointError);
    }
}
