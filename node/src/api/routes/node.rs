//! `/v1/node`

use super::ApiResult;
use crate::{
    api::{
        iso::Iso,
        model::{DeliveryMode, Node, NodeRelay},
        state::ApiState,
    },
    daemon::{Database, HomeRelay, RunInfo},
    fault::Fault,
    hex,
    identity::NodeIdentity,
    store::{chats, deliveries},
};
use axum::{
    Json,
    extract::{FromRef, State},
};
use std::sync::Arc;

/// Components that describe this node.
#[derive(Clone)]
pub(super) struct NodeState {
    identity: Arc<NodeIdentity>,
    database: Database,
    relay: Arc<HomeRelay>,
    run_info: Arc<RunInfo>,
}

impl FromRef<ApiState> for NodeState {
    fn from_ref(state: &ApiState) -> Self {
        Self {
            identity: FromRef::from_ref(state),
            database: FromRef::from_ref(state),
            relay: FromRef::from_ref(state),
            run_info: FromRef::from_ref(state),
        }
    }
}

impl NodeState {
    /// Loads the state of this node.
    pub(super) async fn load(&self) -> Result<Node, Fault> {
        let (pending_count, unread_count) = self
            .database
            .read(|tx| Ok((deliveries::count_open(tx)?, chats::unread_count(tx)?)))
            .await?;
        let health = self.relay.health();
        let run_info = &self.run_info;
        Ok(Node {
            name: self.identity.name.clone(),
            fingerprint: hex::encode(self.identity.keys.fingerprint().as_bytes()),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            relay: NodeRelay {
                origin: self.identity.relay.to_string(),
                state: health.state,
                reason: health.reason,
                last_contact_at: health.last_contact_at.map(Iso),
                clock_offset_ms: health.clock_offset_ms,
            },
            delivery: if run_info.webhook_url.is_some() {
                DeliveryMode::Webhook
            } else {
                DeliveryMode::Pull
            },
            webhook_url: run_info.webhook_url.clone(),
            webhook_state: health.webhook.state,
            webhook_reason: health.webhook.reason,
            address: run_info.address.to_string(),
            data_directory: run_info.directory.display().to_string(),
            pending_count,
            unread_count,
            damage: self.database.damage().map(|damaged| damaged.to_string()),
        })
    }
}

/// `GET /v1/node`
pub(super) async fn show(State(node): State<NodeState>) -> ApiResult<Json<Node>> {
    Ok(Json(node.load().await?))
}
