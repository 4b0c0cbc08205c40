//! Sweeps: removal of expired envelopes, blobs, digests and nonces, and of the envelopes in closed
//! mailboxes.

use super::{
    Store, StoreError, blobs,
    queue_changes::{QueueChanges, WAITING_COLUMNS, WaitingEnvelope},
    rows::sql_limit,
};
use rusqlite::{Connection, params};
use sealpost_proto::{
    AccountId, BlobId, EnvelopeState, Timestamp,
    limits::{
        DIGEST_RETENTION_AFTER_LIFETIME, ENVELOPE_LIFETIME_MAX, LEASE_DURATION, SWEEP_ROWS_MAX,
        UPLOAD_IDLE_TIMEOUT,
    },
};
use sealpost_sqlite::{RowExt as _, query, to_millis};

/// Outcome of a sweep.
#[derive(Debug, Default)]
pub(crate) struct SweepOutcome {
    /// Senders whose queues received status events.
    pub(crate) accounts_to_notify: Vec<AccountId>,
    /// Whether there is more to sweep immediately.
    pub(crate) has_more: bool,
    /// Deleted blobs whose parts are on disk; see [`Store::record_blob_deletions`].
    pub(crate) blob_deletions: Vec<BlobId>,
}

/// Reason of an expired envelope.
const EXPIRED: &str = "it expired before the recipient's node stored it";
/// Reason of an envelope whose mailbox was closed.
const MAILBOX_CLOSED: &str = "mailbox_unknown";

impl Store {
    /// Expires or deletes up to [`SWEEP_ROWS_MAX`] rows of each kind. Every sweep commits a
    /// heartbeat, which proves that the store can commit.
    pub(crate) async fn sweep(&self, now: Timestamp) -> Result<SweepOutcome, StoreError> {
        self.write(move |db| {
            let mut sweep = Sweep {
                db,
                now,
                changes: QueueChanges::default(),
                has_more: false,
            };
            sweep.check_clock()?;
            sweep.expire_envelopes()?;
            sweep.fail_in_closed_mailboxes()?;
            sweep.delete_digests()?;
            sweep.delete_nonces()?;
            sweep.expire_blobs()?;
            let blob_deletions = sweep.load_blob_deletions()?;
            let has_more = sweep.has_more;
            Ok(SweepOutcome {
                accounts_to_notify: sweep.changes.write(db, now)?,
                has_more,
                blob_deletions,
            })
        })
        .await
    }

    /// Records that the parts of these blobs are deleted from the disk.
    pub(crate) async fn record_blob_deletions(&self, blobs: Vec<BlobId>) -> Result<(), StoreError> {
        self.write(move |db| {
            let sql = "DELETE FROM blob_deletions WHERE blob_id = ?";
            for blob in blobs {
                query::execute(db, sql, [blob.as_bytes()])?;
            }
            Ok(())
        })
        .await
    }
}

struct Sweep<'a> {
    db: &'a Connection,
    now: Timestamp,
    changes: QueueChanges,
    has_more: bool,
}

