//! Data directory of a daemon, locked so that only one process uses it.

use crate::units::shell_quote;
use sealpost_proto::limits::SECRET_FILE_BYTES_MAX;
use std::{
    fs::{self, DirBuilder, File, Metadata, OpenOptions, Permissions, TryLockError},
    io::{self, Read as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};
use zeroize::Zeroizing;

const LOCK_FILE: &str = "lock";
const PRIVATE_DIR_MODE: u32 = 0o700;
const PRIVATE_FILE_MODE: u32 = 0o600;
/// Permission bits of group and others.
const NON_OWNER_BITS: u32 = 0o077;
/// Permission bits of others.
const OTHERS_BITS: u32 = 0o007;
/// Variable with the directory in which systemd passes credentials to a service.
const CREDENTIALS_VARIABLE: &str = "CREDENTIALS_DIRECTORY";

/// Data directory that this process has locked until this value is dropped.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    lock: File,
}

/// Error returned by [`DataDir::open`].
#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    /// Another process has locked the directory.
    #[error(
        "the data directory {} is in use by another process: stop that process first, \
         or choose another directory",
        path.display()
    )]
    AlreadyInUse {
        /// Path of the directory.
        path: PathBuf,
    },
    /// The path is not a directory.
    #[error("{} is not a directory: choose another one", path.display())]
    NotADirectory {
        /// Path that is not a directory.
        path: PathBuf,
    },
    /// Other users can read or change the directory.
    #[error(
        "other users can access the data directory {}: run chmod 700 {}",
        path.display(), shell_quote(&path.to_string_lossy())
    )]
    TooPermissive {
        /// Path of the directory.
        path: PathBuf,
    },
    /// The directory cannot be created, opened or locked.
    #[error("the data directory {} cannot be used: {source}", path.display())]
    Failed {
        /// Path of the directory.
        path: PathBuf,
        /// Error from the operating system.
        source: io::Error,
    },
}

/// Error when reading or writing a secret file.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// Other users can read the file.
    #[error("{} can be read by other users: run chmod 600 on it", path.display())]
    TooPermissive {
        /// Path of the file.
        path: PathBuf,
    },
    /// The file is larger than [`SECRET_FILE_BYTES_MAX`].
    #[error("{} is too large to be a secret", path.display())]
    TooLarge {
        /// Path of the file.
        path: PathBuf,
    },
    /// The file cannot be read or written.
    #[error(
        "the secret file {} cannot be read or written: {source}; check its owner and mode",
        path.display()
    )]
    Failed {
        /// Path of the file.
        path: PathBuf,
        /// Error from the operating system.
        source: io::Error,
    },
}

impl DataDir {
    /// Creates the directory with mode 0700 if it does not exist, and locks it.
    ///
    /// # Errors
    /// Returns [`DataDirError::AlreadyInUse`] while another process has the lock,
    /// [`DataDirError::TooPermissive`] if an existing directory has another mode, and the other
    /// variants if the directory cannot be used.
    pub fn open(path: &Path) -> Result<Self, DataDirError> {
        let failed = |source| DataDirError::Failed {
            path: path.to_owned(),
            source,
        };
        if path.exists() && !path.is_dir() {
            return Err(DataDirError::NotADirectory {
                path: path.to_owned(),
            });
        }
        if !path.exists() {
            create_private_directory(path).map_err(failed)?;
        }
        if mode(&path.metadata().map_err(failed)?) & NON_OWNER_BITS != 0 {
            return Err(DataDirError::TooPermissive {
                path: path.to_owned(),
            });
        }
        let lock = private_file_options()
            .write(true)
            .create(true)
            .truncate(false)
            .open(path.join(LOCK_FILE))
            .map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => Ok(Self {
                path: path.to_owned(),
                lock,
            }),
            Err(TryLockError::WouldBlock) => Err(DataDirError::AlreadyInUse {
                path: path.to_owned(),
            }),
            Err(TryLockError::Error(source)) => Err(failed(source)),
        }
    }

    /// Whether a process has locked the directory. Takes a shared lock for a moment, during which
    /// [`DataDir::open`] in another process can fail.
    #[must_use]
    pub fn is_in_use(path: &Path) -> bool {
        let lock = File::open(path.join(LOCK_FILE));
        lock.is_ok_and(|lock| matches!(lock.try_lock_shared(), Err(TryLockError::WouldBlock)))
    }

    /// Returns the path of the directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the path of an entry in the data directory.
    #[must_use]
    pub fn join(&self, name: impl AsRef<Path>) -> PathBuf {
        self.path.join(name)
    }

    /// Writes a file of mode 0600 atomically and returns once it is on disk. Replaces an existing
    /// file.
    ///
    /// # Errors
    /// [`SecretError::Failed`]; then the old file is unchanged.
    pub fn write_secret(&self, name: &str, content: &[u8]) -> Result<(), SecretError> {
        let path = self.join(name);
        write_private(&path, content).map_err(|source| SecretError::Failed { path, source })
    }

    /// Reads a file that [`DataDir::write_secret`] wrote. Returns `None` if it does not exist.
    ///
    /// # Errors
    /// Returns [`SecretError::TooPermissive`] if other users can read the file, and the other
    /// variants if it cannot be read.
    pub fn read_secret(&self, name: &str) -> Result<Option<Zeroizing<Vec<u8>>>, SecretError> {
        read_secret_file(&self.join(name))
    }
}

