//! Change of what protects a data key, in steps that can be interrupted at any instant.

use super::{
    DATA_KEY_FILE, KEY_FILE, KeyProtection, KeySecrets, STAGED_KEY_FILE, VaultError, describe,
    locate_key_file, open_locked, read_key_file,
};
use sealpost_e2ee::vault::{DataKey, KeyFile, Passphrase, WrapKind};
use sealpost_service::{DataDir, read_secret_file, write_secret_file};
use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{MetadataExt as _, symlink},
    path::{Path, PathBuf},
};
use zeroize::Zeroizing;

/// Protection to put in force.
pub(crate) enum NewProtection {
    /// A key file, by default a new one in the data directory. A file that exists is used, one that
    /// does not exist is created.
    KeyFile(Option<PathBuf>),
    Passphrase(Passphrase),
    /// The key that the service manager will pass.
    Credential(KeyFile),
}

/// Protection that was put in force.
#[derive(Debug)]
pub(crate) struct ChangedProtection {
    pub(crate) protection: KeyProtection,
    /// Key file outside the data directory that is not needed any more and still there.
    pub(crate) old_key_file: Option<PathBuf>,
}

/// Data key of a data directory that this process has locked.
pub(crate) struct LockedVault {
    directory: DataDir,
    data_key: DataKey,
}

impl LockedVault {
    /// Locks a data directory, which is refused while its node runs, and opens its data key.
    pub(crate) fn open(directory: &Path, secrets: &dyn KeySecrets) -> Result<Self, VaultError> {
        // A directory without a node must not be created.
        describe(directory)?;
        let directory = DataDir::open(directory)?;
        let data_key = open_locked(&directory, secrets)?;
        Ok(Self {
            directory,
            data_key,
        })
    }

    /// Puts another protection in force. A key file outside the data directory is erased only if
    /// `erases_old_key_file` is set.
    pub(crate) fn change(
        &self,
        protection: &NewProtection,
        erases_old_key_file: bool,
    ) -> Result<ChangedProtection, VaultError> {
        let directory = self.directory.path();
        let mut old_key_file = find_linked_key_file(directory);
        let mut change = ProtectionChange::prepare(directory, &self.data_key, protection)?;
        if erases_old_key_file && let Some(old) = old_key_file.take() {
            change.steps.push(Step::Erase(old));
        }
        change.apply()?;
        Ok(ChangedProtection {
            protection: describe(directory)?,
            old_key_file,
        })
    }
}

/// Returns the key file outside the data directory, if one is in use.
fn find_linked_key_file(directory: &Path) -> Option<PathBuf> {
    let path = locate_key_file(directory);
    (path != directory.join(KEY_FILE)).then_some(path)
}

/// Steps that put a protection in force.
pub(super) struct ProtectionChange {
    directory: PathBuf,
    steps: Vec<Step>,
}

enum Step {
    /// Creates a key file outside the data directory.
    CreateKeyFile {
        path: PathBuf,
        text: Zeroizing<String>,
    },
    /// Writes the new key file beside the old one.
    StageKeyFile(StagedKeyFile),
    /// Writes the wrapped data key: the new protection is in force.
    WriteRecord(Vec<u8>),
    /// Replaces the old key file by the staged one.
    PromoteKeyFile,
    /// Overwrites and deletes a key file, if it exists.
    Erase(PathBuf),
}

enum StagedKeyFile {
    Text(Zeroizing<String>),
    Link(PathBuf),
}

impl ProtectionChange {
    /// Prepares the steps. Nothing is written yet.
    pub(super) fn prepare(
        directory: &Path,
        data_key: &DataKey,
        protection: &NewProtection,
    ) -> Result<Self, VaultError> {
        let mut rng = sealpost_service::entropy();
        let steps = match protection {
            NewProtection::KeyFile(path) => {
                let (key, mut steps) = prepare_key_file(directory, path.as_deref())?;
                steps.push(Step::WriteRecord(key.wrap(data_key, &mut rng)));
                steps.push(Step::PromoteKeyFile);
                steps
            }
            NewProtection::Passphrase(passphrase) => {
                without_key_file(directory, passphrase.wrap(data_key, &mut rng)?)
            }
            NewProtection::Credential(key) => {
                without_key_file(directory, key.wrap_as_credential(data_key, &mut rng))
            }
        };
        Ok(Self {
            directory: directory.to_owned(),
            steps,
        })
    }

    pub(super) fn apply(self) -> Result<(), VaultError> {
        let directory = self.directory;
        self.steps
            .into_iter()
            .try_for_each(|step| step.run(&directory))
    }

    /// Runs only the first steps, as if the process were killed after them.
    #[cfg(test)]
    pub(super) fn apply_first(mut self, count: usize) -> Result<(), VaultError> {
        self.steps.truncate(count);
        self.apply()
    }

    #[cfg(test)]
    pub(super) fn count_steps(&self) -> usize {
        self.steps.len()
    }
}

