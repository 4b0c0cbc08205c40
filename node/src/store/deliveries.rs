//! Delivery of our messages to each recipient. All status changes go through [`advance`], which
//! rejects illegal ones.

use crate::{
    fault::Fault,
    store::{
        Tx,
        events::{self, Subject},
        files, outbox,
    },
};
use rusqlite::Row;
use sealpost_node_core::model::{ChatId, ConnectionId, MessageId, MessageRowId, MessageUuid};
use sealpost_proto::{DeliveryStatus, FailureCode, Timestamp};
use sealpost_sqlite::{RowError, RowExt as _, to_integer, to_millis};

/// Key of a delivery: a message and its recipient.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct DeliveryKey {
    pub message: MessageRowId,
    pub connection: ConnectionId,
}

/// Delivery of one message to one recipient.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    pub key: DeliveryKey,
    /// The message in the recipient's chat.
    pub posting: MessageId,
    /// The recipient's name.
    pub contact: String,
    pub status: DeliveryStatus,
    /// Reason of the failure, for programs.
    pub code: Option<FailureCode>,
    /// Reason of the current status, for people.
    pub reason: Option<String>,
    /// Number of the relay's failed attempts.
    pub attempts: u32,
    pub next_attempt_at: Option<Timestamp>,
    /// Whether the delivery waits for the recovery of the connection's session.
    pub healing: bool,
    pub pending_at: Timestamp,
    pub sent_at: Option<Timestamp>,
    pub delivered_at: Option<Timestamp>,
    pub read_at: Option<Timestamp>,
    pub failed_at: Option<Timestamp>,
}

/// Details of a status change.
#[derive(Debug, Clone, Default)]
pub struct StatusChange {
    pub code: Option<FailureCode>,
    pub reason: Option<String>,
    pub attempts: u32,
    pub next_attempt_at: Option<Timestamp>,
    /// Time of the change according to the relay or the peer that reports it.
    pub at: Option<Timestamp>,
}

const COLUMNS: &str = "SELECT d.message, d.connection, p.chat, p.number, n.name, d.status, d.code,
    d.reason, d.attempts, d.next_attempt_at, d.healing, d.pending_at, d.sent_at, d.delivered_at,
    d.read_at, d.failed_at
    FROM deliveries d JOIN connections n ON n.id = d.connection
    JOIN chats c ON c.connection = d.connection AND c.type = 'direct'
    JOIN postings p ON p.chat = c.id AND p.message = d.message";

fn read(row: &Row<'_>) -> Result<Delivery, RowError> {
    Ok(Delivery {
        key: read_key(row)?,
        posting: MessageId {
            chat: row.parse("chat", ChatId::parse)?,
            number: row.read("number")?,
        },
        contact: row.read("name")?,
        status: row.parse("status", DeliveryStatus::parse)?,
        code: row.optional_parse("code", |code| Some(FailureCode::parse(code)))?,
        reason: row.read("reason")?,
        attempts: row.read("attempts")?,
        next_attempt_at: row.optional_timestamp("next_attempt_at")?,
        healing: row.read("healing")?,
        pending_at: row.timestamp("pending_at")?,
        sent_at: row.optional_timestamp("sent_at")?,
        delivered_at: row.optional_timestamp("delivered_at")?,
        read_at: row.optional_timestamp("read_at")?,
        failed_at: row.optional_timestamp("failed_at")?,
    })
}

fn read_key(row: &Row<'_>) -> Result<DeliveryKey, RowError> {
    Ok(DeliveryKey {
        message: MessageRowId::from_i64(row.read("message")?),
        connection: row.parse("connection", ConnectionId::parse)?,
    })
}

/// Stores the delivery of a new message as `pending`.
pub fn insert(tx: &Tx<'_>, key: DeliveryKey) -> Result<(), Fault> {
    tx.execute(
        "INSERT INTO deliveries (message, connection, status, pending_at)
         VALUES (?1, ?2, 'pending', ?3)",
        &[
            &key.message.as_i64(),
            &key.connection.to_string(),
            &to_millis(tx.now),
        ],
    )?;
    announce(tx, key)
}

