//! Accounts as the operator sees them, and what is done to them.

use super::lane::{self, COLUMNS, OLDEST};
use crate::{
    admin::model::{Account, Accounts},
    store::{
        Store, StoreError, accounts, lanes,
        rows::{count, int, row, rows, run, time},
    },
};
use rusqlite::{Connection, Row, params};
use sealpost_proto::{AccountId, Timestamp};
use sealpost_relay_core::Event;

impl Store {
    /// A page of accounts by id: those after `after`, between `first` and `last`.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) async fn accounts(
        &self,
        now: Timestamp,
        between: (AccountId, AccountId),
        after: Option<AccountId>,
        limit: usize,
    ) -> Result<Accounts, StoreError> {
        let sql = format!(
            "{} WHERE a.account BETWEEN ?1 AND ?2 AND a.account > ?3 ORDER BY a.account LIMIT ?4",
            select_accounts()
        );
        self.read(move |db| {
            let after = after.map(|id| id.as_bytes().to_vec()).unwrap_or_default();
            let bounds = params![
                between.0.as_bytes(),
                between.1.as_bytes(),
                after,
                int(limit as u64) + 1
            ];
            let mut accounts = rows(db, &sql, bounds, |row| account(row, now))?;
            let more = accounts.len() > limit;
            accounts.truncate(limit);
            let next = accounts
                .last()
                .map(|account| account.account_id.to_string())
                .filter(|_| more);
            Ok(Accounts {
                relay_time: now,
                accounts,
                next,
            })
        })
        .await
    }

    /// One account as the operator sees it.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) async fn seen_account(
        &self,
        now: Timestamp,
        id: AccountId,
    ) -> Result<Option<Account>, StoreError> {
        self.read(move |db| find(db, now, id)).await
    }

    /// Suspends an account or lets it go on, and shows it; absent when there is none. What waits for a suspended account
    /// stays where it is and does not go out; see [`lanes::waiting`].
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) async fn suspend(
        &self,
        now: Timestamp,
        id: AccountId,
        suspended: bool,
    ) -> Result<Option<Account>, StoreError> {
        self.write(move |db| {
            run(
                db,
                "UPDATE accounts SET suspended = ? WHERE account = ?",
                params![suspended, id.as_bytes()],
            )?;
            // Writes down when the scheduler has to look: never, or now.
            lanes::step(db, now, id, Event::Contact, 0)?;
            find(db, now, id)
        })
        .await
    }

    /// Removes an account as [`Store::delete_account`] does. False when there is none.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) async fn expel(&self, now: Timestamp, id: AccountId) -> Result<bool, StoreError> {
        self.write(move |db| {
            let known = find(db, now, id)?.is_some();
            accounts::delete(db, now, id)?;
            Ok(known)
        })
        .await
    }
}

fn select_accounts() -> String {
    format!(
        "SELECT a.account, a.created_at, a.mailboxes, a.blob_bytes, {COLUMNS}, {OLDEST} AS oldest_at \
         FROM accounts a JOIN lanes l ON l.account = a.account"
    )
}

fn find(db: &Connection, now: Timestamp, id: AccountId) -> Result<Option<Account>, StoreError> {
    let sql = format!("{} WHERE a.account = ?", select_accounts());
    row(db, &sql, [id.as_bytes()], |row| account(row, now))
}

fn account(row: &Row<'_>, now: Timestamp) -> rusqlite::Result<Account> {
    Ok(Account {
        account_id: AccountId::from_bytes(row.get("account")?),
        created_at: time(row, "created_at")?,
        suspended: row.get("suspended")?,
        mailboxes: count(row, "mailboxes")?,
        blob_bytes: count(row, "blob_bytes")?,
        lane: lane::read(row, now)?,
    })
}
