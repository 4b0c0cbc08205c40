//! What the daemon knows of its relay at the moment.

use crate::api::model::RelayState;
use sealpost_proto::Timestamp;

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

#[derive(Debug, Default)]
pub(super) struct Contact {
    last_at: Option<Timestamp>,
    lost: Option<String>,
}

impl Contact {
    /// Notes an answer; true when there was none before it.
    pub(super) fn reached(&mut self, now: Timestamp) -> bool {
        let was_lost = self.lost.take().is_some() || self.last_at.is_none();
        self.last_at = Some(now);
        was_lost
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
        RelayHealth { state, reason: self.lost.clone(), last_contact_at: self.last_at, clock_offset_ms }
    }
}
