//! Webhook test: the webhook proves that it belongs to its account by responding to a challenge.
//! `webhook-test` reports each step.
//!
//! Anybody with an account can make the relay call any public address. The relay therefore runs few
//! tests at a time, and a test does not tell ports that are closed, filtered or of another protocol
//! apart: all of them have the same text and take equally long.

use super::{
    test_slots::{WebhookTestError, WebhookTestSlots},
    webhook::WebhookClient,
};
use crate::{
    accounts::Accounts,
    lease::Webhook,
    notifier::Notifier,
    store::{Store, StoreError},
};
use sealpost_egress::{CallError, Response};
use sealpost_proto::{
    AccountId, B64, WebhookUrl,
    limits::WEBHOOK_TIMEOUT,
    time::millis,
    wire::{ChallengeResponse, WebhookCall, WebhookTest, WebhookTestStep},
};
use sealpost_service::{Clock as _, SharedClock, fair_pool::Permit, random_array};
use sealpost_signatures::webhook::verify_challenge_response;
use std::sync::Arc;
use tokio::{
    sync::oneshot,
    time::{Instant, sleep_until},
};
use url::Host;

/// Tests webhooks with a challenge.
#[derive(Clone)]
pub(crate) struct WebhookTester {
    pub(crate) store: Store,
    pub(crate) accounts: Accounts,
    pub(crate) webhooks: WebhookClient,
    pub(crate) notifier: Arc<Notifier>,
    pub(crate) clock: SharedClock,
    pub(crate) slots: WebhookTestSlots,
}

impl WebhookTester {
    /// Calls the account's webhook with a challenge. Success makes it active; a webhook that fails
    /// is not an error.
    pub(crate) async fn test(&self, account: AccountId) -> Result<WebhookTest, WebhookTestError> {
        let started = Instant::now();
        let own = self.slots.reserve_account(account).await?;
        let Some(webhook) = self.store.load_webhook(account).await? else {
            let steps = Steps::failed(
                "address",
                "the account has no webhook: choose one with PATCH /v1/account",
            );
            return Ok(steps.into_test(started));
        };
        let call = self.slots.reserve_call(&webhook.url).await?;
        let tester = self.clone();
        // In a task of its own: a client that disconnects cannot start its next test any earlier.
        let running = tokio::spawn(async move {
            let steps = tester.challenge(account, &webhook, call).await;
            let recorded = tester.record(account, webhook.url, steps).await;
            drop(own);
            recorded.map(|steps| steps.into_test(started))
        });
        let failed = |error: tokio::task::JoinError| StoreError::Failed {
            reason: error.to_string(),
        };
        Ok(running.await.map_err(failed)??)
    }

    async fn challenge(&self, account: AccountId, webhook: &Webhook, slot: Permit) -> Steps {
        let challenge: [u8; 32] = random_array();
        let response = self.call(account, webhook, &challenge, slot).await;
        match response {
            Ok(response) => Steps::for_response(&response, webhook, &challenge),
            Err(error) => Steps::for_call_error(&error, &webhook.url),
        }
    }

    /// Sends the challenge. All failures that would reveal something about the port are reported
    /// only at the timeout.
    async fn call(
        &self,
        account: AccountId,
        webhook: &Webhook,
        challenge: &[u8],
        slot: Permit,
    ) -> Result<Response, CallError> {
        let deadline = Instant::now() + WEBHOOK_TIMEOUT;
        let now = self.clock.now();
        let call = WebhookCall::Challenge {
            timestamp: now,
            challenge: B64(challenge.to_vec()),
        };
        let body = serde_json::to_vec(&call).unwrap_or_default();
        let id = format!("{account}-challenge-{}", now.as_millis());
        let (evict, evicted) = oneshot::channel::<()>();
        slot.on_eviction(move || drop(evict));
        let response = tokio::select! {
            response = self.webhooks.send(webhook, &id, now, body, WEBHOOK_TIMEOUT) => response,
            _ = evicted => Err(CallError::Timeout),
        };
        drop(slot);
        if response.as_ref().is_err_and(depends_on_the_port) {
            sleep_until(deadline).await;
        }
        response
    }

    /// Records the result of a test.
    async fn record(
        &self,
        account: AccountId,
        url: WebhookUrl,
        mut steps: Steps,
    ) -> Result<Steps, StoreError> {
        if let Some(reason) = steps.failure() {
            self.store.record_webhook_failure(account, reason).await?;
        } else if self
            .store
            .verify_webhook(self.clock.now(), account, url)
            .await?
        {
            self.notifier.notify_accounts(&[account]);
        } else {
            steps.record_failure(
                "address",
                "the webhook was changed meanwhile: test it again",
            );
        }
        self.accounts.invalidate(account);
        Ok(steps)
    }
}

/// Returns whether a failure tells what listens on a port, unless it is reported like all others.
const fn depends_on_the_port(error: &CallError) -> bool {
    match error {
        CallError::Connect { .. }
        | CallError::Tls { .. }
        | CallError::Timeout
        | CallError::Http => true,
        // A server with a certificate is as public as one that responds.
        CallError::Url { .. }
        | CallError::Forbidden { .. }
        | CallError::Dns
        | CallError::Certificate { .. } => false,
    }
}

