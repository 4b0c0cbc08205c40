//! Sealed files on disk, with exactly the bytes that are transferred.
//!
//! An incomplete file has a different name, so that it cannot be mistaken for a complete one.

mod download;
mod reader;
mod staging;
mod sync;

pub(crate) use download::{BlobDownload, DownloadError};
pub(crate) use staging::{PartMemoryBudget, SealedParts, StageError, Staged};

use crate::fault::Fault;
use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use reader::Reader;
use sealpost_e2ee::attachment::{FileKey, Sealed, blob_len};
use sealpost_node_core::transfer::has_disk_space;
use sealpost_proto::{b64, limits};
use sealpost_service::create_private_directory;
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

/// Maximum number of pieces that are queued for sealing.
const QUEUED_PIECES_MAX: usize = 8;

/// Name of a sealed file on disk: 16 random bytes that this node generates, so that no partner can
/// choose it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct DiskFileId([u8; 16]);

impl DiskFileId {
    #[must_use]
    pub(crate) const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// Parses the name of a file on disk.
    pub(crate) fn parse(name: &str) -> Option<Self> {
        b64::parse_array(name).ok().map(Self)
    }

    #[must_use]
    pub(crate) const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Display for DiskFileId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&b64::encode(&self.0))
    }
}

/// Directory of sealed files.
#[derive(Debug, Clone)]
pub(crate) struct Files {
    directory: PathBuf,
}

impl Files {
    /// Opens the directory, and creates it if it does not exist. Only the owner may read it.
    pub(crate) fn open(directory: PathBuf) -> io::Result<Self> {
        create_private_directory(&directory)?;
        Ok(Self { directory })
    }

    /// Removes files that a crash left behind: files without a row, and partially sealed files.
    pub(crate) async fn remove_leftovers<F>(
        &self,
        is_known: impl Fn(DiskFileId) -> F,
    ) -> Result<(), Fault>
    where
        F: Future<Output = Result<bool, Fault>>,
    {
        let mut entries = tokio::fs::read_dir(&self.directory).await?;
        while let Some(entry) = entries.next_entry().await? {
            let path = entry.path();
            let file = path
                .file_stem()
                .and_then(|stem| b64::parse_array(stem.to_str()?).ok());
            let is_half_sealed = path
                .extension()
                .is_some_and(|extension| extension == STAGING);
            let is_needed = match file {
                Some(file) if !is_half_sealed => is_known(DiskFileId(file)).await?,
                _ => false,
            };
            if !is_needed {
                tracing::info!(file = %path.display(), "removed a leftover of an interrupted run");
                tokio::fs::remove_file(path).await?;
            }
        }
        Ok(())
    }

    /// Returns the path of a complete file.
    pub(crate) fn path(&self, file: DiskFileId) -> PathBuf {
        self.directory.join(file.to_string())
    }

    fn partial_path(&self, file: DiskFileId, extension: &str) -> PathBuf {
        self.directory.join(format!("{file}.{extension}"))
    }

    /// Seals a file while it arrives, and returns when it is on disk. `announced` is the length
    /// that the client declared; `parts` can be read as they are sealed.
    ///
    /// After an error, nothing is left on disk.
    pub(crate) async fn stage<S, E>(
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
        let (partial, path) = (
            self.partial_path(parts.file, STAGING),
            self.path(parts.file),
        );
        let directory = self.directory.clone();
        let (pieces, arriving) = mpsc::channel(QUEUED_PIECES_MAX);
        let sealing = blocking(move || {
            check_disk_space(&directory, blob_len(announced))?;
            let staged = staging::seal(&partial, &parts, arriving, announced).and_then(|staged| {
                std::fs::rename(&partial, path)?;
                File::open(directory)?.sync_all()?;
                Ok(staged)
            });
            staged.inspect_err(|_| drop(std::fs::remove_file(&partial)))
        });
        let receiving = async {
            let mut pieces = Some(pieces);
            // After a failure to seal, the rest of the body is read and discarded, because a client
            // reads the response only after it has sent the whole body.
            while let Some(piece) = body.next().await {
                if let Some(sender) = &pieces
                    && sender.send(piece.map_err(|_| CutOff)).await.is_err()
                {
                    pieces = None;
                }
            }
        };
        tokio::join!(sealing, receiving).0
    }

    /// Reads a range of a blob that is complete, or of the part that is sealed so far.
    pub(crate) async fn read_range(
        &self,
        file: DiskFileId,
        range: std::ops::Range<u64>,
    ) -> io::Result<Bytes> {
        let (path, partial) = (self.path(file), self.partial_path(file, STAGING));
        blocking(move || {
            // The file may be renamed between the first two attempts.
            let opened = File::open(&path)
                .or_else(|_| File::open(partial))
                .or_else(|_| File::open(path))?;
            let mut bytes =
                vec![0; usize::try_from(range.end - range.start).map_err(io::Error::other)?];
            opened.read_exact_at(&mut bytes, range.start)?;
            Ok(bytes.into())
        })
        .await
    }

    /// Starts or resumes the download of a blob.
    pub(crate) async fn open_download(
        &self,
        file: DiskFileId,
        file_key: &FileKey,
        sealed: &Sealed,
    ) -> Result<BlobDownload, DownloadError> {
        let (file_key, sealed) = (file_key.clone(), *sealed);
        let (partial, path) = (self.partial_path(file, DOWNLOADING), self.path(file));
        blocking(move || BlobDownload::open(partial, path, &file_key, &sealed)).await
    }

    /// Streams the plaintext of a complete blob. After an error, the plaintext before it is
    /// authentic but incomplete.
    ///
    /// # Errors
    /// Fails if the file is missing or its length differs from `sealed`.
    pub(crate) async fn read_plaintext(
        &self,
        file: DiskFileId,
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

    /// Removes a complete or partially downloaded blob, if it exists.
    pub(crate) async fn remove(&self, file: DiskFileId) {
        for path in [self.path(file), self.partial_path(file, DOWNLOADING)] {
            if let Err(error) = tokio::fs::remove_file(&path).await
                && error.kind() != io::ErrorKind::NotFound
            {
                tracing::warn!(%error, "cannot remove a sealed file");
            }
        }
    }
}

#[cfg(test)]
impl Files {
    /// Changes one byte on disk.
    pub(crate) fn damage(&self, file: DiskFileId) {
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

/// Extension of a file that is being sealed.
const STAGING: &str = "staging";
/// Extension of a file that is being downloaded.
const DOWNLOADING: &str = "downloading";

/// Runs a blocking or long-running job on a thread of its own.
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

/// Fails if `bytes` more would leave too little space for the database.
fn check_disk_space(directory: &Path, bytes: u64) -> io::Result<()> {
    let disk = rustix::fs::statvfs(directory)?;
    let (free, all) = (
        disk.f_bavail.saturating_mul(disk.f_frsize),
        disk.f_blocks.saturating_mul(disk.f_frsize),
    );
    if has_disk_space(free, all, bytes) {
        Ok(())
    } else {
        Err(io::ErrorKind::StorageFull.into())
    }
}

#[cfg(test)]
mod tests;
