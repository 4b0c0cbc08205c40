//! Queues as the operator sees them: list, show, retry and drop.

use super::{
    Page,
    accounts::{AccountNames, NAME_COLUMNS},
    lane::{self, COLUMNS, LaneSummary, OLDEST},
};
use crate::store::{
    Store, StoreError, lanes,
    queue_changes::{QueueChanges, WAITING_COLUMNS, WaitingEnvelope, item_id},
    rows::{QueueState, sql_limit, state_from_code},
};
use rusqlite::{Connection, Row, params};
use sealpost_proto::{
    AccountId, DeliveryId, EnvelopeId, EnvelopeState, MailboxId, Timestamp,
    limits::{ADMIN_BATCH_ROWS_MAX, SET_ASIDE_ENVELOPES_MAX},
};
use sealpost_relay_core::Event;
use sealpost_sqlite::{RowError, RowExt as _, query, to_millis};
use std::{fmt, str::FromStr};

/// Reason of an envelope that the operator dropped.
const DROPPED: &str = "dropped_by_operator";

/// Views of the waiting envelopes, each in the order of its index.
const WAITING_VIEWS: [&str; 3] = ["queued_envelopes", "set_aside_envelopes", "held_envelopes"];

/// Last queue of a page; the next page starts after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct QueueCursor {
    /// Time of its oldest item.
    pub(crate) oldest_at: Timestamp,
    pub(crate) account: AccountId,
}

/// Queue of an account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct QueueSummary {
    pub(crate) account: AccountId,
    pub(crate) names: AccountNames,
    pub(crate) lane: LaneSummary,
}

/// Kind of a waiting item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ItemKind {
    /// Envelope for one of the account's mailboxes.
    Envelope,
    /// Status event about an envelope that the account sent.
    Event,
}

/// Waiting item, without its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct QueueItem {
    pub(crate) id: DeliveryId,
    pub(crate) kind: ItemKind,
    /// The envelope, or the one that the event is about.
    pub(crate) envelope: EnvelopeId,
    /// Absent for an event.
    pub(crate) mailbox: Option<MailboxId>,
    /// Absent for an event.
    pub(crate) size_bytes: Option<u64>,
    pub(crate) state: EnvelopeState,
    pub(crate) attempts: u32,
    pub(crate) waiting_since: Timestamp,
    /// Absent for an event.
    pub(crate) expires_at: Option<Timestamp>,
    pub(crate) queue_state: QueueState,
    pub(crate) set_aside_until: Option<Timestamp>,
    /// Why the last attempt failed.
    pub(crate) reason: Option<String>,
}

/// Page of the items in a queue.
#[derive(Debug)]
pub(crate) struct QueueItems {
    pub(crate) queue: QueueSummary,
    pub(crate) page: Page<QueueItem, DeliveryId>,
}

/// Result of a retry within one transaction.
#[derive(Debug)]
pub(crate) struct RetryOutcome {
    /// Accounts whose lanes are due now.
    pub(crate) accounts: Vec<AccountId>,
    /// Number of envelopes that were set aside and are due now.
    pub(crate) set_aside: u64,
    /// Last account that was inspected, if there are more.
    pub(crate) next: Option<AccountId>,
}

/// Result of a drop within one transaction.
#[derive(Debug)]
pub(crate) struct DropOutcome {
    /// Number of dropped envelopes.
    pub(crate) envelopes: u64,
    /// Last item of the queue when the drop started, if more envelopes up to it may wait.
    pub(crate) up_to: Option<DeliveryId>,
    /// Senders whose queues received status events.
    pub(crate) accounts_to_notify: Vec<AccountId>,
}

