//! Slices: the work that a sweep does in one commit.

use super::SweepTask;
use crate::store::{
    StoreError, accounts, blobs, lanes,
    queue_changes::{QueueChanges, WAITING_COLUMNS, WaitingEnvelope},
    rows::sql_limit,
};
use rusqlite::{Connection, Params, params};
use sealpost_proto::{
    AccountId, BlobId, EnvelopeState, Timestamp,
    limits::{
        DIGEST_RETENTION_AFTER_LIFETIME, ENVELOPE_LIFETIME_MAX, LEASE_DURATION_MAX,
        MAILBOX_ID_RETENTION, SENDER_LIMIT_PERIOD, SHORT_RECORD_RETENTION, SWEEP_BYTES_PER_UNIT,
        SWEEP_UNITS_MAX, UPLOAD_IDLE_TIMEOUT,
    },
};
use sealpost_sqlite::{RowExt as _, query, to_millis};

/// Reason of an expired envelope.
const EXPIRED: &str = "it expired before the recipient's node stored it";
/// Reason of an envelope whose mailbox was closed.
const MAILBOX_CLOSED: &str = "mailbox_unknown";

/// Outcome of a slice.
pub(in crate::store) struct SliceOutcome {
    pub(super) accounts_to_notify: Vec<AccountId>,
    pub(super) blob_deletions: Vec<BlobId>,
    /// Number of expired envelopes that were left because they are leased.
    pub(super) leased: usize,
    /// Whether the task has done everything that is due.
    pub(super) is_done: bool,
}

/// Runs a slice of a task. `leased` expired envelopes are skipped.
pub(in crate::store) fn run_slice(
    db: &Connection,
    now: Timestamp,
    task: SweepTask,
    leased: usize,
) -> Result<SliceOutcome, StoreError> {
    let mut slice = Slice {
        db,
        now,
        changes: QueueChanges::default(),
        units_left: SWEEP_UNITS_MAX,
        blob_deletions: Vec::new(),
        leased: 0,
    };
    let is_done = match task {
        SweepTask::ExpireEnvelopes => slice.expire_envelopes(leased),
        SweepTask::FailInClosedMailboxes => slice.fail_in_closed_mailboxes(),
        SweepTask::EmptyClosedAccounts => slice.empty_closed_account(),
        SweepTask::ForgetClosedAccounts => slice.forget_closed_account(),
        SweepTask::DeleteRecords => slice.delete_records(),
        SweepTask::DeleteShortRecords => slice.delete_short_records(),
        SweepTask::DeleteNonces => slice.delete_nonces(),
        SweepTask::DeleteSenderCounts => slice.delete_sender_counts(),
        SweepTask::ExpireBlobs => slice.expire_blobs(),
        SweepTask::ListBlobDeletions => slice.list_blob_deletions(),
    }?;
    Ok(SliceOutcome {
        accounts_to_notify: slice.changes.write(db, now)?,
        blob_deletions: slice.blob_deletions,
        leased: slice.leased,
        is_done,
    })
}

/// Work of one commit. The methods return whether they have done everything that is due.
struct Slice<'a> {
    db: &'a Connection,
    now: Timestamp,
    changes: QueueChanges,
    /// Units of work that are left: a row each, and [`SWEEP_BYTES_PER_UNIT`] of envelopes.
    units_left: usize,
    blob_deletions: Vec<BlobId>,
    leased: usize,
}

