//! Ingests what the relay delivers, by pulling and through the webhook.

use super::{
    Database, HomeRelay,
    retry::wait_after,
    worker::{Next, Round, Worker},
};
use crate::{fault::Fault, identity::NodeIdentity, inbox, store::Tx};
use sealpost_proto::{
    limits,
    wire::{DeliveryBatch, DeliveryOutcome, DeliveryResult, DeliveryResults},
};
use sealpost_relay_client::ClientError;
use std::{sync::Arc, time::Duration};

/// Time after which the relay should deliver again what this node cannot store.
const RETRY_DELAY: Duration = Duration::from_secs(30);

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

/// What the ingestion of deliveries needs.
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
        let lease = batch.lease;
        let ids: Vec<_> = batch
            .deliveries
            .iter()
            .map(|item| item.id)
            .chain(batch.events.iter().map(|item| item.id))
            .collect();
        let identity = Arc::clone(&self.identity);
        let stored = self
            .database
            .write(move |tx| ingest_all(tx, &identity, &batch))
            .await;
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
        DeliveryResults { lease, results }
    }
}

/// Pulls until shutdown: continuously when the node has no webhook, otherwise at start and every 15
/// minutes.
pub(super) async fn pull(ingest: Ingest, has_webhook: bool, worker: Worker) {
    let task = Pull {
        ingest,
        has_webhook,
        failures: 0,
    };
    // No change wakes this task: the relay holds a pull until something arrives.
    worker.run_timed(task).await;
}

struct Pull {
    ingest: Ingest,
    has_webhook: bool,
    /// Failed requests in a row.
    failures: u32,
}

impl Round for Pull {
    const ACTION: &'static str = "pull deliveries";
    const FAULT_RETRY_DELAY: Duration = RETRY_DELAY;

    async fn run(&mut self) -> Result<Next, Fault> {
        match self.pull_once().await {
            Ok(has_more) => {
                self.failures = 0;
                if self.has_webhook && !has_more {
                    Ok(Next::Pause(limits::WEBHOOK_NODE_PULL_INTERVAL))
                } else {
                    Ok(Next::Continue)
                }
            }
            Err(error) => {
                self.ingest.relay.record_failure(&error).await;
                let wait = wait_after(&error, self.failures);
                self.failures += 1;
                Ok(Next::Pause(wait))
            }
        }
    }
}

impl Pull {
    /// Pulls once and returns whether there may be more.
    async fn pull_once(&self) -> Result<bool, ClientError> {
        let wait = if self.has_webhook {
            Duration::ZERO
        } else {
            limits::PULL_WAIT_MAX
        };
        let relay = &self.ingest.relay;
        let batch = relay.client.pull(wait).await?;
        relay.record_response().await;
        if batch.deliveries.is_empty() && batch.events.is_empty() {
            return Ok(false);
        }
        let results = self.ingest.ingest(batch).await;
        relay.client.acknowledge(&results).await?;
        Ok(true)
    }
}

/// Runs a job for one item in a savepoint of its own, so that a damaged row of ours delays that item
/// only. A full disk delays all items.
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
    use crate::testing::{TestNode, connect_nodes, to_batch};
    use sealpost_node_core::model::ConnectionId;
    use sealpost_proto::wire::SubmittedEnvelope;

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
}
