//! One file of ours on its way to the relay.

use super::{early::Early, halt::Halt, meter::Meter};
use crate::{
    daemon::Daemon,
    files::SealedParts,
    store::attachments::{self, Attachment},
};
use sealpost_node_core::transfer::PartSet;
use sealpost_proto::{
    BlobId, BlobSize, ErrorCode, FetchToken, limits,
    wire::{Blob, BlobState, CompleteBlob, CreateBlob},
};
use sealpost_relay_client::ClientError;
use sealpost_signatures::ContentDigest;
use sha2::{Digest as _, Sha256};
use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

/// How long the relay is asked to keep what goes out early: longer than it can take until a message needs it.
const EARLY_LIFE: Duration = limits::STAGED_FILES_KEPT.saturating_mul(2);

pub(super) struct Upload {
    daemon: Arc<Daemon>,
    pub(super) blob: BlobId,
    fetch_token: FetchToken,
    size: BlobSize,
    pub(super) parts: Arc<SealedParts>,
    /// What it is, once a message needs it.
    row: OnceLock<Attachment>,
    /// What it was before.
    pub(super) early: Option<Arc<Early>>,
    pub(super) meter: Arc<Meter>,
}

impl Upload {
    /// A file that a message needs.
    pub(super) fn new(
        daemon: &Arc<Daemon>,
        row: Attachment,
        size: BlobSize,
        part_digests: Vec<[u8; 32]>,
    ) -> Self {
        Self {
            daemon: Arc::clone(daemon),
            blob: row.descriptor.blob.id,
            fetch_token: row.descriptor.fetch_token.clone(),
            size,
            parts: Arc::new(SealedParts::of_whole(row.file, part_digests)),
            row: row.into(),
            early: None,
            meter: Arc::new(Meter::new()),
        }
    }

    /// A file that is being sealed.
    pub(super) fn early(daemon: &Arc<Daemon>, early: Arc<Early>) -> Self {
        Self {
            daemon: Arc::clone(daemon),
            blob: early.blob,
            fetch_token: early.fetch_token.clone(),
            size: early.size,
            parts: Arc::clone(&early.parts),
            row: OnceLock::new(),
            early: Some(early),
            meter: Arc::new(Meter::new()),
        }
    }

    /// A message needs it now; these parts are there already.
    pub(super) fn keep(&self, row: &Attachment, there: PartSet) {
        let row = self.row.get_or_init(|| row.clone());
        self.meter
            .begin(&self.daemon.progress, row, self.size, there);
    }

    /// Announces the blob, or asks which parts of it are there.
    pub(super) async fn begin(&self) -> Result<PartSet, Halt> {
        let life = match self.row.get() {
            Some(_) => {
                limits::ENVELOPE_LIFE_DEFAULT.saturating_add(limits::BLOB_LIFE_BEYOND_MESSAGE)
            }
            None => EARLY_LIFE,
        };
        let create = CreateBlob {
            id: self.blob,
            size_bytes: self.size.bytes(),
            fetch_token_hash: Sha256::digest(self.fetch_token.expose()).to_vec().into(),
            expires_at: self.daemon.now().plus(life),
        };
        let blob = self
            .daemon
            .relay
            .create_blob(&create)
            .await
            .map_err(refused)?;
        self.daemon.reached().await;
        let there = self.parts_of(&blob);
        if let Some(row) = self.row.get() {
            self.meter
                .begin(&self.daemon.progress, row, self.size, there);
        }
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
        let lost = || {
            Halt::Never("the sealed file is not complete on this disk: send it again".to_owned())
        };
        let range = self.size.part_range(number).ok_or_else(lost)?;
        let digest = ContentDigest::from_sha256(self.parts.digest(number).ok_or_else(lost)?);
        let in_memory = self.parts.take(number);
        let bytes = match &in_memory {
            Some(part) => part.bytes.clone(),
            None => match self.daemon.files.read_range(self.parts.file, range).await {
                Ok(bytes) => bytes,
                Err(error) if is_gone(&error) => return Err(lost()),
                Err(error) => return Err(error.into()),
            },
        };
        let sent = self
            .daemon
            .relay
            .put_part(
                self.blob,
                number,
                bytes.clone(),
                digest,
                self.meter.part(number),
            )
            .await;
        match sent {
            Err(ClientError::Problem(problem)) if problem.code == ErrorCode::SignatureInvalid => {
                // Changed on the way, or on this disk; only the first can be sent again.
                if ContentDigest::of(&bytes) == digest {
                    Err(ClientError::from(problem).into())
                } else {
                    Err(lost())
                }
            }
            sent => sent.map_err(refused),
        }
    }

    pub(super) async fn end(&self) -> Result<(), Halt> {
        let Some(row) = self.row.get() else {
            return Ok(());
        };
        let complete = CompleteBlob {
            digest: row.descriptor.sealed.ct_hash.to_vec().into(),
        };
        let until = match self.daemon.relay.complete_blob(self.blob, &complete).await {
            Ok(blob) if blob.state == BlobState::Complete => blob.expires_at,
            Ok(_) => return Err(Halt::later("the relay does not have all parts")),
            Err(ClientError::Problem(problem)) if problem.code == ErrorCode::BlobIncomplete => {
                return Err(Halt::later(
                    "the relay does not have all parts that it said it has",
                ));
            }
            Err(error) => return Err(refused(error)),
        };
        let (name, bytes) = (row.name.clone(), self.size.bytes());
        let store = self.daemon.write(move |tx| {
            attachments::set_transferred(tx, &name, bytes)?;
            attachments::uploaded(tx, &name, until)
        });
        store.await?;
        Ok(())
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        self.parts.forget();
    }
}

/// The relay has something else under this id, or takes no blob of this size: trying again changes nothing.
fn refused(error: ClientError) -> Halt {
    match error {
        ClientError::Problem(problem)
            if matches!(problem.code, ErrorCode::Conflict | ErrorCode::TooLarge) =>
        {
            Halt::Never(format!("the relay does not take the file: {problem}"))
        }
        error => error.into(),
    }
}

fn is_gone(error: &std::io::Error) -> bool {
    matches!(
        error.kind(),
        std::io::ErrorKind::NotFound | std::io::ErrorKind::UnexpectedEof
    )
}
