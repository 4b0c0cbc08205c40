//! The relay without sockets, tasks, a clock and a disk: the same store and the same decisions, one step at a time, for a
//! simulation that is itself the network and the time.
//!
//! What is checked at the door, signatures and sessions, is not here: the caller says which account asks.

use crate::{
    delivery::batch,
    store::{CallEnd, LeasedBatch, NewAccount, Store, StoreError, Submission},
    wakes::{Offer, Wakes},
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

/// A relay in memory.
#[derive(Clone)]
pub struct BareRelay {
    store: Store,
    wakes: Arc<Wakes>,
    origin: Origin,
}

/// A call of a webhook that is under way.
#[derive(Debug)]
pub struct Call {
    account: AccountId,
    fence: u64,
    items: Vec<DeliveryId>,
}

impl Call {
    /// Whose webhook is called.
    #[must_use]
    pub const fn account(&self) -> AccountId {
        self.account
    }
}

impl BareRelay {
    /// A relay without accounts, with the quotas that are the defaults.
    ///
    /// # Errors
    /// [`OpenError`] when a migration does not apply.
    pub fn open(origin: Origin) -> Result<Self, OpenError> {
        let wakes = Arc::<Wakes>::default();
        Ok(Self {
            store: Store::open_in_memory()?.with_wakes(Arc::clone(&wakes)),
            wakes,
            origin,
        })
    }

    /// Registers an account; one with a webhook has answered its challenge.
    ///
    /// # Errors
    /// [`StoreError`].
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
            token_good: false,
            token_digest: None,
        };
        let registered = self.store.register(now, new).await?;
        registered.map_err(|code| StoreError::Failed {
            reason: format!("registration was refused: {code:?}"),
        })?;
        if has_webhook {
            self.store.verified(now, account).await
        } else {
            Ok(())
        }
    }

    /// Deletes an account: its mailboxes close, and what waits in them fails with the next sweep.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn delete_account(
        &self,
        now: Timestamp,
        account: AccountId,
    ) -> Result<(), StoreError> {
        self.store.delete_account(now, account).await
    }

    /// Opens a mailbox or replaces its keys.
    ///
    /// # Errors
    /// [`StoreError`]; inside, the code of the refusal.
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
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn close_mailbox(
        &self,
        now: Timestamp,
        account: AccountId,
        mailbox: MailboxId,
    ) -> Result<(), StoreError> {
        self.store.close_mailbox(now, account, mailbox).await
    }

    /// Publishes the prekeys of a mailbox; false when it is not an open one of the account's.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn publish_prekeys(
        &self,
        account: AccountId,
        mailbox: MailboxId,
        sealed: Vec<u8>,
    ) -> Result<bool, StoreError> {
        self.store.publish_prekeys(account, mailbox, sealed).await
    }

    /// The prekeys in an open mailbox, for somebody who has proven to hold its key.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn prekeys(&self, mailbox: MailboxId) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self
            .store
            .prekeys(mailbox)
            .await?
            .and_then(|stored| stored.sealed))
    }

    /// Takes a request of envelopes, and begins calls with what it brought: so many at most.
    ///
    /// # Errors
    /// [`StoreError`]; then nothing of it was accepted.
    pub async fn submit(
        &self,
        now: Timestamp,
        sender: AccountId,
        request: SubmitRequest,
        places: usize,
    ) -> Result<(SubmitResponse, Vec<(Call, DeliveryBatch)>), StoreError> {
        let submissions = request
            .envelopes
            .into_iter()
            .map(|envelope| Submission::new(&self.origin, envelope))
            .collect();
        self.wakes.offer(Offer {
            places,
            bytes_max: DELIVERY_BATCH_BYTES_MAX,
        });
        let results = self
            .store
            .submit(now, sender, submissions, Quotas::default())
            .await?;
        let mut begun = Vec::new();
        for leased in self.wakes.news().leased {
            begun.push(self.begin(leased).await?);
        }
        Ok((SubmitResponse { results }, begun))
    }

    /// Where the account's envelopes are.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn statuses(
        &self,
        sender: AccountId,
        ids: Vec<EnvelopeId>,
    ) -> Result<Vec<EnvelopeStatus>, StoreError> {
        self.store.statuses(sender, ids).await
    }

    /// Whether envelopes or events wait for an account.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn has_waiting(&self, account: AccountId) -> Result<bool, StoreError> {
        self.store.has_waiting(account).await
    }

    /// How many envelopes are set aside.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn set_aside(&self) -> Result<u64, StoreError> {
        self.store.set_aside().await
    }

    /// What waits for a node that asks; empty when nothing does or a call is under way.
    ///
    /// # Errors
    /// [`StoreError`].
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
            Some(leased) => batch::fill(&self.store, leased).await,
            None => Ok(DeliveryBatch::default()),
        }
    }

    /// Writes down what a node says of what it pulled.
    ///
    /// # Errors
    /// [`StoreError`].
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

    /// Accounts whose webhooks are to be called now, and when the next one is.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn due(
        &self,
        now: Timestamp,
        limit: usize,
    ) -> Result<(Vec<AccountId>, Option<Timestamp>), StoreError> {
        let [living, failing] = self.store.due(now, limit).await?;
        let next_at = [living.next_at, failing.next_at]
            .into_iter()
            .flatten()
            .min();
        Ok(([living.lanes, failing.lanes].concat(), next_at))
    }

    /// Begins the call of a webhook, if its lane lets one through.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn begin_call(
        &self,
        now: Timestamp,
        account: AccountId,
    ) -> Result<Option<(Call, DeliveryBatch)>, StoreError> {
        match self
            .store
            .lease_call(now, account, DELIVERY_BATCH_BYTES_MAX)
            .await?
        {
            Some(leased) => Ok(Some(self.begin(leased).await?)),
            None => Ok(None),
        }
    }

    async fn begin(&self, leased: LeasedBatch) -> Result<(Call, DeliveryBatch), StoreError> {
        let call = Call {
            account: leased.account,
            fence: leased.fence,
            items: leased.items(),
        };
        Ok((call, batch::fill(&self.store, leased).await?))
    }

    /// Writes down how a call ended; `results` count with [`Class::Answered`].
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn end_call(
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
        let reason = (class != Class::Answered).then(|| "the call failed".to_owned());
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

    /// The account was heard of.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn contact(&self, now: Timestamp, account: AccountId) -> Result<(), StoreError> {
        self.store.contact(now, account).await
    }

    /// The process started again: calls that were under way are not any more.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn restarted(&self, now: Timestamp) -> Result<(), StoreError> {
        self.store.restarted(now).await
    }

    /// Ends what time ends, until nothing more is found at once.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn sweep(&self, now: Timestamp) -> Result<(), StoreError> {
        while self.store.sweep(now).await?.more {}
        Ok(())
    }
}
