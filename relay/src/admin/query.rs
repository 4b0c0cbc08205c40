//! Path and query parameters of the admin API.

use axum::{
    RequestPartsExt as _,
    extract::{FromRequestParts, Path, Query},
};
use http::request::Parts;
use sealpost_proto::{
    AccountId, ErrorCode, Problem, b64,
    limits::{PAGE_ITEMS_DEFAULT, PAGE_ITEMS_MAX},
};
use sealpost_service::http::ProblemResponse;
use serde::de::DeserializeOwned;
use std::str::FromStr;
use utoipa::{
    IntoParams, ToSchema,
    openapi::{
        Required,
        path::{Parameter, ParameterBuilder, ParameterIn},
    },
};

/// Query parameters.
pub(super) struct QueryParams<T>(pub(super) T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for QueryParams<T> {
    type Rejection = ProblemResponse;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ProblemResponse> {
        let query = Query::try_from_uri(&parts.uri);
        query
            .map(|Query(value)| Self(value))
            .map_err(|error| malformed(error.body_text()))
    }
}

/// Id or name in a path with a single parameter.
pub(super) struct PathParam<T>(pub(super) T);

impl<T: FromStr, S: Send + Sync> FromRequestParts<S> for PathParam<T>
where
    T::Err: std::fmt::Display,
{
    type Rejection = ProblemResponse;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ProblemResponse> {
        let Ok(Path(text)) = parts.extract::<Path<String>>().await else {
            return Err(malformed("the path is invalid"));
        };
        text.parse()
            .map(Self)
            .map_err(|error: T::Err| malformed(error.to_string()))
    }
}

impl<T: ToSchema> IntoParams for PathParam<T> {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let id = ParameterBuilder::new()
            .name("id")
            .parameter_in(ParameterIn::Path)
            .required(Required::True);
        vec![id.schema(Some(T::schema())).build()]
    }
}

pub(super) fn malformed(detail: impl Into<String>) -> ProblemResponse {
    Problem::new(ErrorCode::Malformed, detail).into()
}

/// Returns the page size for a requested limit, within the allowed range.
pub(super) fn page_size(limit: Option<u32>) -> usize {
    limit.unwrap_or(PAGE_ITEMS_DEFAULT).clamp(1, PAGE_ITEMS_MAX) as usize
}

/// Prefix of an account id, as the range of ids that start with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct IdPrefix {
    pub(super) first: AccountId,
    pub(super) last: AccountId,
}

impl IdPrefix {
    /// The empty prefix, which matches all ids.
    pub(super) const ANY: Self = Self {
        first: AccountId::from_bytes([0; 16]),
        last: AccountId::from_bytes([0xff; 16]),
    };
}

/// The text cannot be the prefix of an account id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a prefix of an account id")]
pub(super) struct ParseIdPrefixError;

impl FromStr for IdPrefix {
    type Err = ParseIdPrefixError;

    /// Fills the prefix up with the lowest and the highest character of the base64url alphabet,
    /// because ids sort in the order of their characters there.
    fn from_str(text: &str) -> Result<Self, ParseIdPrefixError> {
        const ID_CHARS: usize = 22;
        const CHARS_OF_18_BYTES: usize = 24;
        if text.len() > ID_CHARS {
            return Err(ParseIdPrefixError);
        }
        let pad_and_parse = |fill: &str| {
            let text = format!("{text}{}", fill.repeat(CHARS_OF_18_BYTES - text.len()));
            let bytes = b64::parse_array::<18>(&text).map_err(|_| ParseIdPrefixError)?;
            AccountId::try_from(&bytes[..16]).map_err(|_| ParseIdPrefixError)
        };
        Ok(Self {
            first: pad_and_parse("A")?,
            last: pad_and_parse("_")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefix_spans_matching_ids() {
        let prefix: IdPrefix = "Bw".parse().unwrap();
        for id in [
            [7; 16],
            [0x07, 0x00, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        ] {
            let id = AccountId::from_bytes(id);
            assert!(
                (prefix.first..=prefix.last).contains(&id) && id.to_string().starts_with("Bw"),
                "{id}"
            );
        }
        assert!(prefix.last.to_string().starts_with("Bw"));
        let id = AccountId::from_bytes([0xfb; 16]);
        assert_eq!(
            id.to_string().parse(),
            Ok(IdPrefix {
                first: id,
                last: id
            })
        );
        assert_eq!("".parse(), Ok(IdPrefix::ANY));
        for none in ["+", "é", "a b", "BwcHBwcHBwcHBwcHBwcHBwc"] {
            assert_eq!(none.parse::<IdPrefix>(), Err(ParseIdPrefixError), "{none}");
        }
    }
}
