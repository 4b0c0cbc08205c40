//! Webhook test: the webhook proves that it belongs to its account by responding to a challenge.
//! `webhook-test` reports each step.

use super::webhook::WebhookClient;
use crate::{
    accounts::Accounts,
    lease::Webhook,
    notifier::Notifier,
    store::{Store, StoreError},
};
use sealpost_egress::{CallError, Response};
use sealpost_proto::{
    AccountId, B64,
    wire::{ChallengeResponse, WebhookCall, WebhookTest, WebhookTestStep},
};
use sealpost_service::{Clock as _, SharedClock, random_array};
use sealpost_signatures::webhook::verify_challenge_response;
use std::{sync::Arc, time::Instant};

/// Tests webhooks with a challenge.
#[derive(Clone)]
pub(crate) struct WebhookTester {
    pub(crate) store: Store,
    pub(crate) accounts: Accounts,
    pub(crate) webhooks: WebhookClient,
    pub(crate) notifier: Arc<Notifier>,
    pub(crate) clock: SharedClock,
}

impl WebhookTester {
    /// Calls the account's webhook with a challenge. Success makes it active; a webhook that fails
    /// is not an error.
    pub(crate) async fn test(&self, account: AccountId) -> Result<WebhookTest, StoreError> {
        let started = Instant::now();
        let mut steps = Steps::default();
        match self.store.load_webhook(account).await? {
            Some(webhook) => self.challenge(account, &webhook, &mut steps).await,
            None => steps.record_failure(
                "address",
                "the account has no webhook: choose one with PATCH /v1/account",
            ),
        }
        match steps.failure() {
            None => {
                self.store.verify_webhook(self.clock.now(), account).await?;
                self.notifier.notify_accounts(&[account]);
            }
            Some(reason) => self.store.record_webhook_failure(account, reason).await?,
        }
        self.accounts.invalidate(account);
        let elapsed_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        Ok(WebhookTest {
            ok: steps.failure().is_none(),
            steps: steps.0,
            elapsed_ms,
        })
    }

    async fn challenge(&self, account: AccountId, webhook: &Webhook, steps: &mut Steps) {
        let challenge: [u8; 32] = random_array();
        let now = self.clock.now();
        let call = WebhookCall::Challenge {
            timestamp: now,
            challenge: B64(challenge.to_vec()),
        };
        let body = serde_json::to_vec(&call).unwrap_or_default();
        let id = format!("{account}-challenge-{}", now.as_millis());
        let response = match self.webhooks.send(webhook, &id, now, body).await {
            Ok(response) => response,
            Err(error) => return steps.record_call_error(&error),
        };
        steps.record_success("address", "the relay may call this address");
        steps.record_success("call", "the endpoint responded");
        if response.status != 200 {
            let detail = format!(
                "the endpoint responded with {}, expected 200",
                response.status
            );
            return steps.record_failure("status", &detail);
        }
        steps.record_success("status", "200");
        if has_valid_proof(&response, webhook, &challenge) {
            steps.record_success("challenge", "the response is that of this account's node");
        } else {
            steps.record_failure(
                "challenge",
                "the response is not the one that this account's node would send",
            );
        }
    }
}

fn has_valid_proof(response: &Response, webhook: &Webhook, challenge: &[u8]) -> bool {
    serde_json::from_slice::<ChallengeResponse>(&response.body).is_ok_and(|given| {
        verify_challenge_response(&webhook.secret, challenge, given.answer.as_slice())
    })
}

/// Completed steps of a test.
#[derive(Default)]
struct Steps(Vec<WebhookTestStep>);

impl Steps {
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

    fn record_call_error(&mut self, error: &CallError) {
        match error {
            CallError::Url { .. } | CallError::Forbidden { .. } | CallError::Dns => {
                self.record_failure("address", &error.to_string());
            }
            CallError::Connect { .. }
            | CallError::Tls { .. }
            | CallError::Timeout
            | CallError::Http => {
                self.record_success("address", "the relay may call this address");
                self.record_failure("call", &error.to_string());
            }
        }
    }

    fn failure(&self) -> Option<String> {
        self.0
            .iter()
            .find(|step| !step.ok)
            .map(|step| format!("{}: {}", step.step, step.detail))
    }
}
