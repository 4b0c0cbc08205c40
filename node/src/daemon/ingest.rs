//! Ingests what the relay delivers, by pulling and through the webhook.

use super::{
    Database, HomeRelay,
    retry::wait_after,
    worker::{NextRun, PeriodicTask, Worker},
};
use crate::{
    fault::Fault,
    identity::NodeIdentity,
    inbox,
    store::{Tx, events},
};
use sealpost_node_core::model::RelayState;
use sealpost_proto::{
    BatchSize, DeliveryId, limits,
    wire::{DeliveryBatch, DeliveryOutcome, DeliveryResult, DeliveryResults, WebhookState},
};
use sealpost_relay_client::{ClientError, PulledBatch, RequestLoss};
use std::{collections::HashSet, sync::Arc, time::Duration};

/// Time after which the relay is asked to redeliver what this node cannot store.
const RETRY_DELAY: Duration = Duration::from_secs(30);
/// Requests of a pull that is not empty: the pull and its acknowledgement.
const REQUESTS_PER_PULL: u32 = 2;

/// Ingests the items of a batch independently of each other and returns their outcomes.
///
/// # Errors
/// [`Fault::DiskFull`], or a failure of the database as a whole. Then the caller rolls the
/// transaction back.
pub fn ingest_all(
    tx: &mut Tx<'_>,
    identity: &NodeIdentity,
    batch: &DeliveryBatch,
) -> Result<Vec<DeliveryResult>, Fault> {
    let mut results = Vec::with_capacity(batch.deliveries.len() + batch.events.len());
    for delivery in &batch.deliveries {
        let outcome = in_savepoint(tx, |tx| inbox::receive(tx, identity, delivery))?;
        results.push(DeliveryResult {
            id: delivery.id,
            outcome: outcome.unwrap_or(DeliveryOutcome::Deferred {
                retry_after_ms: None,
            }),
        });
    }
    for event in &batch.events {
        let outcome = in_savepoint(tx, |tx| {
            inbox::apply_status_event(tx, event).map(|()| DeliveryOutcome::Stored)
        })?;
        results.push(DeliveryResult {
            id: event.id,
            outcome: outcome.unwrap_or(DeliveryOutcome::Deferred {
                retry_after_ms: None,
            }),
        });
    }
    Ok(results)
}

/// Receiver of delivery batches, for the pull task and the webhook.
#[derive(Clone)]
pub(crate) struct Ingest {
    pub(super) database: Database,
    pub(crate) relay: Arc<HomeRelay>,
    pub(super) identity: Arc<NodeIdentity>,
}

impl Ingest {
    /// Ingests one batch in one commit and returns the outcome of each item. If the batch cannot be
    /// stored now, the outcomes ask the relay to deliver it again.
    pub(crate) async fn ingest(&self, batch: DeliveryBatch) -> DeliveryResults {
        let fence = batch.fence;
        let ids: Vec<_> = batch
            .deliveries
            .iter()
            .map(|item| item.id)
            .chain(batch.events.iter().map(|item| item.id))
            .collect();
        let identity = Arc::clone(&self.identity);
        let stored = self
            .database
            .write(move |tx| {
                let latest_event = events::find_latest_id(tx)?;
                let results = ingest_all(tx, &identity, &batch)?;
                // The relay alone cannot create deliveries that change something, but any number of
                // status events.
                let has_changes =
                    batch.events.is_empty() && events::find_latest_id(tx)? > latest_event;
                Ok((results, has_changes))
            })
            .await;
        let stored = stored.map(|(results, has_changes)| {
            if has_changes {
                self.relay.client.credit_progress(REQUESTS_PER_PULL);
            }
            results
        });
        let results = stored.unwrap_or_else(|fault| {
            tracing::error!(%fault, "cannot store a batch from the relay, which will redeliver it");
            let retry_after_ms = Some(RETRY_DELAY.as_secs() * 1_000);
            let outcome = DeliveryOutcome::Deferred { retry_after_ms };
            let result = |id| DeliveryResult {
                id,
                outcome: outcome.clone(),
            };
            ids.into_iter().map(result).collect()
        });
        DeliveryResults { fence, results }
    }
}

/// Pulls until shutdown. The relay holds the pulls of a node whose webhook it does not call until
/// something arrives. A node whose webhook is called pulls every minute, which also tells it whether
/// that is still so.
pub(super) async fn pull(ingest: Ingest, has_webhook: bool, worker: Worker) {
    let relay = Arc::clone(&ingest.relay);
    let task = Pull {
        ingest,
        has_webhook,
        size: BatchSize::FIRST,
        has_progress: false,
        failures: 0,
    };
    worker.run(relay.pull_wake_up(), task).await;
}

