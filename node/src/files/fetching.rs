//! A blob on its way in: its parts are written as they come, in any order, and opened in theirs, each once, while others
//! are still coming; no more than a chunk is held in memory for that. It gets its name when all checks have held and all of
//! it is on disk. Until then nothing of it has to be: whoever takes it up again opens what is there.

use super::{blocking, check_room, lock, syncing::Syncing};
use bytes::Bytes;
use sealpost_e2ee::attachment::{BlobOpener, FileKey, OpenError, Sealed};
use sealpost_node_core::transfer::PartSet;
use sealpost_proto::{BlobSize, limits};
use std::{
    fs::{File, OpenOptions},
    io,
    ops::Range,
    os::unix::fs::{FileExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

/// So much of a part is written at a time.
const STRETCH_BYTES: usize = 256 * 1024;

/// Why a blob that is being fetched does not come further.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// What came is not what its sender described.
    #[error("the file is not the one that its sender described")]
    NotDescribed,
    /// More or less came of a part than it has.
    #[error("the relay answers with a part of another length")]
    PartLength,
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
    file: Arc<File>,
    written: Mutex<PartSet>,
    syncing: Mutex<Syncing>,
    opening: Mutex<Opening>,
}

/// How far it is opened.
struct Opening {
    file: Arc<File>,
    size: BlobSize,
    opener: BlobOpener,
    chunk: Vec<u8>,
    opened: u32,
}

/// A part of it that comes.
pub struct ComingPart {
    fetching: Arc<Fetching>,
    number: u32,
    /// Where what is written next belongs, and where the part ends.
    left: Range<u64>,
    /// What came and is not written.
    stretch: Vec<u8>,
}

impl Fetching {
    /// Takes up what is there: whatever a run before wrote is opened now, as far as it is right. Of a blob that has its
    /// name already all parts are there.
    pub(super) fn begin(
        path: PathBuf,
        whole: PathBuf,
        key: &FileKey,
        sealed: &Sealed,
    ) -> Result<Self, FetchError> {
        let opener = BlobOpener::new(key, sealed)?;
        let size = BlobSize::parse(sealed.ct_len, limits::BLOB_BYTES_MAX)
            .map_err(|_| FetchError::NotDescribed)?;
        let file = Arc::new(open(&path)?);
        let mut opening = Opening {
            file: Arc::clone(&file),
            size,
            opener,
            chunk: Vec::new(),
            opened: 0,
        };
        if whole.try_exists()? {
            opening.opened = size.parts();
        } else {
            opening.take_up()?;
            let missing = size.bytes().saturating_sub(file.metadata()?.len());
            check_room(path.parent().unwrap_or(Path::new(".")), missing)?;
        }
        let (written, syncing) = (
            Mutex::default(),
            Mutex::new(Syncing::new(Arc::clone(&file))),
        );
        Ok(Self {
            path,
            whole,
            size,
            file,
            written,
            syncing,
            opening: Mutex::new(opening),
        })
    }

    /// The parts that need not be fetched again.
    #[must_use]
    pub fn there(&self) -> PartSet {
        PartSet::before(lock(&self.opening).opened)
    }

    /// Takes in a part.
    ///
    /// # Errors
    /// [`FetchError::NotDescribed`] when the blob has no such part.
    pub fn part(self: Arc<Self>, number: u32) -> Result<ComingPart, FetchError> {
        let left = self
            .size
            .part_range(number)
            .ok_or(FetchError::NotDescribed)?;
        Ok(ComingPart {
            fetching: self,
            number,
            left,
            stretch: Vec::with_capacity(STRETCH_BYTES),
        })
    }

    /// One opens at a time; a part that comes meanwhile is opened by who does, so that nobody waits for that.
    fn part_came(&self, number: u32) -> Result<(), FetchError> {
        lock(&self.written).extend([number]);
        let bytes = self.size.part_bytes(number).unwrap_or_default();
        self.unless_lost(lock(&self.syncing).wrote(bytes))?;
        match self.opening.try_lock() {
            Ok(mut opening) => opening.open_those(&self.written),
            Err(_) => Ok(()),
        }
    }

    /// What the disk did not take cannot be told from what it did: then nothing stays.
    fn unless_lost(&self, synced: io::Result<()>) -> io::Result<()> {
        synced.inspect_err(|_| drop(remove(&self.path)))
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
        let mut opening = lock(&self.opening);
        // One may have come just when who opened had looked for the last time.
        if let Err(error) = opening
            .open_those(&self.written)
            .and_then(|()| opening.verified())
        {
            if matches!(error, FetchError::NotDescribed) {
                remove(&self.path)?;
            }
            return Err(error);
        }
        self.unless_lost(lock(&self.syncing).finish())?;
        std::fs::rename(&self.path, &self.whole)?;
        let folder = self.whole.parent().unwrap_or(Path::new("."));
        Ok(File::open(folder)?.sync_all()?)
    }
}

impl ComingPart {
    /// Takes in what came next of it, and writes it down when it is enough for that.
    ///
    /// # Errors
    /// [`FetchError`].
    pub async fn write(&mut self, piece: Bytes) -> Result<(), FetchError> {
        self.stretch.extend_from_slice(&piece);
        if self.came() > self.left.end {
            return Err(FetchError::PartLength);
        }
        if self.stretch.len() >= STRETCH_BYTES {
            let (at, stretch) = (self.left.start, std::mem::take(&mut self.stretch));
            self.left.start += stretch.len() as u64;
            let file = Arc::clone(&self.fetching.file);
            self.stretch =
                blocking(move || file.write_all_at(&stretch, at).map(|()| stretch)).await?;
            self.stretch.clear();
        }
        Ok(())
    }

    /// Where in the blob it ends so far.
    fn came(&self) -> u64 {
        self.left.start + self.stretch.len() as u64
    }

    /// All of it came: it is opened, and all whose turn comes with it.
    ///
    /// # Errors
    /// [`FetchError`].
    pub async fn end(self) -> Result<(), FetchError> {
        if self.came() != self.left.end {
            return Err(FetchError::PartLength);
        }
        blocking(move || {
            self.fetching
                .file
                .write_all_at(&self.stretch, self.left.start)?;
            self.fetching.part_came(self.number)
        })
        .await
    }
}

impl Opening {
    fn take_up(&mut self) -> io::Result<()> {
        let length = self.file.metadata()?.len();
        while self
            .size
            .part_range(self.opened)
            .is_some_and(|range| range.end <= length)
        {
            let before = self.opener.clone();
            match self.open_next_part() {
                Ok(()) => {}
                Err(FetchError::Disk(error)) => return Err(error),
                // A hole, or what a power cut left: it is fetched again.
                Err(FetchError::NotDescribed | FetchError::PartLength) => {
                    self.opener = before;
                    break;
                }
            }
        }
        Ok(())
    }

    /// Opens all whose turn has come.
    fn open_those(&mut self, written: &Mutex<PartSet>) -> Result<(), FetchError> {
        while lock(written).contains(self.opened) {
            self.open_next_part()?;
        }
        Ok(())
    }

    fn verified(&self) -> Result<(), FetchError> {
        let _verified = self.opener.clone().finish()?;
        Ok(())
    }

    fn open_next_part(&mut self) -> Result<(), FetchError> {
        let mut left = self
            .size
            .part_range(self.opened)
            .ok_or(FetchError::NotDescribed)?;
        while !left.is_empty() {
            self.chunk.resize(self.opener.next_chunk_bytes(), 0);
            self.file.read_exact_at(&mut self.chunk, left.start)?;
            let _provisional = self.opener.open_chunk(&mut self.chunk)?;
            left.start += self.chunk.len() as u64;
        }
        self.opened += 1;
        Ok(())
    }
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .mode(0o600)
        .open(path)
}

fn remove(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
