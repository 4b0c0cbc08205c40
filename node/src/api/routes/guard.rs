//! Access to the local API: clients on this machine with the token, and no page of another site.

use crate::api::{
    problem::{Problem, ProblemCode},
    state::ApiState,
};
use axum::{
    Router,
    extract::{Request, State},
    middleware::{Next, from_fn_with_state},
    response::{IntoResponse as _, Response},
};
use sealpost_service::http::LocalGuard;
use std::sync::Arc;

/// Lets only requests that are meant for this listener reach the router.
pub(super) fn require_local(router: Router<ApiState>, guard: Arc<LocalGuard>) -> Router<ApiState> {
    router.layer(from_fn_with_state(guard, check_host))
}

/// Lets only requests with the token reach the router.
pub(super) fn require_token(router: Router<ApiState>, guard: Arc<LocalGuard>) -> Router<ApiState> {
    router.layer(from_fn_with_state(guard, check_token))
}

async fn check_host(
    State(guard): State<Arc<LocalGuard>>,
    request: Request,
    next: Next,
) -> Response {
    if !guard.is_local(&request) {
        return Problem::from(ProblemCode::ForbiddenHost).into_response();
    }
    next.run(request).await
}

async fn check_token(
    State(guard): State<Arc<LocalGuard>>,
    request: Request,
    next: Next,
) -> Response {
    if !guard.is_authorized(request.headers()) {
        return Problem::from(ProblemCode::Unauthorized).into_response();
    }
    next.run(request).await
}
