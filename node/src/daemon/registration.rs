//! Registration of the account and activation of its webhook, after the start of the node.

use super::{
    Database, HomeRelay,
    home_relay::Registration,
    retry::{backoff, wait_after},
    worker::{Next, Round, Worker},
};
use crate::{
    fault::Fault,
    store::settings::{self, Settings},
};
use sealpost_proto::{WebhookSecret, limits, wire::RegisterRequest};
use sealpost_relay_client::RelayClient;
use std::{sync::Arc, time::Duration};

/// Registers the account, unless it was registered before, and returns the webhook secret, or
/// `None` at shutdown. The same key always gets the same account, so a repetition is harmless.
pub(super) async fn register(
    database: Database,
    relay: Arc<HomeRelay>,
    settings: &Settings,
    worker: &Worker,
) -> Option<WebhookSecret> {
    if let Some((_, secret)) = &settings.account {
        relay.set_registration(Registration::Done);
        return Some(secret.clone());
    }
    let request = RegisterRequest {
        delivery: settings.delivery.clone(),
        token: settings.registration_token.clone(),
    };
    let task = RegistrationTask {
        database,
        relay,
        request,
        failures: 0,
        secret: None,
    };
    worker.run_timed(task).await.secret
}

struct RegistrationTask {
    database: Database,
    relay: Arc<HomeRelay>,
    request: RegisterRequest,
    /// Failed requests in a row.
    failures: u32,
    /// Webhook secret of the registered account.
    secret: Option<WebhookSecret>,
}

impl Round for RegistrationTask {
    const ACTION: &'static str = "register the account";
    const FAULT_RETRY_DELAY: Duration = limits::BACKOFF_FIRST;

    async fn run(&mut self) -> Result<Next, Fault> {
        match self.relay.client.register(&self.request).await {
            Ok(account) => {
                self.relay.record_response().await;
                let secret = account.webhook_secret.clone();
                let store = self.database.write(move |tx| {
                    settings::set_account(tx, &account.account_id, &account.webhook_secret)
                });
                store.await?;
                self.relay.set_registration(Registration::Done);
                self.secret = Some(secret);
                Ok(Next::Stop)
            }
            Err(error) => {
                self.relay.record_failure(&error).await;
                self.relay.set_registration(Registration::Failed);
                let wait = wait_after(&error, self.failures);
                self.failures += 1;
                Ok(Next::Pause(wait))
            }
        }
    }
}

/// Asks the relay to test the webhook until it succeeds. The relay calls a webhook only after that.
pub(super) async fn activate_webhook(client: RelayClient, worker: Worker) {
    let task = WebhookActivation {
        client,
        failures: 0,
    };
    worker.run_timed(task).await;
}

struct WebhookActivation {
    client: RelayClient,
    /// Failed tests in a row.
    failures: u32,
}

impl Round for WebhookActivation {
    const ACTION: &'static str = "activate the webhook";
    const FAULT_RETRY_DELAY: Duration = limits::BACKOFF_FIRST;

    async fn run(&mut self) -> Result<Next, Fault> {
        match self.client.test_webhook().await {
            Ok(test) if test.ok => {
                tracing::info!("the webhook is active");
                return Ok(Next::Stop);
            }
            Ok(test) => {
                let failed = test.steps.iter().find(|step| !step.ok);
                let detail = failed.map_or("", |step| step.detail.as_str());
                tracing::warn!(detail, "the relay cannot call the webhook yet");
            }
            Err(error) => tracing::warn!(%error, "the relay cannot test the webhook yet"),
        }
        let wait = backoff(self.failures);
        self.failures += 1;
        Ok(Next::Pause(wait))
    }
}
