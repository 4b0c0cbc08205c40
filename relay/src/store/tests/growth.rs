//! Bounds of everything that an account can add without a quota of its own.

use super::*;
use sealpost_proto::{
    ErrorCode,
    limits::{
        ACCOUNT_EVENTS_MAX, CLOSED_MAILBOXES_MAX, DELIVERY_BATCH_BYTES_MAX,
        ENVELOPE_LIFETIME_DEFAULT, MAILBOX_ID_RETENTION, SENDER_LIMIT_PERIOD,
        SHORT_RECORD_RETENTION,
    },
    wire::{DeliveryOutcome, DeliveryResult, DeliveryResults},
};

impl Fixture {
    async fn submit_with_short_record(&self, number: u16) -> SubmitOutcome {
        let submission = Submission {
            has_short_record: true,
            ..submission(number)
        };
        let results = self
            .store
            .submit(NOW, ACME, vec![submission], Quotas::default())
            .await;
        results.unwrap()[0].outcome.clone()
    }

    /// Stores everything that waits for Bolt.
    async fn store_all(&self, now: Timestamp) {
        let limits = PullLimits::default();
        let Some(leased) = self.store.pull(now, BOLT, limits).await.unwrap() else {
            return;
        };
        let results = leased.item_ids().into_iter().map(|id| DeliveryResult {
            id,
            outcome: DeliveryOutcome::Stored,
        });
        let results = DeliveryResults {
            fence: leased.fence,
            results: results.collect(),
        };
        self.store.acknowledge(now, BOLT, results).await.unwrap();
    }

    async fn sweep_all(&self, now: Timestamp) {
        while self.store.sweep(now).await.unwrap().has_more {}
    }

    async fn has_record(&self, number: u16) -> bool {
        let found = self.store.load_statuses(ACME, vec![envelope(number)]).await;
        !found.unwrap().is_empty()
    }

    async fn execute(&self, sql: &'static str) {
        let executed = self.store.write(move |db| Ok(db.execute_batch(sql)?));
        executed.await.unwrap();
    }

    async fn count(&self, sql: &'static str) -> u64 {
        let count = self
            .store
            .read(move |db| Ok(sealpost_sqlite::query::first_value(db, sql, [])?));
        count.await.unwrap().unwrap()
    }

    async fn open(&self, account: AccountId, mailbox: MailboxId) -> Result<(), ErrorCode> {
        let opened =
            self.store
                .open_mailbox(NOW, account, mailbox, vec![send_key()], Quotas::default());
        opened.await.unwrap()
    }

    /// Registers the key of [`BOLT`] or another one.
    async fn register(&self, account: AccountId, key: u8) {
        let new = NewAccount {
            account,
            key: AccountKey::from_bytes([key; 32]),
            webhook_url: None,
            webhook_secret: WebhookSecret::from_bytes([3; 32]),
            policy: RegistrationPolicy::Open,
            is_token_valid: false,
            token_digest: None,
        };
        self.store.register(NOW, new).await.unwrap().unwrap();
    }
}

fn mailbox(number: u8) -> MailboxId {
    MailboxId::from_bytes([number; 16])
}

#[tokio::test]
async fn short_records_are_deleted_after_two_hours() {
    let fixture = Fixture::new().await;
    fixture.submit(0).await.unwrap();
    fixture.submit_with_short_record(1).await;
    fixture.store_all(NOW).await;
    let retained = NOW.plus(SHORT_RECORD_RETENTION - Duration::from_millis(1));
    fixture.sweep_all(retained).await;
    assert!(matches!(
        fixture.submit_with_short_record(1).await,
        SubmitOutcome::Duplicate { .. }
    ));
    fixture.sweep_all(NOW.plus(SHORT_RECORD_RETENTION)).await;
    assert!(!fixture.has_record(1).await);
    assert!(fixture.has_record(0).await, "it has a long record");
}

#[tokio::test]
async fn late_envelope_leaves_no_short_record() {
    let fixture = Fixture::new().await;
    fixture.submit_with_short_record(1).await;
    let later = NOW.plus(SHORT_RECORD_RETENTION);
    fixture.sweep_all(later).await;
    assert!(fixture.has_record(1).await, "it still waits");
    fixture.store_all(later).await;
    assert!(!fixture.has_record(1).await);
}

#[tokio::test]
async fn waiting_events_are_bounded() {
    let fixture = Fixture::new().await;
    for number in 0..2 {
        fixture.submit(number).await.unwrap();
    }
    let expiry = NOW.plus(ENVELOPE_LIFETIME_DEFAULT);
    let sql = format!(
        "UPDATE lanes SET waiting_items = {}",
        ACCOUNT_EVENTS_MAX - 1
    );
    fixture
        .store
        .write(move |db| Ok(db.execute_batch(&sql)?))
        .await
        .unwrap();
    fixture.sweep_all(expiry).await;
    assert_eq!(fixture.count("SELECT count(*) FROM events").await, 1);
    for number in 0..2 {
        assert_eq!(fixture.state(number).await, EnvelopeState::Expired);
    }
}

