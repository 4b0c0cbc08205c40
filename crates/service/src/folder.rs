//! The folder that holds everything a daemon keeps, and the lock that lets only one process use it.

use sealpost_proto::limits::SECRET_FILE_BYTES_MAX;
use std::{
    fs::{DirBuilder, File, OpenOptions, Permissions, TryLockError},
    io::{self, Read as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};
use zeroize::Zeroizing;

const LOCK: &str = "lock";
const PRIVATE_FOLDER: u32 = 0o700;
const PRIVATE_FILE: u32 = 0o600;
const OTHERS: u32 = 0o077;

/// A data folder that this process alone uses until this value is dropped.
#[derive(Debug)]
pub struct DataFolder {
    path: PathBuf,
    _lock: File,
}

/// Why a data folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// Another process uses it.
    #[error(
        "the data folder {} is in use by another process: stop that one first, or choose another folder",
        path.display()
    )]
    AlreadyInUse {
        /// The folder.
        path: PathBuf,
    },
    /// Something else stands there.
    #[error("{} is not a folder: choose another one", path.display())]
    NotAFolder {
        /// What was named.
        path: PathBuf,
    },
    /// It cannot be made, opened or locked.
    #[error("the data folder {} cannot be used: {source}", path.display())]
    Failed {
        /// The folder.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

/// Why a file with a secret was not read or written.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// Others may read it.
    #[error("{} can be read by others: run chmod 600 on it", path.display())]
    TooOpen {
        /// The file.
        path: PathBuf,
    },
    /// Over 64 KiB.
    #[error("{} is too large to be a secret", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// It cannot be read or written.
    #[error("{}: {source}", path.display())]
    Failed {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

impl DataFolder {
    /// Makes the folder (mode 0700) when there is none, and locks it.
    ///
    /// # Errors
    /// [`FolderError::AlreadyInUse`] while another process holds it; the others when it cannot be used at all.
    pub fn open(path: &Path) -> Result<Self, FolderError> {
        let failed = |source| FolderError::Failed {
            path: path.to_owned(),
            source,
        };
        if path.exists() && !path.is_dir() {
            return Err(FolderError::NotAFolder {
                path: path.to_owned(),
            });
        }
        DirBuilder::new()
            .recursive(true)
            .mode(PRIVATE_FOLDER)
            .create(path)
            .map_err(failed)?;
        let lock = private_file()
            .write(true)
            .create(true)
            .truncate(false)
            .open(path.join(LOCK))
            .map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => Ok(Self {
                path: path.to_owned(),
                _lock: lock,
            }),
            Err(TryLockError::WouldBlock) => Err(FolderError::AlreadyInUse {
                path: path.to_owned(),
            }),
            Err(TryLockError::Error(source)) => Err(failed(source)),
        }
    }

    /// Whether a process holds the folder now. Nothing is made or changed.
    #[must_use]
    pub fn is_in_use(path: &Path) -> bool {
        let lock = File::open(path.join(LOCK));
        lock.is_ok_and(|lock| matches!(lock.try_lock_shared(), Err(TryLockError::WouldBlock)))
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A file or folder in it.
    #[must_use]
    pub fn join(&self, name: impl AsRef<Path>) -> PathBuf {
        self.path.join(name)
    }

    /// Writes a file of mode 0600, whole or not at all, and returns when it is on disk. A file of that name is replaced.
    ///
    /// # Errors
    /// [`SecretError::Failed`]; the old file is then still there.
    pub fn write_secret(&self, name: &str, content: &[u8]) -> Result<(), SecretError> {
        let path = self.join(name);
        self.replace(&path, content)
            .map_err(|source| SecretError::Failed { path, source })
    }

    /// Reads a file written by [`DataFolder::write_secret`], or `None` when there is none.
    ///
    /// # Errors
    /// [`SecretError::TooOpen`] when others may read it; the others when it cannot be read.
    pub fn read_secret(&self, name: &str) -> Result<Option<Zeroizing<Vec<u8>>>, SecretError> {
        let path = self.join(name);
        match File::open(&path) {
            Ok(file) => read_private(&path, file).map(Some),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(SecretError::Failed { path, source }),
        }
    }

    fn replace(&self, path: &Path, content: &[u8]) -> io::Result<()> {
        let next = path.with_extension("new");
        let mut file = private_file()
            .write(true)
            .create(true)
            .truncate(true)
            .open(&next)?;
        // One left over from a crash keeps the mode it was made with.
        file.set_permissions(Permissions::from_mode(PRIVATE_FILE))?;
        file.write_all(content)?;
        file.sync_all()?;
        std::fs::rename(&next, path)?;
        File::open(&self.path)?.sync_all()
    }
}

fn private_file() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.mode(PRIVATE_FILE);
    options
}

fn read_private(path: &Path, file: File) -> Result<Zeroizing<Vec<u8>>, SecretError> {
    let failed = |source| SecretError::Failed {
        path: path.to_owned(),
        source,
    };
    let metadata = file.metadata().map_err(failed)?;
    if metadata.permissions().mode() & OTHERS != 0 {
        return Err(SecretError::TooOpen {
            path: path.to_owned(),
        });
    }
    if metadata.len() > SECRET_FILE_BYTES_MAX {
        return Err(SecretError::TooLarge {
            path: path.to_owned(),
        });
    }
    let mut content = Zeroizing::new(Vec::with_capacity(
        usize::try_from(metadata.len()).unwrap_or_default(),
    ));
    file.take(SECRET_FILE_BYTES_MAX)
        .read_to_end(&mut content)
        .map_err(failed)?;
    Ok(content)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn only_one_holds_a_folder() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("a/b");
        let first = DataFolder::open(&path).unwrap();
        assert_eq!(mode(&path), 0o700);
        let error = DataFolder::open(&path).unwrap_err();
        assert!(matches!(error, FolderError::AlreadyInUse { .. }));
        assert!(error.to_string().contains("stop that one first"));
        assert!(DataFolder::is_in_use(&path));
        drop(first);
        assert!(!DataFolder::is_in_use(&path) && !DataFolder::is_in_use(parent.path()));
        DataFolder::open(&path).unwrap();
    }

    #[test]
    fn a_file_is_no_folder() {
        let file = tempfile::NamedTempFile::new().unwrap();
        assert!(matches!(
            DataFolder::open(file.path()),
            Err(FolderError::NotAFolder { .. })
        ));
    }

    #[test]
    fn a_secret_is_private_and_replaced_whole() {
        let parent = tempfile::tempdir().unwrap();
        let folder = DataFolder::open(parent.path()).unwrap();
        assert!(folder.read_secret("key").unwrap().is_none());
        folder.write_secret("key", b"one, and longer").unwrap();
        folder.write_secret("key", b"two").unwrap();
        assert_eq!(mode(&folder.join("key")), 0o600);
        assert_eq!(
            folder.read_secret("key").unwrap().unwrap().as_slice(),
            b"two"
        );
        assert_eq!(
            std::fs::read_dir(parent.path()).unwrap().count(),
            2,
            "the lock and the key, nothing left over"
        );
    }

    #[test]
    fn a_secret_that_others_can_read_is_refused() {
        let parent = tempfile::tempdir().unwrap();
        let folder = DataFolder::open(parent.path()).unwrap();
        folder.write_secret("key", b"x").unwrap();
        std::fs::set_permissions(folder.join("key"), Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(
            folder.read_secret("key"),
            Err(SecretError::TooOpen { .. })
        ));
    }
}
