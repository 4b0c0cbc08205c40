//! `/admin/v1/accounts`: list, show, label, suspend, resume and delete accounts.

use super::{
    ApiResult,
    model::{Account, Accounts, NewLabel},
    openapi::{COMMON, WRITES},
    query::{IdPrefix, PathParam, QueryParams, malformed, page_size},
    state::AdminState,
};
use crate::{
    accounts::Accounts as AccountCache, notifier::Notifier, openapi::problems, store::Store,
};
use axum::extract::{FromRef, State};
use http::StatusCode;
use sealpost_proto::{AccountId, ErrorCode, limits::ACCOUNT_LABEL_CHARS_MAX};
use sealpost_service::{Clock as _, SharedClock, escape::is_display_control, http::Json};
use serde::Deserialize;
use std::sync::Arc;

/// Query parameters of the list.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct ListQuery {
    /// Prefix of the account id.
    prefix: Option<String>,
    /// Cursor: `next` of the previous page.
    #[param(inline)]
    after: Option<AccountId>,
    /// Accounts per page: 100 by default, at most 500.
    limit: Option<u32>,
}

problems!(ListProblems: COMMON);

/// List accounts
#[utoipa::path(
    get, path = "/admin/v1/accounts", operation_id = "list_accounts", tag = "accounts",
    security(("token" = [])),
    params(ListQuery),
    responses(
        (status = 200, description = "Page of accounts, ordered by id", body = Accounts),
        ListProblems
    )
)]
pub(super) async fn list(
    State(store): State<Store>,
    State(clock): State<SharedClock>,
    QueryParams(query): QueryParams<ListQuery>,
) -> ApiResult<Json<Accounts>> {
    let prefix: IdPrefix = match query.prefix {
        Some(text) => text
            .parse()
            .map_err(|error| malformed(format!("{error}")))?,
        None => IdPrefix::ANY,
    };
    let between = (prefix.first, prefix.last);
    let (now, limit) = (clock.now(), page_size(query.limit));
    let page = store
        .list_accounts(now, between, query.after, limit)
        .await?;
    Ok(Json(Accounts::new(now, page)))
}

problems!(OneProblems: COMMON; NotFound);

/// Show an account
#[utoipa::path(
    get, path = "/admin/v1/accounts/{id}", operation_id = "show_account", tag = "accounts",
    security(("token" = [])),
    params(PathParam<AccountId>),
    responses((status = 200, description = "The account", body = Account), OneProblems)
)]
pub(super) async fn show(
    State(store): State<Store>,
    State(clock): State<SharedClock>,
    PathParam(id): PathParam<AccountId>,
) -> ApiResult<Json<Account>> {
    let account = store.load_account_summary(clock.now(), id).await?;
    Ok(Json(account.ok_or(ErrorCode::NotFound)?.into()))
}

problems!(ChangeProblems: COMMON, WRITES; NotFound);

/// Suspend an account
///
/// The requests of a suspended account fail with `account_suspended`, its mailboxes refuse new
/// envelopes with a retryable error, and its webhook is not called. Its queue is kept.
#[utoipa::path(
    post, path = "/admin/v1/accounts/{id}/suspend", operation_id = "suspend_account",
    tag = "accounts", security(("token" = [])),
    params(PathParam<AccountId>),
    responses((status = 200, description = "The account", body = Account), ChangeProblems)
)]
pub(super) async fn suspend(
    State(suspension): State<Suspension>,
    PathParam(id): PathParam<AccountId>,
) -> ApiResult<Json<Account>> {
    suspension.set_suspended(id, true).await
}

/// Resume an account
///
/// Resumes a suspended account.
#[utoipa::path(
    post, path = "/admin/v1/accounts/{id}/resume", operation_id = "resume_account",
    tag = "accounts", security(("token" = [])),
    params(PathParam<AccountId>),
    responses((status = 200, description = "The account", body = Account), ChangeProblems)
)]
pub(super) async fn resume(
    State(suspension): State<Suspension>,
    PathParam(id): PathParam<AccountId>,
) -> ApiResult<Json<Account>> {
    suspension.set_suspended(id, false).await
}

problems!(LabelProblems: COMMON, WRITES; NotFound, UnsupportedMediaType, TooLarge);

/// Label an account
///
/// Sets or removes a text for the operator. Nodes never see it.
#[utoipa::path(
    put, path = "/admin/v1/accounts/{id}/label", operation_id = "label_account", tag = "accounts",
    security(("token" = [])),
    params(PathParam<AccountId>),
    request_body = NewLabel,
    responses((status = 200, description = "The account", body = Account), LabelProblems)
)]
pub(super) async fn set_label(
    State(store): State<Store>,
    State(clock): State<SharedClock>,
    PathParam(id): PathParam<AccountId>,
    Json(NewLabel { label }): Json<NewLabel>,
) -> ApiResult<Json<Account>> {
    let label = label.trim();
    if label.chars().count() > ACCOUNT_LABEL_CHARS_MAX || label.contains(is_display_control) {
        return Err(malformed(format!(
            "a label has up to {ACCOUNT_LABEL_CHARS_MAX} characters and no control characters"
        )));
    }
    let label = Some(label.to_owned()).filter(|label| !label.is_empty());
    let account = store.set_label(clock.now(), id, label).await?;
    Ok(Json(account.ok_or(ErrorCode::NotFound)?.into()))
}

/// Parts of the relay that are needed to suspend or resume an account.
#[derive(Clone)]
pub(super) struct Suspension {
    store: Store,
    accounts: AccountCache,
    notifier: Arc<Notifier>,
    clock: SharedClock,
}

impl FromRef<AdminState> for Suspension {
    fn from_ref(state: &AdminState) -> Self {
        Self {
            store: Store::from_ref(state),
            accounts: AccountCache::from_ref(state),
            notifier: Arc::from_ref(state),
            clock: SharedClock::from_ref(state),
        }
    }
}

impl Suspension {
    async fn set_suspended(&self, id: AccountId, suspended: bool) -> ApiResult<Json<Account>> {
        let now = self.clock.now();
        let account = self.store.set_suspended(now, id, suspended).await?;
        let account = account.ok_or(ErrorCode::NotFound)?;
        self.accounts.invalidate(id);
        self.notifier.notify_accounts(&[id]);
        tracing::info!(account = %id, suspended, "account state changed by the operator");
        Ok(Json(account.into()))
    }
}

/// Delete an account
///
/// Deletes the account as its owner would: queued envelopes fail, their senders are notified, and
/// its blobs are deleted.
#[utoipa::path(
    delete, path = "/admin/v1/accounts/{id}", operation_id = "delete_account", tag = "accounts",
    security(("token" = [])),
    params(PathParam<AccountId>),
    responses((status = 204, description = "The account is deleted"), ChangeProblems)
)]
pub(super) async fn delete(
    State(store): State<Store>,
    State(accounts): State<AccountCache>,
    State(notifier): State<Arc<Notifier>>,
    State(clock): State<SharedClock>,
    PathParam(id): PathParam<AccountId>,
) -> ApiResult<StatusCode> {
    let existed = store.delete_account(clock.now(), id).await?;
    accounts.invalidate(id);
    if !existed {
        return Err(ErrorCode::NotFound.into());
    }
    notifier.sweeper.notify_one();
    tracing::info!(account = %id, "account deleted by the operator");
    Ok(StatusCode::NO_CONTENT)
}