#[tokio::test]
async fn closed_mailboxes_are_bounded() {
    let fixture = Fixture::new().await;
    for number in 10..13 {
        fixture.open(BOLT, mailbox(number)).await.unwrap();
    }
    let sql = format!(
        "UPDATE accounts SET closed_mailbox_count = {}",
        CLOSED_MAILBOXES_MAX - 2
    );
    fixture
        .store
        .write(move |db| Ok(db.execute_batch(&sql)?))
        .await
        .unwrap();
    for number in 10..13 {
        let at = NOW.plus(Duration::from_secs(number.into()));
        let closed = fixture.store.close_mailbox(at, BOLT, mailbox(number));
        closed.await.unwrap();
    }
    assert_eq!(
        fixture.open(ACME, mailbox(12)).await,
        Err(ErrorCode::Conflict)
    );
    assert_eq!(
        fixture.open(BOLT, mailbox(12)).await,
        Err(ErrorCode::Conflict)
    );
    assert_eq!(fixture.open(ACME, mailbox(10)).await, Ok(()));
}

#[tokio::test]
async fn deleted_account_is_removed_by_sweeps() {
    let fixture = Fixture::new().await;
    fixture.submit(0).await.unwrap();
    let blob = NewBlob {
        id: sealpost_proto::BlobId::from_bytes([5; 16]),
        account: BOLT,
        size: sealpost_relay_core::blob::BlobSize::parse(500, u64::MAX).unwrap(),
        token_hash: [1; 32],
        expires_at: NOW.plus(Duration::from_secs(60)),
    };
    let created = fixture.store.create_blob(NOW, blob, Quotas::default());
    created.await.unwrap().unwrap();
    assert!(fixture.store.delete_account(NOW, BOLT).await.unwrap());
    assert!(!fixture.store.delete_account(NOW, BOLT).await.unwrap());
    assert_eq!(fixture.store.load_account_state(BOLT).await.unwrap(), None);
    assert!(matches!(
        fixture.submit(1).await.unwrap(),
        SubmitOutcome::Refused {
            code: ErrorCode::MailboxUnknown,
            ..
        }
    ));
    assert_eq!(
        fixture.open(BOLT, mailbox(1)).await,
        Err(ErrorCode::AccountUnknown)
    );
    let again = fixture.store.create_blob(
        NOW,
        NewBlob {
            id: sealpost_proto::BlobId::from_bytes([6; 16]),
            ..blob
        },
        Quotas::default(),
    );
    assert_eq!(again.await.unwrap(), Err(ErrorCode::AccountUnknown));
    fixture.sweep_all(NOW).await;
    assert_eq!(fixture.state(0).await, EnvelopeState::Failed);
    let left = "SELECT (SELECT count(*) FROM waiting_envelopes) + (SELECT count(*) FROM blobs) \
                + (SELECT count(*) FROM mailboxes WHERE closed_at IS NULL OR key_1 IS NOT NULL)";
    assert_eq!(fixture.count(left).await, 0);
}

#[tokio::test]
async fn mailbox_ids_return_to_the_same_key() {
    const NEW: AccountId = AccountId::from_bytes([3; 16]);
    let fixture = Fixture::new().await;
    fixture.open(BOLT, mailbox(20)).await.unwrap();
    let closed = fixture.store.close_mailbox(NOW, BOLT, mailbox(20));
    closed.await.unwrap();
    fixture.submit(0).await.unwrap();
    fixture.store.delete_account(NOW, BOLT).await.unwrap();
    fixture.register(NEW, BOLT.as_bytes()[0]).await;
    assert_eq!(fixture.open(ACME, MAILBOX).await, Err(ErrorCode::Conflict));
    assert_eq!(
        fixture.open(NEW, MAILBOX).await,
        Err(ErrorCode::Unavailable),
        "an envelope of the old account waits in it"
    );
    fixture.sweep_all(NOW).await;
    assert_eq!(fixture.open(ACME, MAILBOX).await, Err(ErrorCode::Conflict));
    assert_eq!(fixture.open(NEW, MAILBOX).await, Ok(()));
    assert_eq!(
        fixture.open(NEW, mailbox(20)).await,
        Err(ErrorCode::Conflict),
        "its owner closed it"
    );
    fixture.submit(1).await.unwrap();
    assert_eq!(fixture.state(1).await, EnvelopeState::Queued);
    assert_eq!(fixture.state(0).await, EnvelopeState::Failed);
}

