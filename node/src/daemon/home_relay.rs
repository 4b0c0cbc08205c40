//! The home relay as this node sees it: the client, the registration, and whether it responds.

use super::{
    Database,
    relay_health::{Failure, Reachability, RelayHealth},
};
use crate::store::{events, files, outbox, relay_jobs, unreferenced_blobs};
use sealpost_proto::{
    ErrorCode, Origin, Problem, Timestamp, WebhookSecret, limits, wire::WebhookState,
};
use sealpost_relay_client::{ClientError, RelayClient};
use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{
    sync::{Notify, watch},
    time::Instant,
};

/// Home relay of this node. A caller of `client` must record whether the relay responded.
pub(crate) struct HomeRelay {
    pub(crate) client: RelayClient,
    origin: Origin,
    reachability: Mutex<Reachability>,
    registration: watch::Sender<Registration>,
    /// Wakes the registration, because the relay does not know the account.
    registration_wake_up: Notify,
    /// Key of the relay's webhook calls, once the account is registered.
    webhook_secret: Mutex<Option<WebhookSecret>>,
    database: Database,
    /// Wakes the pull of a node whose webhook the relay calls.
    pull_wake_up: Notify,
    /// Wakes the tests of the webhook.
    webhook_test_wake_up: Notify,
    call_times: Mutex<CallTimes>,
}

/// Times of the relay's webhook calls.
#[derive(Debug, Default)]
struct CallTimes {
    /// Latest time of a call that was accepted.
    latest: Option<Timestamp>,
    /// When a call with a wrong time last caused a pull.
    checked_at: Option<Instant>,
}

