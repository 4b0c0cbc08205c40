//! Every route with invalid requests. The relay never returns a 5xx (except 501 for other relays),
//! never closes a connection without a response, and remains ready.

use crate::support::{Node, Relay, Reply};
use http::{Method, StatusCode};
use sealpost_proto::{B64, ErrorCode, Problem};
use serde_json::{Value, json};
use std::time::Duration;

pub(crate) const ABSENT: &str = "AAAAAAAAAAAAAAAAAAAAAA";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Signature {
    None,
    Session,
    Key,
}

/// Every route: method, path with an unused id, and required signature.
pub(crate) const ROUTES: &[(&str, &str, Signature)] = &[
    ("POST", "/v1/accounts", Signature::Key),
    ("POST", "/v1/session", Signature::Key),
    ("GET", "/v1/account", Signature::Session),
    ("PATCH", "/v1/account", Signature::Key),
    ("DELETE", "/v1/account", Signature::Key),
    ("POST", "/v1/account/webhook-test", Signature::Key),
    ("GET", "/v1/account/checkpoint", Signature::Session),
    ("PUT", "/v1/account/checkpoint", Signature::Session),
    ("GET", "/v1/mailboxes", Signature::Session),
    ("PUT", "/v1/mailboxes/ID", Signature::Key),
    ("DELETE", "/v1/mailboxes/ID", Signature::Key),
    ("PUT", "/v1/mailboxes/ID/prekeys", Signature::Key),
    ("GET", "/v1/mailboxes/ID/prekeys", Signature::Session),
    ("POST", "/v1/envelopes", Signature::Session),
    ("POST", "/v1/envelopes/status", Signature::Session),
    ("GET", "/v1/envelopes/ID", Signature::Session),
    ("DELETE", "/v1/envelopes/ID", Signature::Session),
    ("GET", "/v1/deliveries", Signature::Session),
    ("POST", "/v1/deliveries/ack", Signature::Session),
    ("POST", "/v1/blobs", Signature::Session),
    ("GET", "/v1/blobs/ID", Signature::Session),
    ("PATCH", "/v1/blobs/ID", Signature::Session),
    ("DELETE", "/v1/blobs/ID", Signature::Session),
    ("POST", "/v1/blobs/ID/complete", Signature::Session),
    ("PUT", "/v1/blobs/ID/parts/0", Signature::Session),
    ("GET", "/v1/blobs/ID/parts/0", Signature::Session),
    (
        "GET",
        "/v1/at/elsewhere.example/blobs/ID",
        Signature::Session,
    ),
    ("GET", "/.well-known/sealpost", Signature::None),
    ("GET", "/i", Signature::None),
    ("GET", "/healthz", Signature::None),
    ("GET", "/readyz", Signature::None),
];

/// Starts a relay without rate limits, because these tests send thousands of requests.
pub(crate) async fn relay() -> Relay {
    Relay::start_with(|config| {
        config.rates.requests_per_second = 0;
        config.rates.envelopes_per_minute = 0;
    })
    .await
}

pub(crate) fn method(name: &str) -> Method {
    name.parse().unwrap()
}

fn request(
    node: &Node,
    route: (&str, &str, Signature),
    body: &[u8],
) -> http::Request<http_body_util::Full<bytes::Bytes>> {
    let (name, path, signed) = route;
    let (path, body) = (path.replace("ID", ABSENT), body.to_vec());
    match signed {
        Signature::None => node.unsigned_request(method(name), &path, body),
        Signature::Session => node.session_request(method(name), &path, body),
        Signature::Key => node.key_request(method(name), &path, body),
    }
}

/// Returns a new node for the route that deletes the account.
async fn node_for_route(
    relay: &Relay,
    route: (&str, &str, Signature),
    node: &Node,
) -> Option<Node> {
    let deletes = route.0 == "DELETE" && route.1 == "/v1/account";
    if deletes || node.session.is_none() {
        Some(relay.node().await)
    } else {
        None
    }
}

