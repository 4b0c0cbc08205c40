//! `POST /v1/accounts`: register. Errors: `registration_closed`, `registration_token_invalid`, `webhook_invalid`,
//! `account_suspended`.

use super::{
    Answer,
    auth::ByAnyKey,
    openapi::{ANY_KEY, JSON},
    problem, refusal,
};
use crate::{openapi::problems, relay::Relay, store::NewAccount};
use axum::extract::State;
use http::StatusCode;
use sealpost_proto::{
    AccountId, ErrorCode, WebhookSecret,
    wire::{DeliveryMode, RegisterRequest, Registered},
};
use sealpost_relay_core::registration;
use sealpost_service::{
    http::{ProblemResponse, json_body},
    random_array,
};
use sha2::{Digest as _, Sha256};
use std::sync::Arc;

problems!(RegisterProblems: ANY_KEY, JSON; RegistrationClosed, RegistrationTokenInvalid, WebhookInvalid, AccountSuspended);

/// Register an account
///
/// The account is the one of the signing key. A known key is answered as before, whatever else the request says.
#[utoipa::path(
    post, path = "/v1/accounts", operation_id = "register_account", tag = "accounts", security(("account_key" = [])),
    request_body = RegisterRequest,
    responses(
        (status = 201, description = "The account is registered", body = Registered),
        (status = 200, description = "The key was known", body = Registered),
        RegisterProblems,
    )
)]
pub(super) async fn register(State(relay): State<Arc<Relay>>, signed: ByAnyKey) -> Answer {
    let request: RegisterRequest = signed.body.json()?;
    relay.admit(0)?;
    let rules = relay.rules();
    let new = NewAccount {
        account: AccountId::from_bytes(random_array()),
        key: signed.key,
        webhook_url: webhook_url(request.delivery)?,
        webhook_secret: WebhookSecret::from_bytes(random_array()),
        policy: rules.registration.policy,
        token_good: rules.registration.is_good(request.token.as_deref()),
        token_digest: request
            .token
            .as_deref()
            .map(|token| Sha256::digest(token).into()),
    };
    let registration = relay
        .store
        .register(relay.now(), new)
        .await?
        .map_err(refusal)?;
    if registration.created {
        tracing::info!("an account was registered");
    }
    let status = if registration.created {
        StatusCode::CREATED
    } else {
        StatusCode::OK
    };
    Ok(json_body(status, &registration.registered))
}

/// The webhook's URL of a way of delivery, looked at.
pub(super) fn webhook_url(delivery: DeliveryMode) -> Result<Option<String>, ProblemResponse> {
    let DeliveryMode::Webhook { url } = delivery else {
        return Ok(None);
    };
    registration::webhook_url(&url)
        .map_err(|error| problem(ErrorCode::WebhookInvalid, error.to_string()))?;
    match url::Url::parse(&url) {
        Ok(parsed) if parsed.has_host() => Ok(Some(url)),
        Ok(_) | Err(_) => Err(problem(
            ErrorCode::WebhookInvalid,
            "the webhook's URL does not parse",
        )),
    }
}
