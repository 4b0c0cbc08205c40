//! Sealed files on this node's disk: one file for each attachment, exactly the bytes that travel. What is not complete has
//! another name, so nothing half-done is ever taken for a file.

mod fetching;
mod reading;
mod staging;
mod syncing;

pub use fetching::{ComingPart, FetchError, Fetching};
pub use staging::{PartInMemory, PartRoom, SealedParts, StageError, Staged};

use crate::fault::Fault;
use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use reading::Reader;
use sealpost_e2ee::attachment::{FileKey, Sealed, blob_len};
use sealpost_node_core::transfer::has_room;
use sealpost_proto::{b64, limits};
use staging::CutOff;
use std::{
    fmt,
    fs::File,
    io,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::{sync::mpsc, task::spawn_blocking};

/// Pieces of a file that wait to be sealed.
const PIECES_WAITING_MAX: usize = 8;

/// The name of a sealed file on this disk: 16 random bytes of this node's own, so that nobody else can choose it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FileId([u8; 16]);

impl FileId {
    /// Takes 16 random bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The 16 bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Display for FileId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&b64::encode(&self.0))
    }
}

/// The folder of sealed files.
#[derive(Debug, Clone)]
pub struct Files {
    folder: PathBuf,
}

impl Files {
    /// Opens the folder, and makes it when there is none.
    ///
    /// # Errors
    /// When the folder cannot be made.
    pub async fn open(folder: PathBuf) -> io::Result<Self> {
        tokio::fs::create_dir_all(&folder).await?;
        Ok(Self { folder })
    }

    /// Removes what a crash left behind: whatever no row knows, and what was only half sealed.
    ///
    /// # Errors
    /// When the folder cannot be read, or `is_known` fails.
    pub async fn remove_leftovers<F>(&self, is_known: impl Fn(FileId) -> F) -> Result<(), Fault>
    where
        F: Future<Output = Result<bool, Fault>>,
    {
        let mut entries = tokio::fs::read_dir(&self.folder).await?;
        while let Some(entry) = entries.next_entry().await? {
            let path = entry.path();
            let file = path
                .file_stem()
                .and_then(|stem| b64::parse_array(stem.to_str()?).ok());
            let is_half_sealed = path
                .extension()
                .is_some_and(|extension| extension == STAGING);
            let keep = match file {
                Some(file) if !is_half_sealed => is_known(FileId(file)).await?,
                _ => false,
            };
            if !keep {
                tracing::info!(file = %path.display(), "removed what an interrupted run left behind");
                tokio::fs::remove_file(path).await?;
            }
        }
        Ok(())
    }

    fn path(&self, file: FileId) -> PathBuf {
        self.folder.join(file.to_string())
    }

    fn half_done(&self, file: FileId, extension: &str) -> PathBuf {
        self.folder.join(format!("{file}.{extension}"))
    }

    /// Seals a file while it arrives, and returns when it is on disk. `announced` is the length that its sender said; its
    /// `parts` can be read as they are sealed.
    ///
    /// # Errors
    /// [`StageError`]; nothing is left on disk then.
    pub async fn stage<S, E>(
        &self,
        mut body: S,
        announced: u64,
        parts: Arc<SealedParts>,
    ) -> Result<Staged, StageError>
    where
        S: Stream<Item = Result<Bytes, E>> + Unpin,
    {
        if announced > limits::FILE_BYTES_MAX {
            return Err(StageError::TooLarge {
                limit_bytes: limits::FILE_BYTES_MAX,
            });
        }
        let (path, whole) = (self.half_done(parts.file, STAGING), self.path(parts.file));
        let folder = self.folder.clone();
        let (pieces, arriving) = mpsc::channel(PIECES_WAITING_MAX);
        let sealing = blocking(move || {
            check_room(&folder, blob_len(announced))?;
            let staged = staging::seal(&path, &parts, arriving, announced).and_then(|staged| {
                std::fs::rename(&path, whole)?;
                File::open(folder)?.sync_all()?;
                Ok(staged)
            });
            staged.inspect_err(|_| drop(std::fs::remove_file(&path)))
        });
        let arrives = async {
            let mut taken = Some(pieces);
            // When the sealing has failed the rest is read and forgotten: a caller that still sends hears why only after that.
            while let Some(piece) = body.next().await {
                if let Some(pieces) = &taken
                    && pieces.send(piece.map_err(|_| CutOff)).await.is_err()
                {
                    taken = None;
                }
            }
        };
        tokio::join!(sealing, arrives).0
    }

