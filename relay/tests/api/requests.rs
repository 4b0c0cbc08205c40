use crate::support::{Node, Relay};
use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use sealpost_proto::{ErrorCode, Problem, wire::SubmitOutcome};
use std::time::Duration;

async fn duplicate(request: Request<Full<Bytes>>) -> (Request<Full<Bytes>>, Request<Full<Bytes>>) {
    let (parts, body) = request.into_parts();
    let bytes = body.collect().await.unwrap().to_bytes();
    let twin = Request::from_parts(parts.clone(), Full::new(bytes.clone()));
    (Request::from_parts(parts, Full::new(bytes)), twin)
}

#[tokio::test]
async fn clock_skew_returns_the_relay_time() {
    let relay = Relay::start().await;
    let node = relay.node().await;
    for (ahead, advance) in [(true, false), (false, true)] {
        let request = node.session_request(Method::GET, "/v1/account", "");
        let moved = Duration::from_secs(301);
        if advance {
            relay.clock.advance(moved);
        } else {
            relay.clock.set(relay.now().minus(moved));
        }
        let reply = node.send(request).await;
        assert_eq!(
            (reply.status, reply.code()),
            (StatusCode::UNAUTHORIZED, ErrorCode::ClockSkew),
            "ahead: {ahead}"
        );
        assert_eq!(reply.json::<Problem>().relay_time, Some(relay.now()));
    }
}

#[tokio::test]
async fn replayed_nonces_are_refused_across_restarts() {
    let relay = Relay::start().await;
    let (acme, bolt) = (relay.node().await, relay.node().await);
    let (first, second) = duplicate(acme.key_request(Method::POST, "/v1/session", "")).await;
    let (third, _) = duplicate(first.clone()).await;
    assert_eq!(acme.send(first).await.status, StatusCode::OK);
    assert_eq!(acme.send(second).await.code(), ErrorCode::NonceUsed);
    let mailbox = bolt.open_mailbox().await;
    let envelopes = vec![acme.new_envelope(&mailbox, 1)];
    let body = serde_json::to_vec(&sealpost_proto::wire::SubmitRequest {
        envelopes: envelopes.clone(),
    })
    .unwrap();
    let (submit, replay) =
        duplicate(acme.session_request(Method::POST, "/v1/envelopes", body)).await;
    acme.send(submit).await;
    assert_eq!(acme.send(replay).await.status, StatusCode::OK);
    assert!(matches!(
        acme.submit(envelopes).await[..],
        [SubmitOutcome::Duplicate { .. }]
    ));
    assert_eq!(bolt.pull_and_store(0).await.deliveries.len(), 1);
    let relay = relay.restart().await;
    assert_eq!(acme.send(third).await.code(), ErrorCode::NonceUsed);
    drop(relay);
}

#[tokio::test]
async fn modified_requests_are_refused() {
    let relay = Relay::start().await;
    let node = relay.node().await;
    let signed = || {
        node.session_request(
            Method::GET,
            "/v1/mailboxes?after=AAAAAAAAAAAAAAAAAAAAAA",
            "",
        )
    };
    assert_eq!(node.send(signed()).await.status, StatusCode::OK);
    let mut query = signed();
    *query.uri_mut() = format!("{}/v1/mailboxes?after=BAAAAAAAAAAAAAAAAAAAAA", node.origin)
        .parse()
        .unwrap();
    let mut path = signed();
    *path.uri_mut() = format!("{}/v1/account", node.origin).parse().unwrap();
    let mut body = signed();
    *body.body_mut() = Full::new(Bytes::from_static(b"x"));
    let mut method = signed();
    *method.method_mut() = Method::PUT;
    *method.uri_mut() = format!("{}/v1/account/checkpoint", node.origin)
        .parse()
        .unwrap();
    for request in [query, path, body, method] {
        assert_eq!(node.send(request).await.code(), ErrorCode::SignatureInvalid);
    }
    let unsigned = node
        .send(node.unsigned_request(Method::GET, "/v1/account", ""))
        .await;
    assert_eq!(unsigned.code(), ErrorCode::SignatureMissing);
}

