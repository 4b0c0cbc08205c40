//! Backoff, due times and the order of lanes.

use super::*;
use crate::notifier::PendingWork;
use sealpost_proto::{
    limits::{DELIVERY_BATCH_BYTES_MAX, ENVELOPE_BYTES_MAX, LEASE_DURATION, WEBHOOK_TIMEOUT},
    wire::{DeliveryOutcome, DeliveryResult, DeliveryResults},
};
use std::time::Duration;

#[tokio::test]
async fn failed_batch_notifies_each_sender_once() {
    let fixture = Fixture::new().await;
    for number in 0..3 {
        fixture.submit(number).await.unwrap();
    }
    let leased = fixture
        .store
        .lease_batch(NOW, BOLT, DELIVERY_BATCH_BYTES_MAX)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(leased.envelopes.len(), 3);
    let outcome = fixture.end(&leased, Class::Unreachable).await;
    assert!(outcome.contact_ends_backoff && outcome.accounts_to_notify.contains(&ACME));
    fixture.end(&leased, Class::Unreachable).await;
    let events = fixture
        .store
        .pull(NOW, ACME, PullLimits::default())
        .await
        .unwrap()
        .unwrap();
    let notified: Vec<_> = events
        .events
        .iter()
        .map(|event| (event.envelope, event.attempts))
        .collect();
    assert_eq!(
        notified,
        [0, 1, 2].map(|number| (envelope(number), 1)),
        "a lease ends once"
    );
    let due = fixture.due(NOW, EndpointHealth::Failing).await;
    assert_eq!(
        (due.lanes, due.next_at),
        (vec![], Some(NOW.plus(Duration::from_millis(2_500))))
    );
    fixture
        .store
        .record_contact(NOW.plus(Duration::from_secs(2)), BOLT)
        .await
        .unwrap();
    assert_eq!(
        fixture
            .due(NOW.plus(Duration::from_secs(2)), EndpointHealth::Failing)
            .await
            .lanes,
        [BOLT]
    );
}

#[tokio::test]
async fn envelopes_behind_a_failed_batch_are_reported() {
    let fixture = Fixture::new().await;
    let leased = {
        fixture.submit(0).await.unwrap();
        let lease = fixture
            .store
            .lease_batch(NOW, BOLT, DELIVERY_BATCH_BYTES_MAX);
        lease.await.unwrap().unwrap()
    };
    for number in 1..40 {
        fixture.submit(number).await.unwrap();
    }
    fixture.end(&leased, Class::Unreachable).await;
    let events = fixture.store.pull(NOW, ACME, PullLimits::default()).await;
    let events = events.unwrap().unwrap().events;
    let attempts: Vec<_> = events.iter().map(|event| event.attempts).collect();
    let mut expected = vec![0; 32];
    expected[0] = 1;
    assert_eq!(attempts, expected);
}

#[tokio::test]
async fn notifications_contain_due_times() {
    let fixture = Fixture::new().await;
    let later = NOW.plus(Duration::from_secs(2));
    let come = async |number, now| {
        fixture
            .store
            .submit(now, ACME, vec![submission(number)], Quotas::default())
            .await
            .unwrap();
        let PendingWork {
            leased,
            callable,
            due_at,
        } = fixture.store.notifier.take_pending_work();
        assert!(leased.is_empty(), "no slot was offered");
        (callable, due_at)
    };
    assert_eq!(come(0, NOW).await, (vec![BOLT], None));
    let leased = fixture
        .store
        .lease_batch(NOW, BOLT, DELIVERY_BATCH_BYTES_MAX)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        come(1, NOW).await,
        (vec![], Some(NOW.plus(LEASE_DURATION))),
        "a call is in progress"
    );
    fixture.end(&leased, Class::Unreachable).await;
    assert_eq!(
        come(2, NOW).await,
        (vec![], Some(NOW.plus(Duration::from_millis(2_500)))),
        "the lane backs off"
    );
    fixture.store.record_contact(later, BOLT).await.unwrap();
    assert_eq!(
        fixture.due(later, EndpointHealth::Failing).await.lanes,
        [BOLT]
    );
    assert_eq!(
        come(3, later).await,
        (vec![], Some(later)),
        "the next call counts as a retry"
    );
}

