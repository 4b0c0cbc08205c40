//! Lanes as rows: their state machine, when the scheduler has to inspect them, which items wait in
//! them, and which are held behind an envelope that is set aside.

use super::{
    StoreError,
    queue_changes::LaneItems,
    rows::{QueueState, exists, sql_limit},
};
use crate::lease::WokenLane;
use rusqlite::{Connection, Row, params};
use sealpost_proto::{
    AccountId, DeliveryId, MailboxId, Timestamp,
    limits::{QUEUE_SCAN_ROWS_MAX, RETRY_AFTER_MAX, SET_ASIDE_ENVELOPES_MAX},
    wire::WebhookState,
};
use sealpost_relay_core::{Effect, Event, Lane, lane::QueueSnapshot};
use sealpost_sqlite::{Damaged, RowError, RowExt as _, query, to_integer, to_millis};

/// Condition for envelopes that can be delivered: not expired, and in a mailbox that was not
/// closed.
pub(super) const DELIVERABLE: &str = "expires_at > ?2 AND NOT EXISTS \
     (SELECT 1 FROM mailbox_closures c WHERE c.account_id = ?1 AND c.mailbox_id = e.mailbox_id)";

/// Condition for queued envelopes that have no set-aside envelope of their mailbox before them.
/// SQLite lists the mailboxes only if any envelope is set aside.
pub(super) const NOT_BEHIND_SET_ASIDE: &str = "(NOT EXISTS \
     (SELECT 1 FROM set_aside_envelopes WHERE account_id = ?1) \
     OR mailbox_id NOT IN (SELECT mailbox_id FROM set_aside_envelopes WHERE account_id = ?1))";

/// Number of envelopes at the front of the queue that one statement inspects for holding.
const HOLD_ROWS: usize = 512;

/// Reads the column `lane_state`.
pub(super) fn read_lane(row: &Row<'_>) -> Result<Lane, RowError> {
    row.parse("lane_state", |text| serde_json::from_str(text))
}

fn encode(lane: &Lane) -> Result<String, StoreError> {
    serde_json::to_string(lane).map_err(|error| StoreError::Failed {
        reason: error.to_string(),
    })
}

/// Inserts the lane of a new account.
pub(super) fn insert(db: &Connection, account: AccountId, lane: &Lane) -> Result<(), StoreError> {
    let sql = "INSERT INTO lanes (account_id, lane_state) VALUES (?, ?)";
    query::execute(db, sql, params![account.as_bytes(), encode(lane)?])?;
    Ok(())
}

pub(super) fn load(db: &Connection, account: AccountId) -> Result<Option<Lane>, StoreError> {
    let sql = "SELECT lane_state FROM lanes WHERE account_id = ?";
    Ok(query::first_row(db, sql, [account.as_bytes()], read_lane)?)
}

/// Stores a lane and when the scheduler has to inspect it.
pub(super) fn save(
    db: &Connection,
    now: Timestamp,
    account: AccountId,
    lane: &Lane,
) -> Result<(), StoreError> {
    let waiting = load_waiting_items(db, now, account)?;
    save_with(db, now, account, lane, waiting, None)
}

/// Stores a lane whose waiting items are known, together with the first and last item of a new
/// lease.
pub(super) fn save_with(
    db: &Connection,
    now: Timestamp,
    account: AccountId,
    lane: &Lane,
    waiting: WaitingItems,
    leased: Option<(DeliveryId, DeliveryId)>,
) -> Result<(), StoreError> {
    let due_at = lane.due_at(now, waiting.head.is_some(), waiting.set_aside_at);
    let (first, last) = leased
        .map(|(first, last)| (to_integer(first.0), to_integer(last.0)))
        .unzip();
    query::execute(
        db,
        "UPDATE lanes SET lane_state = ?1, callable_at = ?2, due_at = ?3, is_failing = ?4, \
             lease_first = ifnull(?5, lease_first), lease_last = ifnull(?6, lease_last) \
         WHERE account_id = ?7",
        params![
            encode(lane)?,
            callable_at(lane, now),
            due_at.map(to_millis),
            lane.uses_failing_slots(),
            first,
            last,
            account.as_bytes()
        ],
    )?;
    Ok(())
}

