//! What no relay may fail at: every route with everything that is wrong with a request. Never a 5xx (but the 501 of what
//! belongs to other relays), never a cut connection without an answer, and afterwards the relay is as ready as before.

use crate::support::{Node, Relay, Reply};
use http::{Method, StatusCode};
use sealpost_proto::{B64, ErrorCode, Problem};
use sealpost_service::random_array;
use sealpost_signatures::{ContentDigest, request};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

const ABSENT: &str = "AAAAAAAAAAAAAAAAAAAAAA";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Signed {
    No,
    BySession,
    ByKey,
}

use Signed::{ByKey, BySession, No};

/// Every route: method, path with an id that nothing has, and who signs.
const ROUTES: &[(&str, &str, Signed)] = &[
    ("POST", "/v1/accounts", ByKey),
    ("POST", "/v1/session", ByKey),
    ("GET", "/v1/account", BySession),
    ("PATCH", "/v1/account", ByKey),
    ("DELETE", "/v1/account", ByKey),
    ("POST", "/v1/account/webhook-test", ByKey),
    ("GET", "/v1/account/checkpoint", BySession),
    ("PUT", "/v1/account/checkpoint", BySession),
    ("GET", "/v1/mailboxes", BySession),
    ("PUT", "/v1/mailboxes/ID", ByKey),
    ("DELETE", "/v1/mailboxes/ID", ByKey),
    ("PUT", "/v1/mailboxes/ID/prekeys", ByKey),
    ("GET", "/v1/mailboxes/ID/prekeys", BySession),
    ("POST", "/v1/envelopes", BySession),
    ("POST", "/v1/envelopes/status", BySession),
    ("GET", "/v1/envelopes/ID", BySession),
    ("DELETE", "/v1/envelopes/ID", BySession),
    ("GET", "/v1/deliveries", BySession),
    ("POST", "/v1/deliveries/ack", BySession),
    ("POST", "/v1/blobs", BySession),
    ("GET", "/v1/blobs/ID", BySession),
    ("PATCH", "/v1/blobs/ID", BySession),
    ("DELETE", "/v1/blobs/ID", BySession),
    ("POST", "/v1/blobs/ID/complete", BySession),
    ("PUT", "/v1/blobs/ID/parts/0", BySession),
    ("GET", "/v1/blobs/ID/parts/0", BySession),
    ("GET", "/v1/at/elsewhere.example/blobs/ID", BySession),
    ("GET", "/.well-known/sealpost", No),
    ("GET", "/i", No),
    ("GET", "/healthz", No),
    ("GET", "/readyz", No),
];

/// A relay that counts nothing: what is tried here are thousands of requests.
async fn relay() -> Relay {
    Relay::start_with(|config| {
        config.rates.requests_per_second = 0;
        config.rates.envelopes_per_minute = 0;
    })
    .await
}

fn method(name: &str) -> Method {
    name.parse().unwrap()
}

fn request(
    node: &Node,
    route: (&str, &str, Signed),
    body: &[u8],
) -> http::Request<http_body_util::Full<bytes::Bytes>> {
    let (name, path, signed) = route;
    let (path, body) = (path.replace("ID", ABSENT), body.to_vec());
    match signed {
        No => node.plain(method(name), &path, body),
        BySession => node.by_session(method(name), &path, body),
        ByKey => node.by_key(method(name), &path, body),
    }
}

/// A leaving or registering node is another one each time.
async fn who(relay: &Relay, route: (&str, &str, Signed), node: &Node) -> Option<Node> {
    let leaves = route.0 == "DELETE" && route.1 == "/v1/account";
    if leaves || node.session.is_none() {
        Some(relay.node().await)
    } else {
        None
    }
}

