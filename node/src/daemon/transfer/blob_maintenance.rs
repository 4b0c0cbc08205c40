//! Maintenance of this node's blobs at the relay: extends their lifetime, and deletes blobs that
//! no recipient has to download any more.

use super::{FAULT_RETRY_DELAY, TransferContext};
use crate::{
    daemon::{
        retry::wait_after,
        worker::{NextRun, PeriodicTask, Worker},
    },
    fault::Fault,
    store::{
        Tx,
        files::{self, BlobRequest, DueBlobRequest, StoredFile},
        unreferenced_blobs::{self, UnreferencedBlob},
    },
};
use sealpost_proto::{ErrorCode, Timestamp, wire::ExtendBlob};
use sealpost_relay_client::ClientError;
use std::{sync::Arc, time::Duration};

/// Maximum number of requests about files in one run. Deletions of unreferenced blobs are not
/// limited.
const FILE_REQUESTS_PER_RUN_MAX: usize = 32;

/// Sends due requests to the relay until shutdown.
pub(in crate::daemon) async fn maintain_blobs(context: Arc<TransferContext>, worker: Worker) {
    let wake_ups = Arc::clone(context.database.wake_ups());
    let task = BlobMaintenance(context);
    worker.run(&wake_ups.blob_maintenance, task).await;
}

struct BlobMaintenance(Arc<TransferContext>);

impl PeriodicTask for BlobMaintenance {
    const ACTION: &'static str = "maintain blobs at the relay";
    const FAULT_RETRY_DELAY: Duration = FAULT_RETRY_DELAY;

    async fn run_once(&mut self) -> Result<NextRun, Fault> {
        let TransferContext {
            database,
            early_uploads,
            ..
        } = &*self.0;
        let mut due = database.read(|tx| DueRequests::read(tx)).await?;
        due.unreferenced
            .retain(|unreferenced| !early_uploads.contains(unreferenced.blob));
        if due.files.is_empty() && due.unreferenced.is_empty() {
            let now = database.now();
            return Ok(NextRun::Idle(due.next.filter(|next| *next > now)));
        }
        // A fault with one blob must not delay the others.
        let mut has_failed = false;
        for request in due.files {
            if let Err(fault) = self.send(&request).await {
                let file = request.file.id;
                tracing::error!(%fault, %file, "cannot store the relay's response about a file");
                has_failed = true;
            }
        }
        for unreferenced in due.unreferenced {
            if let Err(fault) = self.delete_unreferenced(unreferenced).await {
                tracing::error!(%fault, "cannot store the deletion of an unreferenced blob");
                has_failed = true;
            }
        }
        Ok(if has_failed {
            NextRun::Pause(FAULT_RETRY_DELAY)
        } else {
            NextRun::Continue
        })
    }
}

impl BlobMaintenance {
    /// Deletes a blob that was uploaded early and is neither needed nor being uploaded.
    async fn delete_unreferenced(&self, unreferenced: UnreferencedBlob) -> Result<(), Fault> {
        let TransferContext {
            database, relay, ..
        } = &*self.0;
        let blob = unreferenced.blob;
        // Checked again: since the due requests were read, and before the check for a running early
        // upload, a message may have started to use the file.
        if !database
            .read(move |tx| unreferenced_blobs::contains(tx, &blob))
            .await?
        {
            return Ok(());
        }
        match relay.client.delete_blob(blob).await {
            Ok(()) => {
                relay.record_response().await;
                database
                    .write_without_wake_up(move |tx| unreferenced_blobs::remove(tx, &blob))
                    .await
            }
            Err(error) => {
                let at = database
                    .now()
                    .plus(wait_after(&error, unreferenced.attempt));
                database
                    .write_without_wake_up(move |tx| {
                        unreferenced_blobs::postpone(tx, &unreferenced, at)
                    })
                    .await
            }
        }
    }

    async fn send(&self, due: &DueBlobRequest) -> Result<(), Fault> {
        let relay = &self.0.relay;
        let blob = due.file.descriptor.blob.id;
        let response = match due.request {
            BlobRequest::Extend(expires_at) => relay
                .client
                .extend_blob(blob, &ExtendBlob { expires_at })
                .await
                .map(|blob| Some(blob.expires_at)),
            BlobRequest::Delete => relay.client.delete_blob(blob).await.map(|()| None),
        };
        match response {
            Ok(expires_at) => {
                relay.record_response().await;
                self.record_success(&due.file, expires_at).await
            }
            Err(error) => self.record_failure(due, &error).await,
        }
    }

    async fn record_success(
        &self,
        file: &StoredFile,
        expires_at: Option<Timestamp>,
    ) -> Result<(), Fault> {
        let (database, id) = (&self.0.database, file.id);
        match expires_at {
            Some(expires_at) => {
                database
                    .write_without_wake_up(move |tx| files::set_extended(tx, id, expires_at))
                    .await
            }
            None => {
                let completed = database.write_without_wake_up(move |tx| {
                    files::complete_blob_request(tx, id)?;
                    files::forget_released(tx)
                });
                for disk_file in completed.await? {
                    self.0.files.remove(disk_file).await;
                }
                Ok(())
            }
        }
    }

    async fn record_failure(&self, due: &DueBlobRequest, error: &ClientError) -> Result<(), Fault> {
        let (database, id) = (&self.0.database, due.file.id);
        let is_gone =
            matches!(error, ClientError::Problem(problem) if problem.code == ErrorCode::NotFound);
        if is_gone && due.request != BlobRequest::Delete {
            return database.write(move |tx| files::upload_again(tx, id)).await;
        }
        let (attempt, reason) = (due.attempt + 1, error.to_string());
        let at = database.now().plus(wait_after(error, due.attempt));
        database
            .write_without_wake_up(move |tx| {
                files::postpone_blob_request(tx, id, attempt, &reason, at)
            })
            .await
    }
}

struct DueRequests {
    files: Vec<DueBlobRequest>,
    unreferenced: Vec<UnreferencedBlob>,
    /// When the next request will be due.
    next: Option<Timestamp>,
}

impl DueRequests {
    fn read(tx: &Tx<'_>) -> Result<Self, Fault> {
        let next = [
            files::find_next_blob_request(tx)?,
            unreferenced_blobs::find_next_due(tx)?,
        ];
        Ok(Self {
            files: files::load_due_blob_requests(tx, FILE_REQUESTS_PER_RUN_MAX)?,
            unreferenced: unreferenced_blobs::load_due(tx)?,
            next: next.into_iter().flatten().min(),
        })
    }
}
