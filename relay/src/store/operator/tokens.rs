//! Registration tokens that the operator created. Only their digests are stored.

use super::Page;
use crate::store::{Store, StoreError, rows::sql_limit};
use rusqlite::{Connection, Row, params};
use sealpost_proto::{ErrorCode, Timestamp, limits::REGISTRATION_TOKENS_MAX};
use sealpost_sqlite::{RowError, RowExt as _, query, to_integer, to_millis};

/// Registration token that the operator creates.
#[derive(Debug, Clone)]
pub(crate) struct NewRegistrationToken {
    pub(crate) name: String,
    /// SHA-256 of the secret.
    pub(crate) digest: [u8; 32],
    /// Number of accounts that may register with it; absent for any number.
    pub(crate) uses_max: Option<u64>,
    pub(crate) expires_at: Option<Timestamp>,
}

/// Stored registration token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RegistrationToken {
    pub(crate) name: String,
    /// Number of accounts that registered with it.
    pub(crate) used: u64,
    /// Number of accounts that may still register; absent for any number.
    pub(crate) uses_left: Option<u64>,
    pub(crate) expires_at: Option<Timestamp>,
    pub(crate) created_at: Timestamp,
    pub(crate) last_used_at: Option<Timestamp>,
}

const COLUMNS: &str = "name, used, uses_left, expires_at, created_at, last_used_at";

impl Store {
    /// Stores a token. The inner error is `conflict` if the name is in use, or `quota_exceeded` if
    /// there are too many.
    pub(crate) async fn create_token(
        &self,
        now: Timestamp,
        new: NewRegistrationToken,
    ) -> Result<Result<RegistrationToken, ErrorCode>, StoreError> {
        self.write(move |db| create(db, now, new)).await
    }

    /// Lists tokens by name.
    pub(crate) async fn list_tokens(
        &self,
        after: Option<String>,
        limit: usize,
    ) -> Result<Page<RegistrationToken, String>, StoreError> {
        let sql = format!(
            "SELECT {COLUMNS} FROM registration_tokens WHERE name > ? ORDER BY name LIMIT ?"
        );
        self.read(move |db| {
            let params = params![after.unwrap_or_default(), sql_limit(limit + 1)];
            let found = query::all_rows(db, &sql, params, read)?;
            Ok(Page::new(found, limit, |token| Some(token.name.clone())))
        })
        .await
    }

    /// Deletes a token, so that nobody can register with it any more. Returns false if it does not
    /// exist.
    pub(crate) async fn revoke_token(&self, name: String) -> Result<bool, StoreError> {
        let sql = "DELETE FROM registration_tokens WHERE name = ?";
        self.write(move |db| Ok(query::execute(db, sql, [name])? == 1))
            .await
    }
}

fn read(row: &Row<'_>) -> Result<RegistrationToken, RowError> {
    Ok(RegistrationToken {
        name: row.read("name")?,
        used: row.read("used")?,
        uses_left: row.read("uses_left")?,
        expires_at: row.optional_timestamp("expires_at")?,
        created_at: row.timestamp("created_at")?,
        last_used_at: row.optional_timestamp("last_used_at")?,
    })
}

fn create(
    db: &Connection,
    now: Timestamp,
    new: NewRegistrationToken,
) -> Result<Result<RegistrationToken, ErrorCode>, StoreError> {
    let sql = "SELECT count(*) AS number FROM registration_tokens";
    let stored: Option<u64> = query::first_value(db, sql, [])?;
    if stored.unwrap_or_default() >= REGISTRATION_TOKENS_MAX {
        return Ok(Err(ErrorCode::QuotaExceeded));
    }
    let inserted = query::execute(
        db,
        "INSERT INTO registration_tokens (name, digest, uses_left, expires_at, created_at) \
         VALUES (?, ?, ?, ?, ?) ON CONFLICT (name) DO NOTHING",
        params![
            new.name,
            new.digest,
            new.uses_max.map(to_integer),
            new.expires_at.map(to_millis),
            to_millis(now)
        ],
    )?;
    if inserted == 0 {
        return Ok(Err(ErrorCode::Conflict));
    }
    Ok(Ok(RegistrationToken {
        name: new.name,
        used: 0,
        uses_left: new.uses_max,
        expires_at: new.expires_at,
        created_at: now,
        last_used_at: None,
    }))
}

/// Returns the name of the token with this digest, if it is valid.
pub(in crate::store) fn find_valid(
    db: &Connection,
    now: Timestamp,
    digest: [u8; 32],
) -> Result<Option<String>, StoreError> {
    let sql = "SELECT name FROM registration_tokens WHERE digest = ? \
               AND (uses_left IS NULL OR uses_left > 0) AND (expires_at IS NULL OR expires_at > ?)";
    let params = params![digest, to_millis(now)];
    Ok(query::first_value(db, sql, params)?)
}

/// Counts an account that registered with a token.
pub(in crate::store) fn use_token(
    db: &Connection,
    now: Timestamp,
    name: &str,
) -> Result<(), StoreError> {
    let sql = "UPDATE registration_tokens SET used = used + 1, uses_left = uses_left - 1, \
               last_used_at = ? WHERE name = ?";
    query::execute(db, sql, params![to_millis(now), name])?;
    Ok(())
}