/// Changes the status of a delivery if the change is legal, and announces the change. Returns
/// whether the status has changed.
pub fn advance(
    tx: &Tx<'_>,
    key: DeliveryKey,
    to: DeliveryStatus,
    change: &StatusChange,
) -> Result<bool, Fault> {
    let Some(delivery) = load(tx, key)? else {
        return Ok(false);
    };
    if !delivery.status.can_become(to) {
        return Ok(false);
    }
    let at = to_millis(change.at.map_or(tx.now, |at| at.min(tx.now)));
    tx.execute(
        "UPDATE deliveries SET status = ?3, code = ?4, reason = ?5,
             attempts = max(attempts, ?6), next_attempt_at = ?7,
             sent_at = CASE WHEN ?3 = 'sent' THEN ?8 ELSE sent_at END,
             delivered_at = CASE WHEN ?3 IN ('delivered', 'read')
                 THEN coalesce(delivered_at, ?8) ELSE delivered_at END,
             read_at = CASE WHEN ?3 = 'read' THEN ?8 ELSE read_at END,
             failed_at = CASE WHEN ?3 = 'failed' THEN ?8 ELSE failed_at END,
             healing = CASE WHEN ?3 IN ('delivered', 'read') THEN 0 ELSE healing END
         WHERE message = ?1 AND connection = ?2",
        &[
            &key.message.as_i64(),
            &key.connection.to_string(),
            &to.as_str(),
            &change.code.map(FailureCode::as_str),
            &change.reason,
            &change.attempts,
            &change.next_attempt_at.map(to_millis),
            &at,
        ],
    )?;
    announce(tx, key)?;
    if to == DeliveryStatus::Failed {
        files::release_for_message(tx, key.message)?;
    }
    Ok(true)
}

/// Changes the status of all deliveries of a message.
pub fn advance_all(
    tx: &Tx<'_>,
    message: MessageRowId,
    to: DeliveryStatus,
    change: &StatusChange,
) -> Result<(), Fault> {
    for key in find_keys_for_message(tx, message)? {
        advance(tx, key, to, change)?;
    }
    Ok(())
}

fn find_keys_for_message(tx: &Tx<'_>, message: MessageRowId) -> Result<Vec<DeliveryKey>, Fault> {
    let sql = "SELECT message, connection FROM deliveries WHERE message = ?1 ORDER BY connection";
    tx.query_rows(sql, &[&message.as_i64()], read_key)
}

/// Stores the reason why a delivery is still pending.
pub fn set_waiting_reason(
    tx: &Tx<'_>,
    key: DeliveryKey,
    reason: &str,
    next_attempt_at: Option<Timestamp>,
) -> Result<(), Fault> {
    let changed = tx.execute(
        "UPDATE deliveries SET reason = ?3, next_attempt_at = ?4
         WHERE message = ?1 AND connection = ?2 AND status = 'pending'
             AND (reason IS NOT ?3 OR next_attempt_at IS NOT ?4)",
        &[
            &key.message.as_i64(),
            &key.connection.to_string(),
            &reason,
            &next_attempt_at.map(to_millis),
        ],
    )?;
    if changed == 1 {
        announce(tx, key)
    } else {
        Ok(())
    }
}

/// Stores the reason why all pending deliveries of a message wait.
pub fn set_waiting_reasons(
    tx: &Tx<'_>,
    message: MessageRowId,
    reason: &str,
    next_attempt_at: Option<Timestamp>,
) -> Result<(), Fault> {
    let keys = find_keys_for_message(tx, message)?;
    keys.into_iter()
        .try_for_each(|key| set_waiting_reason(tx, key, reason, next_attempt_at))
}

/// Returns up to `limit` pending deliveries.
pub fn find_pending(tx: &Tx<'_>, limit: i64) -> Result<Vec<DeliveryKey>, Fault> {
    let sql = "SELECT message, connection FROM deliveries WHERE status = 'pending' LIMIT ?1";
    tx.query_rows(sql, &[&limit], read_key)
}

/// Marks the unfinished deliveries to a connection as waiting for session recovery.
pub fn mark_healing(tx: &Tx<'_>, connection: ConnectionId, reason: &str) -> Result<(), Fault> {
    let keys = tx.query_rows(
        "UPDATE deliveries SET healing = 1, reason = ?2
         WHERE connection = ?1 AND status IN ('pending', 'sent', 'retrying') AND healing = 0
         RETURNING message, connection",
        &[&connection.to_string(), &reason],
        read_key,
    )?;
    keys.into_iter().try_for_each(|key| announce(tx, key))
}

