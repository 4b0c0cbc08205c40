//! Node that transfers files to and from a [`FakeRelay`].

use super::fake_relay::{FakeBlob, FakeRelay, RecordedRequest};
use crate::{
    daemon::{NodeComponents, transfer},
    files::{DiskFileId, SealedParts, Staged},
    store::{attachments, files},
};
use axum::response::Response;
use bytes::Bytes;
use futures_util::stream;
use sealpost_e2ee::attachment::{Descriptor, Sealed};
use sealpost_node_core::model::{AttachmentId, Direction, FileId, FileStatus};
use sealpost_proto::{BlobId, BlobRef, BlobSize, FetchToken, limits};
use std::{collections::BTreeMap, convert::Infallible, sync::Arc, time::Duration};

/// Node and its fake relay.
pub(super) struct Testbed {
    pub(super) relay: Arc<FakeRelay>,
    pub(super) node: NodeComponents,
    _directory: tempfile::TempDir,
}

impl Testbed {
    pub(super) async fn start(
        response_override: impl Fn(&RecordedRequest) -> Option<Response> + Send + Sync + 'static,
    ) -> Self {
        let (relay, origin) = FakeRelay::start(response_override).await;
        let directory = tempfile::tempdir().unwrap();
        let node = NodeComponents::for_test(directory.path(), origin, relay.clock.clone()).await;
        let transfers = node.transfers();
        tokio::spawn(transfer::upload(Arc::clone(&transfers), node.worker()));
        tokio::spawn(transfer::download(Arc::clone(&transfers), node.worker()));
        tokio::spawn(transfer::maintain_blobs(transfers, node.worker()));
        Self {
            relay,
            node,
            _directory: directory,
        }
    }

    /// Adds a file of `bytes` bytes to upload.
    pub(super) async fn upload(&self, bytes: usize) -> (FileId, Staged) {
        let text: Vec<u8> = (1..=251).cycle().take(bytes).collect();
        let pieces = stream::iter([Ok::<_, Infallible>(Bytes::from(text))]);
        let staged = self
            .node
            .files
            .stage(pieces, bytes as u64, new_parts())
            .await
            .unwrap();
        let id = BlobId::from_bytes(*staged.file.as_bytes());
        (
            self.add(&staged, id, Direction::Out, FileStatus::Uploading)
                .await,
            staged,
        )
    }

    /// Adds the same file at the relay, as one to download.
    pub(super) async fn download(&self, staged: &Staged) -> (FileId, BlobId) {
        let id = BlobId::from_bytes(sealpost_service::random_array());
        let size = BlobSize::parse(staged.sealed.ct_len, limits::BLOB_BYTES_MAX).unwrap();
        let mut parts = BTreeMap::new();
        for number in 0..size.parts() {
            let range = size.part_range(number).unwrap();
            parts.insert(
                number,
                self.node
                    .files
                    .read_range(staged.file, range)
                    .await
                    .unwrap(),
            );
        }
        self.relay.blobs.lock().unwrap().insert(
            id,
            FakeBlob {
                size,
                parts,
                is_complete: true,
            },
        );
        (
            self.add(staged, id, Direction::In, FileStatus::Waiting)
                .await,
            id,
        )
    }

    async fn add(
        &self,
        staged: &Staged,
        id: BlobId,
        direction: Direction,
        status: FileStatus,
    ) -> FileId {
        let descriptor = Descriptor {
            blob: BlobRef {
                relay: self.node.identity.relay.clone(),
                id,
            },
            fetch_token: FetchToken::from_bytes([4; 32]),
            file_key: staged.file_key.clone(),
            sealed: staged.sealed,
            name: "a.bin".to_owned(),
            mime: String::new(),
            preview: None,
        };
        let (sealed_file, part_digests) = (staged.file, staged.part_digests.clone());
        let insert = self.node.database.write(move |tx| {
            let disk_file = match direction {
                Direction::Out => sealed_file,
                Direction::In => DiskFileId::from_bytes(sealpost_service::random_array()),
            };
            let part_digests = &part_digests;
            let new = files::NewFile {
                direction,
                status,
                descriptor: &descriptor,
                file_type: None,
                disk_file,
                part_digests,
                content_digest: None,
            };
            let file = files::insert(tx, &new)?;
            attachments::insert_staged(tx, file)?;
            Ok(file)
        });
        insert.await.unwrap()
    }

    /// Returns the file of a staged attachment.
    pub(super) async fn find_file(&self, id: AttachmentId) -> FileId {
        self.node
            .database
            .read(move |tx| attachments::find_file(tx, id))
            .await
            .unwrap()
            .unwrap()
    }

    pub(super) async fn row(&self, id: FileId) -> files::StoredFile {
        self.node
            .database
            .read(move |tx| files::load(tx, id))
            .await
            .unwrap()
            .unwrap()
    }

    /// Advances the clock until a condition holds, so that every retry becomes due.
    pub(super) async fn until(&self, mut is_so: impl AsyncFnMut(&Self) -> bool) {
        let waiting = async {
            while !is_so(self).await {
                self.relay.clock.advance(Duration::from_secs(60));
                self.node.database.write(|_| Ok(())).await.unwrap();
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), waiting)
            .await
            .unwrap();
    }

    pub(super) async fn until_status(&self, id: FileId, status: FileStatus) {
        self.until(async |bed| bed.row(id).await.status == status)
            .await;
    }

    pub(super) fn requests(&self) -> Vec<RecordedRequest> {
        self.relay.requests.lock().unwrap().clone()
    }

    /// Returns whether the relay has the complete blob of a staged file.
    pub(super) fn has(&self, staged: &Staged) -> bool {
        self.has_complete_blob(BlobId::from_bytes(*staged.file.as_bytes()), &staged.sealed)
    }

    /// Returns whether the relay has a complete blob that matches its description.
    pub(super) fn has_complete_blob(&self, id: BlobId, sealed: &Sealed) -> bool {
        let blobs = self.relay.blobs.lock().unwrap();
        blobs
            .get(&id)
            .is_some_and(|blob| blob.is_complete && blob.digest() == sealed.ct_hash)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.relay.blobs.lock().unwrap().is_empty()
    }

    /// Creates a blob without parts, as an interrupted upload leaves it.
    pub(super) fn begin_blob(&self, id: BlobId) {
        let size = BlobSize::parse(limits::BLOB_BYTES_MAX, limits::BLOB_BYTES_MAX).unwrap();
        let incomplete = FakeBlob {
            size,
            parts: BTreeMap::new(),
            is_complete: false,
        };
        self.relay.blobs.lock().unwrap().insert(id, incomplete);
    }

    pub(super) fn has_blob(&self, staged: &Staged) -> bool {
        self.relay
            .blobs
            .lock()
            .unwrap()
            .contains_key(&BlobId::from_bytes(*staged.file.as_bytes()))
    }

    /// Changes the stored parts of a blob.
    pub(super) fn tamper(&self, id: BlobId, change: impl FnOnce(&mut BTreeMap<u32, Bytes>)) {
        change(&mut self.relay.blobs.lock().unwrap().get_mut(&id).unwrap().parts);
    }
}

/// Parts of a file that is about to be sealed.
fn new_parts() -> Arc<SealedParts> {
    Arc::new(SealedParts::for_new_file(
        DiskFileId::from_bytes(sealpost_service::random_array()),
        Arc::default(),
        None,
    ))
}
