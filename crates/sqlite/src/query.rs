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

/// Reads rows until their sizes exceed `bytes_max` in total. The last row is the one that exceeds
/// it, so that the caller sees that there are more; at least two rows are read. `read` returns a
/// row with its size.
///
/// # Errors
/// The first error that `read` returns; [`RowError::Failed`] when SQLite fails.
pub fn leading_rows<T>(
    db: &Connection,
    sql: &str,
    params: impl Params,
    bytes_max: usize,
    mut read: impl FnMut(&Row<'_>) -> Result<(T, usize), RowError>,
) -> Result<Vec<T>, RowError> {
    let mut statement = db.prepare_cached(sql)?;
    let mut rows = statement.query(params)?;
    let (mut leading, mut bytes) = (Vec::new(), 0_usize);
    while let Some(row) = rows.next()? {
        let (row, size) = read(row)?;
        leading.push(row);
        bytes = bytes.saturating_add(size);
        if bytes > bytes_max && leading.len() > 1 {
            break;
        }
    }
    Ok(leading)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leading_rows_end_with_the_one_too_many() {
        let db = Connection::open_in_memory().unwrap();
        let sql = "WITH RECURSIVE n (x) AS (VALUES (1) UNION ALL SELECT x + 1 FROM n WHERE x < 9)
                   SELECT x FROM n";
        let leading = |size: usize| {
            let read = |row: &Row<'_>| Ok((row.read::<i64>("x")?, size));
            leading_rows(&db, sql, [], 10, read).unwrap()
        };
        assert_eq!(leading(3), [1, 2, 3, 4]);
        assert_eq!(leading(100), [1, 2]);
        assert_eq!(leading(1).len(), 9);
    }
}
