//! `POST /v1/envelopes`, `GET, DELETE /v1/envelopes/{id}`, `POST /v1/envelopes/status`: submit
//! envelopes, query their status, recall them.

use super::{
    ApiResult,
    auth::{EnvelopesBody, SessionRequest},
    ids::Id,
    openapi::{JSON, SESSION, WRITES},
    problem, require_space,
};
use crate::{
    activity::Activity,
    openapi::problems,
    settings::LiveSettings,
    storage::Storage,
    store::{RecallOutcome, Store, Submission},
};
use axum::{extract::State, response::IntoResponse as _};
use http::StatusCode;
use sealpost_proto::{
    EnvelopeId, ErrorCode, Origin, b64,
    limits::ENVELOPES_PER_REQUEST_MAX,
    schema::Bytes16,
    wire::{
        EnvelopeStatus, PROOF_HEADER, StatusRequest, StatusResponse, SubmitRequest, SubmitResponse,
    },
};
use sealpost_service::{Clock as _, SharedClock, http::json_body};
use std::sync::Arc;

problems!(SubmitProblems: SESSION, JSON, WRITES);

/// Submit envelopes
///
/// Each envelope has its own result, in the order of the request. `accepted` and `duplicate` mean
/// that the envelope is on disk. `refused` contains an error code and, if it is retryable, the
/// retry delay.
#[utoipa::path(
    post, path = "/v1/envelopes", operation_id = "submit_envelopes", tag = "envelopes",
    security(("session" = [])),
    request_body = SubmitRequest,
    responses(
        (status = 200, description = "Result of each envelope", body = SubmitResponse),
        SubmitProblems
    )
)]
pub(super) async fn submit(
    State(store): State<Store>,
    State(settings): State<LiveSettings>,
    State(storage): State<Arc<Storage>>,
    State(origin): State<Origin>,
    State(activity): State<Activity>,
    State(clock): State<SharedClock>,
    signed: SessionRequest<EnvelopesBody>,
) -> ApiResult {
    let SubmitRequest { envelopes } = signed.body.json()?;
    if !(1..=ENVELOPES_PER_REQUEST_MAX).contains(&envelopes.len()) {
        let detail = format!("a request must contain 1 to {ENVELOPES_PER_REQUEST_MAX} envelopes");
        return Err(problem(ErrorCode::Malformed, detail));
    }
    let settings = settings.load();
    let rate_limiters = settings.rate_limiters.for_overrides(signed.rate_overrides);
    rate_limiters.charge_envelopes(signed.account, envelopes.len())?;
    let has_short_record = !rate_limiters.try_charge_long_records(signed.account, envelopes.len());
    require_space(&storage, signed.body.bytes.len())?;
    // Frees the parsed body, but keeps its memory reserved until the commit: hundreds of requests
    // can wait for the same one.
    let _permits = signed.body.into_permits();
    let submissions = envelopes
        .into_iter()
        .map(|envelope| Submission::new(&origin, envelope, has_short_record))
        .collect();
    let results = store
        .submit(
            clock.now(),
            signed.account,
            submissions,
            settings.quotas.clone(),
        )
        .await?;
    activity.record_submissions(clock.now(), &results);
    Ok(json_body(StatusCode::OK, &SubmitResponse { results }))
}

problems!(StatusProblems: SESSION; NotFound);

/// Show the status of an envelope
#[utoipa::path(
    get, path = "/v1/envelopes/{id}", operation_id = "show_envelope", tag = "envelopes",
    security(("session" = [])),
    params(Id<EnvelopeId>),
    responses(
        (status = 200, description = "Status of the envelope", body = EnvelopeStatus),
        StatusProblems
    )
)]
pub(super) async fn show(
    State(store): State<Store>,
    Id(id): Id<EnvelopeId>,
    signed: SessionRequest,
) -> ApiResult {
    let found = store.load_statuses(signed.account, vec![id]).await?.pop();
    Ok(json_body(
        StatusCode::OK,
        &found.ok_or(ErrorCode::NotFound)?,
    ))
}

problems!(QueryProblems: SESSION, JSON);

/// Query the statuses of several envelopes
#[utoipa::path(
    post, path = "/v1/envelopes/status", operation_id = "query_envelope_statuses", tag = "envelopes",
    security(("session" = [])),
    request_body = StatusRequest,
    responses(
        (
            status = 200,
            description = "Status of each envelope that the account sent; others are left out",
            body = StatusResponse
        ),
        QueryProblems
    )
)]
pub(super) async fn query_statuses(
    State(store): State<Store>,
    signed: SessionRequest,
) -> ApiResult {
    let StatusRequest { ids } = signed.body.json()?;
    if ids.len() > ENVELOPES_PER_REQUEST_MAX {
        return Err(problem(
            ErrorCode::Malformed,
            format!("a request must contain up to {ENVELOPES_PER_REQUEST_MAX} ids"),
        ));
    }
    let envelopes = store.load_statuses(signed.account, ids).await?;
    Ok(json_body(StatusCode::OK, &StatusResponse { envelopes }))
}

problems!(RecallProblems: SESSION, WRITES; NotFound, ProofInvalid, TooLate);

/// Recall an envelope
#[utoipa::path(
    delete, path = "/v1/envelopes/{id}", operation_id = "recall_envelope", tag = "envelopes",
    security(("session" = [])),
    params(
        Id<EnvelopeId>,
        ("Sealpost-Proof" = inline(Bytes16), Header, description = "Recall proof")
    ),
    responses(
        (status = 204, description = "The envelope is recalled and will not be delivered"),
        RecallProblems
    )
)]
pub(super) async fn recall(
    State(store): State<Store>,
    State(clock): State<SharedClock>,
    Id(id): Id<EnvelopeId>,
    signed: SessionRequest,
) -> ApiResult {
    // A missing or malformed proof becomes an empty one, which fails verification like any wrong
    // proof.
    let proof = signed
        .body
        .header(PROOF_HEADER)
        .and_then(|text| b64::parse(text).ok())
        .unwrap_or_default();
    match store.recall(clock.now(), signed.account, id, proof).await? {
        RecallOutcome::Recalled => Ok(StatusCode::NO_CONTENT.into_response()),
        RecallOutcome::Refused(code) => Err(code.into()),
    }
}
