//! Files of ours whose first parts go out while the rest is still being sealed, before any message needs them
//! (`docs/decisions/upload-parts-before-the-message-exists.md`). What goes wrong with that is nobody's failure: once a message
//! needs the file, whatever is missing goes the ordinary way.

use crate::{
    daemon::Daemon,
    files::{FileId, PartRoom, SealedParts},
    store::unwanted,
};
use sealpost_e2ee::attachment::blob_len;
use sealpost_proto::{BlobId, BlobSize, FetchToken, limits};
use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError, Weak,
    atomic::{AtomicBool, Ordering},
};
use tokio::sync::Notify;

/// A blob whose parts may be on their way although no message needs it. As long as this is held by anybody, the relay is not
/// asked to delete it: what is under way could make it anew.
pub(super) struct EarlyBlob {
    /// Its id.
    pub(super) blob: BlobId,
    /// What will fetch it.
    pub(super) fetch_token: FetchToken,
    /// How large it will be.
    pub(super) size: BlobSize,
    /// What is sealed of it.
    pub(super) parts: Arc<SealedParts>,
    may_go: AtomicBool,
    is_being_sealed: AtomicBool,
    gone: Arc<Notify>,
}

impl EarlyBlob {
    /// Whether its file may still become one.
    pub(super) fn is_being_sealed(&self) -> bool {
        self.is_being_sealed.load(Ordering::SeqCst)
    }
}

impl Drop for EarlyBlob {
    fn drop(&mut self) {
        self.gone.notify_one();
    }
}

/// All of them.
#[derive(Default)]
pub struct EarlyUploads {
    uploads: Mutex<Vec<Weak<EarlyBlob>>>,
    room: PartRoom,
}

impl EarlyUploads {
    fn lock(&self) -> MutexGuard<'_, Vec<Weak<EarlyBlob>>> {
        self.uploads.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, early: &Arc<EarlyBlob>) {
        let mut uploads = self.lock();
        uploads.retain(|upload| upload.strong_count() > 0);
        uploads.push(Arc::downgrade(early));
    }

    /// Takes up at most so many that nobody has taken up before.
    pub(super) fn take_up(&self, at_most: usize) -> Vec<Arc<EarlyBlob>> {
        let uploads = self.lock();
        let alive = uploads.iter().filter_map(Weak::upgrade);
        let may_go = alive
            .filter(|early| early.may_go.load(Ordering::SeqCst))
            .take(at_most);
        may_go
            .inspect(|early| early.may_go.store(false, Ordering::SeqCst))
            .collect()
    }

    /// Whether parts of a blob may be on their way.
    pub(super) fn contains(&self, blob: BlobId) -> bool {
        self.lock()
            .iter()
            .any(|upload| upload.upgrade().is_some_and(|early| early.blob == blob))
    }
}

/// A file that is being sealed. Dropped before it became a file, it takes back what went out of it.
pub struct Staging {
    daemon: Arc<Daemon>,
    early: Option<Arc<EarlyBlob>>,
    /// The blob that it will be.
    pub blob: BlobId,
    /// What will fetch it.
    pub fetch_token: FetchToken,
    /// What is sealed of it.
    pub parts: Arc<SealedParts>,
}

impl Staging {
    /// A file of so many bytes. One of a single part is not worth the trouble, and one that no message may have stays here.
    #[must_use]
    pub fn begin(daemon: &Arc<Daemon>, announced_bytes: u64) -> Self {
        let blob = BlobId::from_bytes(sealpost_service::random_array());
        let fetch_token = FetchToken::from_bytes(sealpost_service::random_array());
        let file = FileId::from_bytes(sealpost_service::random_array());
        let may_be_sent =
            announced_bytes <= limits::FILE_BYTES_MAX.min(daemon.running.files_bytes_max);
        let size = may_be_sent
            .then(|| BlobSize::parse(blob_len(announced_bytes), limits::BLOB_BYTES_MAX).ok())
            .flatten();
        let size = size.filter(|size| size.parts() > 1);
        let room = size.map(|_| daemon.early.room.clone());
        let parts = Arc::new(SealedParts::of_new(file, daemon.part_sealed(), room));
        let early = size.map(|size| {
            Arc::new(EarlyBlob {
                blob,
                fetch_token: fetch_token.clone(),
                size,
                parts: Arc::clone(&parts),
                may_go: AtomicBool::new(false),
                is_being_sealed: AtomicBool::new(true),
                gone: daemon.keeping(),
            })
        });
        Self {
            daemon: Arc::clone(daemon),
            early,
            blob,
            fetch_token,
            parts,
        }
    }

    /// Lets its parts go out as they are sealed. That the relay may have something of it is on disk before.
    pub async fn go_out(&self) {
        let Some(early) = &self.early else { return };
        self.daemon.early.add(early);
        let blob = self.blob;
        match self.daemon.commit(move |tx| unwanted::add(tx, &blob)).await {
            Ok(()) => {
                early.may_go.store(true, Ordering::SeqCst);
                self.daemon.wake_upload();
            }
            Err(fault) => tracing::warn!(%fault, "a file goes out only when it is whole"),
        }
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        if let Some(early) = &self.early {
            early.is_being_sealed.store(false, Ordering::SeqCst);
            self.daemon.wake_upload();
        }
    }
}
