//! The current state of the contact with the relay.

use sealpost_node_core::model::RelayState;
use sealpost_proto::Timestamp;
use std::time::Duration;

/// Whether the relay responds, and since when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RelayHealth {
    pub state: RelayState,
    /// Why it does not respond, or asks to wait.
    pub reason: Option<String>,
    pub last_contact_at: Option<Timestamp>,
    /// The relay's clock minus ours.
    pub clock_offset_ms: i64,
}

/// A clock that is behind an earlier time by more than this was set back, not only corrected.
const CLOCK_SET_BACK: Duration = Duration::from_secs(60);

#[derive(Debug, Default)]
pub(super) struct Contact {
    last_at: Option<Timestamp>,
    lost: Option<String>,
    /// The relay's reason to wait, if that was its last response.
    waits: Option<String>,
}

impl Contact {
    /// Records a response. Returns true when everything that waits is due now: the relay was
    /// unreachable, or our clock was set back and the stored times may be far ahead.
    pub(super) fn reached(&mut self, now: Timestamp) -> bool {
        let was_lost = self.lost.take().is_some() || self.last_at.is_none();
        let was_set_back = self
            .last_at
            .is_some_and(|last_at| now.plus(CLOCK_SET_BACK) < last_at);
        self.waits = None;
        self.last_at = Some(now);
        was_lost || was_set_back
    }

    /// Records that the relay responded and asked to wait.
    pub(super) fn asked_to_wait(&mut self, now: Timestamp, reason: &str) {
        self.last_at = Some(now);
        self.waits = Some(reason.to_owned());
    }

    /// Records a missing response. Returns whether the reason is new.
    pub(super) fn lost(&mut self, reason: &str) -> bool {
        let is_new = self.lost.as_deref() != Some(reason);
        self.lost = Some(reason.to_owned());
        is_new
    }

    pub(super) fn health(&self, clock_offset_ms: i64) -> RelayHealth {
        let state = match (&self.lost, self.last_at) {
            (Some(_), _) => RelayState::Unreachable,
            (None, Some(_)) => RelayState::Connected,
            (None, None) => RelayState::Starting,
        };
        let reason = self.lost.as_ref().or(self.waits.as_ref()).cloned();
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
    fn a_relay_that_asks_to_wait_is_connected() {
        let mut contact = Contact::default();
        contact.reached(Timestamp::from_millis(1));
        contact.asked_to_wait(Timestamp::from_millis(2), "too many requests");
        let health = contact.health(0);
        assert_eq!(
            (health.state, health.reason.as_deref()),
            (RelayState::Connected, Some("too many requests"))
        );
        assert_eq!(health.last_contact_at, Some(Timestamp::from_millis(2)));
        assert!(
            !contact.reached(Timestamp::from_millis(3)),
            "it was not lost, so nothing becomes due"
        );
        assert_eq!(contact.health(0).reason, None);
    }
    #[test]
    fn setting_the_clock_back_makes_waiting_work_due() {
        let at = |seconds: u64| Timestamp::from_millis(seconds * 1_000);
        let mut contact = Contact::default();
        assert!(contact.reached(at(1_000_000)), "nothing is known yet");
        assert!(!contact.reached(at(1_000_010)));
        assert!(!contact.reached(at(1_000_000)), "it was corrected a little");
        assert!(contact.reached(at(500_000)), "it was ahead by days");
        assert!(!contact.reached(at(500_010)));
    }
}
