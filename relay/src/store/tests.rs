//! The store by itself: what shares a commit, what a full disk leaves behind, which index a queue is read by.

use super::*;
use crate::{
    admin::model::Place,
    wakes::{News, Offer},
};
use sealpost_proto::{
    AccountId, EnvelopeId, EnvelopeState, MailboxId, SendKey, Timestamp, WebhookSecret,
    limits::{
        DELIVERY_BATCH_BYTES_MAX, DELIVERY_MEMORY_OF_CALL_BYTES, LEASE_LIFE, WRITER_QUEUE_MAX,
    },
    wire::{DeliveryOutcome, DeliveryResult, DeliveryResults, RegistrationPolicy, SubmitOutcome},
};
use sealpost_relay_core::{QuotaOverrides, Quotas, Standing, classify::Class};
use sealpost_signatures::{AccountKey, proofs};
use sha2::{Digest as _, Sha256};
use std::time::Duration;
use tempfile::TempDir;

pub(super) const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);
const MAILBOX: MailboxId = MailboxId::from_bytes([9; 16]);
pub(super) const ACME: AccountId = AccountId::from_bytes([1; 16]);
pub(super) const BOLT: AccountId = AccountId::from_bytes([2; 16]);

pub(super) struct Bench {
    pub(super) store: Store,
    pub(super) health: Arc<Health>,
    pub(super) folder: TempDir,
}

fn send_key() -> SendKey {
    SendKey::from_bytes([7; 32])
}

impl Bench {
    /// Acme, which sends, and Bolt, whose webhook is active.
    pub(super) async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let health = Arc::new(Health::default());
        let store = Store::open(&folder.path().join("relay.db"), Arc::clone(&health)).unwrap();
        for account in [ACME, BOLT] {
            let new = NewAccount {
                account,
                key: AccountKey::from_bytes([account.as_bytes()[0]; 32]),
                webhook_url: Some("https://node.example/".to_owned()),
                webhook_secret: WebhookSecret::from_bytes([3; 32]),
                policy: RegistrationPolicy::Open,
                token_good: false,
                token_digest: None,
            };
            store.register(NOW, new).await.unwrap().unwrap();
            store.verified(NOW, account).await.unwrap();
        }
        store
            .open_mailbox(NOW, BOLT, MAILBOX, vec![send_key()], Quotas::default())
            .await
            .unwrap()
            .unwrap();
        Self {
            store,
            health,
            folder,
        }
    }

    pub(super) async fn submit(&self, number: u16) -> Result<SubmitOutcome, StoreError> {
        let results = self
            .store
            .submit(NOW, ACME, vec![submission(number)], Quotas::default())
            .await?;
        Ok(results[0].outcome.clone())
    }

    /// So many requests that all come while the writer is at work.
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
            // Each is with the writer, or refused, once it was polled; without constraint, none is polled later.
            let submits =
                futures_util::future::join_all((0..count).map(|number| self.submit(number)));
            tokio::join!(tokio::task::unconstrained(submits), async { drop(release) }).0
        };
        let (at_work, submits) = tokio::join!(at_work, coming);
        at_work.unwrap();
        submits
    }

    async fn end(&self, leased: &LeasedBatch, class: Class) -> Handed {
        let end = CallEnd {
            account: BOLT,
            fence: leased.fence,
            items: leased.items(),
            class,
            results: Vec::new(),
            reason: Some("why".to_owned()),
            random: 0,
        };
        self.store
            .finish_call(NOW, end, None, |_| ())
            .await
            .unwrap()
    }

    async fn due(&self, now: Timestamp, standing: Standing) -> Due {
        let [living, failing] = self.store.due(now, 9).await.unwrap();
        if standing == Standing::Living {
            living
        } else {
            failing
        }
    }

    pub(super) async fn state(&self, number: u16) -> EnvelopeState {
        self.store
            .statuses(ACME, vec![envelope(number)])
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
        home: true,
        proof: proofs::post(&send_key(), MAILBOX, envelope(number), &bytes).to_vec(),
        asked_expiry: None,
        digest: Sha256::digest(&bytes).into(),
        bytes,
    }
}

