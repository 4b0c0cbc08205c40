//! Random sequences of all operations of the store, generated from seeds, with its invariants
//! checked after each step. The message of a failure contains the seed.

use super::*;
use crate::lease::{LeasedBatch, PullLimits};
use rows::state_from_code;
use sealpost_proto::{
    AccountId, DeliveryId, EnvelopeId, EnvelopeState, MailboxId, SendKey, Timestamp, WebhookSecret,
    WebhookUrl,
    limits::{DELIVERY_BATCH_BYTES_MAX, LEASE_DURATION, SHORT_RECORD_RETENTION},
    wire::{DeliveryOutcome, DeliveryResult, DeliveryResults, RegistrationPolicy, SubmitOutcome},
};
use sealpost_relay_core::{Quotas, classify::Class};
use sealpost_signatures::{AccountKey, proofs};
use sealpost_sqlite::{RowExt as _, query};
use sha2::{Digest as _, Sha256};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

const SEEDS: u64 = 12;
const STEPS: u32 = 150;
const MAILBOX_ENVELOPES: u64 = 8;
const SENDER_ENVELOPES_MAX: u64 = 5;

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn choose<T: Clone>(&mut self, all: &[T]) -> T {
        let index = usize::try_from(self.below(all.len() as u64)).unwrap();
        all[index].clone()
    }

    fn id(&mut self) -> [u8; 16] {
        let mut id = [0; 16];
        id[..8].copy_from_slice(&self.next().to_be_bytes());
        id[8..].copy_from_slice(&self.next().to_be_bytes());
        id
    }
}

#[derive(Clone)]
struct Address {
    id: MailboxId,
    owner: AccountId,
}

/// Accepted envelope.
struct Accepted {
    sender: AccountId,
    mailbox: MailboxId,
    at: Timestamp,
    has_short_record: bool,
    /// Final state, once it was seen.
    state: Option<EnvelopeState>,
}

struct Scenario {
    store: Store,
    random: Random,
    now: Timestamp,
    accounts: Vec<AccountId>,
    /// Number that each key was made from.
    keys: BTreeMap<AccountId, u8>,
    mailboxes: Vec<Address>,
    accepted: BTreeMap<EnvelopeId, Accepted>,
    calls: Vec<LeasedBatch>,
    pulls: Vec<LeasedBatch>,
}

fn send_key(mailbox: MailboxId) -> SendKey {
    SendKey::from_bytes(Sha256::digest(mailbox.as_bytes()).into())
}

fn quotas() -> Quotas {
    Quotas {
        mailbox_envelopes: MAILBOX_ENVELOPES,
        ..Quotas::default()
    }
}

impl Scenario {
    async fn start(seed: u64, directory: &Path) -> Self {
        let store = Store::open(&directory.join(format!("{seed}.db")), Arc::default()).unwrap();
        let mut scenario = Self {
            store,
            random: Random(seed),
            now: Timestamp::from_millis(1_800_000_000_000),
            accounts: Vec::new(),
            keys: BTreeMap::new(),
            mailboxes: Vec::new(),
            accepted: BTreeMap::new(),
            calls: Vec::new(),
            pulls: Vec::new(),
        };
        for number in 0..3 {
            scenario.register(number).await;
        }
        for _ in 0..4 {
            scenario.open().await;
        }
        scenario
    }

    async fn register(&mut self, number: u8) {
        let account = AccountId::from_bytes(self.random.id());
        let url = WebhookUrl::parse("https://node.example/").unwrap();
        let new = NewAccount {
            account,
            key: AccountKey::from_bytes([number; 32]),
            webhook_url: Some(url.clone()),
            webhook_secret: WebhookSecret::from_bytes([3; 32]),
            policy: RegistrationPolicy::Open,
            is_token_valid: false,
            token_digest: None,
        };
        self.store.register(self.now, new).await.unwrap().unwrap();
        let verified = self.store.verify_webhook(self.now, account, url);
        assert!(verified.await.unwrap());
        self.accounts.push(account);
        self.keys.insert(account, number);
    }

    async fn open(&mut self) {
        let (id, owner) = (
            MailboxId::from_bytes(self.random.id()),
            self.random.choose(&self.accounts),
        );
        let settings = MailboxSettings {
            keys: vec![send_key(id)],
            sender_envelopes_max: (self.random.below(3) == 0).then_some(SENDER_ENVELOPES_MAX),
        };
        self.store
            .open_mailbox(self.now, owner, id, settings, quotas())
            .await
            .unwrap()
            .unwrap();
        self.mailboxes.push(Address { id, owner });
    }

