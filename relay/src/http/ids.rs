//! Path and query parameters.

use super::problem;
use axum::{
    RequestPartsExt as _,
    extract::{FromRequestParts, Path},
};
use http::{Uri, request::Parts};
use sealpost_proto::ErrorCode;
use sealpost_service::http::ProblemResponse;
use std::str::FromStr;
use utoipa::{
    IntoParams, PartialSchema as _, ToSchema,
    openapi::{
        RefOr, Required, Schema,
        path::{Parameter, ParameterBuilder, ParameterIn},
    },
};

/// Id in a path with a single parameter.
pub(super) struct Id<T>(pub(super) T);

impl<T: FromStr, S: Send + Sync> FromRequestParts<S> for Id<T> {
    type Rejection = ProblemResponse;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ProblemResponse> {
        let id = parts
            .extract::<Path<String>>()
            .await
            .ok()
            .and_then(|Path(text)| text.parse().ok());
        id.map(Self).ok_or_else(|| {
            problem(
                ErrorCode::Malformed,
                "the id in the path is not 22 characters of base64url",
            )
        })
    }
}

impl<T: ToSchema> IntoParams for Id<T> {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        vec![path_parameter("id", T::schema())]
    }
}

/// Blob id and part number in a path.
pub(super) struct PartId<T>(pub(super) T, pub(super) u32);

impl<T: FromStr, S: Send + Sync> FromRequestParts<S> for PartId<T> {
    type Rejection = ProblemResponse;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ProblemResponse> {
        let path = parts.extract::<Path<(String, String)>>().await.ok();
        let found =
            path.and_then(|Path((id, number))| Some(Self(id.parse().ok()?, number.parse().ok()?)));
        found.ok_or_else(|| {
            problem(
                ErrorCode::Malformed,
                "the path does not contain a valid blob id and part number",
            )
        })
    }
}

impl<T: ToSchema> IntoParams for PartId<T> {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        vec![
            path_parameter("id", T::schema()),
            path_parameter("number", u32::schema()),
        ]
    }
}

fn path_parameter(name: &str, schema: RefOr<Schema>) -> Parameter {
    let parameter = ParameterBuilder::new()
        .name(name)
        .parameter_in(ParameterIn::Path)
        .required(Required::True);
    parameter.schema(Some(schema)).build()
}

/// Parses a query parameter, if it is present.
pub(super) fn parse_query<T: FromStr>(uri: &Uri, name: &str) -> Result<Option<T>, ProblemResponse> {
    let pairs = uri
        .query()
        .unwrap_or_default()
        .split('&')
        .filter_map(|pair| pair.split_once('='));
    match pairs.into_iter().find(|(found, _)| *found == name) {
        None => Ok(None),
        Some((_, value)) => match value.parse() {
            Ok(value) => Ok(Some(value)),
            Err(_) => Err(problem(
                ErrorCode::Malformed,
                format!("the query parameter {name} is invalid"),
            )),
        },
    }
}
