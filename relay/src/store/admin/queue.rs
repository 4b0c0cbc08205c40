//! Queues as the operator sees them: listed, shown, tried again, dropped.

use super::lane::{self, COLUMNS, OLDEST};
use crate::{
    admin::model::{Dropped, Item, ItemKind, Items, Place, Queue, Queues, Retried},
    store::{
        Store, StoreError, lanes,
        rows::{count, first, int, maybe_time, millis, row, rows, run, small, state, time, uint},
        tally::{Tally, WAITING_COLUMNS, WaitingEnvelope},
    },
};
use rusqlite::{Connection, Row, params};
use sealpost_proto::{
    AccountId, DeliveryId, EnvelopeId, EnvelopeState, MailboxId, Timestamp,
    limits::OPERATOR_ROWS_MAX,
};
use sealpost_relay_core::Event;

/// What the sender of an envelope reads that the operator dropped.
const DROPPED: &str = "dropped_by_operator";

/// The last queue of a page: the next one begins behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct QueueCursor {
    /// Since when its oldest item waits.
    pub(crate) oldest_at: Timestamp,
    /// Whose it is.
    pub(crate) account: AccountId,
}

/// What one step for many accounts did.
#[derive(Debug)]
pub(crate) struct RetriedSome {
    /// Whose lanes are due now.
    pub(crate) accounts: Vec<AccountId>,
    /// Envelopes that were set aside and are due now.
    pub(crate) set_aside: u64,
}

/// What one step of dropping did.
#[derive(Debug)]
pub(crate) struct DroppedSome {
    /// What is answered.
    pub(crate) dropped: Dropped,
    /// Senders with news.
    pub(crate) woken: Vec<AccountId>,
}

