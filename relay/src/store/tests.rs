//! Tests of the store alone: group commits, full disks, leases and indices.

use super::*;
use crate::{
    lease::LeasedBatch,
    notifier::{CallSlots, PendingWork},
};
use deliveries::EnvelopeQuery;
use sealpost_proto::{
    AccountId, DeliveryId, EnvelopeId, EnvelopeState, ErrorCode, MailboxId, SendKey, Timestamp,
    WebhookSecret,
    limits::{
        DELIVERY_BATCH_BYTES_MAX, DELIVERY_MEMORY_PER_CALL_BYTES, LEASE_DURATION, WRITER_QUEUE_MAX,
    },
    wire::{DeliveryOutcome, DeliveryResult, DeliveryResults, RegistrationPolicy, SubmitOutcome},
};
use sealpost_relay_core::{EndpointHealth, QuotaOverrides, Quotas, classify::Class};
use sealpost_signatures::{AccountKey, proofs};
use sha2::{Digest as _, Sha256};
use std::time::Duration;
use tempfile::TempDir;

pub(super) const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);
const MAILBOX: MailboxId = MailboxId::from_bytes([9; 16]);
pub(super) const ACME: AccountId = AccountId::from_bytes([1; 16]);
pub(super) const BOLT: AccountId = AccountId::from_bytes([2; 16]);

pub(super) struct Fixture {
    pub(super) store: Store,
    pub(super) health: Arc<Health>,
    pub(super) directory: TempDir,
}

fn send_key() -> SendKey {
    SendKey::from_bytes([7; 32])
}

impl Fixture {
    /// Acme, which sends, and Bolt, whose webhook is active.
    pub(super) async fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let health = Arc::new(Health::default());
        let store = Store::open(&directory.path().join("relay.db"), Arc::clone(&health)).unwrap();
        for account in [ACME, BOLT] {
            let new = NewAccount {
                account,
                key: AccountKey::from_bytes([account.as_bytes()[0]; 32]),
                webhook_url: Some("https://node.example/".to_owned()),
                webhook_secret: WebhookSecret::from_bytes([3; 32]),
                policy: RegistrationPolicy::Open,
                is_token_valid: false,
                token_digest: None,
            };
            store.register(NOW, new).await.unwrap().unwrap();
            store.verify_webhook(NOW, account).await.unwrap();
        }
        store
            .open_mailbox(NOW, BOLT, MAILBOX, vec![send_key()], Quotas::default())
            .await
            .unwrap()
            .unwrap();
        Self {
            store,
            health,
            directory,
        }
    }

    pub(super) async fn submit(&self, number: u16) -> Result<SubmitOutcome, StoreError> {
        let results = self
            .store
            .submit(NOW, ACME, vec![submission(number)], Quotas::default())
            .await?;
        Ok(results[0].outcome.clone())
    }

    /// Submits requests that all arrive while the writer is busy.
    async fn submit_at_once(&self, count: u16) -> Vec<Result<SubmitOutcome, StoreError>> {
        let (held, holding) = tokio::sync::oneshot::channel();
        let (release, released) = std::sync::mpsc::channel::<()>();
        let at_work = self.store.write_new(move |_| {
            let _ = held.send(());
            let _ = released.recv();
            Ok(())
        });
        let coming = async {
            holding.await.unwrap();
            // Each is queued or refused when it is first polled; without the budget of the runtime,
            // all are polled at once.
            let submits =
                futures_util::future::join_all((0..count).map(|number| self.submit(number)));
            tokio::join!(tokio::task::unconstrained(submits), async { drop(release) }).0
        };
        let (at_work, submits) = tokio::join!(at_work, coming);
        at_work.unwrap();
        submits
    }

    async fn end(&self, leased: &LeasedBatch, class: Class) -> BatchOutcome {
        let report = CallReport {
            account: BOLT,
            fence: leased.fence,
            items: leased.items(),
            outcome: CallOutcome {
                class,
                results: Vec::new(),
                reason: Some("why".to_owned()),
            },
            random: 0,
        };
        self.store
            .finish_call(NOW, report, None, |_| ())
            .await
            .unwrap()
    }

    async fn due(&self, now: Timestamp, health: EndpointHealth) -> DueLanes {
        let [healthy, failing] = self.store.find_due_lanes(now, 9).await.unwrap();
        if health == EndpointHealth::Healthy {
            healthy
        } else {
            failing
        }
    }

    pub(super) async fn state(&self, number: u16) -> EnvelopeState {
        self.store
            .load_statuses(ACME, vec![envelope(number)])
            .await
            .unwrap()[0]
            .state
    }
}

pub(super) fn envelope(number: u16) -> EnvelopeId {
    let mut bytes = [0; 16];
    bytes[..2].copy_from_slice(&number.to_be_bytes());
    EnvelopeId::from_bytes(bytes)
}

