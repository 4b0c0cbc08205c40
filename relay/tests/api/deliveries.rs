use crate::support::{
    Relay, TestWebhook, WebhookBehavior, fills, outcome, stored, within_deadline,
};
use sealpost_proto::{
    DeliveryId, EnvelopeState, ErrorCode,
    limits::{DELIVERY_BATCH_ITEMS_MAX, LEASE_DURATION, LEASE_DURATION_MAX, PULL_LEASE_MIN},
    wire::{DeliveryBatch, DeliveryOutcome, DeliveryResults},
};
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
    assert!(second.fence > first.fence);
    assert_eq!(first.deliveries, second.deliveries);
    bolt.acknowledge(first.fence, stored(&first)).await;
    assert_eq!(acme.status(id).await.state, EnvelopeState::Stored);
    bolt.acknowledge(second.fence, stored(&second)).await;
    bolt.acknowledge(second.fence, stored(&second)).await;
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
        before.fence,
        vec![outcome(before.deliveries[0].id, DeliveryOutcome::Stored)],
    )
    .await;
    let relay = relay.restart().await;
    relay.clock.advance(LEASE_DURATION);
    let after = bolt.pull(0).await;
    assert_eq!(fills(&after.deliveries), [2, 3]);
    assert_eq!(after.deliveries[0].id, before.deliveries[1].id);
    assert!(
        after.fence > before.fence,
        "fences increase across restarts"
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
        batch.fence,
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
    acme.acknowledge(batch.fence, stored(&batch)).await;
    assert_eq!(acme.status(id).await.state, EnvelopeState::Queued);
}

#[tokio::test]
async fn acknowledgements_are_bounded() {
    let relay = Relay::start().await;
    let node = relay.node().await;
    let result = |id| outcome(DeliveryId(id), DeliveryOutcome::Stored);
    let results = DeliveryResults {
        fence: 1,
        results: (0..=DELIVERY_BATCH_ITEMS_MAX as u64).map(result).collect(),
    };
    let reply = node.post("/v1/deliveries/ack", &results).await;
    assert_eq!(reply.code(), ErrorCode::Malformed);
}

#[tokio::test]
async fn bounded_batch_reports_the_backlog() {
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
        batch.fence,
        vec![
            outcome(first, later),
            outcome(second, DeliveryOutcome::Stored),
        ],
    )
    .await;
    let event = acme.wait_for_failed_attempt(deferred, 1).await;
    assert_eq!(
        event.reason.as_deref(),
        Some("the recipient's node asked the relay to wait")
    );
    assert_eq!(
        event.next_attempt_at,
        Some(event.at.plus(Duration::from_secs(90)))
    );
    assert_eq!(acme.status(deferred).await.state, EnvelopeState::Retrying);
    assert_eq!(acme.status(delivered).await.state, EnvelopeState::Stored);
}

#[tokio::test]
async fn pull_states_its_size_and_lease() {
    let relay = Relay::start().await;
    let (acme, bolt) = (relay.node().await, relay.node().await);
    let mailbox = bolt.open_mailbox().await;
    let envelopes: Vec<_> = (1..=3)
        .map(|fill| acme.new_envelope(&mailbox, fill))
        .collect();
    let bytes = envelopes[0].bytes.0.len();
    acme.submit(envelopes).await;
    for (query, expected) in [
        (format!("bytes={}", 2 * bytes), 2),
        (format!("bytes={}", 2 * bytes - 1), 1),
        ("bytes=0".to_owned(), 1),
        (format!("bytes={}", u32::MAX), 3),
    ] {
        let batch: DeliveryBatch = bolt.get(&format!("/v1/deliveries?{query}")).await.ok();
        assert_eq!(batch.deliveries.len(), expected, "{query}");
    }
    for query in ["bytes=-1", "bytes=x", "within=-1", "within=1e3", "within="] {
        let reply = bolt.get(&format!("/v1/deliveries?{query}")).await;
        assert_eq!(reply.code(), ErrorCode::Malformed, "{query}");
    }
}

#[tokio::test]
async fn requested_lease_is_bounded() {
    let relay = Relay::start().await;
    let hook = TestWebhook::listen().await;
    let (acme, bolt) = (relay.node().await, relay.node_with_webhook(&hook).await);
    let mailbox = bolt.open_mailbox().await;
    assert!(bolt.test_webhook().await.ok);
    for (within, lease) in [
        (0, PULL_LEASE_MIN),
        (30, Duration::from_secs(30)),
        (u64::MAX, LEASE_DURATION_MAX),
    ] {
        hook.always(WebhookBehavior::Status(503));
        let id = acme.submit_one(&mailbox, 1).await;
        acme.wait_for_event(id, EnvelopeState::Retrying).await;
        let batch = bolt.get(&format!("/v1/deliveries?within={within}")).await;
        assert_eq!(batch.ok::<DeliveryBatch>().deliveries.len(), 1);
        hook.always(WebhookBehavior::Store);
        let leased_at = relay.now();
        relay.clock.advance(lease - Duration::from_secs(1));
        relay.wait_for_scheduler_pass().await;
        assert_eq!(acme.status(id).await.state, EnvelopeState::Retrying);
        relay.clock.set(leased_at.plus(lease));
        acme.wait_for_state(id, EnvelopeState::Stored).await;
    }
}
