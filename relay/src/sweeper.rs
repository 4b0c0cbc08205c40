//! Ends what time ends, every few seconds, and by that shows whether the store commits.

use crate::{
    relay::Relay,
    store::{StoreError, Swept},
};
use sealpost_proto::{BlobId, limits::SWEEP_INTERVAL};
use std::sync::Arc;

/// Sweeps until the relay's shutdown.
pub(crate) async fn run(relay: Arc<Relay>) {
    while !relay.shutdown.is_triggered() {
        match sweep(&relay).await {
            Ok(true) => {}
            Ok(false) => pause(&relay).await,
            Err(error) => {
                tracing::warn!(%error, "a sweep failed");
                pause(&relay).await;
            }
        }
    }
}

/// One sweep; says whether another one would find more at once.
///
/// # Errors
/// [`StoreError`].
pub(crate) async fn sweep(relay: &Relay) -> Result<bool, StoreError> {
    let Swept { woken, more, doomed } = relay.store.sweep(relay.now()).await?;
    relay.health.store_works();
    relay.wakes.wake(&woken);
    if doomed.is_empty() {
        return Ok(more);
    }
    let deleted = delete(relay, doomed).await;
    if deleted.is_empty() {
        // A disk that does not delete now will not do so at once again.
        return Ok(false);
    }
    relay.store.forget_doomed(deleted).await?;
    Ok(more)
}

async fn delete(relay: &Relay, doomed: Vec<BlobId>) -> Vec<BlobId> {
    let mut deleted = Vec::with_capacity(doomed.len());
    for blob in doomed {
        match relay.blobs.delete(blob).await {
            Ok(()) => deleted.push(blob),
            Err(error) => tracing::warn!(%error, "the parts of a blob were not deleted; it is tried again"),
        }
    }
    deleted
}

async fn pause(relay: &Relay) {
    tokio::select! {
        () = relay.wakes.sweeps.notified() => {}
        () = tokio::time::sleep(SWEEP_INTERVAL) => {}
        () = relay.shutdown.triggered() => {}
    }
}
