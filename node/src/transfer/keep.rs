//! Looks after blobs of ours at the relay: asks for a longer life, and deletes what nobody has to fetch any more.

use crate::{
    daemon::{self, Daemon},
    fault::Fault,
    store::attachments::{self, Attachment, RelayDue},
};
use sealpost_proto::{ErrorCode, wire::ExtendBlob};
use sealpost_relay_client::ClientError;
use std::sync::Arc;

/// Blobs looked at in one round.
const ROUND: usize = 32;

/// Asks what the rows say is to be asked, until the end.
pub async fn keep(daemon: Arc<Daemon>) {
    while !daemon.shutdown.is_triggered() {
        let due = daemon.read(|tx| Ok((attachments::relay_due(tx, ROUND)?, attachments::next_relay_due(tx)?))).await;
        let (files, next) = due.unwrap_or_else(|fault| {
            tracing::error!(%fault, "what the relay has to be asked about files could not be read");
            (Vec::new(), None)
        });
        if files.is_empty() {
            daemon.rest_before_keeping(next.filter(|next| *next > daemon.now())).await;
        }
        for (file, what) in files {
            tokio::select! {
                () = ask(&daemon, &file, what) => {}
                () = daemon.shutdown.triggered() => return,
            }
        }
    }
}

async fn ask(daemon: &Daemon, file: &Attachment, what: RelayDue) {
    let blob = file.descriptor.blob.id;
    let answer = match what {
        RelayDue::Extend(expires_at) => {
            daemon.relay.extend_blob(blob, &ExtendBlob { expires_at }).await.map(|blob| Some(blob.expires_at))
        }
        RelayDue::Delete => daemon.relay.delete_blob(blob).await.map(|()| None),
    };
    let noted = match answer {
        Ok(until) => {
            daemon.reached().await;
            note(daemon, file, until).await
        }
        Err(error) => refused(daemon, file, what, &error).await,
    };
    if let Err(fault) = noted {
        tracing::error!(%fault, file = file.name, "what the relay said of a file could not be stored");
        tokio::time::sleep(super::PAUSE_AFTER_FAULT).await;
    }
}

async fn note(daemon: &Daemon, file: &Attachment, until: Option<sealpost_proto::Timestamp>) -> Result<(), Fault> {
    let name = file.name.clone();
    match until {
        Some(until) => daemon.commit(move |tx| attachments::extended(tx, &name, until)).await,
        None => {
            daemon.files.remove(file.file).await;
            daemon.commit(move |tx| attachments::asked(tx, &name)).await
        }
    }
}

async fn refused(daemon: &Daemon, file: &Attachment, what: RelayDue, error: &ClientError) -> Result<(), Fault> {
    let name = file.name.clone();
    let is_gone = matches!(error, ClientError::Problem(problem) if problem.code == ErrorCode::NotFound);
    if is_gone && what != RelayDue::Delete {
        return daemon.write(move |tx| attachments::lost(tx, &name)).await;
    }
    let (attempt, reason) = (file.attempt + 1, error.to_string());
    let at = daemon.now().plus(daemon::wait_after(error, file.attempt));
    daemon.commit(move |tx| attachments::postpone(tx, &name, attempt, &reason, at)).await
}
