//! Parser of the three headers. It accepts only the canonical form, so that the received text is
//! the signed text.

use super::{
    CONTENT_DIGEST_HEADER, COVERED, ContentDigest, LABEL, Nonce, SignatureError, SignatureParams,
    Signer,
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::HeaderMap;
use sealpost_proto::{Timestamp, limits::SIGNATURE_LIFETIME_MAX, wire::SIGNATURE_TAG};

/// Maximum number of digits of a time in seconds.
const SECONDS_DIGITS_MAX: usize = 11;

type Parsed<T> = Result<T, SignatureError>;

const fn malformed<T>(reason: &'static str) -> Parsed<T> {
    Err(SignatureError::Malformed { reason })
}

/// Returns the value of a header that occurs exactly once.
pub(super) fn single_header<'a>(headers: &'a HeaderMap, name: &'static str) -> Parsed<&'a str> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (Some(value), None) => value.to_str().map_err(|_| SignatureError::Malformed {
            reason: "a header is not ASCII",
        }),
        (Some(_), Some(_)) => malformed("a header occurs twice"),
        (None, _) if name == CONTENT_DIGEST_HEADER => {
            malformed("the header content-digest is missing")
        }
        (None, _) => malformed("signature and signature-input belong together"),
    }
}

/// Returns the parameters in `Signature-Input` after checking the label and the components.
pub(super) fn parse_covered(input: &str) -> Parsed<&str> {
    let value = input
        .strip_prefix(LABEL)
        .and_then(|rest| rest.strip_prefix('='));
    let Some(value) = value else {
        return malformed("the label is not sig");
    };
    value
        .strip_prefix(COVERED)
        .map_or_else(|| malformed("other components are covered"), Ok)
}

/// Unparsed parameters, each of which occurs at most once.
#[derive(Default)]
struct Fields<'a> {
    created: Option<&'a str>,
    expires: Option<&'a str>,
    keyid: Option<&'a str>,
    alg: Option<&'a str>,
    nonce: Option<&'a str>,
    tag: Option<&'a str>,
}

impl<'a> Fields<'a> {
    fn read(text: &'a str) -> Parsed<Self> {
        let mut fields = Self::default();
        let mut pieces = text.split(';');
        if pieces.next() != Some("") {
            return malformed("unexpected text before the parameters");
        }
        for piece in pieces {
            let Some((name, value)) = piece.split_once('=') else {
                return malformed("a parameter has no value");
            };
            let field = fields.parameter_mut(name)?;
            if field.replace(value).is_some() {
                return malformed("a parameter occurs twice");
            }
        }
        Ok(fields)
    }

    fn parameter_mut(&mut self, name: &str) -> Parsed<&mut Option<&'a str>> {
        match name {
            "created" => Ok(&mut self.created),
            "expires" => Ok(&mut self.expires),
            "keyid" => Ok(&mut self.keyid),
            "alg" => Ok(&mut self.alg),
            "nonce" => Ok(&mut self.nonce),
            "tag" => Ok(&mut self.tag),
            _ => malformed("an unknown parameter"),
        }
    }
}

/// Parses the parameters of `Signature-Input`, in any order.
pub(super) fn parse_parameters(text: &str) -> Parsed<SignatureParams> {
    let fields = Fields::read(text)?;
    if parse_string(fields.tag)? != SIGNATURE_TAG {
        return malformed("the tag is not sealpost");
    }
    let (created, expires) = (
        parse_seconds(fields.created)?,
        parse_seconds(fields.expires)?,
    );
    if expires <= created || expires.since(created) > SIGNATURE_LIFETIME_MAX {
        return malformed("it must expire within five minutes");
    }
    let signer = parse_signer(parse_string(fields.alg)?, parse_string(fields.keyid)?)?;
    let nonce = fields.nonce.map(parse_nonce).transpose()?;
    Ok(SignatureParams {
        signer,
        created,
        expires,
        nonce,
    })
}

fn parse_signer(algorithm: &str, keyid: &str) -> Parsed<Signer> {
    let not_a_key = SignatureError::Malformed {
        reason: "the keyid does not match the algorithm",
    };
    match algorithm {
        "ed25519" => keyid.parse().map(Signer::Account).map_err(|_| not_a_key),
        "hmac-sha256" => keyid.parse().map(Signer::Session).map_err(|_| not_a_key),
        _ => malformed("the algorithm is neither ed25519 nor hmac-sha256"),
    }
}

fn parse_nonce(value: &str) -> Parsed<Nonce> {
    Nonce::parse(parse_string(Some(value))?).ok_or(SignatureError::Malformed {
        reason: "the nonce is not 1 to 64 characters",
    })
}

/// Parses a quoted string; no valid value contains a quote, a backslash or a semicolon.
fn parse_string(value: Option<&str>) -> Parsed<&str> {
    let inner = value.and_then(|value| value.strip_prefix('"')?.strip_suffix('"'));
    match inner {
        Some(inner) if !inner.contains(['"', '\\']) => Ok(inner),
        Some(_) => malformed("a parameter cannot be parsed"),
        None => malformed("a parameter is missing or is not a string"),
    }
}

fn parse_seconds(value: Option<&str>) -> Parsed<Timestamp> {
    let Some(digits) = value else {
        return malformed("created or expires is missing");
    };
    let is_canonical = digits.bytes().all(|byte| byte.is_ascii_digit()) && !digits.starts_with('0');
    if digits.is_empty() || digits.len() > SECONDS_DIGITS_MAX || !is_canonical {
        return malformed("created or expires is not a time");
    }
    let seconds: u64 = digits.parse().map_err(|_| SignatureError::Malformed {
        reason: "created or expires is not a time",
    })?;
    Ok(Timestamp::from_millis(seconds * 1000))
}

/// Decodes `Signature`.
pub(super) fn parse_signature(value: &str) -> Parsed<Vec<u8>> {
    let inner = value
        .strip_prefix(LABEL)
        .and_then(|rest| rest.strip_prefix("=:")?.strip_suffix(':'));
    let bytes = inner.and_then(|text| STANDARD.decode(text).ok());
    bytes.map_or_else(
        || malformed("the signature is not bytes under the label sig"),
        Ok,
    )
}

/// Decodes `Content-Digest`.
pub(super) fn parse_digest(value: &str) -> Parsed<ContentDigest> {
    let inner = value
        .strip_prefix("sha-256=:")
        .and_then(|rest| rest.strip_suffix(':'));
    let bytes = inner
        .and_then(|text| STANDARD.decode(text).ok())
        .and_then(|bytes| bytes.try_into().ok());
    bytes.map_or_else(
        || malformed("content-digest is not one sha-256"),
        |bytes| Ok(ContentDigest(bytes)),
    )
}
