//! Admin API of the relay, on separate listeners that only this machine can reach, with a token
//! from the data directory.
//!
//! There is one file per resource. `Host` and `Origin` are checked first, so that pages of other
//! sites get no response. Then the token is checked, except for the status page itself, its OpenAPI
//! document and the metrics. No route returns the content of an envelope, the path of a webhook or
//! a secret. Handlers contain no logic of their own; they call the store. Start reading at
//! [`router`].

mod accounts;
mod listen;
mod metrics;
pub(crate) mod model;
mod openapi;
mod page;
mod query;
mod queue;
mod quotas;
mod state;
mod stats;
mod summaries;
mod tokens;

pub use listen::AdminError;
pub(crate) use listen::{ADDRESS_FILE, AdminListeners, SOCKET_FILE, TOKEN_FILE};
pub(crate) use state::AdminParts;

use axum::{
    Router,
    extract::{Request, State},
    middleware::{Next, from_fn_with_state},
    response::{IntoResponse as _, Response},
    routing::get,
};
use sealpost_proto::{ErrorCode, limits::ADMIN_MEMORY_BYTES_MAX};
use sealpost_service::{
    fair_pool::FairPool,
    http::{LocalGuard, ProblemResponse, hold_response_memory, with_problems},
};
use state::AdminState;
use std::sync::Arc;
use utoipa_axum::{router::OpenApiRouter, routes};

/// Result of a handler.
type ApiResult<T> = Result<T, ProblemResponse>;

/// Returns the router of the admin API, which [`check_hosts`] completes for each listener. All
/// their guards check the same token.
pub(crate) fn router(parts: AdminParts, guard: LocalGuard) -> Router {
    let guard = Arc::new(guard);
    let memory = FairPool::of_memory(ADMIN_MEMORY_BYTES_MAX, ADMIN_MEMORY_BYTES_MAX);
    let api = Router::from(routes()).layer(from_fn_with_state(guard, check_token));
    let open = page::routes()
        .route("/admin/openapi.json", get(openapi::describe))
        .route("/metrics", get(metrics::show));
    with_problems(api.merge(open))
        .layer(from_fn_with_state(memory, hold_memory))
        .with_state(AdminState::new(parts))
}

/// Lets the router serve only requests that are meant for the listener of the guard.
pub(crate) fn check_hosts(router: Router, guard: LocalGuard) -> Router {
    router.layer(from_fn_with_state(Arc::new(guard), check_host))
}

/// Returns all routes of the OpenAPI document.
pub(crate) fn routes() -> OpenApiRouter<AdminState> {
    OpenApiRouter::with_openapi(openapi::empty())
        .routes(routes!(stats::show))
        .routes(routes!(accounts::list))
        .routes(routes!(accounts::show, accounts::delete))
        .routes(routes!(accounts::suspend))
        .routes(routes!(accounts::resume))
        .routes(routes!(accounts::set_label))
        .routes(routes!(quotas::show, quotas::set))
        .routes(routes!(tokens::list, tokens::create))
        .routes(routes!(tokens::revoke))
        .routes(routes!(queue::list))
        .routes(routes!(queue::retry_all))
        .routes(routes!(queue::show, queue::drop_all))
        .routes(routes!(queue::retry))
        .routes(routes!(queue::drop_envelope))
}

/// Reserves the memory of each response until it is sent.
async fn hold_memory(State(pool): State<FairPool>, request: Request, next: Next) -> Response {
    let response = next.run(request).await;
    let held = hold_response_memory(&pool, None, response).await;
    held.unwrap_or_else(|| ProblemResponse::from(ErrorCode::Overloaded).into_response())
}

async fn check_host(
    State(guard): State<Arc<LocalGuard>>,
    request: Request,
    next: Next,
) -> Response {
    if guard.is_local(&request) {
        return next.run(request).await;
    }
    ProblemResponse::from(ErrorCode::HostForbidden).into_response()
}

async fn check_token(
    State(guard): State<Arc<LocalGuard>>,
    request: Request,
    next: Next,
) -> Response {
    if guard.is_authorized(request.headers()) {
        return next.run(request).await;
    }
    ProblemResponse::from(ErrorCode::AdminTokenInvalid).into_response()
}