#[tokio::test]
async fn mailbox_ids_of_deleted_accounts_are_forgotten() {
    let fixture = Fixture::new().await;
    fixture.store.delete_account(NOW, BOLT).await.unwrap();
    fixture.sweep_all(NOW).await;
    fixture
        .sweep_all(NOW.plus(MAILBOX_ID_RETENTION - Duration::from_millis(1)))
        .await;
    assert_eq!(fixture.open(ACME, MAILBOX).await, Err(ErrorCode::Conflict));
    fixture.sweep_all(NOW.plus(MAILBOX_ID_RETENTION)).await;
    assert_eq!(
        fixture.count("SELECT count(*) FROM closed_accounts").await,
        0
    );
    assert_eq!(fixture.open(ACME, MAILBOX).await, Ok(()));
}

#[tokio::test]
async fn mailbox_limits_each_sender() {
    let fixture = Fixture::new().await;
    let settings = MailboxSettings {
        keys: vec![send_key()],
        sender_envelopes_max: Some(2),
    };
    let changed = fixture
        .store
        .open_mailbox(NOW, BOLT, MAILBOX, settings, Quotas::default());
    changed.await.unwrap().unwrap();
    let submit = async |now, sender, number| {
        let submissions = vec![submission(number)];
        let results = fixture
            .store
            .submit(now, sender, submissions, Quotas::default());
        results.await.unwrap()[0].outcome.clone()
    };
    for number in 0..2 {
        let outcome = submit(NOW, ACME, number).await;
        assert!(
            matches!(outcome, SubmitOutcome::Accepted { .. }),
            "{outcome:?}"
        );
        // Delivery does not make room for more.
        fixture.store_all(NOW).await;
    }
    assert!(matches!(
        submit(NOW, ACME, 2).await,
        SubmitOutcome::Refused {
            code: ErrorCode::MailboxFull,
            retry_after_ms: Some(_)
        }
    ));
    assert!(matches!(
        submit(NOW, ACME, 1).await,
        SubmitOutcome::Duplicate { .. }
    ));
    let other = submit(NOW, BOLT, 3).await;
    assert!(matches!(other, SubmitOutcome::Accepted { .. }), "{other:?}");
    let later = NOW.plus(SENDER_LIMIT_PERIOD);
    assert!(matches!(
        submit(later, ACME, 2).await,
        SubmitOutcome::Accepted { .. }
    ));
    fixture.sweep_all(later.plus(SENDER_LIMIT_PERIOD)).await;
    assert_eq!(
        fixture.count("SELECT count(*) FROM mailbox_senders").await,
        0
    );
}

#[tokio::test]
async fn expired_front_does_not_block_the_queue() {
    use sealpost_proto::limits::QUEUE_SCAN_ROWS_MAX;
    let fixture = Fixture::new().await;
    let expired = u16::try_from(QUEUE_SCAN_ROWS_MAX + 1).unwrap();
    let expiring = (0..expired).map(|number| Submission {
        requested_expiry: Some(NOW.plus(Duration::from_secs(1))),
        ..submission(number)
    });
    let submitted = fixture
        .store
        .submit(NOW, ACME, expiring.collect(), Quotas::default());
    submitted.await.unwrap();
    fixture.submit(expired).await.unwrap();
    let later = NOW.plus(Duration::from_secs(1));
    let hidden = fixture
        .store
        .lease_batch(later, BOLT, DELIVERY_BATCH_BYTES_MAX);
    assert!(hidden.await.unwrap().is_none(), "the search ends before it");
    fixture.sweep_all(later).await;
    let due = fixture.due(later, EndpointHealth::Healthy).await;
    assert!(due.lanes.contains(&BOLT), "{due:?}");
    let limits = PullLimits::default();
    let leased = fixture.store.pull(later, BOLT, limits).await.unwrap();
    assert_eq!(leased.unwrap().envelopes[0].envelope, envelope(expired));
}

#[tokio::test]
async fn leased_envelope_does_not_expire() {
    use sealpost_proto::limits::LEASE_DURATION;
    let fixture = Fixture::new().await;
    for number in 0..2 {
        fixture.submit(number).await.unwrap();
    }
    fixture
        .execute("UPDATE envelopes SET expires_at = accepted_at + 1000")
        .await;
    let limits = PullLimits::default();
    assert!(
        fixture
            .store
            .pull(NOW, BOLT, limits)
            .await
            .unwrap()
            .is_some()
    );
    let later = NOW.plus(Duration::from_secs(1));
    fixture.sweep_all(later).await;
    assert_eq!(fixture.state(0).await, EnvelopeState::Queued);
    fixture.sweep_all(NOW.plus(LEASE_DURATION)).await;
    assert_eq!(fixture.state(0).await, EnvelopeState::Expired);
}
