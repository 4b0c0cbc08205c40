//! OpenAPI documents made from the code: what the APIs of the relay share. A document is put together from the routes that
//! are served, when it is first asked for; nothing of it is written down twice.
//!
//! To describe an operation: 1. annotate its handler with `#[utoipa::path(…)]`, whose summary is the handler's doc comment;
//! 2. say with [`problems!`] which codes it answers, and put that name at the end of its `responses`;
//! 3. add it to an `OpenApiRouter` with `routes!`. `relay/tests/api` fails when an answer is not described.

use axum::response::{IntoResponse as _, Response as Answer};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use sealpost_proto::{ErrorCode, Problem, Timestamp, b64, limits::BUSY_RETRY, time::millis};
use sealpost_service::http::{JSON_TYPE, PROBLEM_TYPE};
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use utoipa::{
    PartialSchema as _, ToSchema,
    openapi::{
        AllOfBuilder, Components, ContentBuilder, HeaderBuilder, ObjectBuilder, OpenApi, Ref,
        RefOr, Response, ResponseBuilder,
        example::{Example, ExampleBuilder},
        path::{Operation, PathItem},
        schema::Type,
    },
};

/// Names all problems that an operation answers: first sets of codes that it shares with others, then its own.
///
/// `problems!(Recall: SESSION, WRITES; NotFound, ProofInvalid, TooLate);`
macro_rules! problems {
    ($name:ident: $($set:expr),+ $(; $($code:ident),+)?) => {
        /// The problems that an operation answers.
        enum $name {}

        impl utoipa::IntoResponses for $name {
            fn responses()
            -> std::collections::BTreeMap<String, utoipa::openapi::RefOr<utoipa::openapi::Response>> {
                $crate::openapi::problem_responses(&[$($set,)+ &[$($(sealpost_proto::ErrorCode::$code),+)?]])
            }
        }
    };
}
pub(crate) use problems;

/// An answer for each status of these codes: a problem document with one of them. It is only named here, as each stands in
/// the document once: put into every operation, all of them together are several MiB.
pub(crate) fn problem_responses(sets: &[&[ErrorCode]]) -> BTreeMap<String, RefOr<Response>> {
    let mut by_status = BTreeMap::<u16, Vec<ErrorCode>>::new();
    for &code in sets.iter().copied().flatten() {
        let codes = by_status.entry(code.status()).or_default();
        if !codes.contains(&code) {
            codes.push(code);
        }
    }
    let named = |(status, mut codes): (u16, Vec<_>)| {
        codes.sort_unstable_by_key(|code: &ErrorCode| code.as_str());
        (
            status.to_string(),
            Ref::from_response_name(names(&codes).join(BETWEEN_CODES)).into(),
        )
    };
    by_status.into_iter().map(named).collect()
}

/// What stands between the codes in the name of a problem.
const BETWEEN_CODES: &str = ".";

/// The name of an answer that stands elsewhere in the document.
pub(crate) fn name_of(described: &RefOr<Response>) -> Option<&str> {
    let RefOr::Ref(Ref { ref_location, .. }) = described else {
        return None;
    };
    ref_location.strip_prefix("#/components/responses/")
}

/// A problem that an operation names, if this is one.
fn named_problem(described: &RefOr<Response>) -> Option<(String, RefOr<Response>)> {
    let name = name_of(described)?;
    let code = |name| {
        ErrorCode::ALL
            .iter()
            .copied()
            .find(|code| code.as_str() == name)
    };
    let codes = name
        .split(BETWEEN_CODES)
        .map(code)
        .collect::<Option<Vec<_>>>()?;
    Some((name.to_owned(), problem(&codes).into()))
}

