//! Lanes as rows: loading one, taking a step, and writing down when the scheduler has to look at it. What waits in one, and
//! what waits behind an envelope that was set aside.

use super::{
    StoreError,
    rows::{first, int, maybe_time, millis, row, run, uint},
    tally::{Items, Woken},
};
use rusqlite::{Connection, Row, params};
use sealpost_proto::{
    AccountId, DeliveryId, MailboxId, Timestamp, limits::RETRY_AFTER_MAX, wire::WebhookState,
};
use sealpost_relay_core::{Effect, Event, Lane, lane::Waiting};

/// What does not stand in the way of an envelope going out: its expiry, and that its mailbox was closed.
pub(super) const DELIVERABLE: &str = "expires_at > ?2 AND NOT EXISTS \
     (SELECT 1 FROM closings c WHERE c.account = ?1 AND c.mailbox = envelopes.mailbox)";

/// Which envelopes are in the queue: not set aside, and not behind one of their mailbox that is. The list of those
/// mailboxes is made only when there is any.
pub(super) const QUEUED: &str = "place = 0 AND \
     (NOT EXISTS (SELECT 1 FROM envelopes WHERE account = ?1 AND state < 2 AND place = 1) \
      OR mailbox NOT IN (SELECT mailbox FROM envelopes WHERE account = ?1 AND state < 2 AND place = 1))";

/// How many envelopes at the front of the queue are looked at for those that have to wait behind another.
const HOLD_BACK_AT_A_TIME: i64 = 512;

/// Reads the column `machine`.
pub(super) fn read(row: &Row<'_>) -> rusqlite::Result<Lane> {
    let text = row.get_ref("machine")?.as_str()?;
    serde_json::from_str(text).map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(0, rusqlite::types::Type::Text, Box::new(error))
    })
}

fn write(lane: &Lane) -> Result<String, StoreError> {
    serde_json::to_string(lane).map_err(|error| StoreError::Failed {
        reason: error.to_string(),
    })
}

/// The lane of a new account.
pub(super) fn insert(db: &Connection, account: AccountId, lane: &Lane) -> Result<(), StoreError> {
    let sql = "INSERT INTO lanes (account, machine) VALUES (?, ?)";
    run(db, sql, params![account.as_bytes(), write(lane)?])?;
    Ok(())
}

pub(super) fn load(db: &Connection, account: AccountId) -> Result<Option<Lane>, StoreError> {
    row(
        db,
        "SELECT machine FROM lanes WHERE account = ?",
        [account.as_bytes()],
        read,
    )
}

/// Writes the lane and when the scheduler has to look at it.
pub(super) fn save(
    db: &Connection,
    now: Timestamp,
    account: AccountId,
    lane: &Lane,
) -> Result<(), StoreError> {
    let waiting = waiting(db, now, account)?;
    save_with(db, now, account, lane, waiting, None)
}

/// The same where it is known what waits; and with a new lease, the first and the last item that it holds.
pub(super) fn save_with(
    db: &Connection,
    now: Timestamp,
    account: AccountId,
    lane: &Lane,
    waiting: WaitingFacts,
    leased: Option<(DeliveryId, DeliveryId)>,
) -> Result<(), StoreError> {
    let due_at = lane.due_at(now, waiting.head.is_some(), waiting.set_aside_at);
    let (first, last) = leased
        .map(|(first, last)| (int(first.0), int(last.0)))
        .unzip();
    run(
        db,
        "UPDATE lanes SET machine = ?1, free_at = ?2, due_at = ?3, failing = ?4, \
             lease_first = ifnull(?5, lease_first), lease_last = ifnull(?6, lease_last) WHERE account = ?7",
        params![
            write(lane)?,
            free_at(lane, now),
            due_at.map(millis),
            lane.is_failing(),
            first,
            last,
            account.as_bytes()
        ],
    )?;
    Ok(())
}

/// Writes down anew when the scheduler has to look at a lane, if the account still has one.
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

