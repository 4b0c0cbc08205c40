//! The errors of the wire: one stable code each, its HTTP status, and whether trying again can help. Sent as RFC 9457
//! problem documents (`application/problem+json`).

use crate::time::Timestamp;
use serde::{Deserialize, Serialize};
use std::fmt;

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $text:literal, $status:literal, $retry:literal, $title:literal;)*) => {
        /// What went wrong, as a word that programs can rely on.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
        pub enum ErrorCode {
            $($(#[$doc])* #[serde(rename = $text)] $name,)*
            /// A code of a later version of the protocol.
            #[serde(other, rename = "unknown")]
            Unknown,
        }

        impl ErrorCode {
            /// Every code that this version can send.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// The code as it stands on the wire.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                    Self::Unknown => "unknown",
                }
            }

            /// The HTTP status that goes with the code.
            #[must_use]
            pub const fn status(self) -> u16 {
                match self {
                    $(Self::$name => $status,)*
                    Self::Unknown => 500,
                }
            }

            /// Whether the same request may succeed later without being changed.
            #[must_use]
            pub const fn is_retryable(self) -> bool {
                match self {
                    $(Self::$name => $retry,)*
                    Self::Unknown => false,
                }
            }

            /// One sentence for people.
            #[must_use]
            pub const fn title(self) -> &'static str {
                match self {
                    $(Self::$name => $title,)*
                    Self::Unknown => "an error that this version does not know",
                }
            }
        }
    };
}

