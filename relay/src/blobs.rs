//! The parts of blobs on disk: each an immutable object, named by its blob, its number and its digest, so that two who
//! write different bytes for one part never disturb each other.

use bytes::Bytes;
use object_store::{
    Error as ObjectError, MultipartUpload, ObjectStore, ObjectStoreExt as _, PutPayload, local::LocalFileSystem,
    path::Path as ObjectPath,
};
use sealpost_proto::{BlobId, ErrorCode, b64};
use sealpost_service::http::ProblemResponse;
use std::{
    fs::File,
    ops::Range,
    path::{Path, PathBuf},
    sync::Arc,
};

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
        std::fs::create_dir_all(folder).map_err(|error| BlobError::Failed { reason: error.to_string() })?;
        let local = LocalFileSystem::new_with_prefix(folder)?.with_fsync(true).with_automatic_cleanup(true);
        Ok(Self { objects: Arc::new(local), folder: Arc::from(folder) })
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
        writing.add(bytes).await?;
        writing.finish().await
    }

    /// Reads a stretch of a part.
    ///
    /// # Errors
    /// [`BlobError`].
    pub(crate) async fn read(&self, name: &PartName, stretch: Range<u64>) -> Result<Bytes, BlobError> {
        Ok(self.objects.get_range(&name.path(), stretch).await?)
    }

    /// Deletes all parts of a blob, also those that no row knows.
    ///
    /// # Errors
    /// [`BlobError`].
    pub(crate) async fn delete(&self, blob: BlobId) -> Result<(), BlobError> {
        use futures_util::TryStreamExt as _;
        let folder = ObjectPath::from_iter([blob.to_string()]);
        let parts: Vec<_> = self.objects.list(Some(&folder)).map_ok(|meta| meta.location).try_collect().await?;
        for part in parts {
            match self.objects.delete(&part).await {
                Ok(()) | Err(ObjectError::NotFound { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

/// A part that is being written. It is there only once it is finished; what is dropped before leaves nothing.
pub(crate) struct Writing(Box<dyn MultipartUpload>);

impl Writing {
    /// Adds what comes next.
    ///
    /// # Errors
    /// [`BlobError`].
    pub(crate) async fn add(&mut self, bytes: Bytes) -> Result<(), BlobError> {
        Ok(self.0.put_part(PutPayload::from_bytes(bytes)).await?)
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
    fn from(error: ObjectError) -> Self {
        if matches!(error, ObjectError::NotFound { .. }) {
            return Self::Missing;
        }
        if is_disk_full(&error) { Self::DiskFull } else { Self::Failed { reason: error.to_string() } }
    }
}

fn is_disk_full(error: &ObjectError) -> bool {
    let mut cause: Option<&dyn std::error::Error> = Some(error);
    while let Some(error) = cause {
        if error.downcast_ref::<std::io::Error>().is_some_and(|io| io.kind() == std::io::ErrorKind::StorageFull) {
            return true;
        }
        cause = error.source();
    }
    false
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
        let name = PartName { blob: BlobId::from_bytes([1; 16]), number: 0, digest: [2; 32] };
        let mut writing = blobs.begin(&name).await.unwrap();
        writing.add(Bytes::from_static(b"hel")).await.unwrap();
        assert_eq!(blobs.read(&name, 0..1).await, Err(BlobError::Missing), "it is not whole");
        writing.add(Bytes::from_static(b"lo")).await.unwrap();
        writing.finish().await.unwrap();
        assert_eq!(blobs.read(&name, 1..4).await.unwrap(), "ell");
        blobs.delete(name.blob).await.unwrap();
        assert_eq!(blobs.read(&name, 0..1).await, Err(BlobError::Missing));
        blobs.delete(name.blob).await.unwrap();
    }
}
