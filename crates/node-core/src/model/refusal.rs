//! Decisions to refuse a request.

use super::word::words;
use std::borrow::Cow;

words! {
    /// Why a request is refused. Programs rely on the word; the local API adds the HTTP status.
    RefusalCode {
        /// Nothing has this id.
        NotFound = "not_found",
        /// Several connections have this name.
        AmbiguousName = "ambiguous_name",
        /// All files of the message together are over the limit.
        FilesTooLarge = "files_too_large",
        /// The connection is not accepted, or not any more.
        NotAccepted = "not_accepted",
        /// The invite's time is over.
        InviteExpired = "invite_expired",
        /// The relay holds other keys than the invite names.
        InviteUntrusted = "invite_untrusted",
        /// The resource is in a state that does not allow it.
        Conflict = "conflict",
    }
}

/// A decision to refuse a request, for the one who made it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{detail}")]
pub struct Refusal {
    /// The reason for programs.
    pub code: RefusalCode,
    /// What exactly, for people; never secret.
    pub detail: Cow<'static, str>,
}

impl Refusal {
    /// Refuses with a code and an explanation.
    pub fn new(code: RefusalCode, detail: impl Into<Cow<'static, str>>) -> Self {
        Self {
            code,
            detail: detail.into(),
        }
    }
}