#[tokio::test]
async fn requests_that_come_together_share_a_commit() {
    let bench = Bench::new().await;
    let before = bench.store.stats().commits;
    let submits = bench.submit_at_once(64).await;
    assert!(
        submits
            .iter()
            .all(|outcome| matches!(outcome, Ok(SubmitOutcome::Accepted { .. })))
    );
    assert_eq!(bench.store.stats().commits - before, 1);
}

#[tokio::test]
async fn what_is_too_much_at_once_is_refused_at_once_and_the_rest_is_kept() {
    let bench = Bench::new().await;
    let submits = bench.submit_at_once(4_000).await;
    let accepted = submits.iter().filter(|outcome| outcome.is_ok()).count();
    assert!(
        submits
            .iter()
            .all(|outcome| matches!(outcome, Ok(_) | Err(StoreError::Busy)))
    );
    assert_eq!(accepted, WRITER_QUEUE_MAX, "the queue in memory has an end");
    let known = bench
        .store
        .statuses(ACME, (0..4_000).map(envelope).collect())
        .await
        .unwrap();
    assert_eq!(known.len(), accepted);
}

#[tokio::test]
async fn a_full_disk_refuses_keeps_its_word_and_recovers() {
    let bench = Bench::new().await;
    bench.health.store_works();
    bench.submit(0).await.unwrap();
    let pages = |limit: &'static str| {
        bench.store.write(move |db| {
            Ok(db
                .query_row(limit, [], |row| row.get::<_, i64>(0))
                .map(|_| ())?)
        })
    };
    pages("PRAGMA max_page_count = 1").await.unwrap();
    let mut number = 1;
    let error = loop {
        match bench.submit(number).await {
            Ok(_) => number += 1,
            Err(error) => break error,
        }
        assert!(number < 1_000, "the disk never filled");
    };
    assert_eq!(error, StoreError::DiskFull);
    assert_eq!(error.code(), ErrorCode::StorageFull);
    assert!(matches!(
        bench.health.readiness(),
        crate::health::Readiness::StoreFails { .. }
    ));
    let known = bench
        .store
        .statuses(ACME, (0..=number).map(envelope).collect())
        .await
        .unwrap();
    assert_eq!(
        known.len(),
        usize::from(number),
        "all that was accepted, and not the refused one"
    );
    pages("PRAGMA max_page_count = 1000000").await.unwrap();
    bench.submit(number).await.unwrap();
    bench.store.sweep(NOW).await.unwrap();
}

#[tokio::test]
async fn a_batch_that_failed_is_told_once_for_each_envelope_and_attempt() {
    let bench = Bench::new().await;
    for number in 0..3 {
        bench.submit(number).await.unwrap();
    }
    let leased = bench
        .store
        .lease_call(NOW, BOLT, DELIVERY_BATCH_BYTES_MAX)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(leased.envelopes.len(), 3);
    let handed = bench.end(&leased, Class::Unreachable).await;
    assert!(handed.heeds_contact && handed.woken.contains(&ACME));
    bench.end(&leased, Class::Unreachable).await;
    let news = bench
        .store
        .pull(NOW, ACME, DELIVERY_BATCH_BYTES_MAX)
        .await
        .unwrap()
        .unwrap();
    let told: Vec<_> = news
        .events
        .iter()
        .map(|event| (event.envelope, event.attempts))
        .collect();
    assert_eq!(
        told,
        [0, 1, 2].map(|number| (envelope(number), 1)),
        "the end of a lease counts once"
    );
    let due = bench.due(NOW, Standing::Failing).await;
    assert_eq!(
        (due.lanes, due.next_at),
        (vec![], Some(NOW.plus(Duration::from_millis(2_500))))
    );
    bench
        .store
        .contact(NOW.plus(Duration::from_secs(2)), BOLT)
        .await
        .unwrap();
    assert_eq!(
        bench
            .due(NOW.plus(Duration::from_secs(2)), Standing::Failing)
            .await
            .lanes,
        [BOLT]
    );
}

