//! What has to be looked after from time to time: expiries, fresh prekeys, and forgetting.

use super::Daemon;
use crate::{
    fault::Fault,
    me::Me,
    pairing,
    store::{
        Tx, deliveries, events,
        files::{self, StoredFile},
        opened, requests,
    },
};
use sealpost_proto::limits;
use std::{sync::Arc, time::Duration};

const INTERVAL: Duration = Duration::from_secs(600);

/// Tends at start and every ten minutes until the end.
pub async fn run(daemon: Arc<Daemon>) {
    while !daemon.shutdown.is_triggered() {
        if let Err(fault) = round(&daemon).await {
            tracing::error!(%fault, "looking after invites and prekeys failed; it is tried again");
        }
        tokio::select! {
            () = tokio::time::sleep(INTERVAL) => {}
            () = daemon.shutdown.triggered() => {}
        }
    }
}

async fn round(daemon: &Daemon) -> Result<(), Fault> {
    let me = Arc::clone(&daemon.me);
    let dropped = daemon.write(move |tx| look_after(tx, &me)).await?;
    for file in dropped {
        daemon.files.remove(file.disk_file).await;
    }
    Ok(())
}

/// One round in one transaction; returns the files that are to leave the disk.
///
/// # Errors
/// When the database fails.
pub fn look_after(tx: &mut Tx<'_>, me: &Me) -> Result<Vec<StoredFile>, Fault> {
    pairing::maintain_invites(tx, me)?;
    pairing::maintain_connections(tx, me)?;
    deliveries::fail_unconfirmed(tx, tx.now.minus(limits::UNCONFIRMED_AFTER))?;
    files::maintain_blobs(tx)?;
    opened::delete_old(tx)?;
    requests::delete_old(tx)?;
    events::delete_old(tx)?;
    let forgotten = files::find_abandoned(tx, tx.now.minus(limits::STAGED_FILE_RETENTION))?;
    for file in &forgotten {
        files::delete_staged(tx, file.id)?;
    }
    Ok(forgotten)
}
