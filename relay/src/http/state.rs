//! State of the API: parts of the relay, of which each handler extracts the ones it needs.

use crate::{
    accounts::Accounts,
    activity::Activity,
    blobs::Blobs,
    delivery::challenge::WebhookTester,
    health::Health,
    memory::{RequestMemory, ResponseMemory, TransferSlots},
    notifier::Notifier,
    settings::LiveSettings,
    storage::Storage,
    store::Store,
};
use axum::extract::FromRef;
use sealpost_proto::Origin;
use sealpost_service::{SharedClock, Shutdown};
use sealpost_signatures::RelaySecret;
use std::{ops::Deref, sync::Arc};

/// Parts of the relay that the API uses.
pub(crate) struct ApiParts {
    pub(crate) origin: Origin,
    /// Session keys are derived from it.
    pub(crate) secret: RelaySecret,
    pub(crate) store: Store,
    pub(crate) accounts: Accounts,
    pub(crate) blobs: Blobs,
    pub(crate) notifier: Arc<Notifier>,
    pub(crate) health: Arc<Health>,
    pub(crate) storage: Arc<Storage>,
    pub(crate) settings: LiveSettings,
    pub(crate) webhook_tester: WebhookTester,
    pub(crate) request_memory: RequestMemory,
    pub(crate) response_memory: ResponseMemory,
    pub(crate) transfer_slots: TransferSlots,
    pub(crate) activity: Activity,
    pub(crate) clock: SharedClock,
    pub(crate) shutdown: Shutdown,
}

/// State of the API's router.
#[derive(Clone)]
pub(super) struct ApiState(Arc<ApiParts>);

impl ApiState {
    pub(super) fn new(parts: ApiParts) -> Self {
        Self(Arc::new(parts))
    }
}

impl Deref for ApiState {
    type Target = ApiParts;

    fn deref(&self) -> &ApiParts {
        &self.0
    }
}

/// Lets handlers extract parts of the state.
macro_rules! extractable {
    ($($part:ty: $field:ident),+ $(,)?) => {$(
        impl FromRef<ApiState> for $part {
            fn from_ref(state: &ApiState) -> Self {
                state.$field.clone()
            }
        }
    )+};
}

extractable!(
    Origin: origin,
    RelaySecret: secret,
    Store: store,
    Accounts: accounts,
    Blobs: blobs,
    Arc<Notifier>: notifier,
    Arc<Health>: health,
    Arc<Storage>: storage,
    LiveSettings: settings,
    WebhookTester: webhook_tester,
    TransferSlots: transfer_slots,
    Activity: activity,
    SharedClock: clock,
    Shutdown: shutdown,
);
