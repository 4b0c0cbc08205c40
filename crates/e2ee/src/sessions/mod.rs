//! The ratchet state of one connection, as one value that is loaded, stepped and committed as a whole.
//!
//! | state of the current session | event | next state |
//! |---|---|---|
//! | none | [`Sessions::initiate`] | ours, unconfirmed: every message repeats the stored prefix |
//! | none | an INIT of the peer opens | the peer's, unconfirmed |
//! | ours, unconfirmed | any message of the peer in it opens | confirmed |
//! | the peer's, unconfirmed | a message of it without prefix opens | confirmed |
//! | any | [`Sessions::initiate`], or a winning INIT of the peer | as from none; the one before is old |
//!
//! An old session receives for 24 hours without DH steps, then only its names are kept.

mod encoding;
mod open;
mod outcome;
mod state;

use crate::handshake::{self, InitPrefix, PreviousSession};
pub use crate::handshake::{InitReason, InitiateArgs, InitiateError};
use crate::keys::{ConnId, ExpPairing, Identity, PeerIdentity, SessionId};
use crate::plaintext::{BodyTooLarge, Plaintext};
use crate::prekeys::{PrekeySecrets, next_epoch};
use crate::ratchet::{self, Ratchet};
pub use encoding::ParseSessionsError;
pub use open::open_pairing;
pub use outcome::{
    Content, Continuity, NewSession, OpenOutcome, OpenedMessage, Pairing, RejectReason,
    RejectedMessage, Remedy,
};
use rand_core::CryptoRng;
use sealpost_proto::Timestamp;
use sealpost_proto::limits::{
    SESSION_MESSAGES_MAX, SESSION_ROTATION_HIGHER, SESSION_ROTATION_LOWER,
};
use state::{CurrentSession, HighestSession, OldSession, RetiredSessions, Stage};

/// `0^8`: what stands before an INIT in place of a session's name.
const INIT_NAME: [u8; 8] = [0; 8];

/// All sessions of one connection: the current one, old ones that still receive, the names of those before, and the
/// counts that decide which INIT wins. Its encoding is fixed in `docs/e2ee.md#session-serialisation`.
///
/// Nobody else may step it between load and commit. [`Sessions::seal`] changes it, [`Sessions::open`] returns the next
/// state and leaves it as it is.
#[derive(Clone, Default)]
pub struct Sessions {
    /// The highest session epoch sent, accepted, or seen in any INIT whose outer layer opened.
    last: u64,
    /// M: the highest session epoch sent or accepted, and that session's name.
    highest: HighestSession,
    current: Option<CurrentSession>,
    /// Newest last.
    old: Vec<OldSession>,
    /// The latest confirmed sessions, newest first.
    confirmed: Vec<PreviousSession>,
    retired: RetiredSessions,
}

/// A session of ours that was started. The next [`Sessions::seal`] carries its INIT.
pub struct Initiated {
    /// Its name.
    pub session_id: SessionId,
    /// Its epoch.
    pub session_epoch: u64,
    /// Its EXP: `EXP_pairing` once the peer answers the connection request it carries.
    pub exp: ExpPairing,
}

/// Why nothing can be sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// There is no session yet, or none any more.
    #[error("no session")]
    NoSession,
    /// The body is over its limit.
    #[error(transparent)]
    BodyTooLarge(#[from] BodyTooLarge),
    /// The chain has no numbers left; a new session is overdue.
    #[error("sending chain is exhausted")]
    ChainExhausted,
    /// The peer's ratchet key is of low order.
    #[error("a key of the peer is not usable")]
    WeakKey,
}

/// What opening needs besides the state.
pub struct OpenContext<'a> {
    /// Our identity.
    pub me: &'a Identity,
    /// The peer's.
    pub peer: &'a PeerIdentity,
    /// The connection.
    pub conn_id: ConnId,
    /// Secrets of the bases of the mailbox's scope that are still held.
    pub bases: &'a [PrekeySecrets],
    /// The time, by our own clock.
    pub now: Timestamp,
}

impl From<ratchet::SealError> for SealError {
    fn from(error: ratchet::SealError) -> Self {
        match error {
            ratchet::SealError::NothingOpened => Self::NoSession,
            ratchet::SealError::ChainExhausted => Self::ChainExhausted,
            ratchet::SealError::WeakKey => Self::WeakKey,
        }
    }
}

