//! What stands in the path and the query of a request of the operator's.

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

/// The query.
pub(super) struct Params<T>(pub(super) T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Params<T> {
    type Rejection = ProblemResponse;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ProblemResponse> {
        let query = Query::try_from_uri(&parts.uri);
        query
            .map(|Query(value)| Self(value))
            .map_err(|error| malformed(error.body_text()))
    }
}

/// The one id or name in a path.
pub(super) struct Named<T>(pub(super) T);

impl<T: FromStr, S: Send + Sync> FromRequestParts<S> for Named<T>
where
    T::Err: std::fmt::Display,
{
    type Rejection = ProblemResponse;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ProblemResponse> {
        let Ok(Path(text)) = parts.extract::<Path<String>>().await else {
            return Err(malformed("the path does not parse"));
        };
        text.parse()
            .map(Self)
            .map_err(|error: T::Err| malformed(error.to_string()))
    }
}

impl<T: ToSchema> IntoParams for Named<T> {
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

/// How many items a page holds, as asked within the limits.
pub(super) fn page_items(limit: Option<u32>) -> usize {
    limit.unwrap_or(PAGE_ITEMS_DEFAULT).clamp(1, PAGE_ITEMS_MAX) as usize
}

/// The beginning of an account's id: what people type in place of the whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Prefix {
    /// The first id that begins so.
    pub(super) first: AccountId,
    /// The last one.
    pub(super) last: AccountId,
}

impl Prefix {
    /// Every id.
    pub(super) const ANY: Self = Self {
        first: AccountId::from_bytes([0; 16]),
        last: AccountId::from_bytes([0xff; 16]),
    };
}

/// A text with which no id begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no id of an account begins like this")]
pub(super) struct NotAPrefix;

impl FromStr for Prefix {
    type Err = NotAPrefix;

    /// The order of ids is the order of their characters in the alphabet of base64url: `A` is the lowest, `_` the highest.
    fn from_str(text: &str) -> Result<Self, NotAPrefix> {
        const ID_CHARS: usize = 22;
        const CHARS_OF_18_BYTES: usize = 24;
        if text.len() > ID_CHARS {
            return Err(NotAPrefix);
        }
        let filled = |fill: &str| {
            let text = format!("{text}{}", fill.repeat(CHARS_OF_18_BYTES - text.len()));
            let bytes = b64::parse_array::<18>(&text).map_err(|_| NotAPrefix)?;
            AccountId::try_from(&bytes[..16]).map_err(|_| NotAPrefix)
        };
        Ok(Self {
            first: filled("A")?,
            last: filled("_")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_spans_the_ids_that_begin_with_it() {
        let prefix: Prefix = "Bw".parse().unwrap();
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
            Ok(Prefix {
                first: id,
                last: id
            })
        );
        assert_eq!("".parse(), Ok(Prefix::ANY));
        for none in ["+", "é", "a b", "BwcHBwcHBwcHBwcHBwcHBwc"] {
            assert_eq!(none.parse::<Prefix>(), Err(NotAPrefix), "{none}");
        }
    }
}
