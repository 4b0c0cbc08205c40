//! Start of a node that was restored from a backup: before anything is sent or received, its
//! sessions are replaced ([`crate::recovery`]).

use super::{Database, HomeRelay, retry::wait_after, worker::Worker};
use crate::{
    fault::Fault,
    files::Files,
    identity::NodeIdentity,
    recovery,
    store::{backup_copy, restoration},
    utc,
};
use sealpost_proto::limits;
use std::{sync::Arc, time::Duration};

/// Records which files of messages are missing in the data directory of a node that was just
/// restored.
pub(super) async fn record_missing_files(database: &Database, files: &Files) -> Result<(), Fault> {
    let Some(named) = database
        .read(|tx| match restoration::load(tx)? {
            Some(restoration) if restoration.recovered_at.is_none() => {
                let at = utc::format_minute(restoration.backed_up_at);
                tracing::warn!(
                    backup = at,
                    "this node was restored from a backup; it replaces its sessions as soon as the \
                     relay responds"
                );
                Ok(Some(backup_copy::find_disk_files(tx)?))
            }
            _ => Ok(None),
        })
        .await?
    else {
        return Ok(());
    };
    let mut missing = Vec::new();
    for file in named {
        if !tokio::fs::try_exists(files.path(file.disk_file)).await? {
            missing.push(file.id);
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    tracing::warn!(
        files = missing.len(),
        "the backup did not contain all files"
    );
    database
        .write(move |tx| {
            missing
                .iter()
                .try_for_each(|id| backup_copy::record_missing(tx, *id))
        })
        .await
}

/// Replaces the sessions of a node that was just restored. Returns when that is committed, at once
/// for any other node, or at shutdown.
pub(super) async fn recover_if_restored(
    database: &Database,
    relay: &HomeRelay,
    identity: &Arc<NodeIdentity>,
    worker: &Worker,
) {
    let mut failures = 0;
    while !worker.is_shutting_down() {
        match try_recover(database, relay, identity, failures).await {
            Ok(None) => return,
            Ok(Some(wait)) => {
                failures += 1;
                worker.pause(wait).await;
            }
            Err(fault) => {
                tracing::error!(%fault, "the recovery after the restore failed and will be retried");
                worker.pause(limits::BACKOFF_FIRST).await;
            }
        }
    }
}

/// Returns how long to wait before the next attempt, or `None` when there is nothing left to do.
async fn try_recover(
    database: &Database,
    relay: &HomeRelay,
    identity: &Arc<NodeIdentity>,
    failures: u32,
) -> Result<Option<Duration>, Fault> {
    let restoration = database.read(|tx| restoration::load(tx)).await?;
    if restoration.is_none_or(|restoration| restoration.recovered_at.is_some()) {
        return Ok(None);
    }
    // New prekeys and sessions are dated by the clock of the relay.
    if relay.health().last_contact_at.is_none() {
        match relay.client.fetch_account().await {
            Ok(_) => relay.record_response().await,
            Err(error) => {
                relay.record_failure(&error).await;
                return Ok(Some(wait_after(&error, failures)));
            }
        }
    }
    let identity = Arc::clone(identity);
    let recovered = database.write(move |tx| recovery::recover_restored(tx, &identity));
    if let Some(connections) = recovered.await? {
        tracing::warn!(
            connections,
            "this node was restored; it starts new sessions with its partners and requests what \
             they sent since the backup"
        );
    }
    Ok(None)
}
