//! In-memory relay without sockets, tasks or a clock, for a simulation that provides the network
//! and the time. It uses the real store and makes the real decisions, one step at a time.
//!
//! Signatures and sessions are not checked here: the caller names the account of each request.

use crate::{
    delivery::batch,
    lease::{LeasedBatch, PullLimits},
    notifier::{CallSlots, Notifier},
    store::{CallOutcome, CallReport, NewAccount, Store, StoreError, Submission},
};
use sealpost_proto::{
    AccountId, DeliveryId, EnvelopeId, ErrorCode, MailboxId, Origin, SendKey, Timestamp,
    WebhookSecret, WebhookUrl,
    limits::DELIVERY_BATCH_BYTES_MAX,
    wire::{
        DeliveryBatch, DeliveryResult, DeliveryResults, EnvelopeStatus, RegistrationPolicy,
        SubmitRequest, SubmitResponse,
    },
};
use sealpost_relay_core::{Quotas, classify::Class};
use sealpost_signatures::AccountKey;
use sealpost_sqlite::{Contents, OpenError};
use std::{sync::Arc, time::Duration};

/// Duration of every call.
const CALL_DURATION: Duration = Duration::from_secs(1);

/// Relay whose store is in memory, driven by one call for each step.
#[derive(Clone)]
pub struct SimulatedRelay {
    store: Store,
    notifier: Arc<Notifier>,
    origin: Origin,
}

/// Webhook call in progress.
#[derive(Debug)]
pub struct Call {
    account: AccountId,
    fence: u64,
    item_ids: Vec<DeliveryId>,
    bytes: usize,
}

impl Call {
    /// Returns the account whose webhook is called.
    #[must_use]
    pub const fn account(&self) -> AccountId {
        self.account
    }
}

impl SimulatedRelay {
    /// Opens a relay without accounts, with the default quotas.
    pub fn new(origin: Origin) -> Result<Self, OpenError> {
        let notifier = Arc::<Notifier>::default();
        Ok(Self {
            store: Store::open_in_memory()?.with_notifier(Arc::clone(&notifier)),
            notifier,
            origin,
        })
    }

    /// Registers an account and verifies its webhook, if it has one.
    pub async fn register(
        &self,
        now: Timestamp,
        account: AccountId,
        key: AccountKey,
        webhook_url: Option<WebhookUrl>,
    ) -> Result<(), StoreError> {
        let new = NewAccount {
            account,
            key,
            webhook_url: webhook_url.clone(),
            webhook_secret: WebhookSecret::from_bytes([0; 32]),
            policy: RegistrationPolicy::Open,
            is_token_valid: false,
            token_digest: None,
        };
        let registered = self.store.register(now, new).await?;
        registered.map_err(|code| StoreError::Failed {
            reason: format!("registration was refused: {code:?}"),
        })?;
        if let Some(url) = webhook_url {
            self.store.verify_webhook(now, account, url).await?;
        }
        Ok(())
    }

    /// Deletes an account and closes its mailboxes. The next sweep marks the envelopes in them as
    /// failed.
    pub async fn delete_account(
        &self,
        now: Timestamp,
        account: AccountId,
    ) -> Result<(), StoreError> {
        self.store.delete_account(now, account).await.map(|_| ())
    }

    /// Opens a mailbox or replaces its keys. The inner error is the code of a refusal.
    pub async fn open_mailbox(
        &self,
        now: Timestamp,
        account: AccountId,
        mailbox: MailboxId,
        keys: Vec<SendKey>,
    ) -> Result<Result<(), ErrorCode>, StoreError> {
        self.store
            .open_mailbox(now, account, mailbox, keys, Quotas::default())
            .await
    }

    /// Closes a mailbox.
    pub async fn close_mailbox(
        &self,
        now: Timestamp,
        account: AccountId,
        mailbox: MailboxId,
    ) -> Result<(), StoreError> {
        self.store.close_mailbox(now, account, mailbox).await
    }

    /// Publishes the prekeys of a mailbox. Returns whether the mailbox is open and belongs to the
    /// account.
    pub async fn publish_prekeys(
        &self,
        account: AccountId,
        mailbox: MailboxId,
        sealed: Vec<u8>,
    ) -> Result<bool, StoreError> {
        self.store.publish_prekeys(account, mailbox, sealed).await
    }

    /// Loads the prekeys of an open mailbox. Does not check that the caller has proven possession
    /// of the send key.
    pub async fn load_prekeys(
        &self,
        mailbox: MailboxId,
    ) -> Result<Result<Vec<u8>, ErrorCode>, StoreError> {
        let stored = self.store.load_prekeys(mailbox).await?;
        Ok(stored.and_then(|stored| stored.sealed.ok_or(ErrorCode::NotFound)))
    }

