//! The webhook that the relay calls (`docs/protocol.md`). The calls are signed with the account's
//! webhook secret.

use crate::daemon::{HomeRelay, Ingest};
use axum::{
    Router,
    body::Body,
    extract::{ConnectInfo, Request, State},
    response::{IntoResponse as _, Response},
    routing::post,
};
use http::{HeaderMap, StatusCode, request::Parts};
use sealpost_proto::{
    ErrorCode, Problem, WebhookSecret,
    limits::{
        BUSY_RETRY, LINK_BYTES_PER_SECOND_MIN, UNPROVEN_WEBHOOK_MEMORY_BYTES_MAX,
        UNPROVEN_WEBHOOK_MEMORY_PER_ADDRESS_BYTES_MAX, WEBHOOK_CALL_BYTES_MAX,
        WEBHOOK_CALL_MEMORY_BYTES_MIN, WEBHOOK_MEMORY_BYTES_MAX,
    },
    time::millis,
    wire::{ChallengeResponse, WebhookCall},
};
use sealpost_service::{
    fair_pool::{FairPool, Owner, Permit},
    http::{BodyReader, ProblemResponse, body_bytes_max, json_body, parse_json, with_problems},
};
use sealpost_signatures::webhook::{self, WebhookError};
use std::{net::SocketAddr, slice};

/// State of the router.
#[derive(Clone)]
struct Receiver {
    ingest: Ingest,
    memory: CallMemory,
}

/// Memory for the bodies of calls, which also limits concurrent calls. Only the relay can prove its
/// calls before their bodies are read, so nobody else can use up its memory.
#[derive(Clone)]
struct CallMemory {
    proven: FairPool,
    unproven: FairPool,
}

impl Default for CallMemory {
    fn default() -> Self {
        Self {
            proven: FairPool::of_memory(WEBHOOK_MEMORY_BYTES_MAX, WEBHOOK_MEMORY_BYTES_MAX),
            unproven: FairPool::of_memory(
                UNPROVEN_WEBHOOK_MEMORY_BYTES_MAX,
                UNPROVEN_WEBHOOK_MEMORY_PER_ADDRESS_BYTES_MAX,
            ),
        }
    }
}

impl CallMemory {
    async fn reserve(
        &self,
        is_proven: bool,
        parts: &Parts,
        body_bytes_max: usize,
    ) -> Result<Permit, Problem> {
        let bytes = body_bytes_max.max(WEBHOOK_CALL_MEMORY_BYTES_MIN);
        let permit = if is_proven {
            self.proven.reserve_bytes(None, bytes).await
        } else {
            self.unproven.reserve_bytes(client(parts), bytes).await
        };
        let overloaded = || Problem::from(ErrorCode::Overloaded);
        permit.ok_or_else(|| overloaded().retry_after_ms(millis(BUSY_RETRY)))
    }
}

/// Returns the network of the client. A proxy on this machine calls on behalf of all clients.
fn client(parts: &Parts) -> Option<Owner> {
    let ConnectInfo(peer) = parts.extensions.get::<ConnectInfo<SocketAddr>>()?;
    let address = peer.ip().to_canonical();
    (!address.is_loopback()).then(|| Owner::network_of(address))
}

/// Builds the router. It serves every path, so that a proxy can mount it anywhere.
pub(super) fn router(ingest: Ingest) -> Router {
    let receiver = Receiver {
        ingest,
        memory: CallMemory::default(),
    };
    let router = Router::new()
        .route("/", post(receive))
        .route("/{*path}", post(receive));
    with_problems(router).with_state(receiver)
}

async fn receive(State(receiver): State<Receiver>, request: Request<Body>) -> Response {
    match respond(&receiver, request).await {
        Ok(response) => response,
        Err(problem) => ProblemResponse(problem).into_response(),
    }
}

async fn respond(receiver: &Receiver, request: Request<Body>) -> Result<Response, Problem> {
    let (parts, body) = request.into_parts();
    let relay = &receiver.ingest.relay;
    let secret = relay.webhook_secret().ok_or(ErrorCode::SignatureInvalid)?;
    let secrets = slice::from_ref(&secret);
    let is_proven =
        webhook::check_headers(secrets, &parts.headers, relay.now()).map_err(signature_problem)?;
    let bytes_max = body_bytes_max(&parts.headers, &body, WEBHOOK_CALL_BYTES_MAX);
    let memory = &receiver.memory;
    let permit = memory.reserve(is_proven, &parts, bytes_max).await?;
    let mut reader = BodyReader::new(&parts.headers, body, WEBHOOK_CALL_BYTES_MAX)?;
    if is_proven {
        reader = reader.with_bytes_per_second_min(LINK_BYTES_PER_SECOND_MIN);
    }
    let body = reader.with_permit(permit.clone()).read_to_end().await?;
    verify(relay, secrets, &parts.headers, &body)?;
    match parse_json::<WebhookCall>(&parts.headers, &body)? {
        WebhookCall::Challenge { challenge, .. } => {
            let answer = webhook::respond_to_challenge(&secret, challenge.as_slice());
            Ok(json_body(
                StatusCode::OK,
                &ChallengeResponse {
                    answer: answer.to_vec().into(),
                },
            ))
        }
        WebhookCall::Deliveries { data, .. } => {
            relay.record_response().await;
            let results = receiver.ingest.ingest(data).await;
            Ok(json_body(StatusCode::OK, &results))
        }
    }
}

