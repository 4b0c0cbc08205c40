//! Delivery of a lane's items: leases, the outcomes of calls and pulls, and which lanes are due.

use super::{
    Store, StoreError,
    lanes::{self, DELIVERABLE, WaitingItems},
    outcomes,
    queue_changes::item_id,
    rows::{sql_limit, state_from_code, visit_rows},
};
use crate::lease::{LeasedBatch, LeasedEnvelope, Webhook};
use rusqlite::{Connection, Row, params};
use sealpost_proto::{
    AccountId, DeliveryId, Timestamp, WebhookSecret,
    limits::DELIVERY_MEMORY_PER_CALL_BYTES,
    wire::{DeliveryResult, DeliveryResults, StatusEvent},
};
use sealpost_relay_core::{
    Effect, EndpointHealth, Event, Lane,
    classify::Class,
    lane::{DeliveryMethod, Selection},
};
use sealpost_sqlite::{RowError, RowExt as _, query, to_millis};

/// Lanes of one health that are due.
#[derive(Debug)]
pub(crate) struct DueLanes {
    pub(crate) lanes: Vec<AccountId>,
    /// When the next lane is due, unless the limit cut the list off.
    pub(crate) next_at: Option<Timestamp>,
}

/// End of a webhook call.
#[derive(Debug, Clone)]
pub(crate) struct CallEnd {
    pub(crate) account: AccountId,
    /// Fencing token of the lease.
    pub(crate) fence: u64,
    /// Items of the batch, in order.
    pub(crate) items: Vec<DeliveryId>,
    pub(crate) class: Class,
    /// Results in the response, with [`Class::Succeeded`].
    pub(crate) results: Vec<DeliveryResult>,
    /// Why the call failed, in words for the senders and the account.
    pub(crate) reason: Option<String>,
    /// Random number for the jitter of the backoff.
    pub(crate) random: u64,
}

/// Outcome of a batch that was delivered or pulled.
#[derive(Debug)]
pub(crate) struct BatchOutcome {
    /// Accounts for which something waits now.
    pub(crate) woken: Vec<AccountId>,
    /// Next batch of the lane, leased in the same transaction.
    pub(crate) next: Option<LeasedBatch>,
    /// Whether a contact of the account makes the lane due from now on.
    pub(crate) contact_ends_backoff: bool,
    /// Whether this call switched the webhook off.
    pub(crate) is_switched_off: bool,
    /// Number of envelopes that the node stored.
    pub(crate) stored: u64,
}

impl Store {
    /// Returns whether envelopes or events wait for an account.
    pub(crate) async fn has_waiting(&self, account: AccountId) -> Result<bool, StoreError> {
        self.read(move |db| lanes::has_waiting(db, account)).await
    }

    /// Counts the envelopes that are set aside.
    pub(crate) async fn count_set_aside(&self) -> Result<u64, StoreError> {
        let sql = "SELECT count(*) AS number FROM set_aside_envelopes";
        self.read(move |db| {
            let count = query::first_value(db, sql, [])?;
            Ok(count.unwrap_or_default())
        })
        .await
    }

    /// Leases the next batch for a pulling node; empty while a call of the webhook is in progress.
    pub(crate) async fn pull(
        &self,
        now: Timestamp,
        account: AccountId,
        bytes_max: usize,
    ) -> Result<Option<LeasedBatch>, StoreError> {
        self.write_unsynced(move |db| pull(db, now, account, bytes_max))
            .await
    }

    /// Leases the next batch for a webhook call, if the lane can be called.
    pub(crate) async fn lease_call(
        &self,
        now: Timestamp,
        account: AccountId,
        bytes_max: usize,
    ) -> Result<Option<LeasedBatch>, StoreError> {
        self.write_unsynced(move |db| lease_for_call(db, now, account, bytes_max))
            .await
    }

    /// Loads the bytes of envelopes in the given order; absent for an envelope that has ended.
    pub(crate) async fn bodies(
        &self,
        items: Vec<DeliveryId>,
    ) -> Result<Vec<Option<Vec<u8>>>, StoreError> {
        self.read(move |db| items.into_iter().map(|id| body(db, id)).collect())
            .await
    }

    /// Records the end of a call: stored envelopes end, senders are notified, the lane moves on.
    /// With `next_batch_bytes`, the same transaction leases the next batch with up to that many
    /// bytes.
    ///
    /// `on_contact_change` receives whether a contact makes the lane due from now on. It runs
    /// before the transaction commits: a contact that is reported from then on is recorded after
    /// the end of the call, because there is one writer.
    pub(crate) async fn finish_call(
        &self,
        now: Timestamp,
        end: CallEnd,
        next_batch_bytes: Option<usize>,
        on_contact_change: impl Fn(bool) + Clone + Send + 'static,
    ) -> Result<BatchOutcome, StoreError> {
        self.write_unsynced(move |db| {
            let outcome = outcomes::finish_call(db, now, &end, next_batch_bytes)?;
            on_contact_change(outcome.contact_ends_backoff);
            Ok(outcome)
        })
        .await
    }

