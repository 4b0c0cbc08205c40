//! How long tasks wait after failures.

use sealpost_proto::{ErrorCode, limits};
use sealpost_relay_client::ClientError;
use std::time::Duration;

/// Maximum wait while the relay does not respond, because a person may be waiting.
pub(super) const UNREACHABLE_WAIT_MAX: Duration = Duration::from_secs(60);

/// Returns the wait after a failed request: the backoff up to [`UNREACHABLE_WAIT_MAX`], but never
/// less than the relay asks for. After a rate limit it is what the relay asks for, plus a little
/// jitter that keeps the tasks apart.
pub(super) fn wait_after(error: &ClientError, attempt: u32) -> Duration {
    let requested = error
        .retry_after()
        .unwrap_or_default()
        .min(limits::RETRY_AFTER_MAX);
    match error {
        ClientError::Problem(problem) if problem.code == ErrorCode::RateLimited => {
            requested.saturating_add(backoff(0) / 10)
        }
        _ => unreachable_backoff(attempt).max(requested),
    }
}

/// Returns the backoff after `attempt` earlier failures in a row.
pub(super) fn backoff(attempt: u32) -> Duration {
    let random = u64::from_be_bytes(sealpost_service::random_array());
    sealpost_proto::backoff::delay(attempt.saturating_add(1), random)
}

/// Returns the backoff of work that waits for an unreachable relay.
pub(super) fn unreachable_backoff(attempt: u32) -> Duration {
    backoff(attempt).min(UNREACHABLE_WAIT_MAX)
}
