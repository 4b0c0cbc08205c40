//! What goes out of a lane: leases, what was said of what they held, and when the scheduler has to look.

use super::{
    Store, StoreError,
    lanes::{self, DELIVERABLE},
    outcomes,
    rows::{count, first, int, maybe_time, millis, row, rows, run, small, state, time},
    tally::item,
};
use rusqlite::{Connection, Row, params};
use sealpost_proto::{
    AccountId, DeliveryId, EnvelopeId, MailboxId, Timestamp, WebhookSecret,
    wire::{DeliveryResult, DeliveryResults, StatusEvent},
};
use sealpost_relay_core::{
    Effect, Event,
    classify::Class,
    lane::{Selection, Way},
};

/// Where an account's webhook is, and the secret that signs calls of it.
#[derive(Debug, Clone)]
pub(crate) struct Webhook {
    /// The URL.
    pub(crate) url: String,
    /// The secret.
    pub(crate) secret: WebhookSecret,
}

/// An envelope in a batch, without its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LeasedEnvelope {
    /// What the outcome names.
    pub(crate) id: DeliveryId,
    /// Where it came to.
    pub(crate) mailbox: MailboxId,
    /// The sender's id for it.
    pub(crate) envelope: EnvelopeId,
    /// When it was accepted.
    pub(crate) accepted_at: Timestamp,
    /// Its size in bytes.
    pub(crate) size_bytes: u64,
}

/// A batch that is out under a lease.
#[derive(Debug, Clone)]
pub(crate) struct LeasedBatch {
    /// Whose lane.
    pub(crate) account: AccountId,
    /// The lease's fencing number.
    pub(crate) fence: u64,
    /// Envelopes in order.
    pub(crate) envelopes: Vec<LeasedEnvelope>,
    /// Events in order.
    pub(crate) events: Vec<StatusEvent>,
    /// What waits beyond this batch.
    pub(crate) backlog: u64,
    /// The account's webhook, if it has one.
    pub(crate) webhook: Option<Webhook>,
}

impl LeasedBatch {
    /// The items in their order.
    #[must_use]
    pub(crate) fn items(&self) -> Vec<DeliveryId> {
        let envelopes = self.envelopes.iter().map(|envelope| envelope.id);
        let mut items: Vec<_> = envelopes.chain(self.events.iter().map(|event| event.id)).collect();
        items.sort_unstable();
        items
    }

    /// Bytes of its envelopes.
    #[must_use]
    pub(crate) fn size_bytes(&self) -> u64 {
        self.envelopes.iter().map(|envelope| envelope.size_bytes).sum()
    }
}

/// How the call of a webhook ended.
#[derive(Debug, Clone)]
pub(crate) struct CallEnd {
    /// Whose lane.
    pub(crate) account: AccountId,
    /// The lease's fencing number.
    pub(crate) fence: u64,
    /// What the batch held, in order.
    pub(crate) items: Vec<DeliveryId>,
    /// The class of the call.
    pub(crate) class: Class,
    /// What the node answered, with [`Class::Answered`].
    pub(crate) results: Vec<DeliveryResult>,
    /// In words, what went wrong.
    pub(crate) reason: Option<String>,
    /// Random, for the backoff's delay.
    pub(crate) random: u64,
}

/// What followed from the end of a call or an acknowledgement.
#[derive(Debug)]
pub(crate) struct Handed {
    /// Accounts for which something waits now: senders with news, and the lane's own when it is free again.
    pub(crate) woken: Vec<AccountId>,
    /// The next batch of the lane, when there is one to call with at once.
    pub(crate) next: Option<LeasedBatch>,
    /// Whether hearing of the account changes something from now on.
    pub(crate) heeds_contact: bool,
    /// Whether this call switched the webhook off.
    pub(crate) switched_off: bool,
    /// Envelopes that are stored now.
    pub(crate) stored: u64,
}

