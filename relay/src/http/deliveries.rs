//! `GET /v1/deliveries`, `POST /v1/deliveries/ack`: pull deliveries and acknowledge them.

use super::{
    ApiResult,
    auth::SessionRequest,
    ids::parse_query,
    openapi::{JSON, SESSION, WRITES},
    problem, retryable_problem,
    state::ApiState,
};
use crate::{
    accounts::Accounts,
    activity::Activity,
    delivery::batch,
    lease::{LeasedBatch, PullLimits},
    memory::ResponseMemory,
    notifier::Notifier,
    openapi::problems,
    store::{Store, StoreError},
};
use axum::{
    body::HttpBody as _,
    extract::{FromRef, State},
    response::IntoResponse as _,
};
use http::{StatusCode, Uri};
use sealpost_proto::{
    AccountId, ErrorCode,
    limits::{DELIVERY_BATCH_ITEMS_MAX, LONG_POLLS_MAX, PULL_WAIT_MAX},
    wire::{DeliveryBatch, DeliveryResults, WebhookState},
};
use sealpost_service::{
    Clock as _, SharedClock, Shutdown,
    http::{ProblemResponse, json_body},
};
use std::{sync::Arc, time::Duration};
use tokio::time::{Instant, sleep_until};

/// Interval at which a long poll checks the queue without a notification, because none is sent when
/// a lease expires.
const RECHECK_INTERVAL: Duration = Duration::from_secs(5);

/// JSON of one delivered item, without the bytes of an envelope.
const ITEM_JSON_BYTES: usize = 512;

problems!(PullProblems: SESSION, WRITES);

/// Pull deliveries
///
/// The batch is leased for the time that `within` states. Until it is acknowledged or the lease
/// expires, the account receives nothing else, except that another pull returns the same items under
/// a new lease.
#[utoipa::path(
    get, path = "/v1/deliveries", operation_id = "pull_deliveries", tag = "deliveries",
    security(("session" = [])),
    params(
        (
            "wait" = Option<u64>,
            Query,
            example = 0,
            description = "Seconds to wait for deliveries, limited to 25"
        ),
        (
            "bytes" = Option<u64>,
            Query,
            example = 131_072,
            description = "Maximum bytes of envelopes, limited to 1 MiB, which is the default. A \
                larger envelope is returned alone"
        ),
        (
            "within" = Option<u64>,
            Query,
            example = 60,
            description = "Seconds in which the node receives and acknowledges the batch: the \
                duration of the lease, from 10 to 360, by default 120"
        )
    ),
    responses(
        (status = 200, description = "A batch, which can be empty", body = DeliveryBatch),
        PullProblems
    )
)]
pub(super) async fn pull(State(pulls): State<Pulls>, signed: SessionRequest) -> ApiResult {
    let request = PullRequest::parse(&signed.body.uri)?;
    let account = signed.account;
    drop(signed);
    let leased = pulls.wait_and_lease(account, request).await?;
    let webhook = pulls.load_webhook_state(account).await?;
    let Some(leased) = leased else {
        let batch = DeliveryBatch {
            webhook,
            ..DeliveryBatch::default()
        };
        return Ok(json_body(StatusCode::OK, &batch));
    };
    let permit = pulls.memory.reserve(account, response_bytes(&leased)).await;
    let permit = permit.ok_or_else(|| retryable_problem(ErrorCode::Overloaded))?;
    let batch = DeliveryBatch {
        webhook,
        ..batch::load(&pulls.store, leased).await?
    };
    let mut response = json_body(StatusCode::OK, &batch);
    let json_bytes = usize::try_from(response.body().size_hint().lower());
    permit.shrink_to(json_bytes.unwrap_or(usize::MAX));
    // The listener holds it until the last byte is sent.
    response.extensions_mut().insert(permit);
    Ok(response)
}

/// Query of a pull.
#[derive(Debug, Clone, Copy)]
struct PullRequest {
    wait: Duration,
    limits: PullLimits,
}

impl PullRequest {
    fn parse(uri: &Uri) -> Result<Self, ProblemResponse> {
        let seconds =
            |name| Ok::<_, ProblemResponse>(parse_query(uri, name)?.map(Duration::from_secs));
        let default = PullLimits::default();
        Ok(Self {
            wait: seconds("wait")?.unwrap_or_default().min(PULL_WAIT_MAX),
            limits: PullLimits {
                bytes_max: parse_query(uri, "bytes")?.unwrap_or(default.bytes_max),
                lease: seconds("within")?.unwrap_or(default.lease),
            },
        })
    }
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
    if results.results.len() > DELIVERY_BATCH_ITEMS_MAX {
        return Err(problem(
            ErrorCode::Malformed,
            format!("a request must contain up to {DELIVERY_BATCH_ITEMS_MAX} results"),
        ));
    }
    let (now, account) = (clock.now(), signed.account);
    let outcome = store.acknowledge(now, account, results.clone()).await?;
    activity.record_pull(now, &results.results, outcome.stored_count);
    accounts.set_contact_ends_backoff(account, outcome.contact_ends_backoff);
    notifier.notify_accounts(&outcome.accounts_to_notify);
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// Returns the memory that a batch needs while it is converted to JSON.
fn response_bytes(leased: &LeasedBatch) -> usize {
    let envelope_bytes = usize::try_from(leased.size_bytes()).unwrap_or(usize::MAX);
    let items = leased.envelopes.len() + leased.events.len();
    // The bytes of each envelope, and the same as base64.
    envelope_bytes + envelope_bytes / 3 * 4 + items * ITEM_JSON_BYTES
}

/// Parts of the relay that pulls use.
#[derive(Clone)]
pub(super) struct Pulls {
    store: Store,
    accounts: Accounts,
    notifier: Arc<Notifier>,
    memory: ResponseMemory,
    clock: SharedClock,
    shutdown: Shutdown,
}

impl FromRef<ApiState> for Pulls {
    fn from_ref(state: &ApiState) -> Self {
        Self {
            store: state.store.clone(),
            accounts: state.accounts.clone(),
            notifier: Arc::clone(&state.notifier),
            memory: state.response_memory.clone(),
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
        PullRequest { wait, limits }: PullRequest,
    ) -> Result<Option<LeasedBatch>, StoreError> {
        let deadline = Instant::now() + wait;
        let Some(subscription) = self.notifier.subscribe(account, LONG_POLLS_MAX) else {
            return self.try_lease(account, limits).await;
        };
        loop {
            let notified = subscription.notified();
            if let Some(leased) = self.try_lease(account, limits).await? {
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

    async fn try_lease(
        &self,
        account: AccountId,
        limits: PullLimits,
    ) -> Result<Option<LeasedBatch>, StoreError> {
        if !self.store.has_waiting(account).await? {
            return Ok(None);
        }
        let limits = PullLimits {
            bytes_max: limits.bytes_max.min(self.memory.pull_bytes_max()),
            ..limits
        };
        self.store.pull(self.clock.now(), account, limits).await
    }

    async fn load_webhook_state(
        &self,
        account: AccountId,
    ) -> Result<Option<WebhookState>, StoreError> {
        Ok(self
            .accounts
            .load(account)
            .await?
            .map(|state| state.webhook))
    }
}
