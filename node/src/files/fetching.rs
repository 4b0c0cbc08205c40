//! A blob on its way in: its parts are written in any order and opened in theirs, each once, while others are still
//! coming. It gets its name when all checks have held.

use super::{blocking, check_room};
use bytes::BytesMut;
use sealpost_e2ee::attachment::{BlobOpener, FileKey, OpenError, Sealed};
use sealpost_node_core::transfer::PartSet;
use sealpost_proto::{BlobSize, limits};
use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::{FileExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

/// Why a blob that is being fetched does not come further.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// What came is not what its sender described.
    #[error("the file is not the one that its sender described")]
    NotDescribed,
    /// Our disk.
    #[error(transparent)]
    Disk(#[from] io::Error),
}

impl From<OpenError> for FetchError {
    fn from(_: OpenError) -> Self {
        Self::NotDescribed
    }
}

/// A blob that is being fetched.
pub struct Fetching {
    path: PathBuf,
    whole: PathBuf,
    size: BlobSize,
    file: File,
    opening: Mutex<Opening>,
}

/// What was opened, and what came before its turn.
struct Opening {
    opener: BlobOpener,
    opened: u32,
    written: PartSet,
}

impl Fetching {
    /// Takes up what is there: whatever a run before wrote is opened now, as far as it is right. Of a blob that has its
    /// name already all parts are there.
    pub(super) fn begin(path: PathBuf, whole: PathBuf, key: &FileKey, sealed: &Sealed) -> Result<Self, FetchError> {
        let opener = BlobOpener::new(key, sealed)?;
        let size = BlobSize::parse(sealed.ct_len, limits::BLOB_BYTES_MAX).map_err(|_| FetchError::NotDescribed)?;
        let file = open(&path)?;
        let mut opening = Opening { opener, opened: 0, written: PartSet::default() };
        if whole.try_exists()? {
            opening.opened = size.parts();
        } else {
            opening.take_up(&file, size)?;
            let missing = size.bytes().saturating_sub(file.metadata()?.len());
            check_room(path.parent().unwrap_or(Path::new(".")), missing)?;
        }
        Ok(Self { path, whole, size, file, opening: Mutex::new(opening) })
    }

    /// The parts that need not be fetched again.
    #[must_use]
    pub fn there(&self) -> PartSet {
        PartSet::before(self.lock().opened)
    }

    /// Writes a part, and opens all whose turn has come; returns when it is on disk.
    ///
    /// # Errors
    /// [`FetchError`].
    pub async fn put(self: Arc<Self>, number: u32, bytes: BytesMut) -> Result<(), FetchError> {
        blocking(move || self.put_now(number, bytes)).await
    }

    fn put_now(&self, number: u32, mut bytes: BytesMut) -> Result<(), FetchError> {
        let range = self.size.part_range(number).filter(|range| range.end - range.start == bytes.len() as u64);
        let range = range.ok_or(FetchError::NotDescribed)?;
        self.file.write_all_at(&bytes, range.start)?;
        self.file.sync_data()?;
        let mut opening = self.lock();
        opening.written.extend([number]);
        while opening.written.contains(opening.opened) {
            let next = opening.opened;
            if next != number {
                bytes = read(&self.file, self.size, next)?;
            }
            let _provisional = opening.opener.open_part(&mut bytes)?;
            opening.opened += 1;
        }
        Ok(())
    }

    /// Ends the blob: only when it is whole and the one that was described it gets its name. Of another one nothing stays.
    ///
    /// # Errors
    /// [`FetchError`].
    pub async fn finish(self: Arc<Self>) -> Result<(), FetchError> {
        blocking(move || self.finish_now()).await
    }

    fn finish_now(&self) -> Result<(), FetchError> {
        if self.whole.try_exists()? {
            return Ok(remove(&self.path)?);
        }
        if self.lock().opener.clone().finish().is_err() {
            remove(&self.path)?;
            return Err(FetchError::NotDescribed);
        }
        self.file.sync_all()?;
        std::fs::rename(&self.path, &self.whole)?;
        let folder = self.whole.parent().unwrap_or(Path::new("."));
        Ok(File::open(folder)?.sync_all()?)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Opening> {
        self.opening.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Opening {
    fn take_up(&mut self, file: &File, size: BlobSize) -> io::Result<()> {
        let length = file.metadata()?.len();
        while size.part_range(self.opened).is_some_and(|range| range.end <= length) {
            let before = self.opener.clone();
            if self.opener.open_part(&mut read(file, size, self.opened)?).is_err() {
                // A hole, or what a power cut left: it is fetched again.
                self.opener = before;
                break;
            }
            self.opened += 1;
        }
        Ok(())
    }
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).truncate(false).read(true).write(true).mode(0o600).open(path)
}

fn read(file: &File, size: BlobSize, number: u32) -> io::Result<BytesMut> {
    let range = size.part_range(number).unwrap_or_default();
    let mut bytes = BytesMut::zeroed(usize::try_from(range.end - range.start).map_err(io::Error::other)?);
    file.read_exact_at(&mut bytes, range.start)?;
    Ok(bytes)
}

fn remove(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