/// A problem document with one of these codes, which have one status.
fn problem(codes: &[ErrorCode]) -> Response {
    let words: Vec<_> = codes
        .iter()
        .map(|code| format!("`{code}`: {}", code.title()))
        .collect();
    let narrowed = ObjectBuilder::new()
        .property(
            "code",
            ObjectBuilder::new()
                .schema_type(Type::String)
                .enum_values(Some(names(codes))),
        )
        .property(
            "status",
            ObjectBuilder::new()
                .schema_type(Type::Integer)
                .enum_values(Some(statuses(codes))),
        );
    let schema = AllOfBuilder::new()
        .item(Ref::from_schema_name(Problem::name()))
        .item(narrowed);
    let examples = codes.iter().map(|code| {
        (
            code.as_str(),
            Ref::new(format!("#/components/examples/{code}")),
        )
    });
    let content = examples.fold(
        ContentBuilder::new().schema(Some(schema)),
        |content, (name, example)| content.examples_from_iter([(name, RefOr::Ref(example))]),
    );
    let response = ResponseBuilder::new()
        .description(words.join("; "))
        .content(PROBLEM_TYPE, content.build());
    if codes.iter().any(|code| code.is_retryable()) {
        let seconds = ObjectBuilder::new()
            .schema_type(Type::Integer)
            .minimum(Some(0));
        let retry_after = HeaderBuilder::new()
            .schema(Some(seconds))
            .description(Some("Seconds until another try makes sense"));
        return response.header("Retry-After", retry_after.build()).build();
    }
    response.build()
}

fn names(codes: &[ErrorCode]) -> Vec<&'static str> {
    codes.iter().map(|code| code.as_str()).collect()
}

fn statuses(codes: &[ErrorCode]) -> Vec<u16> {
    codes
        .first()
        .map(|code| code.status())
        .into_iter()
        .collect()
}

/// An OpenAPI document as it is served.
pub(crate) struct Document {
    json: Bytes,
    tag: Option<HeaderValue>,
}

impl Document {
    /// What the routes say, with the problems that they name; `finish` may add to that.
    pub(crate) fn of(mut openapi: OpenApi, finish: impl FnOnce(&mut OpenApi)) -> Self {
        let components = openapi.components.get_or_insert_with(Components::new);
        let mut schemas = vec![(Problem::name().into_owned(), Problem::schema())];
        Problem::schemas(&mut schemas);
        components.schemas.extend(schemas);
        let described = openapi
            .paths
            .paths
            .values_mut()
            .flat_map(operations)
            .flat_map(|of| of.responses.responses.values());
        components
            .responses
            .extend(described.filter_map(named_problem));
        components.examples.extend(
            ErrorCode::ALL
                .iter()
                .map(|&code| (code.to_string(), example(code))),
        );
        finish(&mut openapi);
        let json = Bytes::from(serde_json::to_vec(&openapi).unwrap_or_default());
        let tag =
            HeaderValue::from_str(&format!("\"{}\"", b64::encode(&Sha256::digest(&json)))).ok();
        Self { json, tag }
    }

    /// The document, or 304 for who has it.
    pub(crate) fn answer(&self, asked: &HeaderMap) -> Answer {
        let known = self.tag.is_some() && asked.get(header::IF_NONE_MATCH) == self.tag.as_ref();
        let mut answer = if known {
            StatusCode::NOT_MODIFIED.into_response()
        } else {
            self.json.clone().into_response()
        };
        let headers = answer.headers_mut();
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        headers.extend(self.tag.clone().map(|tag| (header::ETAG, tag)));
        match known {
            true => headers.remove(header::CONTENT_TYPE),
            false => headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(JSON_TYPE)),
        };
        answer
    }
}

/// The operations of a path.
pub(crate) fn operations(path: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    let PathItem {
        get,
        put,
        post,
        delete,
        patch,
        ..
    } = path;
    [get, put, post, delete, patch].into_iter().flatten()
}

fn example(code: ErrorCode) -> RefOr<Example> {
    let mut problem = Problem::from(code);
    if code.is_retryable() {
        problem = problem.retry_after_ms(millis(BUSY_RETRY));
    }
    if code == ErrorCode::ClockSkew {
        problem = problem.relay_time(Timestamp::from_millis(1_766_000_400_123));
    }
    let value = serde_json::to_value(&problem).unwrap_or_default();
    ExampleBuilder::new()
        .summary(code.title())
        .value(Some(value))
        .build()
        .into()
}
