//! Backups: complete copies of the data directory, from which a relay can be started. The relay may
//! be running.
//!
//! The database is copied first, in one consistent state, then the parts of blobs that the copy
//! refers to. A part never changes once it is written, so on the same file system it is
//! hard-linked, and copied otherwise. A running relay deletes no parts in the meantime
//! ([`Blobs::lock_shared`]). Start reading at [`create`].

use crate::{
    blobs::{BlobError, Blobs},
    data_layout::{BLOBS_DIR, DATABASE_FILE, SECRET_FILE},
    store::{Inspection, StoreError},
};
use sealpost_sqlite::OpenError;
use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

const PRIVATE_DIR: u32 = 0o700;
const PRIVATE_FILE: u32 = 0o600;

/// Error of a backup. The incomplete copy remains under a name that ends in `.unfinished`.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BackupError {
    #[error(
        "there is no relay in {}: set its data directory with --data or --config",
        directory.display()
    )]
    NoRelay { directory: PathBuf },
    #[error("{} exists already: choose another name", path.display())]
    Exists { path: PathBuf },
    #[error("the database could not be copied: {0}")]
    Database(#[from] sealpost_sqlite::BackupError),
    /// The copy of the database cannot be opened.
    #[error(transparent)]
    OpenCopy(#[from] OpenError),
    /// The copy of the database cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Blobs(#[from] BlobError),
    #[error("{}: {source}", path.display())]
    File { path: PathBuf, source: io::Error },
}

/// Contents of a backup.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct BackupSummary {
    /// Number of parts of blobs.
    pub(crate) parts: u64,
    /// Bytes of the parts.
    pub(crate) bytes: u64,
}

/// Creates a backup of the relay in `directory` at `destination`, which must not exist. It appears
/// there only when it is complete and on disk. Blocks.
pub(crate) fn create(directory: &Path, destination: &Path) -> Result<BackupSummary, BackupError> {
    if !directory.join(DATABASE_FILE).exists() {
        return Err(BackupError::NoRelay {
            directory: directory.to_owned(),
        });
    }
    let unfinished = destination.with_extension("unfinished");
    for path in [destination, &unfinished] {
        if path.exists() {
            return Err(BackupError::Exists {
                path: path.to_owned(),
            });
        }
    }
    create_directory(&unfinished)?;
    let _lock = Blobs::lock_shared(&directory.join(BLOBS_DIR))?;
    sealpost_sqlite::copy(
        &directory.join(DATABASE_FILE),
        &unfinished.join(DATABASE_FILE),
    )?;
    let summary = copy_parts(directory, &unfinished)?;
    copy(&directory.join(SECRET_FILE), &unfinished.join(SECRET_FILE))?;
    sync(&unfinished)?;
    fs::rename(&unfinished, destination).map_err(file_error(destination))?;
    sync(parent(destination))?;
    Ok(summary)
}

fn copy_parts(directory: &Path, copy: &Path) -> Result<BackupSummary, BackupError> {
    let (from, to) = (directory.join(BLOBS_DIR), copy.join(BLOBS_DIR));
    create_directory(&to)?;
    let mut summary = BackupSummary::default();
    let database = Inspection::open(&copy.join(DATABASE_FILE))?;
    let mut current: Option<PathBuf> = None;
    database.start_snapshot()?.visit_parts(|name, bytes| {
        let path = name.relative_path();
        let blob = to.join(parent(&path));
        if current.as_ref() != Some(&blob) {
            // Parts are listed blob by blob, so the directory of the previous blob is complete.
            if let Some(complete) = current.replace(blob.clone()) {
                sync(&complete)?;
            }
            create_directory(&blob)?;
        }
        summary.parts += 1;
        summary.bytes += bytes;
        link_or_copy(&from.join(&path), &to.join(&path))
    })?;
    if let Some(complete) = current {
        sync(&complete)?;
    }
    sync(&to)?;
    Ok(summary)
}

fn link_or_copy(from: &Path, to: &Path) -> Result<(), BackupError> {
    match fs::hard_link(from, to) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(file_error(from)(error)),
        // Another file system, or one without hard links.
        Err(_) => copy(from, to),
    }
}

fn copy(from: &Path, to: &Path) -> Result<(), BackupError> {
    let mut source = File::open(from).map_err(file_error(from))?;
    let mut target = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(PRIVATE_FILE)
        .open(to)
        .map_err(file_error(to))?;
    io::copy(&mut source, &mut target)
        .and_then(|_| target.sync_all())
        .map_err(file_error(to))
}

fn create_directory(path: &Path) -> Result<(), BackupError> {
    DirBuilder::new()
        .mode(PRIVATE_DIR)
        .create(path)
        .map_err(file_error(path))
}

fn sync(directory: &Path) -> Result<(), BackupError> {
    File::open(directory)
        .and_then(|directory| directory.sync_all())
        .map_err(file_error(directory))
}

fn parent(path: &Path) -> &Path {
    path.parent()
        .filter(|parent| !parent.as_os_str().is_empty())
        .unwrap_or(Path::new("."))
}

fn file_error(path: &Path) -> impl FnOnce(io::Error) -> BackupError {
    let path = path.to_owned();
    move |source| BackupError::File { path, source }
}
