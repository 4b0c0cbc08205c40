//! Totals and queue items, as the operator sees them.

use super::*;
use sealpost_proto::{
    DeliveryId,
    wire::{DeliveryOutcome, DeliveryResult, DeliveryResults},
};
use std::time::Duration;

#[tokio::test]
async fn totals_find_the_oldest_item() {
    let fixture = Fixture::new().await;
    let oldest = async || fixture.store.load_totals().await.unwrap().oldest_at;
    assert_eq!(oldest().await, None);
    for number in 0..3 {
        let at = NOW.plus(Duration::from_secs(number.into()));
        fixture
            .store
            .submit(at, ACME, vec![submission(number)], Quotas::default())
            .await
            .unwrap();
    }
    assert_eq!(oldest().await, Some(NOW));
    let items = fixture
        .store
        .list_queue_items(NOW, BOLT, DeliveryId(0), 9)
        .await
        .unwrap()
        .unwrap()
        .page
        .items;
    let until = NOW.plus(Duration::from_secs(3_600));
    let (stored, refused) = (items[0].id, items[1].id);
    fixture
        .store
        .write(move |db| lanes::set_aside(db, BOLT, queue_changes::item_id(stored), until))
        .await
        .unwrap();
    assert_eq!(
        oldest().await,
        Some(NOW),
        "an envelope that is set aside waits too"
    );
    let results = [
        (stored, DeliveryOutcome::Stored),
        (refused, DeliveryOutcome::Refused),
    ];
    let results = results
        .map(|(id, outcome)| DeliveryResult { id, outcome })
        .to_vec();
    let later = NOW.plus(Duration::from_secs(60));
    fixture
        .store
        .acknowledge(later, BOLT, DeliveryResults { fence: 0, results })
        .await
        .unwrap();
    assert_eq!(
        oldest().await,
        Some(NOW.plus(Duration::from_secs(2))),
        "the event for the sender is younger"
    );
    let totals = fixture.store.load_totals().await.unwrap();
    assert_eq!(
        (
            totals.accounts,
            totals.mailboxes,
            totals.queued,
            totals.queues,
            totals.failing
        ),
        (2, 1, 2, 2, 0)
    );
}

#[tokio::test]
async fn operator_sees_set_aside_and_held_envelopes() {
    let fixture = Fixture::new().await;
    let other = MailboxId::from_bytes([8; 16]);
    fixture
        .store
        .open_mailbox(NOW, BOLT, other, vec![send_key()], Quotas::default())
        .await
        .unwrap()
        .unwrap();
    for number in 0..2 {
        fixture.submit(number).await.unwrap();
    }
    let proof = proofs::prove_post(&send_key(), other, envelope(2), &submission(2).bytes).to_vec();
    let elsewhere = Submission {
        mailbox: other,
        proof,
        ..submission(2)
    };
    fixture
        .store
        .submit(NOW, ACME, vec![elsewhere], Quotas::default())
        .await
        .unwrap();
    let states = async || {
        let items = fixture
            .store
            .list_queue_items(NOW, BOLT, DeliveryId(0), 9)
            .await
            .unwrap()
            .unwrap()
            .page
            .items;
        items
            .iter()
            .map(|item| (item.queue_state, item.set_aside_until))
            .collect::<Vec<_>>()
    };
    assert_eq!(states().await, [(QueueState::InOrder, None); 3]);
    let until = NOW.plus(Duration::from_secs(3_600));
    let first = fixture
        .store
        .list_queue_items(NOW, BOLT, DeliveryId(0), 1)
        .await
        .unwrap()
        .unwrap()
        .page
        .items[0]
        .id;
    let aside =
        move |db: &Connection| lanes::set_aside(db, BOLT, queue_changes::item_id(first), until);
    assert!(fixture.store.write(aside).await.unwrap());
    let expected = [
        (QueueState::SetAside, Some(until)),
        (QueueState::Held, None),
        (QueueState::InOrder, None),
    ];
    assert_eq!(
        states().await,
        expected,
        "also before the envelope behind it is held"
    );
    fixture
        .store
        .write(|db| lanes::hold_behind(db, BOLT))
        .await
        .unwrap();
    assert_eq!(states().await, expected);
}