#[tokio::test]
async fn when_a_lane_is_due_is_said_with_what_came() {
    let bench = Bench::new().await;
    let later = NOW.plus(Duration::from_secs(2));
    let come = async |number, now| {
        bench
            .store
            .submit(now, ACME, vec![submission(number)], Quotas::default())
            .await
            .unwrap();
        let News {
            leased,
            callable,
            due_at,
        } = bench.store.wakes.news();
        assert!(leased.is_empty(), "no place was offered");
        (callable, due_at)
    };
    assert_eq!(come(0, NOW).await, (vec![BOLT], None));
    let leased = bench
        .store
        .lease_call(NOW, BOLT, DELIVERY_BATCH_BYTES_MAX)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        come(1, NOW).await,
        (vec![], Some(NOW.plus(LEASE_LIFE))),
        "a call is under way"
    );
    bench.end(&leased, Class::Unreachable).await;
    assert_eq!(
        come(2, NOW).await,
        (vec![], Some(NOW.plus(Duration::from_millis(2_500)))),
        "the lane backs off"
    );
    bench.store.contact(later, BOLT).await.unwrap();
    assert_eq!(bench.due(later, Standing::Failing).await.lanes, [BOLT]);
    assert_eq!(
        come(3, later).await,
        (vec![], Some(later)),
        "the next call has its turn among those that failed"
    );
}

#[tokio::test]
async fn what_comes_to_a_lane_that_can_be_called_is_leased_with_its_commit() {
    let bench = Bench::new().await;
    bench.store.wakes.offer(Offer {
        places: 3,
        bytes_max: DELIVERY_BATCH_BYTES_MAX,
    });
    bench.submit_at_once(2).await;
    let News {
        mut leased,
        callable,
        due_at,
    } = bench.store.wakes.news();
    let batch = leased.pop().unwrap();
    assert_eq!((leased.len(), callable, due_at), (0, vec![], None));
    assert_eq!(
        (batch.account, batch.bodies.clone()),
        (BOLT, Some(vec![vec![1; 2_048]; 2]))
    );
    bench.submit(2).await.unwrap();
    assert_eq!(
        bench.store.wakes.news().leased.len(),
        0,
        "its call is under way"
    );
    bench.end(&batch, Class::Unreachable).await;
    bench
        .store
        .contact(NOW.plus(Duration::from_secs(2)), BOLT)
        .await
        .unwrap();
    bench.submit(3).await.unwrap();
    assert_eq!(
        bench.store.wakes.news().leased.len(),
        0,
        "a call after one that failed is the scheduler's"
    );
    bench.store.verified(NOW, BOLT).await.unwrap();
    bench.submit(4).await.unwrap();
    let leased = bench.store.wakes.news().leased;
    assert_eq!(leased[0].items().len(), 5, "with all that waited");
    bench
        .store
        .return_lease(NOW, BOLT, leased[0].fence)
        .await
        .unwrap();
    bench.submit(5).await.unwrap();
    bench
        .store
        .return_lease(NOW, BOLT, bench.store.wakes.news().leased[0].fence)
        .await
        .unwrap();
    bench.submit(6).await.unwrap();
    assert_eq!(
        bench.store.wakes.news().callable,
        [BOLT],
        "the places were three"
    );
}

#[tokio::test]
async fn few_bytes_come_with_the_lease() {
    let bench = Bench::new().await;
    let lease = || bench.store.lease_call(NOW, BOLT, DELIVERY_BATCH_BYTES_MAX);
    for number in 0..4 {
        bench.submit(number).await.unwrap();
    }
    let few = lease().await.unwrap().unwrap();
    assert_eq!(few.size_bytes(), DELIVERY_MEMORY_OF_CALL_BYTES as u64);
    assert_eq!(few.bodies, Some(vec![vec![1; 2_048]; 4]));
    bench
        .store
        .return_lease(NOW, BOLT, few.fence)
        .await
        .unwrap();
    bench.submit(4).await.unwrap();
    let many = lease().await.unwrap().unwrap();
    assert_eq!(
        (many.envelopes.len(), many.bodies),
        (5, None),
        "these need room in the memory that is shared"
    );
}

