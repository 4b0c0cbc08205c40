//! `POST /v1/blobs`, `GET, PATCH, DELETE /v1/blobs/{id}`, `POST /v1/blobs/{id}/complete`: announce, see, extend, delete,
//! complete. Errors: `conflict`, `too_large`, `quota_exceeded`, `not_found`, `blob_incomplete`.

use super::{
    Answer,
    auth::BySession,
    ids::Id,
    openapi::{JSON, SESSION, WRITES},
    passing_problem_with, problem, refusal,
};
use crate::{openapi::problems, relay::Relay, store::NewBlob};
use axum::{extract::State, response::IntoResponse as _};
use http::StatusCode;
use sealpost_proto::{
    B64, BlobId, ErrorCode,
    limits::BLOB_BYTES_MAX,
    wire::{Blob, CompleteBlob, CreateBlob, ExtendBlob},
};
use sealpost_relay_core::blob::BlobSize;
use sealpost_service::http::{ProblemResponse, json_body};
use std::sync::Arc;

problems!(CreateProblems: SESSION, JSON, WRITES; Conflict, QuotaExceeded);

/// Announce a blob
///
/// The same again with a later expiry extends it.
#[utoipa::path(
    post, path = "/v1/blobs", operation_id = "create_blob", tag = "blobs", security(("session" = [])),
    request_body = CreateBlob,
    responses(
        (status = 201, description = "Its parts can be uploaded", body = Blob),
        (status = 200, description = "It was known", body = Blob),
        CreateProblems,
    )
)]
pub(super) async fn create(State(relay): State<Arc<Relay>>, signed: BySession) -> Answer {
    let request: CreateBlob = signed.body.json()?;
    let size = BlobSize::parse(request.size_bytes, BLOB_BYTES_MAX)
        .map_err(|code| problem(code, format!("a blob has 49 to {BLOB_BYTES_MAX} bytes")))?;
    relay.admit(0)?;
    let now = relay.now();
    if request.expires_at <= now {
        return Err(problem(
            ErrorCode::Malformed,
            "the end of the blob's life is past",
        ));
    }
    let new = NewBlob {
        id: request.id,
        account: signed.account,
        size,
        token_hash: digest(&request.fetch_token_hash, "fetch_token_hash")?,
        expires_at: request.expires_at,
    };
    let created = relay
        .store
        .create_blob(now, new, relay.rules().quotas.clone())
        .await?;
    let (blob, created) = match created {
        Ok(created) => created,
        Err(ErrorCode::QuotaExceeded) => return Err(over_quota(&relay, &new).await?),
        Err(code) => return Err(refusal(code)),
    };
    Ok(json_body(
        if created {
            StatusCode::CREATED
        } else {
            StatusCode::OK
        },
        &blob,
    ))
}

/// Says what the account holds, what is free, and what to do.
async fn over_quota(relay: &Relay, new: &NewBlob) -> Result<ProblemResponse, ProblemResponse> {
    let quota = relay
        .store
        .quota_of(new.account)
        .await?
        .ok_or(ErrorCode::AccountUnknown)?;
    let may = relay.rules().quotas.with(&quota.overrides);
    let free_bytes = may.account_blob_bytes.saturating_sub(quota.blobs.bytes);
    let detail = if quota.blobs.blobs >= may.account_blobs {
        format!(
            "the account keeps {} files here, as many as it may",
            quota.blobs.blobs
        )
    } else {
        format!(
            "the account keeps {} of {} bytes of files here: {free_bytes} are free, this file needs {}",
            quota.blobs.bytes,
            may.account_blob_bytes,
            new.size.bytes()
        )
    };
    let what_to_do = "room is made when files are fetched, deleted or expire; the relay's operator can give more";
    Ok(passing_problem_with(
        ErrorCode::QuotaExceeded,
        format!("{detail}; {what_to_do}"),
    ))
}

problems!(ShowProblems: SESSION; NotFound);

/// See a blob
#[utoipa::path(
    get, path = "/v1/blobs/{id}", operation_id = "show_blob", tag = "blobs", security(("session" = [])),
    params(Id<BlobId>),
    responses((status = 200, description = "Which parts are there", body = Blob), ShowProblems)
)]
pub(super) async fn show(
    State(relay): State<Arc<Relay>>,
    Id(id): Id<BlobId>,
    signed: BySession,
) -> Answer {
    let blob = relay
        .store
        .blob(relay.now(), signed.account, id)
        .await?
        .ok_or(ErrorCode::NotFound)?;
    Ok(json_body(StatusCode::OK, &blob))
}

problems!(CompleteProblems: SESSION, JSON, WRITES; NotFound, BlobIncomplete);

/// Complete a blob
///
/// From then on it can be fetched.
#[utoipa::path(
    post, path = "/v1/blobs/{id}/complete", operation_id = "complete_blob", tag = "blobs", security(("session" = [])),
    params(Id<BlobId>), request_body = CompleteBlob,
    responses((status = 200, description = "It is complete", body = Blob), CompleteProblems)
)]
pub(super) async fn complete(
    State(relay): State<Arc<Relay>>,
    Id(id): Id<BlobId>,
    signed: BySession,
) -> Answer {
    let request: CompleteBlob = signed.body.json()?;
    let digest = digest(&request.digest, "digest")?;
    let blob = relay
        .store
        .complete_blob(relay.now(), signed.account, id, digest)
        .await?
        .map_err(refusal)?;
    Ok(json_body(StatusCode::OK, &blob))
}

problems!(ExtendProblems: SESSION, JSON, WRITES; NotFound);

/// Extend the life of a blob
#[utoipa::path(
    patch, path = "/v1/blobs/{id}", operation_id = "extend_blob", tag = "blobs", security(("session" = [])),
    params(Id<BlobId>), request_body = ExtendBlob,
    responses((status = 200, description = "The blob as it is now", body = Blob), ExtendProblems)
)]
pub(super) async fn extend(
    State(relay): State<Arc<Relay>>,
    Id(id): Id<BlobId>,
    signed: BySession,
) -> Answer {
    let ExtendBlob { expires_at } = signed.body.json()?;
    let blob = relay
        .store
        .extend_blob(relay.now(), signed.account, id, expires_at)
        .await?;
    Ok(json_body(StatusCode::OK, &blob.ok_or(ErrorCode::NotFound)?))
}

problems!(RemoveProblems: SESSION, WRITES);

/// Delete a blob
#[utoipa::path(
    delete, path = "/v1/blobs/{id}", operation_id = "delete_blob", tag = "blobs", security(("session" = [])),
    params(Id<BlobId>),
    responses((status = 204, description = "It is gone, now or before"), RemoveProblems)
)]
pub(super) async fn remove(
    State(relay): State<Arc<Relay>>,
    Id(id): Id<BlobId>,
    signed: BySession,
) -> Answer {
    relay.store.delete_blob(signed.account, id).await?;
    relay.wakes.sweeps.notify_one();
    Ok(StatusCode::NO_CONTENT.into_response())
}

fn digest(bytes: &B64, field: &str) -> Result<[u8; 32], ProblemResponse> {
    let digest = bytes.as_slice().try_into();
    digest.map_err(|_| problem(ErrorCode::Malformed, format!("{field} has 32 bytes")))
}
