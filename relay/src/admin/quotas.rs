//! `/admin/v1/accounts/{id}/quotas`: what one account may hold, and how often it may ask. Errors: `not_found`.

use super::{
    Answer,
    model::{AccountQuotas, OwnQuotas, Quota},
    openapi::{COMMON, WRITES},
    query::{Named, malformed},
};
use crate::{openapi::problems, relay::Relay, store::AccountQuota};
use axum::extract::State;
use sealpost_proto::{AccountId, ErrorCode};
use sealpost_relay_core::{QuotaOverrides, Quotas, rates::Rates};
use sealpost_service::http::Json;
use std::sync::Arc;

problems!(ShowProblems: COMMON; NotFound);

/// Show the quotas of an account
#[utoipa::path(
    get, path = "/admin/v1/accounts/{id}/quotas", operation_id = "show_quotas", tag = "accounts",
    security(("token" = [])), params(Named<AccountId>),
    responses((status = 200, description = "Its quotas", body = AccountQuotas), ShowProblems)
)]
pub(super) async fn show(
    State(relay): State<Arc<Relay>>,
    Named(id): Named<AccountId>,
) -> Answer<Json<AccountQuotas>> {
    let quota = relay.store.quota_of(id).await?.ok_or(ErrorCode::NotFound)?;
    let rules = relay.rules();
    Ok(Json(AccountQuotas {
        account_id: id,
        quotas: view(&quota, &rules.quotas, rules.meters.rates()),
    }))
}

problems!(ChangeProblems: COMMON, WRITES; NotFound, UnsupportedMediaType, TooLarge);

/// Set the quotas of an account
///
/// In place of what was set before; without any it is as all others. They count from the next request on, and what the
/// account holds beyond them stays. A rate of 0 is none.
#[utoipa::path(
    put, path = "/admin/v1/accounts/{id}/quotas", operation_id = "set_quotas", tag = "accounts",
    security(("token" = [])), params(Named<AccountId>), request_body = OwnQuotas,
    responses((status = 200, description = "Its quotas", body = AccountQuotas), ChangeProblems)
)]
pub(super) async fn set(
    State(relay): State<Arc<Relay>>,
    Named(id): Named<AccountId>,
    Json(own): Json<OwnQuotas>,
) -> Answer<Json<AccountQuotas>> {
    let own = serde_json::to_value(own).and_then(serde_json::from_value::<QuotaOverrides>);
    let own = own.map_err(|error| malformed(error.to_string()))?;
    if !relay.store.set_quota(id, own).await? {
        return Err(ErrorCode::NotFound.into());
    }
    relay.cache.forget(id);
    tracing::info!(account = %id, "the operator set quotas");
    show(State(relay), Named(id)).await
}

fn view(account: &AccountQuota, quotas: &Quotas, rates: &Rates) -> Vec<Quota> {
    let AccountQuota {
        overrides: own,
        queue,
        mailboxes,
        blobs,
    } = account;
    let quota = |name: &str, for_all, own: Option<u64>, held| Quota {
        name: name.to_owned(),
        limit: own.unwrap_or(for_all),
        for_all,
        own,
        held,
    };
    let rate = |name, for_all: u32, own: Option<u32>| {
        quota(name, for_all.into(), own.map(u64::from), None)
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
