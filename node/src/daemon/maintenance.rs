//! Periodic maintenance: expires invites, renews prekeys and deletes old rows.

use super::{
    Database, HomeRelay,
    worker::{NextRun, PeriodicTask, Worker},
};
use crate::{
    fault::Fault,
    files::{DiskFileId, Files},
    healing,
    identity::NodeIdentity,
    pairing,
    store::{Tx, deduplication, deliveries, events, files, outbox, requests},
};
use sealpost_proto::limits;
use std::{sync::Arc, time::Duration};

const INTERVAL: Duration = Duration::from_secs(600);
/// Interval until the relay has responded for the first time.
const INTERVAL_WITHOUT_CONTACT: Duration = Duration::from_secs(30);

/// Runs maintenance in one transaction. Returns the files to delete from the disk.
pub fn maintain(tx: &mut Tx<'_>, identity: &NodeIdentity) -> Result<Vec<DiskFileId>, Fault> {
    maintain_relay_state(tx, identity)?;
    maintain_own_state(tx)
}

/// Maintains what expires by the relay's clock. Deliveries fail only if our own clock agrees.
fn maintain_relay_state(tx: &mut Tx<'_>, identity: &NodeIdentity) -> Result<(), Fault> {
    pairing::maintain_invites(tx, identity)?;
    pairing::maintain_connections(tx, identity)?;
    healing::query_overdue(tx)?;
    let now = tx.now.min(tx.relay_now);
    deliveries::fail_unconfirmed(tx, now.minus(limits::UNCONFIRMED_AFTER))?;
    files::maintain_blobs(tx)
}

fn maintain_own_state(tx: &mut Tx<'_>) -> Result<Vec<DiskFileId>, Fault> {
    deduplication::delete_old(tx)?;
    requests::delete_old(tx)?;
    outbox::delete_old(tx)?;
    events::delete_old(tx)?;
    let now = tx.now;
    files::delete_old_upload_requests(tx, now.minus(limits::CONFIRMED_MESSAGE_RETENTION))?;
    let mut unneeded = files::forget_released(tx)?;
    for file in files::find_abandoned(tx, tx.now.minus(limits::STAGED_FILE_RETENTION))? {
        files::delete_staged(tx, file.id)?;
        unneeded.push(file.disk_file);
    }
    Ok(unneeded)
}

/// Runs maintenance at start and every ten minutes until shutdown.
pub(super) async fn run(
    database: Database,
    relay: Arc<HomeRelay>,
    files: Files,
    identity: Arc<NodeIdentity>,
    worker: Worker,
) {
    let task = Maintenance {
        database,
        relay,
        files,
        identity,
    };
    worker.run_timed(task).await;
}

struct Maintenance {
    database: Database,
    relay: Arc<HomeRelay>,
    files: Files,
    identity: Arc<NodeIdentity>,
}

impl PeriodicTask for Maintenance {
    const ACTION: &'static str = "run maintenance";
    const FAULT_RETRY_DELAY: Duration = INTERVAL;

    async fn run_once(&mut self) -> Result<NextRun, Fault> {
        let identity = Arc::clone(&self.identity);
        // Until the relay has responded, our clock may be wrong without our knowing.
        let knows_relay_time = self.relay.health().last_contact_at.is_some();
        let maintained = self.database.write(move |tx| {
            if knows_relay_time {
                maintain(tx, &identity)
            } else {
                maintain_own_state(tx)
            }
        });
        let deleted = maintained.await?;
        for file in deleted {
            self.files.remove(file).await;
        }
        Ok(NextRun::Pause(if knows_relay_time {
            INTERVAL
        } else {
            INTERVAL_WITHOUT_CONTACT
        }))
    }
}
