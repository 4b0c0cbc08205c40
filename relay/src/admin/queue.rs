//! `/admin/v1/queues` and `/admin/v1/envelopes`: what waits, trying it again, dropping it. Errors: `not_found`.

use super::{
    Answer,
    model::{Dropped, Items, Queues, Retried},
    openapi::{COMMON, WRITES},
    query::{Named, Params, page_items},
};
use crate::{openapi::problems, relay::Relay, store::QueueCursor};
use axum::extract::State;
use sealpost_proto::{AccountId, DeliveryId, EnvelopeId, ErrorCode, limits::OPERATOR_ROWS_MAX};
use sealpost_service::http::Json;
use serde::{Deserialize, Deserializer, de::Error as _};
use std::sync::Arc;

/// Which queues.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct List {
    /// Only those whose webhook fails or is off.
    #[serde(default)]
    failing: bool,
    /// The cursor: `next` of the page before.
    #[serde(default, deserialize_with = "cursor")]
    #[param(value_type = Option<String>)]
    after: Option<QueueCursor>,
    /// Queues on the page, 100 by default, 500 at most.
    limit: Option<u32>,
}

/// Which items of a queue.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Show {
    /// The cursor: `next` of the page before.
    after: Option<u64>,
    /// Items on the page, 100 by default, 500 at most.
    limit: Option<u32>,
}

/// How far a queue is dropped.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct DropAll {
    /// `up_to` of the answer before, so that what comes meanwhile stays.
    up_to: Option<u64>,
}

problems!(ListProblems: COMMON);

/// List queues
///
/// A page of queues in which something waits, the oldest first.
#[utoipa::path(
    get, path = "/admin/v1/queues", operation_id = "list_queues", tag = "queues", security(("token" = [])),
    params(List),
    responses((status = 200, description = "A page", body = Queues), ListProblems)
)]
pub(super) async fn list(
    State(relay): State<Arc<Relay>>,
    Params(query): Params<List>,
) -> Answer<Json<Queues>> {
    Ok(Json(
        relay
            .store
            .queues(
                relay.now(),
                query.failing,
                query.after,
                page_items(query.limit),
            )
            .await?,
    ))
}

problems!(ShowProblems: COMMON; NotFound);

/// Show a queue
///
/// What waits for one account, in the order of delivery, never its bytes.
#[utoipa::path(
    get, path = "/admin/v1/queues/{id}", operation_id = "show_queue", tag = "queues", security(("token" = [])),
    params(Named<AccountId>, Show),
    responses((status = 200, description = "A page", body = Items), ShowProblems)
)]
pub(super) async fn show(
    State(relay): State<Arc<Relay>>,
    Named(id): Named<AccountId>,
    Params(query): Params<Show>,
) -> Answer<Json<Items>> {
    let after = DeliveryId(query.after.unwrap_or_default());
    let items = relay
        .store
        .items(relay.now(), id, after, page_items(query.limit))
        .await?;
    Ok(Json(items.ok_or(ErrorCode::NotFound)?))
}

problems!(ChangeProblems: COMMON, WRITES; NotFound);

/// Try a queue again
///
/// Tries one queue again now, with what was set aside in it.
#[utoipa::path(
    post, path = "/admin/v1/queues/{id}/retry", operation_id = "retry_queue", tag = "queues", security(("token" = [])),
    params(Named<AccountId>),
    responses((status = 200, description = "What is tried", body = Retried), ChangeProblems)
)]
pub(super) async fn retry(
    State(relay): State<Arc<Relay>>,
    Named(id): Named<AccountId>,
) -> Answer<Json<Retried>> {
    let retried = relay
        .store
        .retry(relay.now(), id)
        .await?
        .ok_or(ErrorCode::NotFound)?;
    relay.cache.forget(id);
    relay.wakes.wake(&[id]);
    Ok(Json(retried))
}

problems!(AllProblems: COMMON, WRITES);

/// Try every queue again
///
/// Tries every queue again now in which something waits.
#[utoipa::path(
    post, path = "/admin/v1/queues/retry", operation_id = "retry_queues", tag = "queues", security(("token" = [])),
    responses((status = 200, description = "What is tried", body = Retried), AllProblems)
)]
pub(super) async fn retry_all(State(relay): State<Arc<Relay>>) -> Answer<Json<Retried>> {
    let (mut all, mut after) = (
        Retried {
            queues: 0,
            set_aside: 0,
        },
        None,
    );
    loop {
        let some = relay.store.retry_some(relay.now(), after).await?;
        all.queues += some.accounts.len() as u64;
        all.set_aside += some.set_aside;
        some.accounts
            .iter()
            .for_each(|account| relay.cache.forget(*account));
        relay.wakes.wake(&some.accounts);
        after = some.accounts.last().copied();
        if some.accounts.len() < OPERATOR_ROWS_MAX {
            return Ok(Json(all));
        }
    }
}

/// Drop what waits for an account
///
/// Drops what waits for an account: its envelopes end as `failed` and their senders are told. A long queue takes several
/// requests: `up_to` of the answer goes into the next one.
#[utoipa::path(
    delete, path = "/admin/v1/queues/{id}", operation_id = "drop_queue", tag = "queues", security(("token" = [])),
    params(Named<AccountId>, DropAll),
    responses((status = 200, description = "What was dropped", body = Dropped), ChangeProblems)
)]
pub(super) async fn drop_all(
    State(relay): State<Arc<Relay>>,
    Named(id): Named<AccountId>,
    Params(query): Params<DropAll>,
) -> Answer<Json<Dropped>> {
    let some = relay
        .store
        .drop_queue(relay.now(), id, query.up_to.map(DeliveryId))
        .await?;
    let some = some.ok_or(ErrorCode::NotFound)?;
    relay.wakes.wake(&some.woken);
    tracing::info!(account = %id, dropped = some.dropped.dropped, "the operator dropped envelopes");
    Ok(Json(some.dropped))
}

/// Drop an envelope
///
/// Drops one envelope: it ends as `failed` and its sender is told.
#[utoipa::path(
    delete, path = "/admin/v1/envelopes/{id}", operation_id = "drop_envelope", tag = "queues", security(("token" = [])),
    params(Named<EnvelopeId>),
    responses((status = 200, description = "What was dropped", body = Dropped), ChangeProblems)
)]
pub(super) async fn drop_envelope(
    State(relay): State<Arc<Relay>>,
    Named(id): Named<EnvelopeId>,
) -> Answer<Json<Dropped>> {
    let some = relay.store.drop_envelope(relay.now(), id).await?;
    if some.dropped.dropped == 0 {
        return Err(ErrorCode::NotFound.into());
    }
    relay.wakes.wake(&some.woken);
    tracing::info!(envelope = %id, "the operator dropped an envelope");
    Ok(Json(some.dropped))
}

fn cursor<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<QueueCursor>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?;
    text.map(|text| text.parse().map_err(D::Error::custom))
        .transpose()
}