impl Sessions {
    /// No session yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Starts a session with the peer's base. The current session, if any, becomes an old one.
    ///
    /// # Errors
    /// [`InitiateError`]; the state is then as it was.
    pub fn initiate(
        &mut self,
        args: &InitiateArgs<'_>,
        rng: &mut (impl CryptoRng + ?Sized),
    ) -> Result<Initiated, InitiateError> {
        if args.reason == InitReason::Pairing && args.sealed_card.is_none() {
            return Err(InitiateError::CardMissing);
        }
        let session_epoch = next_epoch(self.last, args.now);
        let previous = self
            .confirmed
            .first()
            .filter(|_| args.reason != InitReason::Pairing);
        let started = handshake::initiate(args, session_epoch, previous, rng)?;
        let keys = started.keys;
        let ratchet =
            Ratchet::initiator(&keys, args.base.spk(), rng).ok_or(InitiateError::WeakKey)?;
        let exp = ExpPairing::from_bytes(keys.exp.0);
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

    /// Seals one plaintext in the current session into `inner` bytes for [`crate::envelope::seal_envelope`]. Until a
    /// message of the peer opens in a session of ours, the INIT's prefix goes in front, the same bytes every time.
    ///
    /// # Errors
    /// [`SealError`]; the state is then as it was.
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
            Stage::Initiated { prefix } => [&INIT_NAME[..], prefix, &msg].concat(),
            Stage::Accepted | Stage::Confirmed => [&current.id.truncated()[..], &msg].concat(),
        };
        self.expire(now);
        Ok(inner)
    }

    /// Whether the current session should be replaced by INIT(rotate): 7 days old when ours is the lower fingerprint,
    /// 8 days when it is the higher, or 10,000 messages by either side.
    #[must_use]
    pub fn rotation_due(&self, now: Timestamp, lower_fingerprint: bool) -> bool {
        let age = if lower_fingerprint {
            SESSION_ROTATION_LOWER
        } else {
            SESSION_ROTATION_HIGHER
        };
        self.current.as_ref().is_some_and(|current| {
            now.since(current.started) >= age
                || current.sealed.max(current.opened) >= SESSION_MESSAGES_MAX
        })
    }

    /// The current session's name.
    #[must_use]
    pub fn current_id(&self) -> Option<SessionId> {
        self.current.as_ref().map(|current| current.id)
    }

    /// The current session's epoch.
    #[must_use]
    pub fn current_epoch(&self) -> Option<u64> {
        self.current.as_ref().map(|current| current.epoch)
    }

    /// Whether the current session is confirmed: from then on, messages go without prefix.
    #[must_use]
    pub fn is_confirmed(&self) -> bool {
        self.current
            .as_ref()
            .is_some_and(|current| matches!(current.stage, Stage::Confirmed))
    }

    /// Whether the current session is ours and no message of the peer has opened in it.
    #[must_use]
    pub fn has_unconfirmed_init(&self) -> bool {
        self.current
            .as_ref()
            .is_some_and(|current| matches!(current.stage, Stage::Initiated { .. }))
    }

    /// Whether an INIT of the peer with this `H(prefix)` is one of this connection's: current, old or retired.
    #[must_use]
    pub fn has_init_prefix(&self, prefix_hash: &[u8; 32]) -> bool {
        let theirs = |hash: &Option<[u8; 32]>| hash.as_ref() == Some(prefix_hash);
        self.current
            .as_ref()
            .is_some_and(|current| theirs(&current.prefix_hash))
            || self.old.iter().any(|old| theirs(&old.prefix_hash))
            || self.retired.prefixes.contains(prefix_hash)
    }
}

/// `H(prefix)` of an INIT; `None` when the inner bytes are no INIT. For an invite's mailbox, where it says to which
/// waiting request an envelope belongs.
#[must_use]
pub fn prefix_hash(inner: &[u8]) -> Option<[u8; 32]> {
    let init = inner.strip_prefix(&INIT_NAME)?;
    InitPrefix::parse(init)
        .ok()
        .map(|(prefix, _)| prefix.hash())
}

#[cfg(test)]
mod tests;
