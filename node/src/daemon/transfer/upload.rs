//! Upload of one file to the relay.

use super::{TransferContext, early::EarlyUpload, error::TransferError, meter::Meter};
use crate::{
    files::SealedParts,
    store::files::{self, StoredFile},
};
use bytes::Bytes;
use sealpost_node_core::transfer::PartSet;
use sealpost_proto::{
    BlobId, BlobSize, ErrorCode, FetchToken, limits,
    wire::{Blob, BlobState, CompleteBlob, CreateBlob},
};
use sealpost_relay_client::ClientError;
use sealpost_signatures::ContentDigest;
use sha2::{Digest as _, Sha256};
use std::{io, ops::Range, sync::Arc, time::Duration};

/// Requested lifetime of the blob of a file that a message needs.
const LIFETIME: Duration =
    limits::ENVELOPE_LIFETIME_DEFAULT.saturating_add(limits::BLOB_LIFETIME_AFTER_MESSAGE);

/// Blob that is being uploaded, shared by an early upload and the upload that continues it.
pub(super) struct BlobUpload {
    context: Arc<TransferContext>,
    pub(super) id: BlobId,
    fetch_token: FetchToken,
    pub(super) size: BlobSize,
    pub(super) parts: Arc<SealedParts>,
    pub(super) meter: Arc<Meter>,
}

/// Upload of a file that a message needs.
pub(super) struct Upload {
    pub(super) blob: Arc<BlobUpload>,
    row: StoredFile,
}

impl BlobUpload {
    pub(super) fn new(
        context: &Arc<TransferContext>,
        id: BlobId,
        fetch_token: FetchToken,
        size: BlobSize,
        parts: Arc<SealedParts>,
    ) -> Self {
        Self {
            context: Arc::clone(context),
            id,
            fetch_token,
            size,
            parts,
            meter: Arc::new(Meter::new()),
        }
    }

    /// Creates the blob at the relay, unless it exists, and returns the parts that the relay has.
    pub(super) async fn create(&self, lifetime: Duration) -> Result<PartSet, TransferError> {
        let create = CreateBlob {
            id: self.id,
            size_bytes: self.size.bytes(),
            fetch_token_hash: Sha256::digest(self.fetch_token.expose()).to_vec().into(),
            expires_at: self.context.database.relay_now().plus(lifetime),
        };
        let relay = &self.context.relay;
        let blob = relay.client.create_blob(&create).await.map_err(classify)?;
        relay.record_response().await;
        Ok(self.present_parts(&blob))
    }

    fn present_parts(&self, blob: &Blob) -> PartSet {
        match blob.state {
            BlobState::Complete => PartSet::before(self.size.parts()),
            BlobState::Uploading => blob.present.iter().copied().collect(),
        }
    }

    /// Uploads a part with the digest that was computed when it was sealed.
    pub(super) async fn put_part(&self, number: u32) -> Result<(), TransferError> {
        let range = self
            .size
            .part_range(number)
            .ok_or_else(incomplete_on_disk)?;
        let digest = self.parts.digest(number).ok_or_else(incomplete_on_disk)?;
        let digest = ContentDigest::from_sha256(digest);
        // Holds the memory permit of the part until it is sent.
        let in_memory = self.parts.take_from_memory(number);
        let bytes = match &in_memory {
            Some(part) => part.bytes.clone(),
            None => self.read_part(range).await?,
        };
        let progress = self.meter.part(number);
        let sent = self
            .context
            .relay
            .client
            .upload_part(self.id, number, bytes.clone(), digest, progress)
            .await;
        match sent {
            Err(ClientError::Problem(problem)) if problem.code == ErrorCode::SignatureInvalid => {
                // The part changed on the network or on this disk. Only the former is retryable.
                if ContentDigest::of(&bytes) == digest {
                    Err(ClientError::from(problem).into())
                } else {
                    Err(incomplete_on_disk())
                }
            }
            sent => sent.map_err(classify),
        }
    }

    async fn read_part(&self, range: Range<u64>) -> Result<Bytes, TransferError> {
        let read = self.context.files.read_range(self.parts.file, range).await;
        read.map_err(|error| match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::UnexpectedEof => incomplete_on_disk(),
            _ => error.into(),
        })
    }
}

impl Drop for BlobUpload {
    fn drop(&mut self) {
        self.parts.release_memory();
    }
}

impl Upload {
    pub(super) fn new(
        context: &Arc<TransferContext>,
        row: StoredFile,
        size: BlobSize,
        part_digests: Vec<[u8; 32]>,
    ) -> Self {
        let (id, fetch_token) = (row.descriptor.blob.id, row.descriptor.fetch_token.clone());
        let parts = Arc::new(SealedParts::for_complete_file(row.disk_file, part_digests));
        Self {
            blob: Arc::new(BlobUpload::new(context, id, fetch_token, size, parts)),
            row,
        }
    }

    pub(super) fn from_early(early: &EarlyUpload, row: StoredFile) -> Self {
        Self {
            blob: Arc::clone(&early.blob),
            row,
        }
    }

    pub(super) async fn prepare(&self) -> Result<PartSet, TransferError> {
        self.blob.create(LIFETIME).await
    }

    /// Completes the blob at the relay and marks the file as uploaded.
    pub(super) async fn complete(&self) -> Result<(), TransferError> {
        let TransferContext {
            database, relay, ..
        } = &*self.blob.context;
        let complete = CompleteBlob {
            digest: self.row.descriptor.sealed.ct_hash.to_vec().into(),
        };
        let until = match relay.client.complete_blob(self.blob.id, &complete).await {
            Ok(blob) if blob.state == BlobState::Complete => blob.expires_at,
            Ok(_) => {
                return Err(TransferError::retryable(
                    "the relay does not have all parts",
                ));
            }
            Err(ClientError::Problem(problem)) if problem.code == ErrorCode::BlobIncomplete => {
                return Err(TransferError::retryable(
                    "the relay does not have all parts that it reported",
                ));
            }
            Err(error) => return Err(classify(error)),
        };
        let (id, bytes) = (self.row.id, self.blob.size.bytes());
        let store = database.write(move |tx| {
            files::set_transferred(tx, id, bytes)?;
            files::set_uploaded(tx, id, until)
        });
        store.await?;
        Ok(())
    }
}

/// Treats a conflicting blob id and a rejected size as permanent; retrying cannot change them.
fn classify(error: ClientError) -> TransferError {
    match error {
        ClientError::Problem(problem)
            if matches!(problem.code, ErrorCode::Conflict | ErrorCode::TooLarge) =>
        {
            TransferError::Permanent(format!("the relay refuses the file: {problem}"))
        }
        error => error.into(),
    }
}

fn incomplete_on_disk() -> TransferError {
    TransferError::Permanent(
        "the sealed file on this disk is incomplete or damaged; send it again".to_owned(),
    )
}