    /// Records the results of a pull. Items of other accounts are skipped. A late acknowledgement
    /// still ends the items that wait and leaves the lane unchanged.
    pub(crate) async fn acknowledge(
        &self,
        now: Timestamp,
        account: AccountId,
        results: DeliveryResults,
    ) -> Result<BatchOutcome, StoreError> {
        self.write(move |db| outcomes::acknowledge(db, now, account, &results))
            .await
    }

    /// Returns an unused lease.
    pub(crate) async fn return_lease(
        &self,
        now: Timestamp,
        account: AccountId,
        fence: u64,
    ) -> Result<(), StoreError> {
        self.step_lane(now, account, Event::Released { fence })
            .await
    }

    /// Records a contact of an account, which ends the backoff of its lane.
    pub(crate) async fn record_contact(
        &self,
        now: Timestamp,
        account: AccountId,
    ) -> Result<(), StoreError> {
        self.step_lane(now, account, Event::Contact).await
    }

    /// Records that the webhook answered its challenge.
    pub(crate) async fn verify_webhook(
        &self,
        now: Timestamp,
        account: AccountId,
    ) -> Result<(), StoreError> {
        self.write(move |db| {
            lanes::set_reason(db, account, None)?;
            lanes::step(db, now, account, Event::Verified, 0).map(|_| ())
        })
        .await
    }

    /// Records why the webhook is not called.
    pub(crate) async fn record_webhook_failure(
        &self,
        account: AccountId,
        reason: String,
    ) -> Result<(), StoreError> {
        self.write(move |db| lanes::set_reason(db, account, Some(&reason)))
            .await
    }

    /// Ends the leases of calls that were in progress when the previous process ended.
    pub(crate) async fn recover_leases(&self, now: Timestamp) -> Result<(), StoreError> {
        self.write(move |db| {
            let sql = "SELECT account_id FROM lanes WHERE callable_at > 0";
            let accounts = query::all_rows(db, sql, [], |row| row.id("account_id"))?;
            for account in accounts {
                lanes::step(db, now, account, Event::Restarted, 0)?;
            }
            Ok(())
        })
        .await
    }

    pub(crate) async fn webhook(&self, account: AccountId) -> Result<Option<Webhook>, StoreError> {
        self.read(move |db| webhook(db, account)).await
    }

