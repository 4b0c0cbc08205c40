//! State of a session while it is current, old or retired.

use super::Sessions;
use crate::handshake::{AD_BYTES, PreviousSession, SessionKeys};
use crate::keys::SessionId;
use crate::primitive::Key;
use crate::ratchet::{Ratchet, Receiver};
use sealpost_proto::Timestamp;
use sealpost_proto::limits::{
    OLD_SESSION_RETENTION, OLD_SESSIONS_MAX, PREVIOUS_SESSIONS_MAX, REPLACED_SESSIONS_MAX,
    RETIRED_SESSIONS_MAX,
};

/// Progress of the current session.
#[derive(Clone)]
pub(super) enum Stage {
    /// This side sent the INIT and has not opened a message from the peer in the session. Every
    /// message carries the prefix.
    Initiated {
        /// The INIT's prefix, created once.
        prefix: Vec<u8>,
    },
    /// The peer sent the INIT, and every message from the peer so far carried the prefix.
    Responded,
    /// Both sides are known to have the session.
    Confirmed,
}

/// The session that seals messages.
#[derive(Clone)]
pub(super) struct CurrentSession {
    pub(super) id: SessionId,
    pub(super) epoch: u64,
    pub(super) started: Timestamp,
    pub(super) ad: [u8; AD_BYTES],
    pub(super) exp: Key,
    /// `H(prefix)` if the peer sent the INIT.
    pub(super) prefix_hash: Option<[u8; 32]>,
    pub(super) stage: Stage,
    pub(super) sealed: u64,
    pub(super) opened: u64,
    pub(super) ratchet: Ratchet,
}

impl CurrentSession {
    pub(super) fn new(
        keys: SessionKeys,
        epoch: u64,
        started: Timestamp,
        ratchet: Ratchet,
        prefix_hash: Option<[u8; 32]>,
        stage: Stage,
    ) -> Self {
        let SessionKeys {
            ad,
            exp,
            session_id: id,
            ..
        } = keys;
        Self {
            id,
            epoch,
            started,
            ad,
            exp,
            prefix_hash,
            stage,
            sealed: 0,
            opened: 0,
            ratchet,
        }
    }

    pub(super) fn previous(&self) -> PreviousSession {
        PreviousSession {
            id: self.id,
            exp: self.exp.clone(),
        }
    }
}

/// A replaced session that still receives.
#[derive(Clone)]
pub(super) struct OldSession {
    pub(super) id: SessionId,
    pub(super) prefix_hash: Option<[u8; 32]>,
    pub(super) ad: [u8; AD_BYTES],
    pub(super) until: Timestamp,
    pub(super) receiver: Receiver,
}

/// Ids of sessions, and `H(prefix)` of INITs, in which no message opens any more.
#[derive(Clone, Default)]
pub(super) struct RetiredSessions {
    pub(super) ids: Vec<SessionId>,
    pub(super) prefixes: Vec<[u8; 32]>,
}

impl RetiredSessions {
    pub(super) fn record(&mut self, id: Option<SessionId>, prefix_hash: Option<[u8; 32]>) {
        self.ids.extend(id);
        self.prefixes.extend(prefix_hash);
        drop_oldest(&mut self.ids, RETIRED_SESSIONS_MAX);
        drop_oldest(&mut self.prefixes, RETIRED_SESSIONS_MAX);
    }
}

fn drop_oldest<T>(list: &mut Vec<T>, max: usize) {
    list.drain(..list.len().saturating_sub(max));
}

/// M, the highest session epoch sent or accepted, and that session's id.
#[derive(Clone, Copy, Default)]
pub(super) struct HighestSession {
    pub(super) epoch: u64,
    pub(super) id: Option<SessionId>,
}

impl HighestSession {
    /// Whether a session that the peer starts wins over this one: its epoch is higher, or equal
    /// with a lower id.
    pub(super) fn yields_to(&self, epoch: u64, id: SessionId) -> bool {
        epoch > self.epoch || (epoch == self.epoch && self.id.is_none_or(|top| id < top))
    }
}

impl Sessions {
    /// Makes `new` the current session. The one before becomes old.
    pub(super) fn replace_current(&mut self, new: CurrentSession, now: Timestamp) {
        self.last_epoch = self.last_epoch.max(new.epoch);
        self.highest_session = HighestSession {
            epoch: new.epoch,
            id: Some(new.id),
        };
        if let Some(before) = self.current.replace(new) {
            self.record_replaced(&before);
            self.retain_as_old(before, now);
        }
        self.expire(now);
    }

    /// Records a replaced session if the peer can have confirmed it although this side has not: the
    /// peer started it, so one message of this side was enough. A session that this side started is
    /// confirmed at the peer only after it is confirmed here.
    fn record_replaced(&mut self, before: &CurrentSession) {
        let is_started_by_peer = matches!(before.stage, Stage::Responded);
        if is_started_by_peer && !self.is_recorded_as_confirmed(before.id) {
            self.replaced.insert(0, before.previous());
            self.replaced.truncate(REPLACED_SESSIONS_MAX);
        }
    }

    fn is_recorded_as_confirmed(&self, id: SessionId) -> bool {
        self.confirmed.iter().any(|confirmed| confirmed.id == id)
    }

    fn retain_as_old(&mut self, before: CurrentSession, now: Timestamp) {
        let receiver = before.ratchet.into_receiver();
        if receiver.is_empty() {
            self.retired.record(Some(before.id), before.prefix_hash);
            return;
        }
        let until = now.plus(OLD_SESSION_RETENTION);
        self.old.push(OldSession {
            id: before.id,
            prefix_hash: before.prefix_hash,
            ad: before.ad,
            until,
            receiver,
        });
    }

    /// Retires old sessions after 24 hours, and those beyond the limit.
    pub(super) fn expire(&mut self, now: Timestamp) {
        let over = self.old.len().saturating_sub(OLD_SESSIONS_MAX);
        let mut retained = Vec::with_capacity(self.old.len());
        for (index, old) in std::mem::take(&mut self.old).into_iter().enumerate() {
            if index < over || old.until <= now {
                self.retired.record(Some(old.id), old.prefix_hash);
            } else {
                retained.push(old);
            }
        }
        self.old = retained;
    }

    /// Records a session that is known to be confirmed, unless it is recorded already.
    pub(super) fn record_confirmed(&mut self, previous: PreviousSession) {
        if self.is_recorded_as_confirmed(previous.id) {
            return;
        }
        self.replaced.retain(|replaced| replaced.id != previous.id);
        self.confirmed.insert(0, previous);
        self.confirmed.truncate(PREVIOUS_SESSIONS_MAX);
    }
}
