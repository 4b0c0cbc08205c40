//! `/admin/v1/tokens`: registration tokens. Errors: `conflict` when the name is in use, `quota_exceeded`, `not_found`.

use super::{
    Answer,
    model::{CreatedToken, NewToken, Tokens},
    openapi::{COMMON, WRITES},
    query::{Named, Params, malformed, page_items},
};
use crate::{http::passing_problem, openapi::problems, relay::Relay, store::NewRegistrationToken};
use axum::{extract::State, response::Response};
use http::StatusCode;
use sealpost_proto::{
    ErrorCode, Problem, b64,
    limits::{REGISTRATION_TOKEN_LIFE_MAX, TOKEN_NAME_CHARS_MAX},
};
use sealpost_service::{
    http::{Json, ProblemResponse, json_body},
    random_array,
};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use std::{sync::Arc, time::Duration};

/// What every token begins with, so that it is recognised where it should not be.
const TOKEN_PREFIX: &str = "sealpost_rt_";

/// Which tokens.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct List {
    /// The cursor: `next` of the page before.
    after: Option<String>,
    /// Tokens on the page, 100 by default, 500 at most.
    limit: Option<u32>,
}

problems!(ListProblems: COMMON);

/// List registration tokens
#[utoipa::path(
    get, path = "/admin/v1/tokens", operation_id = "list_tokens", tag = "tokens", security(("token" = [])),
    params(List),
    responses((status = 200, description = "A page, by name", body = Tokens), ListProblems)
)]
pub(super) async fn list(
    State(relay): State<Arc<Relay>>,
    Params(query): Params<List>,
) -> Answer<Json<Tokens>> {
    Ok(Json(
        relay
            .store
            .tokens(relay.now(), query.after, page_items(query.limit))
            .await?,
    ))
}

problems!(CreateProblems: COMMON, WRITES; UnsupportedMediaType, TooLarge, Conflict, QuotaExceeded);

/// Make a registration token
///
/// Makes a token and shows it, once.
#[utoipa::path(
    post, path = "/admin/v1/tokens", operation_id = "create_token", tag = "tokens", security(("token" = [])),
    request_body = NewToken,
    responses((status = 201, description = "The token, shown this once", body = CreatedToken), CreateProblems)
)]
pub(super) async fn create(
    State(relay): State<Arc<Relay>>,
    Json(new): Json<NewToken>,
) -> Answer<Response> {
    let now = relay.now();
    if !is_name(&new.name) {
        return Err(malformed(format!(
            "a token's name has 1 to {TOKEN_NAME_CHARS_MAX} letters, digits, '-', '_' and '.', and begins with a letter or digit"
        )));
    }
    if new.uses == Some(0) || new.life_ms == Some(0) {
        return Err(malformed(
            "a token is good for one account at least, and for some time",
        ));
    }
    let token = format!("{TOKEN_PREFIX}{}", b64::encode(&random_array::<32>()));
    let life = new.life_ms.map(Duration::from_millis);
    let kept = NewRegistrationToken {
        name: new.name,
        digest: Sha256::digest(&token).into(),
        uses: new.uses,
        expires_at: life.map(|life| now.plus(life.min(REGISTRATION_TOKEN_LIFE_MAX))),
    };
    let kept = relay
        .store
        .create_token(now, kept)
        .await?
        .map_err(refusal)?;
    tracing::info!(name = kept.name, "the operator made a registration token");
    Ok(json_body(
        StatusCode::CREATED,
        &CreatedToken { token, kept },
    ))
}

problems!(RevokeProblems: COMMON, WRITES; NotFound);

/// Revoke a registration token
///
/// Revokes a token: nobody registers with it any more. Accounts that did stay.
#[utoipa::path(
    delete, path = "/admin/v1/tokens/{name}", operation_id = "revoke_token", tag = "tokens", security(("token" = [])),
    params(("name" = String, Path, description = "What the operator calls it")),
    responses((status = 204, description = "It is revoked"), RevokeProblems)
)]
pub(super) async fn revoke(
    State(relay): State<Arc<Relay>>,
    Named(name): Named<String>,
) -> Answer<StatusCode> {
    if !relay.store.revoke_token(name).await? {
        return Err(Problem::new(ErrorCode::NotFound, "no token has this name").into());
    }
    tracing::info!("the operator revoked a registration token");
    Ok(StatusCode::NO_CONTENT)
}

fn is_name(name: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    name.len() <= TOKEN_NAME_CHARS_MAX
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.chars().all(fits)
}

fn refusal(code: ErrorCode) -> ProblemResponse {
    match code {
        ErrorCode::Conflict => Problem::new(code, "a token of this name exists already").into(),
        code => passing_problem(code),
    }
}
