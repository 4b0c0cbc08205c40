//! Periodic maintenance: expiries, fresh prekeys and deletion of old rows.

use super::{
    Daemon,
    worker::{self, Next, Round},
};
use crate::{
    fault::Fault,
    identity::NodeIdentity,
    pairing,
    store::{
        Tx, deliveries, events,
        files::{self, StoredFile},
        opened, requests,
    },
};
use sealpost_proto::limits;
use std::{sync::Arc, time::Duration};
use tokio::sync::Notify;

const INTERVAL: Duration = Duration::from_secs(600);

/// Runs maintenance at start and every ten minutes until shutdown.
pub(super) async fn run(daemon: Arc<Daemon>) {
    // Nothing wakes this task: it runs by the clock alone.
    let wake = Notify::new();
    worker::run(&daemon, &wake, "run maintenance", INTERVAL, Maintenance).await;
}

struct Maintenance;

impl Round for Maintenance {
    async fn run(&mut self, daemon: &Daemon) -> Result<Next, Fault> {
        run_once(daemon).await?;
        Ok(Next::Pause(INTERVAL))
    }
}

async fn run_once(daemon: &Daemon) -> Result<(), Fault> {
    let identity = Arc::clone(&daemon.identity);
    let deleted = daemon.write(move |tx| maintain(tx, &identity)).await?;
    for file in deleted {
        daemon.files.remove(file.disk_file).await;
    }
    Ok(())
}

/// Runs maintenance in one transaction. Returns the files to delete from the disk.
pub fn maintain(tx: &mut Tx<'_>, identity: &NodeIdentity) -> Result<Vec<StoredFile>, Fault> {
    pairing::maintain_invites(tx, identity)?;
    pairing::maintain_connections(tx, identity)?;
    deliveries::fail_unconfirmed(tx, tx.now.minus(limits::UNCONFIRMED_AFTER))?;
    files::maintain_blobs(tx)?;
    opened::delete_old(tx)?;
    requests::delete_old(tx)?;
    events::delete_old(tx)?;
    let abandoned = files::find_abandoned(tx, tx.now.minus(limits::STAGED_FILE_RETENTION))?;
    for file in &abandoned {
        files::delete_staged(tx, file.id)?;
    }
    Ok(abandoned)
}
