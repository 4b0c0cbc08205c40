//! Base64url without padding (RFC 4648, section 5), the encoding of all bytes in JSON.

use base64::{
    Engine as _, alphabet, engine::general_purpose::GeneralPurpose, engine::general_purpose::NO_PAD,
};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Accepts only the canonical form: no padding, and the unused low bits of the last character are
/// zero.
const ENGINE: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, NO_PAD);

/// Error for text that is not canonical base64url without padding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not base64url without padding")]
pub struct ParseBase64Error;

/// Encodes bytes as base64url without padding.
#[must_use]
pub fn encode(bytes: &[u8]) -> String {
    ENGINE.encode(bytes)
}

/// Decodes base64url without padding.
///
/// # Errors
/// [`ParseBase64Error`] for another alphabet, padding, white space or a non-canonical last
/// character.
pub fn parse(text: &str) -> Result<Vec<u8>, ParseBase64Error> {
    ENGINE.decode(text).map_err(|_| ParseBase64Error)
}

/// Decodes exactly `N` bytes of base64url without padding.
///
/// # Errors
/// [`ParseBase64Error`] if the text is malformed or encodes another number of bytes.
pub fn parse_array<const N: usize>(text: &str) -> Result<[u8; N], ParseBase64Error> {
    parse(text)?.try_into().map_err(|_| ParseBase64Error)
}

/// Bytes that are encoded as base64url in JSON.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct B64(pub Vec<u8>);

impl B64 {
    /// Returns the bytes.
    #[must_use]
    pub fn as_slice(&self) -> &[u8] {
        &self.0
    }
}

impl From<Vec<u8>> for B64 {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }
}

impl Serialize for B64 {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for B64 {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = B64;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("base64url without padding")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<B64, E> {
                parse(text).map(B64).map_err(E::custom)
            }
        }
        deserializer.deserialize_str(Visitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_canonical_form_parses() {
        assert_eq!(parse("_-8").unwrap(), [0xff, 0xef]);
        for bad in ["_-8=", "/+8", "_-9", "_-8 ", "_"] {
            assert_eq!(parse(bad), Err(ParseBase64Error), "{bad}");
        }
        assert_eq!(encode(&[0xff, 0xef]), "_-8");
    }
}
