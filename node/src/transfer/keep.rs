//! Looks after blobs of ours at the relay: asks for a longer life, and deletes what nobody has to fetch any more.

use crate::{
    daemon::{self, Daemon},
    fault::Fault,
    store::{
        Tx,
        attachments::{self, Attachment, RelayDue},
        unwanted::{self, Unwanted},
    },
};
use sealpost_proto::{ErrorCode, Timestamp, wire::ExtendBlob};
use sealpost_relay_client::ClientError;
use std::sync::Arc;

/// Blobs looked at in one round.
const ROUND: usize = 32;

/// Asks what the rows say is to be asked, until the end.
pub async fn keep(daemon: Arc<Daemon>) {
    while !daemon.shutdown.is_triggered() {
        let due = daemon.read(|tx| Due::read(tx)).await;
        let mut due = due.unwrap_or_else(|fault| {
            tracing::error!(%fault, "what the relay has to be asked about files could not be read");
            Due::default()
        });
        due.unwanted
            .retain(|unwanted| !daemon.early.contains(unwanted.blob));
        if due.files.is_empty() && due.unwanted.is_empty() {
            daemon
                .rest_before_keeping(due.next.filter(|next| *next > daemon.now()))
                .await;
        }
        let ask_all = async {
            for (file, what) in due.files {
                ask(&daemon, &file, what).await;
            }
            for unwanted in due.unwanted {
                delete(&daemon, unwanted).await;
            }
        };
        tokio::select! {
            () = ask_all => {}
            () = daemon.shutdown.triggered() => return,
        }
    }
}

/// What the relay has to be asked, and when the next of it will be due.
#[derive(Default)]
struct Due {
    files: Vec<(Attachment, RelayDue)>,
    unwanted: Vec<Unwanted>,
    next: Option<Timestamp>,
}

impl Due {
    fn read(tx: &Tx<'_>) -> Result<Self, Fault> {
        let next = [attachments::next_relay_due(tx)?, unwanted::next_due(tx)?];
        let next = next.into_iter().flatten().min();
        Ok(Self {
            files: attachments::relay_due(tx, ROUND)?,
            unwanted: unwanted::due(tx)?,
            next,
        })
    }
}

/// Deletes what nobody wants and nobody sends any more.
async fn delete(daemon: &Daemon, unwanted: Unwanted) {
    let blob = unwanted.blob;
    // It may have become a file after it was read that it is none, and before it was seen that nobody sends it.
    let noted = match daemon.read(move |tx| unwanted::contains(tx, &blob)).await {
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
    if let Err(fault) = noted {
        tracing::error!(%fault, "what became of a blob that nobody wants could not be stored");
        tokio::time::sleep(super::PAUSE_AFTER_FAULT).await;
    }
}

async fn ask(daemon: &Daemon, file: &Attachment, what: RelayDue) {
    let blob = file.descriptor.blob.id;
    let answer = match what {
        RelayDue::Extend(expires_at) => daemon
            .relay
            .extend_blob(blob, &ExtendBlob { expires_at })
            .await
            .map(|blob| Some(blob.expires_at)),
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

async fn note(daemon: &Daemon, file: &Attachment, until: Option<Timestamp>) -> Result<(), Fault> {
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

async fn refused(
    daemon: &Daemon,
    file: &Attachment,
    what: RelayDue,
    error: &ClientError,
) -> Result<(), Fault> {
    let name = file.name.clone();
    let is_gone =
        matches!(error, ClientError::Problem(problem) if problem.code == ErrorCode::NotFound);
    if is_gone && what != RelayDue::Delete {
        return daemon.write(move |tx| attachments::lost(tx, &name)).await;
    }
    let (attempt, reason) = (file.attempt + 1, error.to_string());
    let at = daemon.now().plus(daemon::wait_after(error, file.attempt));
    daemon
        .commit(move |tx| attachments::postpone(tx, &name, attempt, &reason, at))
        .await
}
