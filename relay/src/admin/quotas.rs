//! `/admin/v1/accounts/{id}/quotas`: what one account may hold. Errors: `not_found`.

use super::{
    Answer,
    model::{AccountQuotas, OwnQuotas, Quota},
    openapi::{COMMON, WRITES},
    query::{Named, malformed},
};
use crate::{openapi::problems, relay::Relay, store::AccountQuota};
use axum::extract::State;
use sealpost_proto::{AccountId, ErrorCode};
use sealpost_relay_core::{QuotaOverrides, Quotas};
use sealpost_service::http::Json;
use std::sync::Arc;

problems!(ShowProblems: COMMON; NotFound);

/// Show the quotas of an account
#[utoipa::path(
    get, path = "/admin/v1/accounts/{id}/quotas", operation_id = "show_quotas", tag = "accounts",
    security(("token" = [])), params(Named<AccountId>),
    responses((status = 200, description = "Its quotas", body = AccountQuotas), ShowProblems)
)]
pub(super) async fn show(State(relay): State<Arc<Relay>>, Named(id): Named<AccountId>) -> Answer<Json<AccountQuotas>> {
    let quota = relay.store.quota_of(id).await?.ok_or(ErrorCode::NotFound)?;
    Ok(Json(AccountQuotas { account_id: id, quotas: view(&quota, &relay.rules().quotas) }))
}

problems!(ChangeProblems: COMMON, WRITES; NotFound, UnsupportedMediaType, TooLarge);

/// Set the quotas of an account
///
/// In place of what was set before; without any it is as all others. They count from the next request on, and what the
/// account holds beyond them stays.
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
    tracing::info!(account = %id, "the operator set quotas");
    show(State(relay), Named(id)).await
}

fn view(quota: &AccountQuota, for_all: &Quotas) -> Vec<Quota> {
    let own = for_all.with(&quota.overrides);
    let row = |name: &str, limit, for_all, held| Quota { name: name.to_owned(), limit, for_all, held };
    vec![
        row("mailbox_envelopes", own.mailbox_envelopes, for_all.mailbox_envelopes, None),
        row("mailbox_bytes", own.mailbox_bytes, for_all.mailbox_bytes, None),
        row("account_envelopes", own.account_envelopes, for_all.account_envelopes, Some(quota.queue.envelopes)),
        row("account_bytes", own.account_bytes, for_all.account_bytes, Some(quota.queue.bytes)),
        row("account_mailboxes", own.account_mailboxes, for_all.account_mailboxes, Some(quota.mailboxes)),
        row("account_blobs", own.account_blobs, for_all.account_blobs, Some(quota.blobs.blobs)),
        row("account_blob_bytes", own.account_blob_bytes, for_all.account_blob_bytes, Some(quota.blobs.bytes)),
        row("blob_bytes", own.blob_bytes, for_all.blob_bytes, None),
    ]
}
