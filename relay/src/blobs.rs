//! Parts of blobs on disk. Each is an immutable object, named by its blob, its number and its
//! digest, so that concurrent uploads of different bytes for the same part do not interfere.

use bytes::Bytes;
use object_store::{
    Error as ObjectError, MultipartUpload, ObjectStore, ObjectStoreExt as _, PutPayload,
    local::LocalFileSystem, path::Path as ObjectPath,
};
use sealpost_proto::{BlobId, b64};
use sealpost_service::create_private_directory;
use std::{
    fs::File,
    io,
    ops::Range,
    path::{Path, PathBuf},
    sync::Arc,
};

/// Character in the names of files that are being written; the name of a part never contains it.
const STAGED: u8 = b'#';

/// Store for the parts of blobs.
#[derive(Clone)]
pub(crate) struct Blobs {
    objects: Arc<dyn ObjectStore>,
    directory: Arc<Path>,
}

/// Lock on the parts of all blobs: shared to prevent deletion, exclusive to delete. It is released
/// when dropped.
pub(crate) struct BlobsLock {
    _directory: File,
}

/// Error of reading, writing or deleting a part.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BlobError {
    /// No space is left.
    #[error("the disk is full")]
    DiskFull,
    /// The part does not exist.
    #[error("the part does not exist")]
    Missing,
    /// Any other failure.
    #[error("the blob store failed: {reason}")]
    Failed {
        /// Message of the operating system.
        reason: String,
    },
}

/// Identity of a part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PartName {
    pub(crate) blob: BlobId,
    /// Starts at 0.
    pub(crate) number: u32,
    /// SHA-256 of the part.
    pub(crate) digest: [u8; 32],
}

impl PartName {
    /// Returns the path relative to the directory of blobs.
    #[must_use]
    pub(crate) fn relative_path(&self) -> PathBuf {
        self.path().as_ref().into()
    }

    fn path(&self) -> ObjectPath {
        let digest = b64::encode(&self.digest);
        ObjectPath::from_iter([self.blob.to_string(), format!("{}-{digest}", self.number)])
    }
}

impl Blobs {
    /// Opens or creates a directory of blobs. Each part and its directory entry are fsynced.
    pub(crate) fn open(directory: &Path) -> Result<Self, BlobError> {
        create_private_directory(directory).map_err(|error| BlobError::Failed {
            reason: error.to_string(),
        })?;
        let local = LocalFileSystem::new_with_prefix(directory)?
            .with_fsync(true)
            .with_automatic_cleanup(true);
        Ok(Self {
            objects: Arc::new(local),
            directory: Arc::from(directory),
        })
    }

    /// Prevents all processes from deleting parts in a directory. Blocks while a process is
    /// deleting.
    pub(crate) fn lock_shared(directory: &Path) -> Result<BlobsLock, BlobError> {
        let lock =
            File::open(directory).and_then(|directory| directory.lock_shared().map(|()| directory));
        lock.map(|directory| BlobsLock {
            _directory: directory,
        })
        .map_err(|error| BlobError::Failed {
            reason: error.to_string(),
        })
    }

    /// Returns the right to delete parts, unless deletion is prevented.
    #[must_use]
    pub(crate) fn try_lock_exclusive(&self) -> Option<BlobsLock> {
        let directory = File::open(&self.directory).ok()?;
        directory.try_lock().ok()?;
        Some(BlobsLock {
            _directory: directory,
        })
    }

    pub(crate) async fn start_part(&self, name: &PartName) -> Result<PartWriter, BlobError> {
        Ok(PartWriter(self.objects.put_multipart(&name.path()).await?))
    }

    #[cfg(test)]
    pub(crate) async fn write(&self, name: &PartName, bytes: Bytes) -> Result<(), BlobError> {
        let mut writer = self.start_part(name).await?;
        writer.write(vec![bytes]).await?;
        writer.finish().await
    }

    /// Reads a range of a part.
    pub(crate) async fn read(
        &self,
        name: &PartName,
        range: Range<u64>,
    ) -> Result<Bytes, BlobError> {
        Ok(self.objects.get_range(&name.path(), range).await?)
    }

