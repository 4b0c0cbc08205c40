//! One long story for the store: everything that can happen, in an order drawn from a seed, with the books checked after
//! each step. The seed of a failure is in its message.

use super::*;
use rows::{first, rows, uint};
use sealpost_proto::{
    AccountId, DeliveryId, EnvelopeId, EnvelopeState, MailboxId, SendKey, Timestamp, WebhookSecret,
    limits::{DELIVERY_BATCH_BYTES_MAX, LEASE_LIFE},
    wire::{DeliveryOutcome, DeliveryResult, DeliveryResults, RegistrationPolicy, SubmitOutcome},
};
use sealpost_relay_core::{Quotas, classify::Class};
use sealpost_signatures::{AccountKey, proofs};
use sha2::{Digest as _, Sha256};
use std::{collections::BTreeMap, time::Duration};

const SEEDS: u64 = 12;
const STEPS: u32 = 150;
const MAILBOX_ENVELOPES: u64 = 8;

/// SplitMix64.
struct Draw(u64);

impl Draw {
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

    fn of<T: Clone>(&mut self, all: &[T]) -> T {
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

struct Story {
    store: Store,
    draw: Draw,
    now: Timestamp,
    accounts: Vec<AccountId>,
    mailboxes: Vec<Address>,
    /// Every envelope that was accepted: who sent it where, and its final state once it was seen.
    accepted: BTreeMap<EnvelopeId, (AccountId, MailboxId, Option<EnvelopeState>)>,
    calls: Vec<LeasedBatch>,
    pulls: Vec<LeasedBatch>,
}

fn key(mailbox: MailboxId) -> SendKey {
    SendKey::from_bytes(Sha256::digest(mailbox.as_bytes()).into())
}

fn quotas() -> Quotas {
    Quotas {
        mailbox_envelopes: MAILBOX_ENVELOPES,
        ..Quotas::default()
    }
}

impl Story {
    async fn begin(seed: u64, folder: &Path) -> Self {
        let store = Store::open(&folder.join(format!("{seed}.db")), Arc::default()).unwrap();
        let mut story = Self {
            store,
            draw: Draw(seed),
            now: Timestamp::from_millis(1_800_000_000_000),
            accounts: Vec::new(),
            mailboxes: Vec::new(),
            accepted: BTreeMap::new(),
            calls: Vec::new(),
            pulls: Vec::new(),
        };
        for number in 0..3 {
            story.register(number).await;
        }
        for _ in 0..4 {
            story.open().await;
        }
        story
    }

    async fn register(&mut self, number: u8) {
        let account = AccountId::from_bytes([number; 16]);
        let new = NewAccount {
            account,
            key: AccountKey::from_bytes([number; 32]),
            webhook_url: Some("https://node.example/".to_owned()),
            webhook_secret: WebhookSecret::from_bytes([3; 32]),
            policy: RegistrationPolicy::Open,
            token_good: false,
            token_digest: None,
        };
        self.store.register(self.now, new).await.unwrap().unwrap();
        self.store.verified(self.now, account).await.unwrap();
        self.accounts.push(account);
    }

    async fn open(&mut self) {
        let (id, owner) = (
            MailboxId::from_bytes(self.draw.id()),
            self.draw.of(&self.accounts),
        );
        self.store
            .open_mailbox(self.now, owner, id, vec![key(id)], quotas())
            .await
            .unwrap()
            .unwrap();
        self.mailboxes.push(Address { id, owner });
    }

    async fn step(&mut self) {
        match self.draw.below(14) {
            0..=3 => self.submit().await,
            4..=5 => self.call().await,
            6..=7 => self.end_call().await,
            8 => self.pull().await,
            9 => self.acknowledge().await,
            10 => self.recall().await,
            11 => self.let_time_pass().await,
            12 => self.hear_or_restart().await,
            _ => self.close_and_open().await,
        }
    }

    async fn submit(&mut self) {
        let sender = self.draw.of(&self.accounts);
        let to = self.draw.of(&self.mailboxes);
        let submissions: Vec<_> = (0..=self.draw.below(4))
            .map(|_| self.submission(to.id))
            .collect();
        let results = self
            .store
            .submit(self.now, sender, submissions, quotas())
            .await
            .unwrap();
        for result in results {
            if matches!(result.outcome, SubmitOutcome::Accepted { .. }) {
                self.accepted.insert(result.id, (sender, to.id, None));
            }
        }
    }

    fn submission(&mut self, mailbox: MailboxId) -> Submission {
        let id = EnvelopeId::from_bytes(self.draw.id());
        let bytes = vec![1; 2_048 << self.draw.below(3)];
        let life = Duration::from_secs(30 + self.draw.below(20_000));
        Submission {
            id,
            mailbox,
            home: true,
            proof: proofs::post(&key(mailbox), mailbox, id, &bytes).to_vec(),
            asked_expiry: Some(self.now.plus(life)),
            digest: Sha256::digest(&bytes).into(),
            bytes,
        }
    }

    async fn call(&mut self) {
        for account in self
            .store
            .due(self.now, 8)
            .await
            .unwrap()
            .into_iter()
            .flat_map(|due| due.lanes)
        {
            self.calls.extend(
                self.store
                    .lease_call(self.now, account, DELIVERY_BATCH_BYTES_MAX)
                    .await
                    .unwrap(),
            );
        }
    }

    async fn end_call(&mut self) {
        let Some(batch) = self.calls.pop() else {
            return;
        };
        let wait = Duration::from_secs(self.draw.below(600));
        let classes = [
            Class::Answered,
            Class::Answered,
            Class::Answered,
            Class::Unreachable,
            Class::Broke,
            Class::AskedToWait(wait),
            Class::Refused,
        ];
        let class = self.draw.of(&classes);
        let results = if class == Class::Answered {
            self.results(&batch)
        } else {
            Vec::new()
        };
        let end = CallEnd {
            account: batch.account,
            fence: batch.fence,
            items: batch.items(),
            class,
            results,
            reason: None,
            random: self.draw.next(),
        };
        let go_on = self.draw.below(2) == 0;
        let handed = self
            .store
            .finish_call(
                self.now,
                end,
                go_on.then_some(DELIVERY_BATCH_BYTES_MAX),
                |_| (),
            )
            .await
            .unwrap();
        self.calls.extend(handed.next);
    }

    fn results(&mut self, batch: &LeasedBatch) -> Vec<DeliveryResult> {
        let outcomes = [
            DeliveryOutcome::Stored,
            DeliveryOutcome::Stored,
            DeliveryOutcome::Stored,
            DeliveryOutcome::Refused,
            DeliveryOutcome::Later {
                retry_after_ms: Some(self.draw.below(60_000)),
            },
        ];
        batch
            .items()
            .into_iter()
            .map(|id| DeliveryResult {
                id,
                outcome: self.draw.of(&outcomes),
            })
            .collect()
    }

    async fn pull(&mut self) {
        let account = self.draw.of(&self.accounts);
        self.pulls.extend(
            self.store
                .pull(self.now, account, DELIVERY_BATCH_BYTES_MAX)
                .await
                .unwrap(),
        );
    }

    async fn acknowledge(&mut self) {
        let Some(batch) = self.pulls.pop() else {
            return;
        };
        let results = DeliveryResults {
            lease: batch.fence,
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
            .map(|(id, (sender, mailbox, _))| (*id, *sender, *mailbox))
            .collect();
        if all.is_empty() {
            return;
        }
        let (id, sender, mailbox) = self.draw.of(&all);
        let proof = proofs::recall(&key(mailbox), mailbox, id).to_vec();
        self.store
            .recall(self.now, sender, id, proof)
            .await
            .unwrap();
    }

    async fn let_time_pass(&mut self) {
        self.now = self.now.plus(Duration::from_secs(self.draw.below(3_000)));
        self.store.sweep(self.now).await.unwrap();
    }

    async fn hear_or_restart(&mut self) {
        if self.draw.below(3) == 0 {
            self.calls.clear();
            self.store.restarted(self.now).await.unwrap();
        } else {
            self.store
                .contact(self.now, self.draw.of(&self.accounts))
                .await
                .unwrap();
        }
    }

    async fn close_and_open(&mut self) {
        let index = usize::try_from(self.draw.below(self.mailboxes.len() as u64)).unwrap();
        let Address { id, owner } = self.mailboxes.swap_remove(index);
        self.store.close_mailbox(self.now, owner, id).await.unwrap();
        self.open().await;
    }

    /// Nodes take everything, until nothing waits.
    async fn finish(&mut self) {
        self.calls.clear();
        self.store.restarted(self.now).await.unwrap();
        self.now = self.now.plus(LEASE_LIFE);
        while self.store.sweep(self.now).await.unwrap().more {}
        for account in self.accounts.clone() {
            while let Some(batch) = self
                .store
                .pull(self.now, account, DELIVERY_BATCH_BYTES_MAX)
                .await
                .unwrap()
            {
                let stored = |id: DeliveryId| DeliveryResult {
                    id,
                    outcome: DeliveryOutcome::Stored,
                };
                let results = batch.items().into_iter().map(stored).collect();
                let results = DeliveryResults {
                    lease: batch.fence,
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

    /// What every step has to leave true.
    async fn check_books(&mut self, seed: u64, step: u32) {
        let wrong = self.store.read(|db| {
            Ok(BOOKS
                .iter()
                .map(|(name, sql)| (*name, count(db, sql)))
                .collect::<Vec<_>>())
        });
        for (name, wrong) in wrong.await.unwrap() {
            assert_eq!(wrong.unwrap(), 0, "seed {seed}, step {step}: {name}");
        }
        let states = self.store.read(|db| {
            rows(db, "SELECT envelope, state FROM envelopes", [], |row| {
                Ok((
                    EnvelopeId::from_bytes(row.get("envelope")?),
                    rows::state(row, "state")?,
                ))
            })
        });
        for (id, state) in states.await.unwrap() {
            let seen = &mut self.accepted.get_mut(&id).expect("nothing is invented").2;
            assert!(
                seen.is_none_or(|seen| seen == state),
                "seed {seed}, step {step}: {seen:?} became {state:?}"
            );
            *seen = state.is_final().then_some(state);
        }
    }
}

fn count(db: &Connection, sql: &str) -> Result<u64, StoreError> {
    Ok(first::<i64>(db, sql, [])?.map(uint).unwrap_or_default())
}

/// Each counts the rows that are wrong.
const BOOKS: [(&str, &str); 9] = [
    (
        "what a lane counts is what waits in it",
        "SELECT count(*) FROM lanes l WHERE waiting <> \
             (SELECT count(*) FROM envelopes e WHERE e.account = l.account AND state < 2) \
             + (SELECT count(*) FROM events v WHERE v.account = l.account)",
    ),
    (
        "what a mailbox counts is what waits in it",
        "SELECT count(*) FROM mailboxes m WHERE (envelopes, bytes) <> \
             (SELECT count(*), coalesce(sum(size), 0) FROM envelopes e WHERE e.mailbox = m.mailbox AND state < 2)",
    ),
    (
        "an envelope that waits has its bytes",
        "SELECT count(*) FROM envelopes e WHERE state < 2 AND size <> \
             coalesce((SELECT length(bytes) FROM bodies b WHERE b.id = e.id), -1)",
    ),
    (
        "one that ended has none",
        "SELECT count(*) FROM bodies b WHERE NOT EXISTS (SELECT 1 FROM envelopes e WHERE e.id = b.id AND state < 2)",
    ),
    (
        "there is one piece of news of an envelope at most",
        "SELECT count(*) FROM (SELECT 1 FROM events GROUP BY account, envelope HAVING count(*) > 1)",
    ),
    (
        "one of a mailbox is set aside at most",
        "SELECT count(*) FROM (SELECT 1 FROM envelopes WHERE state < 2 AND place = 1 GROUP BY mailbox HAVING count(*) > 1)",
    ),
    (
        "what waits behind another waits behind an earlier one of its mailbox that is set aside",
        "SELECT count(*) FROM envelopes e WHERE state < 2 AND place = 2 AND NOT EXISTS (SELECT 1 FROM envelopes a \
             WHERE a.account = e.account AND a.mailbox = e.mailbox AND a.state < 2 AND a.place = 1 AND a.id < e.id)",
    ),
    (
        "what is set aside has its time, and nothing else has",
        "SELECT count(*) FROM envelopes WHERE state < 2 AND (place = 1) <> (set_aside_until IS NOT NULL)",
    ),
    (
        "a mailbox is never over its quota",
        "SELECT count(*) FROM mailboxes WHERE envelopes > 8",
    ),
];

#[tokio::test]
async fn whatever_happens_the_books_are_right_and_every_envelope_ends_once() {
    let folder = tempfile::tempdir().unwrap();
    for seed in 0..SEEDS {
        let mut story = Story::begin(seed, folder.path()).await;
        for step in 0..STEPS {
            story.step().await;
            story.check_books(seed, step).await;
        }
        story.finish().await;
        story.check_books(seed, STEPS).await;
        assert!(
            story.accepted.len() > 20,
            "seed {seed}: the story was too short"
        );
        for (id, (.., state)) in &story.accepted {
            assert!(state.is_some(), "seed {seed}: {id} never ended");
        }
        story.store.close().await;
    }
}
