//! What goes out of a lane: leases, what was said of what they held, and when the scheduler has to look.

use super::{
    Store, StoreError,
    lanes::{self, DELIVERABLE, WaitingFacts},
    outcomes,
    rows::{count, first, int, maybe_time, millis, row, rows, small, state, time},
    tally::item,
};
use rusqlite::{Connection, Row, params};
use sealpost_proto::{
    AccountId, DeliveryId, EnvelopeId, MailboxId, Timestamp, WebhookSecret,
    limits::DELIVERY_MEMORY_OF_CALL_BYTES,
    wire::{DeliveryResult, DeliveryResults, StatusEvent},
};
use sealpost_relay_core::{
    Effect, Event, Lane, Standing,
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
    /// Whether the call before failed.
    pub(crate) was_failing: bool,
    /// The bytes of the envelopes, in order, when they are few enough to be read with the lease.
    pub(crate) bodies: Option<Vec<Vec<u8>>>,
}

impl LeasedBatch {
    /// The items in their order.
    #[must_use]
    pub(crate) fn items(&self) -> Vec<DeliveryId> {
        let envelopes = self.envelopes.iter().map(|envelope| envelope.id);
        let mut items: Vec<_> = envelopes
            .chain(self.events.iter().map(|event| event.id))
            .collect();
        items.sort_unstable();
        items
    }

    /// Bytes of its envelopes.
    #[must_use]
    pub(crate) fn size_bytes(&self) -> u64 {
        self.envelopes
            .iter()
            .map(|envelope| envelope.size_bytes)
            .sum()
    }
}