/// Completed steps of a test.
#[derive(Default)]
struct Steps(Vec<WebhookTestStep>);

impl Steps {
    fn failed(step: &str, detail: &str) -> Self {
        let mut steps = Self::default();
        steps.record_failure(step, detail);
        steps
    }

    fn for_call_error(error: &CallError, url: &WebhookUrl) -> Self {
        match error {
            CallError::Url { .. } | CallError::Dns => Self::failed("address", &error.to_string()),
            CallError::Forbidden { .. } if matches!(url.as_url().host(), Some(Host::Domain(_))) => {
                // The addresses behind internal names are not for everybody with an account.
                let detail = "the name leads to an address that this relay does not call; its \
                              operator can allow private addresses with egress.allow";
                Self::failed("address", detail)
            }
            CallError::Forbidden { address } => Self::failed(
                "address",
                &format!(
                    "the address {address} is not allowed; the relay's operator can allow private \
                     addresses with egress.allow"
                ),
            ),
            CallError::Certificate { detail } => Self::failed_call(&format!(
                "the certificate is not accepted: {detail}; the relay's operator can add a private \
                 certificate authority with egress.ca_file"
            )),
            CallError::Connect { .. }
            | CallError::Tls { .. }
            | CallError::Timeout
            | CallError::Http => Self::failed_call(&format!(
                "no HTTP response within {} s: check that the node is running and that the relay \
                 can reach this URL",
                WEBHOOK_TIMEOUT.as_secs()
            )),
        }
    }

    fn failed_call(detail: &str) -> Self {
        let mut steps = Self::default();
        steps.record_success("address", "the relay may call this address");
        steps.record_failure("call", detail);
        steps
    }

    fn for_response(response: &Response, webhook: &Webhook, challenge: &[u8]) -> Self {
        let mut steps = Self::default();
        steps.record_success("address", "the relay may call this address");
        steps.record_success("call", "the endpoint responded");
        if response.status != 200 {
            let status = response.status;
            steps.record_failure(
                "status",
                &format!("the endpoint responded with {status}, expected 200"),
            );
            return steps;
        }
        steps.record_success("status", "200");
        if has_valid_proof(response, webhook, challenge) {
            steps.record_success("challenge", "the response is that of this account's node");
        } else {
            steps.record_failure(
                "challenge",
                "the response is not the one that this account's node would send",
            );
        }
        steps
    }

    fn record_success(&mut self, step: &str, detail: &str) {
        self.add(step, true, detail);
    }

    fn record_failure(&mut self, step: &str, detail: &str) {
        self.add(step, false, detail);
    }

    fn add(&mut self, step: &str, ok: bool, detail: &str) {
        self.0.push(WebhookTestStep {
            step: step.to_owned(),
            ok,
            detail: detail.to_owned(),
        });
    }

    fn into_test(self, started: Instant) -> WebhookTest {
        WebhookTest {
            ok: self.failure().is_none(),
            steps: self.0,
            elapsed_ms: millis(started.elapsed()),
        }
    }

    fn failure(&self) -> Option<String> {
        self.0
            .iter()
            .find(|step| !step.ok)
            .map(|step| format!("{}: {}", step.step, step.detail))
    }
}

fn has_valid_proof(response: &Response, webhook: &Webhook, challenge: &[u8]) -> bool {
    serde_json::from_slice::<ChallengeResponse>(&response.body).is_ok_and(|given| {
        verify_challenge_response(&webhook.secret, challenge, given.answer.as_slice())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::ErrorKind;

    fn url(text: &str) -> WebhookUrl {
        WebhookUrl::parse(text).unwrap()
    }

    #[test]
    fn unreachable_ports_read_alike() {
        let url = url("https://node.example/");
        let kinds = [ErrorKind::ConnectionRefused, ErrorKind::TimedOut];
        let detail = "not TLS".to_owned();
        let errors = [
            CallError::Timeout,
            CallError::Http,
            CallError::Tls { detail },
        ];
        let errors = errors
            .into_iter()
            .chain(kinds.map(|kind| CallError::Connect { kind }));
        let reports: Vec<_> = errors
            .map(|error| {
                assert!(depends_on_the_port(&error), "{error:?}");
                Steps::for_call_error(&error, &url).failure()
            })
            .collect();
        assert!(
            reports.windows(2).all(|pair| pair[0] == pair[1]),
            "{reports:?}"
        );
    }

    #[test]
    fn private_addresses_of_names_are_not_shown() {
        let address = "10.1.2.3".parse().unwrap();
        let error = CallError::Forbidden { address };
        let report = |text| Steps::for_call_error(&error, &url(text)).failure().unwrap();
        assert!(!report("https://internal.example/").contains("10.1.2.3"));
        assert!(report("https://10.1.2.3/").contains("10.1.2.3"));
    }
}
