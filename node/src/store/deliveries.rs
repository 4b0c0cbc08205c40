//! Where each outgoing message is. Every change goes through [`advance`], which knows the legal moves.

use crate::{
    api::model::EventTopic,
    fault::Fault,
    store::{Tx, attachments, count, events, millis, outbox, timestamp},
};
use rusqlite::Row;
use sealpost_proto::{DeliveryStatus, FailureCode, MessageId, Timestamp};

/// Where one message is on its way to one recipient.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// The message.
    pub message: String,
    /// Its id on the wire.
    pub uuid: MessageId,
    /// The recipient.
    pub connection: String,
    /// The recipient's name.
    pub contact: String,
    /// Where it is.
    pub status: DeliveryStatus,
    /// Why it failed.
    pub code: Option<FailureCode>,
    /// Why it is where it is, in words.
    pub reason: Option<String>,
    /// The relay's attempts that failed.
    pub attempts: u32,
    /// When the next one is due.
    pub next_attempt_at: Option<Timestamp>,
    /// Whether the connection's session is broken meanwhile.
    pub healing: bool,
    /// When it was stored here.
    pub pending_at: Timestamp,
    /// When the relay had it on disk.
    pub sent_at: Option<Timestamp>,
    /// When the peer said that it is stored there.
    pub delivered_at: Option<Timestamp>,
    /// When the peer said that it was read.
    pub read_at: Option<Timestamp>,
    /// When it failed.
    pub failed_at: Option<Timestamp>,
}

/// A change of a delivery.
#[derive(Debug, Clone, Default)]
pub struct Change {
    /// Why it failed.
    pub code: Option<FailureCode>,
    /// Why, in words.
    pub reason: Option<String>,
    /// Attempts so far.
    pub attempts: u32,
    /// When the next one is due.
    pub next_attempt_at: Option<Timestamp>,
    /// When it happened, by the one who says so.
    pub at: Option<Timestamp>,
}

const COLUMNS: &str =
    "SELECT d.message, d.uuid, d.connection, n.name, d.status, d.code, d.reason, d.attempts,
    d.next_attempt_at, d.healing, d.pending_at, d.sent_at, d.delivered_at, d.read_at, d.failed_at
    FROM deliveries d JOIN connections n ON n.ref = d.connection";

fn read(row: &Row<'_>) -> rusqlite::Result<Delivery> {
    let time = |index| Ok::<_, rusqlite::Error>(row.get::<_, Option<i64>>(index)?.map(timestamp));
    Ok(Delivery {
        message: row.get(0)?,
        uuid: MessageId::from_bytes(row.get(1)?),
        connection: row.get(2)?,
        contact: row.get(3)?,
        status: DeliveryStatus::parse(&row.get::<_, String>(4)?).unwrap_or(DeliveryStatus::Pending),
        code: row
            .get::<_, Option<String>>(5)?
            .map(|code| FailureCode::parse(&code)),
        reason: row.get(6)?,
        attempts: u32::try_from(row.get::<_, i64>(7)?).unwrap_or(u32::MAX),
        next_attempt_at: time(8)?,
        healing: row.get(9)?,
        pending_at: timestamp(row.get(10)?),
        sent_at: time(11)?,
        delivered_at: time(12)?,
        read_at: time(13)?,
        failed_at: time(14)?,
    })
}

/// The delivery of a new message: `pending`.
///
/// # Errors
/// When SQLite fails.
pub fn insert(tx: &Tx<'_>, message: &str, connection: &str, uuid: &MessageId) -> Result<(), Fault> {
    tx.execute(
        "INSERT INTO deliveries (message, connection, uuid, status, pending_at) VALUES (?1, ?2, ?3, 'pending', ?4)",
        &[&message, &connection, uuid.as_bytes(), &millis(tx.now)],
    )?;
    announce(tx, message)
}

/// Moves a delivery, if the move is legal; tells the listeners. Returns whether it moved.
///
/// # Errors
/// When SQLite fails.
pub fn advance(
    tx: &Tx<'_>,
    message: &str,
    to: DeliveryStatus,
    change: &Change,
) -> Result<bool, Fault> {
    let Some(delivery) = load(tx, message)? else {
        return Ok(false);
    };
    if !delivery.status.can_become(to) {
        return Ok(false);
    }
    let at = millis(change.at.map_or(tx.now, |at| at.min(tx.now)));
    tx.execute(
        "UPDATE deliveries SET status = ?2, code = ?3, reason = ?4, attempts = max(attempts, ?5), next_attempt_at = ?6,
             sent_at = CASE WHEN ?2 = 'sent' THEN ?7 ELSE sent_at END,
             delivered_at = CASE WHEN ?2 IN ('delivered', 'read') THEN coalesce(delivered_at, ?7) ELSE delivered_at END,
             read_at = CASE WHEN ?2 = 'read' THEN ?7 ELSE read_at END,
             failed_at = CASE WHEN ?2 = 'failed' THEN ?7 ELSE failed_at END,
             healing = CASE WHEN ?2 IN ('delivered', 'read') THEN 0 ELSE healing END
         WHERE message = ?1",
        &[
            &message,
            &to.as_str(),
            &change.code.map(FailureCode::as_str),
            &change.reason,
            &change.attempts,
            &change.next_attempt_at.map(millis),
            &at,
        ],
    )?;
    announce(tx, message)?;
    if to == DeliveryStatus::Failed {
        attachments::release_of(tx, message)?;
    }
    Ok(true)
}

