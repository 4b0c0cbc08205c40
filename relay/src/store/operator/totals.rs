//! Totals of the whole relay. They are summed over accounts, never over envelopes, and the oldest
//! item is found without searching each queue: ten thousand accounts take a few milliseconds.

use crate::store::{Store, StoreError};
use rusqlite::Connection;
use sealpost_proto::Timestamp;
use sealpost_sqlite::{RowExt as _, query};

/// Totals of the whole relay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Totals {
    pub(crate) accounts: u64,
    pub(crate) suspended: u64,
    /// Open mailboxes.
    pub(crate) mailboxes: u64,
    /// Announced sizes of all blobs.
    pub(crate) blob_bytes: u64,
    /// Envelopes and events that wait.
    pub(crate) queued: u64,
    /// Accounts for which something waits.
    pub(crate) queues: u64,
    /// Queues whose webhook fails or is off.
    pub(crate) failing: u64,
    /// Time of the oldest waiting item.
    pub(crate) oldest_at: Option<Timestamp>,
    pub(crate) database_bytes: u64,
}

impl Store {
    pub(crate) async fn load_totals(&self) -> Result<Totals, StoreError> {
        self.read(load).await
    }
}

/// The oldest waiting envelope is the first that has a body: those of ended envelopes are deleted.
const TOTALS: &str = "SELECT *, \
    (SELECT min(at) FROM ( \
         SELECT accepted_at AS at FROM envelopes WHERE id = (SELECT min(id) FROM envelope_bodies) \
         UNION ALL \
         SELECT * FROM (SELECT created_at FROM events ORDER BY id LIMIT 1))) AS oldest_at FROM \
    (SELECT count(*) AS accounts, ifnull(sum(suspended), 0) AS suspended, \
         ifnull(sum(mailbox_count), 0) AS mailboxes, \
         ifnull(sum(blob_bytes), 0) AS blob_bytes FROM accounts), \
    (SELECT ifnull(sum(waiting_items), 0) AS queued, count(*) AS queues, \
         count(reason) AS failing FROM lanes WHERE waiting_items > 0), \
    (SELECT page_count * page_size AS database_bytes \
         FROM pragma_page_count(), pragma_page_size())";

fn load(db: &Connection) -> Result<Totals, StoreError> {
    let totals = query::first_row(db, TOTALS, [], |row| {
        Ok(Totals {
            accounts: row.read("accounts")?,
            suspended: row.read("suspended")?,
            mailboxes: row.read("mailboxes")?,
            blob_bytes: row.read("blob_bytes")?,
            queued: row.read("queued")?,
            queues: row.read("queues")?,
            failing: row.read("failing")?,
            oldest_at: row.optional_timestamp("oldest_at")?,
            database_bytes: row.read("database_bytes")?,
        })
    })?;
    totals.ok_or_else(|| StoreError::Failed {
        reason: "the totals are missing".to_owned(),
    })
}
