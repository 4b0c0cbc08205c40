//! HTTP Message Signatures (RFC 9421) in the single form that nodes and relays use.
//!
//! A request has the headers `Content-Digest` (RFC 9530, SHA-256, also of an empty body),
//! `Signature-Input` and `Signature`, with the single label `sig`. The signature covers exactly
//! `"@method" "@authority" "@path" "@query" "content-digest"`, in this order. The parameters are
//! `created`, `expires`, `keyid`, `alg`, `nonce` if the route requires one, and `tag="sealpost"`.
//! Any other form is rejected.

mod parse;

use crate::{
    AccountKey, SessionId,
    mac::{compute_hmac, is_hmac},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use ed25519_dalek::{Signer as _, SigningKey};
use http::HeaderMap;
use sealpost_proto::{
    ErrorCode, SessionKey, Timestamp, b64,
    limits::{NONCE_CHARS_MAX, SIGNATURE_LIFETIME_MAX},
    wire::SIGNATURE_TAG,
};
use sha2::{Digest as _, Sha256};
use std::{fmt::Write as _, time::Duration};

/// Header with the covered components and the parameters.
pub const SIGNATURE_INPUT_HEADER: &str = "signature-input";
/// Header with the signature.
pub const SIGNATURE_HEADER: &str = "signature";
/// Header with the SHA-256 of the body.
pub const CONTENT_DIGEST_HEADER: &str = "content-digest";

const LABEL: &str = "sig";
const COVERED: &str = r#"("@method" "@authority" "@path" "@query" "content-digest")"#;

/// Time by which `created` may be ahead of the clock.
const CLOCK_AHEAD_MAX: Duration = SIGNATURE_LIFETIME_MAX;

/// Signed components of a request, apart from the digest of the body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestParts<'a> {
    /// Method in upper case, as sent.
    pub method: &'a str,
    /// Host and port, as [`Origin::authority`](sealpost_proto::Origin::authority) returns them. A
    /// relay uses its configured authority, not the one that a proxy forwards.
    pub authority: &'a str,
    /// Path as sent, percent-encoded; never empty.
    pub path: &'a str,
    /// Query without the question mark, if the request has one.
    pub query: Option<&'a str>,
}

/// SHA-256 of a body, as in the header `Content-Digest`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ContentDigest([u8; 32]);

impl ContentDigest {
    /// Computes the digest of a body, which may be empty.
    #[must_use]
    pub fn of(body: &[u8]) -> Self {
        Self(Sha256::digest(body).into())
    }

    /// Wraps a digest that was computed before.
    #[must_use]
    pub const fn from_sha256(digest: [u8; 32]) -> Self {
        Self(digest)
    }

    /// Returns the 32 bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    fn header(&self) -> String {
        format!("sha-256=:{}:", STANDARD.encode(self.0))
    }
}

/// Headers of a signed request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedHeaders {
    /// `Signature-Input`.
    pub signature_input: String,
    /// `Signature`.
    pub signature: String,
    /// `Content-Digest`.
    pub content_digest: String,
}

impl SignedHeaders {
    /// Returns the names and values of the headers.
    #[must_use]
    pub fn pairs(&self) -> [(&'static str, &str); 3] {
        [
            (SIGNATURE_INPUT_HEADER, &self.signature_input),
            (SIGNATURE_HEADER, &self.signature),
            (CONTENT_DIGEST_HEADER, &self.content_digest),
        ]
    }
}

/// Nonce of a request that is signed with an account key: 1 to 64 visible ASCII characters other
/// than quote, backslash and semicolon. The relay stores it until the signature expires.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Nonce(String);

impl Nonce {
    /// Creates a nonce of 22 characters from random bytes.
    #[must_use]
    pub fn from_random(bytes: [u8; 16]) -> Self {
        Self(b64::encode(&bytes))
    }

    /// Returns the text of the nonce.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn parse(text: &str) -> Option<Self> {
        let is_visible = text
            .bytes()
            .all(|byte| byte.is_ascii_graphic() && !b"\"\\;".contains(&byte));
        (is_visible && (1..=NONCE_CHARS_MAX).contains(&text.len())).then(|| Self(text.to_owned()))
    }
}

/// Claimed signer of a request, which implies the algorithm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signer {
    /// An account key: `ed25519`, keyid = the public key in base64url.
    Account(AccountKey),
    /// A session: `hmac-sha256`, keyid = the session id.
    Session(SessionId),
}

