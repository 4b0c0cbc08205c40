//! State of the local API: components of the node. Each handler extracts the ones it needs.

use crate::{
    daemon::{
        BackupStatus, Database, HomeRelay, NodeComponents, RunInfo, UnknownMailboxes,
        transfer::EarlyUploads,
    },
    files::Files,
    identity::NodeIdentity,
    progress::Progress,
};
use axum::extract::FromRef;
use sealpost_proto::limits::LOCAL_REQUEST_MEMORY_BYTES_MAX;
use sealpost_service::{Shutdown, fair_pool::FairPool};
use std::sync::Arc;

/// State of the router.
#[derive(Clone)]
pub(super) struct ApiState {
    components: Arc<NodeComponents>,
    /// Memory for the bodies of requests.
    pub(super) request_memory: FairPool,
}

impl ApiState {
    pub(super) fn new(components: NodeComponents) -> Self {
        let bytes_max = LOCAL_REQUEST_MEMORY_BYTES_MAX;
        Self {
            components: Arc::new(components),
            request_memory: FairPool::of_memory(bytes_max, bytes_max),
        }
    }
}

/// Lets handlers extract components of the state.
macro_rules! extractable {
    ($($part:ty: $field:ident),+ $(,)?) => {$(
        impl FromRef<ApiState> for $part {
            fn from_ref(state: &ApiState) -> Self {
                state.components.$field.clone()
            }
        }
    )+};
}

extractable!(
    Arc<NodeIdentity>: identity,
    Database: database,
    Arc<HomeRelay>: relay,
    Files: files,
    Arc<Progress>: progress,
    Arc<EarlyUploads>: early_uploads,
    Arc<RunInfo>: run_info,
    Arc<BackupStatus>: backups,
    Arc<UnknownMailboxes>: unknown_mailboxes,
    Shutdown: shutdown,
);
