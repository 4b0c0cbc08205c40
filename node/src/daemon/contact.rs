//! Contact with the home relay: whether it responds, and when it last did.

use sealpost_node_core::model::RelayState;
use sealpost_proto::Timestamp;
use std::time::Duration;

/// Whether the relay responds, and when it last did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RelayHealth {
    pub(crate) state: RelayState,
    /// Why it does not respond, or asks to wait.
    pub(crate) reason: Option<String>,
    pub(crate) last_contact_at: Option<Timestamp>,
    /// How far the relay's clock is ahead of ours.
    pub(crate) clock_offset_ms: i64,
}

/// A clock that is behind an earlier time by more than this was set back, not only corrected.
const CLOCK_SET_BACK: Duration = Duration::from_secs(60);

/// Outcome of the latest requests to the relay.
#[derive(Debug, Default)]
pub(super) struct Contact {
    last_at: Option<Timestamp>,
    /// Why the last request got no response.
    failure: Option<String>,
    /// Why the relay asks to wait, if its last response did.
    wait_reason: Option<String>,
}

impl Contact {
    /// Records a response. Returns true if all pending work is due now, because the relay was
    /// unreachable or because our clock was set back, so that the stored times may be far ahead.
    pub(super) fn record_response(&mut self, now: Timestamp) -> bool {
        let was_unreachable = self.failure.take().is_some() || self.last_at.is_none();
        let was_set_back = self
            .last_at
            .is_some_and(|last_at| now.plus(CLOCK_SET_BACK) < last_at);
        self.wait_reason = None;
        self.last_at = Some(now);
        was_unreachable || was_set_back
    }

    /// Records that the relay responded and asked to wait.
    pub(super) fn record_retry_after(&mut self, now: Timestamp, reason: &str) {
        self.last_at = Some(now);
        self.wait_reason = Some(reason.to_owned());
    }

    /// Records a missing response. Returns whether the reason is new.
    pub(super) fn record_failure(&mut self, reason: &str) -> bool {
        let is_new = self.failure.as_deref() != Some(reason);
        self.failure = Some(reason.to_owned());
        is_new
    }

    pub(super) fn health(&self, clock_offset_ms: i64) -> RelayHealth {
        let state = match (&self.failure, self.last_at) {
            (Some(_), _) => RelayState::Unreachable,
            (None, Some(_)) => RelayState::Connected,
            (None, None) => RelayState::Starting,
        };
        let reason = self.failure.as_ref().or(self.wait_reason.as_ref()).cloned();
        RelayHealth {
            state,
            reason,
            last_contact_at: self.last_at,
            clock_offset_ms,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn relay_that_asks_to_wait_is_connected() {
        let mut contact = Contact::default();
        contact.record_response(Timestamp::from_millis(1));
        contact.record_retry_after(Timestamp::from_millis(2), "too many requests");
        let health = contact.health(0);
        assert_eq!(
            (health.state, health.reason.as_deref()),
            (RelayState::Connected, Some("too many requests"))
        );
        assert_eq!(health.last_contact_at, Some(Timestamp::from_millis(2)));
        assert!(
            !contact.record_response(Timestamp::from_millis(3)),
            "it was reachable, so nothing becomes due"
        );
        assert_eq!(contact.health(0).reason, None);
    }

    #[test]
    fn setting_the_clock_back_makes_waiting_work_due() {
        let at = |seconds: u64| Timestamp::from_millis(seconds * 1_000);
        let mut contact = Contact::default();
        assert!(contact.record_response(at(1_000_000)), "the first contact");
        assert!(!contact.record_response(at(1_000_010)));
        assert!(
            !contact.record_response(at(1_000_000)),
            "a small correction"
        );
        assert!(
            contact.record_response(at(500_000)),
            "the clock was set back"
        );
        assert!(!contact.record_response(at(500_010)));
    }
}
