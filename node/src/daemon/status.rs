//! What the daemon knows of its relay at the moment.

use sealpost_node_core::model::RelayState;
use sealpost_proto::Timestamp;
use std::time::Duration;

/// How this node stands with its relay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RelayHealth {
    /// Whether it answers.
    pub state: RelayState,
    /// Why not.
    pub reason: Option<String>,
    /// When it last did.
    pub last_contact_at: Option<Timestamp>,
    /// Its clock minus ours.
    pub clock_offset_ms: i64,
}

/// A clock that is behind its own past by more than this was put back, and not only corrected.
const CLOCK_PUT_BACK: Duration = Duration::from_secs(60);

#[derive(Debug, Default)]
pub(super) struct Contact {
    last_at: Option<Timestamp>,
    lost: Option<String>,
    /// What the relay said when it last asked to wait, and nothing else since.
    waits: Option<String>,
}

impl Contact {
    /// Notes an answer; true when what waits has to be hurried: there was no answer before it, or our clock was put back
    /// since, and what waits may be meant for a time that is far away now.
    pub(super) fn reached(&mut self, now: Timestamp) -> bool {
        let was_lost = self.lost.take().is_some() || self.last_at.is_none();
        let was_put_back = self
            .last_at
            .is_some_and(|last_at| now.plus(CLOCK_PUT_BACK) < last_at);
        self.waits = None;
        self.last_at = Some(now);
        was_lost || was_put_back
    }

    /// Notes that the relay answered, and asked to wait.
    pub(super) fn asked_to_wait(&mut self, now: Timestamp, reason: &str) {
        self.last_at = Some(now);
        self.waits = Some(reason.to_owned());
    }

    /// Notes a silence; true when it is a new one.
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
    fn a_relay_that_asks_to_wait_is_there_and_says_why() {
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
            "it was not lost, so nothing is hurried"
        );
        assert_eq!(contact.health(0).reason, None);
    }
    #[test]
    fn a_clock_that_was_put_back_hurries_what_waits() {
        let at = |seconds: u64| Timestamp::from_millis(seconds * 1_000);
        let mut contact = Contact::default();
        assert!(contact.reached(at(1_000_000)), "nothing is known yet");
        assert!(!contact.reached(at(1_000_010)));
        assert!(!contact.reached(at(1_000_000)), "it was corrected a little");
        assert!(contact.reached(at(500_000)), "it was ahead by days");
        assert!(!contact.reached(at(500_010)));
    }
}
