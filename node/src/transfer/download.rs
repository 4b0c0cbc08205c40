//! One file of theirs on its way from the relay.

use super::{halt::Halt, meter::Meter};
use crate::{
    api::model::AttachmentStatus,
    daemon::Daemon,
    fault::Fault,
    files::Fetching,
    store::{
        Tx,
        attachments::{self, Attachment},
        receipts,
    },
};
use futures_util::TryStreamExt as _;
use sealpost_e2ee::attachment::Descriptor;
use sealpost_node_core::{file_type::FileType, transfer::PartSet};
use sealpost_proto::{BlobId, BlobSize, ErrorCode, limits::SNIFFED_BYTES};
use sealpost_relay_client::{ClientError, Coming};
use std::sync::{Arc, OnceLock};

pub(super) struct Download {
    daemon: Arc<Daemon>,
    row: Attachment,
    size: BlobSize,
    fetching: OnceLock<Arc<Fetching>>,
    pub(super) meter: Arc<Meter>,
}

impl Download {
    pub(super) fn new(daemon: &Arc<Daemon>, row: Attachment, size: BlobSize) -> Self {
        let meter = Arc::new(Meter::new());
        Self {
            daemon: Arc::clone(daemon),
            row,
            size,
            fetching: OnceLock::new(),
            meter,
        }
    }

    /// Looks what is on this disk.
    pub(super) async fn begin(&self) -> Result<PartSet, Halt> {
        let descriptor = &self.row.descriptor;
        let fetching = self
            .daemon
            .files
            .fetch(self.row.file, &descriptor.file_key, &descriptor.sealed)
            .await?;
        let there = fetching.there();
        let _ = self.fetching.set(Arc::new(fetching));
        if self.row.status == AttachmentStatus::Waiting {
            let name = self.row.name.clone();
            let status = AttachmentStatus::Downloading;
            self.daemon
                .commit(move |tx| attachments::advance(tx, &name, status, None))
                .await?;
        }
        self.meter
            .begin(&self.daemon.progress, &self.row, self.size, there);
        Ok(there)
    }

    fn fetching(&self) -> Result<Arc<Fetching>, Halt> {
        self.fetching
            .get()
            .cloned()
            .ok_or_else(|| Halt::later("it was not begun"))
    }

    /// Fetches a part, writes it down as it comes and opens it.
    pub(super) async fn part(&self, number: u32) -> Result<(), Halt> {
        let (mut coming, mut part) = (self.fetch(number).await?, self.fetching()?.part(number)?);
        self.daemon.reached().await;
        while let Some(piece) = coming.next().await? {
            part.write(piece).await?;
        }
        Ok(part.end().await?)
    }

    async fn fetch(&self, number: u32) -> Result<Coming, Halt> {
        let descriptor = &self.row.descriptor;
        let moved = self.meter.part(number);
        match self
            .daemon
            .relay
            .part(&descriptor.blob, number, &descriptor.fetch_token, moved)
            .await
        {
            Ok(coming) => Ok(coming),
            Err(ClientError::Problem(problem)) if problem.code == ErrorCode::NotFound => {
                Err(Halt::Never(
                    "the relay does not have the file any more: ask for it to be sent again"
                        .to_owned(),
                ))
            }
            Err(ClientError::Problem(problem))
                if problem.code == ErrorCode::ForeignRelayUnsupported =>
            {
                Err(Halt::Never(problem.to_string()))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// All parts are here: the file is handed out only when it is the one that its sender described.
    pub(super) async fn end(&self) -> Result<(), Halt> {
        self.fetching()?.finish().await?;
        let file_type = self.file_type().await?;
        let (name, blob, bytes) = (
            self.row.name.clone(),
            self.row.descriptor.blob.id,
            self.size.bytes(),
        );
        let store = self.daemon.write(move |tx| {
            attachments::set_file_type(tx, &name, &file_type)?;
            attachments::set_transferred(tx, &name, bytes)?;
            arrived(tx, &name, &blob)
        });
        Ok(store.await?)
    }

    /// What the first bytes of the file tell.
    async fn file_type(&self) -> Result<FileType, Halt> {
        let Descriptor {
            file_key,
            sealed,
            name,
            ..
        } = &self.row.descriptor;
        let mut pieces = Box::pin(
            self.daemon
                .files
                .read_plaintext(self.row.file, file_key, sealed)
                .await?,
        );
        let mut first_bytes = Vec::new();
        while let Some(piece) = pieces.try_next().await? {
            first_bytes.extend(piece.iter().take(SNIFFED_BYTES - first_bytes.len()));
            if first_bytes.len() == SNIFFED_BYTES {
                break;
            }
        }
        Ok(FileType::of(&first_bytes, sealed.pt_len, name))
    }
}

/// The file is here, verified: its sender is told, and need not keep it.
pub(super) fn arrived(tx: &Tx<'_>, name: &str, blob: &BlobId) -> Result<(), Fault> {
    if attachments::advance(tx, name, AttachmentStatus::Ready, None)? {
        attachments::senders(tx, name)?
            .iter()
            .try_for_each(|sender| receipts::add_fetched(tx, sender, blob))?;
    }
    Ok(())
}
