//! The node's database. Each file holds the functions that read and write the rows of one or two
//! tables inside a transaction, [`Tx`].
//!
//! A transaction is one job of the database's single writer, or one read-only snapshot. All changes
//! of a job are committed together or not at all. The rules are in `node-core`; the store only
//! records their results. Secret values are sealed before they are written.

pub(crate) mod attachments;
pub(crate) mod backup_copy;
pub(crate) mod chats;
pub(crate) mod checkpoints;
pub(crate) mod connections;
pub(crate) mod deduplication;
pub mod deliveries;
pub(crate) mod events;
pub(crate) mod files;
mod ids;
pub mod invites;
pub(crate) mod lives;
pub(crate) mod mailboxes;
pub mod messages;
pub(crate) mod node_warnings;
pub mod outbox;
pub mod postings;
pub(crate) mod receipts;
pub mod relay_jobs;
pub(crate) mod requests;
pub(crate) mod restoration;
pub(crate) mod settings;
pub(crate) mod unknown_payloads;
pub(crate) mod unreferenced_blobs;

use crate::fault::Fault;
use rand_core::CryptoRng;
use rusqlite::{Connection, Row, ToSql, types::FromSql};
use sealpost_e2ee::vault::{Column, DataKey, open_column, seal_column};
use sealpost_proto::Timestamp;
use sealpost_sqlite::{Damaged, Database, Migration, Options, RowError, query};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use zeroize::Zeroizing;

/// Schema migrations, oldest first.
pub const MIGRATIONS: &[Migration] = &[Migration {
    version: 1,
    sql: include_str!("../../migrations/0001_first.sql"),
}];

/// Options of the node's database. The application id is "SPnd" in ASCII.
pub const OPTIONS: Options = Options {
    application_id: 0x5350_6e64,
    readers: 2,
    has_secure_delete: true,
};

/// Factory of the random generator of each transaction.
pub type EntropySource = Arc<dyn Fn() -> Box<dyn CryptoRng> + Send + Sync>;

/// Database and the key that seals its secret columns.
#[derive(Clone)]
pub struct Store {
    database: Database,
    data_key: Arc<DataKey>,
    entropy: EntropySource,
    damage: Arc<DamageReport>,
}

/// Last damaged row found since the node started.
#[derive(Debug, Default)]
pub struct DamageReport(Mutex<Option<Damaged>>);

