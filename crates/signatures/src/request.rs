//! HTTP Message Signatures (RFC 9421) in the one form that nodes and relays use.
//!
//! A request carries `Content-Digest` (RFC 9530, SHA-256, also over an empty body), `Signature-Input` and `Signature` with
//! the single label `sig`. Covered are exactly `"@method" "@authority" "@path" "@query" "content-digest"`, in this order;
//! the parameters are `created`, `expires`, `keyid`, `alg`, `nonce` where the route wants one, and `tag="sealpost"`.
//! Anything else is refused.

mod parse;

use crate::{
    AccountKey, SessionId,
    mac::{hmac, is_hmac},
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

/// How far a clock may run ahead.
const CLOCK_AHEAD_MAX: Duration = SIGNATURE_LIFETIME_MAX;

/// What of a request is signed, besides the body's digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestParts<'a> {
    /// Upper case, as it is sent.
    pub method: &'a str,
    /// Host and port as [`Origin::authority`](sealpost_proto::Origin::authority) gives them. A relay takes its configured
    /// one and not what a proxy passes on.
    pub authority: &'a str,
    /// As it is sent, percent-encoded; never empty.
    pub path: &'a str,
    /// Without the question mark; `None` when the request has none.
    pub query: Option<&'a str>,
}

/// The SHA-256 of a body, as the header `Content-Digest` carries it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ContentDigest([u8; 32]);

impl ContentDigest {
    /// The digest of a body; an empty one has one too.
    #[must_use]
    pub fn of(body: &[u8]) -> Self {
        Self(Sha256::digest(body).into())
    }

    /// A digest that was computed before.
    #[must_use]
    pub const fn from_sha256(digest: [u8; 32]) -> Self {
        Self(digest)
    }

    /// The 32 bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    fn header(&self) -> String {
        format!("sha-256=:{}:", STANDARD.encode(self.0))
    }
}

/// The three headers of a signed request.
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
    /// Names and values.
    #[must_use]
    pub fn pairs(&self) -> [(&'static str, &str); 3] {
        [
            (SIGNATURE_INPUT_HEADER, &self.signature_input),
            (SIGNATURE_HEADER, &self.signature),
            (CONTENT_DIGEST_HEADER, &self.content_digest),
        ]
    }
}

/// What makes a request with an account key unique: 1 to 64 visible ASCII characters without quote, backslash and
/// semicolon. The relay remembers it until the signature expires.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Nonce(String);

impl Nonce {
    /// A nonce of 22 characters from random bytes.
    #[must_use]
    pub fn from_random(bytes: [u8; 16]) -> Self {
        Self(b64::encode(&bytes))
    }

    /// The text that is signed.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn parse(text: &str) -> Option<Self> {
        let visible = text
            .bytes()
            .all(|byte| byte.is_ascii_graphic() && !b"\"\\;".contains(&byte));
        (visible && (1..=NONCE_CHARS_MAX).contains(&text.len())).then(|| Self(text.to_owned()))
    }
}

/// Who says that it signed, and with which algorithm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signer {
    /// An account, with its key: `ed25519`, keyid = the public key in base64url.
    Account(AccountKey),
    /// A signed-in session: `hmac-sha256`, keyid = the session's id.
    Session(SessionId),
}

/// The parameters of a signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignatureParams {
    /// Who signed; not verified by reading it.
    pub signer: Signer,
    /// When, in whole seconds.
    pub created: Timestamp,
    /// Until when it is good, at most five minutes later.
    pub expires: Timestamp,
    /// Makes it unique; a route that takes account keys refuses one without.
    pub nonce: Option<Nonce>,
}

/// Why a request's signature is not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// No signature at all.
    #[error("the request is not signed")]
    Missing,
    /// Not in the one form that is read.
    #[error("the signature does not parse: {reason}")]
    Malformed {
        /// What is wrong.
        reason: &'static str,
    },
    /// The clocks differ by more than five minutes, or the request is older than that.
    #[error("the signature is not good now: the clocks differ, or the request was made long ago")]
    ClockSkew,
    /// The body is not the one that was signed.
    #[error("the body does not fit its digest")]
    DigestMismatch,
    /// Another kind of key signed than the one it is checked with.
    #[error("the wrong kind of key signed this request")]
    WrongKey,
    /// The signature does not fit.
    #[error("the signature is wrong")]
    Invalid,
}

