//! `GET /v1/mailboxes`, `PUT, DELETE /v1/mailboxes/{id}`: list, create and delete mailboxes.

use super::{
    ApiResult,
    auth::{AccountKeyRequest, SessionRequest},
    ids::{Id, parse_query},
    openapi::{ANY_KEY, JSON, KNOWN, SESSION},
    problem, refusal_problem, require_space,
};
use crate::{
    notifier::Notifier,
    openapi::problems,
    settings::LiveSettings,
    storage::Storage,
    store::{MailboxSettings, Store},
};
use axum::{extract::State, response::IntoResponse as _};
use http::StatusCode;
use sealpost_proto::{
    ErrorCode, MailboxId,
    limits::{SEND_KEYS_MAX, SENDER_ENVELOPES_MAX},
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
    let after: Option<MailboxId> = parse_query(&signed.body.uri, "after")?;
    let mailboxes = store.list_mailboxes(signed.account, after).await?;
    Ok(json_body(StatusCode::OK, &mailboxes))
}

problems!(CreateProblems: ANY_KEY, KNOWN, JSON; Conflict, QuotaExceeded);

/// Create a mailbox or replace its settings
///
/// The id of a mailbox that was deleted together with its account can be used again by an account
/// with the same key.
#[utoipa::path(
    put, path = "/v1/mailboxes/{id}", operation_id = "create_mailbox", tag = "mailboxes",
    security(("account_key" = [])),
    params(Id<MailboxId>), request_body = OpenMailbox,
    responses((status = 204, description = "The mailbox exists"), CreateProblems)
)]
pub(super) async fn create(
    State(store): State<Store>,
    State(live): State<LiveSettings>,
    State(storage): State<Arc<Storage>>,
    State(clock): State<SharedClock>,
    Id(mailbox): Id<MailboxId>,
    signed: AccountKeyRequest,
) -> ApiResult {
    let OpenMailbox {
        send_keys,
        sender_envelopes_max,
    } = signed.body.json()?;
    if !(1..=SEND_KEYS_MAX).contains(&send_keys.len()) {
        return Err(problem(
            ErrorCode::Malformed,
            "a mailbox must have one or two send keys",
        ));
    }
    if sender_envelopes_max.is_some_and(|max| !(1..=SENDER_ENVELOPES_MAX).contains(&max)) {
        return Err(problem(
            ErrorCode::Malformed,
            format!("sender_envelopes_max must be 1 to {SENDER_ENVELOPES_MAX}"),
        ));
    }
    let settings = MailboxSettings {
        keys: send_keys,
        sender_envelopes_max,
    };
    require_space(&storage, 0)?;
    let opened = store
        .open_mailbox(
            clock.now(),
            signed.account.id,
            mailbox,
            settings,
            live.load().quotas.clone(),
        )
        .await?;
    opened.map_err(refusal_problem)?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

problems!(DeleteProblems: ANY_KEY, KNOWN);

/// Delete a mailbox
///
/// Queued envelopes fail with `mailbox_unknown`. The id cannot be used again.
#[utoipa::path(
    delete, path = "/v1/mailboxes/{id}", operation_id = "delete_mailbox", tag = "mailboxes",
    security(("account_key" = [])), params(Id<MailboxId>),
    responses((status = 204, description = "The mailbox is deleted"), DeleteProblems)
)]
pub(super) async fn delete(
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
