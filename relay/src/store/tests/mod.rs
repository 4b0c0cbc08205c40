//! Tests of the store alone, by subject, and the fixture that they share.

use super::*;
use crate::lease::{LeasedBatch, PullLimits};
use sealpost_proto::{
    AccountId, EnvelopeId, EnvelopeState, MailboxId, SendKey, Timestamp, WebhookSecret, WebhookUrl,
    wire::{RegistrationPolicy, SubmitOutcome},
};
use sealpost_relay_core::{EndpointHealth, Quotas, classify::Class};
use sealpost_signatures::{AccountKey, proofs};
use sha2::{Digest as _, Sha256};
use std::time::Duration;
use tempfile::TempDir;

mod admission;
mod bounded_work;
mod commits;
mod growth;
mod growth_table;
mod leases;
mod monitoring;
mod queries;
mod retention;
mod scheduling;

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

fn webhook_url() -> WebhookUrl {
    WebhookUrl::parse("https://node.example/").unwrap()
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
                webhook_url: Some(webhook_url()),
                webhook_secret: WebhookSecret::from_bytes([3; 32]),
                policy: RegistrationPolicy::Open,
                is_token_valid: false,
                token_digest: None,
            };
            store.register(NOW, new).await.unwrap().unwrap();
            assert!(
                store
                    .verify_webhook(NOW, account, webhook_url())
                    .await
                    .unwrap()
            );
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
            item_ids: leased.item_ids(),
            bytes: leased.batch_bytes(),
            outcome: CallOutcome {
                class,
                results: Vec::new(),
                reason: Some("why".to_owned()),
                elapsed: Duration::ZERO,
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
        has_short_record: false,
        digest: Sha256::digest(&bytes).into(),
        bytes,
    }
}
