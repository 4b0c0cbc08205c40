//! `/v1/invites`

use super::{ApiResult, Body, Params, page, page_items, parse_id};
use crate::{
    api::{
        model::{CreateInvite, Invite, Page, PageQuery, RelayState},
        problem::{Problem, ProblemCode},
        render,
    },
    daemon::{Database, HomeRelay},
    fault::Fault,
    identity::NodeIdentity,
    pairing::{self, InviteOptions},
    store::{invites, relay_jobs},
};
use axum::{
    Json,
    extract::{Path, State},
    response::IntoResponse,
};
use http::StatusCode;
use sealpost_node_core::model::InviteId;
use sealpost_proto::limits;
use std::{sync::Arc, time::Duration};
use tokio::time::Instant;

/// Time that an unreachable relay has to become reachable and publish the prekeys of an invite.
const UNREACHABLE_TIMEOUT: Duration = Duration::from_secs(3);
const CHECK_INTERVAL: Duration = Duration::from_millis(20);

/// `GET /v1/invites`
pub(super) async fn list(
    State(database): State<Database>,
    Params(query): Params<PageQuery>,
) -> ApiResult<Json<Page<Invite>>> {
    let limit = page_items(query.limit);
    let after = query.after.unwrap_or_default();
    let rows = database
        .read(move |tx| invites::load_page(tx, &after, limit + 1))
        .await?;
    let items = rows.iter().map(|row| Ok(render::invite(row, false)));
    Ok(Json(page(items, limit, |invite: &Invite| {
        invite.id.clone()
    })?))
}

/// `POST /v1/invites`: responds once the mailbox is open and its prekeys are published, so that the
/// URL works.
pub(super) async fn create(
    State(identity): State<Arc<NodeIdentity>>,
    State(database): State<Database>,
    State(relay): State<Arc<HomeRelay>>,
    Body(request): Body<CreateInvite>,
) -> ApiResult<impl IntoResponse> {
    let lifetime = request
        .lifetime_ms
        .map_or(limits::INVITE_LIFETIME_DEFAULT, Duration::from_millis);
    if lifetime.is_zero() || lifetime > limits::INVITE_LIFETIME_MAX {
        return Err(Problem::new(
            ProblemCode::Malformed,
            "an invite is valid for up to 30 days",
        )
        .next("choose a lifetime of up to 30 days")
        .into());
    }
    let options = InviteOptions {
        kind: request.kind,
        lifetime,
        auto_accept: request.auto_accept,
    };
    let origin = identity.relay.clone();
    let id = database
        .write(move |tx| pairing::create_invite(tx, &identity, options))
        .await?;
    if let Err(reason) = wait_until_published(&database, &relay, id).await? {
        database
            .write(move |tx| pairing::discard_invite(tx, id))
            .await?;
        let detail = format!("the invite could not be published at the relay {origin}: {reason}");
        return Err(Problem::new(ProblemCode::Unavailable, detail)
            .next("try again when the relay is reachable")
            .into());
    }
    let invite = database
        .read(move |tx| pairing::load_invite(tx, id))
        .await?;
    Ok((StatusCode::CREATED, Json(render::invite(&invite, true))))
}

/// Waits until the relay has the prekeys, because the URL does not work before. Returns a reason if
/// that takes too long.
async fn wait_until_published(
    database: &Database,
    relay: &HomeRelay,
    id: InviteId,
) -> Result<Result<(), String>, Fault> {
    let started = Instant::now();
    loop {
        if database
            .read(move |tx| relay_jobs::is_mailbox_ready(tx, id.into()))
            .await?
        {
            return Ok(Ok(()));
        }
        let health = relay.health();
        let timeout = if health.state == RelayState::Connected {
            limits::INVITE_PUBLISH_TIMEOUT
        } else {
            UNREACHABLE_TIMEOUT
        };
        if started.elapsed() > timeout {
            let reason = health.reason;
            return Ok(Err(
                reason.unwrap_or_else(|| "it does not respond in time".to_owned())
            ));
        }
        tokio::time::sleep(CHECK_INTERVAL).await;
    }
}

/// `DELETE /v1/invites/{id}`
pub(super) async fn revoke(
    State(database): State<Database>,
    Path(id): Path<String>,
) -> ApiResult<StatusCode> {
    database
        .write(move |tx| pairing::revoke_invite(tx, parse_id("invite", &id)?))
        .await?;
    Ok(StatusCode::NO_CONTENT)
}