    /// Deletes all parts of a blob, including unfinished ones and those without a row in the
    /// database.
    pub(crate) async fn delete(&self, blob: BlobId) -> Result<(), BlobError> {
        match tokio::fs::remove_dir_all(self.directory.join(blob.to_string())).await {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(BlobError::from(error)),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Deletes the unfinished parts of a blob that a killed process left, and returns their number.
    /// No part of the blob may be in the process of being written.
    pub(crate) async fn delete_unfinished(&self, blob: BlobId) -> Result<u64, BlobError> {
        let mut deleted = 0;
        let mut files = match tokio::fs::read_dir(self.directory.join(blob.to_string())).await {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
            files => files?,
        };
        while let Some(file) = files.next_entry().await? {
            if file.file_name().as_encoded_bytes().contains(&STAGED) {
                tokio::fs::remove_file(file.path()).await?;
                deleted += 1;
            }
        }
        Ok(deleted)
    }
}

/// Writer of a part. The part exists only after [`PartWriter::finish`]; dropping the writer before
/// that leaves nothing.
pub(crate) struct PartWriter(Box<dyn MultipartUpload>);

impl PartWriter {
    pub(crate) async fn write(&mut self, chunks: Vec<Bytes>) -> Result<(), BlobError> {
        Ok(self.0.put_part(PutPayload::from_iter(chunks)).await?)
    }

    /// Returns when the part is on disk.
    pub(crate) async fn finish(mut self) -> Result<(), BlobError> {
        self.0.complete().await?;
        Ok(())
    }
}

impl From<ObjectError> for BlobError {
    fn from(outer: ObjectError) -> Self {
        let mut cause: Option<&dyn std::error::Error> = Some(&outer);
        while let Some(error) = cause {
            if let Some(io) = error.downcast_ref::<io::Error>() {
                return Self::from_kind(io.kind(), &outer);
            }
            cause = error.source();
        }
        Self::Failed {
            reason: outer.to_string(),
        }
    }
}

impl From<io::Error> for BlobError {
    fn from(error: io::Error) -> Self {
        Self::from_kind(error.kind(), &error)
    }
}

impl BlobError {
    fn from_kind(kind: io::ErrorKind, error: &dyn std::error::Error) -> Self {
        match kind {
            io::ErrorKind::NotFound => Self::Missing,
            io::ErrorKind::StorageFull => Self::DiskFull,
            _ => Self::Failed {
                reason: error.to_string(),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn finished_parts_exist_until_deleted() {
        let directory = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(directory.path()).unwrap();
        let name = PartName {
            blob: BlobId::from_bytes([1; 16]),
            number: 0,
            digest: [2; 32],
        };
        let mut writer = blobs.start_part(&name).await.unwrap();
        writer
            .write(vec![Bytes::from_static(b"hel")])
            .await
            .unwrap();
        assert_eq!(
            blobs.read(&name, 0..1).await,
            Err(BlobError::Missing),
            "an unfinished part does not exist"
        );
        writer.write(vec![Bytes::from_static(b"lo")]).await.unwrap();
        writer.finish().await.unwrap();
        assert_eq!(blobs.read(&name, 1..4).await.unwrap(), "ell");
        blobs.delete(name.blob).await.unwrap();
        assert_eq!(blobs.read(&name, 0..1).await, Err(BlobError::Missing));
        blobs.delete(name.blob).await.unwrap();
    }

    #[tokio::test]
    async fn unfinished_parts_are_deleted() {
        let directory = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(directory.path()).unwrap();
        let finished = PartName {
            blob: BlobId::from_bytes([1; 16]),
            number: 0,
            digest: [2; 32],
        };
        let unfinished = PartName {
            number: 1,
            ..finished
        };
        assert_eq!(
            blobs.delete_unfinished(finished.blob).await,
            Ok(0),
            "nothing was written yet"
        );
        blobs
            .write(&finished, Bytes::from_static(b"hello"))
            .await
            .unwrap();
        let mut first = blobs.start_part(&unfinished).await.unwrap();
        let mut second = blobs.start_part(&unfinished).await.unwrap();
        first.write(vec![Bytes::from_static(b"hel")]).await.unwrap();
        second.write(vec![Bytes::from_static(b"h")]).await.unwrap();
        assert_eq!(blobs.delete_unfinished(finished.blob).await, Ok(2));
        assert_eq!(blobs.read(&finished, 0..5).await.unwrap(), "hello");
        let third = blobs.start_part(&unfinished).await.unwrap();
        blobs.delete(finished.blob).await.unwrap();
        assert_eq!(
            std::fs::read_dir(directory.path()).unwrap().count(),
            0,
            "nothing of the blob is left"
        );
        assert_eq!(
            third.finish().await,
            Err(BlobError::Missing),
            "the part was deleted during its upload"
        );
    }
}
