//! Checks that a response is part of the OpenAPI document. The test clients do this for every
//! response. The tests here check the document itself.

use crate::support::{Node, Relay, Reply};
use http::{Method, StatusCode, header};
use sealpost_proto::{ErrorCode, Problem};
use serde_json::Value;
use std::collections::BTreeSet;

/// Panics unless the document contains the route, status and content type of the response and, for
/// a problem, its code and retry delay.
pub(crate) fn check(document: &Value, method: &Method, path: &str, reply: &Reply) {
    let context = format!("undocumented response of {method} {path}: {reply:?}");
    // Routes to other relays do not exist yet and are not documented.
    if path.starts_with("/v1/at/") {
        return;
    }
    let Some(route) = route(document, path) else {
        assert_eq!(reply.code(), ErrorCode::NotFound, "{context}");
        return;
    };
    let Some(operation) = route.get(method.as_str().to_lowercase()) else {
        assert_eq!(reply.code(), ErrorCode::MethodNotAllowed, "{context}");
        return;
    };
    let response = &operation["responses"][reply.status.as_str()];
    let shared = response["$ref"]
        .as_str()
        .and_then(|name| document.pointer(name.strip_prefix('#')?));
    let response = shared.unwrap_or(response);
    assert!(
        response.is_object(),
        "{context}: add it with problems! or to its responses"
    );
    let kind = reply
        .headers
        .get(header::CONTENT_TYPE)
        .map(|kind| kind.to_str().unwrap().split(';').next().unwrap());
    for name in ["RateLimit", "RateLimit-Policy"] {
        let is_documented = response["headers"].get(name).is_some();
        assert!(
            is_documented || !reply.headers.contains_key(name),
            "{context}: {name}"
        );
    }
    let content = response["content"].as_object();
    match content {
        None => assert!(reply.body.is_empty(), "{context}"),
        Some(content) => assert!(
            kind.is_some_and(|kind| content.contains_key(kind)),
            "{context}"
        ),
    }
    if let Some(content) = content.and_then(|content| content.get("application/problem+json")) {
        check_problem(content, reply, &context);
    }
}

fn check_problem(content: &Value, reply: &Reply, context: &str) {
    let problem: Problem = reply.json();
    let codes = content
        .pointer("/schema/allOf/1/properties/code/enum")
        .unwrap()
        .as_array()
        .unwrap();
    assert!(
        codes.contains(&problem.code.as_str().into()),
        "{context}: add the code with problems!"
    );
    assert_eq!(problem.status, reply.status.as_u16(), "{context}");
    let is_retryable = matches!(
        reply.status,
        StatusCode::TOO_MANY_REQUESTS
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::INSUFFICIENT_STORAGE
    );
    let times = (
        problem.retry_after_ms.is_some(),
        reply.headers.contains_key(header::RETRY_AFTER),
    );
    assert_eq!(
        times,
        (is_retryable, is_retryable),
        "{context}: retry delay"
    );
}

/// Finds the path template of a request; paths without parameters take precedence.
fn route<'a>(document: &'a Value, path: &str) -> Option<&'a Value> {
    let paths = document["paths"].as_object().unwrap();
    let exactly = paths.get(path);
    exactly.or_else(|| {
        paths
            .iter()
            .find(|(template, _)| matches_template(template, path))
            .map(|(_, route)| route)
    })
}

fn matches_template(template: &str, path: &str) -> bool {
    let (template, path): (Vec<_>, Vec<_>) =
        (template.split('/').collect(), path.split('/').collect());
    let fits = |(expected, given): (&&str, &&str)| {
        expected == given || (expected.starts_with('{') && !given.is_empty())
    };
    template.len() == path.len() && template.iter().zip(&path).all(fits)
}

async fn document() -> (Relay, Value) {
    let relay = Relay::start().await;
    let node = Node::new(&relay);
    let document = node
        .send(node.unsigned_request(Method::GET, "/openapi.json", ""))
        .await
        .ok();
    (relay, document)
}

/// Collects all members with this name anywhere in a document.
fn collect_members<'a>(value: &'a Value, name: &str, found: &mut Vec<&'a Value>) {
    match value {
        Value::Object(members) => members.iter().for_each(|(key, member)| {
            if key == name {
                found.push(member);
            }
            collect_members(member, name, found);
        }),
        Value::Array(items) => items
            .iter()
            .for_each(|item| collect_members(item, name, found)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[tokio::test]
async fn all_references_in_the_document_resolve() {
    let ((_relay, document), mut refs) = (document().await, Vec::new());
    collect_members(&document, "$ref", &mut refs);
    assert!(refs.len() > 100);
    for reference in refs {
        let pointer = reference.as_str().unwrap().strip_prefix('#').unwrap();
        assert!(document.pointer(pointer).is_some(), "{reference}");
    }
}

#[tokio::test]
async fn operations_are_complete() {
    let ((_relay, document), mut names) = (document().await, BTreeSet::new());
    let tags: Vec<_> = document["tags"]
        .as_array()
        .unwrap()
        .iter()
        .map(|tag| &tag["name"])
        .collect();
    let routes = document["paths"].as_object().unwrap().values();
    for operation in routes.flat_map(|methods| methods.as_object().unwrap().values()) {
        assert!(
            names.insert(operation["operationId"].as_str().unwrap()),
            "{operation}"
        );
        assert!(
            operation["summary"].is_string() && tags.contains(&&operation["tags"][0]),
            "{operation}"
        );
        let signed = ["session", "account_key"]
            .iter()
            .any(|scheme| operation["security"][0][scheme].is_array());
        assert_eq!(
            signed,
            operation["responses"].get("401").is_some(),
            "{operation}"
        );
    }
    assert!(names.len() > 25);
}

#[tokio::test]
async fn document_lists_codes_with_limits() {
    let (relay, document) = document().await;
    let node = Node::new(&relay);
    let codes = document
        .pointer("/components/schemas/ErrorCode/description")
        .unwrap()
        .as_str()
        .unwrap();
    for code in ErrorCode::ALL {
        assert!(
            codes.contains(&format!("| `{code}` | {} |", code.status())),
            "{code}"
        );
    }
    let known: Value = node
        .send(node.unsigned_request(Method::GET, "/.well-known/sealpost", ""))
        .await
        .ok();
    for (name, value) in known["limits"].as_object().unwrap() {
        let limits = document["info"]["description"].as_str().unwrap();
        assert!(
            limits.contains(&format!("| `{name}` | {value} |")),
            "{name}"
        );
    }
}