    /// Submits envelopes and starts up to `free_slots` webhook calls.
    pub async fn submit(
        &self,
        now: Timestamp,
        sender: AccountId,
        request: SubmitRequest,
        free_slots: usize,
    ) -> Result<(SubmitResponse, Vec<(Call, DeliveryBatch)>), StoreError> {
        let submissions = request
            .envelopes
            .into_iter()
            .map(|envelope| Submission::new(&self.origin, envelope, false))
            .collect();
        self.notifier.offer_call_slots(CallSlots {
            free: free_slots,
            bytes_max: DELIVERY_BATCH_BYTES_MAX,
        });
        let results = self
            .store
            .submit(now, sender, submissions, Quotas::default())
            .await?;
        let mut started = Vec::new();
        for leased in self.notifier.take_pending_work().leased {
            started.push(self.load_call(leased).await?);
        }
        Ok((SubmitResponse { results }, started))
    }

    /// Loads the status of the account's envelopes.
    pub async fn load_statuses(
        &self,
        sender: AccountId,
        ids: Vec<EnvelopeId>,
    ) -> Result<Vec<EnvelopeStatus>, StoreError> {
        self.store.load_statuses(sender, ids).await
    }

    /// Returns whether envelopes or events wait for an account.
    pub async fn has_waiting(&self, account: AccountId) -> Result<bool, StoreError> {
        self.store.has_waiting(account).await
    }

    /// Counts the envelopes that are set aside.
    pub async fn count_set_aside(&self) -> Result<u64, StoreError> {
        self.store.count_set_aside().await
    }

    /// Leases a batch for a pulling node. Returns an empty batch if nothing waits or a call is in
    /// progress.
    pub async fn pull(
        &self,
        now: Timestamp,
        account: AccountId,
    ) -> Result<DeliveryBatch, StoreError> {
        match self.store.pull(now, account, PullLimits::default()).await? {
            Some(leased) => batch::load(&self.store, leased).await,
            None => Ok(DeliveryBatch::default()),
        }
    }

    /// Records the results of a pull.
    pub async fn acknowledge(
        &self,
        now: Timestamp,
        account: AccountId,
        results: DeliveryResults,
    ) -> Result<(), StoreError> {
        self.store
            .acknowledge(now, account, results)
            .await
            .map(|_| ())
    }

    /// Lists the accounts whose lanes are due for a call, and the time at which the next lane is
    /// due.
    pub async fn find_due_lanes(
        &self,
        now: Timestamp,
        limit: usize,
    ) -> Result<(Vec<AccountId>, Option<Timestamp>), StoreError> {
        let [healthy, failing] = self.store.find_due_lanes(now, limit).await?;
        let next_at = [healthy.next_at, failing.next_at]
            .into_iter()
            .flatten()
            .min();
        Ok(([healthy.lanes, failing.lanes].concat(), next_at))
    }

    /// Starts a webhook call, if the lane can be called.
    pub async fn start_call(
        &self,
        now: Timestamp,
        account: AccountId,
    ) -> Result<Option<(Call, DeliveryBatch)>, StoreError> {
        match self
            .store
            .lease_batch(now, account, DELIVERY_BATCH_BYTES_MAX)
            .await?
        {
            Some(leased) => Ok(Some(self.load_call(leased).await?)),
            None => Ok(None),
        }
    }

    async fn load_call(&self, leased: LeasedBatch) -> Result<(Call, DeliveryBatch), StoreError> {
        let call = Call {
            account: leased.account,
            fence: leased.fence,
            item_ids: leased.item_ids(),
            bytes: leased.batch_bytes(),
        };
        Ok((call, batch::load(&self.store, leased).await?))
    }

    /// Records the outcome of a call; `results` are ignored unless `class` is [`Class::Succeeded`].
    pub async fn finish_call(
        &self,
        now: Timestamp,
        call: Call,
        class: Class,
        results: Vec<DeliveryResult>,
        random: u64,
    ) -> Result<(), StoreError> {
        let Call {
            account,
            fence,
            item_ids,
            bytes,
        } = call;
        let reason = (class != Class::Succeeded).then(|| "the call failed".to_owned());
        let report = CallReport {
            account,
            fence,
            item_ids,
            bytes,
            outcome: CallOutcome {
                class,
                results,
                reason,
                elapsed: CALL_DURATION,
            },
            random,
        };
        self.store
            .finish_call(now, report, None, |_| ())
            .await
            .map(|_| ())
    }

    /// Records a contact of an account, which is any authenticated request of its node.
    pub async fn record_contact(
        &self,
        now: Timestamp,
        account: AccountId,
    ) -> Result<(), StoreError> {
        self.store.record_contact(now, account).await
    }

    /// Releases the leases of calls that were in progress when the process exited.
    pub async fn recover_leases(&self, now: Timestamp) -> Result<(), StoreError> {
        self.store.recover_leases(now).await
    }

    /// Copies the database, as a backup does.
    pub async fn back_up(&self) -> Result<Contents, StoreError> {
        self.store.read_contents().await
    }

    /// Sets the database back to an earlier state. The process must not run meanwhile.
    pub async fn restore(&self, now: Timestamp, backup: Contents) -> Result<(), StoreError> {
        self.store.write_contents(backup).await?;
        self.recover_leases(now).await
    }

    /// Sweeps until there is nothing left to sweep.
    pub async fn sweep(&self, now: Timestamp) -> Result<(), StoreError> {
        while self.store.sweep(now).await?.has_more {}
        Ok(())
    }
}
