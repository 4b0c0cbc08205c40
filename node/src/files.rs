//! Sealed files on this node's disk: one file for each attachment, exactly the bytes that travel. What is not complete has
//! another name, so nothing half-done is ever taken for a file.

mod fetching;
mod reading;

pub use fetching::{FetchError, Fetching};

use crate::fault::Fault;
use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use reading::Reader;
use sealpost_e2ee::attachment::{BlobSalt, BlobSealer, FileKey, SealStep, Sealed, SealedPart};
use sealpost_proto::{b64, limits};
use std::{
    fmt, io,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
};
use tokio::{
    fs::{File, OpenOptions},
    io::AsyncWriteExt as _,
    task::spawn_blocking,
};

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

/// A file that was just sealed.
pub struct Staged {
    /// Where it is.
    pub file: FileId,
    /// Its key.
    pub file_key: FileKey,
    /// Its lengths and digest.
    pub sealed: Sealed,
    /// SHA-256 of each of its parts, so that none is hashed again.
    pub part_digests: Vec<[u8; 32]>,
    /// The first bytes of the plaintext, to tell its type.
    pub first_bytes: Vec<u8>,
}

/// Why a file was not staged.
#[derive(Debug, thiserror::Error)]
pub enum StageError {
    /// More than a file may have.
    #[error("the file is over {limit_bytes} bytes")]
    TooLarge {
        /// The limit.
        limit_bytes: u64,
    },
    /// Fewer or more bytes came than were announced.
    #[error("{actual_bytes} bytes came, {announced_bytes} were announced")]
    Changed {
        /// What came.
        actual_bytes: u64,
        /// What was announced.
        announced_bytes: u64,
    },
    /// The caller went away.
    #[error("the upload was cut off")]
    CutOff,
    /// Our disk.
    #[error(transparent)]
    Fault(#[from] Fault),
}

impl From<io::Error> for StageError {
    fn from(error: io::Error) -> Self {
        Self::Fault(error.into())
    }
}

/// How much of a file is looked at to tell its type.
const FIRST_BYTES: usize = limits::SNIFFED_BYTES;

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
            let file = path.file_stem().and_then(|stem| b64::parse_array(stem.to_str()?).ok());
            let is_half_sealed = path.extension().is_some_and(|extension| extension == STAGING);
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

    /// Seals a file while it arrives, and returns when it is on disk. `announced` is the length that its sender said.
    ///
    /// # Errors
    /// [`StageError`]; nothing is left on disk then.
    pub async fn stage<S, E>(&self, body: S, announced: u64) -> Result<Staged, StageError>
    where
        S: Stream<Item = Result<Bytes, E>> + Unpin,
    {
        if announced > limits::FILE_BYTES_MAX {
            return Err(StageError::TooLarge { limit_bytes: limits::FILE_BYTES_MAX });
        }
        let file = FileId(sealpost_service::random_array());
        let path = self.half_done(file, STAGING);
        let staged = self.seal_into(&path, file, body, announced).await;
        match staged {
            Ok(staged) => {
                tokio::fs::rename(&path, self.path(file)).await?;
                File::open(&self.folder).await?.sync_all().await?;
                Ok(staged)
            }
            Err(error) => {
                let _ = tokio::fs::remove_file(&path).await;
                Err(error)
            }
        }
    }

    async fn seal_into<S, E>(&self, path: &Path, id: FileId, mut body: S, announced: u64) -> Result<Staged, StageError>
    where
        S: Stream<Item = Result<Bytes, E>> + Unpin,
    {
        let (file_key, salt) = {
            let mut rng = sealpost_service::entropy();
            (FileKey::generate(&mut rng), BlobSalt::generate(&mut rng))
        };
        let mut spool = Spool { file: create(path).await?, digests: Vec::new() };
        let mut sealer = BlobSealer::new(&file_key, &salt);
        let mut first_bytes = Vec::new();
        let mut actual = 0_u64;
        while let Some(piece) = body.next().await {
            let piece = piece.map_err(|_| StageError::CutOff)?;
            actual += piece.len() as u64;
            if actual > announced {
                return Err(StageError::Changed { actual_bytes: actual, announced_bytes: announced });
            }
            first_bytes.extend(piece.iter().take(FIRST_BYTES - first_bytes.len()));
            let mut rest = &piece[..];
            while let Some(part) =
                sealer.push(&mut rest).map_err(|_| StageError::TooLarge { limit_bytes: limits::FILE_BYTES_MAX })?
            {
                spool.add(part).await?;
            }
        }
        if actual != announced {
            return Err(StageError::Changed { actual_bytes: actual, announced_bytes: announced });
        }
        let mut tail = sealer.finish();
        let sealed = loop {
            match tail.step() {
                SealStep::Part(part) => spool.add(part).await?,
                SealStep::Done(sealed) => break sealed,
            }
        };
        let part_digests = spool.finish().await?;
        Ok(Staged { file: id, file_key, sealed, part_digests, first_bytes })
    }

    /// Reads a range of a complete blob.
    ///
    /// # Errors
    /// When the file is missing, short or unreadable.
    pub async fn read_range(&self, file: FileId, range: std::ops::Range<u64>) -> io::Result<Bytes> {
        let path = self.path(file);
        blocking(move || {
            let mut bytes = vec![0; usize::try_from(range.end - range.start).map_err(io::Error::other)?];
            std::fs::File::open(path)?.read_exact_at(&mut bytes, range.start)?;
            Ok(bytes.into())
        })
        .await
    }

    /// Goes on with a blob that is fetched, or begins it.
    ///
    /// # Errors
    /// [`FetchError`].
    pub async fn fetch(&self, file: FileId, file_key: &FileKey, sealed: &Sealed) -> Result<Fetching, FetchError> {
        let (file_key, sealed) = (file_key.clone(), *sealed);
        let (path, whole) = (self.half_done(file, FETCHING), self.path(file));
        blocking(move || Fetching::begin(path, whole, &file_key, &sealed)).await
    }

    /// The plaintext of a complete blob, part by part. An error ends the stream: what came before it is authentic, but the
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
        Ok(futures_util::stream::try_unfold(reader, |mut reader| async move {
            blocking(move || Ok(reader.next_part()?.map(|bytes| (bytes, reader)))).await
        }))
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

const STAGING: &str = "staging";
const FETCHING: &str = "fetching";

/// Runs what reads, writes or computes for long where it holds nobody up.
async fn blocking<T, E>(job: impl FnOnce() -> Result<T, E> + Send + 'static) -> Result<T, E>
where
    T: Send + 'static,
    E: From<io::Error> + Send + 'static,
{
    spawn_blocking(job).await.map_err(|error| E::from(io::Error::other(error)))?
}

async fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new().create_new(true).write(true).mode(0o600).open(path).await
}

/// A blob that is being sealed, part by part.
struct Spool {
    file: File,
    digests: Vec<[u8; 32]>,
}

impl Spool {
    async fn add(&mut self, part: SealedPart<'_>) -> io::Result<()> {
        self.digests.push(part.sha256);
        self.file.write_all(part.bytes).await
    }

    /// Returns when all of it is on disk.
    async fn finish(mut self) -> io::Result<Vec<[u8; 32]>> {
        self.file.flush().await?;
        self.file.sync_all().await?;
        Ok(self.digests)
    }
}

#[cfg(test)]
mod tests;
