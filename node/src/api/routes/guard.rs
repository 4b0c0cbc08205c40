//! Access to the local API: clients on this machine with the token, and no page of another site.

use crate::api::problem::{Problem, ProblemCode};
use axum::{
    extract::{Request, State},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use sealpost_service::http::LocalGuard;
use std::sync::Arc;

/// Passes a request on, or refuses it.
pub(super) async fn check(
    State(guard): State<Arc<LocalGuard>>,
    request: Request,
    next: Next,
) -> Response {
    if !guard.is_local(request.headers()) {
        return Problem::from(ProblemCode::ForbiddenHost).into_response();
    }
    if !guard.is_authorized(request.headers()) {
        return Problem::from(ProblemCode::Unauthorized).into_response();
    }
    next.run(request).await
}
