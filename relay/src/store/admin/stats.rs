//! The relay at a glance. What is counted is counted over accounts, never over envelopes.

use super::lane::OLDEST;
use crate::store::{
    Store, StoreError,
    rows::{count, row, uint},
};
use rusqlite::Connection;
use sealpost_proto::Timestamp;

/// What the database knows of the relay as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Census {
    /// Accounts.
    pub(crate) accounts: u64,
    /// Of these, suspended ones.
    pub(crate) suspended: u64,
    /// Open mailboxes.
    pub(crate) mailboxes: u64,
    /// Bytes of blobs.
    pub(crate) blob_bytes: u64,
    /// Envelopes and events that wait.
    pub(crate) queued: u64,
    /// Accounts for which something waits.
    pub(crate) queues: u64,
    /// Of these, those whose webhook fails or is off.
    pub(crate) failing: u64,
    /// Since when the oldest waits.
    pub(crate) oldest_at: Option<Timestamp>,
    /// Size of the database.
    pub(crate) database_bytes: u64,
}

impl Store {
    /// Counts what there is.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) async fn census(&self) -> Result<Census, StoreError> {
        self.read(take).await
    }
}

fn take(db: &Connection) -> Result<Census, StoreError> {
    let sql = format!(
        "WITH waiting AS MATERIALIZED (SELECT l.waiting, l.reason IS NOT NULL AS failing, {OLDEST} AS oldest_at \
             FROM lanes l WHERE l.waiting > 0) \
         SELECT * FROM \
             (SELECT count(*) AS accounts, ifnull(sum(suspended), 0) AS suspended, ifnull(sum(mailboxes), 0) AS mailboxes, \
                  ifnull(sum(blob_bytes), 0) AS blob_bytes FROM accounts), \
             (SELECT ifnull(sum(waiting), 0) AS queued, count(*) AS queues, ifnull(sum(failing), 0) AS failing, \
                  min(oldest_at) AS oldest_at FROM waiting), \
             (SELECT page_count * page_size AS database_bytes FROM pragma_page_count(), pragma_page_size())"
    );
    let census = row(db, &sql, [], |row| {
        Ok(Census {
            accounts: count(row, "accounts")?,
            suspended: count(row, "suspended")?,
            mailboxes: count(row, "mailboxes")?,
            blob_bytes: count(row, "blob_bytes")?,
            queued: count(row, "queued")?,
            queues: count(row, "queues")?,
            failing: count(row, "failing")?,
            oldest_at: row
                .get::<_, Option<i64>>("oldest_at")?
                .filter(|at| *at != i64::MAX)
                .map(|at| Timestamp::from_millis(uint(at))),
            database_bytes: count(row, "database_bytes")?,
        })
    })?;
    census.ok_or_else(|| StoreError::Failed { reason: "a count without an answer".to_owned() })
}
