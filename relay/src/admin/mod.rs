//! The operator's API, on a listener of its own that only this machine reaches, with a token that lies in the data folder.
//!
//! A file for each resource; [`model`] holds their JSON. `Host` and `Origin` are checked before anything else, so that no
//! page of another site gets an answer; then, but for the status page itself and the metrics, the token. Nothing here shows the bytes of an
//! envelope, a webhook's path or a secret, and nothing decides: it asks the store. Start reading at [`router`].

mod accounts;
mod listen;
mod metrics;
pub(crate) mod model;
mod openapi;
mod page;
mod query;
mod queue;
mod quotas;
mod stats;
mod tokens;

pub(crate) use listen::{ADDRESS_FILE, AdminListener, TOKEN_FILE};
pub use listen::{AdminError, AdminListen};

use crate::relay::Relay;
use axum::{
    Router,
    extract::{Request, State},
    middleware::{Next, from_fn_with_state},
    response::{IntoResponse as _, Response},
    routing::get,
};
use sealpost_proto::ErrorCode;
use sealpost_service::http::{LocalGuard, ProblemResponse, with_problems};
use std::sync::Arc;
use utoipa_axum::{router::OpenApiRouter, routes};

/// What a handler answers.
type Answer<T> = Result<T, ProblemResponse>;

/// All routes of the operator's listener.
pub(crate) fn router(relay: Arc<Relay>, guard: LocalGuard) -> Router {
    let guard = Arc::new(guard);
    let api = Router::from(routes()).layer(from_fn_with_state(Arc::clone(&guard), check_token));
    let open = page::routes()
        .route("/admin/openapi.json", get(openapi::describe))
        .route("/metrics", get(metrics::show));
    with_problems(api.merge(open))
        .layer(from_fn_with_state(guard, check_host))
        .with_state(relay)
}

/// All routes that are described.
pub(crate) fn routes() -> OpenApiRouter<Arc<Relay>> {
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
