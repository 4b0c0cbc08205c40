//! `/admin/v1/accounts/{id}/quotas`: quotas and rate limits of one account.

use super::{
    ApiResult,
    model::{AccountQuotas, Quota, QuotaSettings},
    openapi::{COMMON, WRITES},
    query::{Named, malformed},
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
    security(("token" = [])), params(Named<AccountId>),
    responses((status = 200, description = "The account's quotas", body = AccountQuotas), ShowProblems)
)]
pub(super) async fn show(
    State(store): State<Store>,
    State(settings): State<LiveSettings>,
    Named(id): Named<AccountId>,
) -> ApiResult<Json<AccountQuotas>> {
    let quota = store
        .load_account_quota(id)
        .await?
        .ok_or(ErrorCode::NotFound)?;
    let settings = settings.load();
    Ok(Json(AccountQuotas {
        account_id: id,
        quotas: view(&quota, &settings.quotas, settings.rate_limiters.rates()),
    }))
}

problems!(ChangeProblems: COMMON, WRITES; NotFound, UnsupportedMediaType, TooLarge);

/// Set the quotas and rate limits of an account
///
/// Replaces all overrides; without any, the defaults apply. They take effect with the next request.
/// Data beyond a reduced quota is kept. A rate limit of 0 means unlimited.
#[utoipa::path(
    put, path = "/admin/v1/accounts/{id}/quotas", operation_id = "set_quotas", tag = "accounts",
    security(("token" = [])), params(Named<AccountId>), request_body = QuotaSettings,
    responses((status = 200, description = "The account's quotas", body = AccountQuotas), ChangeProblems)
)]
pub(super) async fn set(
    State(store): State<Store>,
    State(settings): State<LiveSettings>,
    State(accounts): State<Accounts>,
    Named(id): Named<AccountId>,
    Json(own): Json<QuotaSettings>,
) -> ApiResult<Json<AccountQuotas>> {
    let own = serde_json::to_value(own).and_then(serde_json::from_value::<QuotaOverrides>);
    let own = own.map_err(|error| malformed(error.to_string()))?;
    if !store.replace_quota_overrides(id, own).await? {
        return Err(ErrorCode::NotFound.into());
    }
    accounts.invalidate(id);
    tracing::info!(account = %id, "quotas set by the operator");
    show(State(store), State(settings), Named(id)).await
}

fn view(account: &AccountQuota, quotas: &Quotas, rates: &Rates) -> Vec<Quota> {
    let AccountQuota {
        overrides: own,
        envelopes: queue,
        mailboxes,
        blobs,
    } = account;
    let quota = |name: &str, default_limit, own: Option<u64>, used| Quota {
        name: name.to_owned(),
        limit: own.unwrap_or(default_limit),
        default_limit,
        override_limit: own,
        used,
    };
    let rate = |name, default_limit: u32, own: Option<u32>| {
        quota(name, default_limit.into(), own.map(u64::from), None)
    };
    vec![
        quota(
            "mailbox_envelopes",
            quotas.mailbox_envelopes,
            own.mailbox_envelopes,
            None,
        ),
        quota(
            "mailbox_bytes",
            quotas.mailbox_bytes,
            own.mailbox_bytes,
            None,
        ),
        quota(
            "account_envelopes",
            quotas.account_envelopes,
            own.account_envelopes,
            Some(queue.envelopes),
        ),
        quota(
            "account_bytes",
            quotas.account_bytes,
            own.account_bytes,
            Some(queue.bytes),
        ),
        quota(
            "account_mailboxes",
            quotas.account_mailboxes,
            own.account_mailboxes,
            Some(*mailboxes),
        ),
        quota(
            "account_blobs",
            quotas.account_blobs,
            own.account_blobs,
            Some(blobs.blobs),
        ),
        quota(
            "account_blob_bytes",
            quotas.account_blob_bytes,
            own.account_blob_bytes,
            Some(blobs.bytes),
        ),
        quota("blob_bytes", quotas.blob_bytes, own.blob_bytes, None),
        rate(
            "requests_per_second",
            rates.requests_per_second,
            own.requests_per_second,
        ),
        rate("requests_burst", rates.requests_burst, own.requests_burst),
        rate(
            "envelopes_per_minute",
            rates.envelopes_per_minute,
            own.envelopes_per_minute,
        ),
        quota(
            "blob_bytes_per_day",
            rates.blob_bytes_per_day,
            own.blob_bytes_per_day,
            None,
        ),
    ]
}
