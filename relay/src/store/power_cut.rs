//! A power cut, as the write-ahead log shows it afterwards: what was written since the last fsync may be gone from any byte
//! on. `docs/decisions/skip-fsync-for-leases-and-outcomes.md` says which commits that may be.

use super::{
    tests::{ACME, BOLT, Bench, NOW, envelope},
    *,
};
use sealpost_proto::{
    EnvelopeState,
    limits::DELIVERY_BATCH_BYTES_MAX,
    wire::{DeliveryOutcome, DeliveryResult},
};
use sealpost_relay_core::classify::Class;
use std::fs;

const ENVELOPES: u16 = 3;

/// The log, as far as it is written now.
fn log(bench: &Bench) -> Vec<u8> {
    fs::read(bench.folder.path().join("relay.db-wal")).unwrap()
}

/// What a relay finds when it starts after a cut that left so much of the log.
async fn start_after_cut(bench: &Bench, log: &[u8]) -> Bench {
    let folder = tempfile::tempdir().unwrap();
    fs::copy(
        bench.folder.path().join("relay.db"),
        folder.path().join("relay.db"),
    )
    .unwrap();
    fs::write(folder.path().join("relay.db-wal"), log).unwrap();
    let health = Arc::new(Health::default());
    let store = Store::open(&folder.path().join("relay.db"), Arc::clone(&health)).unwrap();
    store.restarted(NOW).await.unwrap();
    Bench {
        store,
        health,
        folder,
    }
}

/// Calls the webhook with what waits; it answers that it has stored it. Gives the ids and the bytes.
async fn deliver(bench: &Bench) -> Option<(LeasedBatch, Vec<Option<Vec<u8>>>)> {
    let leased = bench
        .store
        .lease_call(NOW, BOLT, DELIVERY_BATCH_BYTES_MAX)
        .await
        .unwrap()?;
    let bodies = bench.store.bodies(leased.items()).await.unwrap();
    let stored = |id| DeliveryResult {
        id,
        outcome: DeliveryOutcome::Stored,
    };
    let end = CallEnd {
        account: BOLT,
        fence: leased.fence,
        items: leased.items(),
        class: Class::Succeeded,
        results: leased.items().into_iter().map(stored).collect(),
        reason: None,
        random: 0,
    };
    bench
        .store
        .finish_call(NOW, end, None, |_| ())
        .await
        .unwrap();
    Some((leased, bodies))
}

#[tokio::test]
async fn what_a_power_cut_undoes_of_a_call_is_done_again_and_comes_to_the_same() {
    let bench = Bench::new().await;
    for number in 0..ENVELOPES {
        let before = bench.store.stats().commits;
        bench.submit(number).await.unwrap();
        assert_eq!(
            bench.store.stats().commits,
            before + 1,
            "what is accepted is fsynced before it is answered"
        );
    }
    let accepted = log(&bench).len();
    let (first, bodies) = deliver(&bench).await.unwrap();
    let whole = log(&bench);
    let mut was_stored = false;
    // Some cuts fall on the border of a frame, others into one.
    for cut in (accepted..whole.len()).step_by(1_030).chain([whole.len()]) {
        let after = start_after_cut(&bench, &whole[..cut]).await;
        let states = after
            .store
            .statuses(ACME, (0..ENVELOPES).map(envelope).collect())
            .await
            .unwrap();
        let stored = states
            .iter()
            .filter(|status| status.state == EnvelopeState::Stored)
            .count();
        assert!(
            [0, states.len()].contains(&stored),
            "the end of a call is whole or gone: {states:?}"
        );
        assert!(stored > 0 || !was_stored, "a longer log knows no less");
        was_stored = stored > 0;
        let again = deliver(&after).await;
        assert_eq!(again.is_none(), was_stored);
        if let Some((again, repeated)) = again {
            assert_eq!(
                (again.envelopes, &repeated),
                (first.envelopes.clone(), &bodies),
                "the same, in the same order"
            );
        }
        assert_eq!(after.state(0).await, EnvelopeState::Stored);
        assert!(deliver(&after).await.is_none());
    }
    assert!(was_stored, "without a cut nothing is repeated");
}