#[tokio::test]
async fn served_lane_goes_behind_the_others() {
    let fixture = Fixture::new().await;
    let after = |seconds| NOW.plus(Duration::from_secs(seconds));
    for number in 0..2 {
        fixture.submit(number).await.unwrap();
    }
    let leased = fixture
        .store
        .lease_batch(NOW, BOLT, DELIVERY_BATCH_BYTES_MAX)
        .await
        .unwrap()
        .unwrap();
    fixture.submit(2).await.unwrap();
    // The refusal becomes an event for Acme, a second before the run of Bolt's lane ends.
    let refused = DeliveryResult {
        id: leased.item_ids()[0],
        outcome: DeliveryOutcome::Refused,
    };
    let results = DeliveryResults {
        fence: 0,
        results: vec![refused],
    };
    fixture
        .store
        .acknowledge(after(1), BOLT, results)
        .await
        .unwrap();
    let stored = DeliveryResult {
        id: leased.item_ids()[1],
        outcome: DeliveryOutcome::Stored,
    };
    let report = CallReport {
        account: BOLT,
        fence: leased.fence,
        item_ids: leased.item_ids()[1..].to_vec(),
        bytes: leased.batch_bytes(),
        outcome: CallOutcome {
            class: Class::Succeeded,
            results: vec![stored],
            reason: None,
            elapsed: Duration::ZERO,
        },
        random: 0,
    };
    let outcome = fixture
        .store
        .finish_call(after(2), report, None, |_| ())
        .await
        .unwrap();
    assert!(outcome.next.is_none());
    assert_eq!(
        fixture.due(after(3), EndpointHealth::Healthy).await.lanes,
        [ACME, BOLT]
    );
}

#[tokio::test]
async fn lanes_continue_after_the_clock_is_set_back() {
    let fixture = Fixture::new().await;
    fixture.submit(0).await.unwrap();
    fixture.store.sweep(NOW).await.unwrap();
    let leased = fixture
        .store
        .lease_batch(NOW, BOLT, DELIVERY_BATCH_BYTES_MAX)
        .await
        .unwrap()
        .unwrap();
    fixture.end(&leased, Class::Unreachable).await;
    let before = NOW.minus(Duration::from_secs(3 * 3_600));
    assert!(
        fixture
            .due(before, EndpointHealth::Failing)
            .await
            .lanes
            .is_empty()
    );
    fixture.store.sweep(before).await.unwrap();
    assert_eq!(
        fixture.due(before, EndpointHealth::Failing).await.lanes,
        [BOLT]
    );
    assert!(
        fixture
            .store
            .lease_batch(before, BOLT, DELIVERY_BATCH_BYTES_MAX)
            .await
            .unwrap()
            .is_some()
    );
}

#[tokio::test]
async fn slow_lane_uses_failing_slots() {
    let fixture = Fixture::new().await;
    let call = async |now, class, elapsed| {
        let lease = fixture
            .store
            .lease_batch(now, BOLT, DELIVERY_BATCH_BYTES_MAX);
        let leased = lease.await.unwrap().unwrap();
        let stored = |id| DeliveryResult {
            id,
            outcome: DeliveryOutcome::Stored,
        };
        let report = CallReport {
            account: BOLT,
            fence: leased.fence,
            item_ids: leased.item_ids(),
            bytes: ENVELOPE_BYTES_MAX,
            outcome: CallOutcome {
                class,
                results: leased.item_ids().into_iter().map(stored).collect(),
                reason: None,
                elapsed,
            },
            random: 0,
        };
        let finished = fixture.store.finish_call(now, report, None, |_| ());
        finished.await.unwrap();
    };
    let later = NOW.plus(LEASE_DURATION);
    fixture.submit(0).await.unwrap();
    fixture.store.notifier.take_pending_work();
    call(NOW, Class::TimedOut, WEBHOOK_TIMEOUT).await;
    call(later, Class::Succeeded, Duration::from_secs(70)).await;
    fixture.submit(1).await.unwrap();
    let PendingWork { callable, .. } = fixture.store.notifier.take_pending_work();
    assert_eq!(callable, [], "the accepting commit does not lease it");
    let due = fixture.due(later, EndpointHealth::Failing).await;
    assert_eq!(due.lanes, [BOLT], "an item needs long");
    call(later, Class::Succeeded, Duration::from_secs(1)).await;
    fixture.submit(2).await.unwrap();
    let due = fixture.due(later, EndpointHealth::Healthy).await;
    assert!(due.lanes.contains(&BOLT), "an item arrived quickly");
}
