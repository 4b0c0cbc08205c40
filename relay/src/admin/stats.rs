//! `GET /admin/v1/stats`: summary of the relay.

use super::{
    ApiResult,
    model::{Stats, Storage, Throughput},
    openapi::COMMON,
    state::{Connections, Process},
};
use crate::{activity::Activity, openapi::problems, store::Store, throughput::ThroughputCounts};
use axum::extract::State;
use sealpost_service::{Clock as _, SharedClock, http::Json};

problems!(ShowProblems: COMMON);

/// Show a summary of the relay
///
/// Includes the throughput of the last hour.
#[utoipa::path(
    get, path = "/admin/v1/stats", operation_id = "stats", tag = "relay", security(("token" = [])),
    responses((status = 200, description = "The summary", body = Stats), ShowProblems)
)]
pub(super) async fn show(
    State(process): State<Process>,
    State(store): State<Store>,
    State(activity): State<Activity>,
    State(connections): State<Connections>,
    State(clock): State<SharedClock>,
) -> ApiResult<Json<Stats>> {
    let totals = store.load_totals().await?;
    let now = clock.now();
    let minutes = activity.throughput.last_hour(now);
    Ok(Json(Stats {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        origin: process.origin.to_string(),
        readiness: process.health.readiness().to_string(),
        relay_time: now,
        started_at: process.started_at,
        accounts: totals.accounts,
        suspended: totals.suspended,
        mailboxes: totals.mailboxes,
        queued: totals.queued,
        queues: totals.queues,
        failing: totals.failing,
        oldest_at: totals.oldest_at,
        connections: connections.counts.open(),
        certificate_not_after: connections.certificate_not_after(),
        last_hour: minutes.iter().copied().sum::<ThroughputCounts>().into(),
        minutes: minutes.into_iter().map(Throughput::from).collect(),
        storage: Storage {
            database_bytes: totals.database_bytes,
            blob_bytes: totals.blob_bytes,
            free_bytes: fs4::available_space(&process.directory).ok(),
        },
    }))
}
