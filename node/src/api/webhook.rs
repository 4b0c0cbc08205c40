//! The webhook that the relay calls (`docs/protocol.md`). The calls are signed with the account's
//! webhook secret.

use crate::daemon::Ingest;
use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    response::{IntoResponse as _, Response},
    routing::post,
};
use http::StatusCode;
use sealpost_proto::{
    ErrorCode, Problem, WebhookSecret, limits,
    wire::{ChallengeResponse, WebhookCall},
};
use sealpost_service::http::{ProblemResponse, json_body, parse_json, read_body};
use sealpost_signatures::webhook;
use std::sync::Arc;

/// State of the router.
#[derive(Clone)]
struct Receiver {
    ingest: Ingest,
    secret: Arc<WebhookSecret>,
}

/// Builds the router. It serves every path, so that a proxy can mount it anywhere.
pub(super) fn router(ingest: Ingest, secret: WebhookSecret) -> Router {
    let receiver = Receiver {
        ingest,
        secret: Arc::new(secret),
    };
    Router::new()
        .route("/", post(receive))
        .route("/{*path}", post(receive))
        .with_state(receiver)
}

async fn receive(State(receiver): State<Receiver>, request: Request<Body>) -> Response {
    match respond(&receiver, request).await {
        Ok(response) => response,
        Err(problem) => ProblemResponse(problem).into_response(),
    }
}

async fn respond(receiver: &Receiver, request: Request<Body>) -> Result<Response, Problem> {
    let (parts, body) = request.into_parts();
    let body = read_body(&parts.headers, body, limits::WEBHOOK_CALL_BYTES_MAX).await?;
    let secrets = std::slice::from_ref(receiver.secret.as_ref());
    webhook::verify_webhook(secrets, &parts.headers, &body, receiver.ingest.relay.now())
        .map_err(|error| Problem::new(ErrorCode::SignatureInvalid, error.to_string()))?;
    match parse_json::<WebhookCall>(&parts.headers, &body)? {
        WebhookCall::Challenge { challenge, .. } => {
            let answer = webhook::respond_to_challenge(&receiver.secret, challenge.as_slice());
            Ok(json_body(
                StatusCode::OK,
                &ChallengeResponse {
                    answer: answer.to_vec().into(),
                },
            ))
        }
        WebhookCall::Deliveries { data, .. } => {
            receiver.ingest.relay.record_response().await;
            let results = receiver.ingest.ingest(data).await;
            Ok(json_body(StatusCode::OK, &results))
        }
    }
}
