//! `POST /v1/accounts`: register. Errors: `registration_closed`, `registration_token_invalid`, `webhook_invalid`.

use super::{Answer, auth::ByAnyKey, problem, refusal};
use crate::{relay::Relay, store::NewAccount};
use axum::extract::State;
use http::StatusCode;
use sealpost_proto::{
    AccountId, ErrorCode, WebhookSecret,
    wire::{DeliveryMode, RegisterRequest},
};
use sealpost_relay_core::registration;
use sealpost_service::{
    http::{ProblemResponse, json_body},
    random_array,
};
use std::sync::Arc;

pub(super) async fn register(State(relay): State<Arc<Relay>>, signed: ByAnyKey) -> Answer {
    let request: RegisterRequest = signed.body.json()?;
    let rules = relay.rules();
    let new = NewAccount {
        account: AccountId::from_bytes(random_array()),
        key: signed.key,
        webhook_url: webhook_url(request.delivery)?,
        webhook_secret: WebhookSecret::from_bytes(random_array()),
        policy: rules.registration.policy,
        token_good: rules.registration.is_good(request.token.as_deref()),
    };
    let registration = relay.store.register(relay.now(), new).await?.map_err(refusal)?;
    if registration.created {
        tracing::info!("an account was registered");
    }
    let status = if registration.created { StatusCode::CREATED } else { StatusCode::OK };
    Ok(json_body(status, &registration.registered))
}

/// The webhook's URL of a way of delivery, looked at.
pub(super) fn webhook_url(delivery: DeliveryMode) -> Result<Option<String>, ProblemResponse> {
    let DeliveryMode::Webhook { url } = delivery else { return Ok(None) };
    registration::webhook_url(&url).map_err(|error| problem(ErrorCode::WebhookInvalid, error.to_string()))?;
    match url::Url::parse(&url) {
        Ok(parsed) if parsed.has_host() => Ok(Some(url)),
        Ok(_) | Err(_) => Err(problem(ErrorCode::WebhookInvalid, "the webhook's URL does not parse")),
    }
}
