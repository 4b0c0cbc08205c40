//! The webhook receiver for the relay's calls, which are signed with the account's webhook secret.

use super::{Daemon, ingest};
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

#[derive(Clone)]
struct Receiver {
    daemon: Arc<Daemon>,
    secret: Arc<WebhookSecret>,
}

/// Builds the router. It serves every path, so that a proxy can mount it anywhere.
pub(super) fn router(daemon: Arc<Daemon>, secret: WebhookSecret) -> Router {
    let receiver = Receiver {
        daemon,
        secret: Arc::new(secret),
    };
    Router::new()
        .route("/", post(receive))
        .route("/{*path}", post(receive))
        .with_state(receiver)
}

async fn receive(State(receiver): State<Receiver>, request: Request<Body>) -> Response {
    match answer(&receiver, request).await {
        Ok(response) => response,
        Err(problem) => ProblemResponse(problem).into_response(),
    }
}

async fn answer(receiver: &Receiver, request: Request<Body>) -> Result<Response, Problem> {
    let (parts, body) = request.into_parts();
    let body = read_body(&parts.headers, body, limits::WEBHOOK_CALL_BYTES_MAX).await?;
    let secrets = std::slice::from_ref(receiver.secret.as_ref());
    webhook::verify_webhook(secrets, &parts.headers, &body, receiver.daemon.relay_now())
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
            receiver.daemon.reached().await;
            Ok(json_body(
                StatusCode::OK,
                &ingest::ingest(&receiver.daemon, data).await,
            ))
        }
    }
}
