use super::*;
use rusqlite::{StatementStatus, params};
use sealpost_proto::limits::{WRITER_BATCH_MAX, WRITER_QUEUE_MAX};
use std::{
    path::PathBuf,
    sync::mpsc::{Receiver, SyncSender, sync_channel},
};

const OPTIONS: Options = Options {
    application_id: 0x5345_414c,
    readers: 2,
    secure_delete: true,
};
const FIRST: Migration = Migration {
    version: 1,
    sql: "CREATE TABLE item (name TEXT PRIMARY KEY, size INTEGER) STRICT",
};
const SECOND: Migration = Migration {
    version: 2,
    sql: "ALTER TABLE item ADD COLUMN note TEXT; UPDATE item SET note = 'old'",
};
const BROKEN: Migration = Migration {
    version: 2,
    sql: "ALTER TABLE item ADD COLUMN note TEXT; UPDATE nothing SET x = 1",
};

#[derive(Debug, PartialEq, thiserror::Error)]
enum StoreError {
    #[error("no")]
    No,
    #[error(transparent)]
    Failure(#[from] Failure),
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Failure(error.into())
    }
}

struct Place {
    _folder: tempfile::TempDir,
    path: PathBuf,
}

fn place() -> Place {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("test.db");
    Place {
        _folder: folder,
        path,
    }
}

fn open(place: &Place) -> Database {
    Database::open(&place.path, &[FIRST], OPTIONS).unwrap()
}

fn insert(connection: &Connection, name: &str) -> Result<(), StoreError> {
    connection
        .prepare_cached("INSERT INTO item (name, size) VALUES (?, 1)")?
        .execute([name])?;
    Ok(())
}

async fn names(database: &Database) -> Vec<String> {
    let read = |connection: &Connection| {
        let mut statement = connection.prepare_cached("SELECT name FROM item ORDER BY rowid")?;
        statement
            .query_map([], |row| row.get(0))?
            .collect::<Result<_, _>>()
            .map_err(StoreError::from)
    };
    database.read(read).await.unwrap()
}

/// Holds the writer until the sender is used or dropped; returns once it is held.
async fn hold(database: &Database) -> SyncSender<()> {
    let (release, released): (_, Receiver<()>) = sync_channel(1);
    let (held, holding) = tokio::sync::oneshot::channel();
    let database = database.clone();
    tokio::spawn(async move {
        let job = move |_: &Connection| {
            let _ = held.send(());
            let _ = released.recv();
            Ok::<_, StoreError>(())
        };
        database.write(job).await
    });
    holding.await.unwrap();
    release
}