impl Drop for DataDir {
    fn drop(&mut self) {
        // A child process that was forked and has not executed its program yet has a copy of the
        // descriptor, so closing ours would not release the lock. If this fails, closing does.
        let _ = self.lock.unlock();
    }
}

/// Writes a file of mode 0600 atomically and returns once it is on disk. Creates its directory with
/// mode 0700 if that does not exist.
///
/// # Errors
/// [`SecretError::Failed`]; then the old file is unchanged.
pub fn write_secret_file(path: &Path, content: &[u8]) -> Result<(), SecretError> {
    let failed = |source| SecretError::Failed {
        path: path.to_owned(),
        source,
    };
    match path.parent() {
        Some(directory) if !directory.exists() => {
            create_private_directory(directory).map_err(failed)?;
        }
        _ => {}
    }
    write_private(path, content).map_err(failed)
}

/// Returns the directory in which the service manager passes credentials, if it passes any.
#[must_use]
pub fn credentials_directory() -> Option<PathBuf> {
    std::env::var_os(CREDENTIALS_VARIABLE).map(PathBuf::from)
}

/// Reads a file of mode 0600, or a credential of the service. Returns `None` if it does not exist.
///
/// # Errors
/// Returns [`SecretError::TooPermissive`] if other users can read the file, and the other variants
/// if it cannot be read.
pub fn read_secret_file(path: &Path) -> Result<Option<Zeroizing<Vec<u8>>>, SecretError> {
    read_secret_or_credential(path, credentials_directory().as_deref())
}

/// Reads a secret file. The files of the credentials directory belong to root; an access control
/// list, whose mask looks like the permissions of the group, lets the user of the service read them.
fn read_secret_or_credential(
    path: &Path,
    credentials: Option<&Path>,
) -> Result<Option<Zeroizing<Vec<u8>>>, SecretError> {
    let is_credential = credentials.is_some_and(|directory| path.starts_with(directory));
    let forbidden_bits = if is_credential {
        OTHERS_BITS
    } else {
        NON_OWNER_BITS
    };
    match File::open(path) {
        Ok(file) => read_private(path, file, forbidden_bits).map(Some),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(SecretError::Failed {
            path: path.to_owned(),
            source,
        }),
    }
}

/// Creates a directory, and its parents if they do not exist. It gets mode 0700 whatever the umask
/// is, even if it existed before.
///
/// # Errors
/// The operating system refuses to create the directory or to change its mode.
pub fn create_private_directory(path: &Path) -> io::Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(PRIVATE_DIR_MODE)
        .create(path)?;
    if mode(&path.metadata()?) == PRIVATE_DIR_MODE {
        return Ok(());
    }
    fs::set_permissions(path, Permissions::from_mode(PRIVATE_DIR_MODE))
}

fn mode(metadata: &Metadata) -> u32 {
    metadata.permissions().mode() & 0o7777
}

/// Writes a file of mode 0600 atomically and syncs it together with its directory.
pub(crate) fn write_private(path: &Path, content: &[u8]) -> io::Result<()> {
    let temporary = path.with_extension("new");
    let mut file = private_file_options()
        .write(true)
        .create(true)
        .truncate(true)
        .open(&temporary)?;
    // A file that a crash left behind could have another mode.
    file.set_permissions(Permissions::from_mode(PRIVATE_FILE_MODE))?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    path.parent()
        .map_or(Ok(()), |directory| File::open(directory)?.sync_all())
}

fn private_file_options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.mode(PRIVATE_FILE_MODE);
    options
}