#[tokio::test]
async fn the_late_end_of_a_call_says_nothing_of_the_one_that_is_under_way() {
    let bench = Bench::new().await;
    bench.submit(0).await.unwrap();
    let call = async |at| {
        bench
            .store
            .lease_call(at, BOLT, DELIVERY_BATCH_BYTES_MAX)
            .await
            .unwrap()
            .unwrap()
    };
    let (lost, under_way) = (call(NOW).await, call(NOW.plus(LEASE_LIFE)).await);
    assert_eq!(lost.items(), under_way.items());
    assert!(!bench.end(&lost, Class::Gone).await.switched_off);
    assert!(bench.end(&under_way, Class::Gone).await.switched_off);
}

#[tokio::test]
async fn a_lease_that_the_process_took_with_it_is_free_after_the_restart() {
    let bench = Bench::new().await;
    bench.submit(0).await.unwrap();
    let lost = bench
        .store
        .lease_call(NOW, BOLT, DELIVERY_BATCH_BYTES_MAX)
        .await
        .unwrap()
        .unwrap();
    assert!(bench.due(NOW, Standing::Living).await.lanes.is_empty());
    bench.store.close().await;
    let again = Store::open(&bench.folder.path().join("relay.db"), Arc::default()).unwrap();
    again.restarted(NOW).await.unwrap();
    assert_eq!(again.due(NOW, 9).await.unwrap()[0].lanes, [BOLT]);
    let leased = again
        .lease_call(NOW, BOLT, DELIVERY_BATCH_BYTES_MAX)
        .await
        .unwrap()
        .unwrap();
    assert!(leased.fence > lost.fence);
    assert_eq!(leased.items(), lost.items());
}

#[tokio::test]
async fn what_ended_leaves_only_its_digest_and_that_goes_after_37_days() {
    let bench = Bench::new().await;
    bench.submit(0).await.unwrap();
    let leased = bench
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
    bench.store.acknowledge(NOW, BOLT, results).await.unwrap();
    assert_eq!(bench.store.bodies(leased.items()).await.unwrap(), [None]);
    assert_eq!(bench.state(0).await, EnvelopeState::Stored);
    let days = |days: u64| NOW.plus(Duration::from_secs(days * 86_400));
    bench.store.sweep(days(36)).await.unwrap();
    assert_eq!(bench.state(0).await, EnvelopeState::Stored);
    bench.store.sweep(days(37)).await.unwrap();
    assert!(
        bench
            .store
            .statuses(ACME, vec![envelope(0)])
            .await
            .unwrap()
            .is_empty()
    );
}

#[tokio::test]
async fn a_lane_that_had_its_turn_goes_behind_the_others() {
    let bench = Bench::new().await;
    let after = |seconds| NOW.plus(Duration::from_secs(seconds));
    for number in 0..2 {
        bench.submit(number).await.unwrap();
    }
    let leased = bench
        .store
        .lease_call(NOW, BOLT, DELIVERY_BATCH_BYTES_MAX)
        .await
        .unwrap()
        .unwrap();
    bench.submit(2).await.unwrap();
    // What fails becomes news for Acme, a second before the turn of Bolt's lane ends.
    let refused = DeliveryResult {
        id: leased.items()[0],
        outcome: DeliveryOutcome::Refused,
    };
    let results = DeliveryResults {
        lease: 0,
        results: vec![refused],
    };
    bench
        .store
        .acknowledge(after(1), BOLT, results)
        .await
        .unwrap();
    let stored = DeliveryResult {
        id: leased.items()[1],
        outcome: DeliveryOutcome::Stored,
    };
    let end = CallEnd {
        account: BOLT,
        fence: leased.fence,
        items: leased.items()[1..].to_vec(),
        class: Class::Answered,
        results: vec![stored],
        reason: None,
        random: 0,
    };
    let handed = bench
        .store
        .finish_call(after(2), end, None, |_| ())
        .await
        .unwrap();
    assert!(handed.next.is_none());
    assert_eq!(
        bench.due(after(3), Standing::Living).await.lanes,
        [ACME, BOLT]
    );
}

