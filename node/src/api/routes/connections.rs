//! `/v1/connections`

use super::{ApiResult, Body, Params, page, page_items};
use crate::{
    api::{
        model::{Connect, Connection, Page, PageQuery, SafetyNumber, Verify},
        problem::{Problem, ProblemCode},
        render,
    },
    daemon::{Database, HomeRelay},
    fault::Fault,
    identity::NodeIdentity,
    pairing,
    store::{Tx, connections},
};
use axum::{
    Json,
    extract::{Path, State},
    response::IntoResponse,
};
use http::StatusCode;
use sealpost_e2ee::{
    PeerIdentity,
    invite::{Invite, InviteError, InviteRefusal},
    safety_number::{self, VerificationCode},
};
use sealpost_node_core::model::ConnectionId;
use sealpost_proto::{ErrorCode, Timestamp, limits};
use sealpost_relay_client::ClientError;
use std::sync::Arc;

/// `GET /v1/connections`
pub(super) async fn list(
    State(database): State<Database>,
    Params(query): Params<PageQuery>,
) -> ApiResult<Json<Page<Connection>>> {
    let limit = page_items(query.limit);
    let after = query.after.unwrap_or_default();
    let rows = database
        .read(move |tx| connections::load_page(tx, &after, limit + 1))
        .await?;
    let items = rows.iter().map(|row| Ok(render::connection(row)));
    Ok(Json(page(items, limit, |connection: &Connection| {
        connection.id.clone()
    })?))
}

/// `GET /v1/connections/{id}`
pub(super) async fn show(
    State(database): State<Database>,
    Path(id): Path<String>,
) -> ApiResult<Json<Connection>> {
    let row = database.read(move |tx| load(tx, &id)).await?;
    Ok(Json(render::connection(&row)))
}

fn load(tx: &Tx<'_>, id: &str) -> Result<connections::ConnectionRow, Fault> {
    let id = connections::resolve(tx, id)?;
    connections::load(tx, id)
}

/// `POST /v1/connections`
pub(super) async fn connect(
    State(identity): State<Arc<NodeIdentity>>,
    State(database): State<Database>,
    State(relay): State<Arc<HomeRelay>>,
    Body(request): Body<Connect>,
) -> ApiResult<impl IntoResponse> {
    if request
        .note
        .as_ref()
        .is_some_and(|note| note.len() > limits::REQUEST_NOTE_BYTES_MAX)
    {
        return Err(
            Problem::new(ProblemCode::Malformed, "a note can have up to 200 bytes")
                .next("shorten the note")
                .into(),
        );
    }
    let invite = parse_invite(&identity, relay.now(), &request.invite)?;
    let known = {
        let invite = invite.clone();
        database
            .read(move |tx| {
                pairing::find_connection_for_invite(tx, &invite)?
                    .map(|id| connections::load(tx, id))
                    .transpose()
            })
            .await?
    };
    if let Some(known) = known {
        return Ok((StatusCode::OK, Json(render::connection(&known))));
    }
    let prekeys = fetch_prekeys(&relay, &invite).await?;
    let row = database
        .write(move |tx| {
            let id = pairing::connect(tx, &identity, &invite, &prekeys, request.note.as_deref())?;
            connections::load(tx, id)
        })
        .await?;
    Ok((StatusCode::CREATED, Json(render::connection(&row))))
}

fn parse_invite(identity: &NodeIdentity, now: Timestamp, text: &str) -> ApiResult<Invite> {
    let invite = Invite::parse_pasted(text).map_err(|error| invite_problem(&error))?;
    invite
        .check(now, identity.keys.fingerprint())
        .map_err(|refusal| {
            let code = match refusal {
                InviteRefusal::Expired { .. } => ProblemCode::InviteExpired,
                InviteRefusal::Own => ProblemCode::InviteOwn,
            };
            Problem::from(code)
        })?;
    if let Some(relay) = pairing::foreign_relay(identity, &invite) {
        let detail = format!(
            "the invite is for the relay {relay}, but this node's relay is {}",
            identity.relay
        );
        let problem = Problem::new(ProblemCode::InviteUnreachable, detail).next(
            "relays do not reach each other yet: both sides need an account at the same relay",
        );
        return Err(problem.into());
    }
    Ok(invite)
}

fn invite_problem(error: &InviteError) -> Problem {
    let next = match error {
        InviteError::NotAnInvite => "copy the whole invite that your partner sent you",
        InviteError::Damaged => "copy all of it again",
        InviteError::UnknownVersion { .. } | InviteError::UnknownKind { .. } => {
            "update this program"
        }
        InviteError::Malformed => "ask for a new invite",
        InviteError::ForeignOrigin { .. } => "do not open the link, and ask its sender",
    };
    Problem::new(ProblemCode::InviteInvalid, error.to_string()).next(next)
}

/// Fetches the prekeys from the invite's mailbox. A revoked or used invite has none.
async fn fetch_prekeys(relay: &HomeRelay, invite: &Invite) -> ApiResult<Vec<u8>> {
    if !relay
        .wait_for_registration(limits::REGISTRATION_WAIT_MAX)
        .await
    {
        let reason = relay.health().reason;
        let detail = format!(
            "this node is not registered at its relay yet: {}",
            reason.as_deref().unwrap_or("the relay has not responded")
        );
        return Err(Problem::new(ProblemCode::InviteUnreachable, detail).into());
    }
    match relay
        .client
        .fetch_prekeys(invite.mailbox(), &invite.send_key())
        .await
    {
        Ok(prekeys) => {
            relay.record_response().await;
            Ok(prekeys.sealed.0)
        }
        Err(ClientError::Problem(problem)) if is_gone(problem.code) => {
            let detail = "the relay no longer knows the invite: it was revoked, was used before, \
                          or has expired";
            Err(Problem::new(ProblemCode::InviteInvalid, detail).into())
        }
        Err(error) => {
            let reason = relay.record_failure(&error).await;
            let detail = format!("the prekeys of the invite cannot be fetched: {reason}");
            Err(Problem::new(ProblemCode::InviteUnreachable, detail).into())
        }
    }
}

