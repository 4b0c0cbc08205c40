//! Standard Webhooks (the `v1` scheme) with an account's webhook secret, and the challenge that
//! verifies the owner of a URL.
//!
//! The `standardwebhooks` crate is not used here because it reads the clock itself and requires a
//! UTF-8 body; the tests compare this implementation with it.

use crate::mac::{compute_hmac, is_hmac};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{HeaderMap, HeaderValue};
use sealpost_proto::{
    Timestamp, WebhookSecret,
    limits::{WEBHOOK_CLOCK_TOLERANCE, WEBHOOK_SIGNATURES_MAX},
};

/// Id of the call, the same in every attempt.
pub const ID_HEADER: &str = "webhook-id";
/// Unix seconds at which the call was signed.
pub const TIMESTAMP_HEADER: &str = "webhook-timestamp";
/// One or more of `v1,<base64>`, separated by spaces.
pub const SIGNATURE_HEADER: &str = "webhook-signature";

/// HMAC over id and timestamp, with which the receiver recognises a call before it reads the body.
pub const PROOF_HEADER: &str = "sealpost-webhook-proof";

const SCHEME: &str = "v1,";
const PROOF: &[u8] = b"Sealpost-1 webhook proof";
const CHALLENGE: &[u8] = b"Sealpost-1 challenge";

/// Error when verifying a webhook call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WebhookError {
    /// One of the three headers is missing.
    #[error("the call is not signed: the header {header} is missing")]
    Missing {
        /// Name of the header.
        header: &'static str,
    },
    /// A header cannot be parsed.
    #[error("the header {header} cannot be parsed")]
    Malformed {
        /// Name of the header.
        header: &'static str,
    },
    /// The signature is valid, but its time is more than five minutes from now, in either direction.
    #[error("the call was signed more than five minutes ago, or the clocks differ")]
    TimestampOutOfRange {
        /// Time at which the call was signed.
        signed_at: Timestamp,
    },
    /// The timestamp is more than five minutes from now, in either direction, and the call has no
    /// valid proof.
    #[error(
        "the call has no proof, and it was signed more than five minutes ago or the clocks differ"
    )]
    TimestampUnproven,
    /// No signature matches.
    #[error("the signature of the call is invalid")]
    Invalid,
}

/// Headers of a signed call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebhookHeaders {
    /// `webhook-id`.
    pub id: String,
    /// `webhook-timestamp`.
    pub timestamp: String,
    /// `webhook-signature`.
    pub signature: String,
    /// `sealpost-webhook-proof`.
    pub proof: String,
}

impl WebhookHeaders {
    /// Sets the headers.
    ///
    /// # Errors
    /// [`WebhookError::Malformed`] if the id contains characters that no header may contain.
    pub fn insert_into(&self, headers: &mut HeaderMap) -> Result<(), WebhookError> {
        let all = [
            (ID_HEADER, &self.id),
            (TIMESTAMP_HEADER, &self.timestamp),
            (SIGNATURE_HEADER, &self.signature),
            (PROOF_HEADER, &self.proof),
        ];
        for (header, value) in all {
            let value =
                HeaderValue::from_str(value).map_err(|_| WebhookError::Malformed { header })?;
            headers.insert(header, value);
        }
        Ok(())
    }
}

/// Signs a webhook call.
#[must_use]
pub fn sign_webhook(
    secret: &WebhookSecret,
    id: &str,
    at: Timestamp,
    body: &[u8],
) -> WebhookHeaders {
    let timestamp = at.as_secs().to_string();
    let signature = sign(secret.expose(), id, &timestamp, body);
    let proof = compute_hmac(secret.expose(), &proof_parts(id, &timestamp));
    WebhookHeaders {
        id: id.to_owned(),
        timestamp,
        signature,
        proof: STANDARD.encode(proof),
    }
}

