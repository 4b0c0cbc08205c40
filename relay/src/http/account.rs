//! `GET, PATCH, DELETE /v1/account` and `POST /v1/account/webhook-test`: show, change and delete
//! the account, test the webhook.

use super::{
    ApiResult, accounts,
    auth::{AccountKeyRequest, SessionRequest},
    openapi::{ANY_KEY, JSON, KNOWN, SESSION},
    retryable_problem_with,
};
use crate::{
    accounts::Accounts,
    delivery::{challenge::WebhookTester, test_slots::WebhookTestError},
    notifier::Notifier,
    openapi::problems,
    store::Store,
};
use axum::{
    extract::State,
    response::{IntoResponse as _, Response},
};
use http::StatusCode;
use sealpost_proto::{
    AccountId, ErrorCode,
    wire::{Account, AccountChange, WebhookTest},
};
use sealpost_service::{
    Clock as _, SharedClock,
    http::{ProblemResponse, json_body},
};
use std::sync::Arc;

problems!(ShowProblems: SESSION);

/// Show the account
#[utoipa::path(
    get, path = "/v1/account", operation_id = "show_account", tag = "accounts",
    security(("session" = [])),
    responses((status = 200, description = "The account", body = Account), ShowProblems)
)]
pub(super) async fn show(State(store): State<Store>, signed: SessionRequest) -> ApiResult {
    respond_with_account(&store, signed.account).await
}

problems!(ChangeProblems: ANY_KEY, KNOWN, JSON; SessionInvalid, WebhookInvalid);

/// Change the delivery mode
///
/// A new webhook is `unverified` until its test succeeds.
#[utoipa::path(
    patch, path = "/v1/account", operation_id = "change_account", tag = "accounts",
    security(("account_key" = [])),
    request_body = AccountChange,
    responses((status = 200, description = "The changed account", body = Account), ChangeProblems)
)]
pub(super) async fn change(
    State(store): State<Store>,
    State(accounts): State<Accounts>,
    State(clock): State<SharedClock>,
    signed: AccountKeyRequest,
) -> ApiResult {
    let change: AccountChange = signed.body.json()?;
    let account = signed.account.id;
    if let Some(delivery) = change.delivery {
        let url = accounts::parse_webhook(&delivery)?;
        store.change_delivery(clock.now(), account, url).await?;
        accounts.invalidate(account);
    }
    respond_with_account(&store, account).await
}

problems!(DeleteProblems: ANY_KEY, KNOWN);

/// Delete the account
///
/// Deletes its mailboxes, fails the envelopes queued in them with `mailbox_unknown`, and deletes its
/// blobs.
#[utoipa::path(
    delete, path = "/v1/account", operation_id = "delete_account", tag = "accounts",
    security(("account_key" = [])),
    responses((status = 204, description = "The account is deleted"), DeleteProblems)
)]
pub(super) async fn delete(
    State(store): State<Store>,
    State(accounts): State<Accounts>,
    State(notifier): State<Arc<Notifier>>,
    State(clock): State<SharedClock>,
    signed: AccountKeyRequest,
) -> ApiResult {
    store.delete_account(clock.now(), signed.account.id).await?;
    accounts.invalidate(signed.account.id);
    notifier.sweeper.notify_one();
    tracing::info!("account deleted by its owner");
    Ok(StatusCode::NO_CONTENT.into_response())
}

problems!(TestProblems: ANY_KEY, KNOWN; SessionInvalid);

/// Test the webhook
///
/// The relay calls the webhook with a challenge and reports each step. If it succeeds, the webhook
/// becomes active. Each account can have one test at a time; the relay limits concurrent tests in
/// total and per server. If the endpoint sends no HTTP response, the test takes its whole time,
/// 15 seconds, whatever the reason.
#[utoipa::path(
    post, path = "/v1/account/webhook-test", operation_id = "test_webhook", tag = "accounts",
    security(("account_key" = [])),
    responses(
        (
            status = 200,
            description = "Result of each step, whether the test succeeded or not",
            body = WebhookTest
        ),
        TestProblems
    )
)]
pub(super) async fn test_webhook(
    State(tester): State<WebhookTester>,
    signed: AccountKeyRequest,
) -> ApiResult {
    let test = tester.test(signed.account.id).await.map_err(test_problem)?;
    Ok(json_body(StatusCode::OK, &test))
}

fn test_problem(error: WebhookTestError) -> ProblemResponse {
    match error {
        WebhookTestError::Running => retryable_problem_with(
            ErrorCode::RateLimited,
            "a test of this account's webhook is running",
        ),
        WebhookTestError::Busy => {
            retryable_problem_with(ErrorCode::Overloaded, "too many webhook tests are running")
        }
        WebhookTestError::Store(error) => error.into(),
    }
}

async fn respond_with_account(
    store: &Store,
    account: AccountId,
) -> Result<Response, ProblemResponse> {
    let account = store
        .load_account(account)
        .await?
        .ok_or(ErrorCode::SessionInvalid)?;
    Ok(json_body(StatusCode::OK, &account))
}