fn submission(number: u16) -> Submission {
    let bytes = vec![1; 2_048];
    Submission {
        id: envelope(number),
        mailbox: MAILBOX,
        is_local: true,
        proof: proofs::prove_post(&send_key(), MAILBOX, envelope(number), &bytes).to_vec(),
        requested_expiry: None,
        digest: Sha256::digest(&bytes).into(),
        bytes,
    }
}

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
async fn full_disk_refuses_and_recovers() {
    let fixture = Fixture::new().await;
    fixture.health.store_committed();
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
        .pull(NOW, ACME, DELIVERY_BATCH_BYTES_MAX)
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
    fixture.store.verify_webhook(NOW, BOLT).await.unwrap();
    fixture.submit(4).await.unwrap();
    let leased = fixture.store.notifier.take_pending_work().leased;
    assert_eq!(
        leased[0].items().len(),
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
    assert_eq!(lost.items(), under_way.items());
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
    assert_eq!(leased.items(), lost.items());
}

#[tokio::test]
async fn digests_are_deleted_after_37_days() {
    let fixture = Fixture::new().await;
    fixture.submit(0).await.unwrap();
    let leased = fixture
        .store
        .pull(NOW, BOLT, DELIVERY_BATCH_BYTES_MAX)
        .await
        .unwrap()
        .unwrap();
    let results = leased.items().into_iter().map(|id| DeliveryResult {
        id,
        outcome: DeliveryOutcome::Stored,
    });
    let results = DeliveryResults {
        lease: leased.fence,
        results: results.collect(),
    };
    fixture.store.acknowledge(NOW, BOLT, results).await.unwrap();
    assert_eq!(
        fixture.store.load_bodies(leased.items()).await.unwrap(),
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
        id: leased.items()[0],
        outcome: DeliveryOutcome::Refused,
    };
    let results = DeliveryResults {
        lease: 0,
        results: vec![refused],
    };
    fixture
        .store
        .acknowledge(after(1), BOLT, results)
        .await
        .unwrap();
    let stored = DeliveryResult {
        id: leased.items()[1],
        outcome: DeliveryOutcome::Stored,
    };
    let report = CallReport {
        account: BOLT,
        fence: leased.fence,
        items: leased.items()[1..].to_vec(),
        outcome: CallOutcome {
            class: Class::Succeeded,
            results: vec![stored],
            reason: None,
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
        .acknowledge(later, BOLT, DeliveryResults { lease: 0, results })
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

/// Returns SQLite's query plan.
async fn plan(fixture: &Fixture, sql: &str) -> String {
    let sql = format!("EXPLAIN QUERY PLAN {sql}");
    let read = fixture.store.read(move |db| {
        let mut statement = db.prepare(&sql)?;
        for number in 1..=statement.parameter_count() {
            statement.raw_bind_parameter(number, 0)?;
        }
        let mut lines = statement.raw_query();
        let mut plan = String::new();
        while let Some(line) = lines.next()? {
            plan += &line.get::<_, String>("detail")?;
            plan.push('\n');
        }
        Ok(plan)
    });
    read.await.unwrap()
}

#[tokio::test]
async fn queues_are_read_by_their_indices() {
    let fixture = Fixture::new().await;
    let queue = deliveries::envelopes_sql(EnvelopeQuery::QUEUE);
    let set_aside = deliveries::envelopes_sql(EnvelopeQuery::SET_ASIDE);
    let [queued, all_set_aside, held] = EnvelopeQuery::EVERYTHING.map(deliveries::envelopes_sql);
    let by_state = "envelopes_waiting (account_id=? AND queue_state=?";
    let queries = [
        (queue, by_state),
        (queued, by_state),
        (all_set_aside, by_state),
        (held, by_state),
        (set_aside, "envelopes_set_aside (account_id=?)"),
        (deliveries::DUE_LANES.to_owned(), "lanes_due (is_failing=?"),
        (
            deliveries::EVENTS.to_owned(),
            "events_waiting (account_id=?)",
        ),
    ];
    for (sql, index) in queries {
        let plan = plan(&fixture, &sql).await;
        assert!(
            plan.contains(index) && !plan.contains("TEMP B-TREE") && !plan.contains("SCAN"),
            "{sql}\n{plan}"
        );
    }
}

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
    // The call that was under way ends as it ends, and brings no other.
    let report = CallReport {
        account: BOLT,
        fence: leased.fence,
        items: leased.items(),
        outcome: CallOutcome {
            class: Class::Unreachable,
            results: Vec::new(),
            reason: Some("why".to_owned()),
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
            .pull(later, BOLT, DELIVERY_BATCH_BYTES_MAX)
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
        .pull(later, BOLT, DELIVERY_BATCH_BYTES_MAX)
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

#[tokio::test]
async fn damaged_rows_are_reported() {
    let fixture = Fixture::new().await;
    fixture.submit(0).await.unwrap();
    let damage = |sql: &'static str| fixture.store.write(move |db| Ok(db.execute_batch(sql)?));
    damage("UPDATE envelopes SET state = 99").await.unwrap();
    let status = fixture.store.load_statuses(ACME, vec![envelope(0)]).await;
    assert_eq!(
        status,
        Err(Damaged::new("envelopes", "state").into()),
        "an unknown state is refused"
    );
    damage("UPDATE lanes SET machine = '{}'").await.unwrap();
    let state = fixture.store.load_account_state(BOLT).await;
    assert_eq!(state, Err(Damaged::new("lanes", "machine").into()));
}