impl Store {
    /// Lists queues in which something waits, the oldest first; with `failing` only those whose
    /// webhook fails or is off.
    pub(crate) async fn list_queues(
        &self,
        now: Timestamp,
        failing: bool,
        after: Option<QueueCursor>,
        limit: usize,
    ) -> Result<Page<QueueSummary, QueueCursor>, StoreError> {
        let sql = format!(
            "WITH waiting AS MATERIALIZED (SELECT l.account_id, {OLDEST} AS oldest_at FROM lanes l \
                 WHERE l.waiting_items > 0 AND (l.reason IS NOT NULL OR NOT ?1)) \
             SELECT l.account_id, w.oldest_at, {NAME_COLUMNS}, {COLUMNS} FROM waiting w \
             JOIN lanes l ON l.account_id = w.account_id JOIN accounts a ON a.id = l.account_id \
             WHERE (w.oldest_at, w.account_id) > (?2, ?3) \
             ORDER BY w.oldest_at, w.account_id LIMIT ?4"
        );
        self.read(move |db| {
            let oldest_at = after.map_or(-1, |after| to_millis(after.oldest_at));
            let account = after
                .map(|after| after.account.as_bytes().to_vec())
                .unwrap_or_default();
            let params = params![failing, oldest_at, account, sql_limit(limit + 1)];
            let found = query::all_rows(db, &sql, params, |row| read_queue(row, now))?;
            Ok(Page::new(found, limit, |queue| {
                Some(QueueCursor {
                    oldest_at: queue.lane.oldest_at?,
                    account: queue.account,
                })
            }))
        })
        .await
    }

    /// Lists the items in the queue of an account; absent if the account does not exist.
    pub(crate) async fn list_queue_items(
        &self,
        now: Timestamp,
        account: AccountId,
        after: DeliveryId,
        limit: usize,
    ) -> Result<Option<QueueItems>, StoreError> {
        let sql = format!(
            "SELECT l.account_id, {NAME_COLUMNS}, {COLUMNS}, {OLDEST} AS oldest_at FROM lanes l \
             JOIN accounts a ON a.id = l.account_id WHERE l.account_id = ?"
        );
        self.read(move |db| {
            let queue =
                query::first_row(db, &sql, [account.as_bytes()], |row| read_queue(row, now))?;
            let Some(queue) = queue else {
                return Ok(None);
            };
            let mut items = load_waiting_items(db, account, after, limit + 1)?;
            items.sort_by_key(|item| item.id);
            let page = Page::new(items, limit, |item| Some(item.id));
            Ok(Some(QueueItems { queue, page }))
        })
        .await
    }

    /// Makes the lane of an account due now, with the envelopes that are set aside in it; absent if
    /// the account does not exist.
    pub(crate) async fn retry_queue(
        &self,
        now: Timestamp,
        account: AccountId,
    ) -> Result<Option<RetryOutcome>, StoreError> {
        self.write(move |db| {
            if lanes::load(db, account)?.is_none() {
                return Ok(None);
            }
            Ok(Some(RetryOutcome {
                accounts: vec![account],
                set_aside: retry(db, now, account)?,
                next: None,
            }))
        })
        .await
    }

    /// Inspects up to [`ADMIN_BATCH_ROWS_MAX`] queues after `after` and retries those in which
    /// something waits.
    pub(crate) async fn retry_queues(
        &self,
        now: Timestamp,
        after: Option<AccountId>,
    ) -> Result<RetryOutcome, StoreError> {
        self.write(move |db| retry_queues(db, now, after)).await
    }

    /// Fails the first [`ADMIN_BATCH_ROWS_MAX`] envelopes in the queue of an account, up to `up_to`
    /// or to the newest item; absent if the account does not exist. Status events addressed to the
    /// account are never dropped.
    pub(crate) async fn drop_queue(
        &self,
        now: Timestamp,
        account: AccountId,
        up_to: Option<DeliveryId>,
    ) -> Result<Option<DropOutcome>, StoreError> {
        self.write(move |db| drop_queue(db, now, account, up_to))
            .await
    }

    /// Fails a waiting envelope in every mailbox to which it was submitted.
    pub(crate) async fn drop_envelope(
        &self,
        now: Timestamp,
        envelope: EnvelopeId,
    ) -> Result<DropOutcome, StoreError> {
        let sql = format!(
            "SELECT {WAITING_COLUMNS} FROM waiting_envelopes WHERE envelope_id = ? LIMIT ?"
        );
        self.write(move |db| {
            let params = params![envelope.as_bytes(), sql_limit(ADMIN_BATCH_ROWS_MAX)];
            let found = query::all_rows(db, &sql, params, WaitingEnvelope::read)?;
            drop_envelopes(db, now, &found, None)
        })
        .await
    }
}