fn announce(tx: &Tx<'_>, key: DeliveryKey) -> Result<(), Fault> {
    match load(tx, key)? {
        Some(delivery) => events::add(tx, Subject::Delivery(delivery.posting)),
        None => Ok(()),
    }
}

pub fn load(tx: &Tx<'_>, key: DeliveryKey) -> Result<Option<Delivery>, Fault> {
    tx.query_row(
        &format!("{COLUMNS} WHERE d.message = ?1 AND d.connection = ?2"),
        &[&key.message.as_i64(), &key.connection.to_string()],
        read,
    )
}

/// Returns the delivery to the recipient whose chat shows this posting.
pub fn load_by_posting(tx: &Tx<'_>, posting: MessageId) -> Result<Option<Delivery>, Fault> {
    tx.query_row(
        &format!("{COLUMNS} WHERE p.chat = ?1 AND p.number = ?2"),
        &[&posting.chat.to_string(), &to_integer(posting.number)],
        read,
    )
}

/// Returns the deliveries of a message to all its recipients, ordered by their names.
pub fn load_for_message(tx: &Tx<'_>, message: MessageRowId) -> Result<Vec<Delivery>, Fault> {
    tx.query_rows(
        &format!("{COLUMNS} WHERE d.message = ?1 ORDER BY n.name, d.connection"),
        &[&message.as_i64()],
        read,
    )
}

/// Returns all deliveries, ordered by message.
pub fn load_all(tx: &Tx<'_>) -> Result<Vec<Delivery>, Fault> {
    tx.query_rows(&format!("{COLUMNS} ORDER BY p.message, p.chat"), &[], read)
}

/// Deliveries that are not delivered, for monitoring.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct DeliveryCounts {
    pub(crate) pending: u64,
    pub(crate) sent: u64,
    pub(crate) retrying: u64,
    pub(crate) failed: u64,
    /// Time at which the oldest of those that have not failed was accepted.
    pub(crate) oldest_at: Option<Timestamp>,
}

/// Counts deliveries by status, except those that were delivered: there can be any number of them.
pub(crate) fn count_by_state(tx: &Tx<'_>) -> Result<DeliveryCounts, Fault> {
    let sql = "SELECT count(*) FILTER (WHERE status = 'pending') AS pending, \
                   count(*) FILTER (WHERE status = 'sent') AS sent, \
                   count(*) FILTER (WHERE status = 'retrying') AS retrying, \
                   min(pending_at) AS oldest_at \
               FROM deliveries WHERE status IN ('pending', 'sent', 'retrying')";
    let open = tx.query_row(sql, &[], |row| {
        Ok(DeliveryCounts {
            pending: row.read("pending")?,
            sent: row.read("sent")?,
            retrying: row.read("retrying")?,
            failed: 0,
            oldest_at: row.optional_timestamp("oldest_at")?,
        })
    })?;
    let sql = "SELECT count(*) FROM deliveries WHERE status = 'failed'";
    Ok(DeliveryCounts {
        failed: tx.query_value(sql, &[])?.unwrap_or_default(),
        ..open.unwrap_or_default()
    })
}

/// Counts the unfinished deliveries: neither delivered nor failed.
pub fn count_open(tx: &Tx<'_>) -> Result<u64, Fault> {
    let sql = "SELECT count(*) FROM deliveries WHERE status IN ('pending', 'sent', 'retrying')";
    Ok(tx.query_value(sql, &[])?.unwrap_or(0))
}

/// Fails the deliveries whose envelopes expired before `before` without a receipt, unless they wait
/// to be sent again. A late receipt still makes them `delivered`.
pub fn fail_unconfirmed(tx: &Tx<'_>, before: Timestamp) -> Result<(), Fault> {
    let sql = "SELECT message, connection FROM deliveries
               WHERE status IN ('sent', 'retrying') AND expires_at < ?1
                   AND NOT EXISTS (SELECT 1 FROM outbox o WHERE o.message = deliveries.message
                       AND o.connection = deliveries.connection
                       AND o.state IN ('waiting', 'sealed'))";
    let change = StatusChange {
        code: Some(FailureCode::Unconfirmed),
        ..StatusChange::default()
    };
    for key in tx.query_rows(sql, &[&to_millis(before)], read_key)? {
        advance(tx, key, DeliveryStatus::Failed, &change)?;
        outbox::remove_for_delivery(tx, key)?;
    }
    Ok(())
}

