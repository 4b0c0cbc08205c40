//! Registration of the account and activation of its webhook, after the start of the node and
//! whenever the relay has lost the account.

use super::{
    Database, HomeRelay,
    home_relay::Registration,
    retry::{backoff, wait_after},
    worker::{NextRun, PeriodicTask, Worker},
};
use crate::{
    fault::Fault,
    identity::NodeIdentity,
    pairing,
    store::settings::{self, Settings},
};
use sealpost_proto::{
    AccountId, limits,
    wire::{RegisterRequest, Registered, WebhookState},
};
use std::{sync::Arc, time::Duration};

/// Keeps the account registered until shutdown: registers it at the first start, and again when the
/// relay does not know it, because the relay's operator has deleted it or restored an old backup.
/// The same key always gets the same account, so a repetition is harmless.
pub(super) async fn keep_registered(
    database: Database,
    relay: Arc<HomeRelay>,
    identity: Arc<NodeIdentity>,
    settings: Settings,
    worker: Worker,
) {
    let mut account = None;
    if let Some((id, webhook_secret)) = settings.account {
        account = Some(id);
        relay.set_registered(webhook_secret);
    }
    let task = RegistrationTask {
        database,
        relay: Arc::clone(&relay),
        identity,
        request: RegisterRequest {
            delivery: settings.delivery,
            token: settings.registration_token,
        },
        account,
        failures: 0,
    };
    worker.run(relay.registration_wake_up(), task).await;
}

struct RegistrationTask {
    database: Database,
    relay: Arc<HomeRelay>,
    identity: Arc<NodeIdentity>,
    request: RegisterRequest,
    /// Account that was registered last.
    account: Option<AccountId>,
    /// Failed requests in a row.
    failures: u32,
}

impl PeriodicTask for RegistrationTask {
    const ACTION: &'static str = "register the account";
    const FAULT_RETRY_DELAY: Duration = limits::BACKOFF_FIRST;

    async fn run_once(&mut self) -> Result<NextRun, Fault> {
        if self.relay.is_registered() {
            return Ok(NextRun::Idle(None));
        }
        match self.relay.client.register(&self.request).await {
            Ok(registered) => {
                let is_replaced = self.record_account(registered).await?;
                self.failures = 0;
                // A relay could claim to have lost the account again and again, and each time all
                // mailboxes are opened and all prekeys are replaced.
                Ok(if is_replaced {
                    NextRun::Pause(limits::ACCOUNT_REPLACEMENT_INTERVAL_MIN)
                } else {
                    NextRun::Idle(None)
                })
            }
            Err(error) => {
                self.relay.record_failure(&error).await;
                self.relay.set_registration(Registration::Failed);
                let wait = wait_after(&error, self.failures);
                self.failures += 1;
                Ok(NextRun::Pause(wait))
            }
        }
    }
}

impl RegistrationTask {
    /// Stores the account. If it is not the one that was registered last, the relay has lost that
    /// one with its mailboxes, which are opened again in the same commit. Returns whether it has.
    async fn record_account(&mut self, registered: Registered) -> Result<bool, Fault> {
        let (id, secret) = (registered.account_id, registered.webhook_secret);
        let is_replaced = self.account.is_some_and(|account| account != id);
        if is_replaced {
            tracing::warn!("the relay had lost the account; opening its mailboxes again");
        }
        let (identity, stored_secret) = (Arc::clone(&self.identity), secret.clone());
        let stored = self.database.write(move |tx| {
            settings::set_account(tx, &id, &stored_secret)?;
            if is_replaced {
                pairing::reopen_mailboxes(tx, &identity)?;
            }
            Ok(())
        });
        stored.await?;
        self.account = Some(id);
        self.relay.set_registered(secret);
        self.relay.record_response().await;
        Ok(is_replaced)
    }
}

/// Keeps the webhook active until shutdown: asks the relay to test it at start and whenever the
/// relay does not call it, until a test succeeds.
pub(super) async fn keep_webhook_active(relay: Arc<HomeRelay>, worker: Worker) {
    let task = WebhookTests {
        relay: Arc::clone(&relay),
        has_succeeded: false,
        failures: 0,
    };
    worker.run(relay.webhook_test_wake_up(), task).await;
}

