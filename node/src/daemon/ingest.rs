//! Ingests what the relay delivers, by pulling and through the webhook. Both end in [`ingest`].

use super::{
    Daemon,
    worker::{self, Next, Round},
};
use crate::{fault::Fault, identity::NodeIdentity, inbox, store::Tx};
use sealpost_proto::{
    limits,
    wire::{DeliveryBatch, DeliveryOutcome, DeliveryResult, DeliveryResults},
};
use sealpost_relay_client::ClientError;
use std::{sync::Arc, time::Duration};
use tokio::sync::Notify;

/// Delay that the relay is asked for when this node cannot store anything.
const RETRY_DELAY: Duration = Duration::from_secs(30);

/// Pulls until shutdown: continuously when the node has no webhook, otherwise at start and every 15
/// minutes.
pub(super) async fn pull(daemon: Arc<Daemon>, has_webhook: bool) {
    // Nothing wakes this task: the relay holds a pull until something arrives.
    let wake = Notify::new();
    let task = Pull {
        has_webhook,
        failures: 0,
    };
    worker::run(&daemon, &wake, "pull deliveries", RETRY_DELAY, task).await;
}

struct Pull {
    has_webhook: bool,
    /// Failed requests in a row.
    failures: u32,
}

impl Round for Pull {
    async fn run(&mut self, daemon: &Daemon) -> Result<Next, Fault> {
        Ok(pull_round(daemon, self.has_webhook, &mut self.failures).await)
    }
}

async fn pull_round(daemon: &Daemon, has_webhook: bool, failures: &mut u32) -> Next {
    let wait = if has_webhook {
        Duration::ZERO
    } else {
        limits::PULL_WAIT_MAX
    };
    match pull_once(daemon, wait).await {
        Ok(has_more) => {
            *failures = 0;
            if has_webhook && !has_more {
                Next::Pause(limits::WEBHOOK_NODE_PULL_INTERVAL)
            } else {
                Next::Continue
            }
        }
        Err(error) => {
            daemon.failed(&error).await;
            let pause = super::wait_after(&error, *failures);
            *failures += 1;
            Next::Pause(pause)
        }
    }
}

/// Pulls once; returns whether there may be more.
async fn pull_once(daemon: &Daemon, wait: Duration) -> Result<bool, ClientError> {
    let batch = daemon.relay.pull(wait).await?;
    daemon.reached().await;
    if batch.deliveries.is_empty() && batch.events.is_empty() {
        return Ok(false);
    }
    let results = ingest(daemon, batch).await;
    daemon.relay.acknowledge(&results).await?;
    Ok(true)
}

/// Ingests one batch in one commit and returns the outcome of each item. The relay is asked to
/// deliver again what cannot be stored now.
pub(super) async fn ingest(daemon: &Daemon, batch: DeliveryBatch) -> DeliveryResults {
    let lease = batch.lease;
    let ids: Vec<_> = batch
        .deliveries
        .iter()
        .map(|item| item.id)
        .chain(batch.events.iter().map(|item| item.id))
        .collect();
    let identity = Arc::clone(&daemon.identity);
    let stored = daemon
        .write(move |tx| ingest_all(tx, &identity, &batch))
        .await;
    let results = stored.unwrap_or_else(|fault| {
        tracing::error!(%fault, "cannot store a batch of the relay, which will deliver it again");
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

/// Ingests the items of a batch independently of each other and returns their outcomes.
///
/// # Errors
/// [`Fault::DiskFull`], or a failure of the database as a whole: then nothing of it happened.
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
            inbox::relay_event(tx, event).map(|()| DeliveryOutcome::Stored)
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

/// Runs one item in a savepoint of its own: a damaged row of ours delays that item and no other. A
/// full disk delays all.
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
            tracing::error!(%fault, "cannot store an item of the relay, which will deliver it again");
            Ok(None)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{TestNode, batch, join};
    use sealpost_node_core::model::ConnectionId;
    use sealpost_proto::wire::SubmittedEnvelope;

    /// Bolt, his two connections with Acme, and a message on each.
    fn two_messages(
        seed: u64,
        texts: [&str; 2],
    ) -> (TestNode, [ConnectionId; 2], Vec<SubmittedEnvelope>) {
        let (mut acme, mut bolt) = (TestNode::new("Acme", seed), TestNode::new("Bolt", seed + 1));
        let (first, second) = (join(&mut acme, &mut bolt), join(&mut acme, &mut bolt));
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
        bolt.sql("CREATE TEMP TABLE whole AS SELECT id, secrets FROM connections");
        bolt.sql(&format!(
            "UPDATE connections SET secrets = zeroblob(40) WHERE id = '{broken}'"
        ));
        let results = bolt.step(|tx, identity| ingest_all(tx, identity, &batch(&sealed)));
        assert_eq!(
            outcomes(results),
            [
                DeliveryOutcome::Deferred {
                    retry_after_ms: None
                },
                DeliveryOutcome::Stored
            ]
        );
        assert_eq!(bolt.texts(), ["second"]);
        let mend = "UPDATE connections SET secrets = (SELECT secrets FROM whole WHERE whole.id = connections.id)";
        bolt.sql(&format!("{mend} WHERE id = '{broken}'"));
        let results = bolt.step(|tx, identity| ingest_all(tx, identity, &batch(&sealed)));
        assert_eq!(
            outcomes(results),
            [DeliveryOutcome::Stored, DeliveryOutcome::Stored]
        );
        assert_eq!(bolt.texts(), ["second", "first"]);
    }

    #[test]
    fn a_full_disk_delays_everything_and_loses_nothing() {
        // The second needs more pages than are free.
        let long = "long ".repeat(10_000);
        let (mut bolt, _, sealed) = two_messages(410, ["short", &long]);
        let pages = bolt.number("PRAGMA page_count");
        bolt.sql(&format!("PRAGMA max_page_count = {pages}"));
        let full = bolt.commit(|tx, identity| ingest_all(tx, identity, &batch(&sealed)));
        assert!(matches!(full, Err(Fault::DiskFull)));
        bolt.sql("PRAGMA max_page_count = 1000000");
        assert!(bolt.texts().is_empty());
        let results = bolt.step(|tx, identity| ingest_all(tx, identity, &batch(&sealed)));
        assert_eq!(
            outcomes(results),
            [DeliveryOutcome::Stored, DeliveryOutcome::Stored]
        );
        assert_eq!(bolt.texts(), ["short", &long]);
    }
}
