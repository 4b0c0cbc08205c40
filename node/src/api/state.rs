//! State of the local API: parts of the node, of which each handler extracts the ones it needs.

use crate::{
    daemon::{Database, HomeRelay, NodeParts, RunInfo, transfer::EarlyUploads},
    files::Files,
    identity::NodeIdentity,
    progress::Progress,
};
use axum::extract::FromRef;
use sealpost_service::Shutdown;
use std::sync::Arc;

/// State of the router.
#[derive(Clone)]
pub(super) struct ApiState(Arc<NodeParts>);

impl ApiState {
    pub(super) fn new(parts: NodeParts) -> Self {
        Self(Arc::new(parts))
    }
}

/// Lets handlers extract parts of the state.
macro_rules! extractable {
    ($($part:ty: $field:ident),+ $(,)?) => {$(
        impl FromRef<ApiState> for $part {
            fn from_ref(state: &ApiState) -> Self {
                state.0.$field.clone()
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
    Shutdown: shutdown,
);