/// Returns the key of the new key file, and the steps that store it.
fn prepare_key_file(
    directory: &Path,
    path: Option<&Path>,
) -> Result<(KeyFile, Vec<Step>), VaultError> {
    let path = path.map(resolve).transpose()?;
    let own = resolve(&directory.join(KEY_FILE))?;
    let Some(path) = path.filter(|path| *path != own) else {
        let key = KeyFile::generate(&mut sealpost_service::entropy());
        let staged = StagedKeyFile::Text(key.encode());
        return Ok((key, vec![Step::StageKeyFile(staged)]));
    };
    let link = Step::StageKeyFile(StagedKeyFile::Link(path.clone()));
    if let Some(key) = read_key_file(&path)? {
        let record = read_secret_file(&directory.join(DATA_KEY_FILE))?;
        if record.is_some_and(|record| key.unwrap(&record).is_ok()) {
            return Err(VaultError::SameKeyFile { path });
        }
        return Ok((key, vec![link]));
    }
    let key = KeyFile::generate(&mut sealpost_service::entropy());
    let text = key.encode();
    Ok((key, vec![Step::CreateKeyFile { path, text }, link]))
}

/// Returns the absolute path of a file, whose directory must exist.
fn resolve(path: &Path) -> Result<PathBuf, VaultError> {
    let failed = |source| file_error(path, source);
    let name = path
        .file_name()
        .ok_or_else(|| failed(io::ErrorKind::IsADirectory.into()))?;
    let parent = path.parent().filter(|parent| *parent != Path::new(""));
    let parent = parent.unwrap_or(Path::new("."));
    Ok(parent.canonicalize().map_err(failed)?.join(name))
}

fn without_key_file(directory: &Path, record: Vec<u8>) -> Vec<Step> {
    vec![
        Step::WriteRecord(record),
        Step::Erase(directory.join(KEY_FILE)),
        Step::Erase(directory.join(STAGED_KEY_FILE)),
    ]
}

impl Step {
    /// Runs the step. It is on disk when this returns.
    fn run(self, directory: &Path) -> Result<(), VaultError> {
        match self {
            Self::CreateKeyFile { path, text } => {
                write_secret_file(&path, text.as_bytes())?;
            }
            Self::StageKeyFile(staged) => {
                let path = directory.join(STAGED_KEY_FILE);
                erase(&path).map_err(|source| file_error(&path, source))?;
                match staged {
                    StagedKeyFile::Text(text) => write_secret_file(&path, text.as_bytes())?,
                    StagedKeyFile::Link(target) => symlink(target, &path)
                        .and_then(|()| sync_directory(directory))
                        .map_err(|source| file_error(&path, source))?,
                }
            }
            Self::WriteRecord(record) => {
                write_secret_file(&directory.join(DATA_KEY_FILE), &record)?;
            }
            Self::PromoteKeyFile => promote_key_file(directory)?,
            Self::Erase(path) => erase(&path).map_err(|source| not_erased(&path, source))?,
        }
        Ok(())
    }
}

/// Completes a change that was interrupted, of a directory whose data key opens.
pub(super) fn finish_interrupted(
    directory: &Path,
    kind: WrapKind,
    is_by_staged_key: bool,
) -> Result<(), VaultError> {
    if is_by_staged_key {
        return promote_key_file(directory);
    }
    let leftovers = match kind {
        WrapKind::KeyFile => &[STAGED_KEY_FILE][..],
        WrapKind::Passphrase | WrapKind::Credential => &[STAGED_KEY_FILE, KEY_FILE],
    };
    leftovers.iter().try_for_each(|name| {
        let path = directory.join(name);
        erase(&path).map_err(|source| not_erased(&path, source))
    })
}

fn promote_key_file(directory: &Path) -> Result<(), VaultError> {
    let path = directory.join(KEY_FILE);
    // The file is opened before it loses its name.
    let old = open_regular_file(&path).map_err(|source| file_error(&path, source))?;
    fs::rename(directory.join(STAGED_KEY_FILE), &path)
        .and_then(|()| sync_directory(directory))
        .map_err(|source| file_error(&path, source))?;
    old.map_or(Ok(()), |old| {
        overwrite(&old).map_err(|source| not_erased(&path, source))
    })
}

/// Deletes and overwrites a key file. Of a link only the link is deleted.
fn erase(path: &Path) -> io::Result<()> {
    let file = open_regular_file(path)?;
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        removed => removed?,
    }
    path.parent().map_or(Ok(()), sync_directory)?;
    file.map_or(Ok(()), |file| overwrite(&file))
}

/// Opens a file for writing; `None` if it does not exist or is a link.
fn open_regular_file(path: &Path) -> io::Result<Option<File>> {
    match path.symlink_metadata() {
        Ok(metadata) if metadata.is_file() => OpenOptions::new().write(true).open(path).map(Some),
        Ok(_) => Ok(None),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Overwrites the content of a deleted file with zeros, as far as the file system writes in place.
/// A file that has another name is a copy that somebody made, and remains.
fn overwrite(mut file: &File) -> io::Result<()> {
    let metadata = file.metadata()?;
    if metadata.nlink() > 0 {
        return Ok(());
    }
    let bytes = usize::try_from(metadata.len()).unwrap_or(usize::MAX);
    file.write_all(&vec![0; bytes])?;
    file.sync_all()
}

fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

fn not_erased(path: &Path, source: io::Error) -> VaultError {
    VaultError::NotErased {
        path: path.to_owned(),
        source,
    }
}

fn file_error(path: &Path, source: io::Error) -> VaultError {
    VaultError::File {
        path: path.to_owned(),
        source,
    }
}
