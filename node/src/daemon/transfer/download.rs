//! Download of one file from the relay.

use super::{TransferContext, error::TransferError, meter::Meter};
use crate::{
    fault::Fault,
    files::BlobDownload,
    store::{
        Tx,
        files::{self, StoredFile},
        receipts,
    },
};
use futures_util::TryStreamExt as _;
use sealpost_e2ee::attachment::Descriptor;
use sealpost_node_core::{
    file_type::FileType,
    model::{FileId, FileStatus},
    transfer::PartSet,
};
use sealpost_proto::{BlobId, BlobSize, ErrorCode, limits::SNIFFED_BYTES};
use sealpost_relay_client::{ClientError, ResponseBody};
use std::sync::{Arc, OnceLock};

/// Download of a file that a partner sent.
pub(super) struct Download {
    context: Arc<TransferContext>,
    row: StoredFile,
    pub(super) size: BlobSize,
    blob_download: OnceLock<Arc<BlobDownload>>,
    pub(super) meter: Arc<Meter>,
}

impl Download {
    pub(super) fn new(context: &Arc<TransferContext>, row: StoredFile, size: BlobSize) -> Self {
        let meter = Arc::new(Meter::new());
        Self {
            context: Arc::clone(context),
            row,
            size,
            blob_download: OnceLock::new(),
            meter,
        }
    }

    /// Opens the partial file on this disk and returns the parts that it contains.
    pub(super) async fn prepare(&self) -> Result<PartSet, TransferError> {
        let descriptor = &self.row.descriptor;
        let blob_download = self
            .context
            .files
            .open_download(self.row.disk_file, &descriptor.file_key, &descriptor.sealed)
            .await?;
        let present = blob_download.present_parts();
        let _ = self.blob_download.set(Arc::new(blob_download));
        if self.row.status == FileStatus::Waiting {
            let id = self.row.id;
            let status = FileStatus::Downloading;
            self.context
                .database
                .write_without_wake_up(move |tx| files::advance(tx, id, status, None))
                .await?;
        }
        Ok(present)
    }

    fn blob_download(&self) -> Result<Arc<BlobDownload>, TransferError> {
        self.blob_download
            .get()
            .cloned()
            .ok_or_else(|| TransferError::retryable("the download is not prepared"))
    }

    /// Fetches a part, writes it to disk as it arrives and decrypts it.
    pub(super) async fn fetch_part(&self, number: u32) -> Result<(), TransferError> {
        let mut body = self.request_part(number).await?;
        let mut part = self.blob_download()?.part_writer(number)?;
        self.context.relay.record_response().await;
        while let Some(piece) = body.next().await? {
            part.write(piece).await?;
        }
        Ok(part.finish().await?)
    }

    async fn request_part(&self, number: u32) -> Result<ResponseBody, TransferError> {
        let descriptor = &self.row.descriptor;
        let progress = self.meter.part(number);
        match self
            .context
            .relay
            .client
            .fetch_part(&descriptor.blob, number, &descriptor.fetch_token, progress)
            .await
        {
            Ok(body) => Ok(body),
            Err(ClientError::Problem(problem)) if problem.code == ErrorCode::NotFound => {
                Err(TransferError::BlobGone)
            }
            Err(ClientError::Problem(problem))
                if problem.code == ErrorCode::ForeignRelayUnsupported =>
            {
                Err(TransferError::Permanent(problem.to_string()))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Verifies that the file is the one that its sender described, and marks it as ready.
    pub(super) async fn complete(&self) -> Result<(), TransferError> {
        self.blob_download()?.finish().await?;
        let file_type = self.detect_file_type().await?;
        let (id, blob, bytes) = (self.row.id, self.row.descriptor.blob.id, self.size.bytes());
        let store = self.context.database.write(move |tx| {
            files::set_file_type(tx, id, &file_type)?;
            files::set_transferred(tx, id, bytes)?;
            mark_ready(tx, id, &blob)
        });
        Ok(store.await?)
    }

    /// Detects the file type from the first bytes.
    async fn detect_file_type(&self) -> Result<FileType, TransferError> {
        let Descriptor {
            file_key,
            sealed,
            name,
            ..
        } = &self.row.descriptor;
        let mut pieces = Box::pin(
            self.context
                .files
                .read_plaintext(self.row.disk_file, file_key, sealed)
                .await?,
        );
        let mut first_bytes = Vec::new();
        while let Some(piece) = pieces.try_next().await? {
            first_bytes.extend(piece.iter().take(SNIFFED_BYTES - first_bytes.len()));
            if first_bytes.len() == SNIFFED_BYTES {
                break;
            }
        }
        Ok(FileType::detect(&first_bytes, sealed.pt_len, name))
    }
}

/// Marks a verified file as ready, and queues a receipt that lets its senders delete the blob.
pub(super) fn mark_ready(tx: &Tx<'_>, id: FileId, blob: &BlobId) -> Result<(), Fault> {
    if files::advance(tx, id, FileStatus::Ready, None)? {
        files::find_senders(tx, id)?
            .into_iter()
            .try_for_each(|sender| receipts::add_fetched(tx, sender, blob))?;
    }
    Ok(())
}