/// Checks the headers of a call before its body is read, and returns whether the call has a valid
/// proof. A call without one can be genuine: Standard Webhooks has no proofs.
///
/// # Errors
/// [`WebhookError`] if a header is missing or malformed, or if a call without a valid proof was
/// signed more than five minutes from now.
pub fn check_headers(
    secrets: &[WebhookSecret],
    headers: &HeaderMap,
    now: Timestamp,
) -> Result<bool, WebhookError> {
    let id = header_text(headers, ID_HEADER)?;
    let timestamp = header_text(headers, TIMESTAMP_HEADER)?;
    if parse_tags(headers)?.is_empty() {
        return Err(WebhookError::Malformed {
            header: SIGNATURE_HEADER,
        });
    }
    let proof = headers.get(PROOF_HEADER).map(HeaderValue::as_bytes);
    let proof = proof.and_then(|proof| STANDARD.decode(proof).ok());
    let parts = proof_parts(id, timestamp);
    let is_proven = proof.is_some_and(|proof| {
        secrets
            .iter()
            .any(|secret| is_hmac(secret.expose(), &parts, &proof))
    });
    if is_proven || is_current(parse_timestamp(timestamp)?, now) {
        Ok(is_proven)
    } else {
        Err(WebhookError::TimestampUnproven)
    }
}

/// Verifies that a call was signed within five minutes with one of the secrets (two during a
/// rotation), and returns the time at which it was signed. The signature is verified first: the time
/// of a call with a valid signature is that of the relay's clock when it signed.
///
/// # Errors
/// [`WebhookError`] if a header is missing or malformed, or the signature is old or invalid.
pub fn verify_webhook(
    secrets: &[WebhookSecret],
    headers: &HeaderMap,
    body: &[u8],
    now: Timestamp,
) -> Result<Timestamp, WebhookError> {
    let id = header_text(headers, ID_HEADER)?;
    let timestamp = header_text(headers, TIMESTAMP_HEADER)?;
    let signed_at = parse_timestamp(timestamp)?;
    let parts = [id.as_bytes(), b".", timestamp.as_bytes(), b".", body];
    let tags = parse_tags(headers)?;
    let is_signed_with =
        |secret: &WebhookSecret| tags.iter().any(|tag| is_hmac(secret.expose(), &parts, tag));
    if !secrets.iter().any(is_signed_with) {
        return Err(WebhookError::Invalid);
    }
    if is_current(signed_at, now) {
        Ok(signed_at)
    } else {
        Err(WebhookError::TimestampOutOfRange { signed_at })
    }
}

/// Computes a node's response to its relay's challenge.
#[must_use]
pub fn respond_to_challenge(secret: &WebhookSecret, challenge: &[u8]) -> [u8; 32] {
    compute_hmac(secret.expose(), &[CHALLENGE, &[0], challenge])
}

/// Verifies that `response` was computed with the secret.
#[must_use]
pub fn verify_challenge_response(
    secret: &WebhookSecret,
    challenge: &[u8],
    response: &[u8],
) -> bool {
    is_hmac(secret.expose(), &[CHALLENGE, &[0], challenge], response)
}

/// Returns the parts of the message that a proof authenticates. No id contains a NUL.
fn proof_parts<'a>(id: &'a str, timestamp: &'a str) -> [&'a [u8]; 5] {
    [PROOF, &[0], id.as_bytes(), b".", timestamp.as_bytes()]
}

fn sign(key: &[u8], id: &str, timestamp: &str, body: &[u8]) -> String {
    let tag = compute_hmac(
        key,
        &[id.as_bytes(), b".", timestamp.as_bytes(), b".", body],
    );
    format!("{SCHEME}{}", STANDARD.encode(tag))
}

/// Returns the signatures of the known scheme.
fn parse_tags(headers: &HeaderMap) -> Result<Vec<[u8; 32]>, WebhookError> {
    let signatures = header_text(headers, SIGNATURE_HEADER)?.split(' ');
    let tags = signatures
        .take(WEBHOOK_SIGNATURES_MAX)
        .filter_map(parse_tag);
    Ok(tags.collect())
}