/// Returns up to `limit` messages to a connection, latest first, whose further receipts are
/// expected: the recipient has not read them, or has not downloaded their files, as far as this
/// node knows. A message that failed after the relay had accepted it may have arrived nevertheless.
/// Excludes messages from before `since`, and those that are still to be sent.
pub(crate) fn find_unread(
    tx: &Tx<'_>,
    connection: ConnectionId,
    since: Timestamp,
    limit: usize,
) -> Result<Vec<MessageUuid>, Fault> {
    let sql = format!(
        "SELECT m.id, m.uuid FROM deliveries d JOIN messages m ON m.id = d.message
         WHERE d.connection = ?1 AND d.pending_at >= ?2
             AND d.status IN ('sent', 'retrying', 'delivered', 'failed')
             AND (d.sent_at IS NOT NULL OR d.delivered_at IS NOT NULL)
             AND NOT EXISTS (SELECT 1 FROM outbox o WHERE o.message = d.message
                 AND o.connection = d.connection AND o.state IN ('waiting', 'sealed'))
         UNION
         SELECT m.id, m.uuid FROM attachments a JOIN messages m ON m.id = a.message
         JOIN deliveries d ON d.message = a.message AND d.connection = ?1
         WHERE a.message > (SELECT max(id) FROM messages) - {QUERIED_ATTACHMENTS_MESSAGES}
             AND d.status = 'read' AND d.pending_at >= ?2
             AND NOT EXISTS (SELECT 1 FROM delivery_files f WHERE f.message = a.message
                 AND f.connection = d.connection AND f.file = a.file)
         ORDER BY 1 DESC LIMIT ?3"
    );
    let params = (connection.to_string(), to_millis(since), limit);
    tx.query_rows(&sql, &[&params.0, &params.1, &params.2], |row| {
        row.id("uuid")
    })
}

/// Latest messages among which [`find_unread`] looks for files without a receipt.
const QUERIED_ATTACHMENTS_MESSAGES: i64 = 20_000;