fn assert_no_server_error(what: impl std::fmt::Display, reply: &Reply) {
    let status = reply.status.as_u16();
    assert!(status < 500 || status == 501, "{what}: {reply:?}");
    if status >= 400 && status != 416 {
        let problem: Problem = reply.json();
        assert_eq!(
            (problem.status, problem.code.status()),
            (status, status),
            "{what}"
        );
    }
}

pub(crate) async fn assert_still_ready(node: &Node) {
    let ready = node
        .send(node.unsigned_request(Method::GET, "/readyz", ""))
        .await;
    assert_eq!(
        (ready.status, &ready.body[..]),
        (StatusCode::OK, &b"ready"[..])
    );
}

#[tokio::test]
async fn every_route_verifies_its_signature() {
    let relay = relay().await;
    let node = relay.node().await;
    for &route @ (name, path, signed) in ROUTES
        .iter()
        .filter(|(_, _, signed)| *signed != Signature::None)
    {
        let target = path.replace("ID", ABSENT);
        let unsigned = node
            .send(node.unsigned_request(method(name), &target, ""))
            .await;
        assert_eq!(
            unsigned.code(),
            ErrorCode::SignatureMissing,
            "{name} {path}"
        );
        let wrong_key = match signed {
            Signature::Key => node.session_request(method(name), &target, ""),
            Signature::Session | Signature::None => node.key_request(method(name), &target, ""),
        };
        assert_eq!(
            node.send(wrong_key).await.code(),
            ErrorCode::SignatureInvalid,
            "{name} {path}"
        );
        for garbage in [
            "",
            "sig",
            "sig=()",
            "sig=(\"@method\");created=1",
            "\u{fffd}",
            "sig=:AAAA:",
            &"x".repeat(8_000),
        ] {
            for header in ["signature-input", "signature", "content-digest"] {
                let mut invalid = request(&node, route, b"");
                invalid.headers_mut().insert(
                    header,
                    http::HeaderValue::from_bytes(garbage.as_bytes()).unwrap(),
                );
                let reply = node.send(invalid).await;
                assert_no_server_error(format!("{name} {path} {header}: {garbage:.20}"), &reply);
                assert_eq!(
                    reply.status,
                    StatusCode::UNAUTHORIZED,
                    "{name} {path} {header}: {garbage:.20}"
                );
            }
        }
        let early = request(&node, route, b"");
        relay.clock.advance(Duration::from_secs(301));
        assert_eq!(
            node.send(early).await.code(),
            ErrorCode::ClockSkew,
            "{name} {path}"
        );
        let late = request(&node, route, b"");
        relay.clock.set(relay.now().minus(Duration::from_secs(301)));
        assert_eq!(
            node.send(late).await.code(),
            ErrorCode::ClockSkew,
            "{name} {path}"
        );
    }
    for &route in ROUTES.iter().filter(|(_, path, signed)| {
        *signed == Signature::Key && *path != "/v1/account/webhook-test"
    }) {
        let other = node_for_route(&relay, route, &node).await;
        let signed = request(other.as_ref().unwrap_or(&node), route, b"");
        let replay = signed.clone();
        assert_no_server_error(route.1, &node.send(signed).await);
        let code = node.send(replay).await.code();
        // Nothing is stored about a deleted account, including its nonces.
        let expected = if other.is_some() {
            ErrorCode::AccountUnknown
        } else {
            ErrorCode::NonceUsed
        };
        assert_eq!(code, expected, "{} {}", route.0, route.1);
    }
    assert_still_ready(&node).await;
}

