//! State of the admin API: parts of the relay, of which each handler extracts the ones it needs.

use crate::{
    accounts::Accounts, activity::Activity, health::Health, listener::Certificates,
    notifier::Notifier, settings::LiveSettings, storage::Storage, store::Store,
};
use axum::extract::FromRef;
use sealpost_proto::{Origin, Timestamp};
use sealpost_service::{SharedClock, http::ListenerCounts};
use std::{path::PathBuf, sync::Arc};

/// Parts of the relay that the admin API uses.
pub(crate) struct AdminParts {
    pub(crate) origin: Origin,
    /// Data directory.
    pub(crate) directory: PathBuf,
    pub(crate) store: Store,
    pub(crate) accounts: Accounts,
    pub(crate) notifier: Arc<Notifier>,
    pub(crate) health: Arc<Health>,
    pub(crate) storage: Arc<Storage>,
    pub(crate) settings: LiveSettings,
    pub(crate) activity: Activity,
    pub(crate) connections: Arc<ListenerCounts>,
    /// Absent if a proxy terminates TLS.
    pub(crate) certificates: Option<Certificates>,
    pub(crate) clock: SharedClock,
    pub(crate) started_at: Timestamp,
}

/// State of the admin API's router.
#[derive(Clone)]
pub(crate) struct AdminState(Arc<AdminParts>);

impl AdminState {
    pub(super) fn new(parts: AdminParts) -> Self {
        Self(Arc::new(parts))
    }
}

/// Connections of the public listener.
#[derive(Clone)]
pub(super) struct Connections {
    pub(super) counts: Arc<ListenerCounts>,
    certificates: Option<Certificates>,
}

impl Connections {
    /// Returns when the certificate expires; absent if a proxy terminates TLS or no certificate was
    /// issued yet.
    pub(super) fn certificate_not_after(&self) -> Option<Timestamp> {
        self.certificates.as_ref().and_then(Certificates::not_after)
    }
}

impl FromRef<AdminState> for Connections {
    fn from_ref(state: &AdminState) -> Self {
        Self {
            counts: Arc::clone(&state.0.connections),
            certificates: state.0.certificates.clone(),
        }
    }
}

/// Identity and state of the running process.
#[derive(Clone)]
pub(super) struct Process {
    pub(super) origin: Origin,
    pub(super) directory: PathBuf,
    pub(super) health: Arc<Health>,
    pub(super) started_at: Timestamp,
}

impl FromRef<AdminState> for Process {
    fn from_ref(state: &AdminState) -> Self {
        Self {
            origin: state.0.origin.clone(),
            directory: state.0.directory.clone(),
            health: Arc::clone(&state.0.health),
            started_at: state.0.started_at,
        }
    }
}

/// Lets handlers extract parts of the state.
macro_rules! extractable {
    ($($part:ty: $field:ident),+ $(,)?) => {$(
        impl FromRef<AdminState> for $part {
            fn from_ref(state: &AdminState) -> Self {
                state.0.$field.clone()
            }
        }
    )+};
}

extractable!(
    Store: store,
    Accounts: accounts,
    Arc<Notifier>: notifier,
    Arc<Storage>: storage,
    LiveSettings: settings,
    Activity: activity,
    SharedClock: clock,
);