    async fn step(&mut self) {
        match self.random.below(15) {
            0..=3 => self.submit().await,
            4..=5 => self.call().await,
            6..=7 => self.end_call().await,
            8 => self.pull().await,
            9 => self.acknowledge().await,
            10 => self.recall().await,
            11 => self.advance_time().await,
            12 => self.record_contact_or_restart().await,
            13 => self.replace_account().await,
            _ => self.close_and_open().await,
        }
    }

    async fn submit(&mut self) {
        let sender = self.random.choose(&self.accounts);
        let to = self.random.choose(&self.mailboxes);
        let submissions: Vec<_> = (0..=self.random.below(4))
            .map(|_| self.submission(to.id))
            .collect();
        let short_records: Vec<_> = submissions
            .iter()
            .map(|submission| submission.has_short_record)
            .collect();
        let results = self
            .store
            .submit(self.now, sender, submissions, quotas())
            .await
            .unwrap();
        for (result, has_short_record) in results.into_iter().zip(short_records) {
            if matches!(result.outcome, SubmitOutcome::Accepted { .. }) {
                let accepted = Accepted {
                    sender,
                    mailbox: to.id,
                    at: self.now,
                    has_short_record,
                    state: None,
                };
                self.accepted.insert(result.id, accepted);
            }
        }
    }

    fn submission(&mut self, mailbox: MailboxId) -> Submission {
        let id = EnvelopeId::from_bytes(self.random.id());
        let bytes = vec![1; 2_048 << self.random.below(3)];
        let lifetime = Duration::from_secs(30 + self.random.below(20_000));
        Submission {
            id,
            mailbox,
            is_local: true,
            proof: proofs::prove_post(&send_key(mailbox), mailbox, id, &bytes).to_vec(),
            requested_expiry: Some(self.now.plus(lifetime)),
            has_short_record: self.random.below(2) == 0,
            digest: Sha256::digest(&bytes).into(),
            bytes,
        }
    }

    async fn call(&mut self) {
        for account in self
            .store
            .find_due_lanes(self.now, 8)
            .await
            .unwrap()
            .into_iter()
            .flat_map(|due| due.lanes)
        {
            self.calls.extend(
                self.store
                    .lease_batch(self.now, account, DELIVERY_BATCH_BYTES_MAX)
                    .await
                    .unwrap(),
            );
        }
    }

    async fn end_call(&mut self) {
        let Some(batch) = self.calls.pop() else {
            return;
        };
        let wait = Duration::from_secs(self.random.below(600));
        let classes = [
            Class::Succeeded,
            Class::Succeeded,
            Class::Succeeded,
            Class::Unreachable,
            Class::TimedOut,
            Class::Unavailable,
            Class::EndpointError,
            Class::TooLarge,
            Class::RetryAfter(wait),
            Class::Refused,
        ];
        let class = self.random.choose(&classes);
        let results = if class == Class::Succeeded {
            self.results(&batch)
        } else {
            Vec::new()
        };
        let report = CallReport {
            account: batch.account,
            fence: batch.fence,
            item_ids: batch.item_ids(),
            bytes: batch.batch_bytes(),
            outcome: CallOutcome {
                class,
                results,
                reason: None,
                elapsed: Duration::ZERO,
            },
            random: self.random.next(),
        };
        let leases_next = self.random.below(2) == 0;
        let outcome = self
            .store
            .finish_call(
                self.now,
                report,
                leases_next.then_some(DELIVERY_BATCH_BYTES_MAX),
                |_| (),
            )
            .await
            .unwrap();
        self.calls.extend(outcome.next);
    }

    fn results(&mut self, batch: &LeasedBatch) -> Vec<DeliveryResult> {
        let outcomes = [
            DeliveryOutcome::Stored,
            DeliveryOutcome::Stored,
            DeliveryOutcome::Stored,
            DeliveryOutcome::Refused,
            DeliveryOutcome::Deferred {
                retry_after_ms: Some(self.random.below(60_000)),
            },
        ];
        batch
            .item_ids()
            .into_iter()
            .map(|id| DeliveryResult {
                id,
                outcome: self.random.choose(&outcomes),
            })
            .collect()
    }

    async fn pull(&mut self) {
        let account = self.random.choose(&self.accounts);
        self.pulls.extend(
            self.store
                .pull(self.now, account, PullLimits::default())
                .await
                .unwrap(),
        );
    }

    async fn acknowledge(&mut self) {
        let Some(batch) = self.pulls.pop() else {
            return;
        };
        let results = DeliveryResults {
            fence: batch.fence,
            results: self.results(&batch),
        };
        self.store
            .acknowledge(self.now, batch.account, results)
            .await
            .unwrap();
    }