struct Pull {
    ingest: Ingest,
    has_webhook: bool,
    /// Size of the next pull, which adapts to the link.
    size: BatchSize,
    /// Whether an envelope was stored since the last failure.
    has_progress: bool,
    /// Failed requests in a row.
    failures: u32,
}

impl PeriodicTask for Pull {
    const ACTION: &'static str = "pull deliveries";
    const FAULT_RETRY_DELAY: Duration = RETRY_DELAY;

    async fn run_once(&mut self) -> Result<NextRun, Fault> {
        match self.pull_once().await {
            Ok(has_items) => {
                self.failures = 0;
                if has_items || self.waits_for_items() {
                    return Ok(NextRun::Continue);
                }
                let now = self.ingest.database.now();
                let next_at = now.plus(limits::WEBHOOK_NODE_PULL_INTERVAL);
                Ok(NextRun::Idle(Some(next_at)))
            }
            Err(error) => {
                if matches!(error, ClientError::Unreachable { .. }) {
                    self.size.halve(self.size.bytes());
                }
                if self.was_only_cut(&error) {
                    return Ok(NextRun::Continue);
                }
                self.ingest.relay.record_failure(&error).await;
                let wait = wait_after(&error, self.failures);
                self.failures += 1;
                Ok(NextRun::Pause(wait))
            }
        }
    }
}

impl Pull {
    /// Returns whether the relay holds a pull until something arrives, because it does not call a
    /// webhook.
    fn waits_for_items(&self) -> bool {
        let state = self.ingest.relay.client.webhook_state();
        !self.has_webhook || state.is_some_and(|state| state != WebhookState::Active)
    }

    /// Returns whether the connection was cut after envelopes had arrived, as some links do again
    /// and again. Then the next pull follows at once, and needs progress of its own.
    fn was_only_cut(&mut self, error: &ClientError) -> bool {
        let is_cut = matches!(
            error,
            ClientError::Unreachable {
                loss: RequestLoss::Interrupted,
                ..
            }
        );
        std::mem::take(&mut self.has_progress) && is_cut
    }

    /// Pulls once and returns whether something arrived.
    async fn pull_once(&mut self) -> Result<bool, ClientError> {
        let relay = &self.ingest.relay;
        // Before the relay holds a pull, its response to a short one shows that it responds.
        let is_connected = relay.health().state == RelayState::Connected;
        let wait = if is_connected && self.waits_for_items() {
            limits::PULL_WAIT_MAX
        } else {
            Duration::ZERO
        };
        let PulledBatch { batch, elapsed } = relay.client.pull(wait, self.size.bytes()).await?;
        relay.record_response().await;
        if self.has_webhook {
            relay.record_webhook_state().await;
        }
        let now = self.ingest.database.now();
        self.size.record_success(now, batch_bytes(&batch), elapsed);
        if batch.deliveries.is_empty() && batch.events.is_empty() {
            return Ok(false);
        }
        let envelopes: HashSet<_> = batch.deliveries.iter().map(|item| item.id).collect();
        let results = self.ingest.ingest(batch).await;
        self.has_progress |= has_stored(&results.results, &envelopes);
        relay.client.acknowledge(&results).await?;
        Ok(true)
    }
}

/// Returns whether one of these envelopes was stored.
fn has_stored(results: &[DeliveryResult], envelopes: &HashSet<DeliveryId>) -> bool {
    results
        .iter()
        .any(|result| result.outcome == DeliveryOutcome::Stored && envelopes.contains(&result.id))
}

/// Returns the size that counts towards the limit of a batch.
fn batch_bytes(batch: &DeliveryBatch) -> usize {
    let envelopes = batch.deliveries.iter().map(|item| item.bytes.0.len());
    envelopes.sum::<usize>() + batch.events.len() * limits::DELIVERY_EVENT_BYTES
}

