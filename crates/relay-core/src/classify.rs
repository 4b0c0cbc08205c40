//! What one call of a webhook means for its lane (`docs/protocol.md`, *Failures*).

use sealpost_proto::limits::{RETRY_AFTER_MAX, RETRY_AFTER_MIN};
use std::time::Duration;

/// How a call went, as the edge saw it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallResult {
    /// No connection: name, address, connect or TLS.
    NotConnected,
    /// No whole answer in time.
    TimedOut,
    /// A connection, and then no whole answer: reset, or not HTTP.
    Interrupted,
    /// An answer.
    Status {
        /// The HTTP status, 100 to 999.
        status: u16,
        /// The header `Retry-After`, where it was there and made sense.
        retry_after: Option<Duration>,
        /// Whether the body of a 200 was read as what was asked for.
        parses: bool,
    },
}

/// The failure classes, and the one that is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// 200 with outcomes.
    Succeeded,
    /// The endpoint is not there, or what stands before it says so: the signs of an outage, not of what was sent.
    Unreachable,
    /// The endpoint is there and failed: perhaps because of what was sent.
    EndpointError,
    /// It asks for patience, at least [`RETRY_AFTER_MIN`], at most [`RETRY_AFTER_MAX`].
    RetryAfter(Duration),
    /// It does not want the call.
    Refused,
    /// It will never want a call again.
    Gone,
}

/// Which class a call is of.
///
/// | seen | class |
/// |---|---|
/// | 200 that parses | answered |
/// | no connection, timeout, 408, 425, 429, 502, 503, 504 | unreachable |
/// | reset, another 2xx, 200 that does not parse, any other 5xx | error |
/// | 429, 503, 504 with `Retry-After` | asked to wait |
/// | 410 | gone |
/// | any other status | refused |
#[must_use]
pub fn classify(call: CallResult) -> Class {
    match call {
        CallResult::NotConnected | CallResult::TimedOut => Class::Unreachable,
        CallResult::Interrupted => Class::EndpointError,
        CallResult::Status {
            status: 200,
            parses: true,
            ..
        } => Class::Succeeded,
        CallResult::Status {
            status: 429 | 503 | 504,
            retry_after: Some(wait),
            ..
        } => Class::RetryAfter(wait.clamp(RETRY_AFTER_MIN, RETRY_AFTER_MAX)),
        CallResult::Status { status: 410, .. } => Class::Gone,
        CallResult::Status {
            status: 408 | 425 | 429 | 502..=504,
            ..
        } => Class::Unreachable,
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
            parses,
        })
    }

    #[test]
    fn every_status_has_its_class() {
        assert_eq!(classify(CallResult::NotConnected), Class::Unreachable);
        assert_eq!(classify(CallResult::TimedOut), Class::Unreachable);
        assert_eq!(classify(CallResult::Interrupted), Class::EndpointError);
        assert_eq!(status(200, None, true), Class::Succeeded);
        assert_eq!(status(410, None, false), Class::Gone);
        for outage in [408, 425, 429, 502, 503, 504] {
            assert_eq!(status(outage, None, false), Class::Unreachable, "{outage}");
        }
        for error in [200, 201, 204, 500, 501, 505, 599] {
            assert_eq!(status(error, None, false), Class::EndpointError, "{error}");
        }
        for refused in [
            100, 300, 301, 302, 307, 308, 400, 401, 403, 404, 405, 413, 418, 600,
        ] {
            assert_eq!(status(refused, Some(3), false), Class::Refused, "{refused}");
        }
    }

    #[test]
    fn a_wait_is_honoured_from_a_second_up_to_a_day() {
        for asking in [429, 503, 504] {
            assert_eq!(
                status(asking, Some(0), false),
                Class::RetryAfter(RETRY_AFTER_MIN)
            );
            assert_eq!(
                status(asking, Some(30), false),
                Class::RetryAfter(Duration::from_secs(30))
            );
            assert_eq!(
                status(asking, Some(9_999_999), false),
                Class::RetryAfter(RETRY_AFTER_MAX)
            );
        }
        assert_eq!(status(500, Some(30), false), Class::EndpointError);
    }
}
