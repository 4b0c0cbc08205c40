//! `/v1/invites`

use super::{ApiResult, Body, Params, page, page_items, parse_id};
use crate::{
    api::{
        model::{CreateInvite, Invite, Page, PageQuery, RelayState},
        problem::{Problem, ProblemCode},
        render,
    },
    daemon::Daemon,
    pairing::{self, InviteTerms},
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

/// `GET /v1/invites`
pub(super) async fn list(
    State(daemon): State<Arc<Daemon>>,
    Params(query): Params<PageQuery>,
) -> ApiResult<Json<Page<Invite>>> {
    let limit = page_items(query.limit);
    let after = query.after.unwrap_or_default();
    let rows = daemon
        .read(move |tx| invites::page(tx, &after, limit))
        .await?;
    let items = rows.iter().map(|row| render::invite(row, false)).collect();
    Ok(Json(page(items, limit, |invite: &Invite| {
        invite.id.clone()
    })))
}

/// `POST /v1/invites`: responds once the mailbox is open and its prekeys are published, so that the
/// URL works.
pub(super) async fn create(
    State(daemon): State<Arc<Daemon>>,
    Body(request): Body<CreateInvite>,
) -> ApiResult<impl IntoResponse> {
    let life = request
        .life_ms
        .map_or(limits::INVITE_LIFETIME_DEFAULT, Duration::from_millis);
    if life.is_zero() || life > limits::INVITE_LIFETIME_MAX {
        return Err(Problem::new(
            ProblemCode::Malformed,
            "an invite is valid for up to 30 days",
        )
        .into());
    }
    let terms = InviteTerms {
        kind: request.kind,
        life,
        auto_accept: request.auto_accept,
    };
    let identity = Arc::clone(&daemon.identity);
    let id = daemon
        .write(move |tx| pairing::make_invite(tx, &identity, terms))
        .await?;
    wait_until_published(&daemon, id).await?;
    let invite = daemon.read(move |tx| pairing::load_invite(tx, id)).await?;
    Ok((StatusCode::CREATED, Json(render::invite(&invite, true))))
}

/// How long an unreachable relay may take to come back.
const UNREACHABLE_TIMEOUT: Duration = Duration::from_secs(3);
const CHECK_INTERVAL: Duration = Duration::from_millis(20);

/// Waits until the relay has the prekeys, because the URL does not work before. When the relay does
/// not respond, the invite is deleted.
async fn wait_until_published(daemon: &Daemon, id: InviteId) -> ApiResult<()> {
    let started = Instant::now();
    loop {
        if daemon
            .read(move |tx| relay_jobs::is_published(tx, id.into()))
            .await?
        {
            return Ok(());
        }
        let is_away = daemon.relay_health().state != RelayState::Connected;
        if started.elapsed()
            > if is_away {
                UNREACHABLE_TIMEOUT
            } else {
                limits::INVITE_PUBLISH_TIMEOUT
            }
        {
            break;
        }
        tokio::time::sleep(CHECK_INTERVAL).await;
    }
    daemon
        .write(move |tx| pairing::discard_invite(tx, id))
        .await?;
    let why = daemon
        .relay_health()
        .reason
        .unwrap_or_else(|| "it does not respond in time".to_owned());
    let detail = format!(
        "the invite could not be published at the relay {}: {why}",
        daemon.identity.relay
    );
    Err(Problem::new(ProblemCode::Unavailable, detail)
        .next("try again when the relay is reachable")
        .into())
}

/// `DELETE /v1/invites/{id}`
pub(super) async fn revoke(
    State(daemon): State<Arc<Daemon>>,
    Path(id): Path<String>,
) -> ApiResult<StatusCode> {
    daemon
        .write(move |tx| pairing::revoke_invite(tx, parse_id("invite", &id)?))
        .await?;
    Ok(StatusCode::NO_CONTENT)
}
