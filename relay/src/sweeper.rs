//! Periodic removal of expired data. A successful sweep also proves that the store can commit.

use crate::{
    blobs::Blobs,
    health::Health,
    notifier::Notifier,
    settings::LiveSettings,
    store::{Store, StoreError, SweepOutcome},
};
use sealpost_proto::{BlobId, limits::SWEEP_INTERVAL};
use sealpost_service::{Clock as _, SharedClock, Shutdown, supervisor::Heartbeat};
use std::sync::Arc;
use tokio::time::Instant;

/// Background task that deletes expired rows and blobs.
pub(crate) struct Sweeper {
    pub(crate) store: Store,
    pub(crate) blobs: Blobs,
    pub(crate) notifier: Arc<Notifier>,
    pub(crate) health: Arc<Health>,
    /// Heartbeat of the store.
    pub(crate) heartbeat: Arc<Heartbeat>,
    pub(crate) settings: LiveSettings,
    pub(crate) clock: SharedClock,
}

impl Sweeper {
    /// Sweeps until the shutdown.
    pub(crate) async fn run(self, shutdown: Shutdown) {
        while !shutdown.is_triggered() {
            let started = Instant::now();
            match self.sweep().await {
                Ok(true) => {
                    // Others get at least as much of the writer's time as the sweep.
                    tokio::select! {
                        () = tokio::time::sleep(started.elapsed()) => {}
                        () = shutdown.triggered() => {}
                    }
                    continue;
                }
                Ok(false) => {}
                Err(error) => {
                    // A restart would not free any space, so a full disk must not trigger the
                    // supervisor's watchdog.
                    if error == StoreError::DiskFull {
                        self.heartbeat.record_beat();
                    }
                    tracing::warn!(%error, "failed to sweep");
                }
            }
            self.settings.load().rate_limiters.remove_idle();
            tokio::select! {
                () = self.notifier.sweeper.notified() => {}
                () = tokio::time::sleep(SWEEP_INTERVAL) => {}
                () = shutdown.triggered() => {}
            }
        }
    }

    /// Sweeps once. Returns whether there is more to sweep immediately.
    pub(crate) async fn sweep(&self) -> Result<bool, StoreError> {
        let SweepOutcome {
            accounts_to_notify,
            has_more,
            blob_deletions,
        } = self.store.sweep(self.clock.now()).await?;
        self.health.record_store_commit();
        self.heartbeat.record_beat();
        self.notifier.notify_accounts(&accounts_to_notify);
        if blob_deletions.is_empty() {
            return Ok(has_more);
        }
        let deleted = self.delete_blobs(blob_deletions).await;
        if deleted.is_empty() {
            // A backup holds the lock, or the disk failed to delete every blob. Another sweep now
            // would delete nothing either.
            return Ok(false);
        }
        self.store.record_blob_deletions(deleted).await?;
        Ok(has_more)
    }

    /// Deletes the unfinished parts that a previous process left behind. Runs before the relay
    /// accepts requests.
    pub(crate) async fn delete_unfinished_parts(&self) -> Result<(), StoreError> {
        let (mut after, mut deleted) = (None, 0);
        loop {
            let page = self.store.list_incomplete_blobs(after).await?;
            for incomplete in &page {
                match self.blobs.delete_unfinished(incomplete.blob).await {
                    Ok(count) => deleted += count,
                    Err(error) => {
                        let blob = incomplete.blob;
                        tracing::warn!(%error, %blob, "failed to delete the unfinished parts of a blob");
                    }
                }
            }
            after = page.last().copied();
            if after.is_none() {
                break;
            }
        }
        if deleted > 0 {
            tracing::info!(deleted, "deleted unfinished parts");
        }
        Ok(())
    }

    async fn delete_blobs(&self, blobs: Vec<BlobId>) -> Vec<BlobId> {
        let Some(_lock) = self.blobs.try_lock_exclusive() else {
            tracing::debug!("a backup or check is running; deferring blob deletion");
            return Vec::new();
        };
        let mut deleted = Vec::with_capacity(blobs.len());
        for blob in blobs {
            match self.blobs.delete(blob).await {
                Ok(()) => deleted.push(blob),
                Err(error) => {
                    tracing::warn!(%error, %blob, "failed to delete the parts of a blob; the next sweep retries");
                }
            }
        }
        deleted
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{blobs::PartName, config::Config, data_layout::BLOBS_DIR, serve::open};
    use bytes::Bytes;
    use sealpost_service::SystemClock;

    #[tokio::test]
    async fn blobs_are_not_deleted_during_a_backup() {
        let directory = crate::data_layout::temporary_data_directory();
        let mut config = Config {
            listen: ([127, 0, 0, 1], 0).into(),
            data: directory.path().to_owned(),
            ..Config::default()
        };
        config.admin.listen = "off".parse().unwrap();
        let opened = open(config, Arc::new(SystemClock), Shutdown::new())
            .await
            .unwrap();
        let sweeper = opened.parts.sweeper();
        let name = PartName {
            blob: BlobId::from_bytes([1; 16]),
            number: 0,
            digest: [2; 32],
        };
        sweeper
            .blobs
            .write(&name, Bytes::from_static(b"hello"))
            .await
            .unwrap();
        let lock = Blobs::lock_shared(&directory.path().join(BLOBS_DIR)).unwrap();
        assert_eq!(sweeper.delete_blobs(vec![name.blob]).await, []);
        assert_eq!(sweeper.blobs.read(&name, 0..5).await.unwrap(), "hello");
        drop(lock);
        assert_eq!(sweeper.delete_blobs(vec![name.blob]).await, [name.blob]);
        assert!(sweeper.blobs.read(&name, 0..5).await.is_err());
    }
}
