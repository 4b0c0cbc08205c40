//! `/admin/v1/queues` and `/admin/v1/envelopes`: list and show queues, retry them, drop envelopes.

use super::{
    ApiResult,
    model::{DropResult, Items, Queues, RetryResult},
    openapi::{COMMON, WRITES},
    query::{PathParam, QueryParams, page_size},
};
use crate::{
    accounts::Accounts,
    notifier::Notifier,
    openapi::problems,
    store::{QueueCursor, Store},
};
use axum::extract::State;
use sealpost_proto::{AccountId, DeliveryId, EnvelopeId, ErrorCode};
use sealpost_service::{Clock as _, SharedClock, http::Json};
use serde::{Deserialize, Deserializer, de::Error as _};
use std::sync::Arc;

/// Query parameters of the list.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct ListQuery {
    /// Only queues whose webhook is failing or off.
    #[serde(default)]
    failing: bool,
    /// Cursor: `next` of the previous page.
    #[serde(default, deserialize_with = "deserialize_cursor")]
    #[param(value_type = Option<String>)]
    after: Option<QueueCursor>,
    /// Queues per page: 100 by default, at most 500.
    limit: Option<u32>,
}

/// Query parameters of a single queue.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct ShowQuery {
    /// Cursor: `next` of the previous page.
    after: Option<u64>,
    /// Items per page: 100 by default, at most 500.
    limit: Option<u32>,
}

/// Query parameters of a drop request.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct DropQuery {
    /// `up_to` of the previous response, so that envelopes that arrive in the meantime are kept.
    up_to: Option<u64>,
}

problems!(ListProblems: COMMON);

/// List queues
///
/// Returns non-empty queues, ordered by the age of their oldest item.
#[utoipa::path(
    get, path = "/admin/v1/queues", operation_id = "list_queues", tag = "queues",
    security(("token" = [])),
    params(ListQuery),
    responses((status = 200, description = "Page of queues", body = Queues), ListProblems)
)]
pub(super) async fn list(
    State(store): State<Store>,
    State(clock): State<SharedClock>,
    QueryParams(query): QueryParams<ListQuery>,
) -> ApiResult<Json<Queues>> {
    let (now, limit) = (clock.now(), page_size(query.limit));
    let page = store
        .list_queues(now, query.failing, query.after, limit)
        .await?;
    Ok(Json(Queues::new(now, page)))
}

problems!(ShowProblems: COMMON; NotFound);

/// Show a queue
///
/// Returns the queued items of an account in delivery order, without their content.
#[utoipa::path(
    get, path = "/admin/v1/queues/{id}", operation_id = "show_queue", tag = "queues",
    security(("token" = [])),
    params(PathParam<AccountId>, ShowQuery),
    responses((status = 200, description = "Page of items", body = Items), ShowProblems)
)]
pub(super) async fn show(
    State(store): State<Store>,
    State(clock): State<SharedClock>,
    PathParam(id): PathParam<AccountId>,
    QueryParams(query): QueryParams<ShowQuery>,
) -> ApiResult<Json<Items>> {
    let after = DeliveryId(query.after.unwrap_or_default());
    let (now, limit) = (clock.now(), page_size(query.limit));
    let items = store.list_queue_items(now, id, after, limit).await?;
    Ok(Json(Items::new(now, items.ok_or(ErrorCode::NotFound)?)))
}

problems!(ChangeProblems: COMMON, WRITES; NotFound);

/// Retry a queue
///
/// Retries delivery now, including envelopes that are set aside.
#[utoipa::path(
    post, path = "/admin/v1/queues/{id}/retry", operation_id = "retry_queue", tag = "queues",
    security(("token" = [])),
    params(PathParam<AccountId>),
    responses(
        (
            status = 200,
            description = "Number of queues and envelopes that are due now",
            body = RetryResult
        ),
        ChangeProblems
    )
)]
pub(super) async fn retry(
    State(store): State<Store>,
    State(accounts): State<Accounts>,
    State(notifier): State<Arc<Notifier>>,
    State(clock): State<SharedClock>,
    PathParam(id): PathParam<AccountId>,
) -> ApiResult<Json<RetryResult>> {
    let retried = store
        .retry_queue(clock.now(), id)
        .await?
        .ok_or(ErrorCode::NotFound)?;
    accounts.invalidate(id);
    notifier.notify_accounts(&[id]);
    Ok(Json(retried.into()))
}

