//! `/admin/v1/accounts/{id}/quotas`: quotas and rate limits of one account.

use super::{
    ApiResult,
    model::{AccountQuotas, Quota, QuotaSettings},
    openapi::{COMMON, WRITES},
    query::{PathParam, malformed},
};
use crate::{
    accounts::Accounts,
    openapi::problems,
    settings::LiveSettings,
    store::{AccountQuota, Store},
};
use axum::extract::State;
use sealpost_proto::{AccountId, ErrorCode};
use sealpost_relay_core::{QuotaOverrides, Quotas, rates::Rates};
use sealpost_service::http::Json;

problems!(ShowProblems: COMMON; NotFound);

/// Show the quotas and rate limits of an account
#[utoipa::path(
    get, path = "/admin/v1/accounts/{id}/quotas", operation_id = "show_quotas", tag = "accounts",
    security(("token" = [])), params(PathParam<AccountId>),
    responses((status = 200, description = "The account's quotas", body = AccountQuotas), ShowProblems)
)]
pub(super) async fn show(
    State(store): State<Store>,
    State(settings): State<LiveSettings>,
    PathParam(id): PathParam<AccountId>,
) -> ApiResult<Json<AccountQuotas>> {
    let quota = store
        .load_account_quota(id)
        .await?
        .ok_or(ErrorCode::NotFound)?;
    let settings = settings.load();
    Ok(Json(AccountQuotas {
        account_id: id,
        names: quota.names.clone().into(),
        quotas: build_quotas(&quota, &settings.quotas, settings.rate_limiters.rates()),
    }))
}

problems!(ChangeProblems: COMMON, WRITES; NotFound, UnsupportedMediaType, TooLarge);

/// Set the quotas and rate limits of an account
///
/// Replaces all overrides; a setting without one has its default. The change takes effect with the
/// next request. Data beyond a reduced quota is kept. A rate limit of 0 means unlimited.
#[utoipa::path(
    put, path = "/admin/v1/accounts/{id}/quotas", operation_id = "set_quotas", tag = "accounts",
    security(("token" = [])), params(PathParam<AccountId>), request_body = QuotaSettings,
    responses((status = 200, description = "The account's quotas", body = AccountQuotas), ChangeProblems)
)]
pub(super) async fn set(
    State(store): State<Store>,
    State(settings): State<LiveSettings>,
    State(accounts): State<Accounts>,
    PathParam(id): PathParam<AccountId>,
    Json(settings_by_name): Json<QuotaSettings>,
) -> ApiResult<Json<AccountQuotas>> {
    let overrides = serde_json::to_value(settings_by_name)
        .and_then(serde_json::from_value::<QuotaOverrides>)
        .map_err(|error| malformed(error.to_string()))?;
    if !store.replace_quota_overrides(id, overrides).await? {
        return Err(ErrorCode::NotFound.into());
    }
    accounts.invalidate(id);
    tracing::info!(account = %id, "quotas set by the operator");
    show(State(store), State(settings), PathParam(id)).await
}

fn build_quotas(account: &AccountQuota, quotas: &Quotas, rates: &Rates) -> Vec<Quota> {
    let AccountQuota {
        names: _,
        overrides,
        envelopes: queue_usage,
        mailboxes,
        blobs,
    } = account;
    let quota = |name: &str, default_limit, override_limit: Option<u64>, used| Quota {
        name: name.to_owned(),
        limit: override_limit.unwrap_or(default_limit),
        default_limit,
        override_limit,
        used,
    };
    let rate = |name, default_limit: u32, override_limit: Option<u32>| {
        quota(
            name,
            default_limit.into(),
            override_limit.map(u64::from),
            None,
        )
    };
    vec![
        quota(
            "mailbox_envelopes",
            quotas.mailbox_envelopes,
            overrides.mailbox_envelopes,
            None,
        ),
        quota(
            "mailbox_bytes",
            quotas.mailbox_bytes,
            overrides.mailbox_bytes,
            None,
        ),
        quota(
            "account_envelopes",
            quotas.account_envelopes,
            overrides.account_envelopes,
            Some(queue_usage.envelopes),
        ),
        quota(
            "account_bytes",
            quotas.account_bytes,
            overrides.account_bytes,
            Some(queue_usage.bytes),
        ),
        quota(
            "account_mailboxes",
            quotas.account_mailboxes,
            overrides.account_mailboxes,
            Some(*mailboxes),
        ),
        quota(
            "account_blobs",
            quotas.account_blobs,
            overrides.account_blobs,
            Some(blobs.blobs),
        ),
        quota(
            "account_blob_bytes",
            quotas.account_blob_bytes,
            overrides.account_blob_bytes,
            Some(blobs.bytes),
        ),
        quota("blob_bytes", quotas.blob_bytes, overrides.blob_bytes, None),
        rate(
            "requests_per_second",
            rates.requests_per_second,
            overrides.requests_per_second,
        ),
        rate(
            "requests_burst",
            rates.requests_burst,
            overrides.requests_burst,
        ),
        rate(
            "envelopes_per_minute",
            rates.envelopes_per_minute,
            overrides.envelopes_per_minute,
        ),
        quota(
            "blob_bytes_per_day",
            rates.blob_bytes_per_day,
            overrides.blob_bytes_per_day,
            None,
        ),
    ]
}
