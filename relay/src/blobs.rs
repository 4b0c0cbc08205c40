//! The parts of blobs on disk: each an immutable object, named by its blob, its number and its digest, so that two who
//! write different bytes for one part never disturb each other.

use crate::http::{passing_problem, problem};
use bytes::Bytes;
use sealpost_proto::{BlobId, ErrorCode, b64, limits::PART_STRETCH_BYTES};
use sealpost_service::{http::ProblemResponse, random_array};
use sha2::{Digest as _, Sha256};
use std::{
    fs::{self, File},
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    ops::Range,
    path::{Path, PathBuf},
    sync::Arc,
};
use tokio::{
    sync::mpsc,
    task::{JoinError, JoinHandle, spawn_blocking},
};

/// Pieces of a part that wait to be written.
const PIECES_WAITING_MAX: usize = 2;

/// Stands in the name of a file as long as it is written, and in that of no part.
const STAGED: u8 = b'#';

/// The parts of blobs.
#[derive(Clone)]
pub(crate) struct Blobs {
    folder: Arc<Path>,
}

/// The right to keep parts from being deleted, or to delete them. It ends with this value, or with its process.
pub(crate) struct Held {
    _folder: File,
}

/// Why a part was not written, read or deleted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BlobError {
    /// No space left.
    #[error("the disk is full")]
    DiskFull,
    /// It is not there.
    #[error("the part is not there")]
    Missing,
    /// More or less came than the part has.
    #[error("this part has {bytes} bytes")]
    Length {
        /// What it has.
        bytes: usize,
    },
    /// What came is not what the part is named for.
    #[error("the body does not have the digest that was signed")]
    Digest,
    /// Anything else.
    #[error("the store of blobs failed: {reason}")]
    Failed {
        /// What the system says.
        reason: String,
    },
}

/// One part of a blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PartName {
    /// Whose.
    pub(crate) blob: BlobId,
    /// Which, from 0.
    pub(crate) number: u32,
    /// Its SHA-256.
    pub(crate) digest: [u8; 32],
}

impl PartName {
    /// Its file, relative to the folder of blobs.
    #[must_use]
    pub(crate) fn file(&self) -> PathBuf {
        PathBuf::from(self.blob.to_string()).join(format!("{}-{}", self.number, b64::encode(&self.digest)))
    }
}

impl Blobs {
    /// Parts in a folder, which is made when there is none. A written part and its name are fsynced.
    ///
    /// # Errors
    /// [`BlobError`].
    pub(crate) fn open(folder: &Path) -> Result<Self, BlobError> {
        fs::create_dir_all(folder)?;
        Ok(Self { folder: Arc::from(folder) })
    }

    /// Keeps all parts in a folder from being deleted, by whatever process; waits while one is deleting.
    ///
    /// # Errors
    /// [`BlobError`].
    pub(crate) fn hold(folder: &Path) -> Result<Held, BlobError> {
        let lock = File::open(folder).and_then(|folder| folder.lock_shared().map(|()| folder));
        lock.map(|folder| Held { _folder: folder }).map_err(|error| BlobError::Failed { reason: error.to_string() })
    }

    /// The right to delete parts, unless somebody holds them.
    #[must_use]
    pub(crate) fn may_delete(&self) -> Option<Held> {
        let folder = File::open(&self.folder).ok()?;
        folder.try_lock().ok()?;
        Some(Held { _folder: folder })
    }

    /// Begins to write a part of so many bytes.
    pub(crate) fn begin(&self, name: PartName, bytes: usize) -> Writing {
        let (pieces, coming) = mpsc::channel(PIECES_WAITING_MAX);
        let folder = Arc::clone(&self.folder);
        Writing { pieces, written: spawn_blocking(move || write(&folder, &name, bytes, coming)) }
    }

