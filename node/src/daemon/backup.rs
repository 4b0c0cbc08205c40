//! Backups of a node: one file that is encrypted in the age format, made while the node is running
//! or stopped, and restored into a new data directory.
//!
//! A backup contains the identity, the connections, the chats with their files, and the settings. It
//! does not contain the ratchets and the secrets of the prekeys ([`backup_copy`]), so a restored
//! node starts new sessions and asks its partners for what it lacks ([`crate::recovery`]).
//!
//! The database is copied first, in one consistent state, then the files that the copy refers to. A
//! file never changes once it is complete. One that is deleted in the meantime, because nobody needs
//! it any more, is left out. Start reading at [`create`] and [`EncryptedBackup`].

mod archive;
mod error;
mod protection;
mod reader;
mod restore;
pub(super) mod schedule;
mod unfinished;

pub(crate) use archive::BackupInfo;
pub(crate) use error::BackupError;
pub(crate) use protection::{Protection, Secret, read_identities, read_passphrase};
pub(crate) use reader::{BackupContents, EncryptedBackup, OpenBackup};

use super::{
    serve::{DATABASE_FILE, FILES_DIR, open_store_at},
    vault,
};
use crate::{
    config::CONFIG_FILE,
    fault::Fault,
    hex,
    identity::NodeIdentity,
    store::{
        MIGRATIONS, Tx,
        backup_copy::{self, StoredDiskFile},
        settings,
    },
};
use archive::{ArchiveWriter, EntryName, NodeDescription};
use sealpost_e2ee::vault::DataKey;
use sealpost_node_core::transfer::DownloadPolicy;
use sealpost_service::{Clock as _, SystemClock};
use std::{
    fs::File,
    io::{self, Write},
    path::{Path, PathBuf},
    sync::Arc,
};
use tokio::{runtime::Handle, task::spawn_blocking};
use tokio_util::sync::CancellationToken;
use unfinished::UnfinishedFile;

/// Name of the copy of the database, in the data directory, while a backup is made.
const COPY_FILE: &str = "backup-copy.db";
/// Name of the file that a running backup has locked.
const LOCK_FILE: &str = "backup-lock";

/// Backup that was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CreatedBackup {
    pub(crate) path: PathBuf,
    /// Number of files of messages.
    pub(crate) files: u64,
    /// Files that were deleted before they could be copied.
    pub(crate) missing: u64,
    /// Size of the backup.
    pub(crate) bytes: u64,
}

/// Makes a backup of the node in `directory`, which may be running and whose data key is open. It appears at `destination`,
/// which must not exist, only when it is complete and on disk. If the future is dropped, the backup
/// stops and leaves nothing behind.
pub(crate) async fn create(
    directory: &Path,
    data_key: DataKey,
    destination: &Path,
    protection: Arc<Protection>,
) -> Result<CreatedBackup, BackupError> {
    let stop = CancellationToken::new();
    let _stop_on_drop = stop.clone().drop_guard();
    let (directory, destination) = (directory.to_owned(), destination.to_owned());
    let runtime = Handle::current();
    let created = spawn_blocking(move || {
        let create = create_until(&directory, &data_key, &destination, &protection, &stop);
        runtime.block_on(create)
    });
    created
        .await
        .map_err(|error| BackupError::Fault(Fault::failed(error.to_string())))?
}

/// Output that fails once the backup is stopped.
struct StoppableOutput<'a> {
    file: &'a File,
    stop: &'a CancellationToken,
}

impl Write for StoppableOutput<'_> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        if self.stop.is_cancelled() {
            return Err(io::Error::other("the backup was stopped"));
        }
        self.file.write(buffer)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// Makes a backup. Blocks the thread.
async fn create_until(
    directory: &Path,
    data_key: &DataKey,
    destination: &Path,
    protection: &Protection,
    stop: &CancellationToken,
) -> Result<CreatedBackup, BackupError> {
    let output = UnfinishedFile::create(destination)?;
    let (copy, node, files) = copy_database(directory, data_key).await?;
    let now = SystemClock.now();
    let schema = MIGRATIONS.last().map_or(0, |migration| migration.version);
    let info = BackupInfo::new(node, schema, now);
    let mut rng = sealpost_service::entropy();
    let stoppable = StoppableOutput {
        file: &output.file,
        stop,
    };
    let encryptor = protection.encrypt(stoppable, &mut rng)?;
    let failed = |source| BackupError::File {
        path: output.path().to_owned(),
        source,
    };
    let write = || -> io::Result<(u64, u64)> {
        let mut archive = ArchiveWriter::start(encryptor, &info, now)?;
        add_small_files(&mut archive, directory, data_key)?;
        add_file(&mut archive, EntryName::Database, &copy.path)?;
        let counts = add_disk_files(&mut archive, &directory.join(FILES_DIR), &files)?;
        archive.finish()?.finish()?;
        Ok(counts)
    };
    let (files, missing) = write().map_err(failed)?;
    let bytes = output.finish()?;
    Ok(CreatedBackup {
        path: destination.to_owned(),
        files,
        missing,
        bytes,
    })
}

