//! Rejection of a message, with the remedy that its reason requires
//! (docs/e2ee.md#what-does-not-open).

use super::outcome::{RejectReason, Remedy};
use crate::prekeys::BundleId;

/// Rejection of a message.
pub(super) struct Rejection {
    pub(super) reason: RejectReason,
    pub(super) remedy: Remedy,
    /// Whether the session state changed and must be saved although the message did not open.
    pub(super) has_state_change: bool,
    /// Bundle that the rejected INIT used up.
    pub(super) used_bundle: Option<BundleId>,
}

impl Rejection {
    pub(super) const fn new(reason: RejectReason, remedy: Remedy) -> Self {
        Self {
            reason,
            remedy,
            has_state_change: false,
            used_bundle: None,
        }
    }

    pub(super) const fn discard(reason: RejectReason) -> Self {
        Self::new(reason, Remedy::Discard)
    }

    /// Creates a rejection by the current session. Only a holder of its header keys can cause a
    /// refused header, an invalid body or the use of a consumed key: the peer was rolled back or
    /// cloned, and the session cannot recover by itself. For a consumed key the caller first looks
    /// up `H(MSG)`, and discards a plain replay; see [`RejectReason::Consumed`].
    pub(super) const fn in_current(reason: RejectReason) -> Self {
        let remedy = match reason {
            RejectReason::NoHeaderKey | RejectReason::GapTooLarge => Remedy::InitDesync,
            RejectReason::HeaderRefused
            | RejectReason::BodyInvalid
            | RejectReason::Consumed { .. } => Remedy::AlertAndInit,
            RejectReason::KeyEvicted => Remedy::ResumeDue,
            RejectReason::Malformed
            | RejectReason::UnknownSession
            | RejectReason::RetiredSession
            | RejectReason::BundleUnknown
            | RejectReason::HandshakeInvalid
            | RejectReason::OtherIdentity
            | RejectReason::Superseded
            | RejectReason::EpochTooFarAhead => Remedy::Discard,
        };
        Self::new(reason, remedy)
    }

    /// Creates a rejection of an INIT that wins but whose message does not open (row 11). A gap
    /// does not close by itself while the peer repeats the INIT, so this side starts a session.
    pub(super) const fn in_winning_init(reason: RejectReason) -> Self {
        let remedy = match reason {
            RejectReason::GapTooLarge => Remedy::InitDesync,
            _ => Remedy::Discard,
        };
        Self::new(reason, remedy)
    }

    /// Creates a rejection by an old or retired session.
    pub(super) const fn in_old(reason: RejectReason) -> Self {
        Self::new(reason, Remedy::ResumeDue)
    }
}
