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
                // A restart would make no room: a full disk is no reason to ask the supervisor for one.
                if error == StoreError::DiskFull {
                    relay.pulses.store.beat();
                }
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
    let Swept {
        woken,
        more,
        doomed,
    } = relay.store.sweep(relay.now()).await?;
    relay.health.store_works();
    relay.pulses.store.beat();
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

/// Takes away what a killed process had of parts that were on their way. A relay does so before it lets anybody in.
///
/// # Errors
/// [`StoreError`].
pub(crate) async fn clear(relay: &Relay) -> Result<(), StoreError> {
    let (mut after, mut cleared) = (None, 0);
    loop {
        let page = relay.store.unfinished_blobs(after).await?;
        for unfinished in &page {
            match relay.blobs.clear(unfinished.blob).await {
                Ok(some) => cleared += some,
                Err(error) => {
                    tracing::warn!(%error, "what is left of a part that never came was not taken away")
                }
            }
        }
        after = page.last().copied();
        if after.is_none() {
            break;
        }
    }
    if cleared > 0 {
        tracing::info!(cleared, "what was left of parts that never came is gone");
    }
    Ok(())
}

async fn delete(relay: &Relay, doomed: Vec<BlobId>) -> Vec<BlobId> {
    let Some(_held) = relay.blobs.may_delete() else {
        tracing::debug!("a backup is being made: blobs are deleted later");
        return Vec::new();
    };
    let mut deleted = Vec::with_capacity(doomed.len());
    for blob in doomed {
        match relay.blobs.delete(blob).await {
            Ok(()) => deleted.push(blob),
            Err(error) => {
                tracing::warn!(%error, "the parts of a blob were not deleted; it is tried again")
            }
        }
    }
    deleted
}

async fn pause(relay: &Relay) {
    relay.rules().meters.forget();
    tokio::select! {
        () = relay.wakes.sweeps.notified() => {}
        () = tokio::time::sleep(SWEEP_INTERVAL) => {}
        () = relay.shutdown.triggered() => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        blobs::{Blobs, PartName},
        config::Config,
        serve::{BLOBS, start},
    };
    use bytes::Bytes;
    use sealpost_service::{Shutdown, SystemClock};

    #[tokio::test]
    async fn nothing_is_deleted_while_a_backup_holds_it() {
        let folder = tempfile::tempdir().unwrap();
        let config = Config {
            listen: ([127, 0, 0, 1], 0).into(),
            data: folder.path().to_owned(),
            ..Config::default()
        };
        let running = start(config, Arc::new(SystemClock), Shutdown::new())
            .await
            .unwrap();
        let relay = running.relay();
        let name = PartName {
            blob: BlobId::from_bytes([1; 16]),
            number: 0,
            digest: [2; 32],
        };
        relay
            .blobs
            .write(&name, Bytes::from_static(b"hello"))
            .await
            .unwrap();
        let held = Blobs::hold(&folder.path().join(BLOBS)).unwrap();
        assert_eq!(delete(&relay, vec![name.blob]).await, []);
        assert_eq!(relay.blobs.read(&name, 0..5).await.unwrap(), "hello");
        drop(held);
        assert_eq!(delete(&relay, vec![name.blob]).await, [name.blob]);
        assert!(relay.blobs.read(&name, 0..5).await.is_err());
        relay.shutdown.trigger();
        running.ended().await;
    }
}