/// Returns a valid body for every route that takes one.
fn valid_bodies(relay: &Relay) -> Vec<(&'static str, &'static str, Value)> {
    let id =
        |byte: u8| serde_json::to_value(sealpost_proto::BlobId::from_bytes([byte; 16])).unwrap();
    let bytes = |count: usize| serde_json::to_value(B64(vec![5; count])).unwrap();
    let expiry = relay.now().as_millis() + 60_000;
    let mailbox = json!({"relay": relay.origin.as_str(), "id": id(1)});
    let envelope = json!({
        "id": id(2),
        "mailbox": mailbox,
        "proof": bytes(16),
        "expires_at": expiry,
        "bytes": bytes(2_048)
    });
    vec![
        (
            "POST",
            "/v1/accounts",
            json!({"delivery": {"mode": "webhook", "url": "https://a.example/"}, "token": "x"}),
        ),
        (
            "PATCH",
            "/v1/account",
            json!({"delivery": {"mode": "pull"}}),
        ),
        (
            "PUT",
            "/v1/account/checkpoint",
            json!({"sealed": bytes(40)}),
        ),
        (
            "PUT",
            "/v1/mailboxes/ID",
            json!({"send_keys": [bytes(32), bytes(32)]}),
        ),
        (
            "PUT",
            "/v1/mailboxes/ID/prekeys",
            json!({"sealed": bytes(2_048)}),
        ),
        (
            "POST",
            "/v1/envelopes",
            json!({"envelopes": [envelope.clone(), envelope]}),
        ),
        (
            "POST",
            "/v1/envelopes/status",
            json!({"ids": [id(2), id(3)]}),
        ),
        (
            "POST",
            "/v1/deliveries/ack",
            json!({"lease": 1, "results": [{"id": 1, "outcome": "later", "retry_after_ms": 5}]}),
        ),
        (
            "POST",
            "/v1/blobs",
            json!({
                "id": id(4),
                "size_bytes": 500,
                "fetch_token_hash": bytes(32),
                "expires_at": expiry
            }),
        ),
        ("PATCH", "/v1/blobs/ID", json!({"expires_at": expiry})),
        (
            "POST",
            "/v1/blobs/ID/complete",
            json!({"digest": bytes(32)}),
        ),
    ]
}

/// Returns variants of a document in which one value is replaced by an invalid one.
pub(crate) fn corrupted_values(document: &Value) -> Vec<String> {
    let mut paths = vec![String::new()];
    collect(document, "", &mut paths);
    let invalid = [
        "null",
        "true",
        "-1",
        "0",
        "1.5",
        "18446744073709551616",
        "1e400",
        "\"\"",
        "\"=\"",
        "\"AA==\"",
        "\"\\ud800\"",
        "\"\\u0000\"",
        "\"\u{202e}\u{1f4a9}\"",
        "[]",
        "{}",
        "[[[[]]]]",
        "{\"a\":{\"a\":{}}}",
    ];
    let long = format!("\"{}\"", "A".repeat(20_000));
    let deep = format!("{}{}", "[".repeat(200), "]".repeat(200));
    let mut all = Vec::new();
    for path in paths {
        for text in invalid
            .iter()
            .copied()
            .chain([long.as_str(), deep.as_str()])
        {
            let mut changed = document.clone();
            *changed.pointer_mut(&path).unwrap() = Value::String("REPLACED".to_owned());
            all.push(changed.to_string().replacen("\"REPLACED\"", text, 1));
        }
    }
    all
}

/// Returns variants of a text with a single byte changed, removed or duplicated.
fn corrupted_bytes(text: &[u8]) -> Vec<Vec<u8>> {
    let positions = (0..text.len()).step_by(text.len().div_ceil(100));
    let at = |index: usize| {
        let (before, after) = (&text[..index], &text[index + 1..]);
        let flips =
            [0x01, 0x08, 0x20, 0x80].map(|bit| [before, &[text[index] ^ bit], after].concat());
        flips.into_iter().chain([
            [before, after].concat(),
            [before, &text[index..=index], &text[index..]].concat(),
        ])
    };
    positions.flat_map(at).collect()
}

fn collect(value: &Value, path: &str, paths: &mut Vec<String>) {
    let below: Vec<(String, &Value)> = match value {
        Value::Object(fields) => fields
            .iter()
            .map(|(name, value)| (format!("{path}/{name}"), value))
            .collect(),
        Value::Array(items) => items
            .iter()
            .enumerate()
            .map(|(index, value)| (format!("{path}/{index}"), value))
            .collect(),
        _ => return,
    };
    for (path, value) in below {
        paths.push(path.clone());
        collect(value, &path, paths);
    }
}

