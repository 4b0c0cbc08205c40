//! `/v1/node`

use super::ApiResult;
use crate::{
    api::{
        iso::Iso,
        model::{DeliveryMode, Node, NodeRelay},
    },
    daemon::Daemon,
    fault::Fault,
    hex,
    store::{chats, deliveries},
};
use axum::{Json, extract::State};
use std::sync::Arc;

/// Loads the state of this node.
pub(super) async fn load(daemon: &Daemon) -> Result<Node, Fault> {
    let (pending_count, unread_count) = daemon
        .read(|tx| Ok((deliveries::open_count(tx)?, chats::unread_count(tx)?)))
        .await?;
    let health = daemon.relay_health();
    let running = &daemon.running;
    Ok(Node {
        name: daemon.identity.name.clone(),
        fingerprint: hex::encode(daemon.identity.keys.fingerprint().as_bytes()),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        relay: NodeRelay {
            origin: daemon.identity.relay.to_string(),
            state: health.state,
            reason: health.reason,
            last_contact_at: health.last_contact_at.map(Iso),
            clock_offset_ms: health.clock_offset_ms,
        },
        delivery: if running.webhook_url.is_some() {
            DeliveryMode::Webhook
        } else {
            DeliveryMode::Pull
        },
        webhook_url: running.webhook_url.clone(),
        address: running.address.to_string(),
        data_directory: running.directory.display().to_string(),
        pending_count,
        unread_count,
        damage: daemon.store.damage().map(|damaged| damaged.to_string()),
    })
}

/// `GET /v1/node`
pub(super) async fn show(State(daemon): State<Arc<Daemon>>) -> ApiResult<Json<Node>> {
    Ok(Json(load(&daemon).await?))
}
