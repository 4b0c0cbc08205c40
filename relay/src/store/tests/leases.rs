//! Leases of batches for calls.

use super::*;
use crate::notifier::{CallSlots, PendingWork};
use sealpost_proto::{
    limits::{DELIVERY_BATCH_BYTES_MAX, DELIVERY_MEMORY_PER_CALL_BYTES, LEASE_DURATION},
    wire::WebhookState,
};
use std::time::Duration;

#[tokio::test]
async fn callable_lanes_are_leased_with_the_commit() {
    let fixture = Fixture::new().await;
    fixture.store.notifier.offer_call_slots(CallSlots {
        free: 3,
        bytes_max: DELIVERY_BATCH_BYTES_MAX,
    });
    fixture.submit_at_once(2).await;
    let PendingWork {
        mut leased,
        callable,
        due_at,
    } = fixture.store.notifier.take_pending_work();
    let batch = leased.pop().unwrap();
    assert_eq!((leased.len(), callable, due_at), (0, vec![], None));
    assert_eq!(
        (batch.account, batch.bodies.clone()),
        (BOLT, Some(vec![vec![1; 2_048]; 2]))
    );
    fixture.submit(2).await.unwrap();
    assert_eq!(
        fixture.store.notifier.take_pending_work().leased.len(),
        0,
        "its call is in progress"
    );
    fixture.end(&batch, Class::Unreachable).await;
    fixture
        .store
        .record_contact(NOW.plus(Duration::from_secs(2)), BOLT)
        .await
        .unwrap();
    fixture.submit(3).await.unwrap();
    assert_eq!(
        fixture.store.notifier.take_pending_work().leased.len(),
        0,
        "only the scheduler retries a failing lane"
    );
    assert!(
        fixture
            .store
            .verify_webhook(NOW, BOLT, webhook_url())
            .await
            .unwrap()
    );
    fixture.submit(4).await.unwrap();
    let leased = fixture.store.notifier.take_pending_work().leased;
    assert_eq!(
        leased[0].item_ids().len(),
        5,
        "the batch includes everything that waited"
    );
    fixture
        .store
        .release_lease(NOW, BOLT, leased[0].fence)
        .await
        .unwrap();
    fixture.submit(5).await.unwrap();
    fixture
        .store
        .release_lease(
            NOW,
            BOLT,
            fixture.store.notifier.take_pending_work().leased[0].fence,
        )
        .await
        .unwrap();
    fixture.submit(6).await.unwrap();
    assert_eq!(
        fixture.store.notifier.take_pending_work().callable,
        [BOLT],
        "three slots were offered"
    );
}

#[tokio::test]
async fn small_batches_include_their_bodies() {
    let fixture = Fixture::new().await;
    let lease = || {
        fixture
            .store
            .lease_batch(NOW, BOLT, DELIVERY_BATCH_BYTES_MAX)
    };
    for number in 0..4 {
        fixture.submit(number).await.unwrap();
    }
    let few = lease().await.unwrap().unwrap();
    assert_eq!(few.size_bytes(), DELIVERY_MEMORY_PER_CALL_BYTES as u64);
    assert_eq!(few.bodies, Some(vec![vec![1; 2_048]; 4]));
    fixture
        .store
        .release_lease(NOW, BOLT, few.fence)
        .await
        .unwrap();
    fixture.submit(4).await.unwrap();
    let many = lease().await.unwrap().unwrap();
    assert_eq!(
        (many.envelopes.len(), many.bodies),
        (5, None),
        "this batch needs shared memory"
    );
}

#[tokio::test]
async fn stale_call_end_is_ignored() {
    let fixture = Fixture::new().await;
    fixture.submit(0).await.unwrap();
    let call = async |at| {
        fixture
            .store
            .lease_batch(at, BOLT, DELIVERY_BATCH_BYTES_MAX)
            .await
            .unwrap()
            .unwrap()
    };
    let (lost, under_way) = (call(NOW).await, call(NOW.plus(LEASE_DURATION)).await);
    assert_eq!(lost.item_ids(), under_way.item_ids());
    assert!(!fixture.end(&lost, Class::Gone).await.is_turned_off);
    assert!(fixture.end(&under_way, Class::Gone).await.is_turned_off);
}

#[tokio::test]
async fn restart_recovers_leases() {
    let fixture = Fixture::new().await;
    fixture.submit(0).await.unwrap();
    let lost = fixture
        .store
        .lease_batch(NOW, BOLT, DELIVERY_BATCH_BYTES_MAX)
        .await
        .unwrap()
        .unwrap();
    assert!(
        fixture
            .due(NOW, EndpointHealth::Healthy)
            .await
            .lanes
            .is_empty()
    );
    fixture.store.close().await;
    let again = Store::open(&fixture.directory.path().join("relay.db"), Arc::default()).unwrap();
    again.recover_leases(NOW).await.unwrap();
    assert_eq!(again.find_due_lanes(NOW, 9).await.unwrap()[0].lanes, [BOLT]);
    let leased = again
        .lease_batch(NOW, BOLT, DELIVERY_BATCH_BYTES_MAX)
        .await
        .unwrap()
        .unwrap();
    assert!(leased.fence > lost.fence);
    assert_eq!(leased.item_ids(), lost.item_ids());
}

#[tokio::test]
async fn replaced_webhooks_stay_unverified() {
    let fixture = Fixture::new().await;
    let victim = WebhookUrl::parse("https://victim.example/").unwrap();
    let store = &fixture.store;
    store
        .change_delivery(NOW, BOLT, Some(victim))
        .await
        .unwrap();
    let verified = store.verify_webhook(NOW, BOLT, webhook_url()).await;
    assert!(!verified.unwrap(), "the test was that of the earlier URL");
    let account = store.load_account(BOLT).await.unwrap().unwrap();
    assert_eq!(account.webhook_state, WebhookState::Unverified);
}
