//! Typed access to the columns of a row. A value that does not parse is a [`Damaged`] error that
//! names table and column, never a default that looks plausible.
//!
//! ```
//! use rusqlite::{Connection, Row};
//! use sealpost_proto::{MailboxId, Timestamp};
//! use sealpost_sqlite::{RowError, RowExt as _, query};
//!
//! struct Mailbox {
//!     id: MailboxId,
//!     envelopes: u64,
//!     closed_at: Option<Timestamp>,
//! }
//!
//! fn mailbox(row: &Row<'_>) -> Result<Mailbox, RowError> {
//!     Ok(Mailbox {
//!         id: row.id("mailbox")?,
//!         envelopes: row.read("envelopes")?,
//!         closed_at: row.optional_timestamp("closed_at")?,
//!     })
//! }
//!
//! fn load_mailboxes(db: &Connection) -> Result<Vec<Mailbox>, RowError> {
//!     query::all_rows(db, "SELECT mailbox, envelopes, closed_at FROM mailboxes", [], mailbox)
//! }
//! ```

use crate::Failure;
use rusqlite::{
    Row, RowIndex,
    types::{FromSql, FromSqlError, ValueRef},
};
use sealpost_proto::Timestamp;
use std::borrow::Cow;

/// A stored row with a value that this program cannot have written: the file was damaged or edited.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the row of {table} cannot be read: {column} {problem}")]
pub struct Damaged {
    /// Table of the column, or `(expression)` for a computed column.
    pub table: Cow<'static, str>,
    /// Name of the column.
    pub column: Cow<'static, str>,
    /// What is wrong, as the rest of a sentence that begins with the column. It never contains the
    /// value, which may be secret.
    pub problem: &'static str,
}

impl Damaged {
    const INVALID: &'static str = "has an invalid value";

    /// Reports a value that was read but does not make sense, such as a sealed column whose content
    /// does not decode.
    #[must_use]
    pub const fn new(table: &'static str, column: &'static str) -> Self {
        Self {
            table: Cow::Borrowed(table),
            column: Cow::Borrowed(column),
            problem: Self::INVALID,
        }
    }
}

/// Why rows were not read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RowError {
    /// A row has a value that does not parse.
    #[error(transparent)]
    Damaged(#[from] Damaged),
    /// SQLite failed.
    #[error(transparent)]
    Failed(#[from] Failure),
}

impl From<rusqlite::Error> for RowError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Failed(error.into())
    }
}

/// The result of a parser: an [`Option`] or a [`Result`] whose error is discarded.
pub trait Parsed {
    /// What the parser produces.
    type Value;
    /// Returns the value, or nothing when the input was invalid.
    fn ok(self) -> Option<Self::Value>;
}

impl<T> Parsed for Option<T> {
    type Value = T;
    fn ok(self) -> Option<T> {
        self
    }
}

impl<T, E> Parsed for Result<T, E> {
    type Value = T;
    fn ok(self) -> Option<T> {
        self.ok()
    }
}

/// Typed readers for the columns of a [`Row`], by name or by position.
///
/// Each returns [`RowError::Damaged`] when the column does not have the expected form. A method
/// without `optional_` treats `NULL` as damage; one with it maps `NULL` to [`None`].
pub trait RowExt {
    /// Reads a value that needs no parsing: text, bytes, `bool`, signed numbers, unsigned numbers
    /// (a negative number is damage), arrays of bytes of exactly that length, or an [`Option`] of
    /// these.
    fn read<T: FromSql>(&self, column: impl RowIndex) -> Result<T, RowError>;

    /// Reads a value and passes it through `convert`, for example a number to an enum.
    fn convert<V, P>(
        &self,
        column: impl RowIndex,
        convert: impl FnOnce(V) -> P,
    ) -> Result<P::Value, RowError>
    where
        V: FromSql,
        P: Parsed;

    /// Reads a value that may be `NULL` and passes it through `convert`.
    fn optional_convert<V, P>(
        &self,
        column: impl RowIndex,
        convert: impl FnOnce(V) -> P,
    ) -> Result<Option<P::Value>, RowError>
    where
        V: FromSql,
        P: Parsed;

    /// Reads text and parses it, for example a status with its `parse` function.
    fn parse<P: Parsed>(
        &self,
        column: impl RowIndex,
        parse: impl FnOnce(&str) -> P,
    ) -> Result<P::Value, RowError>;

