//! Relay without sockets, tasks, a clock and a disk: the same store and the same decisions, one
//! step at a time, for a simulation that provides the network and the time.
//!
//! Signatures and sessions are not checked here: the caller names the account of each request.

use crate::{
    delivery::batch,
    lease::LeasedBatch,
    notifier::{CallSlots, Notifier},
    store::{CallEnd, NewAccount, Store, StoreError, Submission},
};
use sealpost_proto::{
    AccountId, DeliveryId, EnvelopeId, ErrorCode, MailboxId, Origin, SendKey, Timestamp,
    WebhookSecret,
    limits::DELIVERY_BATCH_BYTES_MAX,
    wire::{
        DeliveryBatch, DeliveryResult, DeliveryResults, EnvelopeStatus, RegistrationPolicy,
        SubmitRequest, SubmitResponse,
    },
};
use sealpost_relay_core::{Quotas, classify::Class};
use sealpost_signatures::AccountKey;
use sealpost_sqlite::OpenError;
use std::sync::Arc;

/// Relay in memory.
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
    items: Vec<DeliveryId>,
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
        webhook_url: Option<String>,
    ) -> Result<(), StoreError> {
        let has_webhook = webhook_url.is_some();
        let new = NewAccount {
            account,
            key,
            webhook_url,
            webhook_secret: WebhookSecret::from_bytes([0; 32]),
            policy: RegistrationPolicy::Open,
            is_token_valid: false,
            token_digest: None,
        };
        let registered = self.store.register(now, new).await?;
        registered.map_err(|code| StoreError::Failed {
            reason: format!("registration was refused: {code:?}"),
        })?;
        if has_webhook {
            self.store.verify_webhook(now, account).await
        } else {
            Ok(())
        }
    }

    /// Deletes an account: its mailboxes close, and the next sweep fails the envelopes in them.
    pub async fn delete_account(
        &self,
        now: Timestamp,
        account: AccountId,
    ) -> Result<(), StoreError> {
        self.store.delete_account(now, account).await
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

    /// Publishes the prekeys of a mailbox. Returns false unless it is an open one of the account.
    pub async fn publish_prekeys(
        &self,
        account: AccountId,
        mailbox: MailboxId,
        sealed: Vec<u8>,
    ) -> Result<bool, StoreError> {
        self.store.publish_prekeys(account, mailbox, sealed).await
    }

    /// Loads the prekeys of an open mailbox, for a caller that has proven to hold its key.
    pub async fn prekeys(&self, mailbox: MailboxId) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self
            .store
            .prekeys(mailbox)
            .await?
            .and_then(|stored| stored.sealed))
    }

    /// Accepts a request of envelopes and starts up to `free_slots` calls with them.
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
            .map(|envelope| Submission::new(&self.origin, envelope))
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
            started.push(self.start(leased).await?);
        }
        Ok((SubmitResponse { results }, started))
    }

    /// Loads the status of the account's envelopes.
    pub async fn statuses(
        &self,
        sender: AccountId,
        ids: Vec<EnvelopeId>,
    ) -> Result<Vec<EnvelopeStatus>, StoreError> {
        self.store.statuses(sender, ids).await
    }

    /// Returns whether envelopes or events wait for an account.
    pub async fn has_waiting(&self, account: AccountId) -> Result<bool, StoreError> {
        self.store.has_waiting(account).await
    }

    /// Counts the envelopes that are set aside.
    pub async fn count_set_aside(&self) -> Result<u64, StoreError> {
        self.store.count_set_aside().await
    }

    /// Leases a batch for a pulling node; empty if nothing waits or a call is in progress.
    pub async fn pull(
        &self,
        now: Timestamp,
        account: AccountId,
    ) -> Result<DeliveryBatch, StoreError> {
        match self
            .store
            .pull(now, account, DELIVERY_BATCH_BYTES_MAX)
            .await?
        {
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

    /// Lists accounts whose webhooks are due, and when the next one is.
    pub async fn due_lanes(
        &self,
        now: Timestamp,
        limit: usize,
    ) -> Result<(Vec<AccountId>, Option<Timestamp>), StoreError> {
        let [healthy, failing] = self.store.due_lanes(now, limit).await?;
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
            .lease_call(now, account, DELIVERY_BATCH_BYTES_MAX)
            .await?
        {
            Some(leased) => Ok(Some(self.start(leased).await?)),
            None => Ok(None),
        }
    }

    async fn start(&self, leased: LeasedBatch) -> Result<(Call, DeliveryBatch), StoreError> {
        let call = Call {
            account: leased.account,
            fence: leased.fence,
            items: leased.items(),
        };
        Ok((call, batch::load(&self.store, leased).await?))
    }

    /// Records the end of a call; `results` are used with [`Class::Succeeded`].
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
            items,
        } = call;
        let reason = (class != Class::Succeeded).then(|| "the call failed".to_owned());
        let end = CallEnd {
            account,
            fence,
            items,
            class,
            results,
            reason,
            random,
        };
        self.store
            .finish_call(now, end, None, |_| ())
            .await
            .map(|_| ())
    }

    /// Records a contact of an account.
    pub async fn record_contact(
        &self,
        now: Timestamp,
        account: AccountId,
    ) -> Result<(), StoreError> {
        self.store.record_contact(now, account).await
    }

    /// Ends the leases of calls that were in progress when the process ended.
    pub async fn recover_leases(&self, now: Timestamp) -> Result<(), StoreError> {
        self.store.recover_leases(now).await
    }

    /// Sweeps until nothing more is found.
    pub async fn sweep(&self, now: Timestamp) -> Result<(), StoreError> {
        while self.store.sweep(now).await?.has_more {}
        Ok(())
    }
}
