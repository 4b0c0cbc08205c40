//! The challenge by which a webhook shows that it is its account's, step by step, as `webhook-test` reports it.

use super::webhook;
use crate::{
    relay::Relay,
    store::{StoreError, Webhook},
};
use sealpost_egress::{Answer, CallError};
use sealpost_proto::{
    AccountId, B64,
    wire::{ChallengeAnswer, WebhookCall, WebhookTest, WebhookTestStep},
};
use sealpost_service::random_array;
use sealpost_signatures::webhook::verify_challenge;
use std::time::Instant;

/// Calls the account's webhook with a challenge. Success makes it active.
///
/// # Errors
/// [`StoreError`] when what was found could not be written down; a webhook that fails is no error.
pub(crate) async fn test(relay: &Relay, account: AccountId) -> Result<WebhookTest, StoreError> {
    let started = Instant::now();
    let mut steps = Steps::default();
    match relay.store.webhook(account).await? {
        Some(target) => challenge(relay, account, &target, &mut steps).await,
        None => steps.failed(
            "address",
            "the account has no webhook: choose one with PATCH /v1/account",
        ),
    }
    match steps.failure() {
        None => {
            relay.store.verified(relay.now(), account).await?;
            relay.wakes.wake(&[account]);
        }
        Some(reason) => relay.store.note_webhook(account, reason).await?,
    }
    relay.cache.forget(account);
    let elapsed_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    Ok(WebhookTest {
        ok: steps.failure().is_none(),
        steps: steps.0,
        elapsed_ms,
    })
}

async fn challenge(relay: &Relay, account: AccountId, target: &Webhook, steps: &mut Steps) {
    let challenge: [u8; 32] = random_array();
    let now = relay.now();
    let call = WebhookCall::Challenge {
        timestamp: now,
        challenge: B64(challenge.to_vec()),
    };
    let body = serde_json::to_vec(&call).unwrap_or_default();
    let id = format!("{account}-challenge-{}", now.as_millis());
    let answer = match webhook::send(relay, target, &id, now, body).await {
        Ok(answer) => answer,
        Err(error) => return steps.call_failed(&error),
    };
    steps.passed("address", "it may be called");
    steps.passed("call", "it answered");
    if answer.status != 200 {
        return steps.failed(
            "status",
            &format!("it answered {}, expected 200", answer.status),
        );
    }
    steps.passed("status", "200");
    if fits(&answer, target, &challenge) {
        steps.passed("challenge", "the answer is the one of this account's node");
    } else {
        steps.failed(
            "challenge",
            "the answer is not the one that this account's node would give",
        );
    }
}

fn fits(answer: &Answer, target: &Webhook, challenge: &[u8]) -> bool {
    serde_json::from_slice::<ChallengeAnswer>(&answer.body)
        .is_ok_and(|given| verify_challenge(&target.secret, challenge, given.answer.as_slice()))
}

/// The steps so far.
#[derive(Default)]
struct Steps(Vec<WebhookTestStep>);

impl Steps {
    fn passed(&mut self, step: &str, detail: &str) {
        self.0.push(WebhookTestStep {
            step: step.to_owned(),
            ok: true,
            detail: detail.to_owned(),
        });
    }

    fn failed(&mut self, step: &str, detail: &str) {
        self.0.push(WebhookTestStep {
            step: step.to_owned(),
            ok: false,
            detail: detail.to_owned(),
        });
    }

    fn call_failed(&mut self, error: &CallError) {
        match error {
            CallError::Url { .. } | CallError::Forbidden { .. } | CallError::Dns => {
                self.failed("address", &error.to_string());
            }
            CallError::Connect { .. }
            | CallError::Tls { .. }
            | CallError::Timeout
            | CallError::Http => {
                self.passed("address", "it may be called");
                self.failed("call", &error.to_string());
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
