//! The relay's API: a file for each endpoint, with its errors, its handler and what it answers.
//!
//! Every route under `/v1` goes through [`auth`] first, which looks at limits, then at the signature, and reads the body
//! last. Bodies are `proto::wire`, errors are problem documents. Nothing here decides: it parses, asks the store, answers.

mod account;
mod accounts;
mod auth;
mod blobs;
mod checkpoint;
mod deliveries;
mod envelopes;
mod ids;
mod log;
mod mailboxes;
mod parts;
mod prekeys;
mod public;
mod session;

use crate::relay::Relay;
use axum::{
    Router,
    middleware::from_fn,
    response::Response,
    routing::{any, delete, get, patch, post, put},
};
use sealpost_proto::{
    ErrorCode, Problem,
    limits::{BUSY_RETRY, MAILBOX_FULL_RETRY, STORAGE_FULL_RETRY},
    time::millis,
};
use sealpost_service::http::{ProblemResponse, with_problems};
use std::sync::Arc;

/// What a handler answers.
type Answer = Result<Response, ProblemResponse>;

/// All routes of the relay.
pub(crate) fn router(relay: Arc<Relay>) -> Router {
    let routes = Router::new()
        .route("/v1/accounts", post(accounts::register))
        .route("/v1/session", post(session::sign_in))
        .route("/v1/account", get(account::show).merge(patch(account::change)).merge(delete(account::leave)))
        .route("/v1/account/webhook-test", post(account::test_webhook))
        .route("/v1/account/checkpoint", get(checkpoint::show).merge(put(checkpoint::write)))
        .route("/v1/mailboxes", get(mailboxes::list))
        .route("/v1/mailboxes/{id}", put(mailboxes::open).merge(delete(mailboxes::close)))
        .route("/v1/mailboxes/{id}/prekeys", put(prekeys::publish).merge(get(prekeys::show)))
        .route("/v1/envelopes", post(envelopes::submit))
        .route("/v1/envelopes/status", post(envelopes::statuses))
        .route("/v1/envelopes/{id}", get(envelopes::status).merge(delete(envelopes::recall)))
        .route("/v1/deliveries", get(deliveries::pull))
        .route("/v1/deliveries/ack", post(deliveries::acknowledge))
        .route("/v1/blobs", post(blobs::create))
        .route("/v1/blobs/{id}", get(blobs::show).merge(patch(blobs::extend)).merge(delete(blobs::remove)))
        .route("/v1/blobs/{id}/complete", post(blobs::complete))
        .route("/v1/blobs/{id}/parts/{number}", put(parts::upload).merge(get(parts::download)))
        .route("/v1/at/{host}/{*rest}", any(foreign))
        .route("/.well-known/sealpost", get(public::well_known))
        .route("/i", get(public::invite_page))
        .route("/healthz", get(public::healthz))
        .route("/readyz", get(public::readyz));
    with_problems(routes).layer(from_fn(log::log)).with_state(relay)
}

/// Mailboxes and blobs of other relays.
async fn foreign(_: auth::BySession) -> ProblemResponse {
    ErrorCode::ForeignRelayUnsupported.into()
}

/// A problem that passes, with the time after which another try makes sense.
pub(crate) fn passing_problem(code: ErrorCode) -> ProblemResponse {
    let wait = match code {
        ErrorCode::StorageFull => STORAGE_FULL_RETRY,
        ErrorCode::QuotaExceeded | ErrorCode::MailboxFull | ErrorCode::AfterRefused => MAILBOX_FULL_RETRY,
        _ => BUSY_RETRY,
    };
    Problem::from(code).retry_after_ms(millis(wait)).into()
}

/// A code as the answer: with a time when it passes.
fn refusal(code: ErrorCode) -> ProblemResponse {
    if code.is_retryable() { passing_problem(code) } else { code.into() }
}

/// A problem in words.
fn problem(code: ErrorCode, detail: impl Into<String>) -> ProblemResponse {
    Problem::new(code, detail).into()
}