/// Stores when the envelope expires at the relay.
pub fn set_expiry(tx: &Tx<'_>, key: DeliveryKey, expires_at: Timestamp) -> Result<(), Fault> {
    tx.execute(
        "UPDATE deliveries SET expires_at = ?3 WHERE message = ?1 AND connection = ?2",
        &[
            &key.message.as_i64(),
            &key.connection.to_string(),
            &to_millis(expires_at),
        ],
    )?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Pair, connected_pair};
    use std::time::Duration;

    fn force(pair: &mut Pair, key: DeliveryKey, status: DeliveryStatus) {
        pair.acme.sql(&format!(
            "UPDATE deliveries SET status = '{status}' WHERE message = {}",
            key.message.as_i64()
        ));
    }

    #[test]
    fn only_legal_changes_are_made_and_announced() {
        let mut pair = connected_pair(10);
        let message = pair.acme.send(pair.to_bolt, "hello");
        let key = pair.acme.delivery(&message).key;
        for &from in DeliveryStatus::ALL {
            for &to in DeliveryStatus::ALL {
                force(&mut pair, key, from);
                let announced = pair.acme.query_number("SELECT count(*) FROM events");
                let moved = pair
                    .acme
                    .step(|tx, _| advance(tx, key, to, &StatusChange::default()));
                assert_eq!(moved, from.can_become(to), "{from:?} to {to:?}");
                assert_eq!(
                    pair.acme.delivery(&message).status,
                    if moved { to } else { from }
                );
                assert_eq!(
                    pair.acme.query_number("SELECT count(*) FROM events") - announced,
                    i64::from(moved)
                );
            }
        }
    }

    #[test]
    fn late_receipts_overrule_failures() {
        let mut pair = connected_pair(20);
        let message = pair.acme.send(pair.to_bolt, "hello");
        let key = pair.acme.delivery(&message).key;
        let failed = StatusChange {
            code: Some(FailureCode::Unconfirmed),
            ..StatusChange::default()
        };
        let mut try_advance =
            |to, change: &StatusChange| pair.acme.step(|tx, _| advance(tx, key, to, change));
        assert!(try_advance(DeliveryStatus::Failed, &failed));
        assert!(!try_advance(DeliveryStatus::Sent, &StatusChange::default()));
        assert!(try_advance(
            DeliveryStatus::Delivered,
            &StatusChange::default()
        ));
        assert!(
            !try_advance(DeliveryStatus::Failed, &failed)
                && !try_advance(DeliveryStatus::Retrying, &StatusChange::default())
        );
        let delivery = pair.acme.delivery(&message);
        assert_eq!(
            (delivery.status, delivery.code),
            (DeliveryStatus::Delivered, None)
        );
    }

    #[test]
    fn reported_times_are_capped_at_now() {
        let mut pair = connected_pair(30);
        let message = pair.acme.send(pair.to_bolt, "hello");
        let key = pair.acme.delivery(&message).key;
        let claim = |at| StatusChange {
            at: Some(at),
            ..StatusChange::default()
        };
        let (now, earlier) = (pair.acme.now, pair.acme.now.minus(Duration::from_secs(60)));
        let ahead = claim(now.plus(Duration::from_secs(86_400)));
        pair.acme
            .step(|tx, _| advance(tx, key, DeliveryStatus::Delivered, &claim(earlier)));
        pair.acme
            .step(|tx, _| advance(tx, key, DeliveryStatus::Read, &ahead));
        let delivery = pair.acme.delivery(&message);
        assert_eq!(
            (delivery.delivered_at, delivery.read_at),
            (Some(earlier), Some(now))
        );
    }

    #[test]
    fn deliveries_that_wait_to_be_sent_again_do_not_fail() {
        let mut pair = connected_pair(50);
        let message = pair.acme.send(pair.to_bolt, "hello");
        let sealed = pair.acme.seal();
        pair.acme.record_accepted(&sealed);
        pair.acme.sql("UPDATE outbox SET state = 'waiting'");
        let long_after = pair
            .acme
            .now
            .plus(sealpost_proto::limits::ENVELOPE_LIFETIME_MAX);
        pair.acme.step(|tx, _| fail_unconfirmed(tx, long_after));
        assert_eq!(pair.acme.delivery(&message).status, DeliveryStatus::Sent);
    }

    #[test]
    fn messages_that_were_never_accepted_have_no_receipts() {
        let mut pair = connected_pair(60);
        let [accepted, refused] = ["accepted", "refused"].map(|text| {
            let message = pair.acme.send(pair.to_bolt, text);
            if text == "accepted" {
                let sealed = pair.acme.seal();
                pair.acme.record_accepted(&sealed);
            }
            message
        });
        for message in [accepted, refused] {
            let key = pair.acme.delivery(&message).key;
            pair.acme.step(|tx, _| {
                outbox::remove_for_delivery(tx, key)?;
                advance(tx, key, DeliveryStatus::Failed, &StatusChange::default())
            });
        }
        let (to_bolt, expected) = (pair.to_bolt, pair.acme.uuid(&accepted));
        let unread = pair
            .acme
            .step(|tx, _| find_unread(tx, to_bolt, Timestamp::default(), 10));
        assert_eq!(unread, [expected]);
    }

    #[test]
    fn unconfirmed_deliveries_fail_after_their_expiry() {
        let mut pair = connected_pair(40);
        let message = pair.acme.send(pair.to_bolt, "hello");
        let key = pair.acme.delivery(&message).key;
        let sealed = pair.acme.seal();
        pair.acme.record_accepted(&sealed);
        let to_bolt = pair.to_bolt;
        pair.acme
            .step(|tx, _| mark_healing(tx, to_bolt, "the session is being recovered"));
        assert!(pair.acme.delivery(&message).healing);
        let expires_at = pair
            .acme
            .now
            .plus(sealpost_proto::limits::ENVELOPE_LIFETIME_DEFAULT);
        pair.acme.step(|tx, _| fail_unconfirmed(tx, expires_at));
        assert_eq!(
            pair.acme.delivery(&message).status,
            DeliveryStatus::Sent,
            "the envelope has not expired"
        );
        pair.acme
            .step(|tx, _| fail_unconfirmed(tx, expires_at.plus(Duration::from_millis(1))));
        let delivery = pair.acme.delivery(&message);
        assert_eq!(
            (delivery.status, delivery.code),
            (DeliveryStatus::Failed, Some(FailureCode::Unconfirmed))
        );
        assert_eq!(
            pair.acme.query_number("SELECT count(*) FROM outbox"),
            0,
            "the failed message leaves the outbox"
        );
        pair.acme
            .step(|tx, _| advance(tx, key, DeliveryStatus::Delivered, &StatusChange::default()));
        assert!(!pair.acme.delivery(&message).healing);
    }
}
