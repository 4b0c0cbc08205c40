//! `POST /v1/blobs`, `GET, PATCH, DELETE /v1/blobs/{id}`, `POST /v1/blobs/{id}/complete`: create,
//! show, extend, delete and complete blobs.

use super::{
    ApiResult,
    auth::SessionRequest,
    ids::Id,
    openapi::{JSON, SESSION, WRITES},
    problem, refusal_problem, require_space, retryable_problem_with,
};
use crate::{
    notifier::Notifier,
    openapi::problems,
    settings::LiveSettings,
    storage::Storage,
    store::{NewBlob, Store},
};
use axum::{extract::State, response::IntoResponse as _};
use http::StatusCode;
use sealpost_proto::{
    B64, BlobId, ErrorCode,
    limits::BLOB_BYTES_MAX,
    wire::{Blob, CompleteBlob, CreateBlob, ExtendBlob},
};
use sealpost_relay_core::blob::BlobSize;
use sealpost_service::{
    Clock as _, SharedClock,
    http::{ProblemResponse, json_body},
};
use std::sync::Arc;

problems!(CreateProblems: SESSION, JSON, WRITES; Conflict, QuotaExceeded);

/// Create a blob
///
/// Its parts are uploaded afterwards. Repeating the request with a later expiry extends the blob.
#[utoipa::path(
    post, path = "/v1/blobs", operation_id = "create_blob", tag = "blobs",
    security(("session" = [])),
    request_body = CreateBlob,
    responses(
        (status = 201, description = "The blob was created", body = Blob),
        (status = 200, description = "The blob already existed", body = Blob),
        CreateProblems,
    )
)]
pub(super) async fn create(
    State(store): State<Store>,
    State(settings): State<LiveSettings>,
    State(storage): State<Arc<Storage>>,
    State(clock): State<SharedClock>,
    signed: SessionRequest,
) -> ApiResult {
    let request: CreateBlob = signed.body.json()?;
    let size = BlobSize::parse(request.size_bytes, BLOB_BYTES_MAX).map_err(|code| {
        problem(
            code,
            format!("a blob must have 49 to {BLOB_BYTES_MAX} bytes"),
        )
    })?;
    require_space(&storage, 0)?;
    let now = clock.now();
    if request.expires_at <= now {
        return Err(problem(
            ErrorCode::Malformed,
            "the expiry of the blob is in the past",
        ));
    }
    let new = NewBlob {
        id: request.id,
        account: signed.account,
        size,
        token_hash: parse_digest(&request.fetch_token_hash, "fetch_token_hash")?,
        expires_at: request.expires_at,
    };
    let created = store
        .create_blob(now, new, settings.load().quotas.clone())
        .await?;
    let (blob, is_new) = match created {
        Ok(created) => created,
        Err(ErrorCode::QuotaExceeded) => return Err(quota_problem(&store, &settings, &new).await?),
        Err(code) => return Err(refusal_problem(code)),
    };
    Ok(json_body(
        if is_new {
            StatusCode::CREATED
        } else {
            StatusCode::OK
        },
        &blob,
    ))
}

/// Returns `quota_exceeded` with the usage, the free space and the next step.
async fn quota_problem(
    store: &Store,
    settings: &LiveSettings,
    new: &NewBlob,
) -> Result<ProblemResponse, ProblemResponse> {
    let quota = store
        .load_account_quota(new.account)
        .await?
        .ok_or(ErrorCode::AccountUnknown)?;
    let quotas = settings.load().quotas.with_overrides(&quota.overrides);
    let free_bytes = quotas.account_blob_bytes.saturating_sub(quota.blobs.bytes);
    let detail = if quota.blobs.blobs >= quotas.account_blobs {
        format!(
            "the account stores {} files, which is its maximum",
            quota.blobs.blobs
        )
    } else {
        format!(
            "the account stores {} of {} bytes of files: {free_bytes} are free, this file needs {}",
            quota.blobs.bytes,
            quotas.account_blob_bytes,
            new.size.bytes()
        )
    };
    let advice = "space is freed when files are fetched, deleted or expire; the relay's operator \
                  can raise the quota";
    Ok(retryable_problem_with(
        ErrorCode::QuotaExceeded,
        format!("{detail}; {advice}"),
    ))
}