/// Registration of this node's account, which runs in the background after a start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Registration {
    /// No attempt has ended yet since the start, or since the relay reported the account as
    /// unknown.
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
            reachability: Mutex::default(),
            registration: watch::Sender::new(Registration::Pending),
            registration_wake_up: Notify::new(),
            webhook_secret: Mutex::default(),
            database,
            pull_wake_up: Notify::new(),
            webhook_test_wake_up: Notify::new(),
            call_times: Mutex::default(),
        }
    }

    pub(super) const fn pull_wake_up(&self) -> &Notify {
        &self.pull_wake_up
    }

    pub(super) const fn webhook_test_wake_up(&self) -> &Notify {
        &self.webhook_test_wake_up
    }

    /// Returns the time of the relay's clock as far as it is known.
    pub(crate) fn now(&self) -> Timestamp {
        self.database.relay_now()
    }

    pub(super) const fn registration_wake_up(&self) -> &Notify {
        &self.registration_wake_up
    }

    pub(super) fn set_registration(&self, registration: Registration) {
        self.registration.send_replace(registration);
    }

    pub(super) fn is_registered(&self) -> bool {
        *self.registration.borrow() == Registration::Done
    }

    /// Records that the account is registered.
    pub(crate) fn set_registered(&self, webhook_secret: WebhookSecret) {
        *self.lock_webhook_secret() = Some(webhook_secret);
        self.set_registration(Registration::Done);
    }

    /// Returns the key of the relay's webhook calls, or `None` before the registration.
    pub(crate) fn webhook_secret(&self) -> Option<WebhookSecret> {
        self.lock_webhook_secret().clone()
    }

    fn lock_webhook_secret(&self) -> MutexGuard<'_, Option<WebhookSecret>> {
        self.webhook_secret
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until the account is registered.
    pub(super) async fn registered(&self) {
        let mut registration = self.registration.subscribe();
        // The sender is a field of `self`, so the channel stays open.
        let _ = registration
            .wait_for(|state| *state == Registration::Done)
            .await;
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
        let is_back = self
            .lock_reachability()
            .record_response(self.database.now());
        if is_back {
            tracing::info!(relay = %self.origin, "the relay responds; pending work is due now");
            self.make_due_now().await;
        }
    }

    /// Records a failed request, and returns the reason to store with the work that has to wait.
    /// A relay that asks this node to wait has responded: it is reachable, and its next response
    /// does not make the waiting work due.
    pub(crate) async fn record_failure(&self, error: &ClientError) -> String {
        if let ClientError::Problem(problem) = error
            && problem.retry_after_ms.is_some()
        {
            let reason = format!("the relay reports: {}", problem.code.title());
            tracing::warn!(relay = %self.origin, reason, "the relay asks this node to wait");
            self.lock_reachability()
                .record_retry_after(self.database.now(), &reason);
            return reason;
        }
        let (failure, message) = match error {
            ClientError::Problem(problem) => {
                if problem.code == ErrorCode::AccountUnknown && self.is_registered() {
                    self.set_registration(Registration::Pending);
                    self.registration_wake_up.notify_one();
                }
                let reason = refusal_reason(problem);
                (Failure::Refused(reason), "the relay refuses requests")
            }
            _ => (
                Failure::NoResponse(error.to_string()),
                "the relay does not respond",
            ),
        };
        let reason = failure.reason().to_owned();
        if self.lock_reachability().record_failure(failure) {
            tracing::warn!(relay = %self.origin, reason, "{message}");
            self.publish_node_event().await;
        }
        format!("{message}: {reason}")
    }

    /// Returns whether the relay responds, and when it last did.
    pub(crate) fn health(&self) -> RelayHealth {
        self.lock_reachability()
            .health(self.client.clock_offset_ms())
    }

    /// Records whether the relay calls the webhook, as it last reported. If it does not, the
    /// webhook is tested.
    pub(super) async fn record_webhook_state(&self) {
        let Some(state) = self.client.webhook_state() else {
            return;
        };
        if !self.lock_reachability().record_webhook_state(state) {
            return;
        }
        if state == WebhookState::Active {
            tracing::info!(relay = %self.origin, "the webhook is active");
        } else {
            tracing::warn!(
                relay = %self.origin,
                ?state,
                "the relay does not call the webhook; this node pulls and requests tests of it"
            );
            self.webhook_test_wake_up.notify_one();
        }
        self.publish_node_event().await;
    }

    /// Records why a test of the webhook failed.
    pub(super) async fn record_webhook_failure(&self, reason: &str) {
        tracing::warn!(relay = %self.origin, reason, "the relay cannot call the webhook");
        if self.lock_reachability().record_webhook_failure(reason) {
            self.publish_node_event().await;
        }
    }

    /// Records the time of a webhook call that is accepted.
    pub(crate) fn record_call_time(&self, signed_at: Timestamp) {
        let mut times = self.lock_call_times();
        times.latest = times.latest.max(Some(signed_at));
    }

    /// Handles a webhook call that has a valid signature but a wrong time, and is refused. Either
    /// our clock is wrong, or somebody replays an old call.
    ///
    /// The relay signed the call, so its clock is not behind that time: adopting a time that is
    /// ahead of ours brings it closer to the truth. A replayed call has a time in the past. It can
    /// neither set the time back nor, while our clock is behind, make previously accepted calls
    /// valid again, because only a time after all accepted calls is adopted. A pull follows, whose
    /// response corrects the time in both directions.
    pub(crate) fn record_wrong_call_time(&self, signed_at: Timestamp) {
        let mut times = self.lock_call_times();
        if times.latest < Some(signed_at) {
            self.client.advance_relay_time(signed_at);
        }
        let now = Instant::now();
        let is_due = times
            .checked_at
            .is_none_or(|at| now.duration_since(at) >= limits::CLOCK_CHECK_INTERVAL_MIN);
        if is_due {
            times.checked_at = Some(now);
            tracing::warn!(
                relay = %self.origin,
                "a webhook call with a wrong time was refused; asking the relay for its time"
            );
            self.pull_wake_up.notify_one();
        }
    }

    fn lock_call_times(&self) -> MutexGuard<'_, CallTimes> {
        self.call_times
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_reachability(&self) -> MutexGuard<'_, Reachability> {
        self.reachability
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    async fn make_due_now(&self) {
        let changed = self.database.write(|tx| {
            outbox::make_due_now(tx)?;
            relay_jobs::make_due_now(tx)?;
            unreferenced_blobs::make_due_now(tx)?;
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

/// Describes why the relay refuses requests, and what to do about it.
fn refusal_reason(problem: &Problem) -> String {
    let advice = match problem.code {
        ErrorCode::AccountUnknown => "; this node registers again",
        ErrorCode::RegistrationClosed => "; ask its operator to permit registrations",
        ErrorCode::RegistrationTokenInvalid => {
            "; ask its operator for a registration token, and restart the node with the token in \
             SEALPOST_REGISTRATION_TOKEN"
        }
        ErrorCode::AccountSuspended => "; ask its operator",
        _ => "",
    };
    format!("{problem}{advice}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::NodeComponents;
    use sealpost_service::ManualClock;
    use std::sync::Arc;

    async fn unregistered() -> (tempfile::TempDir, Arc<HomeRelay>) {
        let directory = tempfile::tempdir().unwrap();
        let relay = Origin::parse("http://127.0.0.1:1").unwrap();
        let clock = ManualClock::new(Timestamp::from_millis(1_766_000_000_000));
        let relay = NodeComponents::for_test(directory.path(), relay, clock)
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

    #[tokio::test(start_paused = true)]
    async fn wrong_call_times_move_the_clock_forward() {
        let (_directory, relay) = unregistered().await;
        let now = relay.now();
        let (before, after) = (
            now.minus(Duration::from_secs(600)),
            now.plus(Duration::from_secs(600)),
        );
        relay.record_wrong_call_time(before);
        assert_eq!(relay.now(), now, "an old call can be a replayed one");
        relay.record_wrong_call_time(after);
        assert_eq!(relay.now(), after);
        let times = relay.database.read(|tx| Ok((tx.now, tx.relay_now)));
        assert_eq!(times.await.unwrap(), (now, after));
        assert_eq!(relay.health().clock_offset_ms, 600_000);
    }

    #[tokio::test(start_paused = true)]
    async fn replayed_calls_do_not_move_the_clock() {
        let (_directory, relay) = unregistered().await;
        let now = relay.now();
        let accepted = now.plus(Duration::from_secs(900));
        relay.record_call_time(accepted);
        relay.record_wrong_call_time(now.plus(Duration::from_secs(600)));
        relay.record_wrong_call_time(accepted);
        assert_eq!(relay.now(), now);
    }

    #[tokio::test(start_paused = true)]
    async fn wrong_call_times_cause_few_pulls() {
        let (_directory, relay) = unregistered().await;
        let mut pulls = 0;
        for _ in 0..100 {
            relay.record_wrong_call_time(Timestamp::from_millis(1));
            let wake_up = relay.pull_wake_up().notified();
            pulls += usize::from(tokio::time::timeout(Duration::ZERO, wake_up).await.is_ok());
            tokio::time::advance(Duration::from_millis(200)).await;
        }
        assert_eq!(pulls, 2, "one in ten seconds");
    }
}
