//! `/v1/node`

use super::ApiResult;
use crate::{
    api::{
        iso::Iso,
        model::{
            DatedWarning, DeliveryMode, Node, NodeRelay, Restoration, RestorationState,
            ScheduledBackups,
        },
        render,
        state::ApiState,
    },
    daemon::{BackupStatus, Database, HomeRelay, RunInfo, UnknownMailboxes},
    fault::Fault,
    hex,
    identity::NodeIdentity,
    recovery,
    store::{
        Tx, chats, connections, deliveries,
        events::{self, Subject},
        node_warnings, restoration, settings,
    },
};
use axum::{
    Json,
    extract::{FromRef, State},
};
use sealpost_proto::AccountId;
use std::sync::Arc;

/// Components that describe this node.
#[derive(Clone)]
pub(super) struct NodeState {
    identity: Arc<NodeIdentity>,
    database: Database,
    relay: Arc<HomeRelay>,
    run_info: Arc<RunInfo>,
    backups: Arc<BackupStatus>,
    unknown_mailboxes: Arc<UnknownMailboxes>,
}

impl FromRef<ApiState> for NodeState {
    fn from_ref(state: &ApiState) -> Self {
        Self {
            identity: FromRef::from_ref(state),
            database: FromRef::from_ref(state),
            relay: FromRef::from_ref(state),
            run_info: FromRef::from_ref(state),
            backups: FromRef::from_ref(state),
            unknown_mailboxes: FromRef::from_ref(state),
        }
    }
}

/// What the database says about this node.
struct Counts {
    pending: u64,
    unread: u64,
    healing: u64,
    warnings: Vec<DatedWarning>,
    restoration: Option<Restoration>,
    account_id: Option<AccountId>,
}

impl NodeState {
    /// Loads the state of this node.
    pub(super) async fn load(&self) -> Result<Node, Fault> {
        let counted = self.database.read(|tx| {
            let warnings = node_warnings::load_all(tx)?;
            Ok(Counts {
                pending: deliveries::count_open(tx)?,
                unread: chats::unread_count(tx)?,
                healing: connections::count_healing(tx)?,
                warnings: warnings
                    .into_iter()
                    .map(|(code, at)| render::node_warning(code, at))
                    .collect(),
                restoration: load_restoration(tx)?,
                account_id: settings::account_id(tx)?,
            })
        });
        let counts = counted.await?;
        let health = self.relay.health();
        let run_info = &self.run_info;
        Ok(Node {
            name: self.identity.name.clone(),
            fingerprint: hex::encode(self.identity.keys.fingerprint().as_bytes()),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            relay: NodeRelay {
                origin: self.identity.relay.to_string(),
                state: health.state,
                account_id: counts.account_id,
                reason: health.reason,
                last_contact_at: health.last_contact_at.map(Iso),
                clock_offset_ms: health.clock_offset_ms,
            },
            delivery_mode: if run_info.webhook_url.is_some() {
                DeliveryMode::Webhook
            } else {
                DeliveryMode::Pull
            },
            webhook_url: run_info.webhook_url.clone(),
            webhook_state: health.webhook.state,
            webhook_reason: health.webhook.reason,
            address: run_info.address.to_string(),
            data_directory: run_info.directory.display().to_string(),
            pending_count: counts.pending,
            unread_count: counts.unread,
            healing_count: counts.healing,
            unknown_mailboxes: self.unknown_mailboxes.count(),
            warnings: counts.warnings,
            restoration: counts.restoration,
            backup: self.load_backup(),
            damage: self.database.damage().map(|damaged| damaged.to_string()),
        })
    }
}

impl NodeState {
    fn load_backup(&self) -> Option<ScheduledBackups> {
        let state = self.backups.load();
        state.is_scheduled.then(|| ScheduledBackups {
            last_at: state.last_at.map(Iso),
            next_at: state.next_at.map(Iso),
            failure: state.failure,
        })
    }
}

fn load_restoration(tx: &Tx<'_>) -> Result<Option<Restoration>, Fault> {
    let Some(row) = restoration::load(tx)? else {
        return Ok(None);
    };
    let healing = connections::count_healing(tx)?.min(row.connections);
    let state = match (row.recovered_at, healing) {
        (None, _) => RestorationState::Waiting,
        (Some(_), 0) => RestorationState::Done,
        (Some(_), _) => RestorationState::Healing,
    };
    Ok(Some(Restoration {
        backed_up_at: Iso(row.backed_up_at),
        restored_at: Iso(row.restored_at.unwrap_or(row.backed_up_at)),
        state,
        connections: row.connections,
        healing,
    }))
}

/// `GET /v1/node`
pub(super) async fn show(State(node): State<NodeState>) -> ApiResult<Json<Node>> {
    Ok(Json(node.load().await?))
}

/// `POST /v1/node/acknowledge`: clears the warnings.
pub(super) async fn acknowledge(State(node): State<NodeState>) -> ApiResult<Json<Node>> {
    node.database
        .write(|tx| node_warnings::acknowledge(tx))
        .await?;
    Ok(Json(node.load().await?))
}

/// `POST /v1/node/recover`: starts new sessions with all partners, as after a restore.
pub(super) async fn recover(State(node): State<NodeState>) -> ApiResult<Json<Node>> {
    let identity = Arc::clone(&node.identity);
    let recovered = node.database.write(move |tx| {
        let connections = recovery::recover(tx, &identity)?;
        events::add(tx, Subject::Node)?;
        Ok(connections)
    });
    let connections = recovered.await?;
    tracing::warn!(
        connections,
        "starting new sessions with all partners, as requested"
    );
    Ok(Json(node.load().await?))
}
