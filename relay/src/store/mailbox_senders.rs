//! Envelopes that a mailbox accepted from each account, for mailboxes whose owner has set a limit
//! for each sender.

use super::StoreError;
use rusqlite::{Connection, params};
use sealpost_proto::{AccountId, MailboxId, Timestamp, limits::SENDER_LIMIT_PERIOD};
use sealpost_sqlite::{RowExt as _, query, to_integer, to_millis};
use std::collections::{HashMap, hash_map::Entry};

#[derive(Debug, Clone, Copy)]
struct SenderCount {
    envelopes: u64,
    period_start: Timestamp,
    is_changed: bool,
}

/// Counts in one transaction. They contain no mailboxes without a limit, which therefore cost
/// nothing.
#[derive(Default)]
pub(super) struct SenderCounts(HashMap<(MailboxId, AccountId), SenderCount>);

impl SenderCounts {
    /// Returns whether a mailbox with a limit accepts no more envelopes from a sender.
    pub(super) fn is_limit_reached(
        &mut self,
        db: &Connection,
        now: Timestamp,
        mailbox: MailboxId,
        sender: AccountId,
        envelopes_max: u64,
    ) -> Result<bool, StoreError> {
        let count = match self.0.entry((mailbox, sender)) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(unknown) => unknown.insert(load(db, now, mailbox, sender)?),
        };
        Ok(count.envelopes >= envelopes_max)
    }

    /// Counts an accepted envelope.
    pub(super) fn add_envelope(&mut self, mailbox: MailboxId, sender: AccountId) {
        if let Some(count) = self.0.get_mut(&(mailbox, sender)) {
            count.envelopes += 1;
            count.is_changed = true;
        }
    }

    pub(super) fn write(self, db: &Connection) -> Result<(), StoreError> {
        let sql = "INSERT OR REPLACE INTO mailbox_senders \
                   (mailbox_id, sender_id, envelopes, period_start) VALUES (?, ?, ?, ?)";
        for ((mailbox, sender), count) in self.0 {
            if count.is_changed {
                let params = params![
                    mailbox.as_bytes(),
                    sender.as_bytes(),
                    to_integer(count.envelopes),
                    to_millis(count.period_start)
                ];
                query::execute(db, sql, params)?;
            }
        }
        Ok(())
    }
}

/// Loads the count of the current period, or starts a new period.
fn load(
    db: &Connection,
    now: Timestamp,
    mailbox: MailboxId,
    sender: AccountId,
) -> Result<SenderCount, StoreError> {
    let sql = "SELECT envelopes, period_start FROM mailbox_senders \
               WHERE mailbox_id = ? AND sender_id = ? AND period_start > ?";
    let ended = to_millis(now.minus(SENDER_LIMIT_PERIOD));
    let params = params![mailbox.as_bytes(), sender.as_bytes(), ended];
    let found = query::first_row(db, sql, params, |row| {
        Ok(SenderCount {
            envelopes: row.read("envelopes")?,
            period_start: row.timestamp("period_start")?,
            is_changed: false,
        })
    })?;
    Ok(found.unwrap_or(SenderCount {
        envelopes: 0,
        period_start: now,
        is_changed: false,
    }))
}
