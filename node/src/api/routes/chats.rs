//! `/v1/chats`

use super::{Answer, Params, page, page_items};
use crate::{
    api::{
        model::{Chat, Page, PageQuery},
        problem::ProblemCode,
        render,
    },
    daemon::Daemon,
    fault::Fault,
    me::Me,
    store::{Tx, chats, connections},
};
use axum::{
    Json,
    extract::{Path, State},
};
use std::sync::Arc;

/// `GET /v1/chats`
pub(super) async fn list(
    State(daemon): State<Arc<Daemon>>,
    Params(query): Params<PageQuery>,
) -> Answer<Json<Page<Chat>>> {
    let limit = page_items(query.limit);
    let after = query.after.unwrap_or_default();
    let me = Arc::clone(&daemon.me);
    let items = daemon
        .read(move |tx| {
            chats::page(tx, &after, limit)?
                .iter()
                .map(|row| with_participants(tx, &me, row))
                .collect()
        })
        .await?;
    Ok(Json(page(items, limit, |chat: &Chat| chat.id.clone())))
}

/// `GET /v1/chats/{id}`
pub(super) async fn show(
    State(daemon): State<Arc<Daemon>>,
    Path(id): Path<String>,
) -> Answer<Json<Chat>> {
    let me = Arc::clone(&daemon.me);
    let chat = daemon
        .read(move |tx| {
            let row = chats::load(tx, &id)?;
            let row = row.ok_or_else(|| {
                Fault::refused(ProblemCode::NotFound, format!("there is no chat {id:?}"))
            })?;
            with_participants(tx, &me, &row)
        })
        .await?;
    Ok(Json(chat))
}

fn with_participants(tx: &Tx<'_>, me: &Me, row: &chats::Chat) -> Result<Chat, Fault> {
    let participants = chats::participants(tx, &row.name)?;
    let peer = connections::load(tx, &row.connection)?;
    Ok(render::chat(
        row,
        &participants,
        &peer,
        (&me.name, me.identity.fingerprint().as_bytes()),
    ))
}
