//! Group commits and full disks.

use super::*;
use sealpost_proto::limits::WRITER_QUEUE_MAX;

#[tokio::test]
async fn concurrent_requests_share_a_commit() {
    let fixture = Fixture::new().await;
    let before = fixture.store.stats().commits;
    let submits = fixture.submit_at_once(64).await;
    assert!(
        submits
            .iter()
            .all(|outcome| matches!(outcome, Ok(SubmitOutcome::Accepted { .. })))
    );
    assert_eq!(fixture.store.stats().commits - before, 1);
}

#[tokio::test]
async fn requests_beyond_the_queue_are_refused() {
    let fixture = Fixture::new().await;
    let submits = fixture.submit_at_once(4_000).await;
    let accepted = submits.iter().filter(|outcome| outcome.is_ok()).count();
    assert!(
        submits
            .iter()
            .all(|outcome| matches!(outcome, Ok(_) | Err(StoreError::Busy)))
    );
    assert_eq!(accepted, WRITER_QUEUE_MAX, "the queue in memory is bounded");
    let known = fixture
        .store
        .load_statuses(ACME, (0..4_000).map(envelope).collect())
        .await
        .unwrap();
    assert_eq!(known.len(), accepted);
}

#[tokio::test]
async fn store_recovers_from_a_full_disk() {
    let fixture = Fixture::new().await;
    fixture.health.record_store_commit();
    fixture.submit(0).await.unwrap();
    let pages = |limit: &'static str| {
        fixture.store.write(move |db| {
            Ok(db
                .query_row(limit, [], |row| row.get::<_, i64>(0))
                .map(|_| ())?)
        })
    };
    pages("PRAGMA max_page_count = 1").await.unwrap();
    let mut number = 1;
    let error = loop {
        match fixture.submit(number).await {
            Ok(_) => number += 1,
            Err(error) => break error,
        }
        assert!(number < 1_000, "the disk never filled");
    };
    assert_eq!(error, StoreError::DiskFull);
    assert!(matches!(
        fixture.health.readiness(),
        crate::health::Readiness::StoreFailing { .. }
    ));
    let known = fixture
        .store
        .load_statuses(ACME, (0..=number).map(envelope).collect())
        .await
        .unwrap();
    assert_eq!(
        known.len(),
        usize::from(number),
        "the accepted envelopes without the refused one"
    );
    pages("PRAGMA max_page_count = 1000000").await.unwrap();
    fixture.submit(number).await.unwrap();
    fixture.store.sweep(NOW).await.unwrap();
}