impl Store {
    /// A page of queues in which something waits, the oldest first; with `failing` only those whose webhook fails or is off.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) async fn queues(
        &self,
        now: Timestamp,
        failing: bool,
        after: Option<QueueCursor>,
        limit: usize,
    ) -> Result<Queues, StoreError> {
        let sql = format!(
            "WITH waiting AS MATERIALIZED (SELECT l.account, {OLDEST} AS oldest_at FROM lanes l \
                 WHERE l.waiting > 0 AND (l.reason IS NOT NULL OR NOT ?1)) \
             SELECT l.account, w.oldest_at, {COLUMNS} FROM waiting w JOIN lanes l ON l.account = w.account \
             JOIN accounts a ON a.account = l.account \
             WHERE (w.oldest_at, w.account) > (?2, ?3) ORDER BY w.oldest_at, w.account LIMIT ?4"
        );
        self.read(move |db| {
            let oldest_at = after.map_or(-1, |after| millis(after.oldest_at));
            let account = after
                .map(|after| after.account.as_bytes().to_vec())
                .unwrap_or_default();
            let params = params![failing, oldest_at, account, int(limit as u64) + 1];
            let mut queues = rows(db, &sql, params, |row| queue(row, now))?;
            let more = queues.len() > limit;
            queues.truncate(limit);
            let next = queues.last().filter(|_| more).and_then(|queue| {
                Some(
                    QueueCursor {
                        oldest_at: queue.lane.oldest_at?,
                        account: queue.account_id,
                    }
                    .to_string(),
                )
            });
            Ok(Queues {
                relay_time: now,
                queues,
                next,
            })
        })
        .await
    }

    /// A page of what waits for an account; absent when there is no such account.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) async fn items(
        &self,
        now: Timestamp,
        account: AccountId,
        after: DeliveryId,
        limit: usize,
    ) -> Result<Option<Items>, StoreError> {
        self.read(move |db| {
            let sql = format!(
                "SELECT l.account, {COLUMNS}, {OLDEST} AS oldest_at FROM lanes l JOIN accounts a ON a.account = l.account \
                 WHERE l.account = ?"
            );
            let Some(queue) = row(db, &sql, [account.as_bytes()], |row| queue(row, now))? else { return Ok(None) };
            let mut items = waiting_items(db, account, after, limit + 1)?;
            items.sort_by_key(|item| item.id);
            let more = items.len() > limit;
            items.truncate(limit);
            let next = items.last().map(|item| item.id).filter(|_| more);
            Ok(Some(Items { relay_time: now, queue, items, next }))
        })
        .await
    }

    /// Tries the queue of an account again now, and what was set aside in it; absent when there is no such account.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) async fn retry(
        &self,
        now: Timestamp,
        account: AccountId,
    ) -> Result<Option<Retried>, StoreError> {
        self.write(move |db| {
            if lanes::load(db, account)?.is_none() {
                return Ok(None);
            }
            Ok(Some(Retried {
                queues: 1,
                set_aside: retry(db, now, account)?,
            }))
        })
        .await
    }

    /// Tries the next [`OPERATOR_ROWS_MAX`] queues again in which something waits, by account.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) async fn retry_some(
        &self,
        now: Timestamp,
        after: Option<AccountId>,
    ) -> Result<RetriedSome, StoreError> {
        self.write(move |db| {
            let sql = "SELECT account FROM lanes WHERE waiting > 0 AND account > ? ORDER BY account LIMIT ?";
            let after = after.map(|id| id.as_bytes().to_vec()).unwrap_or_default();
            let accounts = rows(db, sql, params![after, int(OPERATOR_ROWS_MAX as u64)], |row| {
                Ok(AccountId::from_bytes(row.get("account")?))
            })?;
            let mut set_aside = 0;
            for account in &accounts {
                set_aside += retry(db, now, *account)?;
            }
            Ok(RetriedSome { accounts, set_aside })
        })
        .await
    }

    /// Ends the first [`OPERATOR_ROWS_MAX`] envelopes that wait for an account, up to `up_to` or to the newest there is;
    /// absent when there is no such account. News for the account is never dropped.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) async fn drop_queue(
        &self,
        now: Timestamp,
        account: AccountId,
        up_to: Option<DeliveryId>,
    ) -> Result<Option<DroppedSome>, StoreError> {
        self.write(move |db| {
            if lanes::load(db, account)?.is_none() {
                return Ok(None);
            }
            let newest: Option<i64> = first(db, "SELECT value FROM counters WHERE name = 'item'", [])?;
            let up_to = up_to.unwrap_or(DeliveryId(uint(newest.unwrap_or_default())));
            let mut found = Vec::new();
            for which in ["place = 0", "place = 1", "place = 2"] {
                let room = OPERATOR_ROWS_MAX.saturating_sub(found.len());
                let sql = format!(
                    "SELECT {WAITING_COLUMNS} FROM envelopes WHERE account = ? AND state < 2 AND {which} AND id <= ? \
                     ORDER BY id LIMIT ?"
                );
                let params = params![account.as_bytes(), int(up_to.0), int(room as u64)];
                found.extend(rows(db, &sql, params, WaitingEnvelope::read)?);
            }
            let woken = fail(db, now, &found)?;
            let up_to = (found.len() >= OPERATOR_ROWS_MAX).then_some(up_to);
            Ok(Some(DroppedSome { dropped: Dropped { dropped: found.len() as u64, up_to }, woken }))
        })
        .await
    }

    /// Ends an envelope that waits, in every mailbox to which it was submitted.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) async fn drop_envelope(
        &self,
        now: Timestamp,
        envelope: EnvelopeId,
    ) -> Result<DroppedSome, StoreError> {
        self.write(move |db| {
            let sql = format!(
                "SELECT {WAITING_COLUMNS} FROM envelopes WHERE envelope = ? AND state < 2 LIMIT ?"
            );
            let params = params![envelope.as_bytes(), int(OPERATOR_ROWS_MAX as u64)];
            let found = rows(db, &sql, params, WaitingEnvelope::read)?;
            let woken = fail(db, now, &found)?;
            Ok(DroppedSome {
                dropped: Dropped {
                    dropped: found.len() as u64,
                    up_to: None,
                },
                woken,
            })
        })
        .await
    }
}

fn queue(row: &Row<'_>, now: Timestamp) -> rusqlite::Result<Queue> {
    Ok(Queue {
        account_id: AccountId::from_bytes(row.get("account")?),
        lane: lane::read(row, now)?,
    })
}

/// Whether an envelope waits behind one of its mailbox: some are put in their place only when the queue is read for a call.
const BEHIND: &str = "place <> 1 AND mailbox IN \
                      (SELECT mailbox FROM envelopes WHERE account = ?1 AND state < 2 AND place = 1)";

