//! Periodic maintenance: expires invites, renews prekeys and deletes old rows.

use super::{
    Database,
    worker::{NextRun, PeriodicTask, Worker},
};
use crate::{
    fault::Fault,
    files::Files,
    identity::NodeIdentity,
    pairing,
    store::{
        Tx, deduplication, deliveries, events,
        files::{self, StoredFile},
        requests,
    },
};
use sealpost_proto::limits;
use std::{sync::Arc, time::Duration};

const INTERVAL: Duration = Duration::from_secs(600);

/// Runs maintenance in one transaction. Returns the files to delete from the disk.
pub fn maintain(tx: &mut Tx<'_>, identity: &NodeIdentity) -> Result<Vec<StoredFile>, Fault> {
    pairing::maintain_invites(tx, identity)?;
    pairing::maintain_connections(tx, identity)?;
    deliveries::fail_unconfirmed(tx, tx.now.minus(limits::UNCONFIRMED_AFTER))?;
    files::maintain_blobs(tx)?;
    deduplication::delete_old(tx)?;
    requests::delete_old(tx)?;
    events::delete_old(tx)?;
    let abandoned = files::find_abandoned(tx, tx.now.minus(limits::STAGED_FILE_RETENTION))?;
    for file in &abandoned {
        files::delete_staged(tx, file.id)?;
    }
    Ok(abandoned)
}

/// Runs maintenance at start and every ten minutes until shutdown.
pub(super) async fn run(
    database: Database,
    files: Files,
    identity: Arc<NodeIdentity>,
    worker: Worker,
) {
    let task = Maintenance {
        database,
        files,
        identity,
    };
    worker.run_timed(task).await;
}

struct Maintenance {
    database: Database,
    files: Files,
    identity: Arc<NodeIdentity>,
}

impl PeriodicTask for Maintenance {
    const ACTION: &'static str = "run maintenance";
    const FAULT_RETRY_DELAY: Duration = INTERVAL;

    async fn run_once(&mut self) -> Result<NextRun, Fault> {
        let identity = Arc::clone(&self.identity);
        let deleted = self
            .database
            .write(move |tx| maintain(tx, &identity))
            .await?;
        for file in deleted {
            self.files.remove(file.disk_file).await;
        }
        Ok(NextRun::Pause(INTERVAL))
    }
}