    /// Lists up to `limit` due lanes for each of [`EndpointHealth::ALL`], the longest waiting
    /// first.
    pub(crate) async fn due_lanes(
        &self,
        now: Timestamp,
        limit: usize,
    ) -> Result<[DueLanes; 2], StoreError> {
        self.read(move |db| {
            let [healthy, failing] =
                EndpointHealth::ALL.map(|health| due_lanes(db, now, health, limit));
            Ok([healthy?, failing?])
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
    let sql = "SELECT bytes FROM envelope_bodies WHERE id = ?";
    Ok(query::first_value(db, sql, [item_id(id)])?)
}

fn webhook(db: &Connection, account: AccountId) -> Result<Option<Webhook>, StoreError> {
    let sql = "SELECT webhook_url, webhook_secret FROM accounts WHERE id = ?";
    Ok(query::first_row(db, sql, [account.as_bytes()], read_webhook)?.flatten())
}

fn read_webhook(row: &Row<'_>) -> Result<Option<Webhook>, RowError> {
    let Some(url) = row.read("webhook_url")? else {
        return Ok(None);
    };
    Ok(Some(Webhook {
        url,
        secret: WebhookSecret::from_bytes(row.read("webhook_secret")?),
    }))
}

fn due_lanes(
    db: &Connection,
    now: Timestamp,
    health: EndpointHealth,
    limit: usize,
) -> Result<DueLanes, StoreError> {
    let is_failing = health == EndpointHealth::Failing;
    let mut due = DueLanes {
        lanes: Vec::new(),
        next_at: None,
    };
    let params = params![is_failing, sql_limit(limit)];
    visit_rows(db, DUE_LANES, params, |row| {
        let due_at = row.timestamp("due_at")?;
        let is_due = due_at <= now;
        if is_due {
            let account = row.read("account_id")?;
            due.lanes.push(AccountId::from_bytes(account));
        } else {
            due.next_at = Some(due_at);
        }
        Ok::<_, StoreError>(is_due)
    })?;
    Ok(due)
}

/// Lanes of one health by due time.
pub(super) const DUE_LANES: &str = "SELECT account_id, due_at FROM lanes \
     WHERE is_failing = ? AND due_at IS NOT NULL ORDER BY due_at LIMIT ?";

pub(super) fn lease_for_call(
    db: &Connection,
    now: Timestamp,
    account: AccountId,
    bytes_max: usize,
) -> Result<Option<LeasedBatch>, StoreError> {
    match lanes::load(db, account)? {
        Some(mut lane) => lease_next(db, now, account, &mut lane, bytes_max),
        None => Ok(None),
    }
}

/// Leases the next batch of a lane for a call, if the lane can be called, and saves the lane in any
/// case.
pub(super) fn lease_next(
    db: &Connection,
    now: Timestamp,
    account: AccountId,
    lane: &mut Lane,
    bytes_max: usize,
) -> Result<Option<LeasedBatch>, StoreError> {
    let waiting = lanes::waiting(db, now, account)?;
    if waiting.has_set_aside {
        lanes::hold_behind(db, account)?;
    }
    let others = match lane.comparison_suspect() {
        Some(suspect) => other_item(db, now, account, suspect)?.is_some(),
        None => false,
    };
    let was_failing = lane.is_failing();
    let effects = lane.step(now, Event::Call(waiting.at(now, others)), 0);
    let leased = lease(db, now, account, lane, waiting, &effects, bytes_max)?;
    let Some(batch) = leased else { return Ok(None) };
    // A batch that fits into the memory that each call owns is read here, without a trip to a
    // reader thread.
    let is_small = !was_failing && batch.size_bytes() <= DELIVERY_MEMORY_PER_CALL_BYTES as u64;
    let bodies = if is_small {
        batch
            .envelopes
            .iter()
            .map(|envelope| body(db, envelope.id))
            .collect::<Result<_, _>>()?
    } else {
        None
    };
    Ok(Some(LeasedBatch {
        was_failing,
        bodies,
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

/// Collects a batch if the lane granted a lease, and saves the lane in any case.
fn lease(
    db: &Connection,
    now: Timestamp,
    account: AccountId,
    lane: &Lane,
    waiting: WaitingItems,
    effects: &[Effect],
    bytes_max: usize,
) -> Result<Option<LeasedBatch>, StoreError> {
    let [Effect::Lease { fence, method, .. }] = effects[..] else {
        lanes::save_with(db, now, account, lane, waiting, None)?;
        return Ok(None);
    };
    let items = candidates(db, now, account, method, waiting, lane.comparison_suspect())?;
    let batch = collect_batch(db, account, fence, (method, bytes_max), items)?;
    let items = batch.items();
    let (Some(first), Some(last)) = (items.first(), items.last()) else {
        return Err(StoreError::Failed {
            reason: "the leased batch is empty".to_owned(),
        });
    };
    lanes::save_with(db, now, account, lane, waiting, Some((*first, *last)))?;
    Ok(Some(batch))
}

/// Item for a batch.
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

fn collect_batch(
    db: &Connection,
    account: AccountId,
    fence: u64,
    (method, bytes_max): (DeliveryMethod, usize),
    mut items: Vec<Item>,
) -> Result<LeasedBatch, StoreError> {
    let bounds = method.batch_limits();
    let bytes_max = bounds.bytes.min(bytes_max) as u64;
    items.sort_by_key(Item::id);
    let (webhook, waiting) = webhook_and_waiting(db, account)?;
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
    let mut collected = 0_u64;
    for item in items.into_iter().take(bounds.items) {
        bytes += item.size_bytes();
        if collected > 0 && bytes > bytes_max {
            break;
        }
        collected += 1;
        match item {
            Item::Envelope(envelope) => batch.envelopes.push(envelope),
            Item::Event(event) => batch.events.push(event),
        }
    }
    batch.backlog = waiting.saturating_sub(collected);
    Ok(batch)
}

/// Loads the webhook of an account and the number of items that wait in its lane.
fn webhook_and_waiting(
    db: &Connection,
    account: AccountId,
) -> Result<(Option<Webhook>, u64), StoreError> {
    let sql = "SELECT a.webhook_url, a.webhook_secret, l.waiting_items FROM accounts a \
               JOIN lanes l ON l.account_id = a.id WHERE a.id = ?";
    let found = query::first_row(db, sql, [account.as_bytes()], |row| {
        let waiting = row.read("waiting_items")?;
        Ok((read_webhook(row)?, waiting))
    })?;
    Ok(found.unwrap_or_default())
}

fn candidates(
    db: &Connection,
    now: Timestamp,
    account: AccountId,
    method: DeliveryMethod,
    waiting: WaitingItems,
    suspect: Option<DeliveryId>,
) -> Result<Vec<Item>, StoreError> {
    let limit = method.batch_limits().items;
    let envelopes = |source| envelopes(db, now, account, source, limit);
    let mut items = match (method, suspect) {
        (DeliveryMethod::Webhook(Selection::SetAside), _) => return envelopes(Source::SET_ASIDE),
        (DeliveryMethod::Webhook(Selection::Other), Some(suspect)) => {
            return Ok(other_item(db, now, account, suspect)?.into_iter().collect());
        }
        // A pull receives everything. Each view is read in order of its index; the caller merges
        // them.
        (DeliveryMethod::Pull, _) => {
            let mut items = Vec::new();
            for source in Source::EVERYTHING {
                items.extend(envelopes(source)?);
            }
            items
        }
        (
            DeliveryMethod::Webhook(
                Selection::Batch | Selection::Probe | Selection::Head | Selection::Other,
            ),
            _,
        ) => envelopes(Source::QUEUE)?,
    };
    if waiting.has_events {
        items.extend(events(db, account, limit)?);
    }
    Ok(items)
}

/// Waiting envelopes of an account, as a part of a query.
#[derive(Debug, Clone, Copy)]
pub(super) struct Source<'a> {
    view: &'static str,
    filter: &'a str,
    order: &'static str,
}

impl Source<'_> {
    pub(super) const QUEUE: Self = Self {
        view: "queued_envelopes",
        filter: lanes::NOT_BEHIND,
        order: "id",
    };
    pub(super) const SET_ASIDE: Self = Self {
        view: "set_aside_envelopes",
        filter: "true",
        order: "set_aside_until",
    };
    pub(super) const EVERYTHING: [Self; 3] = [
        Self::all_of("queued_envelopes"),
        Self::all_of("set_aside_envelopes"),
        Self::all_of("held_envelopes"),
    ];

    const fn all_of(view: &'static str) -> Self {
        Self {
            view,
            filter: "true",
            order: "id",
        }
    }
}

/// Finds the first item of the queue that is neither the suspect nor of the same mailbox.
fn other_item(
    db: &Connection,
    now: Timestamp,
    account: AccountId,
    suspect: DeliveryId,
) -> Result<Option<Item>, StoreError> {
    let filter = format!(
        "{} AND mailbox_id IS NOT (SELECT mailbox_id FROM envelopes WHERE id = {})",
        lanes::NOT_BEHIND,
        item_id(suspect)
    );
    let source = Source {
        filter: &filter,
        ..Source::QUEUE
    };
    let mut items = envelopes(db, now, account, source, 1)?;
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
    source: Source<'_>,
    limit: usize,
) -> Result<Vec<Item>, StoreError> {
    let sql = envelopes_sql(source);
    let params = params![account.as_bytes(), to_millis(now), sql_limit(limit)];
    Ok(query::all_rows(db, &sql, params, |row| {
        Ok(Item::Envelope(LeasedEnvelope {
            id: DeliveryId(row.read("id")?),
            mailbox: row.id("mailbox_id")?,
            envelope: row.id("envelope_id")?,
            accepted_at: row.timestamp("accepted_at")?,
            size_bytes: row.read("size_bytes")?,
        }))
    })?)
}

/// Builds the query for deliverable envelopes `e` of an account in a view.
pub(super) fn envelopes_sql(
    Source {
        view,
        filter,
        order,
    }: Source<'_>,
) -> String {
    format!(
        "SELECT id, mailbox_id, envelope_id, accepted_at, size_bytes FROM {view} e \
         WHERE account_id = ?1 AND {filter} AND {DELIVERABLE} ORDER BY {order} LIMIT ?3"
    )
}

fn events(db: &Connection, account: AccountId, limit: usize) -> Result<Vec<Item>, StoreError> {
    let params = params![account.as_bytes(), sql_limit(limit)];
    Ok(query::all_rows(db, EVENTS, params, |row| {
        event(row).map(Item::Event)
    })?)
}

/// Events for an account in order.
pub(super) const EVENTS: &str = "SELECT id, envelope_id, state, attempts, reason, \
    next_attempt_at, created_at \
     FROM events WHERE account_id = ? ORDER BY id LIMIT ?";

fn event(row: &Row<'_>) -> Result<StatusEvent, RowError> {
    Ok(StatusEvent {
        id: DeliveryId(row.read("id")?),
        envelope: row.id("envelope_id")?,
        state: row.convert("state", state_from_code)?,
        attempts: row.read("attempts")?,
        reason: row.read("reason")?,
        next_attempt_at: row.optional_timestamp("next_attempt_at")?,
        at: row.timestamp("created_at")?,
    })
}
