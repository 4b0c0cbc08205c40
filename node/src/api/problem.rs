//! The errors of the local API: a stable code each, with its HTTP status and what to do now, sent as
//! RFC 9457 problem documents. They are listed in `docs/local-api.md#errors`.

use crate::fault::Fault;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use sealpost_node_core::model::RefusalCode;
use serde::{Deserialize, Serialize};
use std::{borrow::Cow, fmt};

/// The media type of a problem document.
pub const PROBLEM_JSON: &str = "application/problem+json";

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $text:literal, $status:ident, $title:literal, $next:literal;)*) => {
        /// Error code that programs rely on.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
        pub enum ProblemCode {
            $($(#[$doc])* #[serde(rename = $text)] $name,)*
            /// A code of a later version of the node.
            #[serde(other, rename = "unknown")]
            Unknown,
        }

        impl ProblemCode {
            /// Every code that this version can send.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// Returns the code as in JSON.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                    Self::Unknown => "unknown",
                }
            }

            /// Returns the HTTP status of the code.
            #[must_use]
            pub const fn status(self) -> StatusCode {
                match self {
                    $(Self::$name => StatusCode::$status,)*
                    Self::Unknown => StatusCode::INTERNAL_SERVER_ERROR,
                }
            }

            /// Returns a short description for people.
            #[must_use]
            pub const fn title(self) -> &'static str {
                match self {
                    $(Self::$name => $title,)*
                    Self::Unknown => "an error that this version does not know",
                }
            }

            /// Returns what to do now, unless the problem says something more exact.
            #[must_use]
            pub const fn next(self) -> &'static str {
                match self {
                    $(Self::$name => $next,)*
                    Self::Unknown => "upgrade this program to the version of the node",
                }
            }
        }
    };
}

codes! {
    /// No token, or a wrong one.
    Unauthorized = "unauthorized", UNAUTHORIZED, "the token is missing or wrong",
        "run the command on this machine as the user of the daemon, or pass the token";
    /// `Host` or `Origin` is not this listener.
    ForbiddenHost = "forbidden_host", FORBIDDEN, "the request was meant for another host",
        "use the loopback address that `sealpost status` shows";
    /// The body, a parameter or a header does not parse.
    Malformed = "malformed", BAD_REQUEST, "the request does not parse", "compare it with docs/local-api.md";
    /// Nothing has this id.
    NotFound = "not_found", NOT_FOUND, "there is nothing with this id", "list the resources (`sealpost connections`, `sealpost inbox --all`) and use an id from the list";
    /// Several connections have this name.
    AmbiguousName = "ambiguous_name", CONFLICT, "several connections have this name",
        "use the id that `sealpost connections` shows";
    /// Nothing but white space, and no file.
    TextEmpty = "text_empty", UNPROCESSABLE_ENTITY, "the message is empty", "write a text or attach a file";
    /// Over 64 KiB.
    TextTooLong = "text_too_long", UNPROCESSABLE_ENTITY, "the text is too long",
        "shorten it, or send it as a file";
    /// Over 5 files.
    TooManyFiles = "too_many_files", UNPROCESSABLE_ENTITY, "too many files", "send them in several messages";
    /// One file over 100 MB.
    FileTooLarge = "file_too_large", UNPROCESSABLE_ENTITY, "the file is too large", "split it, or compress it";
    /// All files of the message together.
    FilesTooLarge = "files_too_large", UNPROCESSABLE_ENTITY, "the files are too large in total",
        "send them in several messages";
    /// The name of a file cannot be sent.
    FileNameInvalid = "file_name_invalid", UNPROCESSABLE_ENTITY, "the name of the file cannot be sent",
        "rename the file and send it again";
    /// The file was written to, or vanished, while it was read.
    FileChanged = "file_changed", CONFLICT, "the file changed while it was read",
        "send it again when nothing writes to it";
    /// Over 256 recipients.
    TooManyRecipients = "too_many_recipients", UNPROCESSABLE_ENTITY, "too many recipients",
        "send it to fewer at a time";
    /// The connection is not accepted, or no longer.
    NotAccepted = "not_accepted", CONFLICT, "the connection is not accepted",
        "accept it first with `sealpost connections accept`, or wait for your partner";
    /// Not an invite, or one that its relay no longer knows.
    InviteInvalid = "invite_invalid", UNPROCESSABLE_ENTITY, "the invite is not valid", "ask for a new invite";
    /// Its time is over.
    InviteExpired = "invite_expired", UNPROCESSABLE_ENTITY, "the invite has expired", "ask for a new invite";
    /// Somebody used it.
    InviteUsed = "invite_used", UNPROCESSABLE_ENTITY, "the invite was used before", "ask for a new invite";
    /// One of this node's own.
    InviteOwn = "invite_own", UNPROCESSABLE_ENTITY, "the invite is this node's own",
        "send it to your partner, who connects with it";
    /// Its relay does not answer.
    InviteUnreachable = "invite_unreachable", SERVICE_UNAVAILABLE, "the relay of the invite does not respond",
        "try again when the relay is reachable; the invite stays valid";
    /// What the relay holds does not fit the fingerprint in the invite.
    InviteUntrusted = "invite_untrusted", UNPROCESSABLE_ENTITY, "the keys do not match the invite",
        "stop here: tell your partner, and ask for a new invite over another channel";
    /// The digits are not the same on both sides.
    SafetyNumberDiffers = "safety_number_differs", CONFLICT, "the safety numbers differ",
        "somebody may be intercepting: talk to your partner before you go on";
    /// The resource is in another state, or the same client id came with another request.
    Conflict = "conflict", CONFLICT, "the resource is in a state that does not allow this", "check its state and try again";
    /// The disk is full.
    DiskFull = "disk_full", INSUFFICIENT_STORAGE, "the disk is full", "free some space, then try again";
    /// Starting, stopping or overloaded.
    Unavailable = "unavailable", SERVICE_UNAVAILABLE, "the node is not ready", "try again in a moment";
    /// A bug of the node, or a failing disk.
    Internal = "internal", INTERNAL_SERVER_ERROR, "the node failed", "read the node's log";
}

