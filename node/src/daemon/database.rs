//! The node's database, whose commits notify event subscribers and wake the tasks.

use crate::{
    fault::Fault,
    store::{Store, Tx, events},
};
use sealpost_node_core::model::Direction;
use sealpost_proto::Timestamp;
use sealpost_relay_client::RelayClient;
use sealpost_service::SharedClock;
use sealpost_sqlite::Damaged;
use std::sync::Arc;
use tokio::sync::{Notify, watch};

/// Database of a running node, shared by its clones.
#[derive(Clone)]
pub(crate) struct Database {
    store: Store,
    clock: SharedClock,
    relay: RelayClient,
    latest_event: watch::Sender<i64>,
    wake_ups: Arc<WakeUps>,
}

/// Wake-ups of the tasks.
#[derive(Default)]
pub(super) struct WakeUps {
    pub(super) submission: Notify,
    pub(super) relay_jobs: Notify,
    pub(super) uploads: Notify,
    pub(super) downloads: Notify,
    pub(super) blob_maintenance: Arc<Notify>,
    /// Wakes the uploads for each part that was sealed.
    pub(super) part_sealed: Arc<Notify>,
}

impl Database {
    /// Wraps an open store; `relay` knows the time of the relay, and `latest_event` is the id of the
    /// store's latest event.
    pub(super) fn new(
        store: Store,
        clock: SharedClock,
        relay: RelayClient,
        latest_event: i64,
    ) -> Self {
        Self {
            store,
            clock,
            relay,
            latest_event: watch::Sender::new(latest_event),
            wake_ups: Arc::default(),
        }
    }

    /// Returns the time of our own clock: a relay with a wrong clock must not make this node expire
    /// or delete anything.
    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Returns the time of the relay's clock as far as it is known.
    pub(crate) fn relay_now(&self) -> Timestamp {
        let own = self.now().as_millis();
        Timestamp::from_millis(own.saturating_add_signed(self.relay.clock_offset_ms()))
    }

    /// Runs a change, notifies the subscribers of events, and wakes all tasks.
    pub(crate) async fn write<T, F>(&self, job: F) -> Result<T, Fault>
    where
        F: FnOnce(&mut Tx<'_>) -> Result<T, Fault> + Send + 'static,
        T: Send + 'static,
    {
        let value = self.write_without_wake_up(job).await?;
        self.wake_ups.notify_all();
        Ok(value)
    }

    /// Runs a change and notifies the subscribers of events, but wakes no task. A task uses it for
    /// its own changes, which would otherwise wake it again and again.
    pub(crate) async fn write_without_wake_up<T, F>(&self, job: F) -> Result<T, Fault>
    where
        F: FnOnce(&mut Tx<'_>) -> Result<T, Fault> + Send + 'static,
        T: Send + 'static,
    {
        let relay_now = self.relay_now();
        let job = move |tx: &mut Tx<'_>| {
            tx.relay_now = relay_now;
            let value = job(tx)?;
            Ok((value, events::find_latest_id(tx)?))
        };
        let (value, latest) = self.store.write(self.now(), job).await?;
        self.latest_event.send_if_modified(|seen| {
            let is_new = latest > *seen;
            *seen = (*seen).max(latest);
            is_new
        });
        Ok(value)
    }

    /// Runs a job that only reads.
    pub(crate) async fn read<T, F>(&self, job: F) -> Result<T, Fault>
    where
        F: FnOnce(&mut Tx<'_>) -> Result<T, Fault> + Send + 'static,
        T: Send + 'static,
    {
        let relay_now = self.relay_now();
        let job = move |tx: &mut Tx<'_>| {
            tx.relay_now = relay_now;
            job(tx)
        };
        self.store.read(self.now(), job).await
    }

    /// Subscribes to the id of the latest event.
    pub(crate) fn subscribe_events(&self) -> watch::Receiver<i64> {
        self.latest_event.subscribe()
    }

    /// Returns the last damaged row that was found since the node started.
    pub(crate) fn damage(&self) -> Option<Damaged> {
        self.store.damage()
    }

    pub(super) fn wake_ups(&self) -> &Arc<WakeUps> {
        &self.wake_ups
    }

    pub(super) async fn close(&self) {
        self.store.close().await;
    }
}

impl WakeUps {
    pub(super) const fn transfers(&self, direction: Direction) -> &Notify {
        match direction {
            Direction::Out => &self.uploads,
            Direction::In => &self.downloads,
        }
    }

    fn notify_all(&self) {
        self.submission.notify_one();
        self.relay_jobs.notify_one();
        self.uploads.notify_one();
        self.downloads.notify_one();
        self.blob_maintenance.notify_one();
    }
}
