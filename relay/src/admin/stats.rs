//! `GET /admin/v1/stats`: the relay at a glance.

use super::{
    Answer,
    model::{Stats, Storage},
    openapi::COMMON,
};
use crate::{openapi::problems, relay::Relay, store::StoreError};
use axum::extract::State;
use sealpost_service::http::Json;
use std::sync::Arc;

problems!(ShowProblems: COMMON);

/// Show the relay at a glance
///
/// The relay at a glance, with the throughput of the last hour.
#[utoipa::path(
    get, path = "/admin/v1/stats", operation_id = "stats", tag = "relay", security(("token" = [])),
    responses((status = 200, description = "The figures", body = Stats), ShowProblems)
)]
pub(super) async fn show(State(relay): State<Arc<Relay>>) -> Answer<Json<Stats>> {
    Ok(Json(count(&relay).await?))
}

async fn count(relay: &Relay) -> Result<Stats, StoreError> {
    let census = relay.store.census().await?;
    let now = relay.now();
    let minutes = relay.throughput.last_hour(now);
    Ok(Stats {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        origin: relay.origin.to_string(),
        readiness: relay.health.readiness().to_string(),
        relay_time: now,
        started_at: relay.started_at,
        accounts: census.accounts,
        suspended: census.suspended,
        mailboxes: census.mailboxes,
        queued: census.queued,
        queues: census.queues,
        failing: census.failing,
        oldest_at: census.oldest_at,
        connections: relay.connections.open(),
        certificate_not_after: relay.certificate_end(),
        last_hour: minutes.iter().copied().sum(),
        minutes,
        storage: Storage {
            database_bytes: census.database_bytes,
            blob_bytes: census.blob_bytes,
            free_bytes: fs4::available_space(&relay.folder).ok(),
        },
    })
}