    async fn recall(&mut self) {
        let all: Vec<_> = self
            .accepted
            .iter()
            .map(|(id, accepted)| (*id, accepted.sender, accepted.mailbox))
            .collect();
        if all.is_empty() {
            return;
        }
        let (id, sender, mailbox) = self.random.choose(&all);
        let proof = proofs::prove_recall(&send_key(mailbox), mailbox, id).to_vec();
        self.store
            .recall(self.now, sender, id, proof)
            .await
            .unwrap();
    }

    async fn advance_time(&mut self) {
        self.now = self.now.plus(Duration::from_secs(self.random.below(3_000)));
        self.store.sweep(self.now).await.unwrap();
    }

    async fn record_contact_or_restart(&mut self) {
        if self.random.below(3) == 0 {
            self.calls.clear();
            self.store.recover_leases(self.now).await.unwrap();
        } else {
            self.store
                .record_contact(self.now, self.random.choose(&self.accounts))
                .await
                .unwrap();
        }
    }

    async fn close_and_open(&mut self) {
        let index = usize::try_from(self.random.below(self.mailboxes.len() as u64)).unwrap();
        let Address { id, owner } = self.mailboxes.swap_remove(index);
        self.store.close_mailbox(self.now, owner, id).await.unwrap();
        self.open().await;
    }

    /// Deletes an account and registers its key again. The new account opens the mailboxes of the
    /// old one once no envelopes of the old one wait in them.
    async fn replace_account(&mut self) {
        let index = usize::try_from(self.random.below(self.accounts.len() as u64)).unwrap();
        let deleted = self.accounts.swap_remove(index);
        assert!(self.store.delete_account(self.now, deleted).await.unwrap());
        self.register(self.keys[&deleted]).await;
        let new = *self.accounts.last().unwrap();
        let now = self.now;
        for address in &mut self.mailboxes {
            if address.owner == deleted {
                let key = vec![send_key(address.id)];
                let reopened = self.store.open_mailbox(now, new, address.id, key, quotas());
                match reopened.await.unwrap() {
                    Ok(()) => address.owner = new,
                    Err(code) => assert_eq!(code, sealpost_proto::ErrorCode::Unavailable),
                }
            }
        }
        self.mailboxes.retain(|address| address.owner != deleted);
        self.open().await;
    }

    /// Stores everything that waits.
    async fn finish(&mut self) {
        self.calls.clear();
        self.store.recover_leases(self.now).await.unwrap();
        self.now = self.now.plus(LEASE_DURATION);
        while self.store.sweep(self.now).await.unwrap().has_more {}
        for account in self.accounts.clone() {
            while let Some(batch) = self
                .store
                .pull(self.now, account, PullLimits::default())
                .await
                .unwrap()
            {
                let stored = |id: DeliveryId| DeliveryResult {
                    id,
                    outcome: DeliveryOutcome::Stored,
                };
                let results = batch.item_ids().into_iter().map(stored).collect();
                let results = DeliveryResults {
                    fence: batch.fence,
                    results,
                };
                self.store
                    .acknowledge(self.now, account, results)
                    .await
                    .unwrap();
            }
        }
        self.now = self.now.plus(Duration::from_secs(120));
        self.store.sweep(self.now).await.unwrap();
    }

    async fn check_invariants(&mut self, seed: u64, step: u32) {
        let violations = self.store.read(|db| {
            let count = |sql| query::first_value::<u64>(db, sql, []);
            Ok(INVARIANTS
                .iter()
                .map(|(name, sql)| (*name, count(sql)))
                .collect::<Vec<_>>())
        });
        for (name, count) in violations.await.unwrap() {
            assert_eq!(count, Ok(Some(0)), "seed {seed}, step {step}: {name}");
        }
        let states = self.store.read(|db| {
            let sql = "SELECT envelope_id, state FROM envelopes";
            Ok(query::all_rows(db, sql, [], |row| {
                Ok((
                    row.id::<EnvelopeId>("envelope_id")?,
                    row.convert("state", state_from_code)?,
                ))
            })?)
        });
        let mut without_record: BTreeSet<_> = self.accepted.keys().copied().collect();
        for (id, state) in states.await.unwrap() {
            without_record.remove(&id);
            let seen = &mut self
                .accepted
                .get_mut(&id)
                .expect("only accepted envelopes are stored")
                .state;
            assert!(
                seen.is_none_or(|seen| seen == state),
                "seed {seed}, step {step}: {seen:?} became {state:?}"
            );
            *seen = state.is_final().then_some(state);
        }
        for id in without_record {
            let accepted = self.accepted.get_mut(&id).unwrap();
            let may_be_deleted = accepted.at.plus(SHORT_RECORD_RETENTION) <= self.now;
            assert!(
                accepted.has_short_record && may_be_deleted,
                "seed {seed}, step {step}: the record of {id} is missing"
            );
            // The state in which it ended was not seen.
            accepted.state.get_or_insert(EnvelopeState::Stored);
        }
    }
}

