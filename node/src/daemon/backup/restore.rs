//! Restore of a backup into a new data directory, which has a temporary name until it is complete.

use super::{
    archive::{BackupInfo, EntryName, EntrySink},
    error::BackupError,
    reader::{BackupContents, OpenBackup, check_database, unwrap_data_key},
    unfinished::{file_error, private_file, sync_parent, unfinished_path},
};
use crate::{
    daemon::{
        serve::{DATABASE_FILE, FILES_DIR},
        vault::{self, DATA_KEY_FILE, KEY_FILE, NewProtection},
    },
    store::{MIGRATIONS, OPTIONS},
};
use sealpost_service::{DataDir, DataDirError, create_private_directory, read_secret_file};
use std::{
    fs::{self, File},
    io::{self, Read},
    path::{Path, PathBuf},
};

/// Size of one write.
const WRITE_BYTES: usize = 256 * 1024;

/// Restores a backup. The directory must not exist, or be empty.
pub(super) fn restore(
    backup: OpenBackup,
    directory: &Path,
    protection: &NewProtection,
    expected_fingerprint: Option<&str>,
) -> Result<BackupContents, BackupError> {
    check_is_free(directory)?;
    let mut unfinished = UnfinishedDirectory {
        path: unfinished_path(directory),
        expected_fingerprint,
        is_created: false,
        files: 0,
        bytes: 0,
    };
    let info = backup.read(&mut unfinished)?;
    let missing = finish_content(&unfinished.path, &info, protection)?;
    let contents = BackupContents {
        info,
        files: unfinished.files,
        missing,
        bytes: unfinished.bytes,
    };
    unfinished.rename(directory)?;
    Ok(contents)
}

fn check_is_free(directory: &Path) -> Result<(), BackupError> {
    if DataDir::is_in_use(directory) {
        return Err(DataDirError::AlreadyInUse {
            path: directory.to_owned(),
        }
        .into());
    }
    match fs::read_dir(directory).map(|mut entries| entries.next().is_none()) {
        Ok(true) => Ok(()),
        Ok(false) => Err(BackupError::NotEmpty {
            path: directory.to_owned(),
        }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(file_error(directory)(error)),
    }
}

/// Checks the restored database and protects the data key, because the key file in the backup may
/// be known to whoever could read the backup. Returns the number of missing files.
fn finish_content(
    directory: &Path,
    info: &BackupInfo,
    protection: &NewProtection,
) -> Result<u64, BackupError> {
    let read = |name: &str| {
        let content = read_secret_file(&directory.join(name))
            .map_err(|error| BackupError::Damaged(error.to_string()))?;
        content.ok_or_else(|| BackupError::Damaged(format!("it has no {name}")))
    };
    let data_key = unwrap_data_key(&read(KEY_FILE)?, &read(DATA_KEY_FILE)?)?;
    let database = directory.join(DATABASE_FILE);
    if !database.exists() {
        return Err(BackupError::Damaged("it has no database".to_owned()));
    }
    let (sql, _) = sealpost_sqlite::open_read_only(&database, MIGRATIONS, OPTIONS)?;
    let named = check_database(&sql, &data_key, info)?;
    let files = directory.join(FILES_DIR);
    let missing = named
        .iter()
        .filter(|file| !files.join(file.to_string()).exists());
    vault::protect(directory, &data_key, protection)?;
    Ok(missing.count() as u64)
}

/// Data directory under a temporary name. It is removed if it is dropped before it is complete.
struct UnfinishedDirectory<'a> {
    path: PathBuf,
    expected_fingerprint: Option<&'a str>,
    is_created: bool,
    files: u64,
    bytes: u64,
}

impl UnfinishedDirectory<'_> {
    fn rename(&mut self, directory: &Path) -> Result<(), BackupError> {
        for path in [&self.path.join(FILES_DIR), &self.path] {
            File::open(path)
                .and_then(|directory| directory.sync_all())
                .map_err(file_error(path))?;
        }
        // This replaces an empty directory, and fails for any other.
        fs::rename(&self.path, directory).map_err(|source| match source.kind() {
            io::ErrorKind::DirectoryNotEmpty => BackupError::NotEmpty {
                path: directory.to_owned(),
            },
            _ => file_error(directory)(source),
        })?;
        self.is_created = false;
        sync_parent(directory)
    }
}

impl EntrySink for UnfinishedDirectory<'_> {
    fn start(&mut self, info: &BackupInfo) -> Result<(), BackupError> {
        if let Some(expected) = self.expected_fingerprint
            && expected != info.fingerprint
        {
            return Err(BackupError::OtherNode {
                name: info.name.clone(),
                fingerprint: info.fingerprint.clone(),
            });
        }
        if self.path.symlink_metadata().is_ok() {
            return Err(BackupError::Unfinished {
                path: self.path.clone(),
            });
        }
        self.is_created = true;
        for path in [&self.path, &self.path.join(FILES_DIR)] {
            create_private_directory(path).map_err(file_error(path))?;
        }
        Ok(())
    }

    fn store(
        &mut self,
        name: EntryName,
        bytes: u64,
        content: &mut dyn Read,
    ) -> Result<(), BackupError> {
        let path = self.path.join(name.to_string());
        let failed = file_error(&path);
        let mut file = private_file()
            .create_new(true)
            .open(&path)
            .map_err(&failed)?;
        copy(content, &mut file, &failed)?;
        file.sync_all().map_err(&failed)?;
        self.bytes += bytes;
        self.files += u64::from(matches!(name, EntryName::File(_)));
        Ok(())
    }
}

impl Drop for UnfinishedDirectory<'_> {
    fn drop(&mut self) {
        if self.is_created
            && let Err(error) = fs::remove_dir_all(&self.path)
        {
            tracing::warn!(%error, directory = %self.path.display(), "cannot remove a partial restore");
        }
    }
}

/// Copies an entry to a file. Damage of the backup is told from a failure of the disk.
fn copy(
    content: &mut dyn Read,
    file: &mut File,
    failed: impl Fn(io::Error) -> BackupError,
) -> Result<(), BackupError> {
    use io::Write as _;
    let mut buffer = vec![0; WRITE_BYTES];
    loop {
        let len = content.read(&mut buffer).map_err(BackupError::from_read)?;
        if len == 0 {
            return Ok(());
        }
        file.write_all(&buffer[..len]).map_err(&failed)?;
    }
}