#[tokio::test]
async fn each_route_requires_its_kind_of_key() {
    let relay = Relay::start().await;
    let node = relay.node().await;
    assert_eq!(
        node.send_with_key(Method::GET, "/v1/account", "")
            .await
            .code(),
        ErrorCode::SignatureInvalid
    );
    assert_eq!(
        node.send_with_session(Method::POST, "/v1/session", "")
            .await
            .code(),
        ErrorCode::SignatureInvalid
    );
    let stranger = Node::new(&relay);
    assert_eq!(
        stranger
            .send_with_key(Method::POST, "/v1/session", "")
            .await
            .code(),
        ErrorCode::AccountUnknown
    );
}

#[tokio::test]
async fn session_of_another_relay_is_refused() {
    let (relay, other) = (Relay::start().await, Relay::start().await);
    let mut node = relay.node().await;
    node.session = other.node().await.session;
    assert_eq!(
        node.get("/v1/account").await.code(),
        ErrorCode::SignatureInvalid
    );
}

#[tokio::test]
async fn invalid_json_is_malformed() {
    let relay = Relay::start().await;
    let node = relay.node().await;
    let deep = "[".repeat(20_000);
    let bodies = [
        "",
        "{",
        "[]",
        "null",
        "{\"envelopes\":[{}]}",
        "{\"envelopes\":\"\\ud800\"}",
        &deep,
        "\u{0}\u{1}",
    ];
    let routes = [
        "/v1/envelopes",
        "/v1/envelopes/status",
        "/v1/deliveries/ack",
        "/v1/blobs",
    ];
    for (route, body) in routes
        .iter()
        .flat_map(|route| bodies.iter().map(move |body| (route, body)))
    {
        let reply = node
            .send_with_session(Method::POST, route, (*body).to_owned())
            .await;
        assert_eq!(reply.code(), ErrorCode::Malformed, "{route} {:.20}", body);
    }
    let mut text = node.session_request(Method::POST, "/v1/envelopes", "{}");
    text.headers_mut()
        .insert("content-type", "text/plain".parse().unwrap());
    assert_eq!(
        node.send(text).await.code(),
        ErrorCode::UnsupportedMediaType
    );
    for target in [
        "/v1/envelopes/x",
        "/v1/envelopes/%00",
        "/v1/mailboxes?after=x",
        "/v1/deliveries?wait=-1",
    ] {
        assert_eq!(
            node.get(target).await.status,
            StatusCode::BAD_REQUEST,
            "{target}"
        );
    }
    let foreign = node.get("/v1/at/elsewhere.example/blobs/x").await;
    assert_eq!(
        (foreign.status, foreign.code()),
        (
            StatusCode::NOT_IMPLEMENTED,
            ErrorCode::ForeignRelayUnsupported
        )
    );
}

#[tokio::test]
async fn body_over_the_limit_is_refused() {
    let relay = Relay::start().await;
    let node = relay.node().await;
    for (route, limit) in [("/v1/blobs", 64 * 1024), ("/v1/envelopes", 4 * 1024 * 1024)] {
        let reply = node
            .send_with_session(Method::POST, route, vec![b' '; limit + 1])
            .await;
        assert_eq!(reply.code(), ErrorCode::TooLarge, "{route}");
        let reply = node
            .send_with_session(Method::POST, route, vec![b' '; limit])
            .await;
        assert_eq!(reply.code(), ErrorCode::Malformed, "{route}");
    }
}

#[tokio::test]
async fn openapi_document_has_an_etag() {
    let relay = Relay::start().await;
    let node = Node::new(&relay);
    let first = node
        .send(node.unsigned_request(Method::GET, "/openapi.json", ""))
        .await;
    assert_eq!(
        (first.status, &first.headers["content-type"]),
        (StatusCode::OK, &"application/json".parse().unwrap())
    );
    let mut again = node.unsigned_request(Method::GET, "/openapi.json", "");
    again
        .headers_mut()
        .insert("if-none-match", first.headers["etag"].clone());
    assert_eq!(node.send(again).await.status, StatusCode::NOT_MODIFIED);
    let mut outdated = node.unsigned_request(Method::GET, "/openapi.json", "");
    outdated
        .headers_mut()
        .insert("if-none-match", "\"another\"".parse().unwrap());
    assert_eq!(node.send(outdated).await.body, first.body);
}
