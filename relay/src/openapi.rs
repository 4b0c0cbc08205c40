//! OpenAPI documents, built from the routes of both APIs when they are first requested.
//!
//! To document an operation:
//!
//! 1. Annotate its handler with `#[utoipa::path(…)]`. The summary is the first line of the doc
//!    comment.
//! 2. Declare its error codes with [`problems!`] and add that name at the end of its `responses`.
//! 3. Add it to an `OpenApiRouter` with `routes!`.
//!
//! The tests in `relay/tests/api` fail if the relay returns a response that is not documented.

use axum::response::IntoResponse as _;
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

/// Declares the problems that an operation can return: first shared sets of codes, then its own
/// codes.
///
/// `problems!(RecallProblems: SESSION, WRITES; NotFound, ProofInvalid, TooLate);`
macro_rules! problems {
    ($name:ident: $($set:expr),+ $(; $($code:ident),+)?) => {
        /// Problems that an operation can return.
        enum $name {}

        impl utoipa::IntoResponses for $name {
            fn responses()
            -> std::collections::BTreeMap<
                String,
                utoipa::openapi::RefOr<utoipa::openapi::Response>,
            > {
                $crate::openapi::problem_responses(&[$($set,)+ &[
                    $($(sealpost_proto::ErrorCode::$code),+)?
                ]])
            }
        }
    };
}
pub(crate) use problems;

/// Returns a response for each status of these codes.
///
/// Operations only refer to the responses by name. Inlined into every operation, they would add
/// several MiB to the document.
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
            Ref::from_response_name(names(&codes).join(CODE_SEPARATOR)).into(),
        )
    };
    by_status.into_iter().map(named).collect()
}

/// Separator of the codes in the name of a shared response.
const CODE_SEPARATOR: &str = ".";

/// Returns the name of a shared response, if the operation refers to one.
pub(crate) fn response_name(described: &RefOr<Response>) -> Option<&str> {
    let RefOr::Ref(Ref { ref_location, .. }) = described else {
        return None;
    };
    ref_location.strip_prefix("#/components/responses/")
}

/// Builds the shared problem response that an operation refers to, if it does.
fn build_named_problem(described: &RefOr<Response>) -> Option<(String, RefOr<Response>)> {
    let name = response_name(described)?;
    let code = |name| {
        ErrorCode::ALL
            .iter()
            .copied()
            .find(|code| code.as_str() == name)
    };
    let codes = name
        .split(CODE_SEPARATOR)
        .map(code)
        .collect::<Option<Vec<_>>>()?;
    Some((name.to_owned(), build_problem(&codes).into()))
}

/// Builds the response for codes with the same status: a problem document with one of them.
fn build_problem(codes: &[ErrorCode]) -> Response {
    let descriptions: Vec<_> = codes
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
        .description(descriptions.join("; "))
        .content(PROBLEM_TYPE, content.build());
    if codes.iter().any(|code| code.is_retryable()) {
        let seconds = ObjectBuilder::new()
            .schema_type(Type::Integer)
            .minimum(Some(0));
        let retry_after = HeaderBuilder::new()
            .schema(Some(seconds))
            .description(Some("Seconds to wait before a retry"));
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

/// Serialized OpenAPI document with its `ETag`.
pub(crate) struct Document {
    json: Bytes,
    tag: Option<HeaderValue>,
}

impl Document {
    /// Completes the document of the routes with the responses that they refer to. `finish` can
    /// change the result.
    pub(crate) fn new(mut openapi: OpenApi, finish: impl FnOnce(&mut OpenApi)) -> Self {
        let components = openapi.components.get_or_insert_with(Components::new);
        let mut schemas = vec![(Problem::name().into_owned(), Problem::schema())];
        Problem::schemas(&mut schemas);
        components.schemas.extend(schemas);
        let described = openapi
            .paths
            .paths
            .values_mut()
            .flat_map(operations)
            .flat_map(|operation| operation.responses.responses.values());
        components
            .responses
            .extend(described.filter_map(build_named_problem));
        components.examples.extend(
            ErrorCode::ALL
                .iter()
                .map(|&code| (code.to_string(), build_example(code))),
        );
        finish(&mut openapi);
        let json = Bytes::from(serde_json::to_vec(&openapi).unwrap_or_default());
        let tag =
            HeaderValue::from_str(&format!("\"{}\"", b64::encode(&Sha256::digest(&json)))).ok();
        Self { json, tag }
    }

    /// Returns the document, or 304 if the request has its current `ETag`.
    pub(crate) fn to_response(&self, request: &HeaderMap) -> axum::response::Response {
        let is_unchanged =
            self.tag.is_some() && request.get(header::IF_NONE_MATCH) == self.tag.as_ref();
        let mut response = if is_unchanged {
            StatusCode::NOT_MODIFIED.into_response()
        } else {
            self.json.clone().into_response()
        };
        let headers = response.headers_mut();
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        headers.extend(self.tag.clone().map(|tag| (header::ETAG, tag)));
        match is_unchanged {
            true => headers.remove(header::CONTENT_TYPE),
            false => headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(JSON_TYPE)),
        };
        response
    }
}

/// Iterates over the operations of a path.
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

fn build_example(code: ErrorCode) -> RefOr<Example> {
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