/// Recalculates when the scheduler has to inspect a lane, if the account still exists.
pub(super) fn refresh(
    db: &Connection,
    now: Timestamp,
    account: AccountId,
) -> Result<(), StoreError> {
    match load(db, account)? {
        Some(lane) => save(db, now, account, &lane),
        None => Ok(()),
    }
}

fn callable_at(lane: &Lane, now: Timestamp) -> Option<i64> {
    match lane.webhook {
        WebhookState::None | WebhookState::Unverified | WebhookState::Off => None,
        WebhookState::Active => Some(lane.blocked_until(now).map_or(0, to_millis)),
    }
}

/// Applies an event to a lane, if the account still exists.
pub(super) fn step(
    db: &Connection,
    now: Timestamp,
    account: AccountId,
    event: Event,
    random: u64,
) -> Result<Vec<Effect>, StoreError> {
    let Some(mut lane) = load(db, account)? else {
        return Ok(Vec::new());
    };
    let effects = lane.step(now, event, random);
    save(db, now, account, &lane)?;
    Ok(effects)
}

/// Summary of the items that wait in a lane, as needed for decisions.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct WaitingItems {
    /// First item of the queue.
    pub(super) head: Option<DeliveryId>,
    pub(super) has_events: bool,
    pub(super) has_set_aside: bool,
    /// When the first envelope that is set aside is due.
    pub(super) set_aside_at: Option<Timestamp>,
}

impl WaitingItems {
    /// Returns the queue as a call would find it. `has_other_mailbox` states whether an item of
    /// another mailbox than that of the head waits.
    pub(super) fn to_snapshot(self, now: Timestamp, has_other_mailbox: bool) -> QueueSnapshot {
        QueueSnapshot {
            head: self.head,
            has_other_mailbox,
            has_set_aside_due: self.set_aside_at.is_some_and(|at| at <= now),
        }
    }
}

pub(super) fn has_waiting(db: &Connection, account: AccountId) -> Result<bool, StoreError> {
    let sql = "SELECT 1 FROM lanes WHERE account_id = ? AND waiting_items > 0";
    exists(db, sql, [account.as_bytes()])
}

/// Selects the envelopes at the front of a view that a search inspects, in order, as `e`.
pub(super) fn front_of_queue(view: &str, order: &str) -> String {
    format!(
        "(SELECT id, mailbox_id, envelope_id, accepted_at, size_bytes, expires_at, set_aside_until \
          FROM {view} WHERE account_id = ?1 ORDER BY {order} LIMIT {QUEUE_SCAN_ROWS_MAX}) e"
    )
}

/// Loads the waiting items that can be delivered: none while the account is suspended.
pub(super) fn load_waiting_items(
    db: &Connection,
    now: Timestamp,
    account: AccountId,
) -> Result<WaitingItems, StoreError> {
    let found = find_waiting_items(db, now, account)?;
    if found.head.is_none() && found.has_set_aside && hold_behind(db, account)? {
        // Envelopes that are held now may have hidden others.
        return find_waiting_items(db, now, account);
    }
    Ok(found)
}