fn never_fails(what: impl std::fmt::Display, reply: &Reply) {
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

async fn as_ready_as_before(node: &Node) {
    let ready = node.send(node.plain(Method::GET, "/readyz", "")).await;
    assert_eq!(
        (ready.status, &ready.body[..]),
        (StatusCode::OK, &b"ready"[..])
    );
}

#[tokio::test]
async fn every_route_wants_its_own_signature_at_its_own_time_and_once() {
    let relay = relay().await;
    let node = relay.node().await;
    for &route @ (name, path, signed) in ROUTES.iter().filter(|(_, _, signed)| *signed != No) {
        let target = path.replace("ID", ABSENT);
        let unsigned = node.send(node.plain(method(name), &target, "")).await;
        assert_eq!(
            unsigned.code(),
            ErrorCode::SignatureMissing,
            "{name} {path}"
        );
        let wrong_key = match signed {
            ByKey => node.by_session(method(name), &target, ""),
            BySession | No => node.by_key(method(name), &target, ""),
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
                let mut bent = request(&node, route, b"");
                bent.headers_mut().insert(
                    header,
                    http::HeaderValue::from_bytes(garbage.as_bytes()).unwrap(),
                );
                let reply = node.send(bent).await;
                never_fails(format!("{name} {path} {header}: {garbage:.20}"), &reply);
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
    for &route in ROUTES
        .iter()
        .filter(|(_, path, signed)| *signed == ByKey && *path != "/v1/account/webhook-test")
    {
        let other = who(&relay, route, &node).await;
        let signed = request(other.as_ref().unwrap_or(&node), route, b"");
        let replay = signed.clone();
        never_fails(route.1, &node.send(signed).await);
        let code = node.send(replay).await.code();
        // Of an account that has left nothing is known, its nonces neither.
        let expected = if other.is_some() {
            ErrorCode::AccountUnknown
        } else {
            ErrorCode::NonceUsed
        };
        assert_eq!(code, expected, "{} {}", route.0, route.1);
    }
    as_ready_as_before(&node).await;
}

/// Bodies as they should be, of the routes that take one.
fn good_bodies(relay: &Relay) -> Vec<(&'static str, &'static str, Value)> {
    let id =
        |byte: u8| serde_json::to_value(sealpost_proto::BlobId::from_bytes([byte; 16])).unwrap();
    let bytes = |count: usize| serde_json::to_value(B64(vec![5; count])).unwrap();
    let expiry = relay.now().as_millis() + 60_000;
    let mailbox = json!({"relay": relay.origin.as_str(), "id": id(1)});
    let envelope = json!({"id": id(2), "mailbox": mailbox, "proof": bytes(16), "expires_at": expiry, "bytes": bytes(2_048)});
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
            json!({"id": id(4), "size_bytes": 500, "fetch_token_hash": bytes(32), "expires_at": expiry}),
        ),
        ("PATCH", "/v1/blobs/ID", json!({"expires_at": expiry})),
        (
            "POST",
            "/v1/blobs/ID/complete",
            json!({"digest": bytes(32)}),
        ),
    ]
}

/// Every value of a document, replaced by what does not belong there, or left out.
pub(crate) fn bent(document: &Value) -> Vec<String> {
    let mut paths = vec![String::new()];
    collect(document, "", &mut paths);
    let strange = [
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
        for text in strange
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

/// The text with single bytes changed, left out and doubled, all over it.
fn damaged(text: &[u8]) -> Vec<Vec<u8>> {
    let places = (0..text.len()).step_by(text.len().div_ceil(100));
    let at = |place: usize| {
        let (before, after) = (&text[..place], &text[place + 1..]);
        let flips =
            [0x01, 0x08, 0x20, 0x80].map(|bit| [before, &[text[place] ^ bit], after].concat());
        flips.into_iter().chain([
            [before, after].concat(),
            [before, &text[place..=place], &text[place..]].concat(),
        ])
    };
    places.flat_map(at).collect()
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
async fn no_body_makes_the_relay_fail() {
    let relay = relay().await;
    let node = relay.node().await;
    for (name, path, good) in good_bodies(&relay) {
        let signed = ROUTES
            .iter()
            .find(|route| (route.0, route.1) == (name, path))
            .unwrap()
            .2;
        let route = (name, path, signed);
        let text = good.to_string();
        let mut bodies: Vec<Vec<u8>> = bent(&good).into_iter().map(String::into_bytes).collect();
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
        bodies.extend(damaged(text.as_bytes()));
        for body in bodies {
            let reply = node.send(request(&node, route, &body)).await;
            never_fails(
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
            let mut bent = request(&node, route, text.as_bytes());
            bent.headers_mut().insert(
                "content-type",
                http::HeaderValue::from_bytes(content_type.as_bytes()).unwrap(),
            );
            bent.headers_mut()
                .insert("if-match", "\"none\"".parse().unwrap());
            assert_eq!(
                node.send(bent).await.code(),
                ErrorCode::UnsupportedMediaType,
                "{name} {path} {content_type}"
            );
        }
    }
    as_ready_as_before(&node).await;
}

#[tokio::test]
async fn a_body_over_its_limit_is_refused_before_it_is_read() {
    let relay = relay().await;
    let node = relay.node().await;
    for &(name, path, signed) in ROUTES.iter().filter(|(_, _, signed)| *signed != No) {
        let limit = match (name, path) {
            ("POST", "/v1/envelopes") => 4 * 1024 * 1024,
            ("PUT", "/v1/blobs/ID/parts/0") => 2_097_712,
            _ => 64 * 1024,
        };
        let target = path.replace("ID", ABSENT);
        // Announced, and never sent.
        let head = format!(
            "{name} {target} HTTP/1.1\r\nhost: {}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
            relay.origin.authority(),
            limit + 1
        );
        let answer = raw(&relay, head.as_bytes()).await;
        assert!(
            answer.starts_with("HTTP/1.1 413"),
            "{name} {path} {signed:?}: {answer}"
        );
    }
    as_ready_as_before(&node).await;
}

/// Sends bytes and reads what comes until the end or for a while.
async fn raw(relay: &Relay, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(relay.origin.authority()).await.unwrap();
    // The relay may hang up before it has everything.
    let _ = stream.write_all(bytes).await;
    let mut answer = vec![0; 4_096];
    let read = tokio::time::timeout(crate::support::DEADLINE, stream.read(&mut answer))
        .await
        .expect("an answer or an end");
    String::from_utf8_lossy(&answer[..read.unwrap_or_default()]).into_owned()
}

#[tokio::test]
async fn what_is_not_proper_http_is_turned_away() {
    let relay = relay().await;
    let node = relay.node().await;
    let long = "x".repeat(100_000);
    let many: String = (0..2_000)
        .map(|number| format!("x-{number}: y\r\n"))
        .collect();
    for (what, bytes) in [
        ("a huge header", format!("GET /healthz HTTP/1.1\r\nhost: a\r\nx: {long}\r\n\r\n")),
        ("many headers", format!("GET /healthz HTTP/1.1\r\nhost: a\r\n{many}\r\n")),
        ("a huge path", format!("GET /{long} HTTP/1.1\r\nhost: a\r\n\r\n")),
        ("a huge query", format!("GET /v1/mailboxes?after={long} HTTP/1.1\r\nhost: a\r\n\r\n")),
        ("a huge method", format!("{long} / HTTP/1.1\r\nhost: a\r\n\r\n")),
        ("no version", "GET /healthz\r\n\r\n".to_owned()),
        ("another protocol", "EHLO mail.example\r\n\r\n".to_owned()),
        (
            "two lengths",
            "POST /v1/blobs HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nxx".to_owned(),
        ),
        ("a length below zero", "POST /v1/blobs HTTP/1.1\r\nhost: a\r\ncontent-length: -1\r\n\r\n".to_owned()),
        (
            "length and chunks",
            "POST /v1/blobs HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\nz\r\n"
                .to_owned(),
        ),
        (
            "a chunk without end",
            "POST /v1/blobs HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\nffffffffffffffff\r\nx".to_owned(),
        ),
        ("a header without name", "GET /healthz HTTP/1.1\r\nhost: a\r\n: x\r\n\r\n".to_owned()),
        ("zero bytes", "\0".repeat(100)),
    ] {
        let answer = raw(&relay, bytes.as_bytes()).await;
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{what}: {answer:.200}");
    }
    as_ready_as_before(&node).await;
}

#[tokio::test]
async fn paths_and_queries_that_do_not_parse_are_refused() {
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
            // A client resolves dots before it signs.
            let Ok(target) = url::Url::parse(&format!("http://a{}", path.replace("ID", id))) else {
                continue;
            };
            let target = target.path();
            let bent = if signed == ByKey {
                node.by_key(method(name), target, "{}")
            } else {
                node.by_session(method(name), target, "{}")
            };
            let reply = node.send(bent).await;
            never_fails(format!("{name} {target}"), &reply);
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
    as_ready_as_before(&node).await;
}

#[tokio::test]
async fn another_accounts_ids_look_like_absent_ones() {
    let relay = relay().await;
    let (acme, bolt) = (relay.node().await, relay.node().await);
    let mailbox = bolt.open_mailbox().await;
    let envelope = acme.post_to(&mailbox, 1).await;
    let blob = sealpost_proto::BlobId::from_bytes(random_array());
    let create = json!({"id": blob, "size_bytes": 500, "fetch_token_hash": B64(vec![5; 32]), "expires_at": relay.now().as_millis() + 60_000});
    assert_eq!(
        bolt.post("/v1/blobs", &create).await.status,
        StatusCode::CREATED
    );
    let extend = json!({"expires_at": relay.now().as_millis() + 120_000}).to_string();
    let complete = json!({"digest": B64(vec![5; 32])}).to_string();
    let (prekeys, part) = (
        json!({"sealed": B64(vec![5; 2_048])}).to_string(),
        "x".repeat(500),
    );
    let (mailbox, envelope, blob) = (
        mailbox.id.to_string(),
        envelope.to_string(),
        blob.to_string(),
    );
    // Acme's envelope is asked for by Bolt, all else of Bolt's by Acme.
    for (stranger, name, path, signed, id, body) in [
        (&bolt, "GET", "/v1/envelopes/ID", BySession, &envelope, ""),
        (
            &bolt,
            "DELETE",
            "/v1/envelopes/ID",
            BySession,
            &envelope,
            "",
        ),
        (&acme, "GET", "/v1/blobs/ID", BySession, &blob, ""),
        (
            &acme,
            "PATCH",
            "/v1/blobs/ID",
            BySession,
            &blob,
            extend.as_str(),
        ),
        (&acme, "DELETE", "/v1/blobs/ID", BySession, &blob, ""),
        (
            &acme,
            "POST",
            "/v1/blobs/ID/complete",
            BySession,
            &blob,
            complete.as_str(),
        ),
        (
            &acme,
            "PUT",
            "/v1/blobs/ID/parts/0",
            BySession,
            &blob,
            part.as_str(),
        ),
        (&acme, "GET", "/v1/blobs/ID/parts/0", BySession, &blob, ""),
        (
            &acme,
            "PUT",
            "/v1/mailboxes/ID/prekeys",
            ByKey,
            &mailbox,
            prekeys.as_str(),
        ),
        (&acme, "DELETE", "/v1/mailboxes/ID", ByKey, &mailbox, ""),
    ] {
        let ask = async |id: &str| {
            let target = path.replace("ID", id);
            let signed = if signed == ByKey {
                stranger.by_key(method(name), &target, body.to_owned())
            } else {
                stranger.by_session(method(name), &target, body.to_owned())
            };
            stranger.send(signed).await
        };
        let (theirs, absent) = (ask(id).await, ask(ABSENT).await);
        assert_eq!(
            (theirs.status, &theirs.body),
            (absent.status, &absent.body),
            "{name} {path}"
        );
        assert!(
            matches!(
                theirs.status,
                StatusCode::NOT_FOUND | StatusCode::NO_CONTENT
            ),
            "{name} {path}: {theirs:?}"
        );
    }
    assert_eq!(
        bolt.take_all(0).await.deliveries.len(),
        1,
        "and nothing came of it"
    );
    assert_eq!(
        bolt.get(&format!("/v1/blobs/{blob}")).await.status,
        StatusCode::OK
    );
    assert_eq!(
        bolt.get("/v1/mailboxes").await.ok::<Value>()["mailboxes"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
}

#[tokio::test]
async fn a_session_that_is_made_up_is_none() {
    let relay = relay().await;
    let node = relay.node().await;
    let (id, key) = node.session.clone().unwrap();
    let body = ContentDigest::of(b"");
    let parts = sealpost_signatures::RequestParts {
        method: "GET",
        authority: relay.origin.authority(),
        path: "/v1/account",
        query: None,
    };
    let raw = sealpost_proto::b64::parse(&id).unwrap();
    for byte in 0..raw.len() {
        let mut changed = raw.clone();
        changed[byte] ^= 1;
        let id = sealpost_proto::b64::encode(&changed);
        let headers = request::sign_hmac(&id, &key, &parts, &body, relay.now());
        let mut request = node.plain(Method::GET, "/v1/account", "");
        for (name, value) in headers.pairs() {
            request.headers_mut().insert(name, value.parse().unwrap());
        }
        let reply = node.send(request).await;
        assert_eq!(
            reply.status,
            StatusCode::UNAUTHORIZED,
            "byte {byte}: {reply:?}"
        );
    }
    as_ready_as_before(&node).await;
}
