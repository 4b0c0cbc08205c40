//! What the operator's API may not fail at: every operation of its document with ids, queries and bodies that are wrong.
//! Never a 5xx, and no answer that the document does not describe.

use crate::{admin::Operator, bad_input::bent, described, support::Relay};
use bytes::Bytes;
use http::Method;
use http_body_util::Full;
use serde_json::{Value, json};

const IDS: &[&str] = &[
    "AAAAAAAAAAAAAAAAAAAAAA",
    "AAAAAAAAAAAAAAAAAAAAAB",
    "x",
    "%00",
    "%ff",
    "..%2f",
    "'%20OR%201=1",
    "\u{fffd}",
];

const QUERIES: &[&str] = &[
    "",
    "?limit=0",
    "?limit=-1",
    "?limit=99999999999999999999",
    "?after=x&after=y",
    "?%00=%ff",
    "?mailbox=x",
    "?confirm",
];

/// Every operation: method, path with something in the place of its parameters.
fn operations(document: &Value) -> Vec<(Method, String)> {
    let mut all = Vec::new();
    for (template, methods) in document["paths"].as_object().unwrap() {
        for method in methods.as_object().unwrap().keys() {
            all.push((
                method.to_uppercase().parse().unwrap(),
                template.replace("{name}", "{id}"),
            ));
        }
    }
    all
}

async fn ask(
    operator: &Operator,
    document: &Value,
    method: &Method,
    target: &str,
    body: &[u8],
    kind: Option<&str>,
) {
    let Ok(uri) = format!("http://{}{target}", operator.address).parse::<http::Uri>() else {
        return;
    };
    let mut request = operator.request(method.clone(), "/", &Value::Null);
    *request.uri_mut() = uri.clone();
    *request.body_mut() = Full::new(Bytes::copy_from_slice(body));
    match kind {
        Some(kind) => request
            .headers_mut()
            .insert("content-type", kind.parse().unwrap()),
        None => request.headers_mut().remove("content-type"),
    };
    let reply = operator.send(request).await;
    assert!(
        reply.status.as_u16() < 500,
        "{method} {target} {:.80}: {reply:?}",
        String::from_utf8_lossy(body)
    );
    described::check(document, method, uri.path(), &reply);
}

#[tokio::test]
async fn nothing_that_an_operator_asks_makes_the_relay_fail() {
    let relay = Relay::start().await;
    let node = relay.node().await;
    let operator = Operator::of(&relay);
    let document = operator.document().await;
    let good = json!({"name": "a", "uses": 3, "expires_at": 5, "mailboxes": 1, "queue_bytes": 2, "rates": {"requests_per_second": 1}});
    let mut bodies: Vec<Vec<u8>> = bent(&good).into_iter().map(String::into_bytes).collect();
    bodies.extend(
        ["", "null", "[]", "{", "{\"a\":1,\"a\":2}", "\u{0}"].map(|text| text.as_bytes().to_vec()),
    );
    bodies.extend([
        vec![0xff; 1_000],
        "[".repeat(50_000).into_bytes(),
        vec![b'x'; 200_000],
    ]);
    let all = operations(&document);
    assert!(all.len() > 15);
    for (method, path) in &all {
        for id in IDS {
            for query in QUERIES {
                let target = format!("{}{query}", path.replace("{id}", id));
                ask(
                    &operator,
                    &document,
                    method,
                    &target,
                    b"{}",
                    Some("application/json"),
                )
                .await;
            }
        }
        for body in &bodies {
            ask(
                &operator,
                &document,
                method,
                &path.replace("{id}", IDS[0]),
                body,
                Some("application/json"),
            )
            .await;
        }
        for kind in [None, Some("text/plain"), Some("application/jsonp")] {
            ask(
                &operator,
                &document,
                method,
                &path.replace("{id}", IDS[0]),
                b"{}",
                kind,
            )
            .await;
        }
    }
    node.get("/v1/account").await.ok::<Value>();
}
