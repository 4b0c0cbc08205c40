//! `GET /v1/mailboxes`, `PUT, DELETE /v1/mailboxes/{id}`: list, open, close. Errors: `conflict` when the id is another
//! account's or was closed, `quota_exceeded`.

use super::{
    Answer,
    auth::{ByAccountKey, BySession},
    ids::{Id, query},
    openapi::{ANY_KEY, JSON, KNOWN, SESSION},
    problem, refusal,
};
use crate::{openapi::problems, relay::Relay};
use axum::{extract::State, response::IntoResponse as _};
use http::StatusCode;
use sealpost_proto::{
    ErrorCode, MailboxId,
    limits::SEND_KEYS_MAX,
    wire::{Mailboxes, OpenMailbox},
};
use sealpost_service::http::json_body;
use std::sync::Arc;

problems!(ListProblems: SESSION);

/// List the own mailboxes
///
/// 500 a page, by id.
#[utoipa::path(
    get, path = "/v1/mailboxes", operation_id = "list_mailboxes", tag = "mailboxes", security(("session" = [])),
    params(("after" = inline(Option<MailboxId>), Query, description = "`next` of the page before")),
    responses((status = 200, description = "A page", body = Mailboxes), ListProblems)
)]
pub(super) async fn list(State(relay): State<Arc<Relay>>, signed: BySession) -> Answer {
    let after: Option<MailboxId> = query(&signed.body.uri, "after")?;
    let mailboxes = relay.store.mailboxes(signed.account, after).await?;
    Ok(json_body(StatusCode::OK, &mailboxes))
}

problems!(OpenProblems: ANY_KEY, KNOWN, JSON; Conflict, QuotaExceeded);

/// Open a mailbox, or replace its keys
#[utoipa::path(
    put, path = "/v1/mailboxes/{id}", operation_id = "open_mailbox", tag = "mailboxes", security(("account_key" = [])),
    params(Id<MailboxId>), request_body = OpenMailbox,
    responses((status = 204, description = "It is open"), OpenProblems)
)]
pub(super) async fn open(
    State(relay): State<Arc<Relay>>,
    Id(mailbox): Id<MailboxId>,
    signed: ByAccountKey,
) -> Answer {
    let OpenMailbox { send_keys } = signed.body.json()?;
    if !(1..=SEND_KEYS_MAX).contains(&send_keys.len()) {
        return Err(problem(
            ErrorCode::Malformed,
            "a mailbox has one or two send keys",
        ));
    }
    relay.admit(0)?;
    let opened = relay
        .store
        .open_mailbox(
            relay.now(),
            signed.facts.account,
            mailbox,
            send_keys,
            relay.rules().quotas.clone(),
        )
        .await?;
    opened.map_err(refusal)?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

problems!(CloseProblems: ANY_KEY, KNOWN);

/// Close a mailbox
///
/// What waits in it fails with `mailbox_unknown`; its id is not given out again.
#[utoipa::path(
    delete, path = "/v1/mailboxes/{id}", operation_id = "close_mailbox", tag = "mailboxes",
    security(("account_key" = [])), params(Id<MailboxId>),
    responses((status = 204, description = "It is closed, now or before"), CloseProblems)
)]
pub(super) async fn close(
    State(relay): State<Arc<Relay>>,
    Id(mailbox): Id<MailboxId>,
    signed: ByAccountKey,
) -> Answer {
    relay
        .store
        .close_mailbox(relay.now(), signed.facts.account, mailbox)
        .await?;
    relay.wakes.sweeps.notify_one();
    Ok(StatusCode::NO_CONTENT.into_response())
}
