//! `GET /v1/deliveries`, `POST /v1/deliveries/ack`: pull deliveries and acknowledge them.

use super::{
    ApiResult,
    auth::SessionRequest,
    ids::query,
    openapi::{JSON, SESSION, WRITES},
    state::ApiState,
};
use crate::{
    accounts::Accounts,
    activity::Activity,
    delivery::batch,
    lease::LeasedBatch,
    memory::DeliveryMemory,
    notifier::Notifier,
    openapi::problems,
    store::{Store, StoreError},
};
use axum::{
    extract::{FromRef, State},
    response::IntoResponse as _,
};
use http::StatusCode;
use sealpost_proto::{
    AccountId,
    limits::{LONG_POLLS_MAX, PULL_WAIT_MAX},
    wire::{DeliveryBatch, DeliveryResults},
};
use sealpost_service::{Clock as _, SharedClock, Shutdown, http::json_body};
use std::{sync::Arc, time::Duration};
use tokio::time::{Instant, sleep_until};

/// Interval at which a long poll checks the queue without a notification, because nobody reports
/// the end of a lease.
const RECHECK_INTERVAL: Duration = Duration::from_secs(5);

problems!(PullProblems: SESSION, WRITES);

/// Pull deliveries
///
/// The batch is leased for one minute. Until it is acknowledged or the lease expires, the account
/// receives nothing else, except that another pull returns the same items under a new lease.
#[utoipa::path(
    get, path = "/v1/deliveries", operation_id = "pull_deliveries", tag = "deliveries",
    security(("session" = [])),
    params((
        "wait" = Option<u64>,
        Query,
        example = 0,
        description = "Seconds to wait for deliveries, limited to 25"
    )),
    responses(
        (status = 200, description = "A batch, which can be empty", body = DeliveryBatch),
        PullProblems
    )
)]
pub(super) async fn pull(State(pulls): State<Pulls>, signed: SessionRequest) -> ApiResult {
    let seconds: u64 = query(&signed.body.uri, "wait")?.unwrap_or_default();
    let wait = Duration::from_secs(seconds).min(PULL_WAIT_MAX);
    let account = signed.account;
    drop(signed);
    let Some(leased) = pulls.wait_and_lease(account, wait).await? else {
        return Ok(json_body(StatusCode::OK, &DeliveryBatch::default()));
    };
    let permit = pulls.memory.reserve_pull(leased.size_bytes()).await;
    let batch = batch::load(&pulls.store, leased).await?;
    let response = json_body(StatusCode::OK, &batch);
    drop(permit);
    Ok(response)
}

problems!(AcknowledgeProblems: SESSION, JSON, WRITES);

/// Acknowledge deliveries
///
/// Repeated acknowledgements and ids of other accounts are ignored.
#[utoipa::path(
    post, path = "/v1/deliveries/ack", operation_id = "acknowledge_deliveries", tag = "deliveries",
    security(("session" = [])), request_body = DeliveryResults,
    responses((status = 204, description = "The outcomes are stored"), AcknowledgeProblems)
)]
pub(super) async fn acknowledge(
    State(store): State<Store>,
    State(accounts): State<Accounts>,
    State(notifier): State<Arc<Notifier>>,
    State(activity): State<Activity>,
    State(clock): State<SharedClock>,
    signed: SessionRequest,
) -> ApiResult {
    let results: DeliveryResults = signed.body.json()?;
    let (now, account) = (clock.now(), signed.account);
    let outcome = store.acknowledge(now, account, results.clone()).await?;
    activity.record_pull(now, &results.results, outcome.stored_count);
    accounts.set_contact_ends_backoff(account, outcome.contact_ends_backoff);
    notifier.notify_accounts(&outcome.accounts_to_notify);
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// Parts of the relay that pulls use.
#[derive(Clone)]
pub(super) struct Pulls {
    store: Store,
    notifier: Arc<Notifier>,
    memory: DeliveryMemory,
    clock: SharedClock,
    shutdown: Shutdown,
}

impl FromRef<ApiState> for Pulls {
    fn from_ref(state: &ApiState) -> Self {
        Self {
            store: state.store.clone(),
            notifier: Arc::clone(&state.notifier),
            memory: state.delivery_memory.clone(),
            clock: Arc::clone(&state.clock),
            shutdown: state.shutdown.clone(),
        }
    }
}

impl Pulls {
    /// Waits for deliveries of the account while no webhook call is in progress, and leases them.
    async fn wait_and_lease(
        &self,
        account: AccountId,
        wait: Duration,
    ) -> Result<Option<LeasedBatch>, StoreError> {
        let deadline = Instant::now() + wait;
        let Some(subscription) = self.notifier.subscribe(account, LONG_POLLS_MAX) else {
            return self.try_lease(account).await;
        };
        loop {
            let notified = subscription.notified();
            if let Some(leased) = self.try_lease(account).await? {
                return Ok(Some(leased));
            }
            if Instant::now() >= deadline || self.shutdown.is_triggered() {
                return Ok(None);
            }
            tokio::select! {
                () = notified => {}
                () = sleep_until(deadline.min(Instant::now() + RECHECK_INTERVAL)) => {}
                () = self.shutdown.triggered() => {}
            }
        }
    }

    async fn try_lease(&self, account: AccountId) -> Result<Option<LeasedBatch>, StoreError> {
        if !self.store.has_waiting(account).await? {
            return Ok(None);
        }
        let bytes_max = self.memory.call_limits().bytes;
        self.store.pull(self.clock.now(), account, bytes_max).await
    }
}