#[tokio::test]
async fn a_clock_that_was_put_back_holds_nothing_up() {
    let bench = Bench::new().await;
    bench.submit(0).await.unwrap();
    bench.store.sweep(NOW).await.unwrap();
    let leased = bench
        .store
        .lease_call(NOW, BOLT, DELIVERY_BATCH_BYTES_MAX)
        .await
        .unwrap()
        .unwrap();
    bench.end(&leased, Class::Unreachable).await;
    let before = NOW.minus(Duration::from_secs(3 * 3_600));
    assert!(bench.due(before, Standing::Failing).await.lanes.is_empty());
    bench.store.sweep(before).await.unwrap();
    assert_eq!(bench.due(before, Standing::Failing).await.lanes, [BOLT]);
    assert!(
        bench
            .store
            .lease_call(before, BOLT, DELIVERY_BATCH_BYTES_MAX)
            .await
            .unwrap()
            .is_some()
    );
}

#[tokio::test]
async fn the_oldest_of_all_is_found_whatever_ended_and_in_which_place_it_waits() {
    let bench = Bench::new().await;
    let oldest = async || bench.store.census().await.unwrap().oldest_at;
    assert_eq!(oldest().await, None);
    for number in 0..3 {
        let at = NOW.plus(Duration::from_secs(number.into()));
        bench
            .store
            .submit(at, ACME, vec![submission(number)], Quotas::default())
            .await
            .unwrap();
    }
    assert_eq!(oldest().await, Some(NOW));
    let items = bench
        .store
        .items(NOW, BOLT, sealpost_proto::DeliveryId(0), 9)
        .await
        .unwrap()
        .unwrap()
        .items;
    let until = NOW.plus(Duration::from_secs(3_600));
    let (stored, refused) = (items[0].id, items[1].id);
    bench
        .store
        .write(move |db| lanes::set_aside(db, BOLT, tally::item(stored), until))
        .await
        .unwrap();
    assert_eq!(oldest().await, Some(NOW), "set aside it waits too");
    let results = [
        (stored, DeliveryOutcome::Stored),
        (refused, DeliveryOutcome::Refused),
    ];
    let results = results
        .map(|(id, outcome)| DeliveryResult { id, outcome })
        .to_vec();
    let later = NOW.plus(Duration::from_secs(60));
    bench
        .store
        .acknowledge(later, BOLT, DeliveryResults { lease: 0, results })
        .await
        .unwrap();
    assert_eq!(
        oldest().await,
        Some(NOW.plus(Duration::from_secs(2))),
        "news for the sender came later"
    );
    let census = bench.store.census().await.unwrap();
    assert_eq!(
        (
            census.accounts,
            census.mailboxes,
            census.queued,
            census.queues,
            census.failing
        ),
        (2, 1, 2, 2, 0)
    );
}