fn free_at(lane: &Lane, now: Timestamp) -> Option<i64> {
    match lane.webhook {
        WebhookState::None | WebhookState::Unverified | WebhookState::Off => None,
        WebhookState::Active => Some(lane.held_until(now).map_or(0, millis)),
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
    let Some(mut lane) = load(db, account)? else {
        return Ok(Vec::new());
    };
    let effects = lane.step(now, event, random);
    save(db, now, account, &lane)?;
    Ok(effects)
}

/// What waits in a lane, as far as decisions need it.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct WaitingFacts {
    /// The first item of the queue.
    pub(super) head: Option<DeliveryId>,
    /// Whether any of the items is an event.
    pub(super) has_events: bool,
    /// Whether any envelope is set aside.
    pub(super) has_set_aside: bool,
    /// When the first that is set aside is due.
    pub(super) set_aside_at: Option<Timestamp>,
}

impl WaitingFacts {
    /// What a call would find; `others` is whether something of another mailbox than the head's waits.
    pub(super) fn at(self, now: Timestamp, others: bool) -> Waiting {
        Waiting {
            head: self.head,
            others,
            set_aside_due: self.set_aside_at.is_some_and(|at| at <= now),
        }
    }
}

/// Whether anything waits.
pub(super) fn has_waiting(db: &Connection, account: AccountId) -> Result<bool, StoreError> {
    let sql = "SELECT 1 FROM lanes WHERE account = ? AND waiting > 0";
    Ok(first::<i64>(db, sql, [account.as_bytes()])?.is_some())
}

/// What waits, as far as it may go out: nothing while the account is suspended.
pub(super) fn waiting(
    db: &Connection,
    now: Timestamp,
    account: AccountId,
) -> Result<WaitingFacts, StoreError> {
    // Most lanes have just been emptied when they are asked: those are not searched.
    let sql = format!(
        "SELECT (SELECT id FROM envelopes WHERE account = ?1 AND state < 2 AND {QUEUED} AND {DELIVERABLE} \
                 ORDER BY id LIMIT 1) AS envelope, \
             (SELECT id FROM events WHERE account = ?1 ORDER BY id LIMIT 1) AS event, \
             EXISTS (SELECT 1 FROM envelopes WHERE account = ?1 AND state < 2 AND place = 1) AS has_set_aside, \
             (SELECT set_aside_until FROM envelopes WHERE account = ?1 AND state < 2 AND place = 1 AND {DELIVERABLE} \
                 ORDER BY set_aside_until LIMIT 1) AS set_aside_at \
         FROM lanes l JOIN accounts a ON a.account = l.account \
         WHERE l.account = ?1 AND l.waiting > 0 AND a.suspended = 0"
    );
    let found = row(db, &sql, params![account.as_bytes(), millis(now)], |row| {
        let (envelope, event): (Option<i64>, Option<i64>) =
            (row.get("envelope")?, row.get("event")?);
        // Nothing is set aside for longer: the clock was put back.
        let set_aside_at = maybe_time(row, "set_aside_at")?.map(|at| {
            if at > now.plus(RETRY_AFTER_MAX) {
                now
            } else {
                at
            }
        });
        Ok(WaitingFacts {
            head: [envelope, event]
                .into_iter()
                .flatten()
                .min()
                .map(|id| DeliveryId(uint(id))),
            has_events: event.is_some(),
            has_set_aside: row.get("has_set_aside")?,
            set_aside_at,
        })
    })?;
    Ok(found.unwrap_or_default())
}

/// Takes from the front of the queue what has to wait behind an envelope of its mailbox that is set aside, so that nobody
/// reads past it again. Each envelope is moved once.
pub(super) fn hold_back(db: &Connection, account: AccountId) -> Result<(), StoreError> {
    let sql = "UPDATE envelopes SET place = 2 WHERE id IN (SELECT id FROM envelopes \
                   WHERE account = ?1 AND state < 2 AND place = 0 ORDER BY id LIMIT ?2) \
               AND mailbox IN (SELECT mailbox FROM envelopes WHERE account = ?1 AND state < 2 AND place = 1)";
    while run(db, sql, params![account.as_bytes(), HOLD_BACK_AT_A_TIME])? > 0 {}
    Ok(())
}

/// Sets an envelope aside that is the first of its mailbox in the queue, or was set aside before. False when it is neither.
pub(super) fn set_aside(
    db: &Connection,
    account: AccountId,
    item: i64,
    until: Timestamp,
) -> Result<bool, StoreError> {
    let sql = "UPDATE envelopes AS e SET place = 1, set_aside_until = ?1 WHERE id = ?2 AND account = ?3 AND state < 2 \
               AND (place = 1 OR place = 0 AND NOT EXISTS (SELECT 1 FROM envelopes b WHERE b.account = ?3 \
                   AND b.state < 2 AND b.place = 0 AND b.id < ?2 AND b.mailbox = e.mailbox))";
    Ok(run(db, sql, params![millis(until), item, account.as_bytes()])? == 1)
}