    /// Begins to read a stretch of a part.
    ///
    /// # Errors
    /// [`BlobError`].
    pub(crate) async fn read(&self, name: &PartName, stretch: Range<u64>) -> Result<Reading, BlobError> {
        let path = self.folder.join(name.file());
        let open = spawn_blocking(move || {
            let mut file = File::open(path)?;
            file.seek(SeekFrom::Start(stretch.start))?;
            Ok(Reading { file: Arc::new(file), left: stretch.end - stretch.start })
        });
        open.await?
    }

    /// Deletes all parts of a blob, also those that no row knows and those that are not whole.
    ///
    /// # Errors
    /// [`BlobError`].
    pub(crate) async fn delete(&self, blob: BlobId) -> Result<(), BlobError> {
        match tokio::fs::remove_dir_all(self.folder.join(blob.to_string())).await {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(BlobError::from(error)),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Takes away what was begun of the parts of a blob and never finished, as a process leaves it that is killed; says how
    /// much that was. Only while no part of the blob is being written.
    ///
    /// # Errors
    /// [`BlobError`].
    pub(crate) async fn clear(&self, blob: BlobId) -> Result<u64, BlobError> {
        let mut cleared = 0;
        let mut files = match tokio::fs::read_dir(self.folder.join(blob.to_string())).await {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
            files => files?,
        };
        while let Some(file) = files.next_entry().await? {
            if file.file_name().as_encoded_bytes().contains(&STAGED) {
                tokio::fs::remove_file(file.path()).await?;
                cleared += 1;
            }
        }
        Ok(cleared)
    }
}

/// A part that is being written, by a thread of its own. It is there only once it is finished; what is dropped before leaves
/// nothing.
pub(crate) struct Writing {
    pieces: mpsc::Sender<Bytes>,
    written: JoinHandle<Result<(), BlobError>>,
}

impl Writing {
    /// Adds what comes next.
    ///
    /// # Errors
    /// [`BlobError`].
    pub(crate) async fn add(&mut self, piece: Bytes) -> Result<(), BlobError> {
        match self.pieces.send(piece).await {
            Ok(()) => Ok(()),
            // It has ended, and says why.
            Err(_) => (&mut self.written).await?,
        }
    }

    /// Returns when all of it is on disk.
    ///
    /// # Errors
    /// [`BlobError`].
    pub(crate) async fn finish(self) -> Result<(), BlobError> {
        let Self { pieces, written } = self;
        drop(pieces);
        written.await?
    }
}

/// Writes exactly the part that is named, or none. Each byte is hashed and written while it is in the processor's cache.
fn write(folder: &Path, name: &PartName, bytes: usize, mut coming: mpsc::Receiver<Bytes>) -> Result<(), BlobError> {
    let mut staged = Staged::create(folder, name)?;
    let (mut hash, mut left, mut stretch) = (Sha256::new(), bytes, Vec::with_capacity(PART_STRETCH_BYTES.min(bytes)));
    while let Some(mut piece) = coming.blocking_recv() {
        left = left.checked_sub(piece.len()).ok_or(BlobError::Length { bytes })?;
        while !piece.is_empty() {
            let room = PART_STRETCH_BYTES - stretch.len();
            stretch.extend_from_slice(&piece.split_to(room.min(piece.len())));
            // What comes in odd pieces is written in even ones, which costs the system less.
            if stretch.len() == PART_STRETCH_BYTES {
                hash.update(&stretch);
                staged.file.write_all(&stretch)?;
                stretch.clear();
            }
        }
    }
    hash.update(&stretch);
    staged.file.write_all(&stretch)?;
    if left > 0 {
        return Err(BlobError::Length { bytes });
    }
    if <[u8; 32]>::from(hash.finalize()) != name.digest {
        return Err(BlobError::Digest);
    }
    Ok(staged.publish()?)
}

/// A file that nobody sees as a part; it goes with this value.
struct Staged {
    file: File,
    path: PathBuf,
    whole: PathBuf,
    folder: PathBuf,
}

impl Staged {
    fn create(blobs: &Path, name: &PartName) -> io::Result<Self> {
        let (whole, folder) = (blobs.join(name.file()), blobs.join(name.blob.to_string()));
        let mut path = whole.clone().into_os_string();
        path.push(format!("{}{}", char::from(STAGED), b64::encode(&random_array::<8>())));
        let path = PathBuf::from(path);
        let file = match File::create_new(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                fs::create_dir_all(&folder)?;
                sync(blobs)?;
                File::create_new(&path)?
            }
            file => file?,
        };
        Ok(Self { file, path, whole, folder })
    }

    fn publish(self) -> io::Result<()> {
        self.file.sync_all()?;
        fs::rename(&self.path, &self.whole)?;
        sync(&self.folder)
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        // Once it is published there is none of this name.
        let _ = fs::remove_file(&self.path);
    }
}

fn sync(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// A stretch of a part that is being read.
pub(crate) struct Reading {
    file: Arc<File>,
    left: u64,
}

impl Reading {
    /// What comes next; none at the end.
    ///
    /// # Errors
    /// [`BlobError`].
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, BlobError> {
        let next = self.left.min(PART_STRETCH_BYTES as u64);
        if next == 0 {
            return Ok(None);
        }
        self.left -= next;
        let file = Arc::clone(&self.file);
        let read = spawn_blocking(move || {
            let mut piece = Vec::with_capacity(PART_STRETCH_BYTES);
            file.as_ref().take(next).read_to_end(&mut piece)?;
            if piece.len() as u64 == next { Ok(piece) } else { Err(io::Error::from(io::ErrorKind::UnexpectedEof)) }
        });
        Ok(Some(read.await??.into()))
    }
}

impl From<JoinError> for BlobError {
    fn from(error: JoinError) -> Self {
        Self::Failed { reason: error.to_string() }
    }
}

impl From<io::Error> for BlobError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::NotFound => Self::Missing,
            io::ErrorKind::StorageFull => Self::DiskFull,
            _ => Self::Failed { reason: error.to_string() },
        }
    }
}

