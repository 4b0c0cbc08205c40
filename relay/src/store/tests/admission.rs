//! Suspended accounts and quotas.

use super::*;
use sealpost_proto::{ErrorCode, limits::DELIVERY_BATCH_BYTES_MAX};
use sealpost_relay_core::QuotaOverrides;
use std::time::Duration;

#[tokio::test]
async fn suspended_account_receives_nothing_until_resumed() {
    let fixture = Fixture::new().await;
    fixture.submit(1).await.unwrap();
    let leased = fixture
        .store
        .lease_batch(NOW, BOLT, DELIVERY_BATCH_BYTES_MAX)
        .await
        .unwrap()
        .unwrap();
    fixture.submit(2).await.unwrap();
    fixture
        .store
        .set_suspended(NOW, BOLT, true)
        .await
        .unwrap()
        .unwrap();
    let refused = fixture.submit(3).await.unwrap();
    assert!(
        matches!(
            refused,
            SubmitOutcome::Refused {
                retry_after_ms: Some(_),
                ..
            }
        ),
        "{refused:?}"
    );
    // The call in progress completes, but no next batch is leased.
    let report = CallReport {
        account: BOLT,
        fence: leased.fence,
        item_ids: leased.item_ids(),
        bytes: leased.batch_bytes(),
        outcome: CallOutcome {
            class: Class::Unreachable,
            results: Vec::new(),
            reason: Some("why".to_owned()),
            elapsed: Duration::ZERO,
        },
        random: 0,
    };
    assert!(
        fixture
            .store
            .finish_call(NOW, report, Some(DELIVERY_BATCH_BYTES_MAX), |_| ())
            .await
            .unwrap()
            .next
            .is_none()
    );
    let later = NOW.plus(Duration::from_secs(7_200));
    assert!(
        fixture
            .store
            .lease_batch(later, BOLT, DELIVERY_BATCH_BYTES_MAX)
            .await
            .unwrap()
            .is_none()
    );
    assert!(
        fixture
            .store
            .pull(later, BOLT, PullLimits::default())
            .await
            .unwrap()
            .is_none()
    );
    fixture
        .store
        .set_suspended(later, BOLT, false)
        .await
        .unwrap()
        .unwrap();
    let batch = fixture
        .store
        .pull(later, BOLT, PullLimits::default())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(batch.envelopes.len(), 2, "nothing is lost");
}

fn refused(outcome: &SubmitOutcome) -> Option<ErrorCode> {
    match outcome {
        SubmitOutcome::Refused { code, .. } => Some(*code),
        SubmitOutcome::Accepted { .. } | SubmitOutcome::Duplicate { .. } => None,
    }
}

#[tokio::test]
async fn quota_overrides_cover_all_mailboxes() {
    let fixture = Fixture::new().await;
    let queue = async || {
        let quota = fixture
            .store
            .load_account_quota(BOLT)
            .await
            .unwrap()
            .unwrap();
        (quota.envelopes.envelopes, quota.envelopes.bytes)
    };
    let own = QuotaOverrides {
        account_envelopes: Some(2),
        ..QuotaOverrides::default()
    };
    assert!(
        fixture
            .store
            .replace_quota_overrides(BOLT, own)
            .await
            .unwrap()
    );
    assert_eq!(
        fixture
            .store
            .load_account_quota(BOLT)
            .await
            .unwrap()
            .unwrap()
            .overrides,
        own
    );
    assert_eq!(refused(&fixture.submit(1).await.unwrap()), None);
    assert_eq!(refused(&fixture.submit(2).await.unwrap()), None);
    assert_eq!(
        refused(&fixture.submit(3).await.unwrap()),
        Some(ErrorCode::MailboxFull)
    );
    assert_eq!(queue().await, (2, 4_096));
    let other = MailboxId::from_bytes([8; 16]);
    fixture
        .store
        .open_mailbox(NOW, BOLT, other, vec![send_key()], Quotas::default())
        .await
        .unwrap()
        .unwrap();
    let bytes = vec![1; 2_048];
    let proof = proofs::prove_post(&send_key(), other, envelope(4), &bytes).to_vec();
    let elsewhere = Submission {
        mailbox: other,
        proof,
        ..submission(4)
    };
    let results = fixture
        .store
        .submit(NOW, ACME, vec![elsewhere], Quotas::default())
        .await
        .unwrap();
    assert_eq!(
        refused(&results[0].outcome),
        Some(ErrorCode::MailboxFull),
        "all mailboxes share the quota"
    );
    assert!(
        fixture
            .store
            .replace_quota_overrides(BOLT, QuotaOverrides::default())
            .await
            .unwrap()
    );
    assert_eq!(
        refused(&fixture.submit(3).await.unwrap()),
        None,
        "the default quotas apply again"
    );
    fixture
        .store
        .close_mailbox(NOW, BOLT, MAILBOX)
        .await
        .unwrap();
    fixture.store.sweep(NOW).await.unwrap();
    assert_eq!(queue().await, (0, 0));
    let nobody = AccountId::from_bytes([200; 16]);
    assert!(
        !fixture
            .store
            .replace_quota_overrides(nobody, own)
            .await
            .unwrap()
    );
    assert_eq!(
        fixture.store.load_account_quota(nobody).await.unwrap(),
        None
    );
}