impl SignatureError {
    /// The code that is answered.
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

/// Signs with an account key, good for five minutes from `now`.
#[must_use]
pub fn sign_ed25519(
    key: &SigningKey,
    parts: &RequestParts<'_>,
    digest: &ContentDigest,
    now: Timestamp,
    nonce: &Nonce,
) -> SignedHeaders {
    let parameters = parameters(
        now,
        &AccountKey::of(key).to_string(),
        "ed25519",
        Some(nonce),
    );
    sign(parts, digest, &parameters, |base| key.sign(base).to_bytes())
}

/// Signs with the key of a session, good for five minutes from `now`.
#[must_use]
pub fn sign_hmac(
    session_id: &str,
    key: &SessionKey,
    parts: &RequestParts<'_>,
    digest: &ContentDigest,
    now: Timestamp,
) -> SignedHeaders {
    let parameters = parameters(now, session_id, "hmac-sha256", None);
    sign(parts, digest, &parameters, |base| {
        hmac(key.expose(), &[base])
    })
}

fn sign<const N: usize>(
    parts: &RequestParts<'_>,
    digest: &ContentDigest,
    parameters: &str,
    with: impl FnOnce(&[u8]) -> [u8; N],
) -> SignedHeaders {
    let content_digest = digest.header();
    let base = request_base(parts, &content_digest, parameters);
    SignedHeaders {
        signature_input: format!("{LABEL}={COVERED}{parameters}"),
        signature: format!("{LABEL}=:{}:", STANDARD.encode(with(base.as_bytes()))),
        content_digest,
    }
}

fn parameters(now: Timestamp, keyid: &str, algorithm: &str, nonce: Option<&Nonce>) -> String {
    let created = now.as_secs();
    let expires = created.saturating_add(SIGNATURE_LIFETIME_MAX.as_secs());
    let nonce = nonce
        .map(|nonce| format!(";nonce=\"{}\"", nonce.as_str()))
        .unwrap_or_default();
    format!(
        ";created={created};expires={expires};keyid=\"{keyid}\";alg=\"{algorithm}\"{nonce};tag=\"{SIGNATURE_TAG}\""
    )
}

fn request_base(parts: &RequestParts<'_>, content_digest: &str, parameters: &str) -> String {
    let query = format!("?{}", parts.query.unwrap_or_default());
    let components = [
        ("@method", parts.method),
        ("@authority", parts.authority),
        ("@path", parts.path),
        ("@query", query.as_str()),
        ("content-digest", content_digest),
    ];
    signature_base(&components, &format!("{COVERED}{parameters}"))
}

/// The signature base (RFC 9421, section 2.5): a line for each component, then the parameters.
fn signature_base(components: &[(&str, &str)], parameters: &str) -> String {
    let mut base = String::with_capacity(512);
    for (name, value) in components {
        // Writing to a string cannot fail.
        let _ = writeln!(base, "\"{name}\": {value}");
    }
    let _ = write!(base, "\"@signature-params\": {parameters}");
    base
}

/// The signature of a request as it came in: it parses, and nothing more is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReceivedSignature {
    params: SignatureParams,
    digest: ContentDigest,
    /// From the first `;` on, as it was sent: that is what was signed.
    parameters: String,
    bytes: Vec<u8>,
}

impl ReceivedSignature {
    /// Reads the three headers of a request.
    ///
    /// # Errors
    /// [`SignatureError::Missing`] without a signature, [`SignatureError::Malformed`] for any other form than ours.
    pub fn from_headers(headers: &HeaderMap) -> Result<Self, SignatureError> {
        if !headers.contains_key(SIGNATURE_INPUT_HEADER) && !headers.contains_key(SIGNATURE_HEADER)
        {
            return Err(SignatureError::Missing);
        }
        let input = parse::only(headers, SIGNATURE_INPUT_HEADER)?;
        let signature = parse::only(headers, SIGNATURE_HEADER)?;
        Self::parse(
            input,
            signature,
            parse::only(headers, CONTENT_DIGEST_HEADER)?,
        )
    }

    /// Reads the values of the three headers.
    ///
    /// # Errors
    /// [`SignatureError::Malformed`] for any other form than ours.
    pub fn parse(
        signature_input: &str,
        signature: &str,
        content_digest: &str,
    ) -> Result<Self, SignatureError> {
        let parameters = parse::covered(signature_input)?;
        Ok(Self {
            params: parse::parameters(parameters)?,
            digest: parse::digest(content_digest)?,
            parameters: parameters.to_owned(),
            bytes: parse::signature(signature)?,
        })
    }

    /// What the signature says of itself.
    #[must_use]
    pub const fn params(&self) -> &SignatureParams {
        &self.params
    }

    /// What the signature says of the body: compare it with [`ReceivedSignature::check_body`], or, for a body that is
    /// written away as it comes, with a digest computed meanwhile.
    #[must_use]
    pub const fn digest(&self) -> &ContentDigest {
        &self.digest
    }

    /// Whether this is the body that was signed.
    ///
    /// # Errors
    /// [`SignatureError::DigestMismatch`].
    pub fn check_body(&self, body: &[u8]) -> Result<(), SignatureError> {
        if ContentDigest::of(body) == self.digest {
            Ok(())
        } else {
            Err(SignatureError::DigestMismatch)
        }
    }

    /// Whether the account whose key is named signed this request, and it is good now. The body is not looked at.
    ///
    /// # Errors
    /// [`SignatureError`]; time comes first, so that a node with a wrong clock is told so.
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

    /// Whether the holder of the session's key signed this request, and it is good now. Whether the session itself has
    /// ended is the caller's question; the body is not looked at.
    ///
    /// # Errors
    /// [`SignatureError`]; time comes first, so that a node with a wrong clock is told so.
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
        let fits = is_hmac(key.expose(), &[self.base(parts).as_bytes()], &self.bytes);
        if fits {
            Ok(id)
        } else {
            Err(SignatureError::Invalid)
        }
    }

    fn base(&self, parts: &RequestParts<'_>) -> String {
        request_base(parts, &self.digest.header(), &self.parameters)
    }

    fn check_time(&self, now: Timestamp) -> Result<(), SignatureError> {
        let ahead = self.params.created.since(now) > CLOCK_AHEAD_MAX;
        if ahead || self.params.expires <= now {
            Err(SignatureError::ClockSkew)
        } else {
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests;
