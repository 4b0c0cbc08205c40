//! Taking in what the relay has for us: by pulling, and through the webhook. Both end in [`take_in`].

use super::Daemon;
use crate::{fault::Fault, inbox, me::Me, store::Tx};
use sealpost_proto::{
    limits,
    wire::{DeliveryBatch, DeliveryOutcome, DeliveryResult, DeliveryResults},
};
use sealpost_relay_client::ClientError;
use std::{sync::Arc, time::Duration};

/// How long the relay shall wait when this node cannot store anything.
const LATER: Duration = Duration::from_secs(30);

/// Pulls until the end: always when the node has no webhook, else at start and every 15 minutes.
pub async fn pull(daemon: Arc<Daemon>, has_webhook: bool) {
    let mut failures = 0;
    while !daemon.shutdown.is_triggered() {
        let wait = if has_webhook {
            Duration::ZERO
        } else {
            limits::PULL_WAIT_MAX
        };
        let pulled = tokio::select! {
            pulled = pull_once(&daemon, wait) => pulled,
            () = daemon.shutdown.triggered() => return,
        };
        match pulled {
            Ok(more) => {
                failures = 0;
                if has_webhook && !more {
                    daemon.pause(limits::WEBHOOK_NODE_PULL_INTERVAL).await;
                }
            }
            Err(error) => {
                daemon.failed(&error).await;
                daemon.pause(super::wait_after(&error, failures)).await;
                failures += 1;
            }
        }
    }
}

/// One pull; true when there may be more.
async fn pull_once(daemon: &Daemon, wait: Duration) -> Result<bool, ClientError> {
    let batch = daemon.relay.pull(wait).await?;
    daemon.reached().await;
    if batch.deliveries.is_empty() && batch.events.is_empty() {
        return Ok(false);
    }
    let results = take_in(daemon, batch).await;
    daemon.relay.acknowledge(&results).await?;
    Ok(true)
}

/// Takes in one batch in one commit, and says what became of each item. What cannot be stored now is asked for again.
pub async fn take_in(daemon: &Daemon, batch: DeliveryBatch) -> DeliveryResults {
    let lease = batch.lease;
    let ids: Vec<_> = batch
        .deliveries
        .iter()
        .map(|item| item.id)
        .chain(batch.events.iter().map(|item| item.id))
        .collect();
    let me = Arc::clone(&daemon.me);
    match daemon.write(move |tx| take_in_all(tx, &me, &batch)).await {
        Ok(results) => DeliveryResults { lease, results },
        Err(fault) => {
            tracing::error!(%fault, "what the relay delivered could not be stored; it will come again");
            let later = || DeliveryOutcome::Deferred {
                retry_after_ms: Some(LATER.as_secs() * 1_000),
            };
            DeliveryResults {
                lease,
                results: ids
                    .into_iter()
                    .map(|id| DeliveryResult {
                        id,
                        outcome: later(),
                    })
                    .collect(),
            }
        }
    }
}

/// Takes in one batch, each item for itself, and says what became of each.
///
/// # Errors
/// When the disk is full or the database fails as a whole: then nothing of it happened.
pub fn take_in_all(
    tx: &mut Tx<'_>,
    me: &Me,
    batch: &DeliveryBatch,
) -> Result<Vec<DeliveryResult>, Fault> {
    let mut results = Vec::with_capacity(batch.deliveries.len() + batch.events.len());
    for delivery in &batch.deliveries {
        let outcome = alone(tx, |tx| inbox::receive(tx, me, delivery))?;
        results.push(DeliveryResult {
            id: delivery.id,
            outcome: outcome.unwrap_or(DeliveryOutcome::Deferred {
                retry_after_ms: None,
            }),
        });
    }
    for event in &batch.events {
        let outcome = alone(tx, |tx| {
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

/// Runs one item in a savepoint of its own: a broken row of ours holds up that item and no other. A full disk holds up all.
fn alone<T>(
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
            tracing::error!(%fault, "one item that the relay delivered could not be stored; it will come again");
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
    fn a_broken_row_of_ours_holds_up_its_own_item_and_no_other() {
        let (mut bolt, [broken, _], sealed) = two_messages(400, ["first", "second"]);
        bolt.sql("CREATE TEMP TABLE whole AS SELECT id, secrets FROM connections");
        bolt.sql(&format!(
            "UPDATE connections SET secrets = zeroblob(40) WHERE id = '{broken}'"
        ));
        let results = bolt.step(|tx, me| take_in_all(tx, me, &batch(&sealed)));
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
        let results = bolt.step(|tx, me| take_in_all(tx, me, &batch(&sealed)));
        assert_eq!(
            outcomes(results),
            [DeliveryOutcome::Stored, DeliveryOutcome::Stored]
        );
        assert_eq!(bolt.texts(), ["second", "first"]);
    }

    #[test]
    fn a_full_disk_holds_up_everything_and_loses_nothing() {
        // The second needs more pages than are free.
        let long = "long ".repeat(10_000);
        let (mut bolt, _, sealed) = two_messages(410, ["short", &long]);
        let pages = bolt.number("PRAGMA page_count");
        bolt.sql(&format!("PRAGMA max_page_count = {pages}"));
        let full = bolt.commit(|tx, me| take_in_all(tx, me, &batch(&sealed)));
        assert!(matches!(full, Err(Fault::DiskFull)));
        bolt.sql("PRAGMA max_page_count = 1000000");
        assert!(bolt.texts().is_empty());
        let results = bolt.step(|tx, me| take_in_all(tx, me, &batch(&sealed)));
        assert_eq!(
            outcomes(results),
            [DeliveryOutcome::Stored, DeliveryOutcome::Stored]
        );
        assert_eq!(bolt.texts(), ["short", &long]);
    }
}
