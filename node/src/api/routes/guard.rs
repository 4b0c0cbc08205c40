//! Access to the local API: clients on this machine with the token, and no page of another site.

use crate::api::problem::{Problem, ProblemCode};
use axum::{
    Router,
    extract::{Request, State},
    middleware::{Next, from_fn_with_state},
    response::{IntoResponse as _, Response},
};
use sealpost_service::http::LocalGuard;
use std::sync::Arc;

/// Lets only requests that the guard accepts reach the router.
pub(super) fn protect(router: Router, guard: LocalGuard) -> Router {
    router.layer(from_fn_with_state(Arc::new(guard), check))
}

async fn check(State(guard): State<Arc<LocalGuard>>, request: Request, next: Next) -> Response {
    if !guard.is_local(&request) {
        return Problem::from(ProblemCode::ForbiddenHost).into_response();
    }
    if !guard.is_authorized(request.headers()) {
        return Problem::from(ProblemCode::Unauthorized).into_response();
    }
    next.run(request).await
}
