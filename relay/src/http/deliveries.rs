//! `GET /v1/deliveries`, `POST /v1/deliveries/ack`: pull what waits, say what became of it. No errors of their own.

use super::{
    Answer,
    auth::BySession,
    ids::query,
    openapi::{JSON, SESSION, WRITES},
};
use crate::{
    admin::model::Throughput,
    delivery::batch,
    openapi::problems,
    relay::Relay,
    store::{LeasedBatch, StoreError},
};
use axum::{extract::State, response::IntoResponse as _};
use http::StatusCode;
use sealpost_proto::{
    AccountId,
    limits::{LONG_POLLS_MAX, PULL_WAIT_MAX},
    wire::{DeliveryBatch, DeliveryResults},
};
use sealpost_service::http::json_body;
use std::{sync::Arc, time::Duration};
use tokio::time::{Instant, sleep_until};

/// A long poll looks again by itself this often, for leases that ended unheard.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

problems!(PullProblems: SESSION, WRITES);

/// Pull what waits
///
/// A batch is leased for a minute: until it is acknowledged or the lease ends, nothing else is given out, but to another pull.
#[utoipa::path(
    get, path = "/v1/deliveries", operation_id = "pull_deliveries", tag = "deliveries", security(("session" = [])),
    params(("wait" = Option<u64>, Query, example = 0, description = "Seconds to wait for something; more than 25 are 25")),
    responses((status = 200, description = "A batch, which may be empty", body = DeliveryBatch), PullProblems)
)]
pub(super) async fn pull(State(relay): State<Arc<Relay>>, signed: BySession) -> Answer {
    let seconds: u64 = query(&signed.body.uri, "wait")?.unwrap_or_default();
    let wait = Duration::from_secs(seconds).min(PULL_WAIT_MAX);
    let account = signed.account;
    drop(signed);
    let Some(leased) = next(&relay, account, wait).await? else {
        return Ok(json_body(StatusCode::OK, &DeliveryBatch::default()));
    };
    let share = relay.memory.pulled(leased.size_bytes()).await;
    let batch = batch::fill(&relay.store, leased).await?;
    let answer = json_body(StatusCode::OK, &batch);
    drop(share);
    Ok(answer)
}

problems!(AcknowledgeProblems: SESSION, JSON, WRITES);

/// Say what became of a batch
///
/// Acknowledging twice, or what is not the account's, changes nothing.
#[utoipa::path(
    post, path = "/v1/deliveries/ack", operation_id = "acknowledge_deliveries", tag = "deliveries",
    security(("session" = [])), request_body = DeliveryResults,
    responses((status = 204, description = "It is written down"), AcknowledgeProblems)
)]
pub(super) async fn acknowledge(State(relay): State<Arc<Relay>>, signed: BySession) -> Answer {
    let results: DeliveryResults = signed.body.json()?;
    let handed = relay
        .store
        .acknowledge(relay.now(), signed.account, results.clone())
        .await?;
    relay.metrics.handed(&results.results);
    relay.throughput.add(
        relay.now(),
        Throughput {
            delivered: handed.stored,
            ..Throughput::default()
        },
    );
    relay
        .cache
        .note_contact(signed.account, handed.heeds_contact);
    relay.wakes.wake(&handed.woken);
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// What waits for the account, once something does and no call is under way.
async fn next(
    relay: &Relay,
    account: AccountId,
    wait: Duration,
) -> Result<Option<LeasedBatch>, StoreError> {
    let deadline = Instant::now() + wait;
    let Some(waiting) = relay.wakes.wait_for(account, LONG_POLLS_MAX) else {
        return look(relay, account).await;
    };
    loop {
        let woken = waiting.next();
        if let Some(leased) = look(relay, account).await? {
            return Ok(Some(leased));
        }
        if Instant::now() >= deadline || relay.shutdown.is_triggered() {
            return Ok(None);
        }
        tokio::select! {
            () = woken => {}
            () = sleep_until(deadline.min(Instant::now() + LOOK_AGAIN)) => {}
            () = relay.shutdown.triggered() => {}
        }
    }
}

async fn look(relay: &Relay, account: AccountId) -> Result<Option<LeasedBatch>, StoreError> {
    if relay.store.has_waiting(account).await? {
        relay
            .store
            .pull(relay.now(), account, relay.memory.portion().bytes)
            .await
    } else {
        Ok(None)
    }
}