    /// Reads a range of a blob of ours that is complete, or sealed so far.
    ///
    /// # Errors
    /// When the file is missing, short or unreadable.
    pub async fn read_range(&self, file: FileId, range: std::ops::Range<u64>) -> io::Result<Bytes> {
        let (whole, staging) = (self.path(file), self.half_done(file, STAGING));
        blocking(move || {
            // It may get its name between two looks.
            let opened = File::open(&whole)
                .or_else(|_| File::open(staging))
                .or_else(|_| File::open(whole))?;
            let mut bytes =
                vec![0; usize::try_from(range.end - range.start).map_err(io::Error::other)?];
            opened.read_exact_at(&mut bytes, range.start)?;
            Ok(bytes.into())
        })
        .await
    }

    /// Goes on with a blob that is fetched, or begins it.
    ///
    /// # Errors
    /// [`FetchError`].
    pub async fn fetch(
        &self,
        file: FileId,
        file_key: &FileKey,
        sealed: &Sealed,
    ) -> Result<Fetching, FetchError> {
        let (file_key, sealed) = (file_key.clone(), *sealed);
        let (path, whole) = (self.half_done(file, FETCHING), self.path(file));
        blocking(move || Fetching::begin(path, whole, &file_key, &sealed)).await
    }

    /// The plaintext of a complete blob, piece by piece. An error ends the stream: what came before it is authentic, but the
    /// file is not whole.
    ///
    /// # Errors
    /// When the file is missing or its lengths are not the described ones.
    pub async fn read_plaintext(
        &self,
        file: FileId,
        file_key: &FileKey,
        sealed: &Sealed,
    ) -> io::Result<impl Stream<Item = io::Result<Bytes>> + Send + use<>> {
        let (path, file_key, sealed) = (self.path(file), file_key.clone(), *sealed);
        let reader = blocking(move || Reader::open(&path, &file_key, &sealed)).await?;
        Ok(futures_util::stream::try_unfold(
            reader,
            |mut reader| async move {
                blocking(move || Ok(reader.next_piece()?.map(|bytes| (bytes, reader)))).await
            },
        ))
    }

    /// Removes a blob, in whatever state; one that is not there is no error.
    pub async fn remove(&self, file: FileId) {
        for path in [self.path(file), self.half_done(file, FETCHING)] {
            if let Err(error) = tokio::fs::remove_file(&path).await
                && error.kind() != io::ErrorKind::NotFound
            {
                tracing::warn!(%error, "a sealed file could not be removed");
            }
        }
    }
}

#[cfg(test)]
impl Files {
    /// Changes one byte on the disk.
    pub(crate) fn damage(&self, file: FileId) {
        let file = File::options()
            .read(true)
            .write(true)
            .open(self.path(file))
            .unwrap();
        let mut byte = [0];
        file.read_exact_at(&mut byte, 1_000).unwrap();
        file.write_all_at(&[byte[0] ^ 1], 1_000).unwrap();
    }
}

const STAGING: &str = "staging";
const FETCHING: &str = "fetching";

/// Runs what reads, writes or computes for long where it holds nobody up.
async fn blocking<T, E>(job: impl FnOnce() -> Result<T, E> + Send + 'static) -> Result<T, E>
where
    T: Send + 'static,
    E: From<io::Error> + Send + 'static,
{
    spawn_blocking(job)
        .await
        .map_err(|error| E::from(io::Error::other(error)))?
}

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Refuses before a byte moves what would not leave room for the database.
fn check_room(folder: &Path, bytes: u64) -> io::Result<()> {
    let disk = rustix::fs::statvfs(folder)?;
    let (free, all) = (
        disk.f_bavail.saturating_mul(disk.f_frsize),
        disk.f_blocks.saturating_mul(disk.f_frsize),
    );
    if has_room(free, all, bytes) {
        Ok(())
    } else {
        Err(io::ErrorKind::StorageFull.into())
    }
}

#[cfg(test)]
mod tests;
