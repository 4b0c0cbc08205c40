//! The parts of blobs on disk: each an immutable object, named by its blob, its number and its digest, so that two who
//! write different bytes for one part never disturb each other.

use bytes::Bytes;
use object_store::{
    Error as ObjectError, MultipartUpload, ObjectStore, ObjectStoreExt as _, PutPayload,
    local::LocalFileSystem, path::Path as ObjectPath,
};
use sealpost_proto::{BlobId, ErrorCode, b64};
use sealpost_service::http::ProblemResponse;
use std::{
    fs::File,
    io,
    ops::Range,
    path::{Path, PathBuf},
    sync::Arc,
};

/// Stands in the name of a file as long as it is written, and in that of no part.
const STAGED: u8 = b'#';

/// The parts of blobs.
#[derive(Clone)]
pub(crate) struct Blobs {
    objects: Arc<dyn ObjectStore>,
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
        self.path().as_ref().into()
    }

    fn path(&self) -> ObjectPath {
        let digest = b64::encode(&self.digest);
        ObjectPath::from_iter([self.blob.to_string(), format!("{}-{digest}", self.number)])
    }
}

impl Blobs {
    /// Parts in a folder, which is made when there is none. A written part and its name are fsynced.
    ///
    /// # Errors
    /// [`BlobError`].
    pub(crate) fn open(folder: &Path) -> Result<Self, BlobError> {
        std::fs::create_dir_all(folder).map_err(|error| BlobError::Failed {
            reason: error.to_string(),
        })?;
        let local = LocalFileSystem::new_with_prefix(folder)?
            .with_fsync(true)
            .with_automatic_cleanup(true);
        Ok(Self {
            objects: Arc::new(local),
            folder: Arc::from(folder),
        })
    }

    /// Keeps all parts in a folder from being deleted, by whatever process; waits while one is deleting.
    ///
    /// # Errors
    /// [`BlobError`].
    pub(crate) fn hold(folder: &Path) -> Result<Held, BlobError> {
        let lock = File::open(folder).and_then(|folder| folder.lock_shared().map(|()| folder));
        lock.map(|folder| Held { _folder: folder })
            .map_err(|error| BlobError::Failed {
                reason: error.to_string(),
            })
    }

    /// The right to delete parts, unless somebody holds them.
    #[must_use]
    pub(crate) fn may_delete(&self) -> Option<Held> {
        let folder = File::open(&self.folder).ok()?;
        folder.try_lock().ok()?;
        Some(Held { _folder: folder })
    }

    /// Begins to write a part.
    ///
    /// # Errors
    /// [`BlobError`].
    pub(crate) async fn begin(&self, name: &PartName) -> Result<Writing, BlobError> {
        Ok(Writing(self.objects.put_multipart(&name.path()).await?))
    }

    /// Writes a whole part.
    #[cfg(test)]
    pub(crate) async fn write(&self, name: &PartName, bytes: Bytes) -> Result<(), BlobError> {
        let mut writing = self.begin(name).await?;
        writing.add(vec![bytes]).await?;
        writing.finish().await
    }

    /// Reads a stretch of a part.
    ///
    /// # Errors
    /// [`BlobError`].
    pub(crate) async fn read(
        &self,
        name: &PartName,
        stretch: Range<u64>,
    ) -> Result<Bytes, BlobError> {
        Ok(self.objects.get_range(&name.path(), stretch).await?)
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

/// A part that is being written. It is there only once it is finished; what is dropped before leaves nothing.
pub(crate) struct Writing(Box<dyn MultipartUpload>);

impl Writing {
    /// Adds what comes next.
    ///
    /// # Errors
    /// [`BlobError`].
    pub(crate) async fn add(&mut self, pieces: Vec<Bytes>) -> Result<(), BlobError> {
        Ok(self.0.put_part(PutPayload::from_iter(pieces)).await?)
    }

    /// Returns when all of it is on disk.
    ///
    /// # Errors
    /// [`BlobError`].
    pub(crate) async fn finish(mut self) -> Result<(), BlobError> {
        self.0.complete().await?;
        Ok(())
    }
}

impl From<ObjectError> for BlobError {
    fn from(whole: ObjectError) -> Self {
        let mut cause: Option<&dyn std::error::Error> = Some(&whole);
        while let Some(error) = cause {
            if let Some(io) = error.downcast_ref::<io::Error>() {
                return Self::of(io.kind(), &whole);
            }
            cause = error.source();
        }
        Self::Failed {
            reason: whole.to_string(),
        }
    }
}

impl From<io::Error> for BlobError {
    fn from(error: io::Error) -> Self {
        Self::of(error.kind(), &error)
    }
}

impl BlobError {
    fn of(kind: io::ErrorKind, error: &dyn std::error::Error) -> Self {
        match kind {
            io::ErrorKind::NotFound => Self::Missing,
            io::ErrorKind::StorageFull => Self::DiskFull,
            _ => Self::Failed {
                reason: error.to_string(),
            },
        }
    }
}

impl From<BlobError> for ProblemResponse {
    fn from(error: BlobError) -> Self {
        match error {
            BlobError::DiskFull => crate::http::passing_problem(ErrorCode::StorageFull),
            BlobError::Missing => ErrorCode::NotFound.into(),
            BlobError::Failed { reason } => {
                tracing::error!(%reason, "the store of blobs failed");
                crate::http::passing_problem(ErrorCode::Unavailable)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn parts_are_written_read_and_deleted() {
        let folder = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(folder.path()).unwrap();
        let name = PartName {
            blob: BlobId::from_bytes([1; 16]),
            number: 0,
            digest: [2; 32],
        };
        let mut writing = blobs.begin(&name).await.unwrap();
        writing.add(vec![Bytes::from_static(b"hel")]).await.unwrap();
        assert_eq!(
            blobs.read(&name, 0..1).await,
            Err(BlobError::Missing),
            "it is not whole"
        );
        writing.add(vec![Bytes::from_static(b"lo")]).await.unwrap();
        writing.finish().await.unwrap();
        assert_eq!(blobs.read(&name, 1..4).await.unwrap(), "ell");
        blobs.delete(name.blob).await.unwrap();
        assert_eq!(blobs.read(&name, 0..1).await, Err(BlobError::Missing));
        blobs.delete(name.blob).await.unwrap();
    }

    #[tokio::test]
    async fn what_was_begun_and_never_finished_goes_and_the_rest_stays() {
        let folder = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(folder.path()).unwrap();
        let whole = PartName {
            blob: BlobId::from_bytes([1; 16]),
            number: 0,
            digest: [2; 32],
        };
        let begun = PartName { number: 1, ..whole };
        assert_eq!(blobs.clear(whole.blob).await, Ok(0), "there is nothing yet");
        blobs
            .write(&whole, Bytes::from_static(b"hello"))
            .await
            .unwrap();
        let mut first = blobs.begin(&begun).await.unwrap();
        let mut second = blobs.begin(&begun).await.unwrap();
        first.add(vec![Bytes::from_static(b"hel")]).await.unwrap();
        second.add(vec![Bytes::from_static(b"h")]).await.unwrap();
        assert_eq!(blobs.clear(whole.blob).await, Ok(2));
        assert_eq!(blobs.read(&whole, 0..5).await.unwrap(), "hello");
        let third = blobs.begin(&begun).await.unwrap();
        blobs.delete(whole.blob).await.unwrap();
        assert_eq!(
            std::fs::read_dir(folder.path()).unwrap().count(),
            0,
            "all of it goes with the blob"
        );
        assert_eq!(
            third.finish().await,
            Err(BlobError::Missing),
            "what is deleted while it comes was never there"
        );
    }
}
