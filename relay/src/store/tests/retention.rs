//! Deletion of digests and blobs.

use super::*;
use sealpost_proto::{
    ErrorCode,
    wire::{DeliveryOutcome, DeliveryResult, DeliveryResults},
};
use std::time::Duration;

#[tokio::test]
async fn digests_are_deleted_after_37_days() {
    let fixture = Fixture::new().await;
    fixture.submit(0).await.unwrap();
    let leased = fixture
        .store
        .pull(NOW, BOLT, PullLimits::default())
        .await
        .unwrap()
        .unwrap();
    let results = leased.item_ids().into_iter().map(|id| DeliveryResult {
        id,
        outcome: DeliveryOutcome::Stored,
    });
    let results = DeliveryResults {
        fence: leased.fence,
        results: results.collect(),
    };
    fixture.store.acknowledge(NOW, BOLT, results).await.unwrap();
    assert_eq!(
        fixture.store.load_bodies(leased.item_ids()).await.unwrap(),
        [None]
    );
    assert_eq!(fixture.state(0).await, EnvelopeState::Stored);
    let days = |days: u64| NOW.plus(Duration::from_secs(days * 86_400));
    fixture.store.sweep(days(36)).await.unwrap();
    assert_eq!(fixture.state(0).await, EnvelopeState::Stored);
    fixture.store.sweep(days(37)).await.unwrap();
    assert!(
        fixture
            .store
            .load_statuses(ACME, vec![envelope(0)])
            .await
            .unwrap()
            .is_empty()
    );
}

#[tokio::test]
async fn late_part_of_a_deleted_blob_is_deleted() {
    let fixture = Fixture::new().await;
    let id = sealpost_proto::BlobId::from_bytes([5; 16]);
    let size = sealpost_relay_core::blob::BlobSize::parse(500, u64::MAX).unwrap();
    let new = NewBlob {
        id,
        account: ACME,
        size,
        token_hash: [1; 32],
        expires_at: NOW.plus(Duration::from_secs(60)),
    };
    let create = async || {
        fixture
            .store
            .create_blob(NOW, new, Quotas::default())
            .await
            .unwrap()
    };
    create().await.unwrap();
    fixture.store.delete_blob(ACME, id).await.unwrap();
    assert_eq!(fixture.store.sweep(NOW).await.unwrap().blob_deletions, [id]);
    fixture.store.record_blob_deletions(vec![id]).await.unwrap();
    assert_eq!(
        fixture
            .store
            .record_part(NOW, ACME, id, 0, [2; 32])
            .await
            .unwrap(),
        None
    );
    assert_eq!(
        create().await,
        Err(ErrorCode::Unavailable),
        "until the part is deleted from the disk"
    );
    assert_eq!(fixture.store.sweep(NOW).await.unwrap().blob_deletions, [id]);
    fixture.store.record_blob_deletions(vec![id]).await.unwrap();
    create().await.unwrap();
    let page = fixture.store.list_incomplete_blobs(None).await.unwrap();
    assert_eq!(
        page.iter()
            .map(|incomplete| incomplete.blob)
            .collect::<Vec<_>>(),
        [id]
    );
    assert_eq!(
        fixture
            .store
            .list_incomplete_blobs(page.last().copied())
            .await
            .unwrap(),
        []
    );
}
