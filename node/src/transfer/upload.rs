//! One file of ours on its way to the relay.

use super::{halt::Halt, meter::Meter};
use crate::{
    daemon::Daemon,
    store::attachments::{self, Attachment},
};
use sealpost_node_core::transfer::PartSet;
use sealpost_proto::{
    BlobSize, ErrorCode, limits,
    wire::{Blob, BlobState, CompleteBlob, CreateBlob},
};
use sealpost_relay_client::ClientError;
use sealpost_signatures::ContentDigest;
use sha2::{Digest as _, Sha256};
use std::sync::Arc;

pub(super) struct Upload {
    daemon: Arc<Daemon>,
    row: Attachment,
    size: BlobSize,
    part_digests: Vec<[u8; 32]>,
    pub(super) meter: Arc<Meter>,
}

impl Upload {
    pub(super) fn new(daemon: &Arc<Daemon>, row: Attachment, size: BlobSize, part_digests: Vec<[u8; 32]>) -> Self {
        Self { daemon: Arc::clone(daemon), row, size, part_digests, meter: Arc::new(Meter::new()) }
    }

    /// Announces the blob, or asks which parts of it are there.
    pub(super) async fn begin(&self) -> Result<PartSet, Halt> {
        let descriptor = &self.row.descriptor;
        let life = limits::ENVELOPE_LIFE_DEFAULT.saturating_add(limits::BLOB_LIFE_BEYOND_MESSAGE);
        let create = CreateBlob {
            id: descriptor.blob.id,
            size_bytes: self.size.bytes(),
            fetch_token_hash: Sha256::digest(descriptor.fetch_token.expose()).to_vec().into(),
            expires_at: self.daemon.now().plus(life),
        };
        let blob = self.daemon.relay.create_blob(&create).await.map_err(refused)?;
        self.daemon.reached().await;
        let there = self.parts_of(&blob);
        self.meter.begin(&self.daemon.progress, &self.row, self.size, there);
        Ok(there)
    }

    fn parts_of(&self, blob: &Blob) -> PartSet {
        match blob.state {
            BlobState::Complete => PartSet::before(self.size.parts()),
            BlobState::Uploading => blob.present.iter().copied().collect(),
        }
    }

    /// Sends a part. Its digest is the one that it was sealed with.
    pub(super) async fn part(&self, number: u32) -> Result<(), Halt> {
        let lost = || Halt::Never("the sealed file is not complete on this disk: send it again".to_owned());
        let range = self.size.part_range(number).ok_or_else(lost)?;
        let digest = ContentDigest::from_sha256(*self.part_digests.get(number as usize).ok_or_else(lost)?);
        let bytes = match self.daemon.files.read_range(self.row.file, range).await {
            Ok(bytes) => bytes,
            Err(error) if is_gone(&error) => return Err(lost()),
            Err(error) => return Err(error.into()),
        };
        let id = self.row.descriptor.blob.id;
        let sent = self.daemon.relay.put_part(id, number, bytes.clone(), digest, self.meter.part(number)).await;
        match sent {
            Err(ClientError::Problem(problem)) if problem.code == ErrorCode::SignatureInvalid => {
                // Changed on the way, or on this disk; only the first can be sent again.
                if ContentDigest::of(&bytes) == digest { Err(ClientError::from(problem).into()) } else { Err(lost()) }
            }
            sent => sent.map_err(refused),
        }
    }

    pub(super) async fn end(&self) -> Result<(), Halt> {
        let descriptor = &self.row.descriptor;
        let complete = CompleteBlob { digest: descriptor.sealed.ct_hash.to_vec().into() };
        let until = match self.daemon.relay.complete_blob(descriptor.blob.id, &complete).await {
            Ok(blob) if blob.state == BlobState::Complete => blob.expires_at,
            Ok(_) => return Err(Halt::later("the relay does not have all parts")),
            Err(ClientError::Problem(problem)) if problem.code == ErrorCode::BlobIncomplete => {
                return Err(Halt::later("the relay does not have all parts that it said it has"));
            }
            Err(error) => return Err(refused(error)),
        };
        let (name, bytes) = (self.row.name.clone(), self.size.bytes());
        let store = self.daemon.write(move |tx| {
            attachments::set_transferred(tx, &name, bytes)?;
            attachments::uploaded(tx, &name, until)
        });
        store.await?;
        Ok(())
    }
}

/// The relay has something else under this id, or takes no blob of this size: trying again changes nothing.
fn refused(error: ClientError) -> Halt {
    match error {
        ClientError::Problem(problem) if matches!(problem.code, ErrorCode::Conflict | ErrorCode::TooLarge) => {
            Halt::Never(format!("the relay does not take the file: {problem}"))
        }
        error => error.into(),
    }
}

fn is_gone(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::UnexpectedEof)
}