/// Verifies the signature of a call and its time.
fn verify(
    relay: &HomeRelay,
    secrets: &[WebhookSecret],
    headers: &HeaderMap,
    body: &[u8],
) -> Result<(), Problem> {
    match webhook::verify_webhook(secrets, headers, body, relay.now()) {
        Ok(signed_at) => {
            relay.record_call_time(signed_at);
            Ok(())
        }
        Err(error) => {
            if let WebhookError::TimestampOutOfRange { signed_at } = error {
                relay.record_wrong_call_time(signed_at);
            }
            Err(signature_problem(error))
        }
    }
}

fn signature_problem(error: WebhookError) -> Problem {
    Problem::new(ErrorCode::SignatureInvalid, error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::NodeComponents;
    use bytes::Bytes;
    use futures_util::{StreamExt as _, stream};
    use http::header;
    use sealpost_proto::{Origin, Timestamp};
    use sealpost_service::ManualClock;
    use sealpost_signatures::webhook::{PROOF_HEADER, SIGNATURE_HEADER, sign_webhook};
    use std::{io, task::Poll};
    use tokio::task::JoinSet;
    use tower::ServiceExt as _;

    const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);

    fn secret() -> WebhookSecret {
        WebhookSecret::from_bytes([7; 32])
    }

    async fn start(directory: &tempfile::TempDir) -> Router {
        let relay = Origin::parse("https://relay.example").unwrap();
        let clock = ManualClock::new(NOW);
        let components = NodeComponents::for_test(directory.path(), relay, clock).await;
        components.relay.set_registered(secret());
        router(components.ingest())
    }

    /// Builds a call whose headers are signed for `signed_body`.
    fn call(signed_body: &[u8], body: impl Into<Body>) -> Request<Body> {
        let mut request = Request::post("/").body(body.into()).unwrap();
        let headers = request.headers_mut();
        sign_webhook(&secret(), "call-1", NOW, signed_body)
            .insert_into(headers)
            .unwrap();
        headers.insert(header::CONTENT_TYPE, "application/json".parse().unwrap());
        request
    }

    fn challenge() -> Vec<u8> {
        let call = WebhookCall::Challenge {
            timestamp: NOW,
            challenge: vec![1; 32].into(),
        };
        serde_json::to_vec(&call).unwrap()
    }

    /// Returns a call with an endless body that starts with as many bytes as a call can have, except
    /// for the last one.
    fn endless_call(is_proven: bool) -> Request<Body> {
        let start = Bytes::from(vec![b' '; WEBHOOK_CALL_BYTES_MAX - 1]);
        let start = stream::iter([Ok::<_, io::Error>(start)]);
        let body = start.chain(stream::pending());
        let mut request = call(b"", Body::from_stream(body));
        if !is_proven {
            request.headers_mut().remove(PROOF_HEADER);
        }
        request
    }

    /// Sends endless calls and returns those that are in progress.
    async fn hold_calls(router: &Router, calls: usize, is_proven: bool) -> JoinSet<StatusCode> {
        let mut held = JoinSet::new();
        for _ in 0..calls {
            let response = router.clone().oneshot(endless_call(is_proven));
            held.spawn(async move { response.await.unwrap().status() });
        }
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        while let Some(status) = held.try_join_next() {
            assert_eq!(status.unwrap(), StatusCode::SERVICE_UNAVAILABLE);
        }
        held
    }

    async fn send(router: &Router, request: Request<Body>) -> StatusCode {
        router.clone().oneshot(request).await.unwrap().status()
    }

    #[tokio::test]
    async fn memory_of_calls_is_bounded() {
        let directory = tempfile::tempdir().unwrap();
        let router = start(&directory).await;
        let proven = hold_calls(&router, 100, true).await;
        assert_eq!(
            proven.len(),
            WEBHOOK_MEMORY_BYTES_MAX / WEBHOOK_CALL_BYTES_MAX
        );
        let unproven = hold_calls(&router, 100, false).await;
        let calls_max = UNPROVEN_WEBHOOK_MEMORY_BYTES_MAX / WEBHOOK_CALL_BYTES_MAX;
        assert_eq!(unproven.len(), calls_max);
    }

    #[tokio::test]
    async fn strangers_cannot_use_the_memory_of_proven_calls() {
        let directory = tempfile::tempdir().unwrap();
        let router = start(&directory).await;
        let held = hold_calls(&router, 100, false).await;
        let body = challenge();
        assert_eq!(
            send(&router, call(&body, body.clone())).await,
            StatusCode::OK
        );
        let refused = send(&router, unproven_call(&body)).await;
        assert_eq!(refused, StatusCode::SERVICE_UNAVAILABLE);
        drop(held);
        while send(&router, unproven_call(&body)).await != StatusCode::OK {
            tokio::task::yield_now().await;
        }
    }

    fn unproven_call(body: &[u8]) -> Request<Body> {
        let mut request = call(body, body.to_vec());
        request.headers_mut().remove(PROOF_HEADER);
        request
    }

    #[tokio::test]
    async fn bodies_of_unsigned_calls_are_not_read() {
        let directory = tempfile::tempdir().unwrap();
        let router = start(&directory).await;
        let unread = || {
            Body::from_stream(stream::poll_fn(|_| -> Poll<Option<io::Result<Bytes>>> {
                panic!("the body is read")
            }))
        };
        for missing in ["webhook-id", "webhook-timestamp", SIGNATURE_HEADER] {
            let mut request = call(b"", unread());
            request.headers_mut().remove(missing);
            assert_eq!(
                send(&router, request).await,
                StatusCode::UNAUTHORIZED,
                "{missing}"
            );
        }
        let mut stale = call(b"", unread());
        stale.headers_mut().remove(PROOF_HEADER);
        let old = (NOW.as_secs() - 301).to_string();
        stale
            .headers_mut()
            .insert("webhook-timestamp", old.parse().unwrap());
        assert_eq!(send(&router, stale).await, StatusCode::UNAUTHORIZED);
    }
}
