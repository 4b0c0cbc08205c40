//! `/admin/v1/accounts`: list, show, suspend, resume, delete. Errors: `not_found`.

use super::{
    Answer,
    model::{Account, Accounts},
    openapi::{COMMON, WRITES},
    query::{Named, Params, Prefix, malformed, page_items},
};
use crate::{openapi::problems, relay::Relay};
use axum::extract::State;
use http::StatusCode;
use sealpost_proto::{AccountId, ErrorCode};
use sealpost_service::http::Json;
use serde::Deserialize;
use std::sync::Arc;

/// Which accounts.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct List {
    /// Only those whose id begins like this.
    prefix: Option<String>,
    /// The cursor: `next` of the page before.
    #[param(inline)]
    after: Option<AccountId>,
    /// Accounts on the page, 100 by default, 500 at most.
    limit: Option<u32>,
}

problems!(ListProblems: COMMON);

/// List accounts
#[utoipa::path(
    get, path = "/admin/v1/accounts", operation_id = "list_accounts", tag = "accounts", security(("token" = [])),
    params(List),
    responses((status = 200, description = "A page, by id", body = Accounts), ListProblems)
)]
pub(super) async fn list(
    State(relay): State<Arc<Relay>>,
    Params(query): Params<List>,
) -> Answer<Json<Accounts>> {
    let prefix: Prefix = match query.prefix {
        Some(text) => text
            .parse()
            .map_err(|error| malformed(format!("{error}")))?,
        None => Prefix::ANY,
    };
    let between = (prefix.first, prefix.last);
    Ok(Json(
        relay
            .store
            .accounts(relay.now(), between, query.after, page_items(query.limit))
            .await?,
    ))
}

problems!(OneProblems: COMMON; NotFound);

/// Show an account
#[utoipa::path(
    get, path = "/admin/v1/accounts/{id}", operation_id = "show_account", tag = "accounts", security(("token" = [])),
    params(Named<AccountId>),
    responses((status = 200, description = "The account", body = Account), OneProblems)
)]
pub(super) async fn show(
    State(relay): State<Arc<Relay>>,
    Named(id): Named<AccountId>,
) -> Answer<Json<Account>> {
    let account = relay.store.seen_account(relay.now(), id).await?;
    Ok(Json(account.ok_or(ErrorCode::NotFound)?))
}

problems!(ChangeProblems: COMMON, WRITES; NotFound);

/// Suspend an account
///
/// Suspends an account: its requests are answered `account_suspended`, its mailboxes refuse what is submitted for the time
/// being, its webhook is not called; what waits stays.
#[utoipa::path(
    post, path = "/admin/v1/accounts/{id}/suspend", operation_id = "suspend_account", tag = "accounts", security(("token" = [])),
    params(Named<AccountId>),
    responses((status = 200, description = "The account", body = Account), ChangeProblems)
)]
pub(super) async fn suspend(
    State(relay): State<Arc<Relay>>,
    Named(id): Named<AccountId>,
) -> Answer<Json<Account>> {
    set_suspended(&relay, id, true).await
}

/// Resume an account
///
/// Lets a suspended account go on.
#[utoipa::path(
    post, path = "/admin/v1/accounts/{id}/resume", operation_id = "resume_account", tag = "accounts", security(("token" = [])),
    params(Named<AccountId>),
    responses((status = 200, description = "The account", body = Account), ChangeProblems)
)]
pub(super) async fn resume(
    State(relay): State<Arc<Relay>>,
    Named(id): Named<AccountId>,
) -> Answer<Json<Account>> {
    set_suspended(&relay, id, false).await
}

async fn set_suspended(relay: &Relay, id: AccountId, suspended: bool) -> Answer<Json<Account>> {
    let account = relay
        .store
        .suspend(relay.now(), id, suspended)
        .await?
        .ok_or(ErrorCode::NotFound)?;
    relay.cache.forget(id);
    relay.wakes.wake(&[id]);
    tracing::info!(account = %id, suspended, "the operator changed an account");
    Ok(Json(account))
}

/// Delete an account
///
/// Deletes an account as if it had left: senders of what waits are told `failed`, its blobs go.
#[utoipa::path(
    delete, path = "/admin/v1/accounts/{id}", operation_id = "delete_account", tag = "accounts", security(("token" = [])),
    params(Named<AccountId>),
    responses((status = 204, description = "It is gone"), ChangeProblems)
)]
pub(super) async fn remove(
    State(relay): State<Arc<Relay>>,
    Named(id): Named<AccountId>,
) -> Answer<StatusCode> {
    let known = relay.store.expel(relay.now(), id).await?;
    relay.cache.forget(id);
    if !known {
        return Err(ErrorCode::NotFound.into());
    }
    relay.wakes.sweeps.notify_one();
    tracing::info!(account = %id, "the operator deleted an account");
    Ok(StatusCode::NO_CONTENT)
}