const fn is_gone(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::MailboxUnknown
            | ErrorCode::MailboxClosed
            | ErrorCode::NotFound
            | ErrorCode::ProofInvalid
    )
}

/// `POST /v1/connections/{id}/accept`
pub(super) async fn accept(
    State(identity): State<Arc<NodeIdentity>>,
    State(database): State<Database>,
    Path(id): Path<String>,
) -> ApiResult<Json<Connection>> {
    change_connection(&database, id, move |tx, id| {
        pairing::accept(tx, &identity, id)
    })
    .await
}

/// `POST /v1/connections/{id}/reject`
pub(super) async fn reject(
    State(database): State<Database>,
    Path(id): Path<String>,
) -> ApiResult<Json<Connection>> {
    change_connection(&database, id, |tx, id| pairing::reject(tx, id, None)).await
}

/// `POST /v1/connections/{id}/block`
pub(super) async fn block(
    State(database): State<Database>,
    Path(id): Path<String>,
) -> ApiResult<Json<Connection>> {
    change_connection(&database, id, pairing::block).await
}

/// `POST /v1/connections/{id}/acknowledge`: clears the warning.
pub(super) async fn acknowledge(
    State(database): State<Database>,
    Path(id): Path<String>,
) -> ApiResult<Json<Connection>> {
    change_connection(&database, id, |tx, id| connections::acknowledge(tx, id)).await
}

async fn change_connection(
    database: &Database,
    id: String,
    change: impl FnOnce(&mut Tx<'_>, ConnectionId) -> Result<(), Fault> + Send + 'static,
) -> ApiResult<Json<Connection>> {
    let row = database
        .write(move |tx| {
            let id = connections::resolve(tx, &id)?;
            change(tx, id)?;
            connections::load(tx, id)
        })
        .await?;
    Ok(Json(render::connection(&row)))
}

/// `GET /v1/connections/{id}/safety-number`
pub(super) async fn safety_number(
    State(identity): State<Arc<NodeIdentity>>,
    State(database): State<Database>,
    Path(id): Path<String>,
) -> ApiResult<Json<SafetyNumber>> {
    let (row, peer) = database.read(move |tx| load_peer(tx, &id)).await?;
    let own = *identity.keys.public();
    Ok(Json(SafetyNumber {
        number: number_between(own, peer).await?.to_string(),
        qr: VerificationCode::new(*own.fingerprint(), *peer.fingerprint()).encode(),
        verified: row.verified,
    }))
}

/// `POST /v1/connections/{id}/verify`: compares the number, or without one records that people have
/// compared it.
pub(super) async fn verify(
    State(identity): State<Arc<NodeIdentity>>,
    State(database): State<Database>,
    Path(id): Path<String>,
    Body(request): Body<Verify>,
) -> ApiResult<Json<Connection>> {
    if let Some(number) = request.number {
        let id = id.clone();
        let (row, peer) = database.read(move |tx| load_peer(tx, &id)).await?;
        if !number_between(*identity.keys.public(), peer)
            .await?
            .matches(&number)
        {
            let detail = format!(
                "this is not the safety number of the connection with {}",
                row.contact
            );
            return Err(Problem::new(ProblemCode::SafetyNumberDiffers, detail).into());
        }
    }
    change_connection(&database, id, |tx, id| connections::set_verified(tx, id)).await
}

fn load_peer(tx: &Tx<'_>, id: &str) -> Result<(connections::ConnectionRow, PeerIdentity), Fault> {
    let row = load(tx, id)?;
    let peer = connections::load_secrets(tx, row.id)?.secrets.peer;
    Ok((row, peer))
}

/// Computes the safety number on a blocking thread, because that takes some milliseconds.
async fn number_between(
    own: PeerIdentity,
    peer: PeerIdentity,
) -> Result<safety_number::SafetyNumber, Fault> {
    tokio::task::spawn_blocking(move || safety_number::SafetyNumber::for_identities(&own, &peer))
        .await
        .map_err(|error| Fault::failed(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use sealpost_proto::Origin;

    #[test]
    fn each_unusable_invite_has_its_own_advice() {
        let origin = |host: &str| Origin::parse(&format!("https://{host}.example")).unwrap();
        let (link, invite) = (origin("link"), origin("invite"));
        for (error, next) in [
            (InviteError::NotAnInvite, "copy the whole invite"),
            (InviteError::Damaged, "copy all of it again"),
            (
                InviteError::UnknownVersion { version: 2 },
                "update this program",
            ),
            (InviteError::UnknownKind { kind: 9 }, "update this program"),
            (InviteError::Malformed, "ask for a new invite"),
            (
                InviteError::ForeignOrigin { link, invite },
                "do not open the link",
            ),
        ] {
            let problem = invite_problem(&error);
            assert_eq!(problem.code, ProblemCode::InviteInvalid);
            assert!(problem.next.starts_with(next), "{problem:?}");
            assert!(!problem.detail.contains(';'), "advice in {problem:?}");
        }
    }
}