impl Store {
    /// Leases what waits to the node that asks for it; absent when nothing waits or a call is under way.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) async fn pull(&self, now: Timestamp, account: AccountId) -> Result<Option<LeasedBatch>, StoreError> {
        self.write(move |db| {
            let waiting = lanes::waiting(db, now, account)?;
            if waiting.items == 0 && waiting.set_aside_at.is_none() {
                return Ok(None);
            }
            lease(db, now, account, Event::Pull)
        })
        .await
    }

    /// Whether anything waits for an account.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) async fn has_waiting(&self, account: AccountId) -> Result<bool, StoreError> {
        let sql = "SELECT 1 FROM lanes WHERE account = ? AND waiting > 0";
        self.read(move |db| Ok(first::<i64>(db, sql, [account.as_bytes()])?.is_some())).await
    }

    /// Leases a batch for the call of a webhook, if its lane lets a call through.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) async fn lease_call(
        &self,
        now: Timestamp,
        account: AccountId,
    ) -> Result<Option<LeasedBatch>, StoreError> {
        self.write_unsynced(move |db| lease_for_call(db, now, account)).await
    }

    /// The bytes of a batch's envelopes, in order; absent for one that ended meanwhile.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) async fn bodies(&self, items: Vec<DeliveryId>) -> Result<Vec<Option<Vec<u8>>>, StoreError> {
        self.read(move |db| {
            items.into_iter().map(|id| first(db, "SELECT bytes FROM bodies WHERE id = ?", [item(id)])).collect()
        })
        .await
    }

    /// Writes down how a call ended: what was stored goes, senders are told, the lane moves on. With `go_on` the next batch
    /// is leased in the same transaction.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) async fn finish_call(&self, now: Timestamp, end: CallEnd, go_on: bool) -> Result<Handed, StoreError> {
        self.write_unsynced(move |db| outcomes::finish(db, now, &end, go_on)).await
    }

    /// Writes down what a node says of what it pulled. What is not the account's is skipped; a late acknowledgement still
    /// ends the items that wait, and leaves the lane alone.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) async fn acknowledge(
        &self,
        now: Timestamp,
        account: AccountId,
        results: DeliveryResults,
    ) -> Result<Handed, StoreError> {
        self.write(move |db| outcomes::acknowledge(db, now, account, &results)).await
    }

    /// Gives a lease back unused.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) async fn return_lease(&self, now: Timestamp, account: AccountId, fence: u64) -> Result<(), StoreError> {
        self.step_lane(now, account, Event::Returned { fence }).await
    }

    /// The account was heard of.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) async fn contact(&self, now: Timestamp, account: AccountId) -> Result<(), StoreError> {
        self.step_lane(now, account, Event::Contact).await
    }

    /// The webhook answered its challenge.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) async fn verified(&self, now: Timestamp, account: AccountId) -> Result<(), StoreError> {
        self.write(move |db| {
            lanes::note(db, account, None)?;
            lanes::step(db, now, account, Event::Verified, 0).map(|_| ())
        })
        .await
    }

    /// Writes down in words why the webhook is not called.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) async fn note_webhook(&self, account: AccountId, reason: String) -> Result<(), StoreError> {
        self.write(move |db| lanes::note(db, account, Some(&reason))).await
    }

    /// The relay started: calls that were under way are not any more.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) async fn restarted(&self, now: Timestamp) -> Result<(), StoreError> {
        self.write(move |db| {
            let held = rows(db, "SELECT account FROM lanes WHERE free_at > 0", [], |row| row.get("account"))?;
            for account in held {
                lanes::step(db, now, AccountId::from_bytes(account), Event::Restarted, 0)?;
            }
            Ok(())
        })
        .await
    }

    /// The account's webhook, if it has one.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) async fn webhook(&self, account: AccountId) -> Result<Option<Webhook>, StoreError> {
        self.read(move |db| webhook(db, account)).await
    }

    /// Accounts whose lanes are due, the longest waiting first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) async fn due(&self, now: Timestamp, limit: usize) -> Result<Vec<AccountId>, StoreError> {
        let sql = "SELECT account FROM lanes WHERE due_at IS NOT NULL AND due_at <= ? ORDER BY due_at LIMIT ?";
        self.read(move |db| {
            rows(db, sql, params![millis(now), int(limit as u64)], |row| Ok(AccountId::from_bytes(row.get("account")?)))
        })
        .await
    }

    /// When the next lane after `now` is due.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) async fn next_due(&self, now: Timestamp) -> Result<Option<Timestamp>, StoreError> {
        let sql = "SELECT due_at FROM lanes WHERE due_at IS NOT NULL AND due_at > ? ORDER BY due_at LIMIT 1";
        self.read(move |db| row(db, sql, [millis(now)], |row| time(row, "due_at"))).await
    }

    async fn step_lane(&self, now: Timestamp, account: AccountId, event: Event) -> Result<(), StoreError> {
        self.write_unsynced(move |db| lanes::step(db, now, account, event, 0).map(|_| ())).await
    }
}

fn webhook(db: &Connection, account: AccountId) -> Result<Option<Webhook>, StoreError> {
    let sql = "SELECT webhook_url, webhook_secret FROM accounts WHERE account = ? AND webhook_url IS NOT NULL";
    row(db, sql, [account.as_bytes()], |row| {
        Ok(Webhook { url: row.get("webhook_url")?, secret: WebhookSecret::from_bytes(row.get("webhook_secret")?) })
    })
}

pub(super) fn lease_for_call(
    db: &Connection,
    now: Timestamp,
    account: AccountId,
) -> Result<Option<LeasedBatch>, StoreError> {
    let waiting = lanes::waiting(db, now, account)?.at(now);
    lease(db, now, account, Event::Call(waiting))
}

