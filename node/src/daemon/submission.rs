//! Submits messages: seals what can be sent, submits it and records the relay's responses. While
//! the relay is unreachable, the pending messages state that as their reason.

use super::{
    Database, HomeRelay,
    retry::{UNREACHABLE_WAIT_MAX, wait_after},
    worker::{NextRun, PeriodicTask, Worker},
};
use crate::{fault::Fault, identity::NodeIdentity, outbox, store::outbox as rows};
use sealpost_proto::{
    EnvelopeId,
    wire::{SubmitOutcome, SubmitRequest, SubmitResult, SubmittedEnvelope},
};
use sealpost_relay_client::ClientError;
use std::{collections::HashSet, sync::Arc, time::Duration};

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
        failures: 0,
    };
    worker.run(&wake_ups.submission, task).await;
}

struct Submission {
    database: Database,
    relay: Arc<HomeRelay>,
    identity: Arc<NodeIdentity>,
    /// Failed requests in a row.
    failures: u32,
}

impl PeriodicTask for Submission {
    const ACTION: &'static str = "submit messages";
    const FAULT_RETRY_DELAY: Duration = UNREACHABLE_WAIT_MAX;

    async fn run_once(&mut self) -> Result<NextRun, Fault> {
        let identity = Arc::clone(&self.identity);
        let envelopes = self
            .database
            .write_without_wake_up(move |tx| outbox::seal_batch(tx, &identity))
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
        let request = SubmitRequest { envelopes };
        match self.relay.client.submit(&request).await {
            Ok(response) => {
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
    use sealpost_proto::{ErrorCode, Timestamp};

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