/// Invariants, each with a query that counts the rows that violate it.
const INVARIANTS: [(&str, &str); 12] = [
    (
        "a lane counts its waiting items",
        "SELECT count(*) FROM lanes l WHERE waiting_items <> \
             (SELECT count(*) FROM waiting_envelopes e WHERE e.account_id = l.account_id) \
             + (SELECT count(*) FROM events v WHERE v.account_id = l.account_id)",
    ),
    (
        "a mailbox counts its waiting envelopes",
        "SELECT count(*) FROM mailboxes m WHERE (waiting_envelopes, waiting_bytes) <> \
             (SELECT count(*), coalesce(sum(size_bytes), 0) FROM waiting_envelopes e WHERE \
             e.mailbox_id = m.id)",
    ),
    (
        "a waiting envelope has its bytes",
        "SELECT count(*) FROM waiting_envelopes e WHERE size_bytes <> \
             coalesce((SELECT length(bytes) FROM envelope_bodies b WHERE b.id = e.id), -1)",
    ),
    (
        "an ended envelope has no bytes",
        "SELECT count(*) FROM envelope_bodies WHERE id NOT IN (SELECT id FROM waiting_envelopes)",
    ),
    (
        "at most one event waits per envelope",
        "SELECT count(*) FROM (SELECT 1 FROM events GROUP BY account_id, envelope_id HAVING \
         count(*) > 1)",
    ),
    (
        "at most one envelope of a mailbox is set aside",
        "SELECT count(*) FROM (SELECT 1 FROM set_aside_envelopes GROUP BY mailbox_id HAVING \
         count(*) > 1)",
    ),
    (
        "a held envelope has an earlier one of its mailbox that is set aside",
        "SELECT count(*) FROM held_envelopes e WHERE NOT EXISTS (SELECT 1 FROM \
         set_aside_envelopes a \
             WHERE a.account_id = e.account_id AND a.mailbox_id = e.mailbox_id AND a.id < e.id)",
    ),
    (
        "only envelopes that are set aside have a retry time",
        "SELECT count(*) FROM waiting_envelopes WHERE (set_aside_until IS NOT NULL) <> \
             (id IN (SELECT id FROM set_aside_envelopes))",
    ),
    (
        "a mailbox is never over its quota",
        "SELECT count(*) FROM mailboxes WHERE waiting_envelopes > 8",
    ),
    (
        "a sender is never over the limit of a mailbox",
        "SELECT count(*) FROM mailbox_senders WHERE envelopes > 5",
    ),
    (
        "an account counts its mailboxes",
        "SELECT count(*) FROM accounts a WHERE (mailbox_count, closed_mailbox_count) <> \
             (SELECT count(*) FILTER (WHERE closed_at IS NULL), count(closed_at) \
              FROM mailboxes m WHERE m.account_id = a.id)",
    ),
    (
        "an emptied account has only closed mailboxes",
        "SELECT count(*) FROM closed_accounts c WHERE is_emptied = 1 AND ( \
             EXISTS (SELECT 1 FROM waiting_envelopes e WHERE e.account_id = c.id) \
             OR EXISTS (SELECT 1 FROM events v WHERE v.account_id = c.id) \
             OR EXISTS (SELECT 1 FROM mailboxes m WHERE m.account_id = c.id \
                 AND (m.closed_at IS NULL OR m.key_1 IS NOT NULL)))",
    ),
];

#[tokio::test]
async fn random_operations_preserve_the_invariants() {
    let directory = tempfile::tempdir().unwrap();
    for seed in 0..SEEDS {
        let mut scenario = Scenario::start(seed, directory.path()).await;
        for step in 0..STEPS {
            scenario.step().await;
            scenario.check_invariants(seed, step).await;
        }
        scenario.finish().await;
        scenario.check_invariants(seed, STEPS).await;
        assert!(
            scenario.accepted.len() > 20,
            "seed {seed}: too few envelopes were accepted"
        );
        for (id, accepted) in &scenario.accepted {
            assert!(accepted.state.is_some(), "seed {seed}: {id} never ended");
        }
        scenario.store.close().await;
    }
}
