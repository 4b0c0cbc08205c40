//! Reader threads: each has its own connection, and all take jobs from one bounded queue.

use crate::{
    BackupError, Failure, OpenError, Options, ReadError,
    jobs::{Durability, Job, new_job},
    open,
};
use rusqlite::{
    Connection,
    backup::{Backup, StepResult},
};
use sealpost_proto::limits::WRITER_QUEUE_MAX;
use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    },
};

/// Copies all pages in one step: a backup in several steps starts again after each write in
/// between.
const ALL_PAGES: i32 = -1;

/// `None` once the database is closed.
type Queue = Option<SyncSender<Box<dyn Job>>>;

#[derive(Clone)]
pub(crate) struct Readers {
    queue: Arc<Mutex<Queue>>,
    path: Arc<Path>,
}

impl Readers {
    pub(crate) fn start(path: &Path, options: Options) -> Result<Self, OpenError> {
        let (queue, jobs) = sync_channel(WRITER_QUEUE_MAX);
        let jobs = Arc::new(Mutex::new(jobs));
        for number in 0..options.readers.max(1) {
            let connection = open::open_reader(path)?;
            let jobs = Arc::clone(&jobs);
            std::thread::Builder::new()
                .name(format!("sqlite-reader-{number}"))
                .spawn(move || run_reader(&connection, &jobs))
                .map_err(|error| OpenError::Failed {
                    reason: error.to_string(),
                })?;
        }
        Ok(Self {
            queue: Arc::new(Mutex::new(Some(queue))),
            path: Arc::from(path),
        })
    }

    pub(crate) async fn read<T, E, F>(&self, job: F) -> Result<T, ReadError<E>>
    where
        F: FnOnce(&Connection) -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: Send + 'static,
    {
        let (job, reply) = new_job(Durability::Unsynced, job);
        self.enqueue(job)?;
        match reply.await {
            Ok(Ok(outcome)) => outcome.map_err(ReadError::Job),
            Ok(Err(failure)) => Err(ReadError::Failed {
                reason: failure.to_string(),
            }),
            Err(_) => Err(ReadError::Failed {
                reason: "the job panicked".to_owned(),
            }),
        }
    }

    fn enqueue<E>(&self, job: Box<dyn Job>) -> Result<(), ReadError<E>> {
        let queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(queue) = queue.as_ref() else {
            return Err(ReadError::Closed);
        };
        queue.try_send(job).map_err(|error| match error {
            TrySendError::Full(_) => ReadError::Busy,
            TrySendError::Disconnected(_) => ReadError::Closed,
        })
    }

    pub(crate) async fn backup_to(&self, path: &Path) -> Result<(), BackupError> {
        let (source, target) = (Arc::clone(&self.path), path.to_owned());
        tokio::task::spawn_blocking(move || copy(&source, &target))
            .await
            .map_err(|error| BackupError::Failed {
                reason: error.to_string(),
            })?
    }

    /// Refuses new jobs; the threads end when the queued ones are done.
    pub(crate) fn close(&self) {
        self.queue
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
    }
}

fn run_reader(connection: &Connection, jobs: &Mutex<Receiver<Box<dyn Job>>>) {
    loop {
        let next = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(mut job) = next else { return };
        let outcome = run_in_snapshot(connection, job.as_mut());
        job.reply(outcome);
    }
}

fn run_in_snapshot(connection: &Connection, job: &mut dyn Job) -> Result<(), Failure> {
    let snapshot = connection.unchecked_transaction()?;
    job.run(connection);
    // A snapshot has no changes to commit.
    Ok(snapshot.rollback()?)
}

/// Writes a consistent copy of a database (mode 0600, fsynced) while others read and write it.
/// Blocks the thread.
///
/// # Errors
/// [`BackupError`]; an incomplete copy is removed.
pub fn copy(source: &Path, target: &Path) -> Result<(), BackupError> {
    let file = create_private(target)?;
    let copied = copy_pages(source, target).and_then(|()| sync_with_directory(&file, target));
    if copied.is_err() {
        remove_incomplete(target);
    }
    copied
}

fn create_private(target: &Path) -> Result<File, BackupError> {
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(target)
        .map_err(BackupError::from)
}

fn copy_pages(source: &Path, target: &Path) -> Result<(), BackupError> {
    let source = open::open_reader(source).map_err(|error| BackupError::Failed {
        reason: error.to_string(),
    })?;
    let mut target = Connection::open(target).map_err(Failure::from)?;
    let backup = Backup::new(&source, &mut target).map_err(Failure::from)?;
    let step = backup.step(ALL_PAGES).map_err(Failure::from)?;
    drop(backup);
    if step != StepResult::Done {
        return Err(BackupError::Failed {
            reason: "the database is locked".to_owned(),
        });
    }
    // Without write-ahead log the copy stays a single file, even after it was opened.
    target
        .pragma_update_and_check(None, "journal_mode", "delete", |_| Ok(()))
        .map_err(Failure::from)?;
    Ok(())
}

fn sync_with_directory(file: &File, target: &Path) -> Result<(), BackupError> {
    file.sync_all()?;
    let directory = target
        .parent()
        .filter(|directory| !directory.as_os_str().is_empty());
    File::open(directory.map_or_else(|| PathBuf::from("."), Path::to_owned))?.sync_all()?;
    Ok(())
}

fn remove_incomplete(target: &Path) {
    if let Err(error) = std::fs::remove_file(target) {
        tracing::warn!(%error, "cannot remove an incomplete backup");
    }
}

impl From<Failure> for BackupError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::DiskFull => Self::DiskFull,
            Failure::Failed { reason } => Self::Failed { reason },
        }
    }
}

impl From<io::Error> for BackupError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::AlreadyExists => Self::Exists,
            io::ErrorKind::StorageFull => Self::DiskFull,
            _ => Self::Failed {
                reason: error.to_string(),
            },
        }
    }
}
