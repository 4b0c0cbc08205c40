//! `/v1/chats`

use super::{ApiResult, Params, page, page_items, parse_id};
use crate::{
    api::{
        model::{Chat, Page, PageQuery},
        render,
    },
    daemon::Database,
    fault::Fault,
    identity::NodeIdentity,
    store::{Tx, chats, connections},
};
use axum::{
    Json,
    extract::{Path, State},
};
use sealpost_node_core::model::ChatId;
use std::sync::Arc;

/// `GET /v1/chats`
pub(super) async fn list(
    State(identity): State<Arc<NodeIdentity>>,
    State(database): State<Database>,
    Params(query): Params<PageQuery>,
) -> ApiResult<Json<Page<Chat>>> {
    let limit = page_items(query.limit);
    let after = query.after.unwrap_or_default();
    let page = database
        .read(move |tx| {
            let rows = chats::load_page(tx, &after, limit + 1)?;
            let chats = rows.iter().map(|row| with_participants(tx, &identity, row));
            page(chats, limit, |chat: &Chat| chat.id.clone())
        })
        .await?;
    Ok(Json(page))
}

/// `GET /v1/chats/{id}`
pub(super) async fn show(
    State(identity): State<Arc<NodeIdentity>>,
    State(database): State<Database>,
    Path(id): Path<String>,
) -> ApiResult<Json<Chat>> {
    let chat = database
        .read(move |tx| {
            let id: ChatId = parse_id("chat", &id)?;
            let row = chats::load(tx, id)?.ok_or_else(|| Fault::not_found("chat", id))?;
            with_participants(tx, &identity, &row)
        })
        .await?;
    Ok(Json(chat))
}

fn with_participants(
    tx: &Tx<'_>,
    identity: &NodeIdentity,
    row: &chats::Chat,
) -> Result<Chat, Fault> {
    let participants = chats::load_participants(tx, row.id)?;
    let peer = connections::load(tx, row.connection)?;
    Ok(render::chat(
        row,
        &participants,
        &peer,
        (&identity.name, identity.keys.fingerprint().as_bytes()),
    ))
}
