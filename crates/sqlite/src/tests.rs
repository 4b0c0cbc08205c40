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
    has_secure_delete: true,
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
    #[error("refused")]
    Refused,
    #[error(transparent)]
    Failure(#[from] Failure),
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Failure(error.into())
    }
}

struct TestFile {
    _directory: tempfile::TempDir,
    path: PathBuf,
}

fn test_file() -> TestFile {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("test.db");
    TestFile {
        _directory: directory,
        path,
    }
}

fn open(file: &TestFile) -> Database {
    Database::open(&file.path, &[FIRST], OPTIONS).unwrap()
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

/// Blocks the writer until the sender is used or dropped; returns once it is blocked.
async fn block_writer(database: &Database) -> SyncSender<()> {
    let (release, released): (_, Receiver<()>) = sync_channel(1);
    let (started, has_started) = tokio::sync::oneshot::channel();
    let database = database.clone();
    tokio::spawn(async move {
        let job = move |_: &Connection| {
            let _ = started.send(());
            let _ = released.recv();
            Ok::<_, StoreError>(())
        };
        database.write(job).await
    });
    has_started.await.unwrap();
    release
}

/// Returns once the given number of jobs wait for the writer.
async fn wait_for_queued_jobs(database: &Database, jobs: usize) {
    while database.writer.queued_jobs() < jobs {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn reported_writes_survive_reopening() {
    let file = test_file();
    let database = open(&file);
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
    assert_eq!(names(&open(&file)).await, ["a"]);
}

#[tokio::test]
async fn refused_jobs_undo_only_their_changes() {
    let file = test_file();
    let database = open(&file);
    let release = block_writer(&database).await;
    let refused = database.write(|connection| {
        insert(connection, "refused")?;
        Err::<(), _>(StoreError::Refused)
    });
    let failed = database.write(|connection| {
        insert(connection, "failed")?;
        insert(connection, "failed")
    });
    let good = database.write(|connection| insert(connection, "good"));
    let release = async { release.send(()).unwrap() };
    let (refused, failed, good, ()) = tokio::join!(refused, failed, good, release);
    assert_eq!(refused, Err(WriteError::Job(StoreError::Refused)));
    assert!(matches!(
        failed,
        Err(WriteError::Job(StoreError::Failure(Failure::Failed { .. })))
    ));
    assert_eq!(good, Ok(()));
    assert_eq!(names(&database).await, ["good"]);
}

#[tokio::test]
async fn queued_jobs_share_a_commit_in_order() {
    let file = test_file();
    let database = open(&file);
    let before = database.stats();
    let release = block_writer(&database).await;
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
    wait_for_queued_jobs(&database, 100).await;
    release.send(()).unwrap();
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
async fn batches_are_bounded() {
    let file = test_file();
    let database = open(&file);
    let release = block_writer(&database).await;
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
    wait_for_queued_jobs(&database, jobs).await;
    release.send(()).unwrap();
    for job in waiting {
        job.await.unwrap().unwrap();
    }
    assert_eq!(database.stats().commits, 2);
}

#[tokio::test]
async fn full_queues_fail_immediately() {
    let file = test_file();
    let database = open(&file);
    let release = block_writer(&database).await;
    let waiting: Vec<_> = (0..WRITER_QUEUE_MAX)
        .map(|_| {
            let database = database.clone();
            tokio::spawn(async move { database.write(|_| Ok::<_, StoreError>(())).await })
        })
        .collect();
    wait_for_queued_jobs(&database, WRITER_QUEUE_MAX).await;
    assert_eq!(
        database
            .write(|connection| insert(connection, "late"))
            .await,
        Err(WriteError::Busy)
    );
    release.send(()).unwrap();
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
async fn jobs_without_changes_need_no_commit() {
    let file = test_file();
    let database = open(&file);
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
async fn one_synced_job_syncs_the_commit() {
    let file = test_file();
    let database = open(&file);
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
    let release = block_writer(&database).await;
    let (one, other) = (database.clone(), database.clone());
    let unsynced = tokio::spawn(async move { one.write_unsynced(level("with another")).await });
    let synced = tokio::spawn(async move { other.write(level("that asks")).await });
    wait_for_queued_jobs(&database, 2).await;
    release.send(()).unwrap();
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
async fn write_then_replies_after_the_commit() {
    let file = test_file();
    let database = open(&file);
    let (sender, receiver) = tokio::sync::oneshot::channel();
    let reply = move |outcome: Result<i64, WriteError<StoreError>>| drop(sender.send(outcome));
    database
        .write_then(|connection| insert(connection, "a").map(|()| 7), reply)
        .unwrap();
    assert_eq!(receiver.await.unwrap(), Ok(7));
    assert_eq!(names(&database).await, ["a"]);
    database.close().await;
    let refused = database.write_then(
        |connection| insert(connection, "b"),
        |_| panic!("the job was not accepted"),
    );
    assert_eq!(refused, Err(WriteError::Closed));
}

#[tokio::test]
async fn panicking_jobs_do_not_affect_others() {
    let file = test_file();
    let database = open(&file);
    let release = block_writer(&database).await;
    let panicked = database.write(|connection| -> Result<(), StoreError> {
        insert(connection, "panicked")?;
        panic!("a panicking job")
    });
    let good = database.write(|connection| insert(connection, "good"));
    let (panicked, good, ()) = tokio::join!(panicked, good, async { release.send(()).unwrap() });
    assert!(matches!(panicked, Err(WriteError::Failed { .. })));
    assert_eq!(good, Ok(()));
    assert_eq!(names(&database).await, ["good"]);
}

#[tokio::test]
async fn full_disks_refuse_writes_until_space_is_free() {
    let file = test_file();
    let database = open(&file);
    database
        .write(|connection| insert(connection, "retained"))
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
    assert_eq!(names(&database).await, ["retained"]);
    database.write(allow(1_000_000)).await.unwrap();
    database
        .write(|connection| insert(connection, "again"))
        .await
        .unwrap();
    assert_eq!(names(&database).await, ["retained", "again"]);
}

#[tokio::test]
async fn jobs_that_end_the_transaction_fail_the_batch() {
    let file = test_file();
    let database = open(&file);
    let release = block_writer(&database).await;
    let before = database.write(|connection| insert(connection, "before"));
    let rogue = database.write(|connection| {
        connection
            .execute_batch("ROLLBACK")
            .map_err(StoreError::from)
    });
    let after = database.write(|connection| insert(connection, "after"));
    let (before, rogue, after, ()) =
        tokio::join!(before, rogue, after, async { release.send(()).unwrap() });
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
async fn failed_commits_change_nothing() {
    const DEFERRED: Migration = Migration {
        version: 2,
        sql: "CREATE TABLE part (item TEXT REFERENCES item DEFERRABLE INITIALLY DEFERRED) STRICT",
    };
    let file = test_file();
    let database = Database::open(&file.path, &[FIRST, DEFERRED], OPTIONS).unwrap();
    let release = block_writer(&database).await;
    let good = database.write(|connection| insert(connection, "good"));
    let orphan = database.write(|connection| {
        connection
            .execute("INSERT INTO part VALUES ('of nothing')", [])
            .map_err(StoreError::from)
    });
    let (good, orphan, ()) = tokio::join!(good, orphan, async { release.send(()).unwrap() });
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
async fn reads_see_a_snapshot() {
    let file = test_file();
    let database = open(&file);
    let (reading, started) = tokio::sync::oneshot::channel();
    let (resume, resumed): (_, Receiver<()>) = sync_channel(1);
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
            let _ = resumed.recv();
            Ok::<_, StoreError>((first, count(connection)?))
        };
        reader.read(job).await
    });
    started.await.unwrap();
    database
        .write(|connection| insert(connection, "meanwhile"))
        .await
        .unwrap();
    resume.send(()).unwrap();
    assert_eq!(counting.await.unwrap(), Ok((0, 0)));
    let sneaky = database
        .read(|connection| insert(connection, "written"))
        .await;
    assert!(matches!(
        sneaky,
        Err(ReadError::Job(StoreError::Failure(Failure::Failed { .. })))
    ));
}

#[tokio::test]
async fn migrations_apply_completely_or_not_at_all() {
    let file = test_file();
    let database = open(&file);
    database
        .write(|connection| insert(connection, "a"))
        .await
        .unwrap();
    database.close().await;
    let error = Database::open(&file.path, &[FIRST, BROKEN], OPTIONS)
        .err()
        .unwrap();
    assert!(
        matches!(&error, OpenError::Failed { reason } if reason.contains("migration 2")),
        "{error}"
    );
    let database = Database::open(&file.path, &[FIRST, SECOND], OPTIONS).unwrap();
    let note = database.read(|connection| {
        connection
            .query_row("SELECT note FROM item", [], |row| row.get::<_, String>(0))
            .map_err(StoreError::from)
    });
    assert_eq!(note.await.unwrap(), "old");
    database.close().await;
    let error = Database::open(&file.path, &[FIRST], OPTIONS).err().unwrap();
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
fn migration_numbers_have_no_gaps() {
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
async fn foreign_files_are_left_unchanged() {
    let file = test_file();
    open(&file).close().await;
    let other = Options {
        application_id: 7,
        ..OPTIONS
    };
    assert!(matches!(
        Database::open(&file.path, &[FIRST], other),
        Err(OpenError::NotOurs { .. })
    ));
    let text = "not a database, but long enough to be examined as one. ".repeat(20);
    std::fs::write(&file.path, &text).unwrap();
    assert!(matches!(
        Database::open(&file.path, &[FIRST], OPTIONS),
        Err(OpenError::NotOurs { .. })
    ));
    assert_eq!(std::fs::read_to_string(&file.path).unwrap(), text);
    std::fs::remove_file(&file.path).unwrap();
    Connection::open(&file.path)
        .unwrap()
        .execute_batch("CREATE TABLE foreign_data (x)")
        .unwrap();
    assert!(matches!(
        Database::open(&file.path, &[FIRST], OPTIONS),
        Err(OpenError::NotOurs { .. })
    ));
}

#[tokio::test]
async fn backups_are_independent_databases() {
    use std::os::unix::fs::PermissionsExt as _;
    let file = test_file();
    let database = open(&file);
    database
        .write(|connection| insert(connection, "a"))
        .await
        .unwrap();
    let copy = TestFile {
        _directory: tempfile::tempdir().unwrap(),
        path: file.path.with_extension("backup"),
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
    for path in [&copy.path, &file.path] {
        assert_eq!(
            std::fs::metadata(path).unwrap().permissions().mode() & 0o777,
            0o600
        );
    }
    assert_eq!(names(&open(&copy)).await, ["a"]);
}

#[tokio::test]
async fn in_memory_databases_behave_the_same() {
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
fn new_databases_use_full_sync() {
    let file = test_file();
    let connection = open::open_writer(&file.path, &[FIRST], OPTIONS).unwrap();
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
async fn statements_are_prepared_once_for_all_limits() {
    let file = test_file();
    let database = open(&file);
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