struct WebhookTests {
    relay: Arc<HomeRelay>,
    /// Whether a test has succeeded since the start.
    has_succeeded: bool,
    /// Failed tests in a row.
    failures: u32,
}

impl PeriodicTask for WebhookTests {
    const ACTION: &'static str = "test the webhook";
    const FAULT_RETRY_DELAY: Duration = limits::BACKOFF_FIRST;

    async fn run_once(&mut self) -> Result<NextRun, Fault> {
        let state = self.relay.client.webhook_state();
        if self.has_succeeded && state == Some(WebhookState::Active) {
            return Ok(NextRun::Idle(None));
        }
        let wait = match self.relay.client.test_webhook().await {
            Ok(test) if test.ok => {
                self.has_succeeded = true;
                self.failures = 0;
                self.relay.record_webhook_state().await;
                return Ok(NextRun::Idle(None));
            }
            Ok(test) => {
                let failed = test.steps.iter().find(|step| !step.ok);
                let reason = failed.map_or("the test failed", |step| step.detail.as_str());
                self.relay.record_webhook_failure(reason).await;
                backoff(self.failures)
            }
            Err(error) => {
                self.relay.record_webhook_failure(&error.to_string()).await;
                wait_after(&error, self.failures)
            }
        };
        self.failures += 1;
        Ok(NextRun::Pause(wait.min(limits::WEBHOOK_TEST_INTERVAL_MAX)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::scripted_relay::ScriptedRelay;
    use sealpost_proto::wire::DeliveryMode;

    #[tokio::test]
    async fn replaced_accounts_are_registered_rarely() {
        let relay = ScriptedRelay::start().await;
        let home_relay = Arc::clone(&relay.node.relay);
        let mut task = RegistrationTask {
            database: relay.node.database.clone(),
            relay: Arc::clone(&home_relay),
            identity: Arc::clone(&relay.node.identity),
            request: RegisterRequest {
                delivery: DeliveryMode::Pull,
                token: None,
            },
            account: None,
            failures: 0,
        };
        home_relay.set_registration(Registration::Pending);
        assert_eq!(task.run_once().await.unwrap(), NextRun::Idle(None));
        assert_eq!(task.run_once().await.unwrap(), NextRun::Idle(None));
        home_relay.set_registration(Registration::Pending);
        let pause = NextRun::Pause(limits::ACCOUNT_REPLACEMENT_INTERVAL_MIN);
        assert_eq!(task.run_once().await.unwrap(), pause);
        assert!(home_relay.is_registered());
        assert_eq!(relay.script().requests.len(), 2);
    }

    #[tokio::test]
    async fn webhook_is_tested_until_it_is_called() {
        let relay = ScriptedRelay::start().await;
        let home_relay = Arc::clone(&relay.node.relay);
        let mut tests = WebhookTests {
            relay: Arc::clone(&home_relay),
            has_succeeded: false,
            failures: 0,
        };
        let test_count = || relay.script().requests.len();
        assert_eq!(tests.run_once().await.unwrap(), NextRun::Idle(None));
        assert_eq!(tests.run_once().await.unwrap(), NextRun::Idle(None));
        assert_eq!(test_count(), 1, "an active webhook is tested once");
        {
            let mut script = relay.script();
            (script.webhook, script.passes_tests) = (WebhookState::Off, false);
        }
        home_relay.client.pull(Duration::ZERO, 1).await.unwrap();
        home_relay.record_webhook_state().await;
        for _ in 0..12 {
            let NextRun::Pause(wait) = tests.run_once().await.unwrap() else {
                panic!("a failed test is repeated");
            };
            assert!(wait <= limits::WEBHOOK_TEST_INTERVAL_MAX);
        }
        let health = home_relay.health().webhook;
        assert_eq!(health.state, Some(WebhookState::Off));
        assert!(health.reason.unwrap().contains("404"));
        relay.script().passes_tests = true;
        assert_eq!(tests.run_once().await.unwrap(), NextRun::Idle(None));
        let health = home_relay.health().webhook;
        assert_eq!(
            (health.state, health.reason),
            (Some(WebhookState::Active), None)
        );
    }
}
