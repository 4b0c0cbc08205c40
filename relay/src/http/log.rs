//! One line and one count for each request: method, the route that matched, status and time. Never a path, a query, a header or a body.

use crate::relay::Relay;
use axum::{
    extract::{MatchedPath, Request, State},
    middleware::Next,
    response::Response,
};
use std::{sync::Arc, time::Instant};

pub(super) async fn log(State(relay): State<Arc<Relay>>, request: Request, next: Next) -> Response {
    let started = Instant::now();
    let method = request.method().clone();
    let route = request.extensions().get::<MatchedPath>().cloned();
    let response = next.run(request).await;
    relay.metrics.answered(
        route.as_ref().map(MatchedPath::as_str),
        response.status(),
        started.elapsed(),
    );
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
