//! Submits messages: seals what can be sent, submits it and records the relay's responses. While
//! the relay is unreachable, the pending messages state that as their reason. The size of a request
//! adapts to the link and to the limits of proxies, like the size of a pull.

use super::{
    Database, HomeRelay,
    retry::{UNREACHABLE_WAIT_MAX, wait_after},
    worker::{NextRun, PeriodicTask, Worker},
};
use crate::{fault::Fault, identity::NodeIdentity, outbox, store::outbox as rows};
use http::StatusCode;
use sealpost_proto::{
    BatchSize, EnvelopeId, ErrorCode, Timestamp,
    wire::{SubmitOutcome, SubmitRequest, SubmitResult, SubmittedEnvelope},
};
use sealpost_relay_client::{ClientError, RequestLoss};
use std::{collections::HashSet, sync::Arc, time::Duration};
use tokio::time::Instant;

/// Submits messages until shutdown.
pub(super) async fn run(
    database: Database,
    relay: Arc<HomeRelay>,
    identity: Arc<NodeIdentity>,
    worker: Worker,
) {
    let wake_ups = Arc::clone(database.wake_ups());
    let task = Submission {
        database,
        relay,
        identity,
        size: BatchSize::FIRST,
        failures: 0,
    };
    worker.run(&wake_ups.submission, task).await;
}

struct Submission {
    database: Database,
    relay: Arc<HomeRelay>,
    identity: Arc<NodeIdentity>,
    /// Size of the next request, which adapts to the link.
    size: BatchSize,
    /// Failed requests in a row.
    failures: u32,
}

impl PeriodicTask for Submission {
    const ACTION: &'static str = "submit messages";
    const FAULT_RETRY_DELAY: Duration = UNREACHABLE_WAIT_MAX;

    async fn run_once(&mut self) -> Result<NextRun, Fault> {
        let (identity, bytes_max) = (Arc::clone(&self.identity), self.size.bytes());
        let envelopes = self
            .database
            .write_without_wake_up(move |tx| outbox::seal_batch(tx, &identity, bytes_max))
            .await?;
        if envelopes.is_empty() {
            let due = self.database.read(|tx| rows::find_next_due(tx)).await?;
            return Ok(NextRun::Idle(due));
        }
        self.submit(envelopes).await
    }
}

impl Submission {
    /// Submits envelopes and records the relay's responses.
    async fn submit(&mut self, envelopes: Vec<SubmittedEnvelope>) -> Result<NextRun, Fault> {
        let submitted: HashSet<_> = envelopes.iter().map(|envelope| envelope.id).collect();
        let batch = SentBatch::new(&envelopes);
        let request = SubmitRequest { envelopes };
        let started = Instant::now();
        let response = self.relay.client.submit(&request).await;
        let (now, elapsed) = (self.database.now(), started.elapsed());
        match response {
            Ok(response) => {
                self.size.record_success(now, batch.bytes, elapsed);
                self.relay.record_response().await;
                if has_progress(&submitted, &response.results) {
                    self.relay.client.credit_progress(1);
                }
                self.database
                    .write_without_wake_up(move |tx| outbox::record_results(tx, &response.results))
                    .await?;
                self.failures = 0;
                Ok(NextRun::Continue)
            }
            Err(error) => {
                batch.adapt_size(&mut self.size, now, &error, elapsed);
                if batch.is_too_large(&error) {
                    // The relay is reachable, and a smaller request follows.
                    return Ok(NextRun::Continue);
                }
                let next = self.postpone(&error).await;
                self.failures += 1;
                Ok(next)
            }
        }
    }

    /// Stores why messages wait, and returns when to submit them again. A wake-up ends the wait for
    /// an unreachable relay early, but not the wait that a relay asked for.
    async fn postpone(&self, error: &ClientError) -> NextRun {
        let reason = self.relay.record_failure(error).await;
        let wait = wait_after(error, self.failures);
        let next_at = self.database.now().plus(wait);
        let stored = self
            .database
            .write_without_wake_up(move |tx| outbox::record_unreachable(tx, &reason, next_at));
        if let Err(fault) = stored.await {
            tracing::error!(%fault, "cannot store why messages wait");
        }
        if error.retry_after().is_some() {
            NextRun::Pause(wait)
        } else {
            NextRun::Idle(Some(next_at))
        }
    }
}

/// Envelopes of one request.
struct SentBatch {
    envelopes: usize,
    /// Bytes before base64.
    bytes: usize,
}

impl SentBatch {
    fn new(envelopes: &[SubmittedEnvelope]) -> Self {
        let bytes = envelopes.iter().map(|envelope| envelope.bytes.0.len());
        Self {
            envelopes: envelopes.len(),
            bytes: bytes.sum(),
        }
    }