impl Sweep<'_> {
    fn note_found(&mut self, found: usize) {
        self.has_more |= found >= SWEEP_ROWS_MAX;
    }

    /// Records the heartbeat. If the clock was set back, all lanes become due: the times that they
    /// wait for may be far ahead.
    fn check_clock(&self) -> Result<(), StoreError> {
        let sql = "SELECT value FROM counters WHERE name = 'heartbeat'";
        let last: Option<i64> = query::first_value(self.db, sql, [])?;
        let now = to_millis(self.now);
        if last.is_some_and(|last| last > now) {
            let sql = "UPDATE lanes SET due_at = ?1, callable_at = 0 WHERE due_at > ?1 OR \
                callable_at > ?1";
            query::execute(self.db, sql, [now])?;
        }
        let sql = "UPDATE counters SET value = ? WHERE name = 'heartbeat'";
        query::execute(self.db, sql, [now])?;
        Ok(())
    }

    /// Expires envelopes. An expired envelope is not leased any more; it ends after the last lease
    /// that may hold it.
    fn expire_envelopes(&mut self) -> Result<(), StoreError> {
        let sql = format!(
            "SELECT {WAITING_COLUMNS} FROM waiting_envelopes WHERE expires_at <= ? LIMIT ?"
        );
        let params = params![to_millis(self.now.minus(LEASE_DURATION)), row_limit()];
        let found = query::all_rows(self.db, &sql, params, WaitingEnvelope::read)?;
        self.note_found(found.len());
        for waiting in found {
            self.end(&waiting, EnvelopeState::Expired, EXPIRED)?;
        }
        Ok(())
    }

    fn fail_in_closed_mailboxes(&mut self) -> Result<(), StoreError> {
        let sql = "SELECT account_id, mailbox_id FROM mailbox_closures LIMIT ?";
        let closures: Vec<([u8; 16], [u8; 16])> =
            query::all_rows(self.db, sql, [row_limit()], |row| {
                Ok((row.read("account_id")?, row.read("mailbox_id")?))
            })?;
        self.note_found(closures.len());
        let mut remaining = SWEEP_ROWS_MAX;
        for (account, mailbox) in closures {
            let found = self.waiting_in(account, mailbox, remaining)?;
            if found.len() < remaining {
                let sql = "DELETE FROM mailbox_closures WHERE account_id = ? AND mailbox_id = ?";
                query::execute(self.db, sql, [account, mailbox])?;
            }
            remaining -= found.len();
            for waiting in found {
                self.end(&waiting, EnvelopeState::Failed, MAILBOX_CLOSED)?;
            }
            if remaining == 0 {
                self.has_more = true;
                break;
            }
        }
        Ok(())
    }

    /// Searches the whole lane for the envelopes of a mailbox, so only if the mailbox counts any.
    fn waiting_in(
        &self,
        account: [u8; 16],
        mailbox: [u8; 16],
        limit: usize,
    ) -> Result<Vec<WaitingEnvelope>, StoreError> {
        let sql = "SELECT waiting_envelopes FROM mailboxes WHERE id = ?";
        let count: Option<u64> = query::first_value(self.db, sql, [mailbox])?;
        if count == Some(0) {
            return Ok(Vec::new());
        }
        let sql = format!(
            "SELECT {WAITING_COLUMNS} FROM waiting_envelopes WHERE account_id = ? AND mailbox_id \
             = ? LIMIT ?"
        );
        let params = params![account, mailbox, sql_limit(limit)];
        Ok(query::all_rows(
            self.db,
            &sql,
            params,
            WaitingEnvelope::read,
        )?)
    }

    fn end(
        &mut self,
        waiting: &WaitingEnvelope,
        state: EnvelopeState,
        reason: &str,
    ) -> Result<(), StoreError> {
        let (db, now) = (self.db, self.now);
        self.changes
            .end_envelope(db, now, waiting, state, Some(reason))
    }

    fn delete_digests(&mut self) -> Result<(), StoreError> {
        let before = self
            .now
            .minus(ENVELOPE_LIFETIME_MAX)
            .minus(DIGEST_RETENTION_AFTER_LIFETIME);
        let sql = "DELETE FROM envelopes WHERE id IN (SELECT id FROM ended_envelopes WHERE id IN \
                   (SELECT id FROM envelopes ORDER BY id LIMIT ?) AND accepted_at <= ?)";
        let deleted = query::execute(self.db, sql, params![row_limit(), to_millis(before)])?;
        self.note_found(deleted);
        Ok(())
    }

    fn delete_nonces(&mut self) -> Result<(), StoreError> {
        let sql = "DELETE FROM nonces WHERE (key, nonce) IN \
                   (SELECT key, nonce FROM nonces WHERE expires_at <= ? LIMIT ?)";
        let deleted = query::execute(self.db, sql, params![to_millis(self.now), row_limit()])?;
        self.note_found(deleted);
        Ok(())
    }

    fn expire_blobs(&mut self) -> Result<(), StoreError> {
        let sql = "SELECT id FROM blobs WHERE expires_at <= ? \
                   UNION SELECT id FROM blobs WHERE is_complete = 0 AND last_upload_at <= ? LIMIT \
                   ?";
        let idle_since = self.now.minus(UPLOAD_IDLE_TIMEOUT);
        let params = params![to_millis(self.now), to_millis(idle_since), row_limit()];
        let found: Vec<[u8; 16]> = query::all_rows(self.db, sql, params, |row| row.read("id"))?;
        self.note_found(found.len());
        for blob in found {
            blobs::delete(self.db, &blob)?;
        }
        Ok(())
    }

    fn load_blob_deletions(&mut self) -> Result<Vec<BlobId>, StoreError> {
        let sql = "SELECT blob_id FROM blob_deletions LIMIT ?";
        let found = query::all_rows(self.db, sql, [row_limit()], |row| row.id("blob_id"))?;
        self.note_found(found.len());
        Ok(found)
    }
}

fn row_limit() -> i64 {
    sql_limit(SWEEP_ROWS_MAX)
}
