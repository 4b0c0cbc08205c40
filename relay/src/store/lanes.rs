//! Lanes as rows: loading one, taking a step, and writing down when the scheduler has to look at it.

use super::{
    StoreError,
    rows::{first, int, maybe_time, millis, row, rows, run},
    tally::Items,
};
use rusqlite::{Connection, Row, params};
use sealpost_proto::{AccountId, Timestamp, wire::WebhookState};
use sealpost_relay_core::{
    Effect, Event, Lane,
    lane::{State, Waiting},
};

/// What stands in the way of an envelope going out: it has expired, or its mailbox was closed.
pub(super) const DELIVERABLE: &str =
    "expires_at > ?2 AND mailbox NOT IN (SELECT mailbox FROM closings WHERE account = ?1)";

/// Reads the column `machine`.
pub(super) fn read(row: &Row<'_>) -> rusqlite::Result<Lane> {
    let text = row.get_ref("machine")?.as_str()?;
    serde_json::from_str(text)
        .map_err(|error| rusqlite::Error::FromSqlConversionFailure(0, rusqlite::types::Type::Text, Box::new(error)))
}

fn write(lane: &Lane) -> Result<String, StoreError> {
    serde_json::to_string(lane).map_err(|error| StoreError::Failed { reason: error.to_string() })
}

/// The lane of a new account.
pub(super) fn insert(db: &Connection, account: AccountId, lane: &Lane) -> Result<(), StoreError> {
    let sql = "INSERT INTO lanes (account, machine) VALUES (?, ?)";
    run(db, sql, params![account.as_bytes(), write(lane)?])?;
    Ok(())
}

pub(super) fn load(db: &Connection, account: AccountId) -> Result<Option<Lane>, StoreError> {
    row(db, "SELECT machine FROM lanes WHERE account = ?", [account.as_bytes()], read)
}

/// Writes the lane and when the scheduler has to look at it.
pub(super) fn save(db: &Connection, now: Timestamp, account: AccountId, lane: &Lane) -> Result<(), StoreError> {
    let waiting = waiting(db, now, account)?;
    let due_at = lane.due_at(now, waiting.items > 0, waiting.set_aside_at);
    run(
        db,
        "UPDATE lanes SET machine = ?, free_at = ?, due_at = ? WHERE account = ?",
        params![write(lane)?, free_at(lane), due_at.map(millis), account.as_bytes()],
    )?;
    Ok(())
}

fn free_at(lane: &Lane) -> Option<i64> {
    match (lane.webhook, lane.state) {
        (WebhookState::None | WebhookState::Unverified | WebhookState::Off, _) => None,
        (WebhookState::Active, State::Ready) => Some(0),
        (
            WebhookState::Active,
            State::Leased { until, .. } | State::BackingOff { until, .. } | State::AskedToWait { until },
        ) => Some(millis(until)),
    }
}

/// Takes one step of a lane, if the account still has one.
pub(super) fn step(
    db: &Connection,
    now: Timestamp,
    account: AccountId,
    event: Event,
    random: u64,
) -> Result<Vec<Effect>, StoreError> {
    let Some(mut lane) = load(db, account)? else { return Ok(Vec::new()) };
    let effects = lane.step(now, event, random);
    save(db, now, account, &lane)?;
    Ok(effects)
}

/// What waits in a lane, as far as decisions need it.
#[derive(Debug, Clone, Copy)]
pub(super) struct WaitingFacts {
    /// Items that are not set aside, counted to 2.
    pub(super) items: usize,
    /// When the first that is set aside is due.
    pub(super) set_aside_at: Option<Timestamp>,
}

impl WaitingFacts {
    pub(super) fn at(self, now: Timestamp) -> Waiting {
        Waiting { items: self.items, set_aside_due: self.set_aside_at.is_some_and(|at| at <= now) }
    }
}