fn lease(db: &Connection, now: Timestamp, account: AccountId, event: Event) -> Result<Option<LeasedBatch>, StoreError> {
    let effects = lanes::step(db, now, account, event, 0)?;
    let [Effect::Lease { fence, way, .. }] = effects[..] else { return Ok(None) };
    let batch = take(db, now, account, fence, way)?;
    let items = batch.items();
    let (Some(first), Some(last)) = (items.first(), items.last()) else { return Ok(None) };
    let sql = "UPDATE lanes SET lease_first = ?, lease_last = ? WHERE account = ?";
    run(db, sql, params![item(*first), item(*last), account.as_bytes()])?;
    Ok(Some(batch))
}

/// One item on its way out.
enum Item {
    Envelope(LeasedEnvelope),
    Event(StatusEvent),
}

impl Item {
    const fn id(&self) -> DeliveryId {
        match self {
            Self::Envelope(envelope) => envelope.id,
            Self::Event(event) => event.id,
        }
    }

    const fn size_bytes(&self) -> u64 {
        match self {
            Self::Envelope(envelope) => envelope.size_bytes,
            Self::Event(_) => 0,
        }
    }
}

fn take(db: &Connection, now: Timestamp, account: AccountId, fence: u64, way: Way) -> Result<LeasedBatch, StoreError> {
    let bounds = way.take();
    let mut items = candidates(db, now, account, way, bounds.skip + bounds.items)?;
    items.sort_by_key(Item::id);
    let mut batch = LeasedBatch {
        account,
        fence,
        envelopes: Vec::new(),
        events: Vec::new(),
        backlog: 0,
        webhook: webhook(db, account)?,
    };
    let mut bytes = 0;
    let mut taken = 0_u64;
    for item in items.into_iter().skip(bounds.skip).take(bounds.items) {
        bytes += item.size_bytes();
        if taken > 0 && bytes > bounds.bytes as u64 {
            break;
        }
        taken += 1;
        match item {
            Item::Envelope(envelope) => batch.envelopes.push(envelope),
            Item::Event(event) => batch.events.push(event),
        }
    }
    let waiting = first::<i64>(db, "SELECT waiting FROM lanes WHERE account = ?", [account.as_bytes()])?;
    batch.backlog = waiting.and_then(|waiting| u64::try_from(waiting).ok()).unwrap_or_default().saturating_sub(taken);
    Ok(batch)
}

fn candidates(
    db: &Connection,
    now: Timestamp,
    account: AccountId,
    way: Way,
    limit: usize,
) -> Result<Vec<Item>, StoreError> {
    let (waiting, set_aside) = match way {
        Way::Pull => (true, Some("ORDER BY id")),
        Way::Webhook(Selection::SetAside) => (false, Some("AND set_aside_until <= ?2 ORDER BY set_aside_until")),
        Way::Webhook(Selection::Batch | Selection::Probe | Selection::Head | Selection::Second) => (true, None),
    };
    let mut items = Vec::new();
    if waiting {
        items.extend(envelopes(db, now, account, "set_aside_until IS NULL", "ORDER BY id", limit)?);
        items.extend(events(db, account, limit)?);
    }
    if let Some(order) = set_aside {
        items.extend(envelopes(db, now, account, "set_aside_until IS NOT NULL", order, limit)?);
    }
    Ok(items)
}

fn envelopes(
    db: &Connection,
    now: Timestamp,
    account: AccountId,
    which: &str,
    order: &str,
    limit: usize,
) -> Result<Vec<Item>, StoreError> {
    let sql = format!(
        "SELECT id, mailbox, envelope, accepted_at, size FROM envelopes \
         WHERE account = ?1 AND state < 2 AND {which} AND {DELIVERABLE} {order} LIMIT ?3"
    );
    rows(db, &sql, params![account.as_bytes(), millis(now), int(limit as u64)], |row| {
        Ok(Item::Envelope(LeasedEnvelope {
            id: DeliveryId(count(row, "id")?),
            mailbox: MailboxId::from_bytes(row.get("mailbox")?),
            envelope: EnvelopeId::from_bytes(row.get("envelope")?),
            accepted_at: time(row, "accepted_at")?,
            size_bytes: count(row, "size")?,
        }))
    })
}

fn events(db: &Connection, account: AccountId, limit: usize) -> Result<Vec<Item>, StoreError> {
    let sql = "SELECT id, envelope, state, attempts, reason, next_attempt_at, at FROM events \
               WHERE account = ? ORDER BY id LIMIT ?";
    rows(db, sql, params![account.as_bytes(), int(limit as u64)], |row| event(row).map(Item::Event))
}

fn event(row: &Row<'_>) -> rusqlite::Result<StatusEvent> {
    Ok(StatusEvent {
        id: DeliveryId(count(row, "id")?),
        envelope: EnvelopeId::from_bytes(row.get("envelope")?),
        state: state(row, "state")?,
        attempts: small(row, "attempts")?,
        reason: row.get("reason")?,
        next_attempt_at: maybe_time(row, "next_attempt_at")?,
        at: time(row, "at")?,
    })
}
