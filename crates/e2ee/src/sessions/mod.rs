//! The sessions of one connection, loaded, advanced and committed as one value.
//!
//! | state of the current session | event | next state |
//! |---|---|---|
//! | none | [`Sessions::initiate`] | started by this side, unconfirmed: every message carries the prefix |
//! | none | an INIT from the peer is opened | started by the peer, unconfirmed |
//! | started by this side, unconfirmed | a message from the peer is opened in it | confirmed |
//! | started by the peer, unconfirmed | a message without the prefix is opened in it | confirmed |
//! | any | [`Sessions::initiate`], or a winning INIT from the peer | as from none; the previous session becomes old |
//!
//! An old session opens messages for 24 hours, without DH steps. Then it is retired: only its id
//! and its `H(prefix)` are retained.

mod encoding;
mod open;
mod outcome;
mod pairing;
mod rejection;
mod state;

use crate::handshake::{self, InitPrefix, PreviousSession};
pub use crate::handshake::{InitReason, InitiateArgs, InitiateError};
use crate::keys::{ConnId, ExporterSecret, Identity, PeerIdentity, SessionId};
use crate::plaintext::{BodyTooLarge, Plaintext};
use crate::prekeys::{PrekeySecrets, next_epoch};
use crate::ratchet::{self, Ratchet};
pub use encoding::ParseSessionsError;
pub use outcome::{
    Content, Continuity, NewSession, OpenOutcome, OpenedMessage, Pairing, RejectReason,
    RejectedMessage, Remedy,
};
pub use pairing::open_pairing;
use rand_core::CryptoRng;
use sealpost_proto::Timestamp;
use sealpost_proto::limits::{
    SESSION_MESSAGES_MAX, SESSION_ROTATION_HIGHER, SESSION_ROTATION_LOWER,
};
use state::{CurrentSession, HighestSession, OldSession, RetiredSessions, Stage};

/// `0^8`, which precedes an INIT in place of a session id.
const INIT_MARKER: [u8; 8] = [0; 8];

/// All sessions of one connection: the current one, old ones that still receive, the ids of retired
/// ones, and the epochs that decide which INIT wins. `docs/e2ee.md#session-serialisation` specifies
/// the encoding.
///
/// Only one caller may advance the value between load and commit. [`Sessions::seal`] changes it;
/// [`Sessions::open`] returns the next state and leaves it unchanged.
#[derive(Clone, Default)]
pub struct Sessions {
    /// The highest session epoch sent, accepted, or seen in any INIT whose outer layer opened and
    /// whose epoch was not too far ahead.
    last_epoch: u64,
    /// M: the highest session epoch sent or accepted, and that session's id.
    highest_session: HighestSession,
    current: Option<CurrentSession>,
    /// Replaced sessions that still receive, newest last.
    old: Vec<OldSession>,
    /// The latest confirmed sessions, newest first.
    confirmed: Vec<PreviousSession>,
    /// Sessions started by the peer that were replaced before this side confirmed them, newest
    /// first. The peer may have confirmed them, and names the latest one in its next INIT.
    replaced: Vec<PreviousSession>,
    retired: RetiredSessions,
}

impl Sessions {
    /// Creates a state without sessions.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Starts a session with the peer's bundle. The current session, if any, becomes old.
    ///
    /// # Errors
    /// [`InitiateError`]; the state is then unchanged.
    pub fn initiate(
        &mut self,
        args: &InitiateArgs<'_>,
        rng: &mut (impl CryptoRng + ?Sized),
    ) -> Result<Initiated, InitiateError> {
        if args.reason == InitReason::Pairing && args.sealed_card.is_none() {
            return Err(InitiateError::CardMissing);
        }
        let session_epoch = next_epoch(self.last_epoch, args.now);
        let previous = self
            .confirmed
            .first()
            .filter(|_| args.reason != InitReason::Pairing);
        let started = handshake::start_handshake(args, session_epoch, previous, rng)?;
        let keys = started.keys;
        let ratchet =
            Ratchet::initiator(&keys, args.bundle.spk(), rng).ok_or(InitiateError::WeakKey)?;
        let exp = ExporterSecret::from_bytes(keys.exp.0);
        let initiated = Initiated {
            session_id: keys.session_id,
            session_epoch,
            exp,
        };
        let stage = Stage::Initiated {
            prefix: started.prefix,
        };
        self.replace_current(
            CurrentSession::new(keys, session_epoch, args.now, ratchet, None, stage),
            args.now,
        );
        Ok(initiated)
    }

    /// Seals a plaintext in the current session. Returns the inner bytes for
    /// [`crate::envelope::seal_envelope`]. In a session started by this side, the INIT's prefix
    /// precedes every message, byte for byte the same, until a message from the peer has been
    /// opened.
    ///
    /// # Errors
    /// [`SealError`]; the state is then unchanged.
    pub fn seal(
        &mut self,
        plaintext: &Plaintext,
        now: Timestamp,
        rng: &mut (impl CryptoRng + ?Sized),
    ) -> Result<Vec<u8>, SealError> {
        let current = self.current.as_mut().ok_or(SealError::NoSession)?;
        let record = plaintext.encode()?;
        let msg = current.ratchet.seal(&current.ad, &record, rng)?;
        current.sealed = current.sealed.saturating_add(1);
        let inner = match &current.stage {
            Stage::Initiated { prefix } => [&INIT_MARKER[..], prefix, &msg].concat(),
            Stage::Responded | Stage::Confirmed => [&current.id.truncated()[..], &msg].concat(),
        };
        self.expire(now);
        Ok(inner)
    }

