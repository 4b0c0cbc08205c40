//! `GET, PATCH, DELETE /v1/account` and `POST /v1/account/webhook-test`: see, change, leave, test. Errors:
//! `webhook_invalid` for a URL that cannot be one.

use super::{
    Answer, accounts,
    auth::{ByAccountKey, BySession},
    openapi::{ANY_KEY, JSON, KNOWN, SESSION},
};
use crate::{delivery::challenge, openapi::problems, relay::Relay};
use axum::{
    extract::State,
    response::{IntoResponse as _, Response},
};
use http::StatusCode;
use sealpost_proto::{
    AccountId, ErrorCode,
    wire::{Account, AccountChange, WebhookTest},
};
use sealpost_service::http::json_body;
use std::sync::Arc;

problems!(ShowProblems: SESSION);

/// See the own account
#[utoipa::path(
    get, path = "/v1/account", operation_id = "show_account", tag = "accounts", security(("session" = [])),
    responses((status = 200, description = "The account", body = Account), ShowProblems)
)]
pub(super) async fn show(State(relay): State<Arc<Relay>>, signed: BySession) -> Answer {
    view(&relay, signed.account).await
}

problems!(ChangeProblems: ANY_KEY, KNOWN, JSON; SessionInvalid, WebhookInvalid);

/// Change the way of delivery
///
/// Another webhook is `unverified` until its test succeeds.
#[utoipa::path(
    patch, path = "/v1/account", operation_id = "change_account", tag = "accounts", security(("account_key" = [])),
    request_body = AccountChange,
    responses((status = 200, description = "The account as it is now", body = Account), ChangeProblems)
)]
pub(super) async fn change(State(relay): State<Arc<Relay>>, signed: ByAccountKey) -> Answer {
    let change: AccountChange = signed.body.json()?;
    let account = signed.facts.account;
    if let Some(delivery) = change.delivery {
        let url = accounts::webhook_url(delivery)?;
        relay
            .store
            .change_delivery(relay.now(), account, url)
            .await?;
        relay.cache.forget(account);
    }
    view(&relay, account).await
}

problems!(LeaveProblems: ANY_KEY, KNOWN);

/// Delete the account
///
/// Its mailboxes close, what waits in them fails with `mailbox_unknown`, its blobs go.
#[utoipa::path(
    delete, path = "/v1/account", operation_id = "delete_account", tag = "accounts", security(("account_key" = [])),
    responses((status = 204, description = "It is gone"), LeaveProblems)
)]
pub(super) async fn leave(State(relay): State<Arc<Relay>>, signed: ByAccountKey) -> Answer {
    relay
        .store
        .delete_account(relay.now(), signed.facts.account)
        .await?;
    relay.cache.forget(signed.facts.account);
    relay.wakes.sweeps.notify_one();
    tracing::info!("an account left");
    Ok(StatusCode::NO_CONTENT.into_response())
}

problems!(TestProblems: ANY_KEY, KNOWN; SessionInvalid);

/// Test the webhook
///
/// The relay calls the webhook with a challenge and reports every step. Success switches it on.
#[utoipa::path(
    post, path = "/v1/account/webhook-test", operation_id = "test_webhook", tag = "accounts",
    security(("account_key" = [])),
    responses((status = 200, description = "What was seen, also when the webhook failed", body = WebhookTest), TestProblems)
)]
pub(super) async fn test_webhook(State(relay): State<Arc<Relay>>, signed: ByAccountKey) -> Answer {
    let test = challenge::test(&relay, signed.facts.account).await?;
    Ok(json_body(StatusCode::OK, &test))
}

async fn view(
    relay: &Relay,
    account: AccountId,
) -> Result<Response, sealpost_service::http::ProblemResponse> {
    let account = relay
        .store
        .account(account)
        .await?
        .ok_or(ErrorCode::SessionInvalid)?;
    Ok(json_body(StatusCode::OK, &account))
}
