//! `GET /v1/mailboxes`, `PUT, DELETE /v1/mailboxes/{id}`: list, open, close. Errors: `conflict` when the id is another
//! account's or was closed, `quota_exceeded`.

use super::{
    Answer,
    auth::{ByAccountKey, BySession},
    ids::{Id, query},
    problem, refusal,
};
use crate::relay::Relay;
use axum::{extract::State, response::IntoResponse as _};
use http::StatusCode;
use sealpost_proto::{ErrorCode, MailboxId, wire::OpenMailbox};
use sealpost_service::http::json_body;
use std::sync::Arc;

pub(super) async fn list(State(relay): State<Arc<Relay>>, signed: BySession) -> Answer {
    let after: Option<MailboxId> = query(&signed.body.uri, "after")?;
    let mailboxes = relay.store.mailboxes(signed.account, after).await?;
    Ok(json_body(StatusCode::OK, &mailboxes))
}

pub(super) async fn open(State(relay): State<Arc<Relay>>, Id(mailbox): Id<MailboxId>, signed: ByAccountKey) -> Answer {
    let OpenMailbox { send_keys } = signed.body.json()?;
    if !(1..=2).contains(&send_keys.len()) {
        return Err(problem(ErrorCode::Malformed, "a mailbox has one or two send keys"));
    }
    let opened = relay
        .store
        .open_mailbox(relay.now(), signed.facts.account, mailbox, send_keys, relay.rules().quotas.clone())
        .await?;
    opened.map_err(refusal)?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

pub(super) async fn close(State(relay): State<Arc<Relay>>, Id(mailbox): Id<MailboxId>, signed: ByAccountKey) -> Answer {
    relay.store.close_mailbox(relay.now(), signed.facts.account, mailbox).await?;
    relay.wakes.sweeps.notify_one();
    Ok(StatusCode::NO_CONTENT.into_response())
}