/// How SQLite would answer a question.
async fn plan(bench: &Bench, sql: &str) -> String {
    let sql = format!("EXPLAIN QUERY PLAN {sql}");
    let read = bench.store.read(move |db| {
        let mut asked = db.prepare(&sql)?;
        for number in 1..=asked.parameter_count() {
            asked.raw_bind_parameter(number, 0)?;
        }
        let mut lines = asked.raw_query();
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
async fn a_queue_is_read_by_its_index_whatever_waits() {
    let bench = Bench::new().await;
    let of_account = |which: &str, order: &str| {
        let deliverable = lanes::DELIVERABLE;
        format!(
            "SELECT id FROM envelopes WHERE account = ?1 AND state < 2 AND {which} AND {deliverable} {order} LIMIT 256"
        )
    };
    let questions = [
        (
            of_account(lanes::QUEUED, "ORDER BY id"),
            "envelopes_waiting (account=? AND place=?)",
        ),
        (
            of_account("place = 0", "ORDER BY id"),
            "envelopes_waiting (account=? AND place=?)",
        ),
        (
            of_account("place = 2", "ORDER BY id"),
            "envelopes_waiting (account=? AND place=?)",
        ),
        (
            of_account("place = 1", "ORDER BY set_aside_until"),
            "envelopes_set_aside (account=?)",
        ),
        (deliveries::DUE.to_owned(), "lanes_due (failing=?"),
        (
            "SELECT id FROM events WHERE account = ? ORDER BY id LIMIT 9".to_owned(),
            "events_waiting (account=?)",
        ),
    ];
    for (sql, index) in questions {
        let plan = plan(&bench, &sql).await;
        assert!(
            plan.contains(index) && !plan.contains("TEMP B-TREE") && !plan.contains("SCAN"),
            "{sql}\n{plan}"
        );
    }
}

#[tokio::test]
async fn nothing_goes_out_to_a_suspended_account_on_either_way_and_all_of_it_after() {
    let bench = Bench::new().await;
    bench.submit(1).await.unwrap();
    let leased = bench
        .store
        .lease_call(NOW, BOLT, DELIVERY_BATCH_BYTES_MAX)
        .await
        .unwrap()
        .unwrap();
    bench.submit(2).await.unwrap();
    bench.store.suspend(NOW, BOLT, true).await.unwrap().unwrap();
    let refused = bench.submit(3).await.unwrap();
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
    let end = CallEnd {
        account: BOLT,
        fence: leased.fence,
        items: leased.items(),
        class: Class::Unreachable,
        results: Vec::new(),
        reason: Some("why".to_owned()),
        random: 0,
    };
    assert!(
        bench
            .store
            .finish_call(NOW, end, Some(DELIVERY_BATCH_BYTES_MAX), |_| ())
            .await
            .unwrap()
            .next
            .is_none()
    );
    let later = NOW.plus(Duration::from_secs(7_200));
    assert!(
        bench
            .store
            .lease_call(later, BOLT, DELIVERY_BATCH_BYTES_MAX)
            .await
            .unwrap()
            .is_none()
    );
    assert!(
        bench
            .store
            .pull(later, BOLT, DELIVERY_BATCH_BYTES_MAX)
            .await
            .unwrap()
            .is_none()
    );
    bench
        .store
        .suspend(later, BOLT, false)
        .await
        .unwrap()
        .unwrap();
    let batch = bench
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
async fn what_is_said_of_one_account_counts_at_once_and_its_queue_is_counted_over_all_mailboxes() {
    let bench = Bench::new().await;
    let queue = async || {
        let quota = bench.store.quota_of(BOLT).await.unwrap().unwrap();
        (quota.queue.envelopes, quota.queue.bytes)
    };
    let own = QuotaOverrides {
        account_envelopes: Some(2),
        ..QuotaOverrides::default()
    };
    assert!(bench.store.set_quota(BOLT, own).await.unwrap());
    assert_eq!(
        bench.store.quota_of(BOLT).await.unwrap().unwrap().overrides,
        own
    );
    assert_eq!(refused(&bench.submit(1).await.unwrap()), None);
    assert_eq!(refused(&bench.submit(2).await.unwrap()), None);
    assert_eq!(
        refused(&bench.submit(3).await.unwrap()),
        Some(ErrorCode::MailboxFull)
    );
    assert_eq!(queue().await, (2, 4_096));
    let other = MailboxId::from_bytes([8; 16]);
    bench
        .store
        .open_mailbox(NOW, BOLT, other, vec![send_key()], Quotas::default())
        .await
        .unwrap()
        .unwrap();
    let bytes = vec![1; 2_048];
    let proof = proofs::post(&send_key(), other, envelope(4), &bytes).to_vec();
    let elsewhere = Submission {
        mailbox: other,
        proof,
        ..submission(4)
    };
    let results = bench
        .store
        .submit(NOW, ACME, vec![elsewhere], Quotas::default())
        .await
        .unwrap();
    assert_eq!(
        refused(&results[0].outcome),
        Some(ErrorCode::MailboxFull),
        "all mailboxes share it"
    );
    assert!(
        bench
            .store
            .set_quota(BOLT, QuotaOverrides::default())
            .await
            .unwrap()
    );
    assert_eq!(
        refused(&bench.submit(3).await.unwrap()),
        None,
        "as all others again"
    );
    bench.store.close_mailbox(NOW, BOLT, MAILBOX).await.unwrap();
    bench.store.sweep(NOW).await.unwrap();
    assert_eq!(queue().await, (0, 0));
    let nobody = AccountId::from_bytes([200; 16]);
    assert!(!bench.store.set_quota(nobody, own).await.unwrap());
    assert_eq!(bench.store.quota_of(nobody).await.unwrap(), None);
}

#[tokio::test]
async fn the_operator_sees_what_is_set_aside_and_what_waits_behind_it() {
    let bench = Bench::new().await;
    let other = MailboxId::from_bytes([8; 16]);
    bench
        .store
        .open_mailbox(NOW, BOLT, other, vec![send_key()], Quotas::default())
        .await
        .unwrap()
        .unwrap();
    for number in 0..2 {
        bench.submit(number).await.unwrap();
    }
    let proof = proofs::post(&send_key(), other, envelope(2), &submission(2).bytes).to_vec();
    let elsewhere = Submission {
        mailbox: other,
        proof,
        ..submission(2)
    };
    bench
        .store
        .submit(NOW, ACME, vec![elsewhere], Quotas::default())
        .await
        .unwrap();
    let places = async || {
        let items = bench
            .store
            .items(NOW, BOLT, sealpost_proto::DeliveryId(0), 9)
            .await
            .unwrap()
            .unwrap()
            .items;
        items
            .iter()
            .map(|item| (item.place, item.set_aside_until))
            .collect::<Vec<_>>()
    };
    assert_eq!(places().await, [(Place::InOrder, None); 3]);
    let until = NOW.plus(Duration::from_secs(3_600));
    let first = bench
        .store
        .items(NOW, BOLT, sealpost_proto::DeliveryId(0), 1)
        .await
        .unwrap()
        .unwrap()
        .items[0]
        .id;
    let aside = move |db: &Connection| lanes::set_aside(db, BOLT, tally::item(first), until);
    assert!(bench.store.write(aside).await.unwrap());
    let expected = [
        (Place::SetAside, Some(until)),
        (Place::Behind, None),
        (Place::InOrder, None),
    ];
    assert_eq!(
        places().await,
        expected,
        "also before the one behind was put in its place"
    );
    bench
        .store
        .write(|db| lanes::hold_back(db, BOLT))
        .await
        .unwrap();
    assert_eq!(places().await, expected);
}

#[tokio::test]
async fn a_part_that_comes_after_its_blob_went_is_taken_away_too() {
    let bench = Bench::new().await;
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
        bench
            .store
            .create_blob(NOW, new, Quotas::default())
            .await
            .unwrap()
    };
    create().await.unwrap();
    bench.store.delete_blob(ACME, id).await.unwrap();
    assert_eq!(bench.store.sweep(NOW).await.unwrap().doomed, [id]);
    bench.store.forget_doomed(vec![id]).await.unwrap();
    assert_eq!(
        bench
            .store
            .part_written(NOW, ACME, id, 0, [2; 32])
            .await
            .unwrap(),
        None
    );
    assert_eq!(
        create().await,
        Err(ErrorCode::Unavailable),
        "until the part is gone from the disk"
    );
    assert_eq!(bench.store.sweep(NOW).await.unwrap().doomed, [id]);
    bench.store.forget_doomed(vec![id]).await.unwrap();
    create().await.unwrap();
    let page = bench.store.unfinished_blobs(None).await.unwrap();
    assert_eq!(
        page.iter()
            .map(|unfinished| unfinished.blob)
            .collect::<Vec<_>>(),
        [id]
    );
    assert_eq!(
        bench
            .store
            .unfinished_blobs(page.last().copied())
            .await
            .unwrap(),
        []
    );
}
