//! Maintenance of this node's blobs at the relay: extends their lifetime, and deletes blobs that
//! no recipient has to fetch any more.

use crate::{
    daemon::{self, Daemon},
    fault::Fault,
    store::{
        Tx,
        files::{self, DueRelayRequest, RelayRequest, StoredFile},
        orphaned_blobs::{self, OrphanedBlob},
    },
};
use sealpost_proto::{ErrorCode, Timestamp, wire::ExtendBlob};
use sealpost_relay_client::ClientError;
use std::sync::Arc;

/// Maximum number of requests in one round.
const ROUND_REQUESTS_MAX: usize = 32;

/// Sends due requests to the relay until shutdown.
pub async fn maintain_blobs(daemon: Arc<Daemon>) {
    while !daemon.shutdown.is_triggered() {
        let due = daemon.read(|tx| DueRequests::read(tx)).await;
        let mut due = due.unwrap_or_else(|fault| {
            tracing::error!(%fault, "cannot read the due requests about blobs");
            DueRequests::default()
        });
        due.unwanted
            .retain(|unwanted| !daemon.early.contains(unwanted.blob));
        if due.files.is_empty() && due.unwanted.is_empty() {
            daemon
                .wait_for_blob_maintenance(due.next.filter(|next| *next > daemon.now()))
                .await;
        }
        let send_all = async {
            for request in due.files {
                send(&daemon, &request).await;
            }
            for unwanted in due.unwanted {
                delete_unwanted(&daemon, unwanted).await;
            }
        };
        tokio::select! {
            () = send_all => {}
            () = daemon.shutdown.triggered() => return,
        }
    }
}

#[derive(Default)]
struct DueRequests {
    files: Vec<DueRelayRequest>,
    unwanted: Vec<OrphanedBlob>,
    /// When the next request will be due.
    next: Option<Timestamp>,
}

impl DueRequests {
    fn read(tx: &Tx<'_>) -> Result<Self, Fault> {
        let next = [
            files::next_relay_request(tx)?,
            orphaned_blobs::next_due(tx)?,
        ];
        let next = next.into_iter().flatten().min();
        Ok(Self {
            files: files::due_relay_requests(tx, ROUND_REQUESTS_MAX)?,
            unwanted: orphaned_blobs::due(tx)?,
            next,
        })
    }
}

/// Deletes a blob that was uploaded early and is neither needed nor being uploaded.
async fn delete_unwanted(daemon: &Daemon, unwanted: OrphanedBlob) {
    let blob = unwanted.blob;
    // Read again: a message may have taken the file between the read of the due requests and the
    // check for a running early upload.
    let recorded = match daemon
        .read(move |tx| orphaned_blobs::contains(tx, &blob))
        .await
    {
        Ok(true) => match daemon.relay.delete_blob(blob).await {
            Ok(()) => {
                daemon.reached().await;
                daemon
                    .commit(move |tx| orphaned_blobs::remove(tx, &blob))
                    .await
            }
            Err(error) => {
                let at = daemon
                    .now()
                    .plus(daemon::wait_after(&error, unwanted.attempt));
                daemon
                    .commit(move |tx| orphaned_blobs::postpone(tx, &unwanted, at))
                    .await
            }
        },
        Ok(false) => Ok(()),
        Err(fault) => Err(fault),
    };
    if let Err(fault) = recorded {
        tracing::error!(%fault, "cannot store the deletion of an unwanted blob");
        tokio::time::sleep(super::FAULT_RETRY_DELAY).await;
    }
}

async fn send(daemon: &Daemon, due: &DueRelayRequest) {
    let file = &due.file;
    let blob = file.descriptor.blob.id;
    let response = match due.request {
        RelayRequest::Extend(expires_at) => daemon
            .relay
            .extend_blob(blob, &ExtendBlob { expires_at })
            .await
            .map(|blob| Some(blob.expires_at)),
        RelayRequest::Delete => daemon.relay.delete_blob(blob).await.map(|()| None),
    };
    let recorded = match response {
        Ok(until) => {
            daemon.reached().await;
            record_success(daemon, file, until).await
        }
        Err(error) => record_failure(daemon, due, &error).await,
    };
    if let Err(fault) = recorded {
        tracing::error!(%fault, file = %file.id, "cannot store the relay's response about a file");
        tokio::time::sleep(super::FAULT_RETRY_DELAY).await;
    }
}

async fn record_success(
    daemon: &Daemon,
    file: &StoredFile,
    until: Option<Timestamp>,
) -> Result<(), Fault> {
    let id = file.id;
    match until {
        Some(until) => {
            daemon
                .commit(move |tx| files::set_extended(tx, id, until))
                .await
        }
        None => {
            daemon.files.remove(file.disk_file).await;
            daemon
                .commit(move |tx| files::complete_relay_request(tx, id))
                .await
        }
    }
}

async fn record_failure(
    daemon: &Daemon,
    due: &DueRelayRequest,
    error: &ClientError,
) -> Result<(), Fault> {
    let id = due.file.id;
    let is_gone =
        matches!(error, ClientError::Problem(problem) if problem.code == ErrorCode::NotFound);
    if is_gone && due.request != RelayRequest::Delete {
        return daemon.write(move |tx| files::upload_again(tx, id)).await;
    }
    let (attempt, reason) = (due.attempt + 1, error.to_string());
    let at = daemon.now().plus(daemon::wait_after(error, due.attempt));
    daemon
        .commit(move |tx| files::postpone_relay_request(tx, id, attempt, &reason, at))
        .await
}
