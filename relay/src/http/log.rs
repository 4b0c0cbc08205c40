//! One line for each request: method, the route that matched, status and time. Never a path, a query, a header or a body.

use axum::{
    extract::{MatchedPath, Request},
    middleware::Next,
    response::Response,
};
use std::time::Instant;

pub(super) async fn log(request: Request, next: Next) -> Response {
    let started = Instant::now();
    let method = request.method().clone();
    let route = request.extensions().get::<MatchedPath>().cloned();
    let response = next.run(request).await;
    let status = response.status().as_u16();
    let route = route.as_ref().map_or("unknown", MatchedPath::as_str);
    let elapsed_us = started.elapsed().as_micros();
    if status >= 500 && status != 501 {
        tracing::warn!(%method, route, status, elapsed_us, "answered");
    } else {
        tracing::debug!(%method, route, status, elapsed_us, "answered");
    }
    response
}
