//! `POST /v1/accounts`: register.

use super::{
    ApiResult,
    auth::AnyKeyRequest,
    openapi::{ANY_KEY, JSON},
    problem, refusal_problem, require_space,
};
use crate::{
    openapi::problems, settings::LiveSettings, storage::Storage, store::NewAccount, store::Store,
};
use axum::extract::State;
use http::StatusCode;
use sealpost_proto::{
    AccountId, ErrorCode, WebhookSecret, WebhookUrl,
    wire::{DeliveryMode, RegisterRequest, Registered},
};
use sealpost_service::{
    Clock as _, SharedClock,
    http::{ProblemResponse, json_body},
    random_array,
};
use sha2::{Digest as _, Sha256};
use std::sync::Arc;

problems!(
    RegisterProblems: ANY_KEY, JSON;
    RegistrationClosed, RegistrationTokenInvalid, WebhookInvalid, AccountSuspended
);

/// Register an account
///
/// Creates the account of the signing key. If the key is already registered, the existing account
/// is returned and the rest of the request is ignored.
#[utoipa::path(
    post, path = "/v1/accounts", operation_id = "register_account", tag = "accounts",
    security(("account_key" = [])),
    request_body = RegisterRequest,
    responses(
        (status = 201, description = "The account was created", body = Registered),
        (status = 200, description = "The key was already registered", body = Registered),
        RegisterProblems,
    )
)]
pub(super) async fn register(
    State(store): State<Store>,
    State(settings): State<LiveSettings>,
    State(storage): State<Arc<Storage>>,
    State(clock): State<SharedClock>,
    signed: AnyKeyRequest,
) -> ApiResult {
    let request: RegisterRequest = signed.body.json()?;
    require_space(&storage, 0)?;
    let settings = settings.load();
    let new = NewAccount {
        account: AccountId::from_bytes(random_array()),
        key: signed.key,
        webhook_url: parse_webhook(&request.delivery)?,
        webhook_secret: WebhookSecret::from_bytes(random_array()),
        policy: settings.registration.policy,
        is_token_valid: settings.registration.is_valid(request.token.as_deref()),
        token_digest: request
            .token
            .as_deref()
            .map(|token| Sha256::digest(token).into()),
    };
    let registration = store
        .register(clock.now(), new)
        .await?
        .map_err(refusal_problem)?;
    if registration.is_new {
        tracing::info!("account registered");
    }
    let status = if registration.is_new {
        StatusCode::CREATED
    } else {
        StatusCode::OK
    };
    Ok(json_body(status, &registration.registered))
}

/// Parses the webhook URL of a delivery mode.
pub(super) fn parse_webhook(
    delivery: &DeliveryMode,
) -> Result<Option<WebhookUrl>, ProblemResponse> {
    let DeliveryMode::Webhook { url } = delivery else {
        return Ok(None);
    };
    WebhookUrl::parse(url)
        .map(Some)
        .map_err(|error| problem(ErrorCode::WebhookInvalid, error.to_string()))
}
