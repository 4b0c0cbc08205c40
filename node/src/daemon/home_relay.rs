//! The home relay as this node sees it: the client, the registration, and whether it responds.

use super::{
    Database,
    contact::{Contact, RelayHealth},
};
use crate::store::{events, files, orphaned_blobs, outbox, relay_jobs};
use sealpost_proto::{Origin, Timestamp};
use sealpost_relay_client::{ClientError, RelayClient};
use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::sync::watch;

/// Home relay of this node. Whoever calls it through `client` records whether it responded.
pub(crate) struct HomeRelay {
    pub(crate) client: RelayClient,
    origin: Origin,
    contact: Mutex<Contact>,
    registration: watch::Sender<Registration>,
    database: Database,
}

/// Registration of this node's account, which runs in the background after a start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Registration {
    /// The first attempt has not ended yet.
    Pending,
    /// The last attempt failed and will be retried.
    Failed,
    Done,
}

impl HomeRelay {
    pub(super) fn new(client: RelayClient, origin: Origin, database: Database) -> Self {
        Self {
            client,
            origin,
            contact: Mutex::default(),
            registration: watch::Sender::new(Registration::Pending),
            database,
        }
    }

    /// Returns the time of the relay's clock as far as it is known, to check what the relay signs.
    pub(crate) fn now(&self) -> Timestamp {
        let offset = self.client.clock_offset_ms();
        let own = self.database.now().as_millis();
        Timestamp::from_millis(own.saturating_add_signed(offset))
    }

    pub(super) fn set_registration(&self, registration: Registration) {
        self.registration.send_replace(registration);
    }

    /// Waits for the end of the first attempt to register with the relay, up to the given time, and
    /// returns whether the account is registered. The relay refuses other requests until then.
    pub(crate) async fn wait_for_registration(&self, timeout: Duration) -> bool {
        let mut registration = self.registration.subscribe();
        let attempted = registration.wait_for(|state| *state != Registration::Pending);
        tokio::time::timeout(timeout, attempted)
            .await
            .is_ok_and(|state| state.is_ok_and(|state| *state == Registration::Done))
    }

    /// Records a response. Work that waited because the relay was unreachable, or because our clock
    /// was ahead, becomes due now.
    pub(crate) async fn record_response(&self) {
        let is_back = self.lock_contact().record_response(self.database.now());
        if is_back {
            tracing::info!(relay = %self.origin, "the relay responds; pending work is due now");
            self.make_due_now().await;
        }
    }

    /// Records a failed request, and returns the reason to store with the work that has to wait.
    /// A relay that asks to wait has responded: it is reachable, and its next response makes
    /// nothing due.
    pub(crate) async fn record_failure(&self, error: &ClientError) -> String {
        if let ClientError::Problem(problem) = error
            && problem.retry_after_ms.is_some()
        {
            let reason = format!("the relay reports: {}", problem.code.title());
            tracing::warn!(relay = %self.origin, reason, "the relay asks to wait");
            self.lock_contact()
                .record_retry_after(self.database.now(), &reason);
            return reason;
        }
        let reason = error.to_string();
        let is_new = self.lock_contact().record_failure(&reason);
        if is_new {
            tracing::warn!(relay = %self.origin, reason, "the relay does not respond");
            self.publish_node_event().await;
        }
        format!("the relay does not respond: {error}")
    }

    /// Returns whether the relay responds, and when it last did.
    pub(crate) fn health(&self) -> RelayHealth {
        self.lock_contact().health(self.client.clock_offset_ms())
    }

    fn lock_contact(&self) -> MutexGuard<'_, Contact> {
        self.contact.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn make_due_now(&self) {
        let changed = self.database.write(|tx| {
            outbox::make_due_now(tx)?;
            relay_jobs::make_due_now(tx)?;
            orphaned_blobs::make_due_now(tx)?;
            files::make_due_now(tx)
        });
        if let Err(fault) = changed.await {
            tracing::error!(%fault, "cannot make pending work due now that the relay responds");
        }
        self.publish_node_event().await;
    }

    async fn publish_node_event(&self) {
        let published = self
            .database
            .write(|tx| events::add(tx, events::Subject::Node));
        if let Err(fault) = published.await {
            tracing::error!(%fault, "cannot store an event");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::NodeParts;
    use sealpost_service::ManualClock;
    use std::sync::Arc;

    async fn unregistered() -> (tempfile::TempDir, Arc<HomeRelay>) {
        let directory = tempfile::tempdir().unwrap();
        let relay = Origin::parse("http://127.0.0.1:1").unwrap();
        let clock = ManualClock::new(Timestamp::from_millis(1_766_000_000_000));
        let relay = NodeParts::for_test(directory.path(), relay, clock)
            .await
            .relay;
        relay.set_registration(Registration::Pending);
        (directory, relay)
    }

    #[tokio::test]
    async fn requests_wait_for_registration() {
        let (_directory, relay) = unregistered().await;
        let waiting = {
            let relay = Arc::clone(&relay);
            tokio::spawn(async move { relay.wait_for_registration(Duration::from_secs(60)).await })
        };
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        relay.set_registration(Registration::Done);
        assert!(waiting.await.unwrap());
    }

    #[tokio::test]
    async fn failed_registration_ends_the_wait() {
        let (_directory, relay) = unregistered().await;
        relay.set_registration(Registration::Failed);
        assert!(!relay.wait_for_registration(Duration::from_secs(60)).await);
        relay.set_registration(Registration::Pending);
        assert!(!relay.wait_for_registration(Duration::ZERO).await);
    }
}
