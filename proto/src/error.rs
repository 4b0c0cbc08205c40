//! Error codes of the wire protocol, each with its HTTP status and whether a retry can help. They
//! are sent as RFC 9457 problem documents (`application/problem+json`).

use crate::time::Timestamp;
use serde::{Deserialize, Serialize};

crate::string_enum! {
    /// Stable error code that programs can rely on.
    pub enum ErrorCode(
        /// Returns the HTTP status of the code.
        status: u16,
        /// Whether the same request, unchanged, may succeed later.
        is_retryable: bool,
        /// Returns a short description for people.
        title: &'static str,
    ) {
        /// The body, a parameter or a header cannot be parsed.
        Malformed = "malformed" (400, false, "the request cannot be parsed"),
        /// The route requires a signature.
        SignatureMissing = "signature_missing" (401, false, "the request is not signed"),
        /// The signature does not match the request or the key.
        SignatureInvalid = "signature_invalid" (401, false, "the signature is invalid"),
        /// The session ended or its key was replaced: sign in and retry once.
        SessionInvalid = "session_invalid" (401, false, "the session has ended: sign in again"),
        /// The signature's time differs too much from the relay's clock.
        ClockSkew = "clock_skew" (401, false, "the clocks differ by more than five minutes"),
        /// The nonce was used before.
        NonceUsed = "nonce_used" (401, false, "the request was already made"),
        /// No account has this key.
        AccountUnknown = "account_unknown" (401, false, "the relay does not know this account"),
        /// The operator suspended the account.
        AccountSuspended = "account_suspended" (
            403,
            false,
            "the operator of the relay suspended this account",
        ),
        /// The relay accepts no new accounts.
        RegistrationClosed = "registration_closed" (
            403,
            false,
            "the relay accepts no new accounts",
        ),
        /// A registration token is required, or the given one is invalid.
        RegistrationTokenInvalid = "registration_token_invalid" (
            403,
            false,
            "the registration token is missing or invalid",
        ),
        /// Admin API only: the token is missing or invalid.
        AdminTokenInvalid = "admin_token_invalid" (
            401,
            false,
            "the admin token is missing or invalid",
        ),
        /// Admin API only: the `Host` is not this machine, or the request comes from another site's
        /// page.
        HostForbidden = "host_forbidden" (
            403,
            false,
            "the admin API accepts only requests from this machine",
        ),
        /// The proof does not match the mailbox's keys.
        ProofInvalid = "proof_invalid" (403, false, "the proof for the mailbox is invalid"),
        /// The account has nothing with this id or path.
        NotFound = "not_found" (404, false, "not found"),
        /// The mailbox does not exist, or its account was deleted.
        MailboxUnknown = "mailbox_unknown" (
            404,
            false,
            "the mailbox does not exist, or its account was deleted",
        ),
        /// The owner of the mailbox deleted it.
        MailboxClosed = "mailbox_closed" (404, false, "the owner of the mailbox deleted it"),
        /// The path exists but does not support the method.
        MethodNotAllowed = "method_not_allowed" (
            405,
            false,
            "the path does not support this method",
        ),
        /// The id is in use with different content.
        Conflict = "conflict" (409, false, "the id is in use with different content"),
        /// The envelope is leased, stored or in another final state.
        TooLate = "too_late" (409, false, "the envelope can no longer be recalled"),
        /// Parts are missing, or their digest differs.
        BlobIncomplete = "blob_incomplete" (409, false, "the blob is incomplete"),
        /// `If-Match` did not match.
        PreconditionFailed = "precondition_failed" (
            412,
            false,
            "the resource was changed in the meantime",
        ),
        /// Over a size limit.
        TooLarge = "too_large" (413, false, "the request exceeds a limit"),
        /// The route does not accept this content type.
        UnsupportedMediaType = "unsupported_media_type" (
            415,
            false,
            "the content type is not supported",
        ),
        /// The requested range lies beyond the end.
        RangeNotSatisfiable = "range_not_satisfiable" (416, false, "the range lies beyond the end"),
        /// The size is not a valid envelope size.
        EnvelopeInvalid = "envelope_invalid" (422, false, "the size is not a valid envelope size"),
        /// The expiry has passed.
        EnvelopeExpired = "envelope_expired" (422, false, "the envelope has expired"),
        /// The number, length or digest of the part is wrong.
        PartInvalid = "part_invalid" (
            422,
            false,
            "the number, length or digest of the part is wrong",
        ),
        /// The URL of the webhook is not allowed.
        WebhookInvalid = "webhook_invalid" (422, false, "the webhook URL is not allowed"),
        /// The mailbox has reached its limit.
        MailboxFull = "mailbox_full" (429, true, "the mailbox is full"),
        /// The operator suspended the account of the mailbox.
        MailboxSuspended = "mailbox_suspended" (
            429,
            true,
            "the operator of the relay suspended the mailbox's account",
        ),
        /// An earlier envelope of the request for the same mailbox was refused for a retryable
        /// reason.
        EarlierEnvelopeRefused = "earlier_envelope_refused" (
            429,
            true,
            "an earlier envelope for this mailbox was refused",
        ),
        /// Too many requests.
        RateLimited = "rate_limited" (429, true, "too many requests"),
        /// The account's quota is exhausted.
        QuotaExceeded = "quota_exceeded" (429, true, "the account's quota is exhausted"),
        /// The mailbox or blob belongs to another relay.
        ForeignRelayUnsupported = "foreign_relay_unsupported" (
            501,
            false,
            "the relay does not support other relays yet",
        ),
        /// The relay is overloaded.
        Overloaded = "overloaded" (503, true, "the relay is busy"),
        /// The relay is starting or shutting down.
        Unavailable = "unavailable" (503, true, "the relay is not ready"),
        /// The relay's disk is full.
        StorageFull = "storage_full" (507, true, "the relay's disk is full"),
        /// Internal error of the relay.
        Internal = "internal" (500, true, "internal error of the relay"),
    } else {
        /// A code that a later version of the protocol added.
        Unknown = "unknown" (500, false, "this version does not know the error code"),
    }
}

