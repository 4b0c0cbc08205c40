//! A copy of everything a relay keeps, made while it serves or while it does not: a data folder that a relay can be started on.
//!
//! The database is copied first, in one state; then the parts of blobs that this copy names. Parts never change once they
//! are written, so on the same file system they become second names of the same bytes, and copies elsewhere. A relay that
//! runs deletes no parts meanwhile ([`Blobs::hold`]). Start reading at [`make`].

use crate::{
    blobs::{BlobError, Blobs},
    serve::{BLOBS, DATABASE, SECRET},
    store::{Looked, StoreError},
};
use sealpost_sqlite::{BackupError, OpenError};
use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

const PRIVATE_FOLDER: u32 = 0o700;
const PRIVATE_FILE: u32 = 0o600;

/// Why there is no backup. What was written of it stays under a name that ends in `.unfinished`.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MakeError {
    /// Nothing to make one of.
    #[error("there is no relay in {}: name its data folder with --data or --config", folder.display())]
    NoRelay {
        /// Where it was looked for.
        folder: PathBuf,
    },
    /// It would overwrite something.
    #[error("{} exists already: choose another name", path.display())]
    Exists {
        /// What stands there.
        path: PathBuf,
    },
    /// The copy of the database.
    #[error("the database was not copied: {0}")]
    Database(#[from] BackupError),
    /// The copy does not open.
    #[error(transparent)]
    Copy(#[from] OpenError),
    /// The copy cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The relay's blobs.
    #[error(transparent)]
    Blobs(#[from] BlobError),
    /// A file that was not copied.
    #[error("{}: {source}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

/// What a backup holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Made {
    /// Parts of blobs.
    pub(crate) parts: u64,
    /// Their bytes.
    pub(crate) bytes: u64,
}

/// Makes a backup of the relay in `folder` at `destination`, which must not exist. It is there, whole and on disk, or it is
/// not there. Blocks.
///
/// # Errors
/// [`MakeError`], in words for the operator.
pub(crate) fn make(folder: &Path, destination: &Path) -> Result<Made, MakeError> {
    if !folder.join(DATABASE).exists() {
        return Err(MakeError::NoRelay {
            folder: folder.to_owned(),
        });
    }
    let unfinished = destination.with_extension("unfinished");
    for path in [destination, &unfinished] {
        if path.exists() {
            return Err(MakeError::Exists {
                path: path.to_owned(),
            });
        }
    }
    make_folder(&unfinished)?;
    let _held = Blobs::hold(&folder.join(BLOBS))?;
    sealpost_sqlite::copy(&folder.join(DATABASE), &unfinished.join(DATABASE))?;
    let made = copy_parts(folder, &unfinished)?;
    copy(&folder.join(SECRET), &unfinished.join(SECRET))?;
    sync(&unfinished)?;
    fs::rename(&unfinished, destination).map_err(at(destination))?;
    sync(parent(destination))?;
    Ok(made)
}

fn copy_parts(folder: &Path, copy: &Path) -> Result<Made, MakeError> {
    let (from, to) = (folder.join(BLOBS), copy.join(BLOBS));
    make_folder(&to)?;
    let mut made = Made::default();
    let database = Looked::open(&copy.join(DATABASE))?;
    let mut open: Option<PathBuf> = None;
    database.snapshot()?.each_part(|name, bytes| {
        let file = name.file();
        let blob = to.join(parent(&file));
        if open.as_ref() != Some(&blob) {
            // Parts come blob by blob: what was written of the last one is complete.
            open.replace(blob.clone())
                .map_or(Ok(()), |done| sync(&done))?;
            make_folder(&blob)?;
        }
        made.parts += 1;
        made.bytes += bytes;
        link_or_copy(&from.join(&file), &to.join(&file))
    })?;
    open.map_or(Ok(()), |done| sync(&done))?;
    sync(&to)?;
    Ok(made)
}

fn link_or_copy(from: &Path, to: &Path) -> Result<(), MakeError> {
    match fs::hard_link(from, to) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(at(from)(error)),
        // Another file system, or one without second names.
        Err(_) => copy(from, to),
    }
}

fn copy(from: &Path, to: &Path) -> Result<(), MakeError> {
    let mut source = File::open(from).map_err(at(from))?;
    let mut target = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(PRIVATE_FILE)
        .open(to)
        .map_err(at(to))?;
    io::copy(&mut source, &mut target)
        .and_then(|_| target.sync_all())
        .map_err(at(to))
}

fn make_folder(path: &Path) -> Result<(), MakeError> {
    DirBuilder::new()
        .mode(PRIVATE_FOLDER)
        .create(path)
        .map_err(at(path))
}

fn sync(folder: &Path) -> Result<(), MakeError> {
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(at(folder))
}

fn parent(path: &Path) -> &Path {
    path.parent()
        .filter(|parent| !parent.as_os_str().is_empty())
        .unwrap_or(Path::new("."))
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> MakeError {
    let path = path.to_owned();
    move |source| MakeError::File { path, source }
}