/// Copy of the database, which is deleted when it is dropped.
struct DatabaseCopy {
    path: PathBuf,
    /// Locked until the copy is deleted, so that two backups do not use the same copy.
    _lock: File,
}

impl Drop for DatabaseCopy {
    fn drop(&mut self) {
        remove_copy(&self.path);
    }
}

fn remove_copy(path: &Path) {
    for suffix in ["", "-wal", "-shm", "-journal"] {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        if let Err(error) = std::fs::remove_file(&name)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(%error, "cannot remove the copy of the database");
        }
    }
}

/// Copies the database and removes what a backup must not contain. The copy is in the data
/// directory, because the disk of the backup may not be trusted with it.
async fn copy_database(
    directory: &Path,
    data_key: &DataKey,
) -> Result<(DatabaseCopy, NodeDescription, Vec<StoredDiskFile>), BackupError> {
    let copy = DatabaseCopy {
        _lock: lock(&directory.join(LOCK_FILE))?,
        path: directory.join(COPY_FILE),
    };
    // An interrupted backup may have left its copy behind.
    remove_copy(&copy.path);
    sealpost_sqlite::copy(&directory.join(DATABASE_FILE), &copy.path)?;
    let store = open_store_at(&copy.path, data_key.clone())?;
    let prepared = store
        .write(SystemClock.now(), |tx| {
            backup_copy::prepare(tx)?;
            Ok((describe_node(tx)?, backup_copy::find_disk_files(tx)?))
        })
        .await;
    store.close().await;
    let (node, files) = prepared?;
    sealpost_sqlite::compact(&copy.path)?;
    Ok((copy, node, files))
}

fn lock(path: &Path) -> Result<File, BackupError> {
    let failed = |source| BackupError::File {
        path: path.to_owned(),
        source,
    };
    let lock = unfinished::private_file()
        .create(true)
        .truncate(false)
        .open(path)
        .map_err(failed)?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(std::fs::TryLockError::WouldBlock) => Err(BackupError::Running),
        Err(std::fs::TryLockError::Error(source)) => Err(failed(source)),
    }
}

/// Describes the node of a database.
fn describe_node(tx: &Tx<'_>) -> Result<NodeDescription, Fault> {
    let settings =
        settings::load(tx)?.ok_or_else(|| Fault::failed("the database contains no node"))?;
    let identity = NodeIdentity::from_settings(&settings, DownloadPolicy::Always)?;
    Ok(NodeDescription {
        name: identity.name,
        fingerprint: hex::encode(identity.keys.fingerprint().as_bytes()),
        relay: identity.relay.to_string(),
    })
}

/// Adds the configuration and the data key, which a new key file wraps: what protects the one of
/// the data directory opens nothing of the backup.
fn add_small_files<W: Write>(
    archive: &mut ArchiveWriter<W>,
    directory: &Path,
    data_key: &DataKey,
) -> io::Result<()> {
    let config = directory.join(CONFIG_FILE);
    if config.exists() {
        add_file(archive, EntryName::Config, &config)?;
    }
    let wrapped = vault::wrap(data_key);
    for (name, content) in [
        (EntryName::KeyFile, wrapped.key_file.as_bytes()),
        (EntryName::DataKey, wrapped.data_key.as_slice()),
    ] {
        archive.add(name, content.len() as u64, content)?;
    }
    Ok(())
}

/// Adds the sealed files, and returns how many were added and how many were missing.
fn add_disk_files<W: Write>(
    archive: &mut ArchiveWriter<W>,
    directory: &Path,
    files: &[StoredDiskFile],
) -> io::Result<(u64, u64)> {
    let (mut added, mut missing) = (0, 0);
    for StoredDiskFile { disk_file, .. } in files {
        let path = directory.join(disk_file.to_string());
        match add_file(archive, EntryName::File(*disk_file), &path) {
            Ok(()) => added += 1,
            Err(error) if error.kind() == io::ErrorKind::NotFound => missing += 1,
            Err(error) => return Err(error),
        }
    }
    Ok((added, missing))
}

fn add_file<W: Write>(
    archive: &mut ArchiveWriter<W>,
    name: EntryName,
    path: &Path,
) -> io::Result<()> {
    let file = File::open(path)?;
    let bytes = file.metadata()?.len();
    archive.add(name, bytes, file)
}

#[cfg(test)]
mod tests;