fn find_waiting_items(
    db: &Connection,
    now: Timestamp,
    account: AccountId,
) -> Result<WaitingItems, StoreError> {
    // Most lanes are empty when this runs: `waiting_items` avoids the searches.
    let (queued, set_aside) = (
        front_of_queue("queued_envelopes", "id"),
        front_of_queue("set_aside_envelopes", "set_aside_until"),
    );
    let sql = format!(
        "SELECT (SELECT id FROM {queued} WHERE {NOT_BEHIND_SET_ASIDE} AND {DELIVERABLE} \
                 LIMIT 1) AS envelope, \
             (SELECT id FROM events WHERE account_id = ?1 ORDER BY id LIMIT 1) AS event, \
             EXISTS (SELECT 1 FROM set_aside_envelopes WHERE account_id = ?1) AS has_set_aside, \
             (SELECT set_aside_until FROM {set_aside} WHERE {DELIVERABLE} \
                 LIMIT 1) AS set_aside_until \
         FROM lanes l JOIN accounts a ON a.id = l.account_id \
         WHERE l.account_id = ?1 AND l.waiting_items > 0 AND a.suspended = 0"
    );
    let params = params![account.as_bytes(), to_millis(now)];
    let found = query::first_row(db, &sql, params, |row| {
        let (envelope, event): (Option<u64>, Option<u64>) =
            (row.read("envelope")?, row.read("event")?);
        // Nothing is set aside for longer than this: the clock was set back.
        let set_aside_at = row.optional_timestamp("set_aside_until")?.map(|at| {
            if at > now.plus(RETRY_AFTER_MAX) {
                now
            } else {
                at
            }
        });
        Ok(WaitingItems {
            head: [envelope, event]
                .into_iter()
                .flatten()
                .min()
                .map(DeliveryId),
            has_events: event.is_some(),
            has_set_aside: row.read("has_set_aside")?,
            set_aside_at,
        })
    })?;
    Ok(found.unwrap_or_default())
}

/// Holds the envelopes at the front of the queue that have a set-aside envelope of their mailbox
/// before them, so that later reads do not pass over them again. Each envelope is moved once.
/// Returns whether any was moved.
pub(super) fn hold_behind(db: &Connection, account: AccountId) -> Result<bool, StoreError> {
    let sql = "UPDATE envelopes SET queue_state = ?3 WHERE id IN (SELECT id FROM queued_envelopes \
                   WHERE account_id = ?1 ORDER BY id LIMIT ?2) \
               AND mailbox_id IN \
                   (SELECT mailbox_id FROM set_aside_envelopes WHERE account_id = ?1)";
    let rows = sql_limit(HOLD_ROWS);
    let mut has_moved = false;
    while query::execute(db, sql, params![account.as_bytes(), rows, QueueState::Held])? > 0 {
        has_moved = true;
    }
    Ok(has_moved)
}

/// Sets an envelope aside that is the first of its mailbox in the queue or already set aside.
/// Returns false if it is neither, or if too many are set aside.
pub(super) fn set_aside(
    db: &Connection,
    account: AccountId,
    item: i64,
    until: Timestamp,
) -> Result<bool, StoreError> {
    let sql = "UPDATE envelopes SET queue_state = ?4, set_aside_until = ?1 \
               WHERE id = (SELECT id FROM set_aside_envelopes WHERE id = ?2 AND account_id = ?3 \
                   UNION ALL SELECT id FROM queued_envelopes e WHERE id = ?2 AND account_id = ?3 \
                       AND NOT EXISTS (SELECT 1 FROM waiting_envelopes b \
                           WHERE b.mailbox_id = e.mailbox_id AND b.id < ?2 AND b.queue_state = ?6) \
                       AND (SELECT count(*) FROM set_aside_envelopes WHERE account_id = ?3) < ?5)";
    let params = params![
        to_millis(until),
        item,
        account.as_bytes(),
        QueueState::SetAside,
        sql_limit(SET_ASIDE_ENVELOPES_MAX),
        QueueState::InOrder
    ];
    Ok(query::execute(db, sql, params)? == 1)
}

/// Queues the held envelopes of a mailbox again after its set-aside envelope has ended.
pub(super) fn release_held(db: &Connection, mailbox: MailboxId) -> Result<(), StoreError> {
    let sql = "UPDATE envelopes SET queue_state = ?2 WHERE id IN \
               (SELECT id FROM held_envelopes WHERE mailbox_id = ?1)";
    query::execute(db, sql, params![mailbox.as_bytes(), QueueState::InOrder])?;
    Ok(())
}