/// Returns once so many jobs wait for the writer.
async fn until_waiting(database: &Database, jobs: usize) {
    while database.writer.waiting() < jobs {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn what_was_answered_is_there_after_opening_again() {
    let place = place();
    let database = open(&place);
    database
        .write(|connection| insert(connection, "a"))
        .await
        .unwrap();
    database.close().await;
    assert_eq!(
        database.write(|connection| insert(connection, "b")).await,
        Err(WriteError::Closed)
    );
    assert_eq!(
        database.read(|_| Ok::<_, StoreError>(())).await,
        Err(ReadError::Closed)
    );
    assert_eq!(names(&open(&place)).await, ["a"]);
}

#[tokio::test]
async fn a_refusal_undoes_its_own_changes_only() {
    let place = place();
    let database = open(&place);
    let held = hold(&database).await;
    let refused = database.write(|connection| {
        insert(connection, "refused")?;
        Err::<(), _>(StoreError::No)
    });
    let failed = database.write(|connection| {
        insert(connection, "failed")?;
        insert(connection, "failed")
    });
    let good = database.write(|connection| insert(connection, "good"));
    let release = async { held.send(()).unwrap() };
    let (refused, failed, good, ()) = tokio::join!(refused, failed, good, release);
    assert_eq!(refused, Err(WriteError::Job(StoreError::No)));
    assert!(matches!(
        failed,
        Err(WriteError::Job(StoreError::Failure(Failure::Failed { .. })))
    ));
    assert_eq!(good, Ok(()));
    assert_eq!(names(&database).await, ["good"]);
}

#[tokio::test]
async fn what_arrives_together_shares_a_commit_and_keeps_its_order() {
    let place = place();
    let database = open(&place);
    let before = database.stats();
    let held = hold(&database).await;
    let waiting: Vec<_> = (0..100)
        .map(|number| {
            let database = database.clone();
            tokio::spawn(async move {
                database
                    .write(move |connection| insert(connection, &format!("{number:03}")))
                    .await
            })
        })
        .collect();
    until_waiting(&database, 100).await;
    held.send(()).unwrap();
    for job in waiting {
        job.await.unwrap().unwrap();
    }
    let after = database.stats();
    assert_eq!(
        (after.commits - before.commits, after.jobs - before.jobs),
        (1, 101)
    );
    assert!(names(&database).await.is_sorted());
}

#[tokio::test]
async fn a_batch_has_a_limit() {
    let place = place();
    let database = open(&place);
    let held = hold(&database).await;
    let jobs = WRITER_BATCH_MAX * 2;
    let waiting: Vec<_> = (0..jobs)
        .map(|number| {
            let database = database.clone();
            tokio::spawn(async move {
                database
                    .write(move |connection| insert(connection, &number.to_string()))
                    .await
            })
        })
        .collect();
    until_waiting(&database, jobs).await;
    held.send(()).unwrap();
    for job in waiting {
        job.await.unwrap().unwrap();
    }
    assert_eq!(database.stats().commits, 2);
}

#[tokio::test]
async fn a_full_queue_is_said_at_once() {
    let place = place();
    let database = open(&place);
    let held = hold(&database).await;
    let waiting: Vec<_> = (0..WRITER_QUEUE_MAX)
        .map(|_| {
            let database = database.clone();
            tokio::spawn(async move { database.write(|_| Ok::<_, StoreError>(())).await })
        })
        .collect();
    until_waiting(&database, WRITER_QUEUE_MAX).await;
    assert_eq!(
        database
            .write(|connection| insert(connection, "late"))
            .await,
        Err(WriteError::Busy)
    );
    held.send(()).unwrap();
    for job in waiting {
        job.await.unwrap().unwrap();
    }
    database
        .write(|connection| insert(connection, "now"))
        .await
        .unwrap();
    assert_eq!(names(&database).await, ["now"]);
}

#[tokio::test]
async fn looking_costs_no_commit() {
    let place = place();
    let database = open(&place);
    let look = |connection: &Connection| {
        connection
            .query_row("SELECT count(*) FROM item", [], |row| row.get::<_, i64>(0))
            .map_err(StoreError::from)
    };
    assert_eq!(database.write(look).await, Ok(0));
    assert_eq!(
        database.stats(),
        Stats {
            commits: 0,
            jobs: 1
        }
    );
}

#[tokio::test]
async fn a_commit_is_synced_when_one_of_its_jobs_asks_for_it() {
    let place = place();
    let database = open(&place);
    let level = |name: &'static str| {
        move |connection: &Connection| {
            insert(connection, name)?;
            connection
                .pragma_query_value(None, "synchronous", |row| row.get::<_, i64>(0))
                .map_err(StoreError::from)
        }
    };
    assert_eq!(database.write_unsynced(level("alone")).await, Ok(1));
    assert_eq!(
        database.stats(),
        Stats {
            commits: 0,
            jobs: 1
        }
    );
    let held = hold(&database).await;
    let (one, other) = (database.clone(), database.clone());
    let unsynced = tokio::spawn(async move { one.write_unsynced(level("with another")).await });
    let synced = tokio::spawn(async move { other.write(level("that asks")).await });
    until_waiting(&database, 2).await;
    held.send(()).unwrap();
    assert_eq!(
        (unsynced.await.unwrap(), synced.await.unwrap()),
        (Ok(2), Ok(2))
    );
    assert_eq!(
        database.stats(),
        Stats {
            commits: 1,
            jobs: 4
        }
    );
    assert_eq!(database.write(level("afterwards")).await, Ok(2));
    assert_eq!(names(&database).await.len(), 4);
}

#[tokio::test]
async fn one_job_answers_many_after_the_commit() {
    let place = place();
    let database = open(&place);
    let (told, hears) = tokio::sync::oneshot::channel();
    let answer = move |outcome: Result<i64, WriteError<StoreError>>| drop(told.send(outcome));
    database
        .write_then(|connection| insert(connection, "a").map(|()| 7), answer)
        .unwrap();
    assert_eq!(hears.await.unwrap(), Ok(7));
    assert_eq!(names(&database).await, ["a"]);
    database.close().await;
    let refused = database.write_then(
        |connection| insert(connection, "b"),
        |_| panic!("it was never asked"),
    );
    assert_eq!(refused, Err(WriteError::Closed));
}

#[tokio::test]
async fn a_panicking_job_harms_nobody_else() {
    let place = place();
    let database = open(&place);
    let held = hold(&database).await;
    let wild = database.write(|connection| -> Result<(), StoreError> {
        insert(connection, "wild")?;
        panic!("a job gone wild")
    });
    let good = database.write(|connection| insert(connection, "good"));
    let (wild, good, ()) = tokio::join!(wild, good, async { held.send(()).unwrap() });
    assert!(matches!(wild, Err(WriteError::Failed { .. })));
    assert_eq!(good, Ok(()));
    assert_eq!(names(&database).await, ["good"]);
}

#[tokio::test]
async fn a_full_disk_refuses_keeps_what_is_there_and_recovers() {
    let place = place();
    let database = open(&place);
    database
        .write(|connection| insert(connection, "kept"))
        .await
        .unwrap();
    let allow = |pages: i64| {
        move |connection: &Connection| {
            connection
                .query_row(&format!("PRAGMA max_page_count = {pages}"), [], |_| Ok(()))
                .map_err(StoreError::from)
        }
    };
    database.write(allow(1)).await.unwrap();
    let large = |connection: &Connection| {
        connection.execute(
            "INSERT INTO item VALUES (?, 1)",
            params!["x".repeat(1_000_000)],
        )?;
        Ok::<_, StoreError>(())
    };
    let full = database.write(large).await;
    assert_eq!(
        full,
        Err(WriteError::Job(StoreError::Failure(Failure::DiskFull)))
    );
    assert_eq!(names(&database).await, ["kept"]);
    database.write(allow(1_000_000)).await.unwrap();
    database
        .write(|connection| insert(connection, "again"))
        .await
        .unwrap();
    assert_eq!(names(&database).await, ["kept", "again"]);
}

#[tokio::test]
async fn a_job_that_ends_the_transaction_fails_the_batch_and_nothing_else() {
    let place = place();
    let database = open(&place);
    let held = hold(&database).await;
    let before = database.write(|connection| insert(connection, "before"));
    let rogue = database.write(|connection| {
        connection
            .execute_batch("ROLLBACK")
            .map_err(StoreError::from)
    });
    let after = database.write(|connection| insert(connection, "after"));
    let (before, rogue, after, ()) =
        tokio::join!(before, rogue, after, async { held.send(()).unwrap() });
    for outcome in [before, rogue, after] {
        assert!(
            matches!(outcome, Err(WriteError::Failed { .. })),
            "{outcome:?}"
        );
    }
    assert!(names(&database).await.is_empty());
    database
        .write(|connection| insert(connection, "next"))
        .await
        .unwrap();
    assert_eq!(names(&database).await, ["next"]);
}

#[tokio::test]
async fn when_the_commit_fails_nothing_of_it_happened() {
    const DEFERRED: Migration = Migration {
        version: 2,
        sql: "CREATE TABLE part (item TEXT REFERENCES item DEFERRABLE INITIALLY DEFERRED) STRICT",
    };
    let place = place();
    let database = Database::open(&place.path, &[FIRST, DEFERRED], OPTIONS).unwrap();
    let held = hold(&database).await;
    let good = database.write(|connection| insert(connection, "good"));
    let orphan = database.write(|connection| {
        connection
            .execute("INSERT INTO part VALUES ('of nothing')", [])
            .map_err(StoreError::from)
    });
    let (good, orphan, ()) = tokio::join!(good, orphan, async { held.send(()).unwrap() });
    assert!(matches!(good, Err(WriteError::Failed { .. })));
    assert!(matches!(orphan, Err(WriteError::Failed { .. })));
    assert!(names(&database).await.is_empty());
    assert_eq!(database.stats().commits, 0);
    database
        .write(|connection| insert(connection, "next"))
        .await
        .unwrap();
    assert_eq!(names(&database).await, ["next"]);
}

#[tokio::test]
async fn a_read_sees_one_moment_and_changes_nothing() {
    let place = place();
    let database = open(&place);
    let (reading, started) = tokio::sync::oneshot::channel();
    let (go_on, going_on): (_, Receiver<()>) = sync_channel(1);
    let reader = database.clone();
    let counting = tokio::spawn(async move {
        let count = |connection: &Connection| {
            connection
                .query_row("SELECT count(*) FROM item", [], |row| row.get::<_, i64>(0))
                .map_err(StoreError::from)
        };
        let job = move |connection: &Connection| {
            let first = count(connection)?;
            let _ = reading.send(());
            let _ = going_on.recv();
            Ok::<_, StoreError>((first, count(connection)?))
        };
        reader.read(job).await
    });
    started.await.unwrap();
    database
        .write(|connection| insert(connection, "meanwhile"))
        .await
        .unwrap();
    go_on.send(()).unwrap();
    assert_eq!(counting.await.unwrap(), Ok((0, 0)));
    let sneaky = database
        .read(|connection| insert(connection, "sneaky"))
        .await;
    assert!(matches!(
        sneaky,
        Err(ReadError::Job(StoreError::Failure(Failure::Failed { .. })))
    ));
}

#[tokio::test]
async fn migrations_go_forward_and_never_halfway() {
    let place = place();
    let database = open(&place);
    database
        .write(|connection| insert(connection, "a"))
        .await
        .unwrap();
    database.close().await;
    let error = Database::open(&place.path, &[FIRST, BROKEN], OPTIONS)
        .err()
        .unwrap();
    assert!(
        matches!(&error, OpenError::Failed { reason } if reason.contains("migration 2")),
        "{error}"
    );
    let database = Database::open(&place.path, &[FIRST, SECOND], OPTIONS).unwrap();
    let note = database.read(|connection| {
        connection
            .query_row("SELECT note FROM item", [], |row| row.get::<_, String>(0))
            .map_err(StoreError::from)
    });
    assert_eq!(note.await.unwrap(), "old");
    database.close().await;
    let error = Database::open(&place.path, &[FIRST], OPTIONS)
        .err()
        .unwrap();
    assert!(matches!(
        error,
        OpenError::NewerSchema {
            found: 2,
            supported: 1,
            ..
        }
    ));
    assert!(error.to_string().contains("install the newer version"));
}

#[test]
fn migrations_are_numbered_without_gaps() {
    let gap = Migration {
        version: 3,
        sql: "",
    };
    assert!(matches!(
        Database::open_in_memory(&[FIRST, gap], OPTIONS),
        Err(OpenError::Failed { .. })
    ));
}

#[tokio::test]
async fn somebody_elses_file_stays_as_it_is() {
    let place = place();
    open(&place).close().await;
    let other = Options {
        application_id: 7,
        ..OPTIONS
    };
    assert!(matches!(
        Database::open(&place.path, &[FIRST], other),
        Err(OpenError::NotOurs { .. })
    ));
    let text = "not a database, but long enough to be looked at as one. ".repeat(20);
    std::fs::write(&place.path, &text).unwrap();
    assert!(matches!(
        Database::open(&place.path, &[FIRST], OPTIONS),
        Err(OpenError::NotOurs { .. })
    ));
    assert_eq!(std::fs::read_to_string(&place.path).unwrap(), text);
    std::fs::remove_file(&place.path).unwrap();
    Connection::open(&place.path)
        .unwrap()
        .execute_batch("CREATE TABLE theirs (x)")
        .unwrap();
    assert!(matches!(
        Database::open(&place.path, &[FIRST], OPTIONS),
        Err(OpenError::NotOurs { .. })
    ));
}

#[tokio::test]
async fn a_backup_is_a_database_of_its_own() {
    use std::os::unix::fs::PermissionsExt as _;
    let place = place();
    let database = open(&place);
    database
        .write(|connection| insert(connection, "a"))
        .await
        .unwrap();
    let copy = Place {
        _folder: tempfile::tempdir().unwrap(),
        path: place.path.with_extension("backup"),
    };
    database.backup_to(&copy.path).await.unwrap();
    assert_eq!(
        database.backup_to(&copy.path).await,
        Err(BackupError::Exists)
    );
    database
        .write(|connection| insert(connection, "b"))
        .await
        .unwrap();
    for path in [&copy.path, &place.path] {
        assert_eq!(
            std::fs::metadata(path).unwrap().permissions().mode() & 0o777,
            0o600
        );
    }
    assert_eq!(names(&open(&copy)).await, ["a"]);
}

#[tokio::test]
async fn in_memory_it_behaves_the_same() {
    let database = Database::open_in_memory(&[FIRST], OPTIONS).unwrap();
    database
        .write(|connection| insert(connection, "a"))
        .await
        .unwrap();
    assert_eq!(names(&database).await, ["a"]);
    database.close().await;
    assert_eq!(
        database.write(|connection| insert(connection, "b")).await,
        Err(WriteError::Closed)
    );
}

#[test]
fn a_database_begins_synced_in_full() {
    let place = place();
    let connection = open::open_writer(&place.path, &[FIRST], OPTIONS).unwrap();
    let pragma = |name: &str| {
        connection
            .pragma_query_value(None, name, |row| row.get::<_, i64>(0))
            .unwrap()
    };
    assert_eq!(
        (
            pragma("synchronous"),
            pragma("foreign_keys"),
            pragma("secure_delete")
        ),
        (2, 1, 1)
    );
    let mode: String = connection
        .pragma_query_value(None, "journal_mode", |row| row.get(0))
        .unwrap();
    assert_eq!(mode, "wal");
}

#[tokio::test]
async fn a_statement_is_prepared_once_whatever_its_limit() {
    let place = place();
    let database = open(&place);
    let prepared_again = |connection: &Connection| {
        let mut again = 0;
        for limit in 1..4 {
            let mut statement = connection
                .prepare_cached("SELECT name FROM item WHERE size = ? ORDER BY name LIMIT ?")?;
            let names = statement.query_map([1, limit], |row| row.get::<_, String>(0))?;
            names.collect::<Result<Vec<_>, _>>()?;
            again += statement.reset_status(StatementStatus::RePrepare);
        }
        Ok::<_, StoreError>(again)
    };
    assert_eq!(
        (
            database.write(prepared_again).await,
            database.read(prepared_again).await
        ),
        (Ok(0), Ok(0))
    );
}