/// Problem document (RFC 9457). `type` is absent (`about:blank`); programs read `code`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[error("{code}: {detail}")]
pub struct Problem {
    /// The stable code.
    pub code: ErrorCode,
    /// Short description of the code.
    pub title: String,
    /// HTTP status, as in the response.
    pub status: u16,
    /// Details of this occurrence and what to do about it.
    pub detail: String,
    /// Delay before a retry in milliseconds; the header `Retry-After` has it in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
    /// The relay's time; present with `clock_skew`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub relay_time: Option<Timestamp>,
}

impl Problem {
    /// Creates a problem with its detail.
    #[must_use]
    pub fn new(code: ErrorCode, detail: impl Into<String>) -> Self {
        Self {
            code,
            title: code.title().to_owned(),
            status: code.status(),
            detail: detail.into(),
            retry_after_ms: None,
            relay_time: None,
        }
    }

    /// Sets the delay before a retry.
    #[must_use]
    pub const fn retry_after_ms(mut self, millis: u64) -> Self {
        self.retry_after_ms = Some(millis);
        self
    }

    /// Sets the relay's time.
    #[must_use]
    pub const fn relay_time(mut self, now: Timestamp) -> Self {
        self.relay_time = Some(now);
        self
    }
}

impl From<ErrorCode> for Problem {
    fn from(code: ErrorCode) -> Self {
        Self::new(code, code.title())
    }
}

#[cfg(feature = "openapi")]
impl utoipa::PartialSchema for ErrorCode {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::Schema> {
        let table = Self::ALL
            .iter()
            .fold(String::from(TABLE_HEAD), |table, code| {
                let retryable = if code.is_retryable() { "yes" } else { "no" };
                format!(
                    "{table}| `{code}` | {} | {retryable} | {} |\n",
                    code.status(),
                    code.title()
                )
            });
        utoipa::openapi::ObjectBuilder::new()
            .schema_type(utoipa::openapi::schema::Type::String)
            .enum_values(Some(Self::ALL.iter().map(|code| code.as_str())))
            .description(Some(table))
            .into()
    }
}

#[cfg(feature = "openapi")]
impl utoipa::ToSchema for ErrorCode {}

#[cfg(feature = "openapi")]
const TABLE_HEAD: &str = "Stable error code that programs can rely on.\n\n\
                          | code | status | retryable | meaning |\n|---|---|---|---|\n";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_round_trip() {
        let mut seen = std::collections::BTreeSet::new();
        for &code in ErrorCode::ALL {
            assert!(seen.insert(code.as_str()));
            let json = serde_json::to_string(&code).unwrap();
            assert_eq!(json, format!("\"{code}\""));
            assert_eq!(serde_json::from_str::<ErrorCode>(&json).unwrap(), code);
            assert!((400..600).contains(&code.status()));
        }
    }

    #[test]
    fn unknown_codes_parse_as_unknown() {
        assert_eq!(
            serde_json::from_str::<ErrorCode>("\"not_a_code\"").unwrap(),
            ErrorCode::Unknown
        );
    }
}