impl fmt::Display for ProblemCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A problem document (RFC 9457). `type` is absent (`about:blank`); `code` is what programs read, `detail` and `next`
/// what people read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{detail}")]
pub struct Problem {
    /// The stable code.
    pub code: ProblemCode,
    /// The code's sentence.
    pub title: Cow<'static, str>,
    /// The HTTP status, again.
    pub status: u16,
    /// What exactly; nothing secret.
    pub detail: Cow<'static, str>,
    /// What to do now.
    pub next: Cow<'static, str>,
}

impl Problem {
    /// Creates a problem with the code's own advice.
    #[must_use]
    pub fn new(code: ProblemCode, detail: impl Into<Cow<'static, str>>) -> Self {
        Self {
            code,
            title: code.title().into(),
            status: code.status().as_u16(),
            detail: detail.into(),
            next: code.next().into(),
        }
    }

    /// Replaces the code's advice with more exact advice.
    #[must_use]
    pub fn next(mut self, next: impl Into<Cow<'static, str>>) -> Self {
        self.next = next.into();
        self
    }
}

impl From<RefusalCode> for ProblemCode {
    fn from(code: RefusalCode) -> Self {
        match code {
            RefusalCode::NotFound => Self::NotFound,
            RefusalCode::AmbiguousName => Self::AmbiguousName,
            RefusalCode::FilesTooLarge => Self::FilesTooLarge,
            RefusalCode::NotAccepted => Self::NotAccepted,
            RefusalCode::InviteExpired => Self::InviteExpired,
            RefusalCode::InviteUntrusted => Self::InviteUntrusted,
            RefusalCode::Conflict => Self::Conflict,
        }
    }
}

/// Maps faults to problem documents: the only place where this happens.
impl From<Fault> for Problem {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Refused(refusal) => Self::new(refusal.code.into(), refusal.detail),
            Fault::DiskFull => ProblemCode::DiskFull.into(),
            Fault::Busy => ProblemCode::Unavailable.into(),
            Fault::Damaged(damaged) => Self::new(ProblemCode::Internal, damaged.to_string()),
            Fault::Failed { reason } => {
                tracing::error!(reason, "a request failed");
                ProblemCode::Internal.into()
            }
        }
    }
}

impl From<ProblemCode> for Problem {
    fn from(code: ProblemCode) -> Self {
        Self::new(code, code.title())
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = (self.code.status(), axum::Json(self)).into_response();
        response
            .headers_mut()
            .insert(header::CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_distinct_and_read_back() {
        let mut seen = std::collections::BTreeSet::new();
        for &code in ProblemCode::ALL {
            assert!(seen.insert(code.as_str()));
            let json = serde_json::to_string(&code).unwrap();
            assert_eq!(json, format!("\"{code}\""));
            assert_eq!(serde_json::from_str::<ProblemCode>(&json).unwrap(), code);
            assert!(!code.next().is_empty());
        }
        assert_eq!(
            serde_json::from_str::<ProblemCode>("\"of_tomorrow\"").unwrap(),
            ProblemCode::Unknown
        );
    }

    #[test]
    fn a_problem_is_a_problem_document() {
        let problem =
            Problem::new(ProblemCode::DiskFull, "2 MB are needed").next("delete something");
        let response = problem.clone().into_response();
        assert_eq!(response.status(), StatusCode::INSUFFICIENT_STORAGE);
        assert_eq!(response.headers()[header::CONTENT_TYPE], PROBLEM_JSON);
        let json = serde_json::to_value(&problem).unwrap();
        assert_eq!(json["next"], "delete something");
        assert_eq!(serde_json::from_value::<Problem>(json).unwrap(), problem);
    }
}
