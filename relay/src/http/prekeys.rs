//! `PUT, GET /v1/mailboxes/{id}/prekeys`: the owner publishes the sealed base, whoever holds the send key reads it. Errors:
//! `not_found` when the mailbox is not the account's or holds none, `mailbox_unknown`, `proof_invalid`.

use super::{
    Answer,
    auth::{ByAccountKey, BySession},
    ids::Id,
    openapi::{ANY_KEY, JSON, KNOWN, SESSION},
    problem,
};
use crate::{openapi::problems, relay::Relay, store::StoredPrekeys};
use axum::{extract::State, response::IntoResponse as _};
use http::StatusCode;
use sealpost_proto::{
    B64, ErrorCode, MailboxId, Timestamp, b64,
    limits::SEALED_PREKEYS_BYTES,
    schema::Bytes16,
    wire::{PROOF_HEADER, PROOF_TIME_HEADER, SealedPrekeys},
};
use sealpost_service::http::json_body;
use sealpost_signatures::proofs;
use std::sync::Arc;

problems!(PublishProblems: ANY_KEY, KNOWN, JSON; NotFound);

/// Publish prekeys
#[utoipa::path(
    put, path = "/v1/mailboxes/{id}/prekeys", operation_id = "publish_prekeys", tag = "mailboxes",
    security(("account_key" = [])), params(Id<MailboxId>), request_body = SealedPrekeys,
    responses((status = 204, description = "They replace the ones before"), PublishProblems)
)]
pub(super) async fn publish(
    State(relay): State<Arc<Relay>>,
    Id(mailbox): Id<MailboxId>,
    signed: ByAccountKey,
) -> Answer {
    let SealedPrekeys {
        sealed: B64(sealed),
    } = signed.body.json()?;
    if sealed.len() != SEALED_PREKEYS_BYTES {
        return Err(problem(
            ErrorCode::Malformed,
            format!("sealed prekeys have {SEALED_PREKEYS_BYTES} bytes"),
        ));
    }
    relay.admit(SEALED_PREKEYS_BYTES)?;
    if relay
        .store
        .publish_prekeys(signed.facts.account, mailbox, sealed)
        .await?
    {
        Ok(StatusCode::NO_CONTENT.into_response())
    } else {
        Err(ErrorCode::NotFound.into())
    }
}

problems!(ShowProblems: SESSION; ProofInvalid, MailboxUnknown, NotFound);

/// Read prekeys
///
/// The owner of the mailbox needs no proof, the holder of its send key does.
#[utoipa::path(
    get, path = "/v1/mailboxes/{id}/prekeys", operation_id = "show_prekeys", tag = "mailboxes", security(("session" = [])),
    params(
        Id<MailboxId>,
        ("Sealpost-Proof" = inline(Option<Bytes16>), Header, nullable = false, description = "The proof for reading"),
        ("Sealpost-Proof-Time" = inline(Option<Timestamp>), Header, nullable = false, description = "The time that the proof covers"),
    ),
    responses((status = 200, description = "The sealed base", body = SealedPrekeys), ShowProblems)
)]
pub(super) async fn show(
    State(relay): State<Arc<Relay>>,
    Id(mailbox): Id<MailboxId>,
    signed: BySession,
) -> Answer {
    let stored = relay
        .store
        .prekeys(mailbox)
        .await?
        .ok_or(ErrorCode::MailboxUnknown)?;
    if stored.facts.account != signed.account && !proves(&signed, mailbox, &stored, relay.now()) {
        return Err(ErrorCode::ProofInvalid.into());
    }
    let sealed = stored.sealed.ok_or(ErrorCode::NotFound)?;
    Ok(json_body(
        StatusCode::OK,
        &SealedPrekeys {
            sealed: B64(sealed),
        },
    ))
}

fn proves(signed: &BySession, mailbox: MailboxId, stored: &StoredPrekeys, now: Timestamp) -> bool {
    let proof = signed
        .body
        .header(PROOF_HEADER)
        .and_then(|text| b64::parse(text).ok());
    let at = signed
        .body
        .header(PROOF_TIME_HEADER)
        .and_then(|text| text.parse().ok())
        .map(Timestamp::from_millis);
    let (Some(proof), Some(at)) = (proof, at) else {
        return false;
    };
    proofs::verify_read(&stored.facts.keys, mailbox, at, now, &proof)
}
