//! The routes of the local API, a file for each resource.

mod attachments;
mod chats;
mod connections;
mod events;
mod guard;
mod invites;
mod messages;
mod node;

use super::{
    model::Page,
    problem::{Problem, ProblemCode},
    state::ApiState,
};
use crate::{daemon::NodeParts, fault::Fault};
use axum::{
    Router,
    extract::{FromRequest, FromRequestParts, Query, Request, rejection::QueryRejection},
    middleware,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use http::request::Parts;
use sealpost_proto::limits;
use sealpost_service::http::{LocalGuard, parse_json, read_body};
use serde::de::DeserializeOwned;
use std::{str::FromStr, sync::Arc};

/// Builds the router of the local API, for clients that present `token`.
pub(crate) fn router(parts: NodeParts, token: &str) -> Router {
    let guard = LocalGuard::new(token, parts.run_info.address);
    Router::new()
        .route("/v1/node", get(node::show))
        .route("/v1/invites", get(invites::list).post(invites::create))
        .route("/v1/invites/{id}", axum::routing::delete(invites::revoke))
        .route(
            "/v1/connections",
            get(connections::list).post(connections::connect),
        )
        .route("/v1/connections/{id}", get(connections::show))
        .route("/v1/connections/{id}/accept", post(connections::accept))
        .route("/v1/connections/{id}/reject", post(connections::reject))
        .route("/v1/connections/{id}/block", post(connections::block))
        .route(
            "/v1/connections/{id}/safety-number",
            get(connections::safety_number),
        )
        .route("/v1/connections/{id}/verify", post(connections::verify))
        .route("/v1/chats", get(chats::list))
        .route("/v1/chats/{id}", get(chats::show))
        .route(
            "/v1/attachments",
            get(attachments::list).post(attachments::stage),
        )
        .route(
            "/v1/attachments/{id}",
            get(attachments::show).delete(attachments::remove),
        )
        .route("/v1/attachments/{id}/content", get(attachments::content))
        .route("/v1/attachments/{id}/download", post(attachments::download))
        .route("/v1/attachments/{id}/cancel", post(attachments::cancel))
        .route(
            "/v1/attachments/{id}/preview",
            get(attachments::show_preview),
        )
        .route("/v1/messages", get(messages::list).post(messages::send))
        .route("/v1/messages/{id}", get(messages::show))
        .route("/v1/messages/{id}/read", post(messages::mark_read))
        .route("/v1/events", get(events::stream))
        .fallback(|| async { Problem::new(ProblemCode::NotFound, "there is no such path") })
        .layer(middleware::from_fn_with_state(
            Arc::new(guard),
            guard::check,
        ))
        .with_state(ApiState::new(parts))
}

/// Error response of a handler.
pub(crate) struct ErrorResponse(Problem);

/// Response of a handler.
pub(crate) type ApiResult<T> = Result<T, ErrorResponse>;

impl From<Problem> for ErrorResponse {
    fn from(problem: Problem) -> Self {
        Self(problem)
    }
}

impl From<Fault> for ErrorResponse {
    fn from(fault: Fault) -> Self {
        Self(fault.into())
    }
}

impl IntoResponse for ErrorResponse {
    fn into_response(self) -> Response {
        self.0.into_response()
    }
}

/// JSON body within the size limit of the local API.
pub(crate) struct Body<T>(T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Body<T> {
    type Rejection = ErrorResponse;

    async fn from_request(request: Request, _state: &S) -> Result<Self, ErrorResponse> {
        let (parts, body) = request.into_parts();
        let bytes = read_body(&parts.headers, body, limits::LOCAL_JSON_BYTES_MAX)
            .await
            .map_err(|error| malformed(&error.detail))?;
        parse_json(&parts.headers, &bytes)
            .map(Self)
            .map_err(|error| malformed(&error.detail))
    }
}

/// Query parameters of a request.
pub(crate) struct Params<T>(T);

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for Params<T> {
    type Rejection = ErrorResponse;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ErrorResponse> {
        let query: Result<Query<T>, QueryRejection> = Query::from_request_parts(parts, state).await;
        query
            .map(|Query(value)| Self(value))
            .map_err(|error| malformed(&error.body_text()))
    }
}

/// Parses an id from a path or a body. Text that is not an id names nothing.
///
/// # Errors
/// Refuses with `not_found`.
fn parse_id<I: FromStr>(noun: &str, text: &str) -> Result<I, Fault> {
    text.trim()
        .parse()
        .map_err(|_| Fault::not_found(noun, format_args!("{text:?}")))
}

fn malformed(detail: &str) -> ErrorResponse {
    ErrorResponse(Problem::new(ProblemCode::Malformed, detail.to_owned()))
}

/// Returns the page size: the requested one within the limits.
fn page_items(limit: Option<u32>) -> i64 {
    let limit = limit.unwrap_or(limits::PAGE_ITEMS_DEFAULT);
    i64::from(limit.clamp(1, limits::PAGE_ITEMS_MAX))
}

/// Parses the cursor of a list.
fn parse_cursor(after: Option<&str>) -> ApiResult<Option<i64>> {
    after
        .map(str::parse)
        .transpose()
        .map_err(|_| malformed("the cursor is invalid"))
}

/// Builds a page, with the cursor of the next one if this one is full.
fn page<T>(items: Vec<T>, limit: i64, cursor: impl FnOnce(&T) -> String) -> Page<T> {
    let is_full = i64::try_from(items.len()).is_ok_and(|len| len == limit);
    let next = if is_full {
        items.last().map(cursor)
    } else {
        None
    };
    Page { items, next }
}
