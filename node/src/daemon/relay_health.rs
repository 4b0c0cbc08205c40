//! Health of the home relay: whether it responds, when it last did, and whether it calls the
//! webhook.

use sealpost_node_core::model::RelayState;
use sealpost_proto::{Timestamp, wire::WebhookState};
use std::time::Duration;

/// Whether the relay responds, and when it last did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RelayHealth {
    pub(crate) state: RelayState,
    /// Why it does not respond, or asks this node to wait.
    pub(crate) reason: Option<String>,
    pub(crate) last_contact_at: Option<Timestamp>,
    /// How far the relay's clock is ahead of ours.
    pub(crate) clock_offset_ms: i64,
    pub(crate) webhook: WebhookHealth,
}

/// Whether the relay calls the webhook.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct WebhookHealth {
    /// State that the relay last reported.
    pub(crate) state: Option<WebhookState>,
    /// Why the last test failed.
    pub(crate) reason: Option<String>,
}

impl WebhookHealth {
    /// Records a state and returns whether it is new.
    fn record_state(&mut self, state: WebhookState) -> bool {
        if state == WebhookState::Active {
            self.reason = None;
        }
        self.state.replace(state) != Some(state)
    }

    /// Records a failed test and returns whether the reason is new.
    fn record_failure(&mut self, reason: &str) -> bool {
        let is_new = self.reason.as_deref() != Some(reason);
        self.reason = Some(reason.to_owned());
        is_new
    }
}

/// A clock that is behind an earlier time by more than this was set back, not only corrected.
const CLOCK_SET_BACK: Duration = Duration::from_secs(60);

/// Failed request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Failure {
    /// There was no response of a relay.
    NoResponse(String),
    /// The relay refused the request.
    Refused(String),
}

impl Failure {
    const fn state(&self) -> RelayState {
        match self {
            Self::NoResponse(_) => RelayState::Unreachable,
            Self::Refused(_) => RelayState::Refused,
        }
    }

    pub(super) fn reason(&self) -> &str {
        match self {
            Self::NoResponse(reason) | Self::Refused(reason) => reason,
        }
    }
}

/// Outcome of the latest requests to the relay.
#[derive(Debug, Default)]
pub(super) struct Reachability {
    last_at: Option<Timestamp>,
    /// Why the last request failed.
    failure: Option<Failure>,
    /// Why the relay asks this node to wait, if its last response did.
    wait_reason: Option<String>,
    webhook: WebhookHealth,
}

impl Reachability {
    /// Records a state of the webhook and returns whether it is new.
    pub(super) fn record_webhook_state(&mut self, state: WebhookState) -> bool {
        self.webhook.record_state(state)
    }

    /// Records a failed test of the webhook and returns whether the reason is new.
    pub(super) fn record_webhook_failure(&mut self, reason: &str) -> bool {
        self.webhook.record_failure(reason)
    }

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

    /// Records that the relay responded and asked this node to wait.
    pub(super) fn record_retry_after(&mut self, now: Timestamp, reason: &str) {
        self.last_at = Some(now);
        self.wait_reason = Some(reason.to_owned());
    }

    /// Records a failed request. Returns whether the failure is new.
    pub(super) fn record_failure(&mut self, failure: Failure) -> bool {
        let is_new = self.failure.as_ref() != Some(&failure);
        self.failure = Some(failure);
        is_new
    }

    pub(super) fn health(&self, clock_offset_ms: i64) -> RelayHealth {
        let state = match (&self.failure, self.last_at) {
            (Some(failure), _) => failure.state(),
            (None, Some(_)) => RelayState::Connected,
            (None, None) => RelayState::Starting,
        };
        let failure = self.failure.as_ref().map(Failure::reason);
        let reason = failure.or(self.wait_reason.as_deref()).map(str::to_owned);
        RelayHealth {
            state,
            reason,
            last_contact_at: self.last_at,
            clock_offset_ms,
            webhook: self.webhook.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn relay_that_asks_to_wait_is_connected() {
        let mut reachability = Reachability::default();
        reachability.record_response(Timestamp::from_millis(1));
        reachability.record_retry_after(Timestamp::from_millis(2), "too many requests");
        let health = reachability.health(0);
        assert_eq!(
            (health.state, health.reason.as_deref()),
            (RelayState::Connected, Some("too many requests"))
        );
        assert_eq!(health.last_contact_at, Some(Timestamp::from_millis(2)));
        assert!(
            !reachability.record_response(Timestamp::from_millis(3)),
            "it was reachable, so nothing becomes due"
        );
        assert_eq!(reachability.health(0).reason, None);
    }

    #[test]
    fn webhook_changes_are_reported_once() {
        let mut reachability = Reachability::default();
        assert!(reachability.record_webhook_state(WebhookState::Off));
        assert!(!reachability.record_webhook_state(WebhookState::Off));
        assert!(reachability.record_webhook_failure("404"));
        assert!(!reachability.record_webhook_failure("404"));
        let health = reachability.health(0).webhook;
        assert_eq!(
            (health.state, health.reason.as_deref()),
            (Some(WebhookState::Off), Some("404"))
        );
        assert!(reachability.record_webhook_state(WebhookState::Active));
        assert_eq!(reachability.health(0).webhook.reason, None);
    }

    #[test]
    fn setting_the_clock_back_makes_waiting_work_due() {
        let at = |seconds: u64| Timestamp::from_millis(seconds * 1_000);
        let mut reachability = Reachability::default();
        assert!(
            reachability.record_response(at(1_000_000)),
            "the first contact"
        );
        assert!(!reachability.record_response(at(1_000_010)));
        assert!(
            !reachability.record_response(at(1_000_000)),
            "a small correction"
        );
        assert!(
            reachability.record_response(at(500_000)),
            "the clock was set back"
        );
        assert!(!reachability.record_response(at(500_010)));
    }
}
