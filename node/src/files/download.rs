//! Download of a blob to disk.
//!
//! Parts are written as they arrive, in any order. They are decrypted in sequence, each once and
//! with one chunk in memory, while other parts are still arriving. The file gets its final name
//! when all checks have passed and all of it is synced. Before that, nothing needs to be durable: a
//! resumed download decrypts the parts that it finds.

use super::{blocking, check_disk_space, lock, sync::BackgroundSync};
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

/// Size of one write.
const WRITE_BYTES: usize = 256 * 1024;

#[derive(Debug, thiserror::Error)]
pub(crate) enum DownloadError {
    #[error("the file is not the one that its sender described")]
    NotDescribed,
    #[error("the relay responded with a part of the wrong length")]
    PartLength,
    #[error(transparent)]
    Disk(#[from] io::Error),
}

impl From<OpenError> for DownloadError {
    fn from(_: OpenError) -> Self {
        Self::NotDescribed
    }
}

/// Blob that is being downloaded.
pub(crate) struct BlobDownload {
    partial_path: PathBuf,
    path: PathBuf,
    size: BlobSize,
    file: Arc<File>,
    written: Mutex<PartSet>,
    sync: Mutex<BackgroundSync>,
    verifier: Mutex<Verifier>,
}

/// Decrypts the parts in sequence to verify them.
struct Verifier {
    file: Arc<File>,
    size: BlobSize,
    opener: BlobOpener,
    chunk: Vec<u8>,
    /// Number of parts decrypted so far.
    verified_parts: u32,
}

/// Writer for one part of a blob.
pub(crate) struct PartWriter {
    download: Arc<BlobDownload>,
    number: u32,
    /// From the position of the next write to the end of the part.
    remaining: Range<u64>,
    buffer: Vec<u8>,
}

impl BlobDownload {
    /// Opens a new or partial download, and decrypts the parts that an earlier run wrote, up to the
    /// first one that is missing or damaged. If the file has its final name, all parts are present.
    pub(super) fn open(
        partial_path: PathBuf,
        path: PathBuf,
        key: &FileKey,
        sealed: &Sealed,
    ) -> Result<Self, DownloadError> {
        let opener = BlobOpener::new(key, sealed)?;
        let size = BlobSize::parse(sealed.ct_len, limits::BLOB_BYTES_MAX)
            .map_err(|_| DownloadError::NotDescribed)?;
        let file = Arc::new(open_or_create(&partial_path)?);
        let mut verifier = Verifier {
            file: Arc::clone(&file),
            size,
            opener,
            chunk: Vec::new(),
            verified_parts: 0,
        };
        if path.try_exists()? {
            verifier.verified_parts = size.parts();
        } else {
            verifier.verify_existing_parts()?;
            let missing = size.bytes().saturating_sub(file.metadata()?.len());
            check_disk_space(path.parent().unwrap_or(Path::new(".")), missing)?;
        }
        Ok(Self {
            partial_path,
            path,
            size,
            written: Mutex::default(),
            sync: Mutex::new(BackgroundSync::new(Arc::clone(&file))),
            file,
            verifier: Mutex::new(verifier),
        })
    }

    /// Returns the parts that need not be downloaded again.
    #[must_use]
    pub(crate) fn present_parts(&self) -> PartSet {
        PartSet::before(lock(&self.verifier).verified_parts)
    }

    /// Creates a writer for one part.
    ///
    /// # Errors
    /// [`DownloadError::NotDescribed`] if the blob has no such part.
    pub(crate) fn part_writer(self: Arc<Self>, number: u32) -> Result<PartWriter, DownloadError> {
        let remaining = self
            .size
            .part_range(number)
            .ok_or(DownloadError::NotDescribed)?;
        Ok(PartWriter {
            download: self,
            number,
            remaining,
            buffer: Vec::with_capacity(WRITE_BYTES),
        })
    }

    /// Records a written part and verifies the parts that are next in sequence. If another thread
    /// is verifying, that thread verifies this part too, so that no thread waits.
    fn record_part(&self, number: u32) -> Result<(), DownloadError> {
        lock(&self.written).extend([number]);
        let bytes = self.size.part_bytes(number).unwrap_or_default();
        self.remove_on_sync_error(lock(&self.sync).record_write(bytes))?;
        match self.verifier.try_lock() {
            Ok(mut verifier) => verifier.verify_written_parts(&self.written),
            Err(_) => Ok(()),
        }
    }