/// Runs a job for one item in a savepoint of its own, so that a damaged row of ours delays only
/// that item. A full disk delays all items.
fn in_savepoint<T>(
    tx: &mut Tx<'_>,
    job: impl FnOnce(&mut Tx<'_>) -> Result<T, Fault>,
) -> Result<Option<T>, Fault> {
    tx.sql.execute_batch("SAVEPOINT item")?;
    match job(tx) {
        Ok(value) => {
            tx.sql.execute_batch("RELEASE item")?;
            Ok(Some(value))
        }
        Err(Fault::DiskFull) => Err(Fault::DiskFull),
        Err(fault) => {
            tx.sql.execute_batch("ROLLBACK TO item; RELEASE item")?;
            tx.record_damage(&fault);
            tracing::error!(%fault, "cannot store an item from the relay, which will redeliver it");
            Ok(None)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        daemon::scripted_relay::{NOW, ScriptedRelay},
        testing::{TestNode, connect_nodes, to_batch},
    };
    use sealpost_node_core::model::ConnectionId;
    use sealpost_proto::wire::SubmittedEnvelope;
    use tokio::time::Instant;

    /// Returns Bolt, his two connections with Acme, and a sealed message on each.
    fn two_messages(
        seed: u64,
        texts: [&str; 2],
    ) -> (TestNode, [ConnectionId; 2], Vec<SubmittedEnvelope>) {
        let (mut acme, mut bolt) = (TestNode::new("Acme", seed), TestNode::new("Bolt", seed + 1));
        let (first, second) = (
            connect_nodes(&mut acme, &mut bolt),
            connect_nodes(&mut acme, &mut bolt),
        );
        acme.send(first.0, texts[0]);
        acme.send(second.0, texts[1]);
        let sealed = acme.seal();
        assert_eq!(sealed.len(), 2);
        (bolt, [first.1, second.1], sealed)
    }

    fn outcomes(results: Vec<DeliveryResult>) -> Vec<DeliveryOutcome> {
        results.into_iter().map(|result| result.outcome).collect()
    }

    #[test]
    fn damaged_rows_delay_only_their_own_item() {
        let (mut bolt, [broken, _], sealed) = two_messages(400, ["first", "second"]);
        bolt.sql("CREATE TEMP TABLE intact AS SELECT id, secrets FROM connections");
        bolt.sql(&format!(
            "UPDATE connections SET secrets = zeroblob(40) WHERE id = '{broken}'"
        ));
        let results = bolt.step(|tx, identity| ingest_all(tx, identity, &to_batch(&sealed)));
        assert_eq!(
            outcomes(results),
            [
                DeliveryOutcome::Deferred {
                    retry_after_ms: None
                },
                DeliveryOutcome::Stored
            ]
        );
        assert_eq!(bolt.received_texts(), ["second"]);
        let repair = "UPDATE connections SET secrets = \
            (SELECT secrets FROM intact WHERE intact.id = connections.id)";
        bolt.sql(&format!("{repair} WHERE id = '{broken}'"));
        let results = bolt.step(|tx, identity| ingest_all(tx, identity, &to_batch(&sealed)));
        assert_eq!(
            outcomes(results),
            [DeliveryOutcome::Stored, DeliveryOutcome::Stored]
        );
        assert_eq!(bolt.received_texts(), ["second", "first"]);
    }

    #[test]
    fn full_disk_delays_the_whole_batch() {
        // The second message needs more pages than are free.
        let long = "long ".repeat(10_000);
        let (mut bolt, _, sealed) = two_messages(410, ["short", &long]);
        let pages = bolt.query_number("PRAGMA page_count");
        bolt.sql(&format!("PRAGMA max_page_count = {pages}"));
        let full = bolt.commit(|tx, identity| ingest_all(tx, identity, &to_batch(&sealed)));
        assert!(matches!(full, Err(Fault::DiskFull)));
        bolt.sql("PRAGMA max_page_count = 1000000");
        assert!(bolt.received_texts().is_empty());
        let results = bolt.step(|tx, identity| ingest_all(tx, identity, &to_batch(&sealed)));
        assert_eq!(
            outcomes(results),
            [DeliveryOutcome::Stored, DeliveryOutcome::Stored]
        );
        assert_eq!(bolt.received_texts(), ["short", &long]);
    }

    fn pull_task(relay: &ScriptedRelay, has_webhook: bool) -> Pull {
        Pull {
            ingest: relay.node.ingest(),
            has_webhook,
            size: BatchSize::FIRST,
            has_progress: false,
            failures: 0,
        }
    }

    #[tokio::test]
    async fn node_polls_while_its_webhook_is_not_called() {
        let relay = ScriptedRelay::start().await;
        let mut pull = pull_task(&relay, true);
        let next_at = NOW.plus(limits::WEBHOOK_NODE_PULL_INTERVAL);
        assert_eq!(
            pull.run_once().await.unwrap(),
            NextRun::Idle(Some(next_at)),
            "its webhook is called"
        );
        for state in [WebhookState::Off, WebhookState::Unverified] {
            relay.script().webhook = state;
            assert_eq!(pull.run_once().await.unwrap(), NextRun::Continue);
            assert_eq!(pull.run_once().await.unwrap(), NextRun::Continue);
            assert!(relay.last_request().contains("?wait=25&"));
            assert_eq!(relay.node.relay.health().webhook.state, Some(state));
        }
        relay.script().webhook = WebhookState::Active;
        assert_eq!(pull.run_once().await.unwrap(), NextRun::Idle(Some(next_at)));
        pull.run_once().await.unwrap();
        assert!(relay.last_request().contains("?wait=0&"));
    }

    #[tokio::test]
    async fn first_pull_shows_that_the_relay_responds() {
        let relay = ScriptedRelay::start().await;
        let mut pull = pull_task(&relay, false);
        let state = || relay.node.relay.health().state;
        assert_eq!(state(), RelayState::Starting);
        pull.run_once().await.unwrap();
        assert!(relay.last_request().contains("?wait=0&"));
        assert_eq!(state(), RelayState::Connected);
        pull.run_once().await.unwrap();
        assert!(relay.last_request().contains("?wait=25&"));
        relay.script().cuts_pulls = true;
        pull.run_once().await.unwrap();
        assert_eq!(state(), RelayState::Unreachable);
        relay.script().cuts_pulls = false;
        pull.run_once().await.unwrap();
        assert!(relay.last_request().contains("?wait=0&"));
    }

    /// Responses at once to long polls, empty or with an envelope that this node refuses.
    #[tokio::test]
    async fn rate_of_pulls_is_limited() {
        for envelope_bytes in [None, Some(100)] {
            let relay = ScriptedRelay::start().await;
            relay.script().envelope_bytes = envelope_bytes;
            let mut pull = pull_task(&relay, false);
            let started = Instant::now();
            while relay.script().requests.len() <= limits::RELAY_REQUESTS_BURST as usize + 2 {
                assert_eq!(pull.run_once().await.unwrap(), NextRun::Continue);
            }
            assert!(started.elapsed() >= limits::RELAY_REQUEST_INTERVAL * 2);
        }
    }

    #[tokio::test]
    async fn cut_after_progress_causes_no_backoff() {
        let relay = ScriptedRelay::start().await;
        let mut pull = pull_task(&relay, false);
        relay.script().envelope_bytes = Some(100);
        assert_eq!(pull.run_once().await.unwrap(), NextRun::Continue);
        relay.script().cuts_pulls = true;
        let next = pull.run_once().await.unwrap();
        assert!(matches!(next, NextRun::Pause(_)), "a refused envelope");
        pull.has_progress = true;
        assert_eq!(pull.run_once().await.unwrap(), NextRun::Continue);
        let next = pull.run_once().await.unwrap();
        assert!(matches!(next, NextRun::Pause(_)), "nothing arrived since");
    }

    #[test]
    fn only_stored_envelopes_are_progress() {
        let [envelope, event] = [1, 2].map(DeliveryId);
        let has_stored = |id, outcome| {
            has_stored(
                &[DeliveryResult { id, outcome }],
                &HashSet::from([envelope]),
            )
        };
        assert!(has_stored(envelope, DeliveryOutcome::Stored));
        assert!(!has_stored(event, DeliveryOutcome::Stored));
        assert!(!has_stored(envelope, DeliveryOutcome::Refused));
    }

    #[tokio::test]
    async fn pulls_adapt_to_the_link() {
        let relay = ScriptedRelay::start().await;
        let mut pull = pull_task(&relay, false);
        relay.script().cuts_pulls = true;
        for halvings in 1..=3 {
            assert!(matches!(pull.run_once().await.unwrap(), NextRun::Pause(_)));
            assert_eq!(pull.size.bytes(), limits::BATCH_BYTES_FIRST >> halvings);
        }
        relay.script().cuts_pulls = false;
        pull.run_once().await.unwrap();
        pull.run_once().await.unwrap();
        let stated = "GET /v1/deliveries?wait=25&bytes=16384&within=49";
        assert_eq!(relay.last_request(), stated);
        assert_eq!(pull.size.bytes(), 16_384, "an empty batch shows nothing");
        relay.script().envelope_bytes = Some(16_384);
        pull.run_once().await.unwrap();
        assert_eq!(pull.size.bytes(), 32_768, "a full batch arrived quickly");
    }
}
