//! Whether an answer is one that `/openapi.json` describes: every answer that any test here gets is asked that. And whether
//! the document is whole.

use crate::support::{Node, Relay, Reply};
use http::{Method, StatusCode, header};
use sealpost_proto::{ErrorCode, Problem};
use serde_json::Value;
use std::collections::BTreeSet;

/// Fails the test when the document does not know the answer: its route, its status, its content type, and of a problem
/// its code and the time of another try.
pub(crate) fn check(document: &Value, method: &Method, path: &str, reply: &Reply) {
    let asked =
        format!("{method} {path} was answered {reply:?}, which /openapi.json does not describe");
    // What does not exist yet is not described.
    if path.starts_with("/v1/at/") {
        return;
    }
    let Some(route) = route(document, path) else {
        assert_eq!(reply.code(), ErrorCode::NotFound, "{asked}");
        return;
    };
    let Some(operation) = route.get(method.as_str().to_lowercase()) else {
        assert_eq!(reply.code(), ErrorCode::MethodNotAllowed, "{asked}");
        return;
    };
    let answer = &operation["responses"][reply.status.as_str()];
    let shared = answer["$ref"]
        .as_str()
        .and_then(|name| document.pointer(name.strip_prefix('#')?));
    let answer = shared.unwrap_or(answer);
    assert!(
        answer.is_object(),
        "{asked}: say so with problems!, or among its responses"
    );
    let kind = reply
        .headers
        .get(header::CONTENT_TYPE)
        .map(|kind| kind.to_str().unwrap().split(';').next().unwrap());
    for name in ["RateLimit", "RateLimit-Policy"] {
        let is_said = answer["headers"].get(name).is_some();
        assert!(
            is_said || !reply.headers.contains_key(name),
            "{asked}: {name}"
        );
    }
    let content = answer["content"].as_object();
    match content {
        None => assert!(reply.body.is_empty(), "{asked}"),
        Some(content) => assert!(
            kind.is_some_and(|kind| content.contains_key(kind)),
            "{asked}"
        ),
    }
    if let Some(content) = content.and_then(|content| content.get("application/problem+json")) {
        check_problem(content, reply, &asked);
    }
}

fn check_problem(content: &Value, reply: &Reply, asked: &str) {
    let problem: Problem = reply.json();
    let codes = content
        .pointer("/schema/allOf/1/properties/code/enum")
        .unwrap()
        .as_array()
        .unwrap();
    assert!(
        codes.contains(&problem.code.as_str().into()),
        "{asked}: say so with problems!"
    );
    assert_eq!(problem.status, reply.status.as_u16(), "{asked}");
    let passes = matches!(
        reply.status,
        StatusCode::TOO_MANY_REQUESTS
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::INSUFFICIENT_STORAGE
    );
    let times = (
        problem.retry_after_ms.is_some(),
        reply.headers.contains_key(header::RETRY_AFTER),
    );
    assert_eq!(times, (passes, passes), "{asked}: when to come again");
}

/// The path of the document that this one is; one without parameters comes first.
fn route<'a>(document: &'a Value, path: &str) -> Option<&'a Value> {
    let paths = document["paths"].as_object().unwrap();
    let exactly = paths.get(path);
    exactly.or_else(|| {
        paths
            .iter()
            .find(|(template, _)| is_of(template, path))
            .map(|(_, route)| route)
    })
}

fn is_of(template: &str, path: &str) -> bool {
    let (template, path): (Vec<_>, Vec<_>) =
        (template.split('/').collect(), path.split('/').collect());
    let fits = |(place, given): (&&str, &&str)| {
        place == given || (place.starts_with('{') && !given.is_empty())
    };
    template.len() == path.len() && template.iter().zip(&path).all(fits)
}

async fn document() -> (Relay, Value) {
    let relay = Relay::start().await;
    let node = Node::new(&relay);
    let document = node
        .send(node.plain(Method::GET, "/openapi.json", ""))
        .await
        .ok();
    (relay, document)
}

/// Every member of a document that has this name, wherever it stands.
fn all<'a>(value: &'a Value, name: &str, found: &mut Vec<&'a Value>) {
    match value {
        Value::Object(members) => members.iter().for_each(|(key, member)| {
            if key == name {
                found.push(member);
            }
            all(member, name, found);
        }),
        Value::Array(items) => items.iter().for_each(|item| all(item, name, found)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[tokio::test]
async fn whatever_the_description_refers_to_is_there() {
    let ((_relay, document), mut refs) = (document().await, Vec::new());
    all(&document, "$ref", &mut refs);
    assert!(refs.len() > 100);
    for reference in refs {
        let pointer = reference.as_str().unwrap().strip_prefix('#').unwrap();
        assert!(document.pointer(pointer).is_some(), "{reference}");
    }
}

#[tokio::test]
async fn every_operation_has_a_name_of_its_own_and_says_how_it_is_signed() {
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
async fn every_code_and_every_announced_limit_stands_in_the_description() {
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
        .send(node.plain(Method::GET, "/.well-known/sealpost", ""))
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
