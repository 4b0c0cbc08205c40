//! Backups that are opened: verified, or restored.

use super::{
    archive::{self, BackupInfo, EntryName, EntrySink, NodeDescription},
    describe_node,
    error::BackupError,
    protection::Secret,
    restore,
    unfinished::file_error,
};
use crate::{
    daemon::vault::{self, NewProtection},
    files::DiskFileId,
    store::{self, MIGRATIONS, OPTIONS, backup_copy},
};
use sealpost_age::{Decryptor, EncryptedFile};
use sealpost_e2ee::vault::DataKey;
use std::{
    collections::BTreeSet,
    fs::File,
    io::{self, Read},
    path::Path,
};
use zeroize::Zeroizing;

/// Backup whose header was read.
pub(crate) struct EncryptedBackup(EncryptedFile<File>);

/// Decrypted backup; nothing of its content was read.
pub(crate) struct OpenBackup(Decryptor<File>);

/// What a backup contains.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BackupContents {
    pub(crate) info: BackupInfo,
    /// Number of files of messages.
    pub(crate) files: u64,
    /// Files that the database names and the backup does not contain.
    pub(crate) missing: u64,
    /// Size of the content.
    pub(crate) bytes: u64,
}

impl EncryptedBackup {
    /// Opens a backup and reads its header.
    pub(crate) fn open(path: &Path) -> Result<Self, BackupError> {
        let file = File::open(path).map_err(file_error(path))?;
        EncryptedFile::read(file)
            .map(Self)
            .map_err(|source| BackupError::NotEncrypted {
                path: path.to_owned(),
                source,
            })
    }

    /// Whether a passphrase decrypts it, and not an identity.
    pub(crate) const fn needs_passphrase(&self) -> bool {
        matches!(self.0, EncryptedFile::Passphrase(_))
    }

    /// Decrypts the key of the backup.
    pub(crate) fn unlock(self, secret: &Secret) -> Result<OpenBackup, BackupError> {
        Ok(OpenBackup(match (self.0, secret) {
            (EncryptedFile::Passphrase(file), Secret::Passphrase(passphrase)) => {
                file.unlock(passphrase)?
            }
            (EncryptedFile::Recipients(file), Secret::Identities(identities)) => {
                file.unlock(identities)?
            }
            (EncryptedFile::Passphrase(_), _) => {
                return Err(BackupError::WrongProtection("a passphrase"));
            }
            (EncryptedFile::Recipients(_), _) => {
                return Err(BackupError::WrongProtection("a recipient"));
            }
        }))
    }
}

impl OpenBackup {
    /// Reads the whole backup and checks everything in it, without writing anything.
    pub(crate) fn verify(self) -> Result<BackupContents, BackupError> {
        let mut sink = Verification::default();
        let info = self.read(&mut sink)?;
        sink.check(info)
    }

    /// Restores the backup into a new or empty directory.
    pub(crate) fn restore(
        self,
        directory: &Path,
        protection: &NewProtection,
        expected_fingerprint: Option<&str>,
    ) -> Result<BackupContents, BackupError> {
        restore::restore(self, directory, protection, expected_fingerprint)
    }

    pub(super) fn read(self, sink: &mut impl EntrySink) -> Result<BackupInfo, BackupError> {
        let supported = MIGRATIONS.last().map_or(0, |migration| migration.version);
        let (info, mut rest) = archive::read(self.0, supported, sink)?;
        // The end of the archive is not the end of the file.
        io::copy(&mut rest, &mut io::sink()).map_err(BackupError::from_read)?;
        rest.finish().map_err(BackupError::from_read)?;
        Ok(info)
    }
}

/// Checks a database and whether it belongs to the description and the data key of its backup.
/// Returns the files that it names.
pub(super) fn check_database(
    sql: &rusqlite::Connection,
    data_key: &DataKey,
    info: &BackupInfo,
) -> Result<Vec<DiskFileId>, BackupError> {
    sealpost_sqlite::check_integrity(sql)
        .map_err(|failure| BackupError::Damaged(failure.to_string()))?;
    let job = |tx: &mut store::Tx<'_>| Ok((describe_node(tx)?, backup_copy::find_disk_files(tx)?));
    let (node, files) = store::inspect(sql, data_key, job)?;
    let NodeDescription { fingerprint, .. } = node;
    if fingerprint != info.fingerprint {
        let reason = "its database belongs to another node than its description";
        return Err(BackupError::Damaged(reason.to_owned()));
    }
    Ok(files.iter().map(|file| file.disk_file).collect())
}

/// Opens the data key of a backup.
pub(super) fn unwrap_data_key(key_file: &[u8], wrapped: &[u8]) -> Result<DataKey, BackupError> {
    vault::unwrap(key_file, wrapped).map_err(|error| BackupError::Damaged(format!("{error:#}")))
}

/// Sink that keeps only what the checks need.
#[derive(Default)]
struct Verification {
    key_file: Zeroizing<Vec<u8>>,
    data_key: Zeroizing<Vec<u8>>,
    database: Option<rusqlite::Connection>,
    files: BTreeSet<[u8; 16]>,
    bytes: u64,
}

impl Verification {
    fn check(self, info: BackupInfo) -> Result<BackupContents, BackupError> {
        let data_key = unwrap_data_key(&self.key_file, &self.data_key)?;
        let database = self
            .database
            .ok_or_else(|| BackupError::Damaged("it has no database".to_owned()))?;
        let named = check_database(&database, &data_key, &info)?;
        let is_missing = |file: &&DiskFileId| !self.files.contains(file.as_bytes());
        Ok(BackupContents {
            info,
            files: self.files.len() as u64,
            missing: named.iter().filter(is_missing).count() as u64,
            bytes: self.bytes,
        })
    }
}

impl EntrySink for Verification {
    fn start(&mut self, _: &BackupInfo) -> Result<(), BackupError> {
        Ok(())
    }

    fn store(
        &mut self,
        name: EntryName,
        bytes: u64,
        content: &mut dyn Read,
    ) -> Result<(), BackupError> {
        self.bytes += bytes;
        let read = match name {
            EntryName::KeyFile => content.read_to_end(&mut self.key_file),
            EntryName::DataKey => content.read_to_end(&mut self.data_key),
            EntryName::Database => {
                self.database = Some(read_database(content, bytes)?);
                return Ok(());
            }
            EntryName::File(file) => {
                self.files.insert(*file.as_bytes());
                return discard(content);
            }
            EntryName::Config => return discard(content),
        };
        read.map(drop).map_err(BackupError::from_read)
    }
}

fn read_database(content: &mut dyn Read, bytes: u64) -> Result<rusqlite::Connection, BackupError> {
    let bytes = usize::try_from(bytes)
        .map_err(|_| BackupError::Damaged("its database is too large".to_owned()))?;
    let (database, _) = sealpost_sqlite::open_from_memory(content, bytes, MIGRATIONS, OPTIONS)?;
    Ok(database)
}

fn discard(content: &mut dyn Read) -> Result<(), BackupError> {
    io::copy(content, &mut io::sink())
        .map(drop)
        .map_err(BackupError::from_read)
}
