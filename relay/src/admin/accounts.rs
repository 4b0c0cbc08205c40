//! `/admin/v1/accounts`: list, show, suspend, resume, delete. Errors: `not_found`.

use super::{
    Answer,
    model::{Account, Accounts},
    query::{Named, Params, Prefix, malformed, page_items},
};
use crate::relay::Relay;
use axum::extract::State;
use http::StatusCode;
use sealpost_proto::{AccountId, ErrorCode};
use sealpost_service::http::Json;
use serde::Deserialize;
use std::sync::Arc;

/// Which accounts.
#[derive(Debug, Deserialize)]
pub(super) struct List {
    /// Only those whose id begins like this.
    prefix: Option<String>,
    /// The cursor: `next` of the page before.
    after: Option<AccountId>,
    /// Accounts on the page, 100 by default, 500 at most.
    limit: Option<u32>,
}

/// A page of accounts, by id.
pub(super) async fn list(State(relay): State<Arc<Relay>>, Params(query): Params<List>) -> Answer<Json<Accounts>> {
    let prefix: Prefix = match query.prefix {
        Some(text) => text.parse().map_err(|error| malformed(format!("{error}")))?,
        None => Prefix::ANY,
    };
    let between = (prefix.first, prefix.last);
    Ok(Json(relay.store.accounts(relay.now(), between, query.after, page_items(query.limit)).await?))
}

/// One account.
pub(super) async fn show(State(relay): State<Arc<Relay>>, Named(id): Named<AccountId>) -> Answer<Json<Account>> {
    let account = relay.store.seen_account(relay.now(), id).await?;
    Ok(Json(account.ok_or(ErrorCode::NotFound)?))
}

/// Suspends an account: its requests are answered `account_suspended`, its mailboxes refuse what is submitted for the time
/// being, its webhook is not called; what waits stays.
pub(super) async fn suspend(State(relay): State<Arc<Relay>>, Named(id): Named<AccountId>) -> Answer<Json<Account>> {
    set_suspended(&relay, id, true).await
}

/// Lets a suspended account go on.
pub(super) async fn resume(State(relay): State<Arc<Relay>>, Named(id): Named<AccountId>) -> Answer<Json<Account>> {
    set_suspended(&relay, id, false).await
}

async fn set_suspended(relay: &Relay, id: AccountId, suspended: bool) -> Answer<Json<Account>> {
    let account = relay.store.suspend(relay.now(), id, suspended).await?.ok_or(ErrorCode::NotFound)?;
    relay.cache.forget(id);
    relay.wakes.wake(&[id]);
    tracing::info!(account = %id, suspended, "the operator changed an account");
    Ok(Json(account))
}

/// Deletes an account as if it had left: senders of what waits are told `failed`, its blobs go.
pub(super) async fn remove(State(relay): State<Arc<Relay>>, Named(id): Named<AccountId>) -> Answer<StatusCode> {
    let known = relay.store.expel(relay.now(), id).await?;
    relay.cache.forget(id);
    if !known {
        return Err(ErrorCode::NotFound.into());
    }
    relay.wakes.sweeps.notify_one();
    tracing::info!(account = %id, "the operator deleted an account");
    Ok(StatusCode::NO_CONTENT)
}