#[tokio::test]
async fn no_body_causes_a_server_error() {
    let relay = relay().await;
    let node = relay.node().await;
    for (name, path, valid) in valid_bodies(&relay) {
        let signed = ROUTES
            .iter()
            .find(|route| (route.0, route.1) == (name, path))
            .unwrap()
            .2;
        let route = (name, path, signed);
        let text = valid.to_string();
        let mut bodies: Vec<Vec<u8>> = corrupted_values(&valid)
            .into_iter()
            .map(String::into_bytes)
            .collect();
        bodies.extend((0..8).map(|cut| text.as_bytes()[..text.len() * cut / 8].to_vec()));
        bodies.extend(
            [
                "null",
                "[]",
                "{}",
                "\u{0}",
                "{\"a\":1,\"a\":2}",
                "\u{feff}{}",
            ]
            .map(|text| text.as_bytes().to_vec()),
        );
        bodies.push([text.as_bytes(), text.as_bytes()].concat());
        bodies.push(vec![0xff; 1_000]);
        bodies.push("[".repeat(50_000).into_bytes());
        bodies.extend(corrupted_bytes(text.as_bytes()));
        for body in bodies {
            let reply = node.send(request(&node, route, &body)).await;
            assert_no_server_error(
                format!("{name} {path} {:.80}", String::from_utf8_lossy(&body)),
                &reply,
            );
        }
        for content_type in [
            "text/plain",
            "application/jsonp",
            "application/octet-stream",
            "",
            "\u{fffd}",
            "multipart/form-data",
        ] {
            let mut invalid = request(&node, route, text.as_bytes());
            invalid.headers_mut().insert(
                "content-type",
                http::HeaderValue::from_bytes(content_type.as_bytes()).unwrap(),
            );
            invalid
                .headers_mut()
                .insert("if-match", "\"none\"".parse().unwrap());
            assert_eq!(
                node.send(invalid).await.code(),
                ErrorCode::UnsupportedMediaType,
                "{name} {path} {content_type}"
            );
        }
    }
    assert_still_ready(&node).await;
}

#[tokio::test]
async fn invalid_urls_are_refused() {
    let relay = relay().await;
    let node = relay.node().await;
    let long = "A".repeat(2_000);
    let ids = [
        "x",
        "%00",
        "%ff",
        "AAAAAAAAAAAAAAAAAAAAA",
        "AAAAAAAAAAAAAAAAAAAAAB",
        "AAAAAAAAAAAAAAAAAAAAA=",
        "..",
        "%2e%2e%2f",
        "'%20OR%201=1",
        &long,
    ];
    for &(name, path, signed) in ROUTES
        .iter()
        .filter(|(_, path, _)| path.contains("ID") && !path.starts_with("/v1/at/"))
    {
        for id in ids {
            // Clients resolve dots before they sign.
            let Ok(target) = url::Url::parse(&format!("http://a{}", path.replace("ID", id))) else {
                continue;
            };
            let target = target.path();
            let invalid = if signed == Signature::Key {
                node.key_request(method(name), target, "{}")
            } else {
                node.session_request(method(name), target, "{}")
            };
            let reply = node.send(invalid).await;
            assert_no_server_error(format!("{name} {target}"), &reply);
            assert!(reply.status.is_client_error(), "{name} {target}: {reply:?}");
        }
    }
    for target in [
        "/v1/deliveries?wait=-1",
        "/v1/deliveries?wait=x",
        "/v1/deliveries?wait=99999999999999999999",
        "/v1/mailboxes?after=x",
        "/v1/mailboxes?after=",
    ] {
        assert_eq!(
            node.get(target).await.code(),
            ErrorCode::Malformed,
            "{target}"
        );
    }
    for part in ["-1", "4294967296", "x", "0x1", "1.5"] {
        let target = format!("/v1/blobs/{ABSENT}/parts/{part}");
        assert_eq!(
            node.get(&target).await.code(),
            ErrorCode::Malformed,
            "{target}"
        );
    }
    assert_still_ready(&node).await;
}