    /// Whether the current session should be replaced by INIT(rotate): after 7 days at the side
    /// with the lower fingerprint, after 8 days at the other, or after 10,000 messages of either
    /// side. While the peer has not answered an INIT of this side, another one would gain nothing,
    /// and both sides would seal again everything that has no receipt.
    #[must_use]
    pub fn is_rotation_due(&self, now: Timestamp, has_lower_fingerprint: bool) -> bool {
        let age = if has_lower_fingerprint {
            SESSION_ROTATION_LOWER
        } else {
            SESSION_ROTATION_HIGHER
        };
        !self.has_unconfirmed_init()
            && self.current.as_ref().is_some_and(|current| {
                now.since(current.started) >= age
                    || current.sealed.max(current.opened) >= SESSION_MESSAGES_MAX
            })
    }

    /// Returns the current session's id.
    #[must_use]
    pub fn current_id(&self) -> Option<SessionId> {
        self.current.as_ref().map(|current| current.id)
    }

    /// Returns the current session's epoch.
    #[must_use]
    pub fn current_epoch(&self) -> Option<u64> {
        self.current.as_ref().map(|current| current.epoch)
    }

    /// Returns when the current session was started, by this side's clock. No message of it was
    /// opened earlier, so this is how long `H(MSG)` must be retained.
    #[must_use]
    pub fn current_started(&self) -> Option<Timestamp> {
        self.current.as_ref().map(|current| current.started)
    }

    /// Whether the current session is confirmed, so that messages carry no prefix.
    #[must_use]
    pub fn is_confirmed(&self) -> bool {
        self.current
            .as_ref()
            .is_some_and(|current| matches!(current.stage, Stage::Confirmed))
    }

    /// Whether this side started the current session and has not opened a message from the peer in
    /// it.
    #[must_use]
    pub fn has_unconfirmed_init(&self) -> bool {
        self.current
            .as_ref()
            .is_some_and(|current| matches!(current.stage, Stage::Initiated { .. }))
    }

    /// Whether an INIT from the peer with this `H(prefix)` belongs to this connection: current, old
    /// or retired.
    #[must_use]
    pub fn has_init_prefix(&self, prefix_hash: &[u8; 32]) -> bool {
        let has_prefix = |hash: &Option<[u8; 32]>| hash.as_ref() == Some(prefix_hash);
        self.current
            .as_ref()
            .is_some_and(|current| has_prefix(&current.prefix_hash))
            || self.old.iter().any(|old| has_prefix(&old.prefix_hash))
            || self.retired.prefixes.contains(prefix_hash)
    }
}

/// A session started by this side. The next [`Sessions::seal`] carries its INIT.
pub struct Initiated {
    /// Id of the session.
    pub session_id: SessionId,
    /// Epoch of the session.
    pub session_epoch: u64,
    /// EXP of the session. At pairing it becomes `EXP_pairing` when the peer answers the connection
    /// request; callers do not use that of later sessions.
    pub exp: ExporterSecret,
}

/// Error when a plaintext cannot be sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// There is no session.
    #[error("no session")]
    NoSession,
    /// The peer started the session, and no message from it has been opened in it yet.
    #[error("no message from the peer has been opened in this session yet")]
    NothingReceived,
    /// The body exceeds its limit.
    #[error(transparent)]
    BodyTooLarge(#[from] BodyTooLarge),
    /// The sending chain has used its last message number. The session should have been replaced.
    #[error("sending chain is exhausted")]
    ChainExhausted,
    /// The peer's ratchet key is of low order.
    #[error("a key of the peer is not usable")]
    WeakKey,
}

/// Input for opening besides the state.
pub struct OpenContext<'a> {
    /// This node's identity.
    pub identity: &'a Identity,
    /// The peer's identity.
    pub peer: &'a PeerIdentity,
    /// The connection that the mailbox belongs to.
    pub conn_id: ConnId,
    /// The stored secrets of bundles of the mailbox's scope.
    pub bundles: &'a [PrekeySecrets],
    /// The current time by the node's own clock.
    pub now: Timestamp,
}

impl From<ratchet::SealError> for SealError {
    fn from(error: ratchet::SealError) -> Self {
        match error {
            ratchet::SealError::NothingReceived => Self::NothingReceived,
            ratchet::SealError::ChainExhausted => Self::ChainExhausted,
            ratchet::SealError::WeakKey => Self::WeakKey,
        }
    }
}

/// Computes `H(prefix)` of an INIT, or returns `None` for other inner bytes. In an invite's mailbox
/// it identifies the pending request that an envelope belongs to.
#[must_use]
pub fn prefix_hash(inner: &[u8]) -> Option<[u8; 32]> {
    let init = inner.strip_prefix(&INIT_MARKER)?;
    InitPrefix::parse(init)
        .ok()
        .map(|(prefix, _)| prefix.hash())
}

#[cfg(test)]
mod tests;