    /// Reads text that may be `NULL` and parses it.
    fn optional_parse<P: Parsed>(
        &self,
        column: impl RowIndex,
        parse: impl FnOnce(&str) -> P,
    ) -> Result<Option<P::Value>, RowError>;

    /// Reads an id that is stored as its raw bytes.
    fn id<T>(&self, column: impl RowIndex) -> Result<T, RowError>
    where
        T: for<'b> TryFrom<&'b [u8]>;

    /// Reads an id that is stored as its raw bytes and may be `NULL`.
    fn optional_id<T>(&self, column: impl RowIndex) -> Result<Option<T>, RowError>
    where
        T: for<'b> TryFrom<&'b [u8]>;

    /// Reads a time that is stored as Unix milliseconds.
    fn timestamp(&self, column: impl RowIndex) -> Result<Timestamp, RowError>;

    /// Reads a time that is stored as Unix milliseconds and may be `NULL`.
    fn optional_timestamp(&self, column: impl RowIndex) -> Result<Option<Timestamp>, RowError>;

    /// Returns the error for a column whose value contradicts the others of its row.
    fn damaged(&self, column: impl RowIndex) -> RowError;
}

impl RowExt for Row<'_> {
    fn read<T: FromSql>(&self, column: impl RowIndex) -> Result<T, RowError> {
        T::column_result(self.get_ref(column)?)
            .map_err(|error| damaged(self, column, describe_problem(self, column, &error)))
    }

    fn convert<V, P>(
        &self,
        column: impl RowIndex,
        convert: impl FnOnce(V) -> P,
    ) -> Result<P::Value, RowError>
    where
        V: FromSql,
        P: Parsed,
    {
        let value = convert(self.read(column)?).ok();
        value.ok_or_else(|| self.damaged(column))
    }

    fn optional_convert<V, P>(
        &self,
        column: impl RowIndex,
        convert: impl FnOnce(V) -> P,
    ) -> Result<Option<P::Value>, RowError>
    where
        V: FromSql,
        P: Parsed,
    {
        non_null(self, column)?
            .then(|| self.convert(column, convert))
            .transpose()
    }

    fn parse<P: Parsed>(
        &self,
        column: impl RowIndex,
        parse: impl FnOnce(&str) -> P,
    ) -> Result<P::Value, RowError> {
        let text = self.get_ref(column)?.as_str();
        let text =
            text.map_err(|error| damaged(self, column, describe_problem(self, column, &error)))?;
        parse(text).ok().ok_or_else(|| self.damaged(column))
    }

    fn optional_parse<P: Parsed>(
        &self,
        column: impl RowIndex,
        parse: impl FnOnce(&str) -> P,
    ) -> Result<Option<P::Value>, RowError> {
        non_null(self, column)?
            .then(|| self.parse(column, parse))
            .transpose()
    }

    fn id<T>(&self, column: impl RowIndex) -> Result<T, RowError>
    where
        T: for<'b> TryFrom<&'b [u8]>,
    {
        let bytes = self.get_ref(column)?.as_bytes();
        let bytes =
            bytes.map_err(|error| damaged(self, column, describe_problem(self, column, &error)))?;
        T::try_from(bytes).map_err(|_| self.damaged(column))
    }

    fn optional_id<T>(&self, column: impl RowIndex) -> Result<Option<T>, RowError>
    where
        T: for<'b> TryFrom<&'b [u8]>,
    {
        non_null(self, column)?.then(|| self.id(column)).transpose()
    }

    fn timestamp(&self, column: impl RowIndex) -> Result<Timestamp, RowError> {
        self.read(column).map(Timestamp::from_millis)
    }

    fn optional_timestamp(&self, column: impl RowIndex) -> Result<Option<Timestamp>, RowError> {
        let millis: Option<u64> = self.read(column)?;
        Ok(millis.map(Timestamp::from_millis))
    }

    fn damaged(&self, column: impl RowIndex) -> RowError {
        damaged(self, column, Damaged::INVALID)
    }
}

