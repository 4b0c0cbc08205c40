//! `POST /v1/session`: sign in. Errors: `account_unknown`, `account_suspended`.

use super::{
    Answer,
    auth::ByAccountKey,
    openapi::{ANY_KEY, KNOWN},
};
use crate::{openapi::problems, relay::Relay};
use axum::extract::State;
use http::StatusCode;
use sealpost_proto::{limits::SESSION_LIFE, wire::Session};
use sealpost_service::{http::json_body, random_array};
use sealpost_signatures::SessionId;
use std::sync::Arc;

problems!(SignInProblems: ANY_KEY, KNOWN);

/// Sign in
///
/// Gives a key for the requests of the next hour. A new account key ends all sessions.
#[utoipa::path(
    post, path = "/v1/session", operation_id = "sign_in", tag = "accounts", security(("account_key" = [])),
    responses((status = 200, description = "A session", body = Session), SignInProblems)
)]
pub(super) async fn sign_in(State(relay): State<Arc<Relay>>, signed: ByAccountKey) -> Answer {
    let now = relay.now();
    let id = SessionId {
        account: signed.facts.account,
        key_generation: signed.facts.generation,
        expires_at: now.plus(SESSION_LIFE),
        random: random_array(),
    };
    let session = Session {
        session_id: id.to_string(),
        key: relay.secret.session_key(&id),
        expires_at: id.expires_at,
        relay_time: now,
    };
    Ok(json_body(StatusCode::OK, &session))
}
