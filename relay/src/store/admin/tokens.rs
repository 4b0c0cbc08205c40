//! Registration tokens that the operator made. Only their digests are kept.

use crate::{
    admin::model::{Token, Tokens},
    store::{
        Store, StoreError,
        rows::{count, first, int, maybe_time, millis, rows, run, time},
    },
};
use rusqlite::{Connection, Row, params};
use sealpost_proto::{ErrorCode, Timestamp, limits::REGISTRATION_TOKENS_MAX};

/// A token to be kept.
#[derive(Debug, Clone)]
pub(crate) struct NewRegistrationToken {
    /// What the operator calls it.
    pub(crate) name: String,
    /// SHA-256 of the secret.
    pub(crate) digest: [u8; 32],
    /// For how many accounts it is good.
    pub(crate) uses: Option<u64>,
    /// When it ends.
    pub(crate) expires_at: Option<Timestamp>,
}

const COLUMNS: &str = "name, uses, uses_left, expires_at, created_at, last_used_at";

impl Store {
    /// Keeps a token.
    ///
    /// # Errors
    /// [`StoreError`]; inside, `conflict` when the name is in use, `quota_exceeded` when there are too many.
    pub(crate) async fn create_token(
        &self,
        now: Timestamp,
        new: NewRegistrationToken,
    ) -> Result<Result<Token, ErrorCode>, StoreError> {
        self.write(move |db| create(db, now, new)).await
    }

    /// A page of tokens by name.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) async fn tokens(
        &self,
        now: Timestamp,
        after: Option<String>,
        limit: usize,
    ) -> Result<Tokens, StoreError> {
        let sql = format!(
            "SELECT {COLUMNS} FROM registration_tokens WHERE name > ? ORDER BY name LIMIT ?"
        );
        self.read(move |db| {
            let mut tokens = rows(
                db,
                &sql,
                params![after.unwrap_or_default(), int(limit as u64) + 1],
                token,
            )?;
            let more = tokens.len() > limit;
            tokens.truncate(limit);
            let next = tokens
                .last()
                .map(|token| token.name.clone())
                .filter(|_| more);
            Ok(Tokens {
                relay_time: now,
                tokens,
                next,
            })
        })
        .await
    }

    /// Forgets a token: nobody registers with it any more. False when there is none.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) async fn revoke_token(&self, name: String) -> Result<bool, StoreError> {
        self.write(move |db| {
            Ok(run(db, "DELETE FROM registration_tokens WHERE name = ?", [name])? == 1)
        })
        .await
    }
}

fn token(row: &Row<'_>) -> rusqlite::Result<Token> {
    Ok(Token {
        name: row.get("name")?,
        uses: count(row, "uses")?,
        uses_left: row.get("uses_left")?,
        expires_at: maybe_time(row, "expires_at")?,
        created_at: time(row, "created_at")?,
        last_used_at: maybe_time(row, "last_used_at")?,
    })
}

fn create(
    db: &Connection,
    now: Timestamp,
    new: NewRegistrationToken,
) -> Result<Result<Token, ErrorCode>, StoreError> {
    let held: Option<i64> = first(db, "SELECT count(*) FROM registration_tokens", [])?;
    if held.unwrap_or_default() >= int(REGISTRATION_TOKENS_MAX) {
        return Ok(Err(ErrorCode::QuotaExceeded));
    }
    let made = run(
        db,
        "INSERT INTO registration_tokens (name, digest, uses_left, expires_at, created_at) VALUES (?, ?, ?, ?, ?) \
         ON CONFLICT (name) DO NOTHING",
        params![
            new.name,
            new.digest,
            new.uses.map(int),
            new.expires_at.map(millis),
            millis(now)
        ],
    )?;
    if made == 0 {
        return Ok(Err(ErrorCode::Conflict));
    }
    Ok(Ok(Token {
        name: new.name,
        uses: 0,
        uses_left: new.uses,
        expires_at: new.expires_at,
        created_at: now,
        last_used_at: None,
    }))
}

/// The name of the token with this digest, while it is good.
pub(in crate::store) fn find_good(
    db: &Connection,
    now: Timestamp,
    digest: [u8; 32],
) -> Result<Option<String>, StoreError> {
    let sql = "SELECT name FROM registration_tokens WHERE digest = ? \
               AND (uses_left IS NULL OR uses_left > 0) AND (expires_at IS NULL OR expires_at > ?)";
    first(db, sql, params![digest, millis(now)])
}

/// Counts an account that was registered with a token.
pub(in crate::store) fn spend(
    db: &Connection,
    now: Timestamp,
    name: &str,
) -> Result<(), StoreError> {
    let sql = "UPDATE registration_tokens SET uses = uses + 1, uses_left = uses_left - 1, last_used_at = ? \
               WHERE name = ?";
    run(db, sql, params![millis(now), name])?;
    Ok(())
}