/// Says why a delivery waits without moving it.
///
/// # Errors
/// When SQLite fails.
pub fn explain(
    tx: &Tx<'_>,
    message: &str,
    reason: &str,
    next_attempt_at: Option<Timestamp>,
) -> Result<(), Fault> {
    let changed = tx.execute(
        "UPDATE deliveries SET reason = ?2, next_attempt_at = ?3
         WHERE message = ?1 AND status = 'pending' AND (reason IS NOT ?2 OR next_attempt_at IS NOT ?3)",
        &[&message, &reason, &next_attempt_at.map(millis)],
    )?;
    if changed == 1 {
        announce(tx, message)
    } else {
        Ok(())
    }
}

/// Marks what is under way to a connection as waiting for its session to heal.
///
/// # Errors
/// When SQLite fails.
pub fn mark_healing(tx: &Tx<'_>, connection: &str, reason: &str) -> Result<(), Fault> {
    let messages: Vec<String> = tx.rows(
        "UPDATE deliveries SET healing = 1, reason = ?2
         WHERE connection = ?1 AND status IN ('pending', 'sent', 'retrying') AND healing = 0 RETURNING message",
        &[&connection, &reason],
        |row| row.get(0),
    )?;
    messages
        .iter()
        .try_for_each(|message| announce(tx, message))
}

/// Tells the listeners the values of now: they pass quickly.
fn announce(tx: &Tx<'_>, message: &str) -> Result<(), Fault> {
    let Some(delivery) = load(tx, message)? else {
        return Ok(());
    };
    let shown = crate::api::render::delivery(&delivery);
    let data = serde_json::to_string(&shown).map_err(|error| Fault::failed(error.to_string()))?;
    events::add(tx, EventTopic::Delivery, message, Some(&data))
}

/// The delivery of a message.
///
/// # Errors
/// When SQLite fails.
pub fn load(tx: &Tx<'_>, message: &str) -> Result<Option<Delivery>, Fault> {
    tx.row(
        &format!("{COLUMNS} WHERE d.message = ?1"),
        &[&message],
        read,
    )
}

/// The deliveries of one message to all its recipients.
///
/// # Errors
/// When SQLite fails.
pub fn of_uuid(tx: &Tx<'_>, uuid: &MessageId) -> Result<Vec<Delivery>, Fault> {
    tx.rows(
        &format!("{COLUMNS} WHERE d.uuid = ?1 ORDER BY n.name, d.message"),
        &[uuid.as_bytes()],
        read,
    )
}

/// The message of that id to that recipient.
///
/// # Errors
/// When SQLite fails.
pub fn by_uuid(tx: &Tx<'_>, connection: &str, uuid: &MessageId) -> Result<Option<String>, Fault> {
    tx.value(
        "SELECT message FROM deliveries WHERE uuid = ?1 AND connection = ?2",
        &[uuid.as_bytes(), &connection],
    )
}

/// How many have neither arrived nor failed.
///
/// # Errors
/// When SQLite fails.
pub fn open_count(tx: &Tx<'_>) -> Result<u64, Fault> {
    let sql = "SELECT count(*) FROM deliveries WHERE status IN ('pending', 'sent', 'retrying')";
    Ok(count(tx.value(sql, &[])?.unwrap_or(0)))
}

/// Fails what the relay took longer ago than `before`, and nobody ever confirmed. A late receipt still overrules it.
///
/// # Errors
/// When SQLite fails.
pub fn fail_unconfirmed(tx: &Tx<'_>, before: Timestamp) -> Result<(), Fault> {
    let sql =
        "SELECT message FROM deliveries WHERE status IN ('sent', 'retrying') AND expires_at < ?1";
    let messages: Vec<String> = tx.rows(sql, &[&millis(before)], |row| row.get(0))?;
    let change = Change {
        code: Some(FailureCode::Unconfirmed),
        ..Change::default()
    };
    for message in messages {
        advance(tx, &message, DeliveryStatus::Failed, &change)?;
        outbox::remove_message(tx, &message)?;
    }
    Ok(())
}

