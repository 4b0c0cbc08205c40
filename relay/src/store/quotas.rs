//! What an account may hold where the operator said something else than for all, and what it holds.

use super::{
    Store, StoreError,
    rows::{count, first, row, run},
};
use rusqlite::{Connection, Row, params};
use sealpost_proto::AccountId;
use sealpost_relay_core::{
    QuotaOverrides, Quotas,
    quota::{Held, HeldBlobs},
};

/// What one account holds, and what the operator said of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AccountQuota {
    /// What differs from what is said for all.
    pub(crate) overrides: QuotaOverrides,
    /// What waits in its mailboxes.
    pub(crate) queue: Held,
    /// Its open mailboxes.
    pub(crate) mailboxes: u64,
    /// Its blobs.
    pub(crate) blobs: HeldBlobs,
}

impl Store {
    /// Says what of the quotas is different for one account, in place of what was said before; nothing different makes it as
    /// all others. It counts from the next request on, and what is held beyond it stays. False when there is no such account.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) async fn set_quota(
        &self,
        account: AccountId,
        overrides: QuotaOverrides,
    ) -> Result<bool, StoreError> {
        self.write(move |db| set(db, account, &overrides)).await
    }

    /// What an account holds and what was said of it; absent when there is no such account.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) async fn quota_of(
        &self,
        account: AccountId,
    ) -> Result<Option<AccountQuota>, StoreError> {
        let sql = "SELECT a.mailboxes, a.blobs, a.blob_bytes, l.envelopes, l.bytes, q.overrides FROM accounts a \
                   JOIN lanes l ON l.account = a.account LEFT JOIN quotas q ON q.account = a.account \
                   WHERE a.account = ?";
        self.read(move |db| {
            row(db, sql, [account.as_bytes()], |row| {
                Ok(AccountQuota {
                    overrides: read(row)?.unwrap_or_default(),
                    queue: Held {
                        envelopes: count(row, "envelopes")?,
                        bytes: count(row, "bytes")?,
                    },
                    mailboxes: count(row, "mailboxes")?,
                    blobs: HeldBlobs {
                        blobs: count(row, "blobs")?,
                        bytes: count(row, "blob_bytes")?,
                    },
                })
            })
        })
        .await
    }
}

/// The quotas of an account.
pub(super) fn of(
    db: &Connection,
    account: AccountId,
    for_all: &Quotas,
) -> Result<Quotas, StoreError> {
    let own = row(
        db,
        "SELECT overrides FROM quotas WHERE account = ?",
        [account.as_bytes()],
        read,
    )?
    .flatten();
    Ok(own.map_or_else(|| for_all.clone(), |own| for_all.with(&own)))
}

/// Reads the column `overrides`.
pub(super) fn read(row: &Row<'_>) -> rusqlite::Result<Option<QuotaOverrides>> {
    let Some(text) = row.get_ref("overrides")?.as_str_or_null()? else {
        return Ok(None);
    };
    serde_json::from_str(text).map(Some).map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(0, rusqlite::types::Type::Text, Box::new(error))
    })
}

fn set(
    db: &Connection,
    account: AccountId,
    overrides: &QuotaOverrides,
) -> Result<bool, StoreError> {
    let id = account.as_bytes();
    if first::<i64>(db, "SELECT 1 FROM accounts WHERE account = ?", [id])?.is_none() {
        return Ok(false);
    }
    if *overrides == QuotaOverrides::default() {
        run(db, "DELETE FROM quotas WHERE account = ?", [id])?;
        return Ok(true);
    }
    let text = serde_json::to_string(overrides).map_err(|error| StoreError::Failed {
        reason: error.to_string(),
    })?;
    run(
        db,
        "INSERT OR REPLACE INTO quotas (account, overrides) VALUES (?, ?)",
        params![id, text],
    )?;
    Ok(true)
}