fn read_private(
    path: &Path,
    file: File,
    forbidden_bits: u32,
) -> Result<Zeroizing<Vec<u8>>, SecretError> {
    let failed = |source| SecretError::Failed {
        path: path.to_owned(),
        source,
    };
    let metadata = file.metadata().map_err(failed)?;
    if mode(&metadata) & forbidden_bits != 0 {
        return Err(SecretError::TooPermissive {
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
        super::mode(&path.metadata().unwrap())
    }

    fn private_directory() -> tempfile::TempDir {
        let private = Permissions::from_mode(PRIVATE_DIR_MODE);
        tempfile::Builder::new()
            .permissions(private)
            .tempdir()
            .unwrap()
    }

    #[test]
    fn new_directories_are_private() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("a/b");
        DataDir::open(&path).unwrap();
        assert_eq!(mode(&path), 0o700);
    }

    #[test]
    fn directories_of_others_are_refused_with_the_remedy() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("it's here");
        fs::create_dir(&path).unwrap();
        for bits in [0o750, 0o705, 0o711, 0o770] {
            fs::set_permissions(&path, Permissions::from_mode(bits)).unwrap();
            let error = DataDir::open(&path).unwrap_err();
            assert!(matches!(error, DataDirError::TooPermissive { .. }));
            let text = error.to_string();
            let (_, remedy) = text.rsplit_once(": run ").unwrap();
            let status = std::process::Command::new("sh")
                .args(["-c", remedy])
                .status();
            assert!(status.unwrap().success(), "{remedy}");
            DataDir::open(&path).unwrap();
        }
    }

    #[test]
    fn private_directories_lose_other_permissions() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("files");
        create_private_directory(&path).unwrap();
        assert_eq!(mode(&path), 0o700);
        fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
        create_private_directory(&path).unwrap();
        assert_eq!(mode(&path), 0o700);
    }

    #[test]
    fn second_open_fails_until_the_first_closes() {
        let parent = private_directory();
        let first = DataDir::open(parent.path()).unwrap();
        let error = DataDir::open(parent.path()).unwrap_err();
        assert!(matches!(error, DataDirError::AlreadyInUse { .. }));
        assert!(error.to_string().contains("stop that process first"));
        drop(first);
        DataDir::open(parent.path()).unwrap();
    }

    #[test]
    fn copies_of_the_descriptor_keep_no_lock() {
        let parent = private_directory();
        let directory = DataDir::open(parent.path()).unwrap();
        let _copy = directory.lock.try_clone().unwrap();
        drop(directory);
        DataDir::open(parent.path()).unwrap();
    }

    #[test]
    fn only_locked_directories_are_in_use() {
        let parent = private_directory();
        assert!(!DataDir::is_in_use(parent.path()));
        let open = DataDir::open(parent.path()).unwrap();
        assert!(DataDir::is_in_use(parent.path()));
        drop(open);
        assert!(!DataDir::is_in_use(parent.path()));
    }

    #[test]
    fn a_file_is_not_a_data_directory() {
        let file = tempfile::NamedTempFile::new().unwrap();
        assert!(matches!(
            DataDir::open(file.path()),
            Err(DataDirError::NotADirectory { .. })
        ));
    }

    #[test]
    fn secrets_are_private() {
        let parent = private_directory();
        let directory = DataDir::open(parent.path()).unwrap();
        directory.write_secret("key", b"x").unwrap();
        assert_eq!(mode(&directory.join("key")), 0o600);
    }

    #[test]
    fn secrets_are_replaced_as_a_whole() {
        let parent = private_directory();
        let directory = DataDir::open(parent.path()).unwrap();
        assert!(directory.read_secret("key").unwrap().is_none());
        directory.write_secret("key", b"one, and longer").unwrap();
        directory.write_secret("key", b"two").unwrap();
        assert_eq!(
            directory.read_secret("key").unwrap().unwrap().as_slice(),
            b"two"
        );
        let entries = fs::read_dir(parent.path()).unwrap().count();
        assert_eq!(entries, 2, "only the lock and the key");
    }

    #[test]
    fn secrets_readable_by_others_are_refused() {
        let parent = private_directory();
        let directory = DataDir::open(parent.path()).unwrap();
        directory.write_secret("key", b"x").unwrap();
        fs::set_permissions(directory.join("key"), Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(
            directory.read_secret("key"),
            Err(SecretError::TooPermissive { .. })
        ));
    }

    #[test]
    fn credentials_are_readable_by_the_group() {
        let parent = private_directory();
        let path = parent.path().join("sealpost-key");
        fs::write(&path, b"x").unwrap();
        let read = |bits: u32, credentials: Option<&Path>| {
            fs::set_permissions(&path, Permissions::from_mode(bits)).unwrap();
            read_secret_or_credential(&path, credentials).is_ok()
        };
        let elsewhere = tempfile::tempdir().unwrap();
        assert!(read(0o440, Some(parent.path())));
        assert!(!read(0o444, Some(parent.path())));
        assert!(!read(0o440, None));
        assert!(!read(0o440, Some(elsewhere.path())));
    }
}
