//! `POST /v1/session`: sign in.

use super::{
    ApiResult,
    auth::AccountKeyRequest,
    openapi::{ANY_KEY, KNOWN},
};
use crate::openapi::problems;
use axum::extract::State;
use http::StatusCode;
use sealpost_proto::{limits::SESSION_LIFETIME, wire::Session};
use sealpost_service::{Clock as _, SharedClock, http::json_body, random_array};
use sealpost_signatures::{RelaySecret, SessionId};

problems!(SignInProblems: ANY_KEY, KNOWN);

/// Sign in
///
/// Returns a session key that is valid for one hour.
#[utoipa::path(
    post, path = "/v1/session", operation_id = "sign_in", tag = "accounts",
    security(("account_key" = [])),
    responses((status = 200, description = "Session id and key", body = Session), SignInProblems)
)]
pub(super) async fn sign_in(
    State(secret): State<RelaySecret>,
    State(clock): State<SharedClock>,
    signed: AccountKeyRequest,
) -> ApiResult {
    let now = clock.now();
    let id = SessionId {
        account: signed.account.id,
        key_generation: signed.account.key_generation,
        expires_at: now.plus(SESSION_LIFETIME),
        random: random_array(),
    };
    let session = Session {
        session_id: id.to_string(),
        key: secret.session_key(&id),
        expires_at: id.expires_at,
        relay_time: now,
        webhook: Some(signed.account.webhook),
    };
    Ok(json_body(StatusCode::OK, &session))
}