/// Parameters of a signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignatureParams {
    /// Claimed signer, not verified yet.
    pub signer: Signer,
    /// Time of signing, in whole seconds.
    pub created: Timestamp,
    /// Expiry, up to five minutes later.
    pub expires: Timestamp,
    /// Nonce, which routes for account keys require.
    pub nonce: Option<Nonce>,
}

/// Error when verifying a request's signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// The request has no signature.
    #[error("the request is not signed")]
    Missing,
    /// The signature does not have the required form.
    #[error("the signature cannot be parsed: {reason}")]
    Malformed {
        /// Description of the problem.
        reason: &'static str,
    },
    /// The clocks differ by more than five minutes, or the request is older than that.
    #[error(
        "the signature is not valid at this time: the clocks differ, or the request is too old"
    )]
    ClockSkew,
    /// The body does not match its digest.
    #[error("the body does not match its digest")]
    DigestMismatch,
    /// The request was signed with another kind of key than the route requires.
    #[error("the request was signed with the wrong kind of key")]
    WrongKey,
    /// The signature is invalid.
    #[error("the signature is invalid")]
    Invalid,
}

impl SignatureError {
    /// Returns the error code to respond with.
    #[must_use]
    pub const fn code(self) -> ErrorCode {
        match self {
            Self::Missing => ErrorCode::SignatureMissing,
            Self::ClockSkew => ErrorCode::ClockSkew,
            Self::Malformed { .. } | Self::DigestMismatch | Self::WrongKey | Self::Invalid => {
                ErrorCode::SignatureInvalid
            }
        }
    }
}

/// Signs with an account key; the signature expires five minutes after `now`.
#[must_use]
pub fn sign_ed25519(
    key: &SigningKey,
    parts: &RequestParts<'_>,
    digest: &ContentDigest,
    now: Timestamp,
    nonce: &Nonce,
) -> SignedHeaders {
    let parameters = format_parameters(
        now,
        &AccountKey::of(key).to_string(),
        "ed25519",
        Some(nonce),
    );
    sign(parts, digest, &parameters, |base| key.sign(base).to_bytes())
}

/// Signs with a session key; the signature expires five minutes after `now`.
#[must_use]
pub fn sign_hmac(
    session_id: &str,
    key: &SessionKey,
    parts: &RequestParts<'_>,
    digest: &ContentDigest,
    now: Timestamp,
) -> SignedHeaders {
    let parameters = format_parameters(now, session_id, "hmac-sha256", None);
    sign(parts, digest, &parameters, |base| {
        compute_hmac(key.expose(), &[base])
    })
}

fn sign<const N: usize>(
    parts: &RequestParts<'_>,
    digest: &ContentDigest,
    parameters: &str,
    with: impl FnOnce(&[u8]) -> [u8; N],
) -> SignedHeaders {
    let content_digest = digest.header();
    let base = build_request_base(parts, &content_digest, parameters);
    SignedHeaders {
        signature_input: format!("{LABEL}={COVERED}{parameters}"),
        signature: format!("{LABEL}=:{}:", STANDARD.encode(with(base.as_bytes()))),
        content_digest,
    }
}

fn format_parameters(
    now: Timestamp,
    keyid: &str,
    algorithm: &str,
    nonce: Option<&Nonce>,
) -> String {
    let created = now.as_secs();
    let expires = created.saturating_add(SIGNATURE_LIFETIME_MAX.as_secs());
    let nonce = nonce
        .map(|nonce| format!(";nonce=\"{}\"", nonce.as_str()))
        .unwrap_or_default();
    format!(
        ";created={created};expires={expires};keyid=\"{keyid}\";alg=\"{algorithm}\"{nonce};\
         tag=\"{SIGNATURE_TAG}\""
    )
}

fn build_request_base(parts: &RequestParts<'_>, content_digest: &str, parameters: &str) -> String {
    let query = format!("?{}", parts.query.unwrap_or_default());
    let components = [
        ("@method", parts.method),
        ("@authority", parts.authority),
        ("@path", parts.path),
        ("@query", query.as_str()),
        ("content-digest", content_digest),
    ];
    build_signature_base(&components, &format!("{COVERED}{parameters}"))
}

/// Builds the signature base (RFC 9421, section 2.5): a line for each component, then the
/// parameters.
fn build_signature_base(components: &[(&str, &str)], parameters: &str) -> String {
    let mut base = String::with_capacity(512);
    for (name, value) in components {
        // Writing to a string cannot fail.
        let _ = writeln!(base, "\"{name}\": {value}");
    }
    let _ = write!(base, "\"@signature-params\": {parameters}");
    base
}

