//! The relay at a glance. What is counted is counted over accounts, never over envelopes, and the oldest is
//! found without a look into each queue: ten thousand accounts cost a few milliseconds.

use crate::store::{
    Store, StoreError,
    rows::{count, maybe_time, row},
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

/// The oldest envelope is the first that has bytes: those of envelopes that ended are gone.
const CENSUS: &str = "SELECT *, \
        (SELECT min(at) FROM (SELECT accepted_at AS at FROM envelopes WHERE id = (SELECT min(id) FROM bodies) \
             UNION ALL SELECT * FROM (SELECT at FROM events ORDER BY id LIMIT 1))) AS oldest_at FROM \
    (SELECT count(*) AS accounts, ifnull(sum(suspended), 0) AS suspended, ifnull(sum(mailboxes), 0) AS mailboxes, \
         ifnull(sum(blob_bytes), 0) AS blob_bytes FROM accounts), \
    (SELECT ifnull(sum(waiting), 0) AS queued, count(*) AS queues, count(reason) AS failing FROM lanes WHERE waiting > 0), \
    (SELECT page_count * page_size AS database_bytes FROM pragma_page_count(), pragma_page_size())";

fn take(db: &Connection) -> Result<Census, StoreError> {
    let census = row(db, CENSUS, [], |row| {
        Ok(Census {
            accounts: count(row, "accounts")?,
            suspended: count(row, "suspended")?,
            mailboxes: count(row, "mailboxes")?,
            blob_bytes: count(row, "blob_bytes")?,
            queued: count(row, "queued")?,
            queues: count(row, "queues")?,
            failing: count(row, "failing")?,
            oldest_at: maybe_time(row, "oldest_at")?,
            database_bytes: count(row, "database_bytes")?,
        })
    })?;
    census.ok_or_else(|| StoreError::Failed {
        reason: "a count without an answer".to_owned(),
    })
}