/// Remembers when the relay will give up.
///
/// # Errors
/// When SQLite fails.
pub fn set_expiry(tx: &Tx<'_>, message: &str, expires_at: Timestamp) -> Result<(), Fault> {
    tx.execute(
        "UPDATE deliveries SET expires_at = ?2 WHERE message = ?1",
        &[&message, &millis(expires_at)],
    )?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Pair, pair};
    use std::time::Duration;

    fn force(pair: &mut Pair, message: &str, status: DeliveryStatus) {
        pair.acme.sql(&format!(
            "UPDATE deliveries SET status = '{}' WHERE message = '{message}'",
            status.as_str()
        ));
    }

    #[test]
    fn only_legal_moves_are_made_and_only_they_are_announced() {
        let mut pair = pair(10);
        let message = pair.acme.send(&pair.to_bolt, "hello");
        for from in DeliveryStatus::ALL {
            for to in DeliveryStatus::ALL {
                force(&mut pair, &message, from);
                let announced = pair.acme.number("SELECT count(*) FROM events");
                let moved = pair
                    .acme
                    .step(|tx, _| advance(tx, &message, to, &Change::default()));
                assert_eq!(moved, from.can_become(to), "{from:?} to {to:?}");
                assert_eq!(
                    pair.acme.delivery(&message).status,
                    if moved { to } else { from }
                );
                assert_eq!(
                    pair.acme.number("SELECT count(*) FROM events") - announced,
                    i64::from(moved)
                );
            }
        }
    }

    #[test]
    fn a_late_receipt_overrules_a_failure_and_nothing_overrules_a_receipt() {
        let mut pair = pair(20);
        let message = pair.acme.send(&pair.to_bolt, "hello");
        let failed = Change {
            code: Some(FailureCode::Unconfirmed),
            ..Change::default()
        };
        let mut go =
            |to, change: &Change| pair.acme.step(|tx, _| advance(tx, &message, to, change));
        assert!(go(DeliveryStatus::Failed, &failed));
        assert!(!go(DeliveryStatus::Sent, &Change::default()));
        assert!(go(DeliveryStatus::Delivered, &Change::default()));
        assert!(
            !go(DeliveryStatus::Failed, &failed)
                && !go(DeliveryStatus::Retrying, &Change::default())
        );
        let shown = pair.acme.delivery(&message);
        assert_eq!(
            (shown.status, shown.code),
            (DeliveryStatus::Delivered, None)
        );
    }

    #[test]
    fn a_time_that_the_other_side_claims_is_never_later_than_now() {
        let mut pair = pair(30);
        let message = pair.acme.send(&pair.to_bolt, "hello");
        let claim = |at| Change {
            at: Some(at),
            ..Change::default()
        };
        let (now, earlier) = (pair.acme.now, pair.acme.now.minus(Duration::from_secs(60)));
        let ahead = claim(now.plus(Duration::from_secs(86_400)));
        pair.acme
            .step(|tx, _| advance(tx, &message, DeliveryStatus::Delivered, &claim(earlier)));
        pair.acme
            .step(|tx, _| advance(tx, &message, DeliveryStatus::Read, &ahead));
        let shown = pair.acme.delivery(&message);
        assert_eq!(
            (shown.delivered_at, shown.read_at),
            (Some(earlier), Some(now))
        );
    }

    #[test]
    fn what_nobody_confirms_fails_and_what_is_confirmed_is_well_again() {
        let mut pair = pair(40);
        let message = pair.acme.send(&pair.to_bolt, "hello");
        let sealed = pair.acme.seal();
        pair.acme.accepted(&sealed);
        let to_bolt = pair.to_bolt.clone();
        pair.acme
            .step(|tx, _| mark_healing(tx, &to_bolt, "the session heals"));
        assert!(pair.acme.delivery(&message).healing);
        let expires_at = pair
            .acme
            .now
            .plus(sealpost_proto::limits::ENVELOPE_LIFETIME_DEFAULT);
        pair.acme.step(|tx, _| fail_unconfirmed(tx, expires_at));
        assert_eq!(
            pair.acme.delivery(&message).status,
            DeliveryStatus::Sent,
            "its life has not ended"
        );
        pair.acme
            .step(|tx, _| fail_unconfirmed(tx, expires_at.plus(Duration::from_millis(1))));
        let shown = pair.acme.delivery(&message);
        assert_eq!(
            (shown.status, shown.code),
            (DeliveryStatus::Failed, Some(FailureCode::Unconfirmed))
        );
        assert_eq!(
            pair.acme.number("SELECT count(*) FROM outbox"),
            0,
            "nothing is left of it there"
        );
        pair.acme
            .step(|tx, _| advance(tx, &message, DeliveryStatus::Delivered, &Change::default()));
        assert!(!pair.acme.delivery(&message).healing);
    }
}
