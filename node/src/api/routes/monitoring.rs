//! `/healthz`, `/readyz` and `/metrics`: health of the node for monitoring programs.
//!
//! They need no token, so they contain no name, account, address or content: states are fixed words,
//! and everything else is a number.

use super::{ApiResult, ErrorResponse};
use crate::{
    api::{
        problem::{Problem, ProblemCode},
        state::ApiState,
    },
    daemon::{BackupStatus, Database, HomeRelay, RelayHealth, RunInfo},
    fault::Fault,
    store::{
        chats, connections,
        deliveries::{self, DeliveryCounts},
        node_warnings,
    },
};
use axum::{
    Router,
    extract::{FromRef, State},
    response::{IntoResponse as _, Response},
    routing::get,
};
use http::{StatusCode, header};
use sealpost_node_core::model::RelayState;
use sealpost_proto::{Timestamp, wire::WebhookState};
use sealpost_service::metrics::{METRICS_TYPE, MetricsText, resident_bytes};
use std::{fmt, sync::Arc, time::Duration};

const PREFIX: &str = "sealpost_node";

pub(super) fn routes() -> Router<ApiState> {
    Router::new()
        .route("/healthz", get(|| async { "ok" }))
        .route("/readyz", get(show_readiness))
        .route("/metrics", get(show_metrics))
}

/// Components that are monitored.
#[derive(Clone)]
pub(super) struct Monitored {
    database: Database,
    relay: Arc<HomeRelay>,
    run_info: Arc<RunInfo>,
    backups: Arc<BackupStatus>,
}

impl FromRef<ApiState> for Monitored {
    fn from_ref(state: &ApiState) -> Self {
        Self {
            database: FromRef::from_ref(state),
            relay: FromRef::from_ref(state),
            run_info: FromRef::from_ref(state),
            backups: FromRef::from_ref(state),
        }
    }
}

/// Numbers that the database contains.
struct Counts {
    deliveries: DeliveryCounts,
    unread: u64,
    healing: u64,
    warnings: usize,
    database_bytes: u64,
}

impl Monitored {
    /// Returns whether the node can send and receive now, or the reason why not.
    fn readiness(&self) -> &'static str {
        if self.database.damage().is_some() {
            return "database_damaged";
        }
        match self.relay.health().state {
            RelayState::Connected => "ready",
            RelayState::Starting => "starting",
            RelayState::Refused => "relay_refuses",
            RelayState::Unreachable => "relay_unreachable",
        }
    }

    async fn load_counts(&self) -> Result<Counts, Fault> {
        let counts = self.database.read(|tx| {
            let sql = "SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()";
            Ok(Counts {
                deliveries: deliveries::count_by_state(tx)?,
                unread: chats::unread_count(tx)?,
                healing: connections::count_healing(tx)?,
                warnings: node_warnings::load_all(tx)?.len(),
                database_bytes: tx.query_value(sql, &[])?.unwrap_or_default(),
            })
        });
        counts.await
    }

    fn render(&self, counts: &Counts) -> Result<String, fmt::Error> {
        let mut text = MetricsText::new(PREFIX);
        let version = env!("CARGO_PKG_VERSION");
        text.gauges("build_info", "Program version", "version", &[(version, 1)])?;
        render_process(&mut text)?;
        render_relay(&mut text, &self.relay.health(), &self.run_info)?;
        render_deliveries(&mut text, &counts.deliveries, self.database.now())?;
        text.gauge("unread_messages", "Incoming unread messages", counts.unread)?;
        let help = "Connections that wait for a new session";
        text.gauge("connections_healing", help, counts.healing)?;
        let help = "Warnings that nobody has acknowledged";
        text.gauge("warnings", help, counts.warnings)?;
        text.gauge(
            "database_bytes",
            "Size of the database",
            counts.database_bytes,
        )?;
        let help = "Whether a row of the database could not be read since the start";
        let is_damaged = self.database.damage().is_some();
        text.gauge("database_damaged", help, u8::from(is_damaged))?;
        let help = "Free space on the disk of the data directory";
        let disk = rustix::fs::statvfs(&self.run_info.directory).ok();
        let free = disk.map(|disk| disk.f_bavail.saturating_mul(disk.f_frsize));
        text.optional_gauge("storage_free_bytes", help, free)?;
        self.render_backups(&mut text)?;
        Ok(text.into_text())
    }

    fn render_backups(&self, text: &mut MetricsText) -> fmt::Result {
        let backups = self.backups.load();
        if !backups.is_scheduled {
            return Ok(());
        }
        let help = "Time of the last scheduled backup as Unix time";
        let last = backups.last_at.map(to_seconds);
        text.optional_gauge("backup_last_timestamp_seconds", help, last)?;
        let help = "Whether the last scheduled backup failed";
        text.gauge("backup_failed", help, u8::from(backups.failure.is_some()))
    }
}

fn render_process(text: &mut MetricsText) -> fmt::Result {
    let help = "Resident memory of the process";
    text.optional_gauge("resident_memory_bytes", help, resident_bytes())
}

fn render_relay(text: &mut MetricsText, health: &RelayHealth, run_info: &RunInfo) -> fmt::Result {
    let is_connected = health.state == RelayState::Connected;
    let help = "Whether the relay responds and accepts this node's requests";
    text.gauge("relay_connected", help, u8::from(is_connected))?;
    let help = "Time of the last response of the relay as Unix time";
    let last = health.last_contact_at.map(to_seconds);
    text.optional_gauge("relay_last_contact_timestamp_seconds", help, last)?;
    let help = "Time by which the relay's clock is ahead of this machine's";
    let offset = Duration::from_millis(health.clock_offset_ms.unsigned_abs()).as_secs_f64();
    let sign = if health.clock_offset_ms < 0 {
        -1.0
    } else {
        1.0
    };
    text.gauge("relay_clock_offset_seconds", help, sign * offset)?;
    let help = "Whether the relay calls the webhook; absent if the node has none";
    let is_called = health.webhook.state == Some(WebhookState::Active);
    let webhook = run_info.webhook_url.as_ref().map(|_| u8::from(is_called));
    text.optional_gauge("webhook_active", help, webhook)
}

fn render_deliveries(
    text: &mut MetricsText,
    counts: &DeliveryCounts,
    now: Timestamp,
) -> fmt::Result {
    let states = [
        ("pending", counts.pending),
        ("sent", counts.sent),
        ("retrying", counts.retrying),
        ("failed", counts.failed),
    ];
    let help = "Outgoing messages that were not delivered, by status and recipient";
    text.gauges("deliveries", help, "status", &states)?;
    let age = counts
        .oldest_at
        .map_or(Duration::ZERO, |at| now.since(at))
        .as_secs_f64();
    let help = "Age of the oldest outgoing message that is neither delivered nor failed";
    text.gauge("delivery_oldest_age_seconds", help, age)
}

fn to_seconds(time: Timestamp) -> u64 {
    time.as_millis() / 1_000
}

/// `GET /readyz`: 200 `ready`, or 503 with the reason.
async fn show_readiness(State(node): State<Monitored>) -> Response {
    let readiness = node.readiness();
    let status = if readiness == "ready" {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (status, readiness).into_response()
}

/// `GET /metrics`
async fn show_metrics(State(node): State<Monitored>) -> ApiResult<Response> {
    let counts = node.load_counts().await?;
    let text = node.render(&counts).map_err(|error| {
        ErrorResponse::from(Problem::new(ProblemCode::Internal, error.to_string()))
    })?;
    Ok(([(header::CONTENT_TYPE, METRICS_TYPE)], text).into_response())
}