/// An envelope that was set aside has ended: what waited behind it is in the queue again.
pub(super) fn let_on(
    db: &Connection,
    account: AccountId,
    mailbox: MailboxId,
) -> Result<(), StoreError> {
    let sql = "UPDATE envelopes SET place = 0 WHERE account = ? AND state < 2 AND place = 2 AND mailbox = ?";
    run(db, sql, params![account.as_bytes(), mailbox.as_bytes()])?;
    Ok(())
}

/// Counts what left a lane.
pub(super) fn count_left(
    db: &Connection,
    account: AccountId,
    left: Items,
) -> Result<(), StoreError> {
    let sql = "UPDATE lanes SET waiting = max(0, waiting - ?2), envelopes = max(0, envelopes - ?3), \
               bytes = max(0, bytes - ?4) WHERE account = ?1";
    let Items { envelopes, events } = left;
    let waiting = int(envelopes.envelopes) + int(events);
    run(
        db,
        sql,
        params![
            account.as_bytes(),
            waiting,
            int(envelopes.envelopes),
            int(envelopes.bytes)
        ],
    )?;
    Ok(())
}

/// Counts what came into a lane, which makes it due, and what left it.
pub(super) fn count(
    db: &Connection,
    now: Timestamp,
    account: AccountId,
    came: Items,
    left: Items,
) -> Result<Woken, StoreError> {
    let envelopes = int(came.envelopes.envelopes) - int(left.envelopes.envelopes);
    let bytes = int(came.envelopes.bytes) - int(left.envelopes.bytes);
    let items = envelopes + int(came.events) - int(left.events);
    let woken = row(
        db,
        "UPDATE lanes SET waiting = max(0, waiting + ?2), envelopes = max(0, envelopes + ?3), \
             bytes = max(0, bytes + ?4), due_at = CASE \
             WHEN free_at IS NULL THEN NULL \
             WHEN due_at IS NULL OR due_at > max(free_at, ?5) THEN max(free_at, ?5) \
             ELSE due_at END \
         WHERE account = ?1 RETURNING due_at, failing",
        params![account.as_bytes(), items, envelopes, bytes, millis(now)],
        |row| {
            let (due_at, failing): (_, bool) = (maybe_time(row, "due_at")?, row.get("failing")?);
            Ok(Woken {
                account,
                due_at,
                is_callable: !failing && due_at.is_some_and(|at| at <= now),
            })
        },
    )?;
    Ok(woken.unwrap_or(Woken {
        account,
        due_at: None,
        is_callable: false,
    }))
}

/// Writes down, in words, why the webhook fails or is off.
pub(super) fn note(
    db: &Connection,
    account: AccountId,
    reason: Option<&str>,
) -> Result<(), StoreError> {
    let sql = "UPDATE lanes SET reason = ?1 WHERE account = ?2 AND reason IS NOT ?1";
    run(db, sql, params![reason, account.as_bytes()])?;
    Ok(())
}

/// Whether the item is in a batch that is out.
pub(super) fn holds(
    db: &Connection,
    now: Timestamp,
    account: AccountId,
    item: i64,
) -> Result<bool, StoreError> {
    let sql =
        "SELECT machine FROM lanes WHERE account = ? AND ? BETWEEN lease_first AND lease_last";
    let lane = row(db, sql, params![account.as_bytes(), item], read)?;
    Ok(lane.is_some_and(|lane| lane.is_leased(now)))
}

/// Takes so many numbers of the one count of envelopes and events; gives the first of them.
pub(super) fn next_items(db: &Connection, count: usize) -> Result<i64, StoreError> {
    let count = int(count as u64);
    let sql = "UPDATE counters SET value = value + ? WHERE name = 'item' RETURNING value";
    match first::<i64>(db, sql, [count])? {
        Some(last) => Ok(last - count + 1),
        None => Err(StoreError::Failed {
            reason: "the count of items is missing".to_owned(),
        }),
    }
}
