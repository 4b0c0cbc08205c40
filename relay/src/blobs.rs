//! The parts of blobs on disk: each an immutable object, named by its blob, its number and its digest, so that two who
//! write different bytes for one part never disturb each other.

use bytes::Bytes;
use object_store::{
    Error as ObjectError, ObjectStore, ObjectStoreExt as _, PutPayload, local::LocalFileSystem,
    path::Path as ObjectPath,
};
use sealpost_proto::{BlobId, ErrorCode, b64};
use sealpost_service::http::ProblemResponse;
use std::{ops::Range, path::Path, sync::Arc};

/// The parts of blobs.
#[derive(Clone)]
pub(crate) struct Blobs(Arc<dyn ObjectStore>);

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
        Ok(Self(Arc::new(local)))
    }

    /// Writes a part and returns when it is on disk.
    ///
    /// # Errors
    /// [`BlobError`].
    pub(crate) async fn write(&self, name: &PartName, bytes: Bytes) -> Result<(), BlobError> {
        self.0.put(&name.path(), PutPayload::from_bytes(bytes)).await?;
        Ok(())
    }

    /// Reads a stretch of a part.
    ///
    /// # Errors
    /// [`BlobError`].
    pub(crate) async fn read(&self, name: &PartName, stretch: Range<u64>) -> Result<Bytes, BlobError> {
        Ok(self.0.get_range(&name.path(), stretch).await?)
    }

    /// Deletes all parts of a blob, also those that no row knows.
    ///
    /// # Errors
    /// [`BlobError`].
    pub(crate) async fn delete(&self, blob: BlobId) -> Result<(), BlobError> {
        use futures_util::TryStreamExt as _;
        let folder = ObjectPath::from_iter([blob.to_string()]);
        let parts: Vec<_> = self.0.list(Some(&folder)).map_ok(|meta| meta.location).try_collect().await?;
        for part in parts {
            match self.0.delete(&part).await {
                Ok(()) | Err(ObjectError::NotFound { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
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
        blobs.write(&name, Bytes::from_static(b"hello")).await.unwrap();
        assert_eq!(blobs.read(&name, 1..4).await.unwrap(), "ell");
        blobs.delete(name.blob).await.unwrap();
        assert_eq!(blobs.read(&name, 0..1).await, Err(BlobError::Missing));
        blobs.delete(name.blob).await.unwrap();
    }
}