/// What the scheduler has to look at, of one standing.
#[derive(Debug)]
pub(crate) struct Due {
    /// Lanes that are due.
    pub(crate) lanes: Vec<AccountId>,
    /// When the next one is, unless there are more of those.
    pub(crate) next_at: Option<Timestamp>,
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
    /// Leases what waits, so many bytes at most, to the node that asks for it; absent when nothing waits or a call is under way.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) async fn pull(
        &self,
        now: Timestamp,
        account: AccountId,
        bytes_max: usize,
    ) -> Result<Option<LeasedBatch>, StoreError> {
        self.write(move |db| pull(db, now, account, bytes_max))
            .await
    }

    /// Whether anything waits for an account.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) async fn has_waiting(&self, account: AccountId) -> Result<bool, StoreError> {
        self.read(move |db| lanes::has_waiting(db, account)).await
    }

    /// How many envelopes are set aside.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) async fn set_aside(&self) -> Result<u64, StoreError> {
        let sql = "SELECT count(*) FROM envelopes WHERE state < 2 AND place = 1";
        self.read(move |db| {
            Ok(first::<i64>(db, sql, [])?
                .map(super::rows::uint)
                .unwrap_or_default())
        })
        .await
    }

    /// Leases a batch of so many bytes at most for the call of a webhook, if its lane lets a call through.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) async fn lease_call(
        &self,
        now: Timestamp,
        account: AccountId,
        bytes_max: usize,
    ) -> Result<Option<LeasedBatch>, StoreError> {
        self.write_unsynced(move |db| lease_for_call(db, now, account, bytes_max))
            .await
    }

    /// The bytes of a batch's envelopes, in order; absent for one that ended meanwhile.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) async fn bodies(
        &self,
        items: Vec<DeliveryId>,
    ) -> Result<Vec<Option<Vec<u8>>>, StoreError> {
        self.read(move |db| items.into_iter().map(|id| body(db, id)).collect())
            .await
    }

    /// Writes down how a call ended: what was stored goes, senders are told, the lane moves on. With `go_on` the next batch
    /// is leased in the same transaction, of so many bytes at most.
    ///
    /// `heeds` hears whether contact changes something from now on, and it does before the transaction commits: a contact
    /// that asks then is written down after the end of the call, because there is one writer.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) async fn finish_call(
        &self,
        now: Timestamp,
        end: CallEnd,
        go_on: Option<usize>,
        heeds: impl Fn(bool) + Clone + Send + 'static,
    ) -> Result<Handed, StoreError> {
        self.write_unsynced(move |db| {
            let handed = outcomes::finish(db, now, &end, go_on)?;
            heeds(handed.heeds_contact);
            Ok(handed)
        })
        .await
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
        self.write(move |db| outcomes::acknowledge(db, now, account, &results))
            .await
    }

    /// Gives a lease back unused.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) async fn return_lease(
        &self,
        now: Timestamp,
        account: AccountId,
        fence: u64,
    ) -> Result<(), StoreError> {
        self.step_lane(now, account, Event::Returned { fence })
            .await
    }

    /// The account was heard of.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) async fn contact(
        &self,
        now: Timestamp,
        account: AccountId,
    ) -> Result<(), StoreError> {
        self.step_lane(now, account, Event::Contact).await
    }

    /// The webhook answered its challenge.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) async fn verified(
        &self,
        now: Timestamp,
        account: AccountId,
    ) -> Result<(), StoreError> {
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
    pub(crate) async fn note_webhook(
        &self,
        account: AccountId,
        reason: String,
    ) -> Result<(), StoreError> {
        self.write(move |db| lanes::note(db, account, Some(&reason)))
            .await
    }

    /// The relay started: calls that were under way are not any more.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) async fn restarted(&self, now: Timestamp) -> Result<(), StoreError> {
        self.write(move |db| {
            let held = rows(
                db,
                "SELECT account FROM lanes WHERE free_at > 0",
                [],
                |row| row.get("account"),
            )?;
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

    /// The lanes that are due, so many of each of [`Standing::ALL`] at most, the longest waiting first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) async fn due(&self, now: Timestamp, limit: usize) -> Result<[Due; 2], StoreError> {
        self.read(move |db| {
            let [living, failing] = Standing::ALL.map(|standing| due(db, now, standing, limit));
            Ok([living?, failing?])
        })
        .await
    }

    async fn step_lane(
        &self,
        now: Timestamp,
        account: AccountId,
        event: Event,
    ) -> Result<(), StoreError> {
        self.write_unsynced(move |db| lanes::step(db, now, account, event, 0).map(|_| ()))
            .await
    }
}

fn body(db: &Connection, id: DeliveryId) -> Result<Option<Vec<u8>>, StoreError> {
    first(db, "SELECT bytes FROM bodies WHERE id = ?", [item(id)])
}

fn webhook(db: &Connection, account: AccountId) -> Result<Option<Webhook>, StoreError> {
    let sql = "SELECT webhook_url, webhook_secret FROM accounts WHERE account = ?";
    Ok(row(db, sql, [account.as_bytes()], read_webhook)?.flatten())
}

fn read_webhook(row: &Row<'_>) -> rusqlite::Result<Option<Webhook>> {
    let Some(url) = row.get("webhook_url")? else {
        return Ok(None);
    };
    Ok(Some(Webhook {
        url,
        secret: WebhookSecret::from_bytes(row.get("webhook_secret")?),
    }))
}

fn due(
    db: &Connection,
    now: Timestamp,
    standing: Standing,
    limit: usize,
) -> Result<Due, StoreError> {
    let failing = standing == Standing::Failing;
    let mut due = Due {
        lanes: Vec::new(),
        next_at: None,
    };
    let mut statement = db.prepare_cached(DUE)?;
    let mut rows = statement.query(params![failing, int(limit as u64)])?;
    while let Some(row) = rows.next()? {
        let at = time(row, "due_at")?;
        if at > now {
            due.next_at = Some(at);
            break;
        }
        due.lanes.push(AccountId::from_bytes(row.get("account")?));
    }
    Ok(due)
}

/// Lanes of one standing by when they are due.
pub(super) const DUE: &str = "SELECT account, due_at FROM lanes WHERE failing = ? AND due_at IS NOT NULL ORDER BY due_at LIMIT ?";

pub(super) fn lease_for_call(
    db: &Connection,
    now: Timestamp,
    account: AccountId,
    bytes_max: usize,
) -> Result<Option<LeasedBatch>, StoreError> {
    match lanes::load(db, account)? {
        Some(mut lane) => call(db, now, account, &mut lane, bytes_max),
        None => Ok(None),
    }
}

/// Leases the next batch of a lane for a call, if it lets one through, and writes the lane down in any case.
pub(super) fn call(
    db: &Connection,
    now: Timestamp,
    account: AccountId,
    lane: &mut Lane,
    bytes_max: usize,
) -> Result<Option<LeasedBatch>, StoreError> {
    let waiting = lanes::waiting(db, now, account)?;
    if waiting.has_set_aside {
        lanes::hold_back(db, account)?;
    }
    let others = match lane.compares() {
        Some(suspect) => other(db, now, account, suspect)?.is_some(),
        None => false,
    };
    let was_failing = lane.is_failing();
    let effects = lane.step(now, Event::Call(waiting.at(now, others)), 0);
    let leased = lease(db, now, account, lane, waiting, &effects, bytes_max)?;
    let Some(batch) = leased else { return Ok(None) };
    // What every call has memory of its own for is read at once, without a way to a reading thread and back.
    let few = !was_failing && batch.size_bytes() <= DELIVERY_MEMORY_OF_CALL_BYTES as u64;
    let bodies = if few {
        batch
            .envelopes
            .iter()
            .map(|envelope| body(db, envelope.id))
            .collect()
    } else {
        Ok(None)
    };
    Ok(Some(LeasedBatch {
        was_failing,
        bodies: bodies?,
        ..batch
    }))
}

fn pull(
    db: &Connection,
    now: Timestamp,
    account: AccountId,
    bytes_max: usize,
) -> Result<Option<LeasedBatch>, StoreError> {
    let Some(mut lane) = lanes::load(db, account)? else {
        return Ok(None);
    };
    let waiting = lanes::waiting(db, now, account)?;
    if waiting.head.is_none() && waiting.set_aside_at.is_none() {
        return Ok(None);
    }
    let effects = lane.step(now, Event::Pull, 0);
    lease(db, now, account, &lane, waiting, &effects, bytes_max)
}

/// Takes a batch if the lane gave a lease, and writes the lane down in any case.
fn lease(
    db: &Connection,
    now: Timestamp,
    account: AccountId,
    lane: &Lane,
    waiting: WaitingFacts,
    effects: &[Effect],
    bytes_max: usize,
) -> Result<Option<LeasedBatch>, StoreError> {
    let [Effect::Lease { fence, way, .. }] = effects[..] else {
        lanes::save_with(db, now, account, lane, waiting, None)?;
        return Ok(None);
    };
    let items = candidates(db, now, account, way, waiting, lane.compares())?;
    let batch = take(db, account, fence, (way, bytes_max), items)?;
    let items = batch.items();
    let (Some(first), Some(last)) = (items.first(), items.last()) else {
        return Err(StoreError::Failed {
            reason: "a batch was leased and holds nothing".to_owned(),
        });
    };
    lanes::save_with(db, now, account, lane, waiting, Some((*first, *last)))?;
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

fn take(
    db: &Connection,
    account: AccountId,
    fence: u64,
    (way, bytes_max): (Way, usize),
    mut items: Vec<Item>,
) -> Result<LeasedBatch, StoreError> {
    let bounds = way.take();
    let bytes_max = bounds.bytes.min(bytes_max) as u64;
    items.sort_by_key(Item::id);
    let (webhook, waiting) = place(db, account)?;
    let mut batch = LeasedBatch {
        account,
        fence,
        envelopes: Vec::new(),
        events: Vec::new(),
        backlog: 0,
        webhook,
        was_failing: false,
        bodies: None,
    };
    let mut bytes = 0;
    let mut taken = 0_u64;
    for item in items.into_iter().take(bounds.items) {
        bytes += item.size_bytes();
        if taken > 0 && bytes > bytes_max {
            break;
        }
        taken += 1;
        match item {
            Item::Envelope(envelope) => batch.envelopes.push(envelope),
            Item::Event(event) => batch.events.push(event),
        }
    }
    batch.backlog = waiting.saturating_sub(taken);
    Ok(batch)
}

/// Where a lane's batches go, and how much waits in it.
fn place(db: &Connection, account: AccountId) -> Result<(Option<Webhook>, u64), StoreError> {
    let sql = "SELECT a.webhook_url, a.webhook_secret, l.waiting FROM accounts a JOIN lanes l ON l.account = a.account \
               WHERE a.account = ?";
    let found = row(db, sql, [account.as_bytes()], |row| {
        Ok((read_webhook(row)?, count(row, "waiting")?))
    })?;
    Ok(found.unwrap_or_default())
}

const IN_ORDER: &str = "ORDER BY id";

fn candidates(
    db: &Connection,
    now: Timestamp,
    account: AccountId,
    way: Way,
    waiting: WaitingFacts,
    suspect: Option<DeliveryId>,
) -> Result<Vec<Item>, StoreError> {
    let limit = way.take().items;
    let envelopes = |which, order| envelopes(db, now, account, which, order, limit);
    let mut items = match (way, suspect) {
        (Way::Webhook(Selection::SetAside), _) => {
            return envelopes("place = 1", "ORDER BY set_aside_until");
        }
        (Way::Webhook(Selection::Other), Some(suspect)) => {
            return Ok(other(db, now, account, suspect)?.into_iter().collect());
        }
        // A pull gets everything: each place in its order, to be merged.
        (Way::Pull, _) => {
            let mut items = envelopes("place = 0", IN_ORDER)?;
            items.extend(envelopes("place = 1", IN_ORDER)?);
            items.extend(envelopes("place = 2", IN_ORDER)?);
            items
        }
        (
            Way::Webhook(Selection::Batch | Selection::Probe | Selection::Head | Selection::Other),
            _,
        ) => envelopes(lanes::QUEUED, IN_ORDER)?,
    };
    if waiting.has_events {
        items.extend(events(db, account, limit)?);
    }
    Ok(items)
}

/// The first item of the queue that is neither the suspect nor of its mailbox.
fn other(
    db: &Connection,
    now: Timestamp,
    account: AccountId,
    suspect: DeliveryId,
) -> Result<Option<Item>, StoreError> {
    let which = format!(
        "{} AND mailbox IS NOT (SELECT mailbox FROM envelopes WHERE id = {})",
        lanes::QUEUED,
        item(suspect)
    );
    let mut items = envelopes(db, now, account, &which, IN_ORDER, 1)?;
    items.extend(
        events(db, account, 2)?
            .into_iter()
            .filter(|event| event.id() != suspect),
    );
    Ok(items.into_iter().min_by_key(Item::id))
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
    rows(
        db,
        &sql,
        params![account.as_bytes(), millis(now), int(limit as u64)],
        |row| {
            Ok(Item::Envelope(LeasedEnvelope {
                id: DeliveryId(count(row, "id")?),
                mailbox: MailboxId::from_bytes(row.get("mailbox")?),
                envelope: EnvelopeId::from_bytes(row.get("envelope")?),
                accepted_at: time(row, "accepted_at")?,
                size_bytes: count(row, "size")?,
            }))
        },
    )
}

fn events(db: &Connection, account: AccountId, limit: usize) -> Result<Vec<Item>, StoreError> {
    let sql = "SELECT id, envelope, state, attempts, reason, next_attempt_at, at FROM events \
               WHERE account = ? ORDER BY id LIMIT ?";
    rows(
        db,
        sql,
        params![account.as_bytes(), int(limit as u64)],
        |row| event(row).map(Item::Event),
    )
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
