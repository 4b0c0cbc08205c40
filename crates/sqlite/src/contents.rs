//! Copy of all rows of a database in memory, for simulations that set a database back to an earlier
//! state.

use rusqlite::{Connection, Error, params_from_iter, types::Value};

/// Rows of all tables of a database.
#[derive(Debug, Clone, Default)]
pub struct Contents {
    tables: Vec<(String, Vec<Vec<Value>>)>,
}

impl Contents {
    /// Copies all rows.
    ///
    /// # Errors
    /// The error of a query.
    pub fn read(sql: &Connection) -> Result<Self, Error> {
        let tables = list_tables(sql)?
            .into_iter()
            .map(|table| {
                let rows = read_rows(sql, &table)?;
                Ok((table, rows))
            })
            .collect::<Result<_, Error>>()?;
        Ok(Self { tables })
    }

    /// Replaces all rows by these, inside a transaction. The schema must be the same.
    ///
    /// # Errors
    /// The error of a statement.
    pub fn write(&self, sql: &Connection) -> Result<(), Error> {
        sql.execute_batch("PRAGMA defer_foreign_keys = ON")?;
        for table in list_tables(sql)? {
            sql.execute(&format!("DELETE FROM {table}"), [])?;
        }
        for (table, rows) in &self.tables {
            for row in rows {
                let marks = vec!["?"; row.len()].join(", ");
                let mut insert =
                    sql.prepare_cached(&format!("INSERT INTO {table} VALUES ({marks})"))?;
                insert.execute(params_from_iter(row))?;
            }
        }
        Ok(())
    }
}

/// Lists the tables; the last one holds the counters of the others, so that it is written last.
fn list_tables(sql: &Connection) -> Result<Vec<String>, Error> {
    let mut query = sql.prepare(
        "SELECT name FROM sqlite_schema WHERE type = 'table'
         ORDER BY name = 'sqlite_sequence', name",
    )?;
    query.query_map([], |row| row.get(0))?.collect()
}

fn read_rows(sql: &Connection, table: &str) -> Result<Vec<Vec<Value>>, Error> {
    let mut query = sql.prepare(&format!("SELECT * FROM {table}"))?;
    let columns = query.column_count();
    query
        .query_map([], |row| (0..columns).map(|at| row.get(at)).collect())?
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contents_are_put_back() -> Result<(), Error> {
        let sql = Connection::open_in_memory()?;
        sql.execute_batch(
            "PRAGMA foreign_keys = ON;
             CREATE TABLE child (parent INTEGER REFERENCES parent (id), value BLOB);
             CREATE TABLE parent (id INTEGER PRIMARY KEY AUTOINCREMENT);
             INSERT INTO parent DEFAULT VALUES; INSERT INTO child VALUES (1, x'00ff');",
        )?;
        let earlier = Contents::read(&sql)?;
        sql.execute_batch("INSERT INTO parent DEFAULT VALUES; UPDATE child SET parent = 2;")?;
        sql.execute_batch("BEGIN")?;
        earlier.write(&sql)?;
        sql.execute_batch("COMMIT; INSERT INTO parent DEFAULT VALUES;")?;
        let state = "SELECT (SELECT max(id) FROM parent) || ' ' || parent || ' ' || hex(value)
                     FROM child";
        let state: String = sql.query_row(state, [], |row| row.get(0))?;
        assert_eq!(state, "2 1 00FF");
        Ok(())
    }
}