/// Subtracts removed items from the counts of a lane.
pub(super) fn remove_items(
    db: &Connection,
    account: AccountId,
    removed: LaneItems,
) -> Result<(), StoreError> {
    let LaneItems { envelopes, events } = removed;
    query::execute(
        db,
        "UPDATE lanes SET waiting_items = max(0, waiting_items - ?2), \
             waiting_envelopes = max(0, waiting_envelopes - ?3), \
             waiting_bytes = max(0, waiting_bytes - ?4) WHERE account_id = ?1",
        params![
            account.as_bytes(),
            to_integer(envelopes.envelopes) + to_integer(events),
            to_integer(envelopes.envelopes),
            to_integer(envelopes.bytes)
        ],
    )?;
    Ok(())
}

/// Updates the counts of a lane. Added items make it due.
pub(super) fn update_items(
    db: &Connection,
    now: Timestamp,
    account: AccountId,
    added: LaneItems,
    removed: LaneItems,
) -> Result<WokenLane, StoreError> {
    let envelopes = to_integer(added.envelopes.envelopes) - to_integer(removed.envelopes.envelopes);
    let bytes = to_integer(added.envelopes.bytes) - to_integer(removed.envelopes.bytes);
    let items = envelopes + to_integer(added.events) - to_integer(removed.events);
    let woken = query::first_row(
        db,
        "UPDATE lanes SET waiting_items = max(0, waiting_items + ?2), \
             waiting_envelopes = max(0, waiting_envelopes + ?3), \
             waiting_bytes = max(0, waiting_bytes + ?4), due_at = CASE \
             WHEN callable_at IS NULL THEN NULL \
             WHEN due_at IS NULL OR due_at > max(callable_at, ?5) THEN max(callable_at, ?5) \
             ELSE due_at END \
         WHERE account_id = ?1 RETURNING due_at, is_failing",
        params![account.as_bytes(), items, envelopes, bytes, to_millis(now)],
        |row| {
            let due_at = row.optional_timestamp("due_at")?;
            let is_failing: bool = row.read("is_failing")?;
            Ok(WokenLane {
                account,
                due_at,
                is_callable: !is_failing && due_at.is_some_and(|at| at <= now),
            })
        },
    )?;
    Ok(woken.unwrap_or(WokenLane {
        account,
        due_at: None,
        is_callable: false,
    }))
}

/// Stores the reason why the webhook fails or is off, which its owner sees.
pub(super) fn set_reason(
    db: &Connection,
    account: AccountId,
    reason: Option<&str>,
) -> Result<(), StoreError> {
    let sql = "UPDATE lanes SET reason = ?1 WHERE account_id = ?2 AND reason IS NOT ?1";
    query::execute(db, sql, params![reason, account.as_bytes()])?;
    Ok(())
}

/// Returns whether an item is in a leased batch.
pub(super) fn is_leased(
    db: &Connection,
    now: Timestamp,
    account: AccountId,
    item: i64,
) -> Result<bool, StoreError> {
    let sql = "SELECT lane_state FROM lanes WHERE account_id = ? \
         AND ? BETWEEN lease_first AND lease_last";
    let lane = query::first_row(db, sql, params![account.as_bytes(), item], read_lane)?;
    Ok(lane.is_some_and(|lane| lane.is_leased(now)))
}

/// Reserves ids for new envelopes or events and returns the first of them.
pub(super) fn reserve_item_ids(db: &Connection, count: usize) -> Result<i64, StoreError> {
    let count = sql_limit(count);
    let sql = "UPDATE counters SET value = value + ? WHERE name = 'last_item_id' RETURNING value";
    match query::first_value::<i64>(db, sql, [count])? {
        Some(last) => Ok(last - count + 1),
        None => Err(Damaged::new("counters", "last_item_id").into()),
    }
}
