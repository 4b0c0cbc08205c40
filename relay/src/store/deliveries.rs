//! Delivery of a lane's items: leases, the outcomes of calls and pulls, and the due lanes.

use super::{
    Store, StoreError,
    lanes::{self, DELIVERABLE, WaitingItems},
    outcomes,
    queue_changes::item_id,
    rows::{sql_limit, state_from_code, visit_rows},
};
use crate::lease::{LeasedBatch, LeasedEnvelope, PullLimits, Webhook};
use rusqlite::{Connection, Row, params};
use sealpost_proto::{
    AccountId, DeliveryId, Timestamp, WebhookSecret, WebhookUrl,
    limits::{DELIVERY_EVENT_BYTES, DELIVERY_MEMORY_PER_CALL_BYTES},
    wire::{DeliveryResult, DeliveryResults, StatusEvent},
};
use sealpost_relay_core::{
    Effect, EndpointHealth, Event, Lane,
    classify::Class,
    lane::{BatchLimits, DeliveryMethod, Selection},
};
use sealpost_sqlite::{RowError, RowExt as _, query, to_millis};
use std::time::Duration;

/// Due lanes with the same endpoint health.
#[derive(Debug)]
pub(crate) struct DueLanes {
    pub(crate) lanes: Vec<AccountId>,
    /// When the next lane is due; `None` if there is no such lane or the list was truncated.
    pub(crate) next_at: Option<Timestamp>,
}

/// Outcome of a webhook call.
#[derive(Debug, Clone)]
pub(crate) struct CallOutcome {
    pub(crate) class: Class,
    /// Results of the items; empty unless `class` is [`Class::Succeeded`].
    pub(crate) results: Vec<DeliveryResult>,
    /// Human-readable reason of a failure. Senders see it, so it must not contain the URL.
    pub(crate) reason: Option<String>,
    /// Duration of the call.
    pub(crate) elapsed: Duration,
}

/// Webhook call that has completed, with its batch.
#[derive(Debug, Clone)]
pub(crate) struct CallReport {
    pub(crate) account: AccountId,
    /// Fencing token of the lease.
    pub(crate) fence: u64,
    /// Ids of the items of the batch, in order.
    pub(crate) item_ids: Vec<DeliveryId>,
    /// Size of the batch ([`LeasedBatch::batch_bytes`]).
    pub(crate) bytes: usize,
    pub(crate) outcome: CallOutcome,
    /// Random number for the jitter of the backoff.
    pub(crate) random: u64,
}

/// Outcome of a batch that was delivered or pulled.
#[derive(Debug)]
pub(crate) struct BatchOutcome {
    /// Accounts whose queues received items.
    pub(crate) accounts_to_notify: Vec<AccountId>,
    /// Next batch of the lane, leased in the same transaction.
    pub(crate) next: Option<LeasedBatch>,
    /// Whether the next authenticated request of the account makes the lane due.
    pub(crate) contact_ends_backoff: bool,
    /// Whether this call turned the webhook off.
    pub(crate) is_turned_off: bool,
    /// Number of envelopes that the node stored.
    pub(crate) stored_count: u64,
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

    /// Leases the next batch for a pulling node. Returns `None` while a webhook call is in progress
    /// or nothing waits.
    pub(crate) async fn pull(
        &self,
        now: Timestamp,
        account: AccountId,
        limits: PullLimits,
    ) -> Result<Option<LeasedBatch>, StoreError> {
        self.write_unsynced(move |db| pull(db, now, account, limits))
            .await
    }

    /// Leases the next batch for a webhook call, if the lane can be called.
    pub(crate) async fn lease_batch(
        &self,
        now: Timestamp,
        account: AccountId,
        bytes_max: usize,
    ) -> Result<Option<LeasedBatch>, StoreError> {
        self.write_unsynced(move |db| lease_batch(db, now, account, bytes_max))
            .await
    }

    /// Loads the bytes of envelopes in the given order; `None` for an envelope that was deleted.
    pub(crate) async fn load_bodies(
        &self,
        ids: Vec<DeliveryId>,
    ) -> Result<Vec<Option<Vec<u8>>>, StoreError> {
        self.read(move |db| ids.into_iter().map(|id| load_body(db, id)).collect())
            .await
    }