pub(in crate::store) fn drop_queue(
    db: &Connection,
    now: Timestamp,
    account: AccountId,
    up_to: Option<DeliveryId>,
) -> Result<Option<DropOutcome>, StoreError> {
    if lanes::load(db, account)?.is_none() {
        return Ok(None);
    }
    let up_to = match up_to {
        Some(up_to) => up_to,
        None => find_newest_item(db)?,
    };
    let mut found = Vec::new();
    for view in WAITING_VIEWS {
        let limit = ADMIN_BATCH_ROWS_MAX.saturating_sub(found.len());
        let sql = format!(
            "SELECT {WAITING_COLUMNS} FROM {view} WHERE account_id = ? AND id <= ? \
             ORDER BY id LIMIT ?"
        );
        let params = params![account.as_bytes(), item_id(up_to), sql_limit(limit)];
        found.extend(query::all_rows(db, &sql, params, WaitingEnvelope::read)?);
    }
    let may_have_more = found.len() >= ADMIN_BATCH_ROWS_MAX;
    let up_to = may_have_more.then_some(up_to);
    drop_envelopes(db, now, &found, up_to).map(Some)
}

fn find_newest_item(db: &Connection) -> Result<DeliveryId, StoreError> {
    let sql = "SELECT value FROM counters WHERE name = 'last_item_id'";
    let newest: Option<u64> = query::first_value(db, sql, [])?;
    Ok(DeliveryId(newest.unwrap_or_default()))
}

fn read_queue(row: &Row<'_>, now: Timestamp) -> Result<QueueSummary, RowError> {
    Ok(QueueSummary {
        account: row.id("account_id")?,
        names: AccountNames::read(row)?,
        lane: lane::read_lane_summary(row, now)?,
    })
}

/// Condition for envelopes whose mailbox has an envelope that is set aside. The queue holds them
/// when it is next read for a call; the operator sees them as held immediately.
const IS_BEHIND_SET_ASIDE: &str =
    "mailbox_id IN (SELECT mailbox_id FROM set_aside_envelopes WHERE account_id = ?1)";

/// Loads at least the first `limit` items after `after`, in no order.
fn load_waiting_items(
    db: &Connection,
    account: AccountId,
    after: DeliveryId,
    limit: usize,
) -> Result<Vec<QueueItem>, StoreError> {
    let mut items = Vec::new();
    for view in WAITING_VIEWS {
        let sql = format!(
            "SELECT id, envelope_id, mailbox_id, size_bytes, state, attempts, accepted_at, \
                 expires_at, queue_state, {IS_BEHIND_SET_ASIDE} AS is_behind, set_aside_until, \
                 reason \
             FROM {view} WHERE account_id = ?1 AND id > ?2 ORDER BY id LIMIT ?3"
        );
        let params = params![account.as_bytes(), item_id(after), sql_limit(limit)];
        items.extend(query::all_rows(db, &sql, params, read_envelope_item)?);
    }
    let sql = "SELECT id, envelope_id, state, attempts, created_at, reason FROM events \
               WHERE account_id = ? AND id > ? ORDER BY id LIMIT ?";
    let params = params![account.as_bytes(), item_id(after), sql_limit(limit)];
    items.extend(query::all_rows(db, sql, params, read_event_item)?);
    Ok(items)
}

fn read_envelope_item(row: &Row<'_>) -> Result<QueueItem, RowError> {
    Ok(QueueItem {
        id: DeliveryId(row.read("id")?),
        kind: ItemKind::Envelope,
        envelope: row.id("envelope_id")?,
        mailbox: Some(row.id("mailbox_id")?),
        size_bytes: Some(row.read("size_bytes")?),
        state: row.convert("state", state_from_code)?,
        attempts: row.read("attempts")?,
        waiting_since: row.timestamp("accepted_at")?,
        expires_at: row.optional_timestamp("expires_at")?,
        queue_state: match (
            row.convert("queue_state", QueueState::from_code)?,
            row.read("is_behind")?,
        ) {
            (QueueState::SetAside, _) => QueueState::SetAside,
            (QueueState::InOrder | QueueState::Held, true) => QueueState::Held,
            (QueueState::InOrder | QueueState::Held, false) => QueueState::InOrder,
        },
        set_aside_until: row.optional_timestamp("set_aside_until")?,
        reason: row.read("reason")?,
    })
}

