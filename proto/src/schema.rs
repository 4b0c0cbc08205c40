//! OpenAPI schemas of bytes and lists with their limits (feature `openapi`). The types replace
//! `Vec` in `#[schema(value_type = …)]`; no value has such a type.
//!
//! Wire types derive `ToSchema` under the same feature; their doc comments become the descriptions.

use crate::limits::{
    CHECKPOINT_BYTES_MAX, ENVELOPE_BYTES_MAX, PART_BYTES_MAX, SEALED_PREKEYS_BYTES,
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
/// A sealed prekey bundle.
pub type PrekeysBytes = Bytes<SEALED_PREKEYS_BYTES, SEALED_PREKEYS_BYTES>;
/// A sealed checkpoint.
pub type CheckpointBytes = Bytes<1, CHECKPOINT_BYTES_MAX>;
/// An envelope; the schema does not express that only certain sizes are valid.
pub type EnvelopeBytes = Bytes<0, ENVELOPE_BYTES_MAX>;

/// `MIN` to `MAX` bytes as base64url without padding.
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

/// List of `MIN` to `MAX` items of type `T`.
#[derive(Debug)]
pub struct BoundedList<T, const MIN: usize, const MAX: usize>(PhantomData<T>);

impl<T: ToSchema, const MIN: usize, const MAX: usize> PartialSchema for BoundedList<T, MIN, MAX> {
    fn schema() -> RefOr<Schema> {
        ArrayBuilder::new()
            .items(Ref::from_schema_name(T::name()))
            .min_items(Some(MIN))
            .max_items(Some(MAX))
            .description(Some(format!("{MIN} to {MAX} items")))
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

/// Raw bytes of a blob part, or of a range of it.
#[derive(Debug)]
pub struct PartBytes;

impl PartialSchema for PartBytes {
    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new()
            .schema_type(Type::String)
            .content_media_type("application/octet-stream")
            .description(Some(format!("Up to {PART_BYTES_MAX} raw bytes")))
            .into()
    }
}

impl ToSchema for PartBytes {}

/// Implements the schema of a type with a fixed number of bytes.
macro_rules! schema_of_bytes {
    ($name:ident, $bytes:literal, $($doc:literal),*) => {
        impl utoipa::PartialSchema for $name {
            fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::Schema> {
                $crate::schema::bytes($bytes, $bytes)
                    .description(Some(concat!($($doc),*).trim()))
                    .into()
            }
        }

        impl utoipa::ToSchema for $name {}
    };
}
pub(crate) use schema_of_bytes;

/// Schema of `min` to `max` bytes in canonical base64url: the unused low bits of the last character
/// are zero.
pub(crate) fn bytes(min: usize, max: usize) -> ObjectBuilder {
    let last = match (min == max, max % 3) {
        (true, 1) => "[AQgw]",
        (true, 2) => "[AEIMQUYcgkosw048]",
        _ => "",
    };
    let unrestricted = chars(max) - usize::from(!last.is_empty());
    let repetition = if min == max {
        format!("{{{unrestricted}}}")
    } else {
        "*".to_owned()
    };
    let example = crate::b64::encode(&vec![0x5a; min.max(16).min(max)]);
    ObjectBuilder::new()
        .schema_type(Type::String)
        .content_encoding("base64url")
        .pattern(Some(format!("^[A-Za-z0-9_-]{repetition}{last}$")))
        .min_length(Some(chars(min)))
        .max_length(Some(chars(max)))
        .examples([example])
}

/// Number of base64url characters, without padding, for a number of bytes.
const fn chars(bytes: usize) -> usize {
    (bytes * 4).div_ceil(3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exact_sizes_have_canonical_patterns() {
        for (bytes, char_count) in [(16, 22), (32, 43), (48, 64), (SEALED_PREKEYS_BYTES, 2_731)] {
            assert_eq!(
                (chars(bytes), crate::b64::encode(&vec![0xff; bytes]).len()),
                (char_count, char_count)
            );
        }
        let pattern = bytes(16, 16).build().pattern;
        assert_eq!(pattern.as_deref(), Some("^[A-Za-z0-9_-]{21}[AQgw]$"));
    }
}