/// What waits, as far as it may go out: nothing while the account is suspended.
pub(super) fn waiting(db: &Connection, now: Timestamp, account: AccountId) -> Result<WaitingFacts, StoreError> {
    let suspended = first::<bool>(db, "SELECT suspended FROM accounts WHERE account = ?", [account.as_bytes()])?;
    if suspended == Some(true) {
        return Ok(WaitingFacts { items: 0, set_aside_at: None });
    }
    let envelopes = format!(
        "SELECT 1 FROM envelopes WHERE account = ?1 AND state < 2 AND set_aside_until IS NULL AND {DELIVERABLE} LIMIT 2"
    );
    let mut items = rows(db, &envelopes, params![account.as_bytes(), millis(now)], |_| Ok(()))?.len();
    if items < 2 {
        items += rows(db, "SELECT 1 FROM events WHERE account = ? LIMIT 2", [account.as_bytes()], |_| Ok(()))?.len();
    }
    let aside = format!(
        "SELECT set_aside_until FROM envelopes WHERE account = ?1 AND state < 2 AND set_aside_until IS NOT NULL \
         AND {DELIVERABLE} ORDER BY set_aside_until LIMIT 1"
    );
    let set_aside_at =
        row(db, &aside, params![account.as_bytes(), millis(now)], |row| maybe_time(row, "set_aside_until"))?;
    Ok(WaitingFacts { items: items.min(2), set_aside_at: set_aside_at.flatten() })
}

/// Counts what came into a lane or left it; what came makes it due.
pub(super) fn count(
    db: &Connection,
    now: Timestamp,
    account: AccountId,
    came: Items,
    left: Items,
) -> Result<(), StoreError> {
    let envelopes = int(came.envelopes.envelopes) - int(left.envelopes.envelopes);
    let bytes = int(came.envelopes.bytes) - int(left.envelopes.bytes);
    let items = envelopes + int(came.events) - int(left.events);
    if came == Items::default() {
        let sql = "UPDATE lanes SET waiting = max(0, waiting + ?2), envelopes = max(0, envelopes + ?3), \
                   bytes = max(0, bytes + ?4) WHERE account = ?1";
        run(db, sql, params![account.as_bytes(), items, envelopes, bytes])?;
        return Ok(());
    }
    run(
        db,
        "UPDATE lanes SET waiting = max(0, waiting + ?2), envelopes = max(0, envelopes + ?3), \
             bytes = max(0, bytes + ?4), due_at = CASE \
             WHEN free_at IS NULL THEN NULL \
             WHEN due_at IS NULL OR due_at > max(free_at, ?5) THEN max(free_at, ?5) \
             ELSE due_at END \
         WHERE account = ?1",
        params![account.as_bytes(), items, envelopes, bytes, millis(now)],
    )?;
    Ok(())
}

/// Writes down, in words, why the webhook fails or is off.
pub(super) fn note(db: &Connection, account: AccountId, reason: Option<&str>) -> Result<(), StoreError> {
    let sql = "UPDATE lanes SET reason = ?1 WHERE account = ?2 AND reason IS NOT ?1";
    run(db, sql, params![reason, account.as_bytes()])?;
    Ok(())
}

/// Whether the item is in a batch that is out.
pub(super) fn holds(db: &Connection, now: Timestamp, account: AccountId, item: i64) -> Result<bool, StoreError> {
    let sql = "SELECT machine FROM lanes WHERE account = ? AND ? BETWEEN lease_first AND lease_last";
    let lane = row(db, sql, params![account.as_bytes(), item], read)?;
    Ok(lane.is_some_and(|lane| lane.is_leased(now)))
}

/// Takes so many numbers of the one count of envelopes and events; gives the first of them.
pub(super) fn next_items(db: &Connection, count: usize) -> Result<i64, StoreError> {
    let count = int(count as u64);
    let sql = "UPDATE counters SET value = value + ? WHERE name = 'item' RETURNING value";
    match first::<i64>(db, sql, [count])? {
        Some(last) => Ok(last - count + 1),
        None => Err(StoreError::Failed { reason: "the count of items is missing".to_owned() }),
    }
}
