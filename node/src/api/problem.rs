//! Error codes of the local API, each with its HTTP status and what to do now. They are sent as
//! RFC 9457 problem documents and listed in `docs/local-api.md#errors`.

use crate::fault::Fault;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use sealpost_node_core::model::RefusalCode;
use sealpost_proto::string_enum;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;

/// Media type of a problem document.
pub const PROBLEM_JSON: &str = "application/problem+json";

string_enum! {
    /// Stable error code that programs can rely on.
    pub enum ProblemCode(
        /// Returns the HTTP status of the code.
        status: StatusCode,
        /// Returns a short description for people.
        title: &'static str,
        /// Returns what to do now, unless the problem says something more exact.
        next: &'static str,
    ) {
        /// The token is missing or wrong.
        Unauthorized = "unauthorized" (
            StatusCode::UNAUTHORIZED,
            "the token is missing or wrong",
            "run the command on this machine as the user of the daemon, or pass the token",
        ),
        /// `Host` or `Origin` is not this listener.
        ForbiddenHost = "forbidden_host" (
            StatusCode::FORBIDDEN,
            "the request was meant for another host",
            "use the loopback address that `sealpost status` shows",
        ),
        /// The body, a parameter or a header cannot be parsed.
        Malformed = "malformed" (
            StatusCode::BAD_REQUEST,
            "the request cannot be parsed",
            "correct the request; docs/local-api.md describes it",
        ),
        /// No resource has this id.
        NotFound = "not_found" (
            StatusCode::NOT_FOUND,
            "no resource has this id",
            "list the resources (`sealpost connections`, `invites`, `inbox --all` or `files`) and \
             use an id from the list",
        ),
        /// The position in the event stream is from before a restore of the node.
        EventsGone = "events_gone" (
            StatusCode::GONE,
            "the position is from an event stream that has ended",
            "read the resources again, then continue from the new position",
        ),
        /// The path exists, but not with this method.
        MethodNotAllowed = "method_not_allowed" (
            StatusCode::METHOD_NOT_ALLOWED,
            "the path does not have this method",
            "use one of the methods in the `Allow` header of the response",
        ),
        /// Several connections have this name.
        AmbiguousName = "ambiguous_name" (
            StatusCode::CONFLICT,
            "several connections have this name",
            "use the id that `sealpost connections` shows",
        ),
        /// The message has only white space and no file.
        TextEmpty = "text_empty" (
            StatusCode::UNPROCESSABLE_ENTITY,
            "the message is empty",
            "write a text or attach a file",
        ),
        /// The text is over 64 KiB.
        TextTooLong = "text_too_long" (
            StatusCode::UNPROCESSABLE_ENTITY,
            "the text is too long",
            "shorten it, or send it as a file",
        ),
        /// The message has over 5 files.
        TooManyFiles = "too_many_files" (
            StatusCode::UNPROCESSABLE_ENTITY,
            "too many files",
            "send them in several messages",
        ),
        /// A file is over 100 MB.
        FileTooLarge = "file_too_large" (
            StatusCode::UNPROCESSABLE_ENTITY,
            "the file is too large",
            "split it, or compress it",
        ),
        /// The files of the message are too large in total.
        FilesTooLarge = "files_too_large" (
            StatusCode::UNPROCESSABLE_ENTITY,
            "the files are too large in total",
            "send them in several messages",
        ),
        /// The name of a file cannot be sent.
        FileNameInvalid = "file_name_invalid" (
            StatusCode::UNPROCESSABLE_ENTITY,
            "the name of the file cannot be sent",
            "rename the file and send it again",
        ),
        /// The file changed or disappeared while it was read.
        FileChanged = "file_changed" (
            StatusCode::CONFLICT,
            "the file changed while it was read",
            "send it again when no program writes to it",
        ),
        /// The message has over 256 recipients.
        TooManyRecipients = "too_many_recipients" (
            StatusCode::UNPROCESSABLE_ENTITY,
            "too many recipients",
            "send it to fewer at a time",
        ),
        /// The connection was not accepted, or no longer is.
        NotAccepted = "not_accepted" (
            StatusCode::CONFLICT,
            "the connection is not accepted",
            "check the status of the connection: sealpost connections",
        ),
        /// The text is no invite, or its relay no longer knows the invite.
        InviteInvalid = "invite_invalid" (
            StatusCode::UNPROCESSABLE_ENTITY,
            "the invite is not valid",
            "ask for a new invite",
        ),
        /// The invite has expired.
        InviteExpired = "invite_expired" (
            StatusCode::UNPROCESSABLE_ENTITY,
            "the invite has expired",
            "ask for a new invite",
        ),
        /// The invite was used before.
        InviteUsed = "invite_used" (
            StatusCode::UNPROCESSABLE_ENTITY,
            "the invite was used before",
            "ask for a new invite",
        ),
        /// This node issued the invite.
        InviteOwn = "invite_own" (
            StatusCode::UNPROCESSABLE_ENTITY,
            "this node issued the invite",
            "send it to your partner, who connects with it",
        ),
        /// The relay of the invite does not respond.
        InviteUnreachable = "invite_unreachable" (
            StatusCode::SERVICE_UNAVAILABLE,
            "the relay of the invite does not respond",
            "try again when the relay is reachable; the invite stays valid",
        ),
        /// The keys at the relay do not match the fingerprint in the invite.
        InviteUntrusted = "invite_untrusted" (
            StatusCode::UNPROCESSABLE_ENTITY,
            "the keys do not match the invite",
            "stop here: tell your partner, and ask for a new invite over another channel",
        ),
        /// The safety numbers of the two sides differ.
        SafetyNumberDiffers = "safety_number_differs" (
            StatusCode::CONFLICT,
            "the safety numbers differ",
            "check the digits; if they differ, somebody may be intercepting: talk to your partner \
             before you go on",
        ),
        /// The resource is in a state that does not allow the request, or another request used the
        /// same client id.
        Conflict = "conflict" (
            StatusCode::CONFLICT,
            "the resource is in a state that does not allow this",
            "check its state first",
        ),
        /// The disk is full.
        DiskFull = "disk_full" (
            StatusCode::INSUFFICIENT_STORAGE,
            "the disk is full",
            "free some space, then try again",
        ),
        /// The node is starting, stopping or overloaded.
        Unavailable = "unavailable" (
            StatusCode::SERVICE_UNAVAILABLE,
            "the node is not ready",
            "try again in a moment",
        ),
        /// A bug of the node, or a failing disk.
        Internal = "internal" (
            StatusCode::INTERNAL_SERVER_ERROR,
            "the node failed",
            "read the node's log",
        ),
    } else {
        /// A code that a later version of the node added.
        Unknown = "unknown" (
            StatusCode::INTERNAL_SERVER_ERROR,
            "this version does not know the error code",
            "upgrade this program to the version of the node",
        ),
    }
}

