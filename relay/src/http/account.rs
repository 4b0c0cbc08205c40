//! `GET, PATCH, DELETE /v1/account` and `POST /v1/account/webhook-test`: see, change, leave, test. Errors:
//! `webhook_invalid` for a URL that cannot be one.

use super::{
    Answer, accounts,
    auth::{ByAccountKey, BySession},
};
use crate::{delivery::challenge, relay::Relay};
use axum::{
    extract::State,
    response::{IntoResponse as _, Response},
};
use http::StatusCode;
use sealpost_proto::{AccountId, ErrorCode, wire::AccountChange};
use sealpost_service::http::json_body;
use std::sync::Arc;

pub(super) async fn show(State(relay): State<Arc<Relay>>, signed: BySession) -> Answer {
    view(&relay, signed.account).await
}

pub(super) async fn change(State(relay): State<Arc<Relay>>, signed: ByAccountKey) -> Answer {
    let change: AccountChange = signed.body.json()?;
    let account = signed.facts.account;
    if let Some(delivery) = change.delivery {
        let url = accounts::webhook_url(delivery)?;
        relay.store.change_delivery(relay.now(), account, url).await?;
        relay.cache.forget(account);
    }
    view(&relay, account).await
}

pub(super) async fn leave(State(relay): State<Arc<Relay>>, signed: ByAccountKey) -> Answer {
    relay.store.delete_account(relay.now(), signed.facts.account).await?;
    relay.cache.forget(signed.facts.account);
    relay.wakes.sweeps.notify_one();
    tracing::info!("an account left");
    Ok(StatusCode::NO_CONTENT.into_response())
}

pub(super) async fn test_webhook(State(relay): State<Arc<Relay>>, signed: ByAccountKey) -> Answer {
    let test = challenge::test(&relay, signed.facts.account).await?;
    Ok(json_body(StatusCode::OK, &test))
}

async fn view(relay: &Relay, account: AccountId) -> Result<Response, sealpost_service::http::ProblemResponse> {
    let account = relay.store.account(account).await?.ok_or(ErrorCode::SessionInvalid)?;
    Ok(json_body(StatusCode::OK, &account))
}