/// At least the first `limit` items behind `after`, in no order.
fn waiting_items(
    db: &Connection,
    account: AccountId,
    after: DeliveryId,
    limit: usize,
) -> Result<Vec<Item>, StoreError> {
    let mut items = Vec::new();
    for which in ["place = 0", "place = 1", "place = 2"] {
        let sql = format!(
            "SELECT id, envelope, mailbox, size, state, attempts, accepted_at, expires_at, place, {BEHIND} AS is_behind, \
             set_aside_until, reason \
             FROM envelopes WHERE account = ?1 AND state < 2 AND {which} AND id > ?2 ORDER BY id LIMIT ?3"
        );
        let params = params![account.as_bytes(), int(after.0), int(limit as u64)];
        items.extend(rows(db, &sql, params, envelope_item)?);
    }
    let sql = "SELECT id, envelope, state, attempts, at, reason FROM events WHERE account = ? AND id > ? \
               ORDER BY id LIMIT ?";
    items.extend(rows(
        db,
        sql,
        params![account.as_bytes(), int(after.0), int(limit as u64)],
        event_item,
    )?);
    Ok(items)
}

fn envelope_item(row: &Row<'_>) -> rusqlite::Result<Item> {
    Ok(Item {
        id: DeliveryId(count(row, "id")?),
        kind: ItemKind::Envelope,
        envelope: EnvelopeId::from_bytes(row.get("envelope")?),
        mailbox: Some(MailboxId::from_bytes(row.get("mailbox")?)),
        size_bytes: Some(count(row, "size")?),
        state: state(row, "state")?,
        attempts: small(row, "attempts")?,
        waits_since: time(row, "accepted_at")?,
        expires_at: maybe_time(row, "expires_at")?,
        place: place(row)?,
        set_aside_until: maybe_time(row, "set_aside_until")?,
        reason: row.get("reason")?,
    })
}

fn place(row: &Row<'_>) -> rusqlite::Result<Place> {
    Ok(match (small(row, "place")?, row.get("is_behind")?) {
        (1, _) => Place::SetAside,
        (_, true) => Place::Behind,
        (_, false) => Place::InOrder,
    })
}

fn event_item(row: &Row<'_>) -> rusqlite::Result<Item> {
    Ok(Item {
        id: DeliveryId(count(row, "id")?),
        kind: ItemKind::Event,
        envelope: EnvelopeId::from_bytes(row.get("envelope")?),
        mailbox: None,
        size_bytes: None,
        state: state(row, "state")?,
        attempts: small(row, "attempts")?,
        waits_since: time(row, "at")?,
        expires_at: None,
        place: Place::InOrder,
        set_aside_until: None,
        reason: row.get("reason")?,
    })
}

fn retry(db: &Connection, now: Timestamp, account: AccountId) -> Result<u64, StoreError> {
    let sql = "UPDATE envelopes SET set_aside_until = ?1 WHERE id IN (SELECT id FROM envelopes WHERE account = ?2 \
               AND state < 2 AND set_aside_until > ?1 ORDER BY set_aside_until LIMIT ?3)";
    let due = run(
        db,
        sql,
        params![
            millis(now),
            account.as_bytes(),
            int(OPERATOR_ROWS_MAX as u64)
        ],
    )?;
    lanes::step(db, now, account, Event::Contact, 0)?;
    Ok(due as u64)
}

fn fail(
    db: &Connection,
    now: Timestamp,
    found: &[WaitingEnvelope],
) -> Result<Vec<AccountId>, StoreError> {
    let mut tally = Tally::default();
    for waiting in found {
        tally.end(db, now, waiting, EnvelopeState::Failed, Some(DROPPED))?;
    }
    tally.write(db, now)
}

impl std::fmt::Display for QueueCursor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.oldest_at.as_millis(), self.account)
    }
}

/// A text that is no cursor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no cursor of a list of queues")]
pub(crate) struct NotACursor;

impl std::str::FromStr for QueueCursor {
    type Err = NotACursor;

    fn from_str(text: &str) -> Result<Self, NotACursor> {
        let (oldest_at, account) = text.split_once('.').ok_or(NotACursor)?;
        Ok(Self {
            oldest_at: Timestamp::from_millis(oldest_at.parse().map_err(|_| NotACursor)?),
            account: account.parse().map_err(|_| NotACursor)?,
        })
    }
}