    /// Records the outcome of a call: deletes stored envelopes, queues status events for senders
    /// and advances the lane to its next state. With `next_batch_bytes`, the same transaction
    /// leases the next batch with up to that many bytes.
    ///
    /// Calls `on_backoff_change` with [`BatchOutcome::contact_ends_backoff`] before the commit.
    /// Contacts that arrive after this call are queued behind this transaction in the single
    /// writer, so none is lost.
    pub(crate) async fn finish_call(
        &self,
        now: Timestamp,
        report: CallReport,
        next_batch_bytes: Option<usize>,
        on_backoff_change: impl Fn(bool) + Clone + Send + 'static,
    ) -> Result<BatchOutcome, StoreError> {
        self.write_unsynced(move |db| {
            let outcome = outcomes::finish_call(db, now, &report, next_batch_bytes)?;
            on_backoff_change(outcome.contact_ends_backoff);
            Ok(outcome)
        })
        .await
    }

    /// Records the results of a pull and skips items of other accounts. A late acknowledgement
    /// still completes items that wait, and leaves the lane unchanged.
    pub(crate) async fn acknowledge(
        &self,
        now: Timestamp,
        account: AccountId,
        results: DeliveryResults,
    ) -> Result<BatchOutcome, StoreError> {
        self.write(move |db| outcomes::acknowledge(db, now, account, &results))
            .await
    }

    /// Releases an unused lease.
    pub(crate) async fn release_lease(
        &self,
        now: Timestamp,
        account: AccountId,
        fence: u64,
    ) -> Result<(), StoreError> {
        self.step_lane(now, account, Event::Released { fence })
            .await
    }

    /// Records a contact of an account, which is any authenticated request of its node. It ends the
    /// backoff of the lane.
    pub(crate) async fn record_contact(
        &self,
        now: Timestamp,
        account: AccountId,
    ) -> Result<(), StoreError> {
        self.step_lane(now, account, Event::Contact).await
    }

    /// Makes the webhook active, after it passed its test. Returns false if the account has chosen
    /// another URL meanwhile, which did not pass.
    pub(crate) async fn verify_webhook(
        &self,
        now: Timestamp,
        account: AccountId,
        tested: WebhookUrl,
    ) -> Result<bool, StoreError> {
        self.write(move |db| {
            if load_webhook(db, account)?.is_none_or(|webhook| webhook.url != tested) {
                return Ok(false);
            }
            lanes::set_reason(db, account, None)?;
            lanes::step(db, now, account, Event::Verified, 0)?;
            Ok(true)
        })
        .await
    }

    /// Records why the webhook failed its test.
    pub(crate) async fn record_webhook_failure(
        &self,
        account: AccountId,
        reason: String,
    ) -> Result<(), StoreError> {
        self.write(move |db| lanes::set_reason(db, account, Some(&reason)))
            .await
    }

    /// Releases the leases of calls that were in progress when the previous process exited.
    pub(crate) async fn recover_leases(&self, now: Timestamp) -> Result<(), StoreError> {
        self.write(move |db| {
            // `callable_at` is 0 for a lane that can be called at once, and otherwise the end of
            // its lease or backoff. The event has no effect on a lane that backs off.
            let sql = "SELECT account_id FROM lanes WHERE callable_at > 0";
            let accounts = query::all_rows(db, sql, [], |row| row.id("account_id"))?;
            for account in accounts {
                lanes::step(db, now, account, Event::Restarted, 0)?;
            }
            Ok(())
        })
        .await
    }

    pub(crate) async fn load_webhook(
        &self,
        account: AccountId,
    ) -> Result<Option<Webhook>, StoreError> {
        self.read(move |db| load_webhook(db, account)).await
    }

