//! `POST /v1/envelopes`, `GET, DELETE /v1/envelopes/{id}`, `POST /v1/envelopes/status`: submit, ask, recall. Each item of a
//! submission is answered for itself; `not_found`, `proof_invalid` and `too_late` for the others.

use super::{
    Answer,
    auth::{BySession, Envelopes},
    ids::Id,
    openapi::{JSON, SESSION, WRITES},
    problem,
};
use crate::{
    admin::model::Throughput,
    openapi::problems,
    relay::Relay,
    store::{Recall, Submission},
};
use axum::{extract::State, response::IntoResponse as _};
use http::StatusCode;
use sealpost_proto::{
    EnvelopeId, ErrorCode, b64,
    limits::ENVELOPES_PER_REQUEST_MAX,
    schema::Bytes16,
    wire::{
        EnvelopeStatus, PROOF_HEADER, StatusRequest, StatusResponse, SubmitOutcome, SubmitRequest,
        SubmitResponse, SubmitResult,
    },
};
use sealpost_service::http::json_body;
use std::sync::Arc;

problems!(SubmitProblems: SESSION, JSON, WRITES);

/// Submit envelopes
///
/// Each is answered for itself, in the order of the request. `accepted` and `duplicate` stand on the disk; `refused` names a
/// code, and the time of another try when it passes.
#[utoipa::path(
    post, path = "/v1/envelopes", operation_id = "submit_envelopes", tag = "envelopes", security(("session" = [])),
    request_body = SubmitRequest,
    responses((status = 200, description = "What became of each", body = SubmitResponse), SubmitProblems)
)]
pub(super) async fn submit(
    State(relay): State<Arc<Relay>>,
    signed: BySession<Envelopes>,
) -> Answer {
    let SubmitRequest { envelopes } = signed.body.json()?;
    if !(1..=ENVELOPES_PER_REQUEST_MAX).contains(&envelopes.len()) {
        let detail = format!("a request holds 1 to {ENVELOPES_PER_REQUEST_MAX} envelopes");
        return Err(problem(ErrorCode::Malformed, detail));
    }
    relay
        .rules()
        .meters
        .of(signed.own_rates)
        .envelopes(signed.account, envelopes.len())?;
    relay.admit(signed.body.bytes.len())?;
    let _room = signed.body.into_room();
    let submissions = envelopes
        .into_iter()
        .map(|envelope| Submission::new(&relay.origin, envelope))
        .collect();
    let results = relay
        .store
        .submit(
            relay.now(),
            signed.account,
            submissions,
            relay.rules().quotas.clone(),
        )
        .await?;
    relay.throughput.add(relay.now(), throughput(&results));
    relay
        .metrics
        .submitted(results.iter().map(|result| &result.outcome));
    Ok(json_body(StatusCode::OK, &SubmitResponse { results }))
}

fn throughput(results: &[SubmitResult]) -> Throughput {
    let mut counts = Throughput::default();
    for result in results {
        match result.outcome {
            SubmitOutcome::Accepted { .. } => counts.accepted += 1,
            SubmitOutcome::Refused { .. } => counts.refused += 1,
            SubmitOutcome::Duplicate { .. } => {}
        }
    }
    counts
}

problems!(StatusProblems: SESSION; NotFound);

/// Ask for one envelope
#[utoipa::path(
    get, path = "/v1/envelopes/{id}", operation_id = "show_envelope", tag = "envelopes", security(("session" = [])),
    params(Id<EnvelopeId>),
    responses((status = 200, description = "Where it is", body = EnvelopeStatus), StatusProblems)
)]
pub(super) async fn status(
    State(relay): State<Arc<Relay>>,
    Id(id): Id<EnvelopeId>,
    signed: BySession,
) -> Answer {
    let found = relay.store.statuses(signed.account, vec![id]).await?.pop();
    Ok(json_body(
        StatusCode::OK,
        &found.ok_or(ErrorCode::NotFound)?,
    ))
}

problems!(ListProblems: SESSION, JSON);

/// Ask for several envelopes
#[utoipa::path(
    post, path = "/v1/envelopes/status", operation_id = "list_envelopes", tag = "envelopes", security(("session" = [])),
    request_body = StatusRequest,
    responses((status = 200, description = "Where those are that are the account's", body = StatusResponse), ListProblems)
)]
pub(super) async fn statuses(State(relay): State<Arc<Relay>>, signed: BySession) -> Answer {
    let StatusRequest { ids } = signed.body.json()?;
    if ids.len() > ENVELOPES_PER_REQUEST_MAX {
        return Err(problem(
            ErrorCode::Malformed,
            format!("at most {ENVELOPES_PER_REQUEST_MAX} ids"),
        ));
    }
    let envelopes = relay.store.statuses(signed.account, ids).await?;
    Ok(json_body(StatusCode::OK, &StatusResponse { envelopes }))
}

problems!(RecallProblems: SESSION, WRITES; NotFound, ProofInvalid, TooLate);

/// Take an envelope back
#[utoipa::path(
    delete, path = "/v1/envelopes/{id}", operation_id = "recall_envelope", tag = "envelopes", security(("session" = [])),
    params(Id<EnvelopeId>, ("Sealpost-Proof" = inline(Bytes16), Header, description = "The proof for recalling")),
    responses((status = 204, description = "It is not handed over, as recalled now or before"), RecallProblems)
)]
pub(super) async fn recall(
    State(relay): State<Arc<Relay>>,
    Id(id): Id<EnvelopeId>,
    signed: BySession,
) -> Answer {
    let proof = signed
        .body
        .header(PROOF_HEADER)
        .and_then(|text| b64::parse(text).ok())
        .unwrap_or_default();
    match relay
        .store
        .recall(relay.now(), signed.account, id, proof)
        .await?
    {
        Recall::Recalled => Ok(StatusCode::NO_CONTENT.into_response()),
        Recall::Refused(code) => Err(code.into()),
    }
}