/// Decodes one signature; `None` for another scheme or another length than 32 bytes.
fn parse_tag(signature: &str) -> Option<[u8; 32]> {
    STANDARD
        .decode(signature.strip_prefix(SCHEME)?)
        .ok()?
        .try_into()
        .ok()
}

fn parse_timestamp(timestamp: &str) -> Result<Timestamp, WebhookError> {
    let malformed = WebhookError::Malformed {
        header: TIMESTAMP_HEADER,
    };
    let seconds: u64 = timestamp.parse().map_err(|_| malformed)?;
    let millis = seconds.checked_mul(1_000).ok_or(malformed)?;
    Ok(Timestamp::from_millis(millis))
}

fn is_current(signed_at: Timestamp, now: Timestamp) -> bool {
    signed_at.as_secs().abs_diff(now.as_secs()) <= WEBHOOK_CLOCK_TOLERANCE.as_secs()
}

fn header_text<'a>(headers: &'a HeaderMap, header: &'static str) -> Result<&'a str, WebhookError> {
    let value = headers
        .get(header)
        .ok_or(WebhookError::Missing { header })?;
    value
        .to_str()
        .map_err(|_| WebhookError::Malformed { header })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);
    const BODY: &[u8] = br#"{"type":"deliveries"}"#;

    fn secret(fill: u8) -> WebhookSecret {
        WebhookSecret::from_bytes([fill; 32])
    }

    fn signed(fill: u8) -> HeaderMap {
        let mut headers = HeaderMap::new();
        sign_webhook(&secret(fill), "call-1", NOW, BODY)
            .insert_into(&mut headers)
            .unwrap();
        headers
    }

    /// Example of the Standard Webhooks libraries; its secret has 24 bytes.
    #[test]
    fn specification_example_matches() {
        let key = STANDARD.decode("C2FVsBQIhrscChlQIMV+b5sSYspob7oD").unwrap();
        let body = br#"{"email":"test@example.com","username":"test_user"}"#;
        let signature = sign(&key, "msg_27UH4WbU6Z5A5EzD8u03UvzRbpk", "1649367553", body);
        assert_eq!(signature, "v1,tZ1I4/hDygAJgO5TYxiSd6Sd0kDW6hPenDe+bTa3Kkw=");
    }

    #[test]
    fn standardwebhooks_crate_agrees() {
        let reference = standardwebhooks::Webhook::from_bytes(vec![7; 32]).unwrap();
        let ours = sign_webhook(&secret(7), "call-1", NOW, BODY);
        assert_eq!(
            reference.sign("call-1", 1_700_000_000, BODY).unwrap(),
            ours.signature
        );
    }

    #[test]
    fn headers_are_checked_without_the_body() {
        let secrets = [secret(1), secret(7)];
        let check = |headers: &HeaderMap, now| check_headers(&secrets, headers, now);
        assert_eq!(check(&signed(7), NOW), Ok(true));
        assert_eq!(
            check(&signed(2), NOW),
            Ok(false),
            "the proof of another secret"
        );
        let later = NOW.plus(WEBHOOK_CLOCK_TOLERANCE + Duration::from_secs(1));
        assert_eq!(check(&signed(7), later), Ok(true));
        assert_eq!(
            check(&signed(2), later),
            Err(WebhookError::TimestampUnproven)
        );
        for header in [ID_HEADER, TIMESTAMP_HEADER, SIGNATURE_HEADER] {
            let mut headers = signed(7);
            headers.remove(header);
            assert_eq!(check(&headers, NOW), Err(WebhookError::Missing { header }));
        }
        let mut headers = signed(7);
        headers.insert(SIGNATURE_HEADER, "v1,AAAA".parse().unwrap());
        let malformed = WebhookError::Malformed {
            header: SIGNATURE_HEADER,
        };
        assert_eq!(check(&headers, NOW), Err(malformed));
        let mut headers = signed(7);
        headers.insert(ID_HEADER, "call-2".parse().unwrap());
        assert_eq!(check(&headers, NOW), Ok(false), "the proof covers the id");
        headers.remove(PROOF_HEADER);
        assert_eq!(check(&headers, NOW), Ok(false));
    }

    #[test]
    fn one_valid_signature_suffices() {
        let mut headers = signed(7);
        assert_eq!(verify_webhook(&[secret(7)], &headers, BODY, NOW), Ok(NOW));
        assert_eq!(
            verify_webhook(&[secret(1), secret(7)], &headers, BODY, NOW),
            Ok(NOW)
        );
        assert_eq!(
            verify_webhook(&[secret(1)], &headers, BODY, NOW),
            Err(WebhookError::Invalid)
        );
        let both = format!(
            "v1a,x v1,AAAA {}",
            headers[SIGNATURE_HEADER].to_str().unwrap()
        );
        headers.insert(SIGNATURE_HEADER, both.parse().unwrap());
        assert_eq!(verify_webhook(&[secret(7)], &headers, BODY, NOW), Ok(NOW));
    }

    #[test]
    fn empty_or_truncated_signatures_are_refused() {
        let mut headers = signed(7);
        let full = headers[SIGNATURE_HEADER].to_str().unwrap().to_owned();
        for bad in [
            "v1,",
            "",
            " ",
            "v1",
            "v1,AAAA",
            &full[..full.len() - 1],
            &full.replace("v1", "v2"),
        ] {
            headers.insert(SIGNATURE_HEADER, bad.parse().unwrap());
            assert_eq!(
                verify_webhook(&[secret(7)], &headers, BODY, NOW),
                Err(WebhookError::Invalid),
                "{bad:?}"
            );
        }
        headers.remove(SIGNATURE_HEADER);
        let missing = Err(WebhookError::Missing {
            header: SIGNATURE_HEADER,
        });
        assert_eq!(verify_webhook(&[secret(7)], &headers, BODY, NOW), missing);
    }

    #[test]
    fn altered_calls_are_refused() {
        let mut headers = signed(7);
        assert_eq!(
            verify_webhook(&[secret(7)], &headers, b"{}", NOW),
            Err(WebhookError::Invalid)
        );
        headers.insert(ID_HEADER, "call-2".parse().unwrap());
        assert_eq!(
            verify_webhook(&[secret(7)], &headers, BODY, NOW),
            Err(WebhookError::Invalid)
        );
        let out_of_range = WebhookError::TimestampOutOfRange { signed_at: NOW };
        for (seconds, expected) in [(300, Ok(NOW)), (301, Err(out_of_range))] {
            let span = Duration::from_secs(seconds);
            assert_eq!(
                verify_webhook(&[secret(7)], &signed(7), BODY, NOW.plus(span)),
                expected
            );
            assert_eq!(
                verify_webhook(&[secret(7)], &signed(7), BODY, NOW.minus(span)),
                expected
            );
        }
    }

    #[test]
    fn unsigned_times_are_not_reported() {
        let mut headers = signed(7);
        let later = NOW.plus(Duration::from_secs(1_000));
        headers.insert(
            TIMESTAMP_HEADER,
            later.as_secs().to_string().parse().unwrap(),
        );
        assert_eq!(
            verify_webhook(&[secret(7)], &headers, BODY, NOW),
            Err(WebhookError::Invalid)
        );
        headers.insert(TIMESTAMP_HEADER, u64::MAX.to_string().parse().unwrap());
        let malformed = WebhookError::Malformed {
            header: TIMESTAMP_HEADER,
        };
        assert_eq!(
            verify_webhook(&[secret(7)], &headers, BODY, NOW),
            Err(malformed)
        );
    }

    #[test]
    fn challenge_response_requires_the_secret() {
        let answer = respond_to_challenge(&secret(7), b"challenge");
        assert!(verify_challenge_response(&secret(7), b"challenge", &answer));
        assert!(!verify_challenge_response(&secret(7), b"another", &answer));
        assert!(!verify_challenge_response(
            &secret(6),
            b"challenge",
            &answer
        ));
        assert!(!verify_challenge_response(&secret(7), b"challenge", b""));
    }
}
