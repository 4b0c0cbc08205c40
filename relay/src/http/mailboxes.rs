//! `GET /v1/mailboxes`, `PUT, DELETE /v1/mailboxes/{id}`: list, open, close.

use super::{
    ApiResult,
    auth::{AccountKeyRequest, SessionRequest},
    ids::{Id, query},
    openapi::{ANY_KEY, JSON, KNOWN, SESSION},
    problem, refusal, require_space,
};
use crate::{
    notifier::Notifier, openapi::problems, settings::LiveSettings, storage::Storage, store::Store,
};
use axum::{extract::State, response::IntoResponse as _};
use http::StatusCode;
use sealpost_proto::{
    ErrorCode, MailboxId,
    limits::SEND_KEYS_MAX,
    wire::{Mailboxes, OpenMailbox},
};
use sealpost_service::{Clock as _, SharedClock, http::json_body};
use std::sync::Arc;

problems!(ListProblems: SESSION);

/// List the mailboxes of the account
///
/// Ordered by id, up to 500 per page.
#[utoipa::path(
    get, path = "/v1/mailboxes", operation_id = "list_mailboxes", tag = "mailboxes",
    security(("session" = [])),
    params((
        "after" = inline(Option<MailboxId>),
        Query,
        description = "`next` of the previous page"
    )),
    responses((status = 200, description = "Page of mailboxes", body = Mailboxes), ListProblems)
)]
pub(super) async fn list(State(store): State<Store>, signed: SessionRequest) -> ApiResult {
    let after: Option<MailboxId> = query(&signed.body.uri, "after")?;
    let mailboxes = store.list_mailboxes(signed.account, after).await?;
    Ok(json_body(StatusCode::OK, &mailboxes))
}

problems!(OpenProblems: ANY_KEY, KNOWN, JSON; Conflict, QuotaExceeded);

/// Open a mailbox or replace its send keys
#[utoipa::path(
    put, path = "/v1/mailboxes/{id}", operation_id = "open_mailbox", tag = "mailboxes",
    security(("account_key" = [])),
    params(Id<MailboxId>), request_body = OpenMailbox,
    responses((status = 204, description = "The mailbox is open"), OpenProblems)
)]
pub(super) async fn open(
    State(store): State<Store>,
    State(settings): State<LiveSettings>,
    State(storage): State<Arc<Storage>>,
    State(clock): State<SharedClock>,
    Id(mailbox): Id<MailboxId>,
    signed: AccountKeyRequest,
) -> ApiResult {
    let OpenMailbox { send_keys } = signed.body.json()?;
    if !(1..=SEND_KEYS_MAX).contains(&send_keys.len()) {
        return Err(problem(
            ErrorCode::Malformed,
            "a mailbox must have one or two send keys",
        ));
    }
    require_space(&storage, 0)?;
    let opened = store
        .open_mailbox(
            clock.now(),
            signed.account.id,
            mailbox,
            send_keys,
            settings.load().quotas.clone(),
        )
        .await?;
    opened.map_err(refusal)?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

problems!(CloseProblems: ANY_KEY, KNOWN);

/// Close a mailbox
///
/// Queued envelopes fail with `mailbox_unknown`. The id cannot be used again.
#[utoipa::path(
    delete, path = "/v1/mailboxes/{id}", operation_id = "close_mailbox", tag = "mailboxes",
    security(("account_key" = [])), params(Id<MailboxId>),
    responses((status = 204, description = "The mailbox is closed"), CloseProblems)
)]
pub(super) async fn close(
    State(store): State<Store>,
    State(notifier): State<Arc<Notifier>>,
    State(clock): State<SharedClock>,
    Id(mailbox): Id<MailboxId>,
    signed: AccountKeyRequest,
) -> ApiResult {
    store
        .close_mailbox(clock.now(), signed.account.id, mailbox)
        .await?;
    notifier.sweeper.notify_one();
    Ok(StatusCode::NO_CONTENT.into_response())
}
