//! The node's database: one file for each table or two, functions on a [`Tx`] that read and write
//! rows.
//!
//! Everything here runs inside a job of the database's one writer (or inside a reading snapshot),
//! so whatever one function of the daemon changes is committed together or not at all. Decisions
//! are not taken here: they are `node-core`'s. Values that are secret are sealed before they become
//! columns.

pub mod attachments;
pub mod chats;
pub mod connections;
pub mod deliveries;
pub mod events;
pub mod files;
mod ids;
pub mod invites;
pub mod messages;
pub mod opened;
pub mod orphaned_blobs;
pub mod outbox;
pub mod postings;
pub mod receipts;
pub mod relay_jobs;
pub mod requests;
pub mod settings;
pub mod unknown_events;

use crate::fault::Fault;
use rand_core::CryptoRng;
use rusqlite::{Connection, Row, ToSql, types::FromSql};
use sealpost_e2ee::vault::{Column, DataKey, open_column, seal_column};
use sealpost_proto::Timestamp;
use sealpost_sqlite::{Damaged, Database, Migration, Options, RowError, query};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use zeroize::Zeroizing;

/// The schema, oldest first.
pub const MIGRATIONS: &[Migration] = &[Migration {
    version: 1,
    sql: include_str!("../../migrations/0001_first.sql"),
}];

/// How the node's database is opened. The application id is "SPnd".
pub const OPTIONS: Options = Options {
    application_id: 0x5350_6e64,
    readers: 2,
    has_secure_delete: true,
};

/// Gives each transaction its random source.
pub type EntropySource = Arc<dyn Fn() -> Box<dyn CryptoRng> + Send + Sync>;

/// The database together with the key under which its secret columns are sealed.
#[derive(Clone)]
pub struct Store {
    database: Database,
    data_key: Arc<DataKey>,
    entropy: EntropySource,
    damage: Arc<DamageReport>,
}

/// The last damaged row that was found since the node started.
#[derive(Debug, Default)]
pub struct DamageReport(Mutex<Option<Damaged>>);

impl DamageReport {
    /// Logs and keeps a fault that is about a damaged row.
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
    /// Joins an open database and its data key; randomness is the operating system's.
    #[must_use]
    pub fn new(database: Database, data_key: Arc<DataKey>) -> Self {
        Self::with_entropy(
            database,
            data_key,
            Arc::new(|| Box::new(sealpost_service::entropy())),
        )
    }

    /// Joins an open database, its data key and another source of randomness: a simulation's, which
    /// repeats itself.
    #[must_use]
    pub fn with_entropy(database: Database, data_key: Arc<DataKey>, entropy: EntropySource) -> Self {
        Self {
            database,
            data_key,
            entropy,
            damage: Arc::default(),
        }
    }

    /// Returns the last damaged row that was found since the node started.
    #[must_use]
    pub fn damage(&self) -> Option<Damaged> {
        self.damage.lock().clone()
    }

    /// Runs a job on the writer and returns when its commit is on disk.
    ///
    /// # Errors
    /// The job's own [`Fault`], or what kept the commit from the disk; then nothing of the job
    /// happened.
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
                rng: &mut *rng,
                damage: &damage,
            })
        };
        let written = self.database.write(run).await.map_err(Fault::from_write);
        written.inspect_err(|fault| self.damage.record(fault))
    }

    /// Runs a job that only reads.
    ///
    /// # Errors
    /// The job's own [`Fault`], or why it did not run.
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
                rng: &mut *rng,
                damage: &damage,
            })
        };
        let read = self.database.read(run).await.map_err(Fault::from_read);
        read.inspect_err(|fault| self.damage.record(fault))
    }

    /// Folds the log into the database and closes it.
    pub async fn close(&self) {
        self.database.close().await;
    }
}

/// One transaction: the rows, the key for secret columns, the time at which it began, and
/// randomness from the edge.
pub struct Tx<'a> {
    /// The rows.
    pub sql: &'a Connection,
    data_key: &'a DataKey,
    /// When the transaction began.
    pub now: Timestamp,
    /// Randomness, drawn at the edge.
    pub rng: &'a mut dyn CryptoRng,
    damage: &'a DamageReport,
}

#[cfg(test)]
impl<'a> Tx<'a> {
    /// A transaction over rows that a test holds itself.
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
            rng,
            damage,
        }
    }
}

impl Tx<'_> {
    /// Seals a value for its place; `version` is the row's, so that an older value cannot be put
    /// back unnoticed.
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

    /// Opens a sealed value in its place.
    ///
    /// # Errors
    /// [`Fault::Failed`] when the value is not the one that was sealed there: the data directory
    /// was tampered with or is mixed from two.
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

    /// Logs and keeps a fault that is about a damaged row, for a caller that goes on without it.
    pub(crate) fn record_damage(&self, fault: &Fault) {
        self.damage.record(fault);
    }

    /// Generates random bytes.
    pub fn random_bytes<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        self.rng.fill_bytes(&mut bytes);
        bytes
    }

    /// Runs a statement and returns how many rows it changed.
    pub fn execute(&self, sql: &str, params: &[&dyn ToSql]) -> Result<usize, Fault> {
        Ok(query::execute(self.sql, sql, params)?)
    }

    /// Reads the first column of the first row, if there is a row.
    pub fn query_value<T: FromSql>(&self, sql: &str, params: &[&dyn ToSql]) -> Result<Option<T>, Fault> {
        Ok(query::first_value(self.sql, sql, params)?)
    }

    /// Reads the first row, if there is one.
    pub fn query_row<T>(
        &self,
        sql: &str,
        params: &[&dyn ToSql],
        read: impl FnOnce(&Row<'_>) -> Result<T, RowError>,
    ) -> Result<Option<T>, Fault> {
        Ok(query::first_row(self.sql, sql, params, read)?)
    }

    /// Reads all rows.
    pub fn query_rows<T>(
        &self,
        sql: &str,
        params: &[&dyn ToSql],
        read: impl FnMut(&Row<'_>) -> Result<T, RowError>,
    ) -> Result<Vec<T>, Fault> {
        Ok(query::all_rows(self.sql, sql, params, read)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sealpost_sqlite::OpenError;

    #[tokio::test]
    async fn a_database_of_a_newer_version_is_left_alone() {
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
    fn a_value_opens_in_its_own_place_only() {
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
    fn damaged_rows_name_table_and_column() {
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