impl Slice<'_> {
    fn charge(&mut self, units: usize) {
        self.units_left = self.units_left.saturating_sub(units);
    }

    const fn is_exhausted(&self) -> bool {
        self.units_left == 0
    }

    fn row_limit(&self) -> i64 {
        sql_limit(self.units_left)
    }

    /// Runs a statement that changes up to [`Self::row_limit`] rows.
    fn change_rows(&mut self, sql: &str, params: impl Params) -> Result<bool, StoreError> {
        let changed = query::execute(self.db, sql, params)?;
        self.charge(changed);
        Ok(!self.is_exhausted())
    }

    /// Expires envelopes. An envelope in the current lease of its lane ends after that lease.
    fn expire_envelopes(&mut self, skipped: usize) -> Result<bool, StoreError> {
        let sql = format!(
            "SELECT {WAITING_COLUMNS} FROM waiting_envelopes WHERE expires_at <= ? \
             ORDER BY expires_at, id LIMIT ? OFFSET ?"
        );
        let params = params![to_millis(self.now), self.row_limit(), sql_limit(skipped)];
        let found = query::all_rows(self.db, &sql, params, WaitingEnvelope::read)?;
        let longest_lease = self.now.minus(LEASE_DURATION_MAX);
        for waiting in found {
            if self.is_exhausted() {
                return Ok(false);
            }
            let is_leased = waiting.expires_at > longest_lease
                && lanes::is_leased(self.db, self.now, waiting.account, waiting.id)?;
            if is_leased {
                self.leased += 1;
                self.charge(1);
            } else {
                self.end_envelope(&waiting, EnvelopeState::Expired, EXPIRED)?;
            }
        }
        Ok(!self.is_exhausted())
    }

    fn fail_in_closed_mailboxes(&mut self) -> Result<bool, StoreError> {
        let sql = "SELECT account_id, mailbox_id FROM mailbox_closures LIMIT ?";
        let closures: Vec<([u8; 16], [u8; 16])> =
            query::all_rows(self.db, sql, [self.row_limit()], |row| {
                Ok((row.read("account_id")?, row.read("mailbox_id")?))
            })?;
        for (account, mailbox) in closures {
            if !self.fail_waiting("mailbox_id", mailbox)? {
                return Ok(false);
            }
            let sql = "DELETE FROM mailbox_closures WHERE account_id = ? AND mailbox_id = ?";
            if !self.change_rows(sql, [account, mailbox])? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Fails the waiting envelopes of a mailbox or an account.
    fn fail_waiting(&mut self, column: &str, id: [u8; 16]) -> Result<bool, StoreError> {
        let sql =
            format!("SELECT {WAITING_COLUMNS} FROM waiting_envelopes WHERE {column} = ? LIMIT ?");
        let params = params![id, self.row_limit()];
        let found = query::all_rows(self.db, &sql, params, WaitingEnvelope::read)?;
        for waiting in found {
            if self.is_exhausted() {
                return Ok(false);
            }
            self.end_envelope(&waiting, EnvelopeState::Failed, MAILBOX_CLOSED)?;
        }
        Ok(!self.is_exhausted())
    }

    /// Ends an envelope. Its lane is inspected afterwards, because envelopes behind it may have
    /// been out of reach ([`QUEUE_SCAN_ROWS_MAX`](sealpost_proto::limits::QUEUE_SCAN_ROWS_MAX)).
    fn end_envelope(
        &mut self,
        waiting: &WaitingEnvelope,
        state: EnvelopeState,
        reason: &str,
    ) -> Result<(), StoreError> {
        let (db, now) = (self.db, self.now);
        let bytes = usize::try_from(waiting.size_bytes).unwrap_or(usize::MAX);
        self.charge(1 + bytes / SWEEP_BYTES_PER_UNIT);
        self.changes.refresh_lane(waiting.account);
        self.changes
            .end_envelope(db, now, waiting, state, Some(reason))
    }

    /// Removes what a deleted account has left, except the ids of its mailboxes.
    fn empty_closed_account(&mut self) -> Result<bool, StoreError> {
        let sql = "SELECT id FROM closed_accounts WHERE is_emptied = 0 ORDER BY closed_at LIMIT 1";
        let Some(account) = query::first_value(self.db, sql, [])? else {
            return Ok(true);
        };
        let is_emptied = self.fail_waiting("account_id", account)?
            && self.close_mailboxes(account)?
            && self.delete_events(account)?
            && self.delete_blobs(account)?;
        if is_emptied {
            accounts::finish_closing(self.db, account)?;
        }
        Ok(false)
    }

    fn close_mailboxes(&mut self, account: [u8; 16]) -> Result<bool, StoreError> {
        let sql = "UPDATE mailboxes SET closed_at = ?, key_1 = NULL, key_2 = NULL, prekeys = NULL \
                   WHERE id IN (SELECT id FROM mailboxes \
                       WHERE account_id = ? AND closed_at IS NULL LIMIT ?)";
        self.change_rows(sql, params![to_millis(self.now), account, self.row_limit()])
    }

    fn delete_events(&mut self, account: [u8; 16]) -> Result<bool, StoreError> {
        let sql = "DELETE FROM events WHERE id IN \
                   (SELECT id FROM events WHERE account_id = ? LIMIT ?)";
        self.change_rows(sql, params![account, self.row_limit()])
    }

    fn delete_blobs(&mut self, account: [u8; 16]) -> Result<bool, StoreError> {
        let sql = "SELECT id FROM blobs WHERE account_id = ? LIMIT ?";
        let params = params![account, self.row_limit()];
        let found = query::all_rows(self.db, sql, params, |row| row.read("id"))?;
        self.delete_all_blobs(&found)
    }

    fn delete_all_blobs(&mut self, blobs: &[[u8; 16]]) -> Result<bool, StoreError> {
        for blob in blobs {
            if self.is_exhausted() {
                return Ok(false);
            }
            let rows = blobs::delete(self.db, blob)?;
            self.charge(rows);
        }
        Ok(!self.is_exhausted())
    }

    /// Deletes the ids of the mailboxes of an account that was deleted long ago.
    fn forget_closed_account(&mut self) -> Result<bool, StoreError> {
        let sql = "SELECT id FROM closed_accounts WHERE is_emptied = 1 AND closed_at <= ? \
                   ORDER BY closed_at LIMIT 1";
        let before = to_millis(self.now.minus(MAILBOX_ID_RETENTION));
        let account: Option<[u8; 16]> = query::first_value(self.db, sql, [before])?;
        let Some(account) = account else {
            return Ok(true);
        };
        let sql = "DELETE FROM mailboxes WHERE id IN (SELECT id FROM mailboxes \
                       WHERE account_id = ? AND closed_at IS NOT NULL LIMIT ?)";
        if self.change_rows(sql, params![account, self.row_limit()])? {
            query::execute(
                self.db,
                "DELETE FROM closed_accounts WHERE id = ?",
                [account],
            )?;
        }
        Ok(false)
    }

    fn delete_records(&mut self) -> Result<bool, StoreError> {
        let before = self
            .now
            .minus(ENVELOPE_LIFETIME_MAX)
            .minus(DIGEST_RETENTION_AFTER_LIFETIME);
        let sql = "DELETE FROM envelopes WHERE id IN (SELECT id FROM ended_envelopes WHERE id IN \
                   (SELECT id FROM envelopes ORDER BY id LIMIT ?) AND accepted_at <= ?)";
        self.change_rows(sql, params![self.row_limit(), to_millis(before)])
    }

    /// Deletes the short records of envelopes that have ended. Each row is read once, in order of
    /// acceptance. An envelope that still waits then leaves no record when it ends
    /// ([`WaitingEnvelope::leaves_record`]).
    fn delete_short_records(&mut self) -> Result<bool, StoreError> {
        let sql = "SELECT value FROM counters WHERE name = 'last_short_record'";
        let last: i64 = query::first_value(self.db, sql, [])?.unwrap_or_default();
        let sql = "SELECT id, accepted_at FROM envelopes WHERE id > ? ORDER BY id LIMIT ?";
        let found: Vec<(i64, Timestamp)> =
            query::all_rows(self.db, sql, params![last, self.row_limit()], |row| {
                Ok((row.read("id")?, row.timestamp("accepted_at")?))
            })?;
        let before = self.now.minus(SHORT_RECORD_RETENTION);
        let now = self.now;
        // A time ahead of the clock, which was set back, does not delay the deletion of others.
        let old = found
            .iter()
            .take_while(|(_, at)| *at <= before || *at > now);
        let Some((next, _)) = old.last() else {
            return Ok(true);
        };
        let sql = "DELETE FROM envelopes WHERE id IN (SELECT id FROM ended_envelopes \
                   WHERE id > ? AND id <= ? AND has_short_record = 1)";
        query::execute(self.db, sql, params![last, next])?;
        let sql = "UPDATE counters SET value = ? WHERE name = 'last_short_record'";
        query::execute(self.db, sql, [next])?;
        Ok(found.len() < self.units_left)
    }

    fn delete_nonces(&mut self) -> Result<bool, StoreError> {
        let sql = "DELETE FROM nonces WHERE (key, nonce) IN \
                   (SELECT key, nonce FROM nonces WHERE expires_at <= ? LIMIT ?)";
        self.change_rows(sql, params![to_millis(self.now), self.row_limit()])
    }

    fn delete_sender_counts(&mut self) -> Result<bool, StoreError> {
        let before = self.now.minus(SENDER_LIMIT_PERIOD);
        let sql = "DELETE FROM mailbox_senders WHERE (mailbox_id, sender_id) IN \
                   (SELECT mailbox_id, sender_id FROM mailbox_senders WHERE period_start <= ? \
                    LIMIT ?)";
        self.change_rows(sql, params![to_millis(before), self.row_limit()])
    }

    fn expire_blobs(&mut self) -> Result<bool, StoreError> {
        let idle_since = self.now.minus(UPLOAD_IDLE_TIMEOUT);
        let expired = "SELECT id FROM blobs WHERE expires_at <= ? LIMIT ?";
        let idle = "SELECT id FROM blobs WHERE is_complete = 0 AND last_upload_at <= ? LIMIT ?";
        for (sql, before) in [(expired, self.now), (idle, idle_since)] {
            let params = params![to_millis(before), self.row_limit()];
            let found = query::all_rows(self.db, sql, params, |row| row.read("id"))?;
            if !self.delete_all_blobs(&found)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn list_blob_deletions(&mut self) -> Result<bool, StoreError> {
        let sql = "SELECT blob_id FROM blob_deletions LIMIT ?";
        self.blob_deletions =
            query::all_rows(self.db, sql, [self.row_limit()], |row| row.id("blob_id"))?;
        Ok(self.blob_deletions.len() < self.units_left)
    }
}