    /// Removes the partial file after a failed sync, because it is unknown which bytes were
    /// written.
    fn remove_on_sync_error(&self, synced: io::Result<()>) -> io::Result<()> {
        synced.inspect_err(|_| drop(remove(&self.partial_path)))
    }

    /// Completes the download: verifies the blob, syncs it and gives it its final name. Removes a
    /// blob that is not the described one.
    pub(crate) async fn finish(self: Arc<Self>) -> Result<(), DownloadError> {
        blocking(move || self.finish_blocking()).await
    }

    fn finish_blocking(&self) -> Result<(), DownloadError> {
        if self.path.try_exists()? {
            return Ok(remove(&self.partial_path)?);
        }
        let mut verifier = lock(&self.verifier);
        // A part may have been written after the last verifying thread checked for more.
        if let Err(error) = verifier
            .verify_written_parts(&self.written)
            .and_then(|()| verifier.verify_end())
        {
            if matches!(error, DownloadError::NotDescribed) {
                remove(&self.partial_path)?;
            }
            return Err(error);
        }
        self.remove_on_sync_error(lock(&self.sync).finish())?;
        std::fs::rename(&self.partial_path, &self.path)?;
        let directory = self.path.parent().unwrap_or(Path::new("."));
        Ok(File::open(directory)?.sync_all()?)
    }
}

impl PartWriter {
    /// Appends bytes to the part, and writes them to disk once enough have accumulated.
    pub(crate) async fn write(&mut self, piece: Bytes) -> Result<(), DownloadError> {
        self.buffer.extend_from_slice(&piece);
        if self.end() > self.remaining.end {
            return Err(DownloadError::PartLength);
        }
        if self.buffer.len() >= WRITE_BYTES {
            let (at, buffer) = (self.remaining.start, std::mem::take(&mut self.buffer));
            self.remaining.start += buffer.len() as u64;
            let file = Arc::clone(&self.download.file);
            self.buffer = blocking(move || file.write_all_at(&buffer, at).map(|()| buffer)).await?;
            self.buffer.clear();
        }
        Ok(())
    }

    /// Returns the position in the blob after the bytes received so far.
    fn end(&self) -> u64 {
        self.remaining.start + self.buffer.len() as u64
    }

    /// Completes the part, and verifies the parts that are next in sequence.
    pub(crate) async fn finish(self) -> Result<(), DownloadError> {
        if self.end() != self.remaining.end {
            return Err(DownloadError::PartLength);
        }
        blocking(move || {
            self.download
                .file
                .write_all_at(&self.buffer, self.remaining.start)?;
            self.download.record_part(self.number)
        })
        .await
    }
}

impl Verifier {
    /// Verifies the parts that an earlier run wrote, up to the first one that does not decrypt.
    fn verify_existing_parts(&mut self) -> io::Result<()> {
        let length = self.file.metadata()?.len();
        while self
            .size
            .part_range(self.verified_parts)
            .is_some_and(|range| range.end <= length)
        {
            let before = self.opener.clone();
            match self.verify_next_part() {
                Ok(()) => {}
                Err(DownloadError::Disk(error)) => return Err(error),
                // A hole in the file, or a part damaged by a power failure; it is downloaded again.
                Err(DownloadError::NotDescribed | DownloadError::PartLength) => {
                    self.opener = before;
                    break;
                }
            }
        }
        Ok(())
    }

    /// Verifies the written parts that are next in sequence.
    fn verify_written_parts(&mut self, written: &Mutex<PartSet>) -> Result<(), DownloadError> {
        while lock(written).contains(self.verified_parts) {
            self.verify_next_part()?;
        }
        Ok(())
    }

    fn verify_end(&self) -> Result<(), DownloadError> {
        let _verified = self.opener.clone().finish()?;
        Ok(())
    }

    fn verify_next_part(&mut self) -> Result<(), DownloadError> {
        let mut range = self
            .size
            .part_range(self.verified_parts)
            .ok_or(DownloadError::NotDescribed)?;
        while !range.is_empty() {
            self.chunk.resize(self.opener.next_chunk_bytes(), 0);
            self.file.read_exact_at(&mut self.chunk, range.start)?;
            let _provisional = self.opener.open_chunk(&mut self.chunk)?;
            range.start += self.chunk.len() as u64;
        }
        self.verified_parts += 1;
        Ok(())
    }
}

fn open_or_create(path: &Path) -> io::Result<File> {
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
