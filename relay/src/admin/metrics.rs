//! `GET /metrics`: metrics for Prometheus. It needs no token, because metrics contain no account or
//! address.

use super::{ApiResult, state::Connections};
use crate::{activity::Activity, metrics::Sample, storage::Storage, store::Store};
use axum::{
    extract::State,
    response::{IntoResponse as _, Response},
};
use http::header;
use sealpost_proto::ErrorCode;
use sealpost_service::{Clock as _, SharedClock, metrics::METRICS_TYPE};
use std::sync::Arc;

pub(super) async fn show(
    State(activity): State<Activity>,
    State(store): State<Store>,
    State(storage): State<Arc<Storage>>,
    State(connections): State<Connections>,
    State(clock): State<SharedClock>,
) -> ApiResult<Response> {
    let sample = Sample {
        now: clock.now(),
        totals: store.load_totals().await?,
        store: store.stats(),
        connections: &connections.counts,
        certificate_not_after: connections.certificate_not_after(),
        free_bytes: storage.status().free_bytes,
    };
    let text = activity.metrics.render(&sample);
    let text = text.map_err(|_| ErrorCode::Internal)?;
    Ok(([(header::CONTENT_TYPE, METRICS_TYPE)], text).into_response())
}