problems!(ShowProblems: SESSION; NotFound);

/// Show a blob
#[utoipa::path(
    get, path = "/v1/blobs/{id}", operation_id = "show_blob", tag = "blobs",
    security(("session" = [])),
    params(Id<BlobId>),
    responses(
        (status = 200, description = "The blob with its uploaded parts", body = Blob),
        ShowProblems
    )
)]
pub(super) async fn show(
    State(store): State<Store>,
    State(clock): State<SharedClock>,
    Id(id): Id<BlobId>,
    signed: SessionRequest,
) -> ApiResult {
    let blob = store
        .load_blob(clock.now(), signed.account, id)
        .await?
        .ok_or(ErrorCode::NotFound)?;
    Ok(json_body(StatusCode::OK, &blob))
}

problems!(CompleteProblems: SESSION, JSON, WRITES; NotFound, BlobIncomplete);

/// Complete a blob
///
/// A complete blob can be downloaded.
#[utoipa::path(
    post, path = "/v1/blobs/{id}/complete", operation_id = "complete_blob", tag = "blobs",
    security(("session" = [])),
    params(Id<BlobId>), request_body = CompleteBlob,
    responses((status = 200, description = "The complete blob", body = Blob), CompleteProblems)
)]
pub(super) async fn complete(
    State(store): State<Store>,
    State(clock): State<SharedClock>,
    Id(id): Id<BlobId>,
    signed: SessionRequest,
) -> ApiResult {
    let request: CompleteBlob = signed.body.json()?;
    let digest = parse_digest(&request.digest, "digest")?;
    let blob = store
        .complete_blob(clock.now(), signed.account, id, digest)
        .await?
        .map_err(refusal_problem)?;
    Ok(json_body(StatusCode::OK, &blob))
}

problems!(ExtendProblems: SESSION, JSON, WRITES; NotFound);

/// Extend the lifetime of a blob
#[utoipa::path(
    patch, path = "/v1/blobs/{id}", operation_id = "extend_blob", tag = "blobs",
    security(("session" = [])),
    params(Id<BlobId>), request_body = ExtendBlob,
    responses(
        (status = 200, description = "The blob with its new expiry", body = Blob),
        ExtendProblems
    )
)]
pub(super) async fn extend(
    State(store): State<Store>,
    State(clock): State<SharedClock>,
    Id(id): Id<BlobId>,
    signed: SessionRequest,
) -> ApiResult {
    let ExtendBlob { expires_at } = signed.body.json()?;
    let blob = store
        .extend_blob(clock.now(), signed.account, id, expires_at)
        .await?;
    Ok(json_body(StatusCode::OK, &blob.ok_or(ErrorCode::NotFound)?))
}

problems!(DeleteProblems: SESSION, WRITES);

/// Delete a blob
#[utoipa::path(
    delete, path = "/v1/blobs/{id}", operation_id = "delete_blob", tag = "blobs",
    security(("session" = [])),
    params(Id<BlobId>),
    responses((status = 204, description = "The blob is deleted"), DeleteProblems)
)]
pub(super) async fn delete(
    State(store): State<Store>,
    State(notifier): State<Arc<Notifier>>,
    Id(id): Id<BlobId>,
    signed: SessionRequest,
) -> ApiResult {
    store.delete_blob(signed.account, id).await?;
    notifier.sweeper.notify_one();
    Ok(StatusCode::NO_CONTENT.into_response())
}

fn parse_digest(bytes: &B64, field: &str) -> Result<[u8; 32], ProblemResponse> {
    let digest = bytes.as_slice().try_into();
    digest.map_err(|_| problem(ErrorCode::Malformed, format!("{field} must have 32 bytes")))
}
