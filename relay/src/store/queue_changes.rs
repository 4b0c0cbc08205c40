//! Changes of queues within one transaction, summed up so that each mailbox and each lane is
//! written once.

use super::{
    StoreError, lanes, mailboxes,
    rows::{QueueState, state_code},
};
use crate::lease::WokenLane;
use rusqlite::{Connection, Row, params};
use sealpost_proto::{
    AccountId, DeliveryId, EnvelopeState, MailboxId, Timestamp,
    limits::{ACCOUNT_EVENTS_MAX, SHORT_RECORD_RETENTION},
};
use sealpost_relay_core::quota::EnvelopeUsage;
use sealpost_sqlite::{RowError, RowExt as _, query, to_integer, to_millis};
use std::collections::{BTreeMap, BTreeSet};

/// Waiting envelope, with the columns that are needed to end it.
#[derive(Debug, Clone)]
pub(super) struct WaitingEnvelope {
    pub(super) id: i64,
    pub(super) envelope: [u8; 16],
    pub(super) mailbox: MailboxId,
    pub(super) account: AccountId,
    pub(super) sender: AccountId,
    pub(super) size_bytes: u64,
    pub(super) attempts: u32,
    pub(super) is_set_aside: bool,
    pub(super) accepted_at: Timestamp,
    pub(super) expires_at: Timestamp,
    pub(super) has_short_record: bool,
}

/// Columns that [`WaitingEnvelope::read`] reads.
pub(super) const WAITING_COLUMNS: &str = "id, envelope_id, mailbox_id, account_id, sender_id, \
     size_bytes, attempts, queue_state, accepted_at, expires_at, has_short_record";

impl WaitingEnvelope {
    pub(super) fn read(row: &Row<'_>) -> Result<Self, RowError> {
        Ok(Self {
            id: row.read("id")?,
            envelope: row.read("envelope_id")?,
            mailbox: row.id("mailbox_id")?,
            account: row.id("account_id")?,
            sender: row.id("sender_id")?,
            size_bytes: row.read("size_bytes")?,
            attempts: row.read("attempts")?,
            is_set_aside: row.convert("queue_state", QueueState::from_code)?
                == QueueState::SetAside,
            accepted_at: row.timestamp("accepted_at")?,
            expires_at: row.timestamp("expires_at")?,
            has_short_record: row.read("has_short_record")?,
        })
    }

    /// Returns whether the envelope leaves a record when it ends now. The sweep has passed over
    /// older ones with a short record.
    fn leaves_record(&self, now: Timestamp) -> bool {
        !self.has_short_record || self.accepted_at > now.minus(SHORT_RECORD_RETENTION)
    }
}

/// Status of an envelope, as its sender is notified of it.
pub(super) struct StatusUpdate<'a> {
    pub(super) state: EnvelopeState,
    pub(super) attempts: u32,
    pub(super) reason: Option<&'a str>,
    pub(super) next_attempt_at: Option<Timestamp>,
}

#[derive(Default, Clone, Copy)]
struct Change<T> {
    added: T,
    removed: T,
}

/// Items that are added to a lane or removed from it.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct LaneItems {
    pub(super) envelopes: EnvelopeUsage,
    pub(super) events: u64,
}

/// Changes of queues within one transaction.
#[derive(Default)]
pub(super) struct QueueChanges {
    mailboxes: BTreeMap<MailboxId, Change<EnvelopeUsage>>,
    lanes: BTreeMap<AccountId, Change<LaneItems>>,
    /// Lanes to inspect: envelopes that were out of reach may be deliverable now.
    refreshed: BTreeSet<AccountId>,
}

impl QueueChanges {
    pub(super) fn add_envelope(&mut self, mailbox: MailboxId, account: AccountId, size_bytes: u64) {
        let usage = &mut self.mailboxes.entry(mailbox).or_default().added;
        usage.add(size_bytes);
        let lane = self.lanes.entry(account).or_default();
        lane.added.envelopes.add(size_bytes);
    }

    /// Inspects a lane after the changes, because envelopes may have left the front of its queue.
    pub(super) fn refresh_lane(&mut self, account: AccountId) {
        self.refreshed.insert(account);
    }

    fn remove_envelope(&mut self, waiting: &WaitingEnvelope) {
        let usage = &mut self.mailboxes.entry(waiting.mailbox).or_default().removed;
        usage.add(waiting.size_bytes);
        let lane = self.lanes.entry(waiting.account).or_default();
        lane.removed.envelopes.add(waiting.size_bytes);
    }

    pub(super) fn remove_events(&mut self, account: AccountId, count: usize) {
        if count > 0 {
            self.lanes.entry(account).or_default().removed.events += count as u64;
        }
    }

