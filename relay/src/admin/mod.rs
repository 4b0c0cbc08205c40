//! The operator's API, on a listener of its own that only this machine reaches, with a token that lies in the data folder.
//!
//! A file for each resource; [`model`] holds their JSON. `Host` and `Origin` are checked before anything else, so that no
//! page of another site gets an answer; then, but for the status page itself, the token. Nothing here shows the bytes of an
//! envelope, a webhook's path or a secret, and nothing decides: it asks the store. Start reading at [`router`].

mod accounts;
mod listen;
pub(crate) mod model;
mod page;
mod query;
mod queue;
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
    routing::{delete, get, post},
};
use sealpost_proto::ErrorCode;
use sealpost_service::http::{LocalGuard, ProblemResponse, with_problems};
use std::sync::Arc;

/// What a handler answers.
type Answer<T> = Result<T, ProblemResponse>;

/// All routes of the operator's listener.
pub(crate) fn router(relay: Arc<Relay>, guard: LocalGuard) -> Router {
    let guard = Arc::new(guard);
    let api = Router::new()
        .route("/admin/v1/stats", get(stats::show))
        .route("/admin/v1/accounts", get(accounts::list))
        .route("/admin/v1/accounts/{id}", get(accounts::show).merge(delete(accounts::remove)))
        .route("/admin/v1/accounts/{id}/suspend", post(accounts::suspend))
        .route("/admin/v1/accounts/{id}/resume", post(accounts::resume))
        .route("/admin/v1/tokens", get(tokens::list).merge(post(tokens::create)))
        .route("/admin/v1/tokens/{name}", delete(tokens::revoke))
        .route("/admin/v1/queues", get(queue::list))
        .route("/admin/v1/queues/retry", post(queue::retry_all))
        .route("/admin/v1/queues/{id}", get(queue::show).merge(delete(queue::drop_all)))
        .route("/admin/v1/queues/{id}/retry", post(queue::retry))
        .route("/admin/v1/envelopes/{id}", delete(queue::drop_envelope))
        .layer(from_fn_with_state(Arc::clone(&guard), check_token));
    with_problems(api.merge(page::routes())).layer(from_fn_with_state(guard, check_host)).with_state(relay)
}

async fn check_host(State(guard): State<Arc<LocalGuard>>, request: Request, next: Next) -> Response {
    if guard.is_local(request.headers()) {
        return next.run(request).await;
    }
    ProblemResponse::from(ErrorCode::HostForbidden).into_response()
}

async fn check_token(State(guard): State<Arc<LocalGuard>>, request: Request, next: Next) -> Response {
    if guard.is_authorized(request.headers()) {
        return next.run(request).await;
    }
    ProblemResponse::from(ErrorCode::AdminTokenInvalid).into_response()
}
