use crate::support::{DEADLINE, Relay, fills, outcome, stored};
use sealpost_proto::{EnvelopeState, limits::LEASE_LIFE, wire::DeliveryOutcome};
use std::time::Duration;

/// So many polls that looked again only by themselves, after five seconds, would not end in time.
const POLLS: usize = 30;

#[tokio::test]
async fn a_long_poll_ends_when_something_comes() {
    let relay = Relay::start().await;
    let (acme, bolt) = (relay.node().await, relay.node().await);
    let mailbox = bolt.open_mailbox().await;
    let polling = async {
        for _ in 0..POLLS {
            let (batch, id) = tokio::join!(bolt.take_all(25), acme.post_to(&mailbox, 3));
            assert_eq!(batch.deliveries[0].envelope, id);
        }
    };
    tokio::time::timeout(DEADLINE, polling)
        .await
        .expect("what came woke the polls");
}

#[tokio::test]
async fn a_pull_again_gives_the_same_under_a_higher_lease_and_a_late_acknowledgement_counts() {
    let relay = Relay::start().await;
    let (acme, bolt) = (relay.node().await, relay.node().await);
    let mailbox = bolt.open_mailbox().await;
    let id = acme.post_to(&mailbox, 1).await;
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
async fn what_is_not_acknowledged_comes_again_also_after_a_restart() {
    let relay = Relay::start().await;
    let (acme, bolt) = (relay.node().await, relay.node().await);
    let mailbox = bolt.open_mailbox().await;
    for fill in 1..=3 {
        acme.post_to(&mailbox, fill).await;
    }
    let before = bolt.pull(0).await;
    bolt.acknowledge(
        before.lease,
        vec![outcome(before.deliveries[0].id, DeliveryOutcome::Stored)],
    )
    .await;
    let relay = relay.restart().await;
    relay.clock.advance(LEASE_LIFE);
    let after = bolt.pull(0).await;
    assert_eq!(fills(&after.deliveries), [2, 3]);
    assert_eq!(after.deliveries[0].id, before.deliveries[1].id);
    assert!(after.lease > before.lease, "a fence rises across restarts");
}

#[tokio::test]
async fn a_refused_envelope_fails_and_its_sender_hears_of_it() {
    let relay = Relay::start().await;
    let (acme, bolt) = (relay.node().await, relay.node().await);
    let mailbox = bolt.open_mailbox().await;
    let id = acme.post_to(&mailbox, 1).await;
    let batch = bolt.pull(0).await;
    bolt.acknowledge(
        batch.lease,
        vec![outcome(batch.deliveries[0].id, DeliveryOutcome::Refused)],
    )
    .await;
    let event = acme.news(id, EnvelopeState::Failed).await;
    assert!(event.reason.unwrap().contains("refused"));
    assert!(bolt.pull(0).await.deliveries.is_empty());
}

#[tokio::test]
async fn nobody_acknowledges_for_another_account() {
    let relay = Relay::start().await;
    let (acme, bolt) = (relay.node().await, relay.node().await);
    let mailbox = bolt.open_mailbox().await;
    let id = acme.post_to(&mailbox, 1).await;
    let batch = bolt.pull(0).await;
    acme.acknowledge(batch.lease, stored(&batch)).await;
    assert_eq!(acme.status(id).await.state, EnvelopeState::Queued);
}

#[tokio::test]
async fn a_batch_is_bounded_and_says_what_waits_beyond() {
    let relay = Relay::start().await;
    let (acme, bolt) = (relay.node().await, relay.node().await);
    let mailbox = bolt.open_mailbox().await;
    for _ in 0..3 {
        acme.submit((0..100).map(|_| acme.envelope(&mailbox, 1)).collect())
            .await;
    }
    let batch = bolt.take_all(0).await;
    assert_eq!((batch.deliveries.len(), batch.backlog), (256, 44));
    let rest = bolt.take_all(0).await;
    assert_eq!((rest.deliveries.len(), rest.backlog), (44, 0));
}

#[tokio::test]
async fn the_sender_hears_that_a_pull_was_put_off() {
    let relay = Relay::start().await;
    let (acme, bolt) = (relay.node().await, relay.node().await);
    let mailbox = bolt.open_mailbox().await;
    let (stays, goes) = (
        acme.post_to(&mailbox, 1).await,
        acme.post_to(&mailbox, 2).await,
    );
    let batch = bolt.pull(0).await;
    let later = DeliveryOutcome::Later {
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
    let event = acme.failed_attempts(stays, 1).await;
    assert_eq!(
        event.reason.as_deref(),
        Some("the recipient's node asked to wait")
    );
    assert_eq!(
        event.next_attempt_at,
        Some(event.at.plus(Duration::from_secs(90)))
    );
    assert_eq!(acme.status(stays).await.state, EnvelopeState::Retrying);
    assert_eq!(acme.status(goes).await.state, EnvelopeState::Stored);
}