    /// Ends a waiting envelope and deletes its bytes. Its sender is notified unless it was stored
    /// or recalled.
    pub(super) fn end_envelope(
        &mut self,
        db: &Connection,
        now: Timestamp,
        waiting: &WaitingEnvelope,
        state: EnvelopeState,
        reason: Option<&str>,
    ) -> Result<(), StoreError> {
        if waiting.leaves_record(now) {
            query::execute(
                db,
                "UPDATE envelopes SET state = ?, reason = ?, next_attempt_at = NULL, \
                     set_aside_until = NULL WHERE id = ?",
                params![state_code(state), reason, waiting.id],
            )?;
        } else {
            query::execute(db, "DELETE FROM envelopes WHERE id = ?", [waiting.id])?;
        }
        query::execute(db, "DELETE FROM envelope_bodies WHERE id = ?", [waiting.id])?;
        self.remove_envelope(waiting);
        if waiting.is_set_aside {
            lanes::release_held(db, waiting.mailbox)?;
            self.refresh_lane(waiting.account);
        }
        match state {
            // Without an attempt there was no event.
            EnvelopeState::Stored | EnvelopeState::Recalled if waiting.attempts == 0 => Ok(()),
            EnvelopeState::Stored | EnvelopeState::Recalled => {
                self.remove_pending_event(db, waiting)
            }
            EnvelopeState::Queued
            | EnvelopeState::Retrying
            | EnvelopeState::Expired
            | EnvelopeState::Failed => {
                let update = StatusUpdate {
                    state,
                    attempts: waiting.attempts,
                    reason,
                    next_attempt_at: None,
                };
                self.notify_sender(db, now, waiting, &update)
            }
        }
    }

    /// Queues a status event for the sender of an envelope in place of an earlier one that still
    /// waits. There is none for a sender whose account was deleted, or for which
    /// [`ACCOUNT_EVENTS_MAX`] events wait: it can query the status.
    pub(super) fn notify_sender(
        &mut self,
        db: &Connection,
        now: Timestamp,
        waiting: &WaitingEnvelope,
        update: &StatusUpdate<'_>,
    ) -> Result<(), StoreError> {
        self.remove_pending_event(db, waiting)?;
        let id = lanes::reserve_item_ids(db, 1)?;
        let sender = self.lanes.entry(waiting.sender).or_default();
        // The counts of the lane do not include this transaction yet.
        let events_max = to_integer(ACCOUNT_EVENTS_MAX + sender.removed.events)
            - to_integer(sender.added.events);
        let inserted = query::execute(
            db,
            "INSERT INTO events \
                 (id, account_id, envelope_id, state, attempts, reason, next_attempt_at, \
                  created_at) \
             SELECT ?, account_id, ?, ?, ?, ?, ?, ? FROM lanes WHERE account_id = ? \
                 AND waiting_items - waiting_envelopes < ?",
            params![
                id,
                waiting.envelope,
                state_code(update.state),
                update.attempts,
                update.reason,
                update.next_attempt_at.map(to_millis),
                to_millis(now),
                waiting.sender.as_bytes(),
                events_max
            ],
        )?;
        sender.added.events += inserted as u64;
        Ok(())
    }

    fn remove_pending_event(
        &mut self,
        db: &Connection,
        waiting: &WaitingEnvelope,
    ) -> Result<(), StoreError> {
        let deleted = query::execute(
            db,
            "DELETE FROM events WHERE account_id = ? AND envelope_id = ?",
            params![waiting.sender.as_bytes(), waiting.envelope],
        )?;
        self.remove_events(waiting.sender, deleted);
        Ok(())
    }

    /// Writes the changes and returns the accounts for which something new waits.
    pub(super) fn write(
        self,
        db: &Connection,
        now: Timestamp,
    ) -> Result<Vec<AccountId>, StoreError> {
        let woken = self.write_lanes(db, now)?;
        Ok(woken.into_iter().map(|lane| lane.account).collect())
    }

    /// Writes the changes and returns the lanes in which something new waits, with their due times.
    pub(super) fn write_lanes(
        self,
        db: &Connection,
        now: Timestamp,
    ) -> Result<Vec<WokenLane>, StoreError> {
        for (mailbox, change) in self.mailboxes {
            mailboxes::update_usage(db, mailbox, change.added, change.removed)?;
        }
        let mut woken = Vec::new();
        for (account, change) in self.lanes {
            if change.added == LaneItems::default() {
                lanes::remove_items(db, account, change.removed)?;
            } else {
                let lane = lanes::update_items(db, now, account, change.added, change.removed)?;
                woken.push(lane);
            }
        }
        for account in self.refreshed {
            lanes::refresh(db, now, account)?;
            woken.push(WokenLane {
                account,
                due_at: Some(now),
                is_callable: false,
            });
        }
        Ok(woken)
    }
}

/// Converts an item id to its SQL representation.
pub(super) fn item_id(id: DeliveryId) -> i64 {
    to_integer(id.0)
}