impl DamageReport {
    /// Logs and stores a fault if it reports a damaged row.
    fn record(&self, fault: &Fault) {
        if let Fault::Damaged(damaged) = fault {
            tracing::error!(table = %damaged.table, column = %damaged.column, "{damaged}");
            *self.lock() = Some(damaged.clone());
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Damaged>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store {
    /// Creates a store that uses the operating system's random generator.
    #[must_use]
    pub fn new(database: Database, data_key: Arc<DataKey>) -> Self {
        Self::with_entropy(
            database,
            data_key,
            Arc::new(|| Box::new(sealpost_service::entropy())),
        )
    }

    /// Creates a store with another source of randomness, for the reproducible simulation.
    #[must_use]
    pub fn with_entropy(
        database: Database,
        data_key: Arc<DataKey>,
        entropy: EntropySource,
    ) -> Self {
        Self {
            database,
            data_key,
            entropy,
            damage: Arc::default(),
        }
    }

    /// Returns the last damaged row found since the node started.
    #[must_use]
    pub fn damage(&self) -> Option<Damaged> {
        self.damage.lock().clone()
    }

    /// Runs a job on the writer and returns when the commit is on disk. An error means that nothing
    /// was changed.
    pub async fn write<T, F>(&self, now: Timestamp, job: F) -> Result<T, Fault>
    where
        F: FnOnce(&mut Tx<'_>) -> Result<T, Fault> + Send + 'static,
        T: Send + 'static,
    {
        let (data_key, entropy) = (Arc::clone(&self.data_key), Arc::clone(&self.entropy));
        let damage = Arc::clone(&self.damage);
        let run = move |sql: &Connection| {
            let mut rng = entropy();
            job(&mut Tx {
                sql,
                data_key: &data_key,
                now,
                relay_now: now,
                rng: &mut *rng,
                damage: &damage,
            })
        };
        let written = self.database.write(run).await.map_err(Fault::from_write);
        written.inspect_err(|fault| self.damage.record(fault))
    }

    /// Runs a read-only job on a snapshot.
    pub async fn read<T, F>(&self, now: Timestamp, job: F) -> Result<T, Fault>
    where
        F: FnOnce(&mut Tx<'_>) -> Result<T, Fault> + Send + 'static,
        T: Send + 'static,
    {
        let (data_key, entropy) = (Arc::clone(&self.data_key), Arc::clone(&self.entropy));
        let damage = Arc::clone(&self.damage);
        let run = move |sql: &Connection| {
            let mut rng = entropy();
            job(&mut Tx {
                sql,
                data_key: &data_key,
                now,
                relay_now: now,
                rng: &mut *rng,
                damage: &damage,
            })
        };
        let read = self.database.read(run).await.map_err(Fault::from_read);
        read.inspect_err(|fault| self.damage.record(fault))
    }

    /// Checkpoints the write-ahead log and closes the database.
    pub async fn close(&self) {
        self.database.close().await;
    }
}

/// Runs a read-only job on a database that no store has opened, such as the one of a backup.
pub(crate) fn inspect<T>(
    sql: &Connection,
    data_key: &DataKey,
    job: impl FnOnce(&mut Tx<'_>) -> Result<T, Fault>,
) -> Result<T, Fault> {
    job(&mut Tx {
        sql,
        data_key,
        now: Timestamp::default(),
        relay_now: Timestamp::default(),
        rng: &mut sealpost_service::entropy(),
        damage: &DamageReport::default(),
    })
}

/// Transaction: the SQL connection, the key of the secret columns, the start time and a random
/// generator.
pub struct Tx<'a> {
    pub sql: &'a Connection,
    data_key: &'a DataKey,
    /// Start of the transaction by our own clock, for what only this node compares.
    pub now: Timestamp,
    /// Start of the transaction by the relay's clock as far as it is known, for all times that leave
    /// this node or come from the relay or a peer.
    pub relay_now: Timestamp,
    pub rng: &'a mut dyn CryptoRng,
    damage: &'a DamageReport,
}

#[cfg(test)]
impl<'a> Tx<'a> {
    /// Creates a transaction on a connection that a test owns.
    pub(crate) fn from_parts(
        sql: &'a Connection,
        data_key: &'a DataKey,
        now: Timestamp,
        rng: &'a mut dyn CryptoRng,
        damage: &'a DamageReport,
    ) -> Self {
        Self {
            sql,
            data_key,
            now,
            relay_now: now,
            rng,
            damage,
        }
    }
}

impl Tx<'_> {
    /// Seals a value for one column of one row. `version` is the row's version, so that a replayed
    /// older value does not open.
    pub fn seal(
        &mut self,
        table: &str,
        pk: &[u8],
        column: &str,
        version: u64,
        value: &[u8],
    ) -> Vec<u8> {
        seal_column(
            self.data_key,
            &Column {
                table,
                pk,
                column,
                version,
            },
            value,
            self.rng,
        )
    }

    /// Opens the sealed value of a column.
    ///
    /// # Errors
    /// [`Fault::Damaged`] if the value was not sealed for this column and row: the data directory
    /// was tampered with, or its files come from different nodes.
    pub fn open(
        &self,
        table: &'static str,
        pk: &[u8],
        column: &'static str,
        version: u64,
        sealed: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, Fault> {
        open_column(
            self.data_key,
            &Column {
                table,
                pk,
                column,
                version,
            },
            sealed,
        )
        .map_err(|_| Damaged::new(table, column).into())
    }

    /// Logs and stores a fault about a damaged row, for a caller that continues without the row.
    pub(crate) fn record_damage(&self, fault: &Fault) {
        self.damage.record(fault);
    }

    /// Generates random bytes.
    pub fn random_bytes<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        self.rng.fill_bytes(&mut bytes);
        bytes
    }

    /// Runs a statement and returns the number of changed rows.
    pub fn execute(&self, sql: &str, params: &[&dyn ToSql]) -> Result<usize, Fault> {
        Ok(query::execute(self.sql, sql, params)?)
    }

    /// Returns the first column of the first row, or `None` if there is no row.
    pub fn query_value<T: FromSql>(
        &self,
        sql: &str,
        params: &[&dyn ToSql],
    ) -> Result<Option<T>, Fault> {
        Ok(query::first_value(self.sql, sql, params)?)
    }

    /// Returns the first row, or `None` if there is no row.
    pub fn query_row<T>(
        &self,
        sql: &str,
        params: &[&dyn ToSql],
        read: impl FnOnce(&Row<'_>) -> Result<T, RowError>,
    ) -> Result<Option<T>, Fault> {
        Ok(query::first_row(self.sql, sql, params, read)?)
    }

    /// Returns all rows.
    pub fn query_rows<T>(
        &self,
        sql: &str,
        params: &[&dyn ToSql],
        read: impl FnMut(&Row<'_>) -> Result<T, RowError>,
    ) -> Result<Vec<T>, Fault> {
        Ok(query::all_rows(self.sql, sql, params, read)?)
    }

    /// Returns rows until their sizes exceed `bytes_max` in total, including the one that exceeds
    /// it, and at least two. `read` returns a row with its size.
    pub fn query_leading_rows<T>(
        &self,
        sql: &str,
        params: &[&dyn ToSql],
        bytes_max: usize,
        read: impl FnMut(&Row<'_>) -> Result<(T, usize), RowError>,
    ) -> Result<Vec<T>, Fault> {
        Ok(query::leading_rows(self.sql, sql, params, bytes_max, read)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sealpost_sqlite::OpenError;

    #[tokio::test]
    async fn newer_schema_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("node.db");
        Database::open(&path, MIGRATIONS, OPTIONS)
            .unwrap()
            .close()
            .await;
        Connection::open(&path)
            .unwrap()
            .pragma_update(None, "user_version", 99)
            .unwrap();
        let before = std::fs::read(&path).unwrap();
        let refused = Database::open(&path, MIGRATIONS, OPTIONS).err();
        assert!(
            matches!(
                refused,
                Some(OpenError::NewerSchema {
                    found: 99,
                    supported: 1,
                    ..
                })
            ),
            "{refused:?}"
        );
        assert_eq!(std::fs::read(&path).unwrap(), before);
    }

    #[test]
    fn values_open_only_in_their_own_column() {
        let mut node = crate::testing::TestNode::new("Acme", 700);
        node.step(|tx, _| {
            let sealed = tx.seal("table", b"row", "column", 1, b"secret");
            assert_eq!(
                tx.open("table", b"row", "column", 1, &sealed)?[..],
                *b"secret"
            );
            assert!(tx.open("table", b"another", "column", 1, &sealed).is_err());
            assert!(tx.open("table", b"row", "another", 1, &sealed).is_err());
            assert!(tx.open("table", b"row", "column", 2, &sealed).is_err());
            Ok(())
        });
    }

    #[test]
    fn damage_names_table_and_column() {
        let mut pair = crate::testing::connected_pair(710);
        let message = pair.acme.send(pair.to_bolt, "hello");
        let damages = [
            (
                "deliveries",
                "status",
                "UPDATE deliveries SET status = 'lost'",
            ),
            (
                "connections",
                "health",
                "UPDATE connections SET health = 'fine'",
            ),
            ("messages", "content", "UPDATE messages SET content = x'00'"),
            (
                "connections",
                "secrets",
                "UPDATE connections SET secrets = x'00'",
            ),
            ("postings", "number", "UPDATE postings SET number = -1"),
        ];
        for (table, column, sql) in damages {
            pair.acme.sql("SAVEPOINT whole");
            pair.acme.sql(sql);
            let to_bolt = pair.to_bolt;
            let read = pair.acme.commit(|tx, _| {
                postings::load_page(
                    tx,
                    &postings::Filter {
                        limit: 9,
                        ..Default::default()
                    },
                )?;
                connections::load(tx, to_bolt)?;
                connections::load_secrets(tx, to_bolt)?;
                deliveries::load_all(tx)
            });
            let Err(Fault::Damaged(damaged)) = read else {
                panic!("{table}.{column}: {read:?}")
            };
            assert_eq!((&*damaged.table, &*damaged.column), (table, column));
            pair.acme.sql("ROLLBACK TO whole; RELEASE whole");
        }
        assert_eq!(pair.acme.delivery(&message).posting, message);
    }

    #[tokio::test]
    async fn the_last_damage_is_reported() {
        let database = Database::open_in_memory(MIGRATIONS, OPTIONS).unwrap();
        let key = DataKey::generate(&mut sealpost_service::entropy());
        let store = Store::new(database, Arc::new(key));
        assert_eq!(store.damage(), None);
        let now = crate::testing::START;
        let read = store
            .write(now, |tx| {
                tx.execute(
                    "INSERT INTO events (topic, subject, at) VALUES ('x', 'y', 1)",
                    &[],
                )?;
                events::load_page(tx, 0, 9)
            })
            .await;
        assert!(matches!(read, Err(Fault::Damaged(_))));
        let damaged = store.damage().unwrap();
        assert_eq!((&*damaged.table, &*damaged.column), ("events", "topic"));
    }
}
