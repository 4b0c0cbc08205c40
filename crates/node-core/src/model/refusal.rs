//! Refusals of requests to the node.

use sealpost_proto::string_enum;
use std::borrow::Cow;

string_enum! {
    /// Stable code of a [`Refusal`]. The local API adds the HTTP status.
    pub enum RefusalCode {
        /// No resource has this id.
        NotFound = "not_found",
        /// Several connections have this name.
        AmbiguousName = "ambiguous_name",
        /// The total size of the files exceeds the limit.
        FilesTooLarge = "files_too_large",
        /// The connection was not accepted, or no longer is.
        NotAccepted = "not_accepted",
        /// The invite has expired.
        InviteExpired = "invite_expired",
        /// The keys at the relay do not match the fingerprint in the invite.
        InviteUntrusted = "invite_untrusted",
        /// The state of the resource does not allow the request.
        Conflict = "conflict",
    }
}

/// Decision to refuse a request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{detail}")]
pub struct Refusal {
    /// Reason, for programs.
    pub code: RefusalCode,
    /// Description for people; contains no secrets.
    pub detail: Cow<'static, str>,
    /// What to do now, if it is more exact than the general advice for the code.
    pub next: Option<Cow<'static, str>>,
}

impl Refusal {
    /// Creates a refusal from its code and a description for people.
    pub fn new(code: RefusalCode, detail: impl Into<Cow<'static, str>>) -> Self {
        Self {
            code,
            detail: detail.into(),
            next: None,
        }
    }

    /// Adds what to do now.
    #[must_use]
    pub fn with_next(mut self, next: impl Into<Cow<'static, str>>) -> Self {
        self.next = Some(next.into());
        self
    }
}
