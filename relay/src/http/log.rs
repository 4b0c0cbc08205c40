//! Logging and metrics of requests: method, matched route, status and duration. Paths, queries,
//! headers and bodies are never logged, because they identify accounts and mailboxes.

use crate::metrics::Metrics;
use axum::{
    extract::{MatchedPath, Request, State},
    middleware::Next,
    response::Response,
};
use std::{sync::Arc, time::Instant};

pub(super) async fn log(
    State(metrics): State<Arc<Metrics>>,
    request: Request,
    next: Next,
) -> Response {
    let started = Instant::now();
    let method = request.method().clone();
    let route = request.extensions().get::<MatchedPath>().cloned();
    let response = next.run(request).await;
    metrics.record_request(
        route.as_ref().map(MatchedPath::as_str),
        response.status(),
        started.elapsed(),
    );
    let status = response.status().as_u16();
    let route = route.as_ref().map_or("unknown", MatchedPath::as_str);
    let elapsed_us = started.elapsed().as_micros();
    if status >= 500 && status != 501 {
        tracing::warn!(%method, route, status, elapsed_us, "request failed");
    } else {
        tracing::debug!(%method, route, status, elapsed_us, "request handled");
    }
    response
}
