//! The routes of the local API, a file for each resource.

mod attachments;
mod chats;
mod connections;
mod events;
mod guard;
mod invites;
mod mailboxes;
mod messages;
mod monitoring;
mod node;
mod page;

use super::{
    problem::{Problem, ProblemCode},
    state::ApiState,
};
use crate::{
    daemon::{LocalApiRouters, NodeComponents},
    fault::Fault,
};
use axum::{
    Router,
    extract::{FromRequest, FromRequestParts, Query, Request, State, rejection::QueryRejection},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use http::request::Parts;
use page::{page, page_items, page_with_cursors, parse_cursor};
use sealpost_proto::limits;
use sealpost_service::{
    fair_pool::FairPool,
    http::{
        BodyReader, LocalGuard, body_bytes_max, has_valid_encoding, hold_response_memory,
        parse_json,
    },
};
use serde::de::DeserializeOwned;
use std::{str::FromStr, sync::Arc};

/// Builds the routers of the local API, for clients that present `token`.
pub(crate) fn routers(components: NodeComponents, token: &str) -> LocalApiRouters {
    let address = components.run_info.address;
    let memory = limits::LOCAL_RESPONSE_MEMORY_BYTES_MAX;
    let responses = FairPool::of_memory(memory, memory);
    let router = |guard: LocalGuard| {
        let guard = Arc::new(guard);
        let api = guard::require_token(api(), Arc::clone(&guard));
        guard::require_local(
            complete(api.merge(monitoring::routes()), responses.clone()),
            guard,
        )
    };
    let state = ApiState::new(components);
    LocalApiRouters {
        tcp: router(LocalGuard::new(token, address)).with_state(state.clone()),
        unix_socket: router(LocalGuard::for_unix_socket(token)).with_state(state),
    }
}

/// Returns the routes that need the token.
fn api() -> Router<ApiState> {
    Router::new()
        .route("/v1/node", get(node::show))
        .route("/v1/node/acknowledge", post(node::acknowledge))
        .route("/v1/node/recover", post(node::recover))
        .route("/v1/mailboxes/unknown", get(mailboxes::list_unknown))
        .route(
            "/v1/mailboxes/unknown/{id}",
            axum::routing::delete(mailboxes::close_unknown),
        )
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
        .route(
            "/v1/connections/{id}/acknowledge",
            post(connections::acknowledge),
        )
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
        .method_not_allowed_fallback(|| async { Problem::from(ProblemCode::MethodNotAllowed) })
}

/// Adds the checks and limits of all requests.
fn complete(router: Router<ApiState>, responses: FairPool) -> Router<ApiState> {
    router
        .layer(middleware::from_fn(refuse_invalid_encoding))
        .layer(middleware::from_fn_with_state(responses, hold_memory))
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

impl<T: DeserializeOwned> FromRequest<ApiState> for Body<T> {
    type Rejection = ErrorResponse;

    async fn from_request(request: Request, state: &ApiState) -> Result<Self, ErrorResponse> {
        let (parts, body) = request.into_parts();
        let bytes_max = body_bytes_max(&parts.headers, &body, limits::LOCAL_JSON_BYTES_MAX);
        let permit = state.request_memory.reserve_bytes(None, bytes_max).await;
        let permit = permit.ok_or_else(overloaded)?;
        let reader = BodyReader::new(&parts.headers, body, limits::LOCAL_JSON_BYTES_MAX);
        let bytes = async { reader?.with_permit(permit).read_to_end().await };
        let bytes = bytes.await.map_err(|error| malformed(&error.detail))?;
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

async fn refuse_invalid_encoding(request: Request, next: Next) -> Response {
    if has_valid_encoding(request.uri()) {
        return next.run(request).await;
    }
    malformed("the path or the query is not valid percent-encoding of UTF-8").into_response()
}

/// Reserves the memory of each response until it is sent.
async fn hold_memory(State(pool): State<FairPool>, request: Request, next: Next) -> Response {
    let response = next.run(request).await;
    let held = hold_response_memory(&pool, None, response).await;
    held.unwrap_or_else(|| overloaded().into_response())
}

fn overloaded() -> ErrorResponse {
    let detail = "too many requests are in progress, or their responses are not read";
    ErrorResponse(Problem::new(ProblemCode::Unavailable, detail))
}

fn malformed(detail: &str) -> ErrorResponse {
    ErrorResponse(Problem::new(ProblemCode::Malformed, detail.to_owned()))
}
