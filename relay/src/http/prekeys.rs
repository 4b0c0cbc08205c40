//! `PUT, GET /v1/mailboxes/{id}/prekeys`: the owner of a mailbox publishes sealed prekeys; holders
//! of its send key read them.

use super::{
    ApiResult,
    auth::{AccountKeyRequest, SessionRequest},
    ids::Id,
    openapi::{ANY_KEY, JSON, KNOWN, SESSION},
    problem, require_space,
};
use crate::{openapi::problems, storage::Storage, store::Store, store::StoredPrekeys};
use axum::{extract::State, response::IntoResponse as _};
use http::StatusCode;
use sealpost_proto::{
    B64, ErrorCode, MailboxId, Timestamp, b64,
    limits::SEALED_PREKEYS_BYTES,
    schema::Bytes16,
    wire::{PROOF_HEADER, PROOF_TIME_HEADER, SealedPrekeys},
};
use sealpost_service::{Clock as _, SharedClock, http::json_body};
use sealpost_signatures::proofs;
use std::sync::Arc;

problems!(PublishProblems: ANY_KEY, KNOWN, JSON; NotFound);

/// Publish prekeys
#[utoipa::path(
    put, path = "/v1/mailboxes/{id}/prekeys", operation_id = "publish_prekeys", tag = "mailboxes",
    security(("account_key" = [])), params(Id<MailboxId>), request_body = SealedPrekeys,
    responses(
        (status = 204, description = "The prekeys are published and replace earlier ones"),
        PublishProblems
    )
)]
pub(super) async fn publish(
    State(store): State<Store>,
    State(storage): State<Arc<Storage>>,
    Id(mailbox): Id<MailboxId>,
    signed: AccountKeyRequest,
) -> ApiResult {
    let SealedPrekeys {
        sealed: B64(sealed),
    } = signed.body.json()?;
    if sealed.len() != SEALED_PREKEYS_BYTES {
        return Err(problem(
            ErrorCode::Malformed,
            format!("sealed prekeys must have {SEALED_PREKEYS_BYTES} bytes"),
        ));
    }
    require_space(&storage, SEALED_PREKEYS_BYTES)?;
    if store
        .publish_prekeys(signed.account.id, mailbox, sealed)
        .await?
    {
        Ok(StatusCode::NO_CONTENT.into_response())
    } else {
        Err(ErrorCode::NotFound.into())
    }
}

problems!(ShowProblems: SESSION; ProofInvalid, MailboxUnknown, MailboxClosed, NotFound);

/// Read prekeys
///
/// The owner of the mailbox needs no proof. A holder of its send key sends a proof.
#[utoipa::path(
    get, path = "/v1/mailboxes/{id}/prekeys", operation_id = "show_prekeys", tag = "mailboxes",
    security(("session" = [])),
    params(
        Id<MailboxId>,
        (
            "Sealpost-Proof" = inline(Option<Bytes16>),
            Header,
            nullable = false,
            description = "Read proof; required unless the caller owns the mailbox"
        ),
        (
            "Sealpost-Proof-Time" = inline(Option<Timestamp>),
            Header,
            nullable = false,
            description = "Time covered by the proof"
        ),
    ),
    responses(
        (status = 200, description = "The sealed prekeys", body = SealedPrekeys),
        ShowProblems
    )
)]
pub(super) async fn show(
    State(store): State<Store>,
    State(clock): State<SharedClock>,
    Id(mailbox): Id<MailboxId>,
    signed: SessionRequest,
) -> ApiResult {
    let stored = store.load_prekeys(mailbox).await??;
    if stored.mailbox.account != signed.account
        && !has_valid_proof(&signed, mailbox, &stored, clock.now())
    {
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

fn has_valid_proof(
    signed: &SessionRequest,
    mailbox: MailboxId,
    stored: &StoredPrekeys,
    now: Timestamp,
) -> bool {
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
    proofs::verify_read(&stored.mailbox.keys, mailbox, at, now, &proof)
}
