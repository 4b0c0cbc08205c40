//! Early uploads: parts of a file are uploaded while the rest is still being sealed, before any
//! message needs the file (`docs/decisions/upload-parts-before-the-message-exists.md`).
//!
//! A failed early upload has no consequences: once a message needs the file, the missing parts are
//! uploaded as usual.

use super::{TransferContext, error::TransferError, upload::BlobUpload};
use crate::{
    daemon::Database,
    files::{DiskFileId, PartMemoryBudget, SealedParts},
    store::unreferenced_blobs,
};
use sealpost_e2ee::attachment::blob_len;
use sealpost_node_core::transfer::PartSet;
use sealpost_proto::{BlobId, BlobSize, FetchToken, limits};
use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::sync::Notify;

/// Requested lifetime of the blob at the relay; longer than a message can take to need the file.
const LIFETIME: Duration = limits::STAGED_FILE_RETENTION.saturating_mul(2);

/// Blob whose parts may be uploaded although no message needs it.
///
/// While a reference exists, the blob is not deleted at the relay, because a running upload could
/// create it again.
pub(super) struct EarlyBlob {
    pub(super) id: BlobId,
    fetch_token: FetchToken,
    pub(super) size: BlobSize,
    parts: Arc<SealedParts>,
    /// Whether the upload may start and has not started yet.
    is_ready: AtomicBool,
    is_being_sealed: AtomicBool,
    /// Wakes the maintenance of blobs when the last reference is dropped.
    dropped: Arc<Notify>,
}

impl Drop for EarlyBlob {
    fn drop(&mut self) {
        self.dropped.notify_one();
    }
}

/// Early upload of one blob. [`Upload`](super::upload::Upload) continues it once a message needs
/// the file.
pub(super) struct EarlyUpload {
    pub(super) blob: Arc<BlobUpload>,
    source: Arc<EarlyBlob>,
}

impl EarlyUpload {
    pub(super) fn new(context: &Arc<TransferContext>, source: Arc<EarlyBlob>) -> Self {
        let blob = BlobUpload::new(
            context,
            source.id,
            source.fetch_token.clone(),
            source.size,
            Arc::clone(&source.parts),
        );
        Self {
            blob: Arc::new(blob),
            source,
        }
    }

    pub(super) async fn prepare(&self) -> Result<PartSet, TransferError> {
        self.blob.create(LIFETIME).await
    }

    pub(super) fn is_being_sealed(&self) -> bool {
        self.source.is_being_sealed.load(Ordering::SeqCst)
    }
}

/// Blobs that may have early uploads, and the memory budget for their parts.
pub(crate) struct EarlyUploads {
    blobs: Mutex<Vec<Weak<EarlyBlob>>>,
    part_budget: PartMemoryBudget,
    /// Maximum size of a file that a message can contain.
    file_bytes_max: u64,
    database: Database,
}

impl EarlyUploads {
    /// Creates the list, for messages whose files have up to `message_files_bytes_max` bytes.
    pub(in crate::daemon) fn new(database: Database, message_files_bytes_max: u64) -> Self {
        Self {
            blobs: Mutex::default(),
            part_budget: PartMemoryBudget::default(),
            file_bytes_max: limits::FILE_BYTES_MAX.min(message_files_bytes_max),
            database,
        }
    }

    /// Returns the blob size of a file that qualifies for an early upload.
    fn blob_size(&self, announced_bytes: u64) -> Option<BlobSize> {
        if announced_bytes > self.file_bytes_max {
            return None;
        }
        BlobSize::parse(blob_len(announced_bytes), limits::BLOB_BYTES_MAX)
            .ok()
            .filter(|size| size.parts() > 1)
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Weak<EarlyBlob>>> {
        self.blobs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, blob: &Arc<EarlyBlob>) {
        let mut blobs = self.lock();
        blobs.retain(|blob| blob.strong_count() > 0);
        blobs.push(Arc::downgrade(blob));
    }

    /// Returns up to `limit` blobs that are ready, each of them only once.
    pub(super) fn start_ready(&self, limit: usize) -> Vec<Arc<EarlyBlob>> {
        let blobs = self.lock();
        blobs
            .iter()
            .filter_map(Weak::upgrade)
            .filter(|blob| blob.is_ready.load(Ordering::SeqCst))
            .take(limit)
            .inspect(|blob| blob.is_ready.store(false, Ordering::SeqCst))
            .collect()
    }

    /// Returns whether parts of a blob may be in flight to the relay.
    pub(super) fn contains(&self, id: BlobId) -> bool {
        self.lock()
            .iter()
            .any(|blob| blob.upgrade().is_some_and(|blob| blob.id == id))
    }
}

/// File that is being sealed. If it is dropped before the file has a row, the parts that were
/// uploaded early are deleted.
pub(crate) struct Staging {
    early_uploads: Arc<EarlyUploads>,
    early: Option<Arc<EarlyBlob>>,
    /// Id of the future blob.
    pub(crate) blob: BlobId,
    pub(crate) fetch_token: FetchToken,
    pub(crate) parts: Arc<SealedParts>,
}

impl Staging {
    /// Prepares a file of `announced_bytes` bytes. A file with a single part, or one that is too
    /// large for a message, gets no early upload.
    pub(crate) fn new(early_uploads: Arc<EarlyUploads>, announced_bytes: u64) -> Self {
        let blob = BlobId::from_bytes(sealpost_service::random_array());
        let fetch_token = FetchToken::from_bytes(sealpost_service::random_array());
        let file = DiskFileId::from_bytes(sealpost_service::random_array());
        let wake_ups = early_uploads.database.wake_ups();
        let size = early_uploads.blob_size(announced_bytes);
        let part_budget = size.map(|_| early_uploads.part_budget.clone());
        let part_sealed = Arc::clone(&wake_ups.part_sealed);
        let parts = Arc::new(SealedParts::for_new_file(file, part_sealed, part_budget));
        let early = size.map(|size| {
            Arc::new(EarlyBlob {
                id: blob,
                fetch_token: fetch_token.clone(),
                size,
                parts: Arc::clone(&parts),
                is_ready: AtomicBool::new(false),
                is_being_sealed: AtomicBool::new(true),
                dropped: Arc::clone(&wake_ups.blob_maintenance),
            })
        });
        Self {
            early_uploads,
            early,
            blob,
            fetch_token,
            parts,
        }
    }

    /// Starts the early upload. First it stores that the relay may hold the blob, so that the blob
    /// is deleted even after a crash.
    pub(crate) async fn start_early_upload(&self) {
        let Some(early) = &self.early else { return };
        self.early_uploads.add(early);
        let (blob, database) = (self.blob, &self.early_uploads.database);
        let added = database.write_without_wake_up(move |tx| unreferenced_blobs::add(tx, &blob));
        match added.await {
            Ok(()) => {
                early.is_ready.store(true, Ordering::SeqCst);
                database.wake_ups().uploads.notify_one();
            }
            Err(fault) => {
                tracing::warn!(%fault, "cannot start the upload before the file is sealed")
            }
        }
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        if let Some(early) = &self.early {
            early.is_being_sealed.store(false, Ordering::SeqCst);
            let wake_ups = self.early_uploads.database.wake_ups();
            wake_ups.uploads.notify_one();
        }
    }
}