/// Parsed but unverified signature of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReceivedSignature {
    params: SignatureParams,
    digest: ContentDigest,
    /// Parameters from the first `;` on, as sent, because the signature covers this text.
    parameters: String,
    bytes: Vec<u8>,
}

impl ReceivedSignature {
    /// Parses the three headers of a request.
    ///
    /// # Errors
    /// [`SignatureError::Missing`] without a signature, [`SignatureError::Malformed`] for any other
    /// form.
    pub fn from_headers(headers: &HeaderMap) -> Result<Self, SignatureError> {
        if !headers.contains_key(SIGNATURE_INPUT_HEADER) && !headers.contains_key(SIGNATURE_HEADER)
        {
            return Err(SignatureError::Missing);
        }
        let input = parse::single_header(headers, SIGNATURE_INPUT_HEADER)?;
        let signature = parse::single_header(headers, SIGNATURE_HEADER)?;
        Self::parse(
            input,
            signature,
            parse::single_header(headers, CONTENT_DIGEST_HEADER)?,
        )
    }

    /// Parses the values of the three headers.
    ///
    /// # Errors
    /// [`SignatureError::Malformed`] for any other form.
    pub fn parse(
        signature_input: &str,
        signature: &str,
        content_digest: &str,
    ) -> Result<Self, SignatureError> {
        let parameters = parse::parse_covered(signature_input)?;
        Ok(Self {
            params: parse::parse_parameters(parameters)?,
            digest: parse::parse_digest(content_digest)?,
            parameters: parameters.to_owned(),
            bytes: parse::parse_signature(signature)?,
        })
    }

    /// Returns the parameters of the signature.
    #[must_use]
    pub const fn params(&self) -> &SignatureParams {
        &self.params
    }

    /// Returns the claimed digest of the body. Check it with [`ReceivedSignature::check_body`] or,
    /// for a streamed body, compare it with a digest computed along the way.
    #[must_use]
    pub const fn digest(&self) -> &ContentDigest {
        &self.digest
    }

    /// Checks that this is the signed body.
    ///
    /// # Errors
    /// [`SignatureError::DigestMismatch`] if the digest differs.
    pub fn check_body(&self, body: &[u8]) -> Result<(), SignatureError> {
        if ContentDigest::of(body) == self.digest {
            Ok(())
        } else {
            Err(SignatureError::DigestMismatch)
        }
    }

    /// Verifies that the claimed account key signed this request and that the signature is valid
    /// now. Does not check the body.
    ///
    /// # Errors
    /// [`SignatureError`]; the time is checked first, so that a node with a wrong clock learns
    /// about it.
    pub fn verify_ed25519(
        &self,
        parts: &RequestParts<'_>,
        now: Timestamp,
    ) -> Result<AccountKey, SignatureError> {
        let Signer::Account(key) = self.params.signer else {
            return Err(SignatureError::WrongKey);
        };
        self.check_time(now)?;
        if key.verify(self.base(parts).as_bytes(), &self.bytes) {
            Ok(key)
        } else {
            Err(SignatureError::Invalid)
        }
    }

    /// Verifies that the session key signed this request and that the signature is valid now.
    /// Checks neither the body nor the expiry of the session, which is up to the caller.
    ///
    /// # Errors
    /// [`SignatureError`]; the time is checked first, so that a node with a wrong clock learns
    /// about it.
    pub fn verify_hmac(
        &self,
        parts: &RequestParts<'_>,
        key: &SessionKey,
        now: Timestamp,
    ) -> Result<SessionId, SignatureError> {
        let Signer::Session(id) = self.params.signer else {
            return Err(SignatureError::WrongKey);
        };
        self.check_time(now)?;
        let is_valid = is_hmac(key.expose(), &[self.base(parts).as_bytes()], &self.bytes);
        if is_valid {
            Ok(id)
        } else {
            Err(SignatureError::Invalid)
        }
    }

    fn base(&self, parts: &RequestParts<'_>) -> String {
        build_request_base(parts, &self.digest.header(), &self.parameters)
    }

    fn check_time(&self, now: Timestamp) -> Result<(), SignatureError> {
        let is_ahead = self.params.created.since(now) > CLOCK_AHEAD_MAX;
        if is_ahead || self.params.expires <= now {
            Err(SignatureError::ClockSkew)
        } else {
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests;