/// Converts a count to SQLite's signed 64-bit integer, saturating at `i64::MAX`.
#[must_use]
pub fn to_integer(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// Converts a time to the Unix milliseconds that [`RowExt::timestamp`] reads.
#[must_use]
pub fn to_millis(time: Timestamp) -> i64 {
    to_integer(time.as_millis())
}

fn non_null(row: &Row<'_>, column: impl RowIndex) -> rusqlite::Result<bool> {
    Ok(row.get_ref(column)? != ValueRef::Null)
}

fn describe_problem(row: &Row<'_>, column: impl RowIndex, error: &FromSqlError) -> &'static str {
    match error {
        FromSqlError::InvalidType if !non_null(row, column).unwrap_or(true) => "is missing",
        FromSqlError::InvalidType => "has the wrong type",
        FromSqlError::OutOfRange(_) => "is out of range",
        FromSqlError::Utf8Error(_) => "is not UTF-8",
        FromSqlError::InvalidBlobSize { .. } => "has the wrong length",
        _ => Damaged::INVALID,
    }
}

/// Names the column as the schema does; an alias in the statement does not hide it.
fn damaged(row: &Row<'_>, column: impl RowIndex, problem: &'static str) -> RowError {
    let statement = row.as_ref();
    let metadata = column
        .idx(statement)
        .ok()
        .and_then(|index| statement.columns_with_metadata().nth(index));
    let table = metadata.as_ref().and_then(|column| column.table_name());
    let name = metadata
        .as_ref()
        .map(|column| column.origin_name().unwrap_or_else(|| column.name()));
    RowError::Damaged(Damaged {
        table: table.map_or("(expression)".into(), |table| table.to_owned().into()),
        column: name.map_or("(unknown)".into(), |name| name.to_owned().into()),
        problem,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::query;
    use rusqlite::Connection;
    use sealpost_proto::{EnvelopeState, MailboxId, Origin};

    fn read<T>(
        value: &str,
        read: impl FnOnce(&Row<'_>) -> Result<T, RowError>,
    ) -> Result<Option<T>, String> {
        let db = Connection::open_in_memory().unwrap();
        db.execute_batch(&format!(
            "CREATE TABLE items (held ANY) STRICT; INSERT INTO items VALUES ({value})"
        ))
        .unwrap();
        query::first_row(&db, "SELECT i.held AS alias FROM items i", [], read)
            .map_err(|error| error.to_string())
    }

    fn damaged(problem: &str) -> String {
        format!("the row of items cannot be read: held {problem}")
    }

    #[test]
    fn valid_columns_are_read() {
        assert_eq!(read("7", |row| row.read::<u64>("alias")), Ok(Some(7)));
        assert_eq!(
            read("7", |row| row.timestamp("alias")),
            Ok(Some(Timestamp::from_millis(7)))
        );
        assert_eq!(
            read("zeroblob(16)", |row| row.id("alias")),
            Ok(Some(MailboxId::from_bytes([0; 16])))
        );
        assert_eq!(
            read("'queued'", |row| row.parse(0, EnvelopeState::parse)),
            Ok(Some(EnvelopeState::Queued))
        );
        assert_eq!(
            read("3", |row| row.convert("alias", |n: u8| n.checked_sub(1))),
            Ok(Some(2))
        );
    }

    #[test]
    fn null_is_none_only_when_optional() {
        assert_eq!(
            read("NULL", |row| row.optional_timestamp("alias")),
            Ok(Some(None))
        );
        assert_eq!(
            read("NULL", |row| row.optional_id::<MailboxId>("alias")),
            Ok(Some(None))
        );
        assert_eq!(
            read("NULL", |row| row.optional_parse("alias", Origin::parse)),
            Ok(Some(None))
        );
        assert_eq!(
            read("NULL", |row| row.timestamp("alias")),
            Err(damaged("is missing"))
        );
    }

    #[test]
    fn damage_names_the_column() {
        assert_eq!(
            read("-1", |row| row.read::<u64>("alias")),
            Err(damaged("is out of range"))
        );
        assert_eq!(
            read("-1", |row| row.optional_timestamp("alias")),
            Err(damaged("is out of range"))
        );
        assert_eq!(
            read("'x'", |row| row.timestamp("alias")),
            Err(damaged("has the wrong type"))
        );
        assert_eq!(
            read("zeroblob(15)", |row| row.id::<MailboxId>("alias")),
            Err(damaged("has an invalid value"))
        );
        assert_eq!(
            read("zeroblob(15)", |row| row.read::<[u8; 16]>("alias")),
            Err(damaged("has the wrong length"))
        );
        assert_eq!(
            read("'lost'", |row| row.parse("alias", EnvelopeState::parse)),
            Err(damaged("has an invalid value"))
        );
        assert_eq!(
            read("0", |row| row.convert("alias", |n: u8| n.checked_sub(1))),
            Err(damaged("has an invalid value"))
        );
    }

    #[test]
    fn misspelt_columns_are_not_damage() {
        let error = read("1", |row| row.read::<u64>("typo")).unwrap_err();
        assert!(error.starts_with("the database failed"), "{error}");
    }
}
