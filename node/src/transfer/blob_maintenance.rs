//! Maintenance of this node's blobs at the relay: extends their lifetime, and deletes blobs that
//! no recipient has to fetch any more.

use crate::{
    daemon::{self, Daemon},
    fault::Fault,
    store::{
        Tx,
        attachments::{self, Attachment, DueRelayRequest, RelayDue},
        unwanted::{self, Unwanted},
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
                .rest_before_keeping(due.next.filter(|next| *next > daemon.now()))
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
    unwanted: Vec<Unwanted>,
    /// When the next request will be due.
    next: Option<Timestamp>,
}

impl DueRequests {
    fn read(tx: &Tx<'_>) -> Result<Self, Fault> {
        let next = [attachments::next_relay_due(tx)?, unwanted::next_due(tx)?];
        let next = next.into_iter().flatten().min();
        Ok(Self {
            files: attachments::relay_due(tx, ROUND_REQUESTS_MAX)?,
            unwanted: unwanted::due(tx)?,
            next,
        })
    }
}

/// Deletes a blob that was uploaded early and is neither needed nor being uploaded.
async fn delete_unwanted(daemon: &Daemon, unwanted: Unwanted) {
    let blob = unwanted.blob;
    // Read again: a message may have taken the file between the read of the due requests and the
    // check for a running early upload.
    let recorded = match daemon.read(move |tx| unwanted::contains(tx, &blob)).await {
        Ok(true) => match daemon.relay.delete_blob(blob).await {
            Ok(()) => {
                daemon.reached().await;
                daemon.commit(move |tx| unwanted::remove(tx, &blob)).await
            }
            Err(error) => {
                let at = daemon
                    .now()
                    .plus(daemon::wait_after(&error, unwanted.attempt));
                daemon
                    .commit(move |tx| unwanted::postpone(tx, &unwanted, at))
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
        RelayDue::Extend(expires_at) => daemon
            .relay
            .extend_blob(blob, &ExtendBlob { expires_at })
            .await
            .map(|blob| Some(blob.expires_at)),
        RelayDue::Delete => daemon.relay.delete_blob(blob).await.map(|()| None),
    };
    let recorded = match response {
        Ok(until) => {
            daemon.reached().await;
            record_success(daemon, file, until).await
        }
        Err(error) => record_failure(daemon, due, &error).await,
    };
    if let Err(fault) = recorded {
        tracing::error!(%fault, file = file.name, "cannot store the relay's response about a file");
        tokio::time::sleep(super::FAULT_RETRY_DELAY).await;
    }
}

async fn record_success(
    daemon: &Daemon,
    file: &Attachment,
    until: Option<Timestamp>,
) -> Result<(), Fault> {
    let name = file.name.clone();
    match until {
        Some(until) => {
            daemon
                .commit(move |tx| attachments::extended(tx, &name, until))
                .await
        }
        None => {
            daemon.files.remove(file.file).await;
            daemon.commit(move |tx| attachments::asked(tx, &name)).await
        }
    }
}

async fn record_failure(
    daemon: &Daemon,
    due: &DueRelayRequest,
    error: &ClientError,
) -> Result<(), Fault> {
    let name = due.file.name.clone();
    let is_gone =
        matches!(error, ClientError::Problem(problem) if problem.code == ErrorCode::NotFound);
    if is_gone && due.request != RelayDue::Delete {
        return daemon.write(move |tx| attachments::lost(tx, &name)).await;
    }
    let (attempt, reason) = (due.attempt + 1, error.to_string());
    let at = daemon.now().plus(daemon::wait_after(error, due.attempt));
    daemon
        .commit(move |tx| attachments::postpone_relay_request(tx, &name, attempt, &reason, at))
        .await
}
