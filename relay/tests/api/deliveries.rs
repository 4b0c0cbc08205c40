use crate::support::{Relay, fills, outcome, stored, within_deadline};
use sealpost_proto::{EnvelopeState, limits::LEASE_DURATION, wire::DeliveryOutcome};
use std::time::Duration;

/// Number of polls that would exceed the deadline if each needed the recheck after five seconds.
const POLLS: usize = 30;

#[tokio::test]
async fn long_poll_returns_on_delivery() {
    let relay = Relay::start().await;
    let (acme, bolt) = (relay.node().await, relay.node().await);
    let mailbox = bolt.open_mailbox().await;
    let polling = async {
        for _ in 0..POLLS {
            let (batch, id) = tokio::join!(bolt.pull_and_store(25), acme.submit_one(&mailbox, 3));
            assert_eq!(batch.deliveries[0].envelope, id);
        }
    };
    within_deadline(polling).await;
}

#[tokio::test]
async fn repeated_pull_returns_the_same_items() {
    let relay = Relay::start().await;
    let (acme, bolt) = (relay.node().await, relay.node().await);
    let mailbox = bolt.open_mailbox().await;
    let id = acme.submit_one(&mailbox, 1).await;
    let (first, second) = (bolt.pull(0).await, bolt.pull(0).await);
    assert!(second.lease > first.lease);
    assert_eq!(first.deliveries, second.deliveries);
    bolt.acknowledge(first.lease, stored(&first)).await;
    assert_eq!(acme.status(id).await.state, EnvelopeState::Stored);
    bolt.acknowledge(second.lease, stored(&second)).await;
    bolt.acknowledge(second.lease, stored(&second)).await;
    assert!(bolt.pull(0).await.deliveries.is_empty());
}

#[tokio::test]
async fn unacknowledged_deliveries_are_repeated_after_restart() {
    let relay = Relay::start().await;
    let (acme, bolt) = (relay.node().await, relay.node().await);
    let mailbox = bolt.open_mailbox().await;
    for fill in 1..=3 {
        acme.submit_one(&mailbox, fill).await;
    }
    let before = bolt.pull(0).await;
    bolt.acknowledge(
        before.lease,
        vec![outcome(before.deliveries[0].id, DeliveryOutcome::Stored)],
    )
    .await;
    let relay = relay.restart().await;
    relay.clock.advance(LEASE_DURATION);
    let after = bolt.pull(0).await;
    assert_eq!(fills(&after.deliveries), [2, 3]);
    assert_eq!(after.deliveries[0].id, before.deliveries[1].id);
    assert!(
        after.lease > before.lease,
        "leases increase across restarts"
    );
}

#[tokio::test]
async fn refused_envelope_notifies_its_sender() {
    let relay = Relay::start().await;
    let (acme, bolt) = (relay.node().await, relay.node().await);
    let mailbox = bolt.open_mailbox().await;
    let id = acme.submit_one(&mailbox, 1).await;
    let batch = bolt.pull(0).await;
    bolt.acknowledge(
        batch.lease,
        vec![outcome(batch.deliveries[0].id, DeliveryOutcome::Refused)],
    )
    .await;
    let event = acme.wait_for_event(id, EnvelopeState::Failed).await;
    assert!(event.reason.unwrap().contains("refused"));
    assert!(bolt.pull(0).await.deliveries.is_empty());
}

#[tokio::test]
async fn acknowledgements_of_other_accounts_are_ignored() {
    let relay = Relay::start().await;
    let (acme, bolt) = (relay.node().await, relay.node().await);
    let mailbox = bolt.open_mailbox().await;
    let id = acme.submit_one(&mailbox, 1).await;
    let batch = bolt.pull(0).await;
    acme.acknowledge(batch.lease, stored(&batch)).await;
    assert_eq!(acme.status(id).await.state, EnvelopeState::Queued);
}

#[tokio::test]
async fn batch_is_bounded_and_reports_the_backlog() {
    let relay = Relay::start().await;
    let (acme, bolt) = (relay.node().await, relay.node().await);
    let mailbox = bolt.open_mailbox().await;
    for _ in 0..3 {
        acme.submit((0..100).map(|_| acme.new_envelope(&mailbox, 1)).collect())
            .await;
    }
    let batch = bolt.pull_and_store(0).await;
    assert_eq!((batch.deliveries.len(), batch.backlog), (256, 44));
    let second = bolt.pull_and_store(0).await;
    assert_eq!((second.deliveries.len(), second.backlog), (44, 0));
}

#[tokio::test]
async fn deferred_pull_notifies_the_sender() {
    let relay = Relay::start().await;
    let (acme, bolt) = (relay.node().await, relay.node().await);
    let mailbox = bolt.open_mailbox().await;
    let (deferred, delivered) = (
        acme.submit_one(&mailbox, 1).await,
        acme.submit_one(&mailbox, 2).await,
    );
    let batch = bolt.pull(0).await;
    let later = DeliveryOutcome::Deferred {
        retry_after_ms: Some(90_000),
    };
    let [first, second] = [0, 1].map(|at| batch.deliveries[at].id);
    bolt.acknowledge(
        batch.lease,
        vec![
            outcome(first, later),
            outcome(second, DeliveryOutcome::Stored),
        ],
    )
    .await;
    let event = acme.wait_for_failed_attempt(deferred, 1).await;
    assert_eq!(
        event.reason.as_deref(),
        Some("the recipient's node asked to wait")
    );
    assert_eq!(
        event.next_attempt_at,
        Some(event.at.plus(Duration::from_secs(90)))
    );
    assert_eq!(acme.status(deferred).await.state, EnvelopeState::Retrying);
    assert_eq!(acme.status(delivered).await.state, EnvelopeState::Stored);
}