fn read_event_item(row: &Row<'_>) -> Result<QueueItem, RowError> {
    Ok(QueueItem {
        id: DeliveryId(row.read("id")?),
        kind: ItemKind::Event,
        envelope: row.id("envelope_id")?,
        mailbox: None,
        size_bytes: None,
        state: row.convert("state", state_from_code)?,
        attempts: row.read("attempts")?,
        waiting_since: row.timestamp("created_at")?,
        expires_at: None,
        queue_state: QueueState::InOrder,
        set_aside_until: None,
        reason: row.read("reason")?,
    })
}

pub(in crate::store) fn retry_queues(
    db: &Connection,
    now: Timestamp,
    after: Option<AccountId>,
) -> Result<RetryOutcome, StoreError> {
    let sql = "SELECT account_id, waiting_items > 0 AS has_waiting FROM lanes \
               WHERE account_id > ? ORDER BY account_id LIMIT ?";
    let after = after.map(|id| id.as_bytes().to_vec()).unwrap_or_default();
    let params = params![after, sql_limit(ADMIN_BATCH_ROWS_MAX)];
    let inspected: Vec<(AccountId, bool)> = query::all_rows(db, sql, params, |row| {
        Ok((row.id("account_id")?, row.read("has_waiting")?))
    })?;
    let mut outcome = RetryOutcome {
        accounts: Vec::new(),
        set_aside: 0,
        next: None,
    };
    for (account, has_waiting) in &inspected {
        if *has_waiting {
            outcome.set_aside += retry(db, now, *account)?;
            outcome.accounts.push(*account);
        }
        if outcome.set_aside >= ADMIN_BATCH_ROWS_MAX as u64 {
            outcome.next = Some(*account);
            return Ok(outcome);
        }
    }
    let is_full = inspected.len() >= ADMIN_BATCH_ROWS_MAX;
    outcome.next = inspected.last().map(|last| last.0).filter(|_| is_full);
    Ok(outcome)
}

fn retry(db: &Connection, now: Timestamp, account: AccountId) -> Result<u64, StoreError> {
    let sql = "UPDATE envelopes SET set_aside_until = ?1 WHERE id IN \
               (SELECT id FROM set_aside_envelopes WHERE account_id = ?2 AND set_aside_until > ?1 \
                ORDER BY set_aside_until LIMIT ?3)";
    let limit = sql_limit(SET_ASIDE_ENVELOPES_MAX);
    let params = params![to_millis(now), account.as_bytes(), limit];
    let made_due = query::execute(db, sql, params)?;
    lanes::step(db, now, account, Event::Contact, 0)?;
    Ok(made_due as u64)
}

fn drop_envelopes(
    db: &Connection,
    now: Timestamp,
    found: &[WaitingEnvelope],
    up_to: Option<DeliveryId>,
) -> Result<DropOutcome, StoreError> {
    let mut changes = QueueChanges::default();
    for waiting in found {
        changes.end_envelope(db, now, waiting, EnvelopeState::Failed, Some(DROPPED))?;
    }
    Ok(DropOutcome {
        envelopes: found.len() as u64,
        up_to,
        accounts_to_notify: changes.write(db, now)?,
    })
}

impl fmt::Display for QueueCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.oldest_at.as_millis(), self.account)
    }
}

/// The text is not a [`QueueCursor`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the cursor is not one of a list of queues")]
pub(crate) struct ParseCursorError;

impl FromStr for QueueCursor {
    type Err = ParseCursorError;

    fn from_str(text: &str) -> Result<Self, ParseCursorError> {
        let (oldest_at, account) = text.split_once('.').ok_or(ParseCursorError)?;
        Ok(Self {
            oldest_at: Timestamp::from_millis(oldest_at.parse().map_err(|_| ParseCursorError)?),
            account: account.parse().map_err(|_| ParseCursorError)?,
        })
    }
}