impl From<BlobError> for ProblemResponse {
    fn from(error: BlobError) -> Self {
        match error {
            BlobError::DiskFull => passing_problem(ErrorCode::StorageFull),
            BlobError::Missing => ErrorCode::NotFound.into(),
            BlobError::Length { .. } => problem(ErrorCode::PartInvalid, error.to_string()),
            BlobError::Digest => problem(ErrorCode::SignatureInvalid, error.to_string()),
            BlobError::Failed { reason } => {
                tracing::error!(%reason, "the store of blobs failed");
                passing_problem(ErrorCode::Unavailable)
            }
        }
    }
}

#[cfg(test)]
impl Blobs {
    /// Puts something where a part stands.
    pub(crate) fn put(&self, name: &PartName, bytes: &[u8]) {
        let path = self.folder.join(name.file());
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    /// A whole stretch.
    pub(crate) async fn read_all(&self, name: &PartName, stretch: Range<u64>) -> Result<Vec<u8>, BlobError> {
        let (mut reading, mut read) = (self.read(name, stretch).await?, Vec::new());
        while let Some(piece) = reading.next().await? {
            read.extend_from_slice(&piece);
        }
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blobs() -> (tempfile::TempDir, Blobs) {
        let folder = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(folder.path()).unwrap();
        (folder, blobs)
    }

    fn name_of(bytes: &[u8]) -> PartName {
        PartName { blob: BlobId::from_bytes([1; 16]), number: 0, digest: Sha256::digest(bytes).into() }
    }

    /// How many files there are, whatever they are.
    fn files(folder: &tempfile::TempDir) -> usize {
        let blobs = fs::read_dir(folder.path()).unwrap().flatten();
        blobs.map(|blob| fs::read_dir(blob.path()).unwrap().count()).sum()
    }

    async fn write(blobs: &Blobs, name: PartName, bytes: usize, pieces: &[&'static [u8]]) -> Result<(), BlobError> {
        let mut writing = blobs.begin(name, bytes);
        for piece in pieces {
            writing.add(Bytes::from_static(piece)).await?;
        }
        writing.finish().await
    }

    #[tokio::test]
    async fn parts_are_written_read_and_deleted() {
        let (_folder, blobs) = blobs();
        let name = name_of(b"hello");
        let mut writing = blobs.begin(name, 5);
        writing.add(Bytes::from_static(b"hel")).await.unwrap();
        assert_eq!(blobs.read_all(&name, 0..1).await, Err(BlobError::Missing), "it is not whole");
        writing.add(Bytes::from_static(b"lo")).await.unwrap();
        writing.finish().await.unwrap();
        assert_eq!(blobs.read_all(&name, 1..4).await.unwrap(), b"ell");
        assert!(blobs.read_all(&name, 1..6).await.is_err(), "it has no more");
        write(&blobs, name, 5, &[b"hello"]).await.unwrap();
        blobs.delete(name.blob).await.unwrap();
        assert_eq!(blobs.read_all(&name, 0..1).await, Err(BlobError::Missing));
        blobs.delete(name.blob).await.unwrap();
    }

    #[tokio::test]
    async fn a_part_of_many_stretches_is_what_came() {
        let (_folder, blobs) = blobs();
        let whole: &'static [u8] = (0..=250).cycle().take(PART_STRETCH_BYTES * 5 / 2).collect::<Vec<u8>>().leak();
        for piece_bytes in [PART_STRETCH_BYTES / 2 - 7, PART_STRETCH_BYTES, whole.len()] {
            let name = name_of(whole);
            write(&blobs, name, whole.len(), &whole.chunks(piece_bytes).collect::<Vec<_>>()).await.unwrap();
            assert_eq!(blobs.read_all(&name, 3..whole.len() as u64).await.unwrap(), &whole[3..], "{piece_bytes}");
        }
    }

    #[tokio::test]
    async fn what_is_not_the_part_leaves_nothing() {
        let (folder, blobs) = blobs();
        let name = name_of(b"hello");
        let length = Err(BlobError::Length { bytes: 5 });
        assert_eq!(write(&blobs, name, 5, &[b"hel"]).await, length);
        assert_eq!(write(&blobs, name, 5, &[b"hello", b"!"]).await, length);
        assert_eq!(write(&blobs, name, 5, &[b"hallo"]).await, Err(BlobError::Digest));
        let Writing { pieces, written } = blobs.begin(name, 5);
        pieces.send(Bytes::from_static(b"hell")).await.unwrap();
        drop(pieces);
        assert_eq!(written.await.unwrap(), length, "what was given up is cut short");
        assert_eq!(files(&folder), 0);
    }

    #[tokio::test]
    async fn what_was_begun_and_never_finished_goes_and_the_rest_stays() {
        let (folder, blobs) = blobs();
        let whole = name_of(b"hello");
        assert_eq!(blobs.clear(whole.blob).await, Ok(0), "there is nothing yet");
        write(&blobs, whole, 5, &[b"hello"]).await.unwrap();
        // As a process leaves it that is killed.
        for _ in 0..2 {
            std::mem::forget(Staged::create(folder.path(), &whole).unwrap());
        }
        assert_eq!((blobs.clear(whole.blob).await, files(&folder)), (Ok(2), 1));
        assert_eq!(blobs.read_all(&whole, 0..5).await.unwrap(), b"hello");
        let comes = Staged::create(folder.path(), &whole).unwrap();
        blobs.delete(whole.blob).await.unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "all of it goes with the blob");
        assert_eq!(
            comes.publish().unwrap_err().kind(),
            io::ErrorKind::NotFound,
            "what is deleted while it comes was never there"
        );
    }
}
