//! Statements and the rows they return. Each statement is prepared once per connection.

use crate::{RowError, RowExt as _};
use rusqlite::{Connection, Params, Row, types::FromSql};

/// Runs a statement and returns the number of rows that it changed.
///
/// # Errors
/// Returns [`RowError::Failed`] if SQLite fails.
pub fn execute(db: &Connection, sql: &str, params: impl Params) -> Result<usize, RowError> {
    Ok(db.prepare_cached(sql)?.execute(params)?)
}

/// Reads the first column of the first row, if there is a row.
///
/// # Errors
/// Returns [`RowError::Damaged`] if the column has another type; [`RowError::Failed`] when SQLite
/// fails.
pub fn first_value<T: FromSql>(
    db: &Connection,
    sql: &str,
    params: impl Params,
) -> Result<Option<T>, RowError> {
    first_row(db, sql, params, |row| row.read(0))
}

/// Reads the first row, if there is one.
///
/// # Errors
/// What `read` returns; [`RowError::Failed`] when SQLite fails.
pub fn first_row<T>(
    db: &Connection,
    sql: &str,
    params: impl Params,
    read: impl FnOnce(&Row<'_>) -> Result<T, RowError>,
) -> Result<Option<T>, RowError> {
    let mut statement = db.prepare_cached(sql)?;
    statement.query(params)?.next()?.map(read).transpose()
}

/// Reads all rows.
///
/// # Errors
/// The first error that `read` returns; [`RowError::Failed`] when SQLite fails.
pub fn all_rows<T>(
    db: &Connection,
    sql: &str,
    params: impl Params,
    read: impl FnMut(&Row<'_>) -> Result<T, RowError>,
) -> Result<Vec<T>, RowError> {
    let mut statement = db.prepare_cached(sql)?;
    statement.query_and_then(params, read)?.collect()
}
