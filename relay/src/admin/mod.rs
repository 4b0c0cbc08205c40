//! Admin API of the relay, on a separate listener that only this machine can reach, with a token
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
pub(crate) use listen::{ADDRESS_FILE, AdminListener, TOKEN_FILE};
pub(crate) use state::AdminParts;

use axum::{
    Router,
    extract::{Request, State},
    middleware::{Next, from_fn_with_state},
    response::{IntoResponse as _, Response},
    routing::get,
};
use sealpost_proto::ErrorCode;
use sealpost_service::http::{LocalGuard, ProblemResponse, with_problems};
use state::AdminState;
use std::sync::Arc;
use utoipa_axum::{router::OpenApiRouter, routes};

/// Result of a handler.
type ApiResult<T> = Result<T, ProblemResponse>;

/// Returns the router of the admin listener.
pub(crate) fn router(parts: AdminParts, guard: LocalGuard) -> Router {
    let guard = Arc::new(guard);
    let api = Router::from(routes()).layer(from_fn_with_state(Arc::clone(&guard), check_token));
    let open = page::routes()
        .route("/admin/openapi.json", get(openapi::describe))
        .route("/metrics", get(metrics::show));
    with_problems(api.merge(open))
        .layer(from_fn_with_state(guard, check_host))
        .with_state(AdminState::new(parts))
}

/// Returns all routes of the OpenAPI document.
pub(crate) fn routes() -> OpenApiRouter<AdminState> {
    OpenApiRouter::with_openapi(openapi::empty())
        .routes(routes!(stats::show))
        .routes(routes!(accounts::list))
        .routes(routes!(accounts::show, accounts::remove))
        .routes(routes!(accounts::suspend))
        .routes(routes!(accounts::resume))
        .routes(routes!(quotas::show, quotas::set))
        .routes(routes!(tokens::list, tokens::create))
        .routes(routes!(tokens::revoke))
        .routes(routes!(queue::list))
        .routes(routes!(queue::retry_all))
        .routes(routes!(queue::show, queue::drop_all))
        .routes(routes!(queue::retry))
        .routes(routes!(queue::drop_envelope))
}

async fn check_host(
    State(guard): State<Arc<LocalGuard>>,
    request: Request,
    next: Next,
) -> Response {
    if guard.is_local(request.headers()) {
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
