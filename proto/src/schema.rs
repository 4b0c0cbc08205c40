//! How the words look in an OpenAPI document (feature `openapi`): bytes, lists and the limits on both, as types that stand
//! in the place of `Vec` in `#[schema(value_type = …)]`. Made for descriptions only; no value has such a type.
//!
//! A wire type derives `ToSchema` under the same feature; its doc comments are the descriptions.

use crate::{
    ids::EnvelopeId,
    limits::{
        CHECKPOINT_BYTES_MAX, ENVELOPE_BYTES_MAX, ENVELOPES_PER_REQUEST_MAX, PART_BYTES_MAX,
        SEALED_PREKEYS_BYTES, SEND_KEYS_MAX, WEBHOOK_URL_BYTES_MAX,
    },
    secret::SendKey,
    wire::SubmittedEnvelope,
};
use std::{borrow::Cow, marker::PhantomData};
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{ArrayBuilder, ObjectBuilder, Ref, RefOr, Schema, schema::Type},
};

/// 16 bytes.
pub type Bytes16 = Bytes<16, 16>;
/// 32 bytes.
pub type Bytes32 = Bytes<32, 32>;
/// A sealed prekey base.
pub type PrekeysBytes = Bytes<SEALED_PREKEYS_BYTES, SEALED_PREKEYS_BYTES>;
/// A sealed checkpoint.
pub type CheckpointBytes = Bytes<1, CHECKPOINT_BYTES_MAX>;
/// An envelope; that its size is one of the few legal ones is not said here.
pub type EnvelopeBytes = Bytes<0, ENVELOPE_BYTES_MAX>;
/// The envelopes of one request.
pub type Submission = BoundedList<SubmittedEnvelope, 1, ENVELOPES_PER_REQUEST_MAX>;
/// The ids of one request.
pub type EnvelopeIds = BoundedList<EnvelopeId, 0, ENVELOPES_PER_REQUEST_MAX>;
/// The keys of one mailbox.
pub type SendKeys = BoundedList<SendKey, 1, SEND_KEYS_MAX>;

/// From `MIN` to `MAX` bytes as base64url without padding.
#[derive(Debug)]
pub struct Bytes<const MIN: usize, const MAX: usize>;

impl<const MIN: usize, const MAX: usize> PartialSchema for Bytes<MIN, MAX> {
    fn schema() -> RefOr<Schema> {
        let size = if MIN == MAX {
            format!("{MIN} bytes")
        } else {
            format!("{MIN} to {MAX} bytes")
        };
        bytes(MIN, MAX)
            .description(Some(format!("{size} as base64url without padding")))
            .into()
    }
}

impl<const MIN: usize, const MAX: usize> ToSchema for Bytes<MIN, MAX> {
    fn name() -> Cow<'static, str> {
        if MIN == MAX {
            format!("Bytes{MIN}")
        } else {
            format!("Bytes{MIN}To{MAX}")
        }
        .into()
    }
}

/// From `MIN` to `MAX` times `T`.
#[derive(Debug)]
pub struct BoundedList<T, const MIN: usize, const MAX: usize>(PhantomData<T>);

impl<T: ToSchema, const MIN: usize, const MAX: usize> PartialSchema for BoundedList<T, MIN, MAX> {
    fn schema() -> RefOr<Schema> {
        ArrayBuilder::new()
            .items(Ref::from_schema_name(T::name()))
            .min_items(Some(MIN))
            .max_items(Some(MAX))
            .description(Some(format!("{MIN} to {MAX} of them")))
            .into()
    }
}

impl<T: ToSchema, const MIN: usize, const MAX: usize> ToSchema for BoundedList<T, MIN, MAX> {
    fn name() -> Cow<'static, str> {
        format!("{}{MIN}To{MAX}", T::name()).into()
    }

    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        schemas.push((T::name().into_owned(), T::schema()));
        T::schemas(schemas);
    }
}

/// The URL of a webhook.
#[derive(Debug)]
pub struct WebhookUrl;

impl PartialSchema for WebhookUrl {
    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new()
            .schema_type(Type::String)
            .max_length(Some(WEBHOOK_URL_BYTES_MAX))
            .description(Some(
                "An absolute URL: https, or http where the relay's operator allows the address",
            ))
            .examples(["https://node.example/sealpost"])
            .into()
    }
}

impl ToSchema for WebhookUrl {}

/// A part of a blob, or a stretch of one: bytes as they are.
#[derive(Debug)]
pub struct PartBytes;

impl PartialSchema for PartBytes {
    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new()
            .schema_type(Type::String)
            .content_media_type("application/octet-stream")
            .description(Some(format!("At most {PART_BYTES_MAX} bytes, as they are")))
            .into()
    }
}

impl ToSchema for PartBytes {}

/// Describes a type that is so many bytes.
macro_rules! schema_of_bytes {
    ($name:ident, $bytes:literal, $($doc:literal),*) => {
        impl utoipa::PartialSchema for $name {
            fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::Schema> {
                $crate::schema::bytes($bytes, $bytes).description(Some(concat!($($doc),*).trim())).into()
            }
        }

        impl utoipa::ToSchema for $name {}
    };
}
pub(crate) use schema_of_bytes;

/// Text that is `min` to `max` bytes, canonical: the unused low bits of the last character are zero.
pub(crate) fn bytes(min: usize, max: usize) -> ObjectBuilder {
    let last = match (min == max, max % 3) {
        (true, 1) => "[AQgw]",
        (true, 2) => "[AEIMQUYcgkosw048]",
        _ => "",
    };
    let free = chars(max) - usize::from(!last.is_empty());
    let counted = if min == max {
        format!("{{{free}}}")
    } else {
        "*".to_owned()
    };
    let example = crate::b64::encode(&vec![0x5a; min.max(16).min(max)]);
    ObjectBuilder::new()
        .schema_type(Type::String)
        .content_encoding("base64url")
        .pattern(Some(format!("^[A-Za-z0-9_-]{counted}{last}$")))
        .min_length(Some(chars(min)))
        .max_length(Some(chars(max)))
        .examples([example])
}

/// Characters of base64url without padding for so many bytes.
const fn chars(bytes: usize) -> usize {
    (bytes * 4).div_ceil(3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exact_sizes_end_canonically() {
        for (bytes, chars_of) in [(16, 22), (32, 43), (48, 64), (SEALED_PREKEYS_BYTES, 2_731)] {
            assert_eq!(
                (chars(bytes), crate::b64::encode(&vec![0xff; bytes]).len()),
                (chars_of, chars_of)
            );
        }
        let pattern = bytes(16, 16).build().pattern;
        assert_eq!(pattern.as_deref(), Some("^[A-Za-z0-9_-]{21}[AQgw]$"));
    }
}