codes! {
    /// The body, a parameter or a header does not parse.
    Malformed = "malformed", 400, false, "the request does not parse";
    /// No signature where one is needed.
    SignatureMissing = "signature_missing", 401, false, "the request is not signed";
    /// The signature does not fit the request or the key.
    SignatureInvalid = "signature_invalid", 401, false, "the signature is wrong";
    /// The session ended or its key was replaced: sign in and repeat once.
    SessionInvalid = "session_invalid", 401, false, "the session has ended: sign in again";
    /// The signature's time is too far from the relay's clock.
    ClockSkew = "clock_skew", 401, false, "the clocks differ by more than five minutes";
    /// A nonce came twice.
    NonceUsed = "nonce_used", 401, false, "this request was made before";
    /// No account has this key.
    AccountUnknown = "account_unknown", 401, false, "the relay does not know this account";
    /// The operator suspended the account.
    AccountSuspended = "account_suspended", 403, false, "the operator of the relay suspended this account";
    /// The relay takes no new accounts.
    RegistrationClosed = "registration_closed", 403, false, "the relay takes no new accounts";
    /// A registration token is needed, or this one is not good.
    RegistrationTokenInvalid = "registration_token_invalid", 403, false, "the registration token is missing or wrong";
    /// Admin API only: the token is missing or wrong.
    AdminTokenInvalid = "admin_token_invalid", 401, false, "the admin token is missing or wrong";
    /// Admin API only: asked by another name than this machine's, or from a page of another site.
    HostForbidden = "host_forbidden", 403, false, "the admin API answers only to this machine by its own name";
    /// The proof does not fit the mailbox's keys.
    ProofInvalid = "proof_invalid", 403, false, "the proof for the mailbox is wrong";
    /// Nothing of the account's has this id or path.
    NotFound = "not_found", 404, false, "there is nothing here";
    /// No such mailbox, or it was closed.
    MailboxUnknown = "mailbox_unknown", 404, false, "there is no such mailbox, or it was closed";
    /// The path exists, the method does not.
    MethodNotAllowed = "method_not_allowed", 405, false, "this method does not exist here";
    /// The same id with another content.
    Conflict = "conflict", 409, false, "the id is in use with another content";
    /// The envelope is leased, stored or ended.
    TooLate = "too_late", 409, false, "it is too late for that";
    /// Parts are missing, or the digest over them differs.
    BlobIncomplete = "blob_incomplete", 409, false, "the blob is not complete";
    /// `If-Match` did not match.
    PreconditionFailed = "precondition_failed", 412, false, "it was changed meanwhile";
    /// Over a size limit.
    TooLarge = "too_large", 413, false, "the request is over a limit";
    /// Not the content type the route takes.
    UnsupportedMediaType = "unsupported_media_type", 415, false, "the content type is not the one expected here";
    /// A stretch that lies beyond the end.
    RangeNotSatisfiable = "range_not_satisfiable", 416, false, "the range lies beyond the end";
    /// Bytes that cannot be an envelope: not a legal size.
    EnvelopeInvalid = "envelope_invalid", 422, false, "these bytes cannot be an envelope";
    /// The expiry has passed.
    EnvelopeExpired = "envelope_expired", 422, false, "the envelope has expired";
    /// A part with the wrong number, length or digest.
    PartInvalid = "part_invalid", 422, false, "the part does not fit its blob";
    /// The webhook's address may not be called, or it did not answer the challenge.
    WebhookInvalid = "webhook_invalid", 422, false, "the webhook did not answer the challenge";
    /// The mailbox holds all it can.
    MailboxFull = "mailbox_full", 429, true, "the mailbox is full";
    /// The operator suspended the account of the mailbox.
    MailboxSuspended = "mailbox_suspended", 429, true, "the operator of the relay suspended the mailbox's account";
    /// An earlier item of the request for the same mailbox was refused for a passing reason.
    AfterRefused = "after_refused", 429, true, "an earlier envelope for this mailbox was refused";
    /// Too many requests.
    RateLimited = "rate_limited", 429, true, "too many requests";
    /// The account's storage is used up.
    QuotaExceeded = "quota_exceeded", 429, true, "the account's quota is used up";
    /// A mailbox or blob of another relay.
    ForeignRelayUnsupported = "foreign_relay_unsupported", 501, false, "the relay does not reach other relays yet";
    /// Too much at once.
    Overloaded = "overloaded", 503, true, "the relay is busy";
    /// Stopping or starting.
    Unavailable = "unavailable", 503, true, "the relay is not ready";
    /// The disk is full.
    StorageFull = "storage_full", 507, true, "the relay's disk is full";
    /// Our own fault.
    Internal = "internal", 500, true, "the relay failed";
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A problem document (RFC 9457). `type` is absent (`about:blank`); `code` is what programs read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[error("{code}: {detail}")]
pub struct Problem {
    /// The stable code.
    pub code: ErrorCode,
    /// The code's sentence.
    pub title: String,
    /// The HTTP status, again.
    pub status: u16,
    /// What exactly, and what to do.
    pub detail: String,
    /// When to try again, as in the header `Retry-After`, but in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
    /// The relay's clock, with `clock_skew`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub relay_time: Option<Timestamp>,
}

impl Problem {
    /// A problem with its detail.
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

    /// The same, with the time after which another try makes sense.
    #[must_use]
    pub const fn retry_after_ms(mut self, millis: u64) -> Self {
        self.retry_after_ms = Some(millis);
        self
    }

    /// The same, with the relay's clock.
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
                let again = if code.is_retryable() { "yes" } else { "no" };
                format!(
                    "{table}| `{code}` | {} | {again} | {} |\n",
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
const TABLE_HEAD: &str = "What went wrong, as a word that programs can rely on.\n\n\
                          | code | status | the same again may succeed later | meaning |\n|---|---|---|---|\n";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_distinct_and_read_back() {
        let mut seen = std::collections::BTreeSet::new();
        for &code in ErrorCode::ALL {
            assert!(seen.insert(code.as_str()));
            let json = serde_json::to_string(&code).unwrap();
            assert_eq!(json, format!("\"{code}\""));
            assert_eq!(serde_json::from_str::<ErrorCode>(&json).unwrap(), code);
            assert!((400..600).contains(&code.status()));
        }
        assert_eq!(
            serde_json::from_str::<ErrorCode>("\"of_tomorrow\"").unwrap(),
            ErrorCode::Unknown
        );
    }
}
