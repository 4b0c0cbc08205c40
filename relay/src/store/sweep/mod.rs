//! Sweeps: removal of expired envelopes, blobs, records and nonces, and of what closed mailboxes
//! and deleted accounts have left.
//!
//! Other requests wait while a sweep uses the writer. A sweep is therefore divided into tasks and
//! each task into slices. A slice does up to [`SWEEP_UNITS_MAX`] units of work in its own commit,
//! and requests that arrived meanwhile run before the next one.

mod slice;

use super::{Store, StoreError, rows::sql_limit};
use rusqlite::{Connection, params};
use sealpost_proto::{AccountId, BlobId, Timestamp, limits::SWEEP_UNITS_MAX};
use sealpost_sqlite::{RowExt as _, query, to_millis};
pub(super) use slice::run_slice;

/// Outcome of a sweep.
#[derive(Debug, Default)]
pub(crate) struct SweepOutcome {
    /// Accounts whose queues changed: senders that received status events, and recipients of
    /// envelopes that ended.
    pub(crate) accounts_to_notify: Vec<AccountId>,
    /// Whether there is more to sweep immediately.
    pub(crate) has_more: bool,
    /// Deleted blobs whose parts are on disk; see [`Store::record_blob_deletions`].
    pub(crate) blob_deletions: Vec<BlobId>,
}

/// Task of a sweep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SweepTask {
    ExpireEnvelopes,
    FailInClosedMailboxes,
    EmptyClosedAccounts,
    ForgetClosedAccounts,
    DeleteRecords,
    DeleteShortRecords,
    DeleteNonces,
    DeleteSenderCounts,
    ExpireBlobs,
    ListBlobDeletions,
}

impl SweepTask {
    pub(super) const ALL: [Self; 10] = [
        Self::ExpireEnvelopes,
        Self::FailInClosedMailboxes,
        Self::EmptyClosedAccounts,
        Self::ForgetClosedAccounts,
        Self::DeleteRecords,
        Self::DeleteShortRecords,
        Self::DeleteNonces,
        Self::DeleteSenderCounts,
        Self::ExpireBlobs,
        Self::ListBlobDeletions,
    ];
}

impl Store {
    /// Checks the clock and runs a slice of each task. Each sweep commits a heartbeat, which proves
    /// that the store can commit.
    pub(crate) async fn sweep(&self, now: Timestamp) -> Result<SweepOutcome, StoreError> {
        self.check_clock(now).await?;
        let mut outcome = SweepOutcome::default();
        for task in SweepTask::ALL {
            let mut leased = 0;
            loop {
                let slice = self
                    .write(move |db| run_slice(db, now, task, leased))
                    .await?;
                outcome.accounts_to_notify.extend(slice.accounts_to_notify);
                outcome.blob_deletions.extend(slice.blob_deletions);
                leased += slice.leased;
                if slice.is_done || slice.leased == 0 {
                    outcome.has_more |= !slice.is_done;
                    break;
                }
            }
        }
        Ok(outcome)
    }

    /// Records the heartbeat. If the clock was set back, all lanes become due first: the times that
    /// they wait for may be far ahead.
    async fn check_clock(&self, now: Timestamp) -> Result<(), StoreError> {
        let sql = "SELECT value FROM counters WHERE name = 'heartbeat'";
        let last: Option<i64> = self
            .read(move |db| Ok(query::first_value(db, sql, [])?))
            .await?;
        if last.is_some_and(|last| last > to_millis(now)) {
            let mut after = Some(AccountId::from_bytes([0; 16]));
            while let Some(account) = after {
                after = self
                    .write(move |db| make_lanes_due(db, now, account))
                    .await?;
            }
        }
        let sql = "UPDATE counters SET value = ? WHERE name = 'heartbeat'";
        self.write(move |db| Ok(query::execute(db, sql, [to_millis(now)]).map(|_| ())?))
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

/// Makes up to [`SWEEP_UNITS_MAX`] lanes due, from `first` on. Returns the next lane.
pub(super) fn make_lanes_due(
    db: &Connection,
    now: Timestamp,
    first: AccountId,
) -> Result<Option<AccountId>, StoreError> {
    let sql = "SELECT account_id FROM lanes WHERE account_id >= ? \
               ORDER BY account_id LIMIT 1 OFFSET ?";
    let params = params![first.as_bytes(), sql_limit(SWEEP_UNITS_MAX)];
    let next = query::first_row(db, sql, params, |row| row.id::<AccountId>("account_id"))?;
    // No id is larger.
    let end = next.map_or_else(|| vec![0xff; 17], |next| next.as_bytes().to_vec());
    let sql = "UPDATE lanes SET due_at = ?1, callable_at = 0 \
               WHERE account_id >= ?2 AND account_id < ?3 \
                   AND (due_at > ?1 OR callable_at > ?1)";
    query::execute(db, sql, params![to_millis(now), first.as_bytes(), end])?;
    Ok(next)
}
