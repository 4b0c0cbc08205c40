//! Power cuts, simulated by a truncated write-ahead log: what was written since the last fsync may
//! be lost from any byte on. `docs/decisions/skip-fsync-for-leases-and-outcomes.md` says which
//! commits that may be.

use super::{
    tests::{ACME, BOLT, Fixture, NOW, envelope},
    *,
};
use crate::lease::LeasedBatch;
use sealpost_proto::{
    EnvelopeState,
    limits::DELIVERY_BATCH_BYTES_MAX,
    wire::{DeliveryOutcome, DeliveryResult},
};
use sealpost_relay_core::classify::Class;
use std::{fs, time::Duration};

const ENVELOPES: u16 = 3;

/// Reads the log as it is on disk now.
fn read_log(fixture: &Fixture) -> Vec<u8> {
    fs::read(fixture.directory.path().join("relay.db-wal")).unwrap()
}

/// Starts a relay after a power cut that left this much of the log.
async fn start_after_cut(fixture: &Fixture, log: &[u8]) -> Fixture {
    let directory = tempfile::tempdir().unwrap();
    fs::copy(
        fixture.directory.path().join("relay.db"),
        directory.path().join("relay.db"),
    )
    .unwrap();
    fs::write(directory.path().join("relay.db-wal"), log).unwrap();
    let health = Arc::new(Health::default());
    let store = Store::open(&directory.path().join("relay.db"), Arc::clone(&health)).unwrap();
    store.recover_leases(NOW).await.unwrap();
    Fixture {
        store,
        health,
        directory,
    }
}

/// Delivers the waiting items to a webhook that stores them. Returns the batch and the bytes.
async fn deliver(fixture: &Fixture) -> Option<(LeasedBatch, Vec<Option<Vec<u8>>>)> {
    let leased = fixture
        .store
        .lease_batch(NOW, BOLT, DELIVERY_BATCH_BYTES_MAX)
        .await
        .unwrap()?;
    let bodies = fixture.store.load_bodies(leased.item_ids()).await.unwrap();
    let stored = |id| DeliveryResult {
        id,
        outcome: DeliveryOutcome::Stored,
    };
    let report = CallReport {
        account: BOLT,
        fence: leased.fence,
        item_ids: leased.item_ids(),
        bytes: leased.batch_bytes(),
        outcome: CallOutcome {
            class: Class::Succeeded,
            results: leased.item_ids().into_iter().map(stored).collect(),
            reason: None,
            elapsed: Duration::ZERO,
        },
        random: 0,
    };
    fixture
        .store
        .finish_call(NOW, report, None, |_| ())
        .await
        .unwrap();
    Some((leased, bodies))
}

#[tokio::test]
async fn calls_undone_by_a_power_cut_are_repeated() {
    let fixture = Fixture::new().await;
    for number in 0..ENVELOPES {
        let before = fixture.store.stats().commits;
        fixture.submit(number).await.unwrap();
        assert_eq!(
            fixture.store.stats().commits,
            before + 1,
            "accepted envelopes are fsynced before the response"
        );
    }
    let accepted = read_log(&fixture).len();
    let (first, bodies) = deliver(&fixture).await.unwrap();
    let complete = read_log(&fixture);
    let mut was_stored = false;
    // Some cuts are between two frames, others within one.
    for cut in (accepted..complete.len())
        .step_by(1_030)
        .chain([complete.len()])
    {
        let after = start_after_cut(&fixture, &complete[..cut]).await;
        let states = after
            .store
            .load_statuses(ACME, (0..ENVELOPES).map(envelope).collect())
            .await
            .unwrap();
        let stored = states
            .iter()
            .filter(|status| status.state == EnvelopeState::Stored)
            .count();
        assert!(
            [0, states.len()].contains(&stored),
            "the end of a call is complete or lost: {states:?}"
        );
        assert!(stored > 0 || !was_stored, "a longer log never loses more");
        was_stored = stored > 0;
        let again = deliver(&after).await;
        assert_eq!(again.is_none(), was_stored);
        if let Some((again, repeated)) = again {
            assert_eq!(
                (again.envelopes, &repeated),
                (first.envelopes.clone(), &bodies),
                "the same batch in the same order"
            );
        }
        assert_eq!(after.state(0).await, EnvelopeState::Stored);
        assert!(deliver(&after).await.is_none());
    }
    assert!(was_stored, "nothing is repeated without a cut");
}
