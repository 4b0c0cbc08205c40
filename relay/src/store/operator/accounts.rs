//! Accounts as the operator sees them.

use super::{
    Page,
    lane::{self, COLUMNS, LaneSummary, OLDEST},
};
use crate::store::{Store, StoreError, lanes, rows::sql_limit};
use rusqlite::{Connection, Row, params};
use sealpost_proto::{AccountId, Timestamp};
use sealpost_relay_core::Event;
use sealpost_sqlite::{RowError, RowExt as _, query};

/// Names by which the operator recognises an account, besides its id.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct AccountNames {
    /// Text that the operator set.
    pub(crate) label: Option<String>,
    /// Registration token that the account registered with. The token may be revoked by now.
    pub(crate) token_name: Option<String>,
}

/// Columns that [`AccountNames::read`] reads.
pub(in crate::store) const NAME_COLUMNS: &str = "a.label, a.token_name";

impl AccountNames {
    pub(in crate::store) fn read(row: &Row<'_>) -> Result<Self, RowError> {
        Ok(Self {
            label: row.read("label")?,
            token_name: row.read("token_name")?,
        })
    }
}

/// Account as the operator sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AccountSummary {
    pub(crate) account: AccountId,
    pub(crate) names: AccountNames,
    pub(crate) created_at: Timestamp,
    pub(crate) is_suspended: bool,
    /// Number of open mailboxes.
    pub(crate) mailboxes: u64,
    /// Announced sizes of its blobs.
    pub(crate) blob_bytes: u64,
    pub(crate) lane: LaneSummary,
}

impl Store {
    /// Lists accounts by id: those after `after`, between `first` and `last`.
    pub(crate) async fn list_accounts(
        &self,
        now: Timestamp,
        (first, last): (AccountId, AccountId),
        after: Option<AccountId>,
        limit: usize,
    ) -> Result<Page<AccountSummary, AccountId>, StoreError> {
        let sql = format!(
            "{} WHERE a.id BETWEEN ?1 AND ?2 AND a.id > ?3 ORDER BY a.id LIMIT ?4",
            accounts_sql()
        );
        self.read(move |db| {
            let after = after.map(|id| id.as_bytes().to_vec()).unwrap_or_default();
            let params = params![
                first.as_bytes(),
                last.as_bytes(),
                after,
                sql_limit(limit + 1)
            ];
            let found = query::all_rows(db, &sql, params, |row| read(row, now))?;
            Ok(Page::new(found, limit, |account| Some(account.account)))
        })
        .await
    }

    pub(crate) async fn load_account_summary(
        &self,
        now: Timestamp,
        account: AccountId,
    ) -> Result<Option<AccountSummary>, StoreError> {
        self.read(move |db| find(db, now, account)).await
    }

    /// Suspends or resumes an account and returns it; absent if it does not exist. The queue of
    /// a suspended account is kept; see [`lanes::load_waiting_items`].
    pub(crate) async fn set_suspended(
        &self,
        now: Timestamp,
        account: AccountId,
        suspended: bool,
    ) -> Result<Option<AccountSummary>, StoreError> {
        self.write(move |db| {
            let sql = "UPDATE accounts SET suspended = ? WHERE id = ?";
            query::execute(db, sql, params![suspended, account.as_bytes()])?;
            // Recalculates when the scheduler has to inspect the lane: never, or now.
            lanes::step(db, now, account, Event::Contact, 0)?;
            find(db, now, account)
        })
        .await
    }

    /// Sets or removes the label of an account and returns the account; absent if it does not
    /// exist.
    pub(crate) async fn set_label(
        &self,
        now: Timestamp,
        account: AccountId,
        label: Option<String>,
    ) -> Result<Option<AccountSummary>, StoreError> {
        self.write(move |db| {
            let sql = "UPDATE accounts SET label = ? WHERE id = ?";
            query::execute(db, sql, params![label, account.as_bytes()])?;
            find(db, now, account)
        })
        .await
    }
}

fn accounts_sql() -> String {
    format!(
        "SELECT a.id, a.created_at, a.mailbox_count, a.blob_bytes, {NAME_COLUMNS}, {COLUMNS}, \
             {OLDEST} AS oldest_at \
         FROM accounts a JOIN lanes l ON l.account_id = a.id"
    )
}

fn find(
    db: &Connection,
    now: Timestamp,
    account: AccountId,
) -> Result<Option<AccountSummary>, StoreError> {
    let sql = format!("{} WHERE a.id = ?", accounts_sql());
    Ok(query::first_row(db, &sql, [account.as_bytes()], |row| {
        read(row, now)
    })?)
}

fn read(row: &Row<'_>, now: Timestamp) -> Result<AccountSummary, RowError> {
    Ok(AccountSummary {
        account: row.id("id")?,
        names: AccountNames::read(row)?,
        created_at: row.timestamp("created_at")?,
        is_suspended: row.read("suspended")?,
        mailboxes: row.read("mailbox_count")?,
        blob_bytes: row.read("blob_bytes")?,
        lane: lane::read_lane_summary(row, now)?,
    })
}