    /// Lists up to `limit` due lanes for each of [`EndpointHealth::ALL`], the longest waiting
    /// first.
    pub(crate) async fn find_due_lanes(
        &self,
        now: Timestamp,
        limit: usize,
    ) -> Result<[DueLanes; 2], StoreError> {
        self.read(move |db| {
            let [healthy, failing] =
                EndpointHealth::ALL.map(|health| find_due_lanes(db, now, health, limit));
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

fn load_body(db: &Connection, id: DeliveryId) -> Result<Option<Vec<u8>>, StoreError> {
    let sql = "SELECT bytes FROM envelope_bodies WHERE id = ?";
    Ok(query::first_value(db, sql, [item_id(id)])?)
}

fn load_webhook(db: &Connection, account: AccountId) -> Result<Option<Webhook>, StoreError> {
    let sql = "SELECT webhook_url, webhook_secret FROM accounts WHERE id = ?";
    Ok(query::first_row(db, sql, [account.as_bytes()], read_webhook)?.flatten())
}

fn read_webhook(row: &Row<'_>) -> Result<Option<Webhook>, RowError> {
    let Some(url) = row.optional_parse("webhook_url", WebhookUrl::parse)? else {
        return Ok(None);
    };
    Ok(Some(Webhook {
        url,
        secret: WebhookSecret::from_bytes(row.read("webhook_secret")?),
    }))
}

fn find_due_lanes(
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

/// Query for the lanes with one endpoint health, ordered by due time.
pub(super) const DUE_LANES: &str = "SELECT account_id, due_at FROM lanes \
     WHERE is_failing = ? AND due_at IS NOT NULL ORDER BY due_at LIMIT ?";

pub(super) fn lease_batch(
    db: &Connection,
    now: Timestamp,
    account: AccountId,
    bytes_max: usize,
) -> Result<Option<LeasedBatch>, StoreError> {
    match lanes::load(db, account)? {
        Some(mut lane) => lease_from_lane(db, now, account, &mut lane, bytes_max),
        None => Ok(None),
    }
}

/// Leases the next batch of a lane for a call, if the lane can be called, and saves the lane in any
/// case.
pub(super) fn lease_from_lane(
    db: &Connection,
    now: Timestamp,
    account: AccountId,
    lane: &mut Lane,
    bytes_max: usize,
) -> Result<Option<LeasedBatch>, StoreError> {
    let waiting = lanes::load_waiting_items(db, now, account)?;
    if waiting.has_set_aside {
        lanes::hold_behind(db, account)?;
    }
    let has_other_mailbox = match lane.comparison_suspect() {
        Some(suspect) => find_other_item(db, now, account, suspect)?.is_some(),
        None => false,
    };
    let uses_failing_slot = lane.uses_failing_slots();
    let snapshot = waiting.to_snapshot(now, has_other_mailbox);
    let effects = lane.step(now, Event::Call(snapshot), 0);
    let leased = save_lease(db, now, account, lane, waiting, &effects, bytes_max)?;
    let Some(batch) = leased else { return Ok(None) };
    // A batch that fits into the memory that is set apart for each call is read here, without a
    // trip to a reader thread.
    let is_small =
        !uses_failing_slot && batch.size_bytes() <= DELIVERY_MEMORY_PER_CALL_BYTES as u64;
    let bodies = if is_small {
        batch
            .envelopes
            .iter()
            .map(|envelope| load_body(db, envelope.id))
            .collect::<Result<_, _>>()?
    } else {
        None
    };
    Ok(Some(LeasedBatch {
        uses_failing_slot,
        bodies,
        ..batch
    }))
}

pub(super) fn pull(
    db: &Connection,
    now: Timestamp,
    account: AccountId,
    PullLimits { bytes_max, lease }: PullLimits,
) -> Result<Option<LeasedBatch>, StoreError> {
    let Some(mut lane) = lanes::load(db, account)? else {
        return Ok(None);
    };
    let waiting = lanes::load_waiting_items(db, now, account)?;
    if waiting.head.is_none() && waiting.set_aside_at.is_none() {
        return Ok(None);
    }
    let effects = lane.step(now, Event::Pull { lease }, 0);
    save_lease(db, now, account, &lane, waiting, &effects, bytes_max)
}

/// Saves the lane and, if it granted a lease, collects the batch.
fn save_lease(
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
    let mut limits = lane.batch_limits(method);
    limits.bytes = limits.bytes.min(bytes_max);
    let candidates = Candidates {
        method,
        suspect: lane.comparison_suspect(),
        limit: limits.items,
    };
    let items = candidates.load(db, now, account, waiting)?;
    let batch = collect_batch(db, account, fence, limits, items)?;
    let ids = batch.item_ids();
    let (Some(first), Some(last)) = (ids.first(), ids.last()) else {
        return Err(StoreError::Failed {
            reason: "the leased batch is empty".to_owned(),
        });
    };
    lanes::save_with(db, now, account, lane, waiting, Some((*first, *last)))?;
    Ok(Some(batch))
}

/// Envelope or status event in a lane.
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
            Self::Event(_) => DELIVERY_EVENT_BYTES as u64,
        }
    }
}

fn collect_batch(
    db: &Connection,
    account: AccountId,
    fence: u64,
    limits: BatchLimits,
    mut items: Vec<Item>,
) -> Result<LeasedBatch, StoreError> {
    items.sort_by_key(Item::id);
    let (webhook, waiting) = load_webhook_and_backlog(db, account)?;
    let mut batch = LeasedBatch {
        account,
        fence,
        envelopes: Vec::new(),
        events: Vec::new(),
        backlog: 0,
        webhook,
        uses_failing_slot: false,
        bodies: None,
    };
    let mut bytes = 0;
    let mut collected = 0_u64;
    for item in items.into_iter().take(limits.items) {
        bytes += item.size_bytes();
        if collected > 0 && bytes > limits.bytes as u64 {
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
fn load_webhook_and_backlog(
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

/// Items from which a batch is collected.
struct Candidates {
    method: DeliveryMethod,
    /// Suspect that the call compares with an item of another mailbox.
    suspect: Option<DeliveryId>,
    /// Maximum number of items of each kind.
    limit: usize,
}

impl Candidates {
    fn load(
        &self,
        db: &Connection,
        now: Timestamp,
        account: AccountId,
        waiting: WaitingItems,
    ) -> Result<Vec<Item>, StoreError> {
        let load = |query| load_envelopes(db, now, account, query, self.limit);
        let mut items = match (self.method, self.suspect) {
            (DeliveryMethod::Webhook(Selection::SetAside), _) => {
                return load(EnvelopeQuery::SET_ASIDE);
            }
            (DeliveryMethod::Webhook(Selection::Other), Some(suspect)) => {
                return Ok(find_other_item(db, now, account, suspect)?
                    .into_iter()
                    .collect());
            }
            // A pull receives everything. Each view is read in order of its index; the caller
            // merges them.
            (DeliveryMethod::Pull, _) => {
                let mut items = Vec::new();
                for query in EnvelopeQuery::EVERYTHING {
                    items.extend(load(query)?);
                }
                items
            }
            // A lane selects `Other` only while it has a suspect, so this arm never receives it.
            (
                DeliveryMethod::Webhook(
                    Selection::Batch | Selection::Probe | Selection::Head | Selection::Other,
                ),
                _,
            ) => load(EnvelopeQuery::QUEUE)?,
        };
        if waiting.has_events {
            items.extend(load_events(db, account, self.limit)?);
        }
        Ok(items)
    }
}

/// View, filter and order of a query for the waiting envelopes of an account.
#[derive(Debug, Clone, Copy)]
pub(super) struct EnvelopeQuery<'a> {
    view: &'static str,
    filter: &'a str,
    order: &'static str,
}

impl EnvelopeQuery<'_> {
    pub(super) const QUEUE: Self = Self {
        view: "queued_envelopes",
        filter: lanes::NOT_BEHIND_SET_ASIDE,
        order: "id",
    };
    pub(super) const SET_ASIDE: Self = Self {
        view: "set_aside_envelopes",
        filter: "true",
        order: "set_aside_until",
    };
    pub(super) const EVERYTHING: [Self; 3] = [
        Self::unfiltered("queued_envelopes"),
        Self::unfiltered("set_aside_envelopes"),
        Self::unfiltered("held_envelopes"),
    ];

    const fn unfiltered(view: &'static str) -> Self {
        Self {
            view,
            filter: "true",
            order: "id",
        }
    }
}

/// Finds the first item of the queue that is neither the suspect nor of the same mailbox.
fn find_other_item(
    db: &Connection,
    now: Timestamp,
    account: AccountId,
    suspect: DeliveryId,
) -> Result<Option<Item>, StoreError> {
    let filter = format!(
        "{} AND mailbox_id IS NOT (SELECT mailbox_id FROM envelopes WHERE id = {})",
        lanes::NOT_BEHIND_SET_ASIDE,
        item_id(suspect)
    );
    let query = EnvelopeQuery {
        filter: &filter,
        ..EnvelopeQuery::QUEUE
    };
    let mut items = load_envelopes(db, now, account, query, 1)?;
    // Two, because the first event may be the suspect.
    items.extend(
        load_events(db, account, 2)?
            .into_iter()
            .filter(|event| event.id() != suspect),
    );
    Ok(items.into_iter().min_by_key(Item::id))
}

fn load_envelopes(
    db: &Connection,
    now: Timestamp,
    account: AccountId,
    query: EnvelopeQuery<'_>,
    limit: usize,
) -> Result<Vec<Item>, StoreError> {
    let sql = envelopes_sql(query);
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

/// Builds the query for deliverable envelopes `e` at the front of an account's queue, in the order
/// of the view.
pub(super) fn envelopes_sql(
    EnvelopeQuery {
        view,
        filter,
        order,
    }: EnvelopeQuery<'_>,
) -> String {
    let front = lanes::front_of_queue(view, order);
    format!(
        "SELECT id, mailbox_id, envelope_id, accepted_at, size_bytes FROM {front} \
         WHERE {filter} AND {DELIVERABLE} LIMIT ?3"
    )
}

fn load_events(db: &Connection, account: AccountId, limit: usize) -> Result<Vec<Item>, StoreError> {
    let params = params![account.as_bytes(), sql_limit(limit)];
    Ok(query::all_rows(db, EVENTS, params, |row| {
        read_event(row).map(Item::Event)
    })?)
}

/// Query for the events of an account, in order.
pub(super) const EVENTS: &str = "SELECT id, envelope_id, state, attempts, reason, \
    next_attempt_at, created_at \
     FROM events WHERE account_id = ? ORDER BY id LIMIT ?";

fn read_event(row: &Row<'_>) -> Result<StatusEvent, RowError> {
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
