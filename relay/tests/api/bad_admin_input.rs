//! Every operation of the admin API with invalid ids, queries and bodies. The relay never returns a
//! 5xx or a response that the OpenAPI document does not contain.

use crate::{admin::AdminClient, bad_input::corrupted_values, openapi_check, support::Relay};
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

/// Returns the method and path of every operation, with `{id}` for its parameter.
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

async fn send(
    admin: &AdminClient,
    document: &Value,
    method: &Method,
    target: &str,
    body: &[u8],
    content_type: Option<&str>,
) {
    let Ok(uri) = format!("http://{}{target}", admin.address).parse::<http::Uri>() else {
        return;
    };
    let mut request = admin.request(method.clone(), "/", &Value::Null);
    *request.uri_mut() = uri.clone();
    *request.body_mut() = Full::new(Bytes::copy_from_slice(body));
    match content_type {
        Some(content_type) => request
            .headers_mut()
            .insert("content-type", content_type.parse().unwrap()),
        None => request.headers_mut().remove("content-type"),
    };
    let reply = admin.send(request).await;
    assert!(
        reply.status.as_u16() < 500,
        "{method} {target} {:.80}: {reply:?}",
        String::from_utf8_lossy(body)
    );
    openapi_check::check(document, method, uri.path(), &reply);
}

#[tokio::test]
async fn invalid_admin_requests_never_fail_with_5xx() {
    let relay = Relay::start().await;
    let node = relay.node().await;
    let admin = AdminClient::new(&relay);
    let document = admin.document().await;
    let valid = json!({
        "name": "a",
        "uses": 3,
        "expires_at": 5,
        "mailboxes": 1,
        "queue_bytes": 2,
        "rates": {"requests_per_second": 1}
    });
    let mut bodies: Vec<Vec<u8>> = corrupted_values(&valid)
        .into_iter()
        .map(String::into_bytes)
        .collect();
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
                send(
                    &admin,
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
            send(
                &admin,
                &document,
                method,
                &path.replace("{id}", IDS[0]),
                body,
                Some("application/json"),
            )
            .await;
        }
        for content_type in [None, Some("text/plain"), Some("application/jsonp")] {
            send(
                &admin,
                &document,
                method,
                &path.replace("{id}", IDS[0]),
                b"{}",
                content_type,
            )
            .await;
        }
    }
    node.get("/v1/account").await.ok::<Value>();
}