problems!(AllProblems: COMMON, WRITES);

/// Retry all queues
///
/// Retries the delivery of every non-empty queue now.
#[utoipa::path(
    post, path = "/admin/v1/queues/retry", operation_id = "retry_queues", tag = "queues",
    security(("token" = [])),
    responses(
        (
            status = 200,
            description = "Number of queues and envelopes that are due now",
            body = RetryResult
        ),
        AllProblems
    )
)]
pub(super) async fn retry_all(
    State(store): State<Store>,
    State(accounts): State<Accounts>,
    State(notifier): State<Arc<Notifier>>,
    State(clock): State<SharedClock>,
) -> ApiResult<Json<RetryResult>> {
    let (mut total, mut after) = (
        RetryResult {
            queues: 0,
            set_aside: 0,
        },
        None,
    );
    loop {
        let batch = store.retry_queues(clock.now(), after).await?;
        total.queues += batch.accounts.len() as u64;
        total.set_aside += batch.set_aside;
        batch
            .accounts
            .iter()
            .for_each(|account| accounts.invalidate(*account));
        notifier.notify_accounts(&batch.accounts);
        after = batch.next;
        if after.is_none() {
            return Ok(Json(total));
        }
    }
}

/// Drop the queue of an account
///
/// Its envelopes end as `failed` and their senders are notified. A long queue takes several
/// requests: pass `up_to` of the response to the next one. Status events are not dropped.
#[utoipa::path(
    delete, path = "/admin/v1/queues/{id}", operation_id = "drop_queue", tag = "queues",
    security(("token" = [])),
    params(PathParam<AccountId>, DropQuery),
    responses(
        (status = 200, description = "Number of dropped envelopes", body = DropResult),
        ChangeProblems
    )
)]
pub(super) async fn drop_all(
    State(store): State<Store>,
    State(notifier): State<Arc<Notifier>>,
    State(clock): State<SharedClock>,
    PathParam(id): PathParam<AccountId>,
    QueryParams(query): QueryParams<DropQuery>,
) -> ApiResult<Json<DropResult>> {
    let result = store
        .drop_queue(clock.now(), id, query.up_to.map(DeliveryId))
        .await?;
    let result = result.ok_or(ErrorCode::NotFound)?;
    notifier.notify_accounts(&result.accounts_to_notify);
    tracing::info!(account = %id, dropped = result.envelopes, "envelopes dropped by the operator");
    Ok(Json(result.into()))
}

/// Drop an envelope
///
/// The envelope ends as `failed` and its sender is notified.
#[utoipa::path(
    delete, path = "/admin/v1/envelopes/{id}", operation_id = "drop_envelope", tag = "queues",
    security(("token" = [])),
    params(PathParam<EnvelopeId>),
    responses(
        (status = 200, description = "Number of dropped envelopes", body = DropResult),
        ChangeProblems
    )
)]
pub(super) async fn drop_envelope(
    State(store): State<Store>,
    State(notifier): State<Arc<Notifier>>,
    State(clock): State<SharedClock>,
    PathParam(id): PathParam<EnvelopeId>,
) -> ApiResult<Json<DropResult>> {
    let result = store.drop_envelope(clock.now(), id).await?;
    if result.envelopes == 0 {
        return Err(ErrorCode::NotFound.into());
    }
    notifier.notify_accounts(&result.accounts_to_notify);
    tracing::info!(envelope = %id, "envelope dropped by the operator");
    Ok(Json(result.into()))
}

fn deserialize_cursor<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<QueueCursor>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?;
    text.map(|text| text.parse().map_err(D::Error::custom))
        .transpose()
}
