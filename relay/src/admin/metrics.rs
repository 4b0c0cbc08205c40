//! `GET /metrics`: what Prometheus reads. It needs no token, because it names nobody.

use super::Answer;
use crate::{
    metrics::{OPENMETRICS_TYPE, scrape},
    relay::Relay,
};
use axum::{
    extract::State,
    response::{IntoResponse as _, Response},
};
use http::header;
use std::sync::Arc;

pub(super) async fn show(State(relay): State<Arc<Relay>>) -> Answer<Response> {
    Ok((
        [(header::CONTENT_TYPE, OPENMETRICS_TYPE)],
        scrape(&relay).await?,
    )
        .into_response())
}
