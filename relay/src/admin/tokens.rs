//! `/admin/v1/tokens`: create, list and revoke registration tokens.

use super::{
    ApiResult,
    model::{CreatedToken, NewToken, Tokens},
    openapi::{COMMON, WRITES},
    query::{PathParam, QueryParams, malformed, page_size},
};
use crate::{
    http::retryable_problem,
    openapi::problems,
    store::{NewRegistrationToken, Store},
};
use axum::{extract::State, response::Response};
use http::StatusCode;
use sealpost_proto::{
    ErrorCode, Problem, b64,
    limits::{REGISTRATION_TOKEN_LIFETIME_MAX, TOKEN_NAME_CHARS_MAX},
};
use sealpost_service::{
    Clock as _, SharedClock,
    http::{Json, ProblemResponse, json_body},
    random_array,
};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use std::time::Duration;

/// Prefix of every token, so that secret scanners recognise one that leaked.
const TOKEN_PREFIX: &str = "sealpost_rt_";

/// Query parameters of the list.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct ListQuery {
    /// Cursor: `next` of the previous page.
    after: Option<String>,
    /// Tokens per page: 100 by default, at most 500.
    limit: Option<u32>,
}

problems!(ListProblems: COMMON);

/// List registration tokens
#[utoipa::path(
    get, path = "/admin/v1/tokens", operation_id = "list_tokens", tag = "tokens",
    security(("token" = [])),
    params(ListQuery),
    responses(
        (status = 200, description = "Page of tokens, ordered by name", body = Tokens),
        ListProblems
    )
)]
pub(super) async fn list(
    State(store): State<Store>,
    State(clock): State<SharedClock>,
    QueryParams(query): QueryParams<ListQuery>,
) -> ApiResult<Json<Tokens>> {
    let page = store
        .list_tokens(query.after, page_size(query.limit))
        .await?;
    Ok(Json(Tokens::new(clock.now(), page)))
}

problems!(CreateProblems: COMMON, WRITES; UnsupportedMediaType, TooLarge, Conflict, QuotaExceeded);

/// Create a registration token
///
/// The response is the only one that contains the token.
#[utoipa::path(
    post, path = "/admin/v1/tokens", operation_id = "create_token", tag = "tokens",
    security(("token" = [])),
    request_body = NewToken,
    responses(
        (status = 201, description = "The token, which is not shown again", body = CreatedToken),
        CreateProblems
    )
)]
pub(super) async fn create(
    State(store): State<Store>,
    State(clock): State<SharedClock>,
    Json(new): Json<NewToken>,
) -> ApiResult<Response> {
    let now = clock.now();
    if !is_valid_name(&new.name) {
        return Err(malformed(format!(
            "a token name must have 1 to {TOKEN_NAME_CHARS_MAX} letters, digits, '-', '_' and \
             '.', and start with a letter or digit"
        )));
    }
    if new.uses == Some(0) || new.lifetime_ms == Some(0) {
        return Err(malformed("uses and lifetime_ms must be greater than 0"));
    }
    let token = format!("{TOKEN_PREFIX}{}", b64::encode(&random_array::<32>()));
    let lifetime = new.lifetime_ms.map(Duration::from_millis);
    let registration = NewRegistrationToken {
        name: new.name,
        digest: Sha256::digest(&token).into(),
        uses_max: new.uses,
        expires_at: lifetime
            .map(|lifetime| now.plus(lifetime.min(REGISTRATION_TOKEN_LIFETIME_MAX))),
    };
    let details = store
        .create_token(now, registration)
        .await?
        .map_err(refusal_problem)?;
    tracing::info!(
        name = details.name,
        "registration token created by the operator"
    );
    Ok(json_body(
        StatusCode::CREATED,
        &CreatedToken {
            token,
            details: details.into(),
        },
    ))
}

problems!(RevokeProblems: COMMON, WRITES; NotFound);

/// Revoke a registration token
///
/// The token can no longer be used for registration. Accounts registered with it are kept.
#[utoipa::path(
    delete, path = "/admin/v1/tokens/{name}", operation_id = "revoke_token", tag = "tokens",
    security(("token" = [])),
    params(("name" = String, Path, description = "Name of the token")),
    responses((status = 204, description = "The token is revoked"), RevokeProblems)
)]
pub(super) async fn revoke(
    State(store): State<Store>,
    PathParam(name): PathParam<String>,
) -> ApiResult<StatusCode> {
    if !store.revoke_token(name).await? {
        return Err(Problem::new(ErrorCode::NotFound, "there is no token with this name").into());
    }
    tracing::info!("registration token revoked by the operator");
    Ok(StatusCode::NO_CONTENT)
}

fn is_valid_name(name: &str) -> bool {
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    name.len() <= TOKEN_NAME_CHARS_MAX
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.chars().all(is_allowed)
}

fn refusal_problem(code: ErrorCode) -> ProblemResponse {
    match code {
        ErrorCode::Conflict => Problem::new(code, "a token with this name already exists").into(),
        code => retryable_problem(code),
    }
}
