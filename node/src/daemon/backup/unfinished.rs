//! Files and directories that have a temporary name until they are complete.

use super::error::BackupError;
use rustix::fs::{CWD, RenameFlags, renameat_with};
use std::{
    ffi::OsString,
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

const SUFFIX: &str = ".unfinished";

/// Returns options to open a file for reading and writing, which others cannot read if it is
/// created.
pub(super) fn private_file() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true).mode(0o600);
    options
}

/// Returns the temporary name of a path.
pub(super) fn unfinished_path(path: &Path) -> PathBuf {
    let mut name = OsString::from(path.as_os_str());
    name.push(SUFFIX);
    name.into()
}

/// Returns an error for an operation on a path.
pub(super) fn file_error(path: &Path) -> impl Fn(io::Error) -> BackupError {
    let path = path.to_owned();
    move |source| BackupError::File {
        path: path.clone(),
        source,
    }
}

/// Syncs the directory that contains a path.
pub(super) fn sync_parent(path: &Path) -> Result<(), BackupError> {
    let parent = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    File::open(parent)
        .and_then(|directory| directory.sync_all())
        .map_err(file_error(parent))
}

/// New file that gets its name when it is complete, and is removed if it is dropped before.
pub(super) struct UnfinishedFile {
    pub(super) file: File,
    path: PathBuf,
    destination: PathBuf,
    is_finished: bool,
}

impl UnfinishedFile {
    /// Creates the file under a temporary name, with mode 0600.
    pub(super) fn create(destination: &Path) -> Result<Self, BackupError> {
        if destination.symlink_metadata().is_ok() {
            return Err(BackupError::Exists {
                path: destination.to_owned(),
            });
        }
        let path = unfinished_path(destination);
        let file = private_file().create_new(true).open(&path);
        let file = file.map_err(|source| match source.kind() {
            io::ErrorKind::AlreadyExists => BackupError::Unfinished { path: path.clone() },
            _ => file_error(&path)(source),
        })?;
        Ok(Self {
            file,
            path,
            destination: destination.to_owned(),
            is_finished: false,
        })
    }

    /// Returns the temporary name.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Syncs the file and gives it its name. Returns its size.
    pub(super) fn finish(mut self) -> Result<u64, BackupError> {
        let failed = file_error(&self.path);
        self.file.sync_all().map_err(&failed)?;
        let bytes = self.file.metadata().map_err(&failed)?.len();
        rename_new(&self.path, &self.destination)?;
        self.is_finished = true;
        sync_parent(&self.destination)?;
        Ok(bytes)
    }
}

impl Drop for UnfinishedFile {
    fn drop(&mut self) {
        if !self.is_finished
            && let Err(error) = fs::remove_file(&self.path)
        {
            tracing::warn!(%error, file = %self.path.display(), "cannot remove a partial file");
        }
    }
}

/// Renames a file to a name that must not exist.
fn rename_new(from: &Path, to: &Path) -> Result<(), BackupError> {
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        Ok(()) => Ok(()),
        Err(rustix::io::Errno::EXIST) => Err(BackupError::Exists {
            path: to.to_owned(),
        }),
        // The file system does not support the flag. Whether the name exists was checked before.
        Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) => {
            fs::rename(from, to).map_err(file_error(to))
        }
        Err(error) => Err(file_error(to)(error.into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_created_meanwhile_is_not_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let destination = directory.path().join("backup");
        let unfinished = UnfinishedFile::create(&destination).unwrap();
        fs::write(&destination, "mine").unwrap();
        let error = unfinished.finish().unwrap_err();
        assert!(matches!(error, BackupError::Exists { .. }), "{error}");
        assert_eq!(fs::read(&destination).unwrap(), b"mine");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }
}