/// Problem document (RFC 9457). `type` is absent (`about:blank`); programs read `code`, people read
/// `detail` and `next`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{detail}")]
pub struct Problem {
    /// The stable code.
    pub code: ProblemCode,
    /// Short description of the code.
    pub title: Cow<'static, str>,
    /// HTTP status, as in the response.
    pub status: u16,
    /// Details of this occurrence; contains no secrets.
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

/// Faults are mapped to HTTP only here.
impl From<Fault> for Problem {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Refused(refusal) => {
                let problem = Self::new(refusal.code.into(), refusal.detail);
                match refusal.next {
                    Some(next) => problem.next(next),
                    None => problem,
                }
            }
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
    fn codes_are_distinct_and_round_trip() {
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
    fn problems_are_problem_documents() {
        let problem =
            Problem::new(ProblemCode::DiskFull, "2 MB are needed").next("delete something");
        let response = problem.clone().into_response();
        assert_eq!(response.status(), StatusCode::INSUFFICIENT_STORAGE);
        assert_eq!(response.headers()[header::CONTENT_TYPE], PROBLEM_JSON);
        let json = serde_json::to_value(&problem).unwrap();
        assert_eq!(json["next"], "delete something");
        assert_eq!(serde_json::from_value::<Problem>(json).unwrap(), problem);
    }

    #[test]
    fn advice_of_a_refusal_replaces_the_general_one() {
        let refused = |next: &'static str| {
            Problem::from(Fault::refused_with_next(
                RefusalCode::Conflict,
                "in use",
                next,
            ))
        };
        assert_eq!(refused("stop it").next, "stop it");
        let general = Problem::from(Fault::refused(RefusalCode::Conflict, "in use"));
        assert_eq!(general.next, ProblemCode::Conflict.next());
    }
}