    /// Adapts the size of the next request to the failure of this one. A single envelope cannot be
    /// divided. Many proxies report a body that is too large with another status than 413, or cut
    /// the connection.
    fn adapt_size(
        &self,
        size: &mut BatchSize,
        now: Timestamp,
        error: &ClientError,
        elapsed: Duration,
    ) {
        if self.envelopes < 2 {
            return;
        }
        match error {
            ClientError::Unreachable {
                loss: RequestLoss::TimedOut,
                ..
            } => size.record_timeout(self.bytes, elapsed),
            ClientError::Unreachable {
                loss: RequestLoss::Interrupted,
                ..
            }
            | ClientError::Proxy { .. } => size.limit(now, self.bytes),
            ClientError::Problem(problem) => {
                // A body that arrives too slowly is incomplete, and thereby malformed.
                if matches!(problem.code, ErrorCode::TooLarge | ErrorCode::Malformed) {
                    size.limit(now, self.bytes);
                }
            }
            ClientError::Unreachable {
                loss: RequestLoss::NotSent,
                ..
            }
            | ClientError::Redirected { .. }
            | ClientError::Unexpected { .. } => {}
        }
    }

    /// Returns whether a smaller request may succeed at once.
    fn is_too_large(&self, error: &ClientError) -> bool {
        let status = match error {
            ClientError::Proxy { status, .. } => *status,
            ClientError::Problem(problem) => problem.status,
            _ => return false,
        };
        self.envelopes > 1 && status == StatusCode::PAYLOAD_TOO_LARGE
    }
}

/// Returns whether a submitted envelope was accepted, so that it is not submitted again.
fn has_progress(submitted: &HashSet<EnvelopeId>, results: &[SubmitResult]) -> bool {
    results.iter().any(|result| {
        let is_refused = matches!(result.outcome, SubmitOutcome::Refused { .. });
        !is_refused && submitted.contains(&result.id)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::scripted_relay::NOW;
    use sealpost_proto::{Problem, batch_size::transfer_time, limits::RELAY_CALL_TIMEOUT};

    fn lost(loss: RequestLoss) -> ClientError {
        ClientError::Unreachable {
            loss,
            reason: String::new(),
        }
    }

    fn proxy(status: u16) -> ClientError {
        ClientError::Proxy {
            status,
            retry_after: None,
        }
    }

    /// Returns the size after the failure of a request with a full batch.
    fn size_after(envelopes: usize, bytes: usize, error: &ClientError) -> usize {
        let batch = SentBatch { envelopes, bytes };
        let mut size = BatchSize::new(bytes);
        batch.adapt_size(&mut size, NOW, error, RELAY_CALL_TIMEOUT);
        size.bytes()
    }

    #[test]
    fn failed_requests_are_halved_if_too_large() {
        const LARGE: usize = 512 * 1024;
        const SMALL: usize = 64 * 1024;
        assert!(transfer_time(LARGE) > RELAY_CALL_TIMEOUT);
        assert!(transfer_time(SMALL) < RELAY_CALL_TIMEOUT);
        let problem = |code: ErrorCode| ClientError::from(Problem::from(code));
        let (whole, half) = (1, 2);
        for (error, large, small) in [
            (lost(RequestLoss::TimedOut), half, whole),
            (lost(RequestLoss::Interrupted), half, half),
            (lost(RequestLoss::NotSent), whole, whole),
            (proxy(413), half, half),
            (proxy(502), half, half),
            (problem(ErrorCode::TooLarge), half, half),
            (problem(ErrorCode::Malformed), half, half),
            (problem(ErrorCode::Overloaded), whole, whole),
        ] {
            assert_eq!(size_after(2, LARGE, &error), LARGE / large, "{error:?}");
            assert_eq!(size_after(2, SMALL, &error), SMALL / small, "{error:?}");
            assert_eq!(size_after(1, LARGE, &error), LARGE, "{error:?}");
        }
    }

    #[test]
    fn only_divisible_requests_are_repeated_at_once() {
        let too_large = |envelopes, error| {
            let bytes = 1;
            SentBatch { envelopes, bytes }.is_too_large(&error)
        };
        let problem = Problem::from(ErrorCode::TooLarge);
        assert!(too_large(2, proxy(413)) && too_large(2, problem.into()));
        assert!(!too_large(1, proxy(413)) && !too_large(2, proxy(502)));
        assert!(!too_large(2, lost(RequestLoss::Interrupted)));
    }

    #[test]
    fn only_accepted_envelopes_are_progress() {
        let [sent, other] = [1, 2].map(|byte| EnvelopeId::from_bytes([byte; 16]));
        let submitted = HashSet::from([sent]);
        let accepted = SubmitOutcome::Accepted {
            expires_at: Timestamp::from_millis(1),
        };
        let refused = SubmitOutcome::Refused {
            code: ErrorCode::RateLimited,
            retry_after_ms: Some(0),
        };
        for (id, outcome, expected) in [
            (sent, accepted.clone(), true),
            (other, accepted, false),
            (sent, refused, false),
        ] {
            assert_eq!(
                has_progress(&submitted, &[SubmitResult { id, outcome }]),
                expected
            );
        }
        assert!(!has_progress(&submitted, &[]), "a missing result");
    }
}
