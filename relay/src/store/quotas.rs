//! Per-account quota overrides and usage.

use super::{
    Store, StoreError, accounts,
    operator::accounts::{AccountNames, NAME_COLUMNS},
};
use rusqlite::{Connection, Row, params};
use sealpost_proto::AccountId;
use sealpost_relay_core::{
    QuotaOverrides, Quotas,
    quota::{BlobUsage, EnvelopeUsage},
};
use sealpost_sqlite::{RowError, RowExt as _, query};

/// Quota overrides and usage of one account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AccountQuota {
    pub(crate) names: AccountNames,
    pub(crate) overrides: QuotaOverrides,
    /// Envelopes that wait in its mailboxes.
    pub(crate) envelopes: EnvelopeUsage,
    /// Number of open mailboxes.
    pub(crate) mailboxes: u64,
    pub(crate) blobs: BlobUsage,
}

impl Store {
    /// Replaces the quota overrides of an account; empty overrides restore the default quotas. The
    /// change takes effect with the next request. Data above the new quotas is kept. Returns false
    /// if the account does not exist.
    pub(crate) async fn replace_quota_overrides(
        &self,
        account: AccountId,
        overrides: QuotaOverrides,
    ) -> Result<bool, StoreError> {
        self.write(move |db| replace_overrides(db, account, &overrides))
            .await
    }

    pub(crate) async fn load_account_quota(
        &self,
        account: AccountId,
    ) -> Result<Option<AccountQuota>, StoreError> {
        let sql = format!(
            "SELECT a.mailbox_count, a.blob_count, a.blob_bytes, {NAME_COLUMNS}, \
                 l.waiting_envelopes, l.waiting_bytes, q.overrides \
             FROM accounts a \
             JOIN lanes l ON l.account_id = a.id \
             LEFT JOIN quota_overrides q ON q.account_id = a.id \
             WHERE a.id = ?"
        );
        self.read(move |db| {
            Ok(query::first_row(db, &sql, [account.as_bytes()], |row| {
                Ok(AccountQuota {
                    names: AccountNames::read(row)?,
                    overrides: read_overrides(row)?.unwrap_or_default(),
                    envelopes: EnvelopeUsage {
                        envelopes: row.read("waiting_envelopes")?,
                        bytes: row.read("waiting_bytes")?,
                    },
                    mailboxes: row.read("mailbox_count")?,
                    blobs: BlobUsage {
                        blobs: row.read("blob_count")?,
                        bytes: row.read("blob_bytes")?,
                    },
                })
            })?)
        })
        .await
    }
}

/// Loads the effective quotas of an account: the defaults with its overrides.
pub(super) fn load_quotas(
    db: &Connection,
    account: AccountId,
    default_quotas: &Quotas,
) -> Result<Quotas, StoreError> {
    let sql = "SELECT overrides FROM quota_overrides WHERE account_id = ?";
    let overrides = query::first_row(db, sql, [account.as_bytes()], read_overrides)?.flatten();
    Ok(overrides.map_or_else(
        || default_quotas.clone(),
        |overrides| default_quotas.with_overrides(&overrides),
    ))
}

/// Reads the column `overrides`.
pub(super) fn read_overrides(row: &Row<'_>) -> Result<Option<QuotaOverrides>, RowError> {
    row.optional_parse("overrides", |text| serde_json::from_str(text))
}

fn replace_overrides(
    db: &Connection,
    account: AccountId,
    overrides: &QuotaOverrides,
) -> Result<bool, StoreError> {
    let id = account.as_bytes();
    if !accounts::is_registered(db, account)? {
        return Ok(false);
    }
    if *overrides == QuotaOverrides::default() {
        query::execute(db, "DELETE FROM quota_overrides WHERE account_id = ?", [id])?;
        return Ok(true);
    }
    let text = serde_json::to_string(overrides).map_err(|error| StoreError::Failed {
        reason: error.to_string(),
    })?;
    let sql = "INSERT OR REPLACE INTO quota_overrides (account_id, overrides) VALUES (?, ?)";
    query::execute(db, sql, params![id, text])?;
    Ok(true)
}
