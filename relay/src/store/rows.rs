//! How the words of the protocol stand in rows.

use super::StoreError;
use rusqlite::{Connection, Row, types::FromSql};
use sealpost_proto::{EnvelopeState, Timestamp};

/// A time or a count as SQLite keeps it.
pub(super) fn int(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// Back again.
pub(super) fn uint(value: i64) -> u64 {
    u64::try_from(value).unwrap_or_default()
}

pub(super) fn millis(at: Timestamp) -> i64 {
    int(at.as_millis())
}

pub(super) fn time(row: &Row<'_>, column: &str) -> rusqlite::Result<Timestamp> {
    Ok(Timestamp::from_millis(uint(row.get(column)?)))
}

pub(super) fn maybe_time(row: &Row<'_>, column: &str) -> rusqlite::Result<Option<Timestamp>> {
    Ok(row
        .get::<_, Option<i64>>(column)?
        .map(|at| Timestamp::from_millis(uint(at))))
}

pub(super) fn count(row: &Row<'_>, column: &str) -> rusqlite::Result<u64> {
    Ok(uint(row.get(column)?))
}

pub(super) fn small(row: &Row<'_>, column: &str) -> rusqlite::Result<u32> {
    Ok(u32::try_from(count(row, column)?).unwrap_or(u32::MAX))
}

/// The number of a state in the table `envelopes` and `events`.
pub(super) const fn state_number(state: EnvelopeState) -> i64 {
    match state {
        EnvelopeState::Queued => 0,
        EnvelopeState::Retrying => 1,
        EnvelopeState::Stored => 2,
        EnvelopeState::Recalled => 3,
        EnvelopeState::Expired => 4,
        EnvelopeState::Failed => 5,
    }
}

pub(super) fn state(row: &Row<'_>, column: &str) -> rusqlite::Result<EnvelopeState> {
    let number: i64 = row.get(column)?;
    let found = EnvelopeState::ALL
        .into_iter()
        .find(|state| state_number(*state) == number);
    found.ok_or_else(|| rusqlite::Error::IntegralValueOutOfRange(0, number))
}

/// The first column of the only row, if there is one.
pub(super) fn first<T: FromSql>(
    db: &Connection,
    sql: &str,
    params: impl rusqlite::Params,
) -> Result<Option<T>, StoreError> {
    row(db, sql, params, |row| row.get(0))
}

/// The only row, if there is one.
pub(super) fn row<T>(
    db: &Connection,
    sql: &str,
    params: impl rusqlite::Params,
    read: impl FnOnce(&Row<'_>) -> rusqlite::Result<T>,
) -> Result<Option<T>, StoreError> {
    use rusqlite::OptionalExtension as _;
    Ok(db.prepare_cached(sql)?.query_row(params, read).optional()?)
}

/// All rows.
pub(super) fn rows<T>(
    db: &Connection,
    sql: &str,
    params: impl rusqlite::Params,
    read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
) -> Result<Vec<T>, StoreError> {
    Ok(db
        .prepare_cached(sql)?
        .query_map(params, read)?
        .collect::<Result<_, _>>()?)
}

/// Runs a statement and says how many rows it changed.
pub(super) fn run(
    db: &Connection,
    sql: &str,
    params: impl rusqlite::Params,
) -> Result<usize, StoreError> {
    Ok(db.prepare_cached(sql)?.execute(params)?)
}
