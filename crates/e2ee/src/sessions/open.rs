//! Opens messages: finds the session of a message, and decides which INIT wins
//! (docs/e2ee.md#which-init-wins; the rows are those of its table).

use super::outcome::{
    Content, Continuity, NewSession, OpenOutcome, OpenedMessage, RejectReason, RejectedMessage,
    Remedy,
};
use super::rejection::Rejection;
use super::state::{CurrentSession, Stage};
use super::{INIT_MARKER, OpenContext, Sessions};
use crate::card::SignedCard;
use crate::handshake::{Hello, InitPrefix, InitReason, ResponderHandshake, SessionKeys};
use crate::keys::{ConnId, ExporterSecret, Identity, PeerIdentity};
use crate::plaintext::Plaintext;
use crate::prekeys::PrekeySecrets;
use crate::primitive::hash;
use crate::ratchet::Ratchet;
use sealpost_proto::Timestamp;
use sealpost_proto::limits::SESSION_EPOCH_AHEAD_MAX;
use sealpost_proto::time::millis;

/// Decrypted message, without the resulting session state.
pub(super) struct Decrypted {
    pub(super) content: Content,
    pub(super) msg_hash: [u8; 32],
    pub(super) new_session: Option<NewSession>,
    is_newly_confirmed: bool,
}

/// INIT whose handshake was verified.
pub(super) struct VerifiedInit {
    pub(super) keys: SessionKeys,
    pub(super) hello: Hello,
    pub(super) card: Option<SignedCard>,
}

/// Whether a message of the current session carried the prefix of its INIT.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Prefix {
    Present,
    Absent,
}

fn parse_content(record: &[u8]) -> Content {
    Plaintext::parse(record).map_or(Content::Unparseable, Content::Plaintext)
}

impl Sessions {
    /// Opens the inner bytes of an envelope from one of this connection's mailboxes.
    #[must_use]
    pub fn open(&self, context: &OpenContext<'_>, inner: &[u8]) -> OpenOutcome {
        let mut sessions = self.clone();
        sessions.expire(context.now);
        match sessions.open_inner(context, inner) {
            Ok(Decrypted {
                content,
                msg_hash,
                new_session,
                is_newly_confirmed,
            }) => OpenOutcome::Opened(Box::new(OpenedMessage {
                sessions,
                content,
                msg_hash,
                new_session,
                is_newly_confirmed,
            })),
            Err(Rejection {
                reason,
                remedy,
                has_state_change,
                used_bundle,
            }) => {
                let sessions = has_state_change.then_some(sessions);
                OpenOutcome::Rejected(Box::new(RejectedMessage {
                    sessions,
                    reason,
                    remedy,
                    used_bundle,
                }))
            }
        }
    }

    fn open_inner(
        &mut self,
        context: &OpenContext<'_>,
        inner: &[u8],
    ) -> Result<Decrypted, Rejection> {
        let (tag, rest) = inner
            .split_first_chunk()
            .ok_or(Rejection::discard(RejectReason::Malformed))?;
        if *tag == INIT_MARKER {
            self.open_init(context, rest)
        } else {
            self.open_message(*tag, rest)
        }
    }

    fn open_message(&mut self, tag: [u8; 8], msg: &[u8]) -> Result<Decrypted, Rejection> {
        if self
            .current
            .as_ref()
            .is_some_and(|current| current.id.truncated() == tag)
        {
            return self.open_current(msg, Prefix::Absent);
        }
        if let Some(index) = self.old.iter().position(|old| old.id.truncated() == tag) {
            return self.open_old(index, msg);
        }
        if self.retired.ids.iter().any(|id| id.truncated() == tag) {
            return Err(Rejection::in_old(RejectReason::RetiredSession));
        }
        Err(Rejection::new(
            RejectReason::UnknownSession,
            Remedy::InitDesync,
        ))
    }

    fn open_current(&mut self, msg: &[u8], prefix: Prefix) -> Result<Decrypted, Rejection> {
        let Some(current) = &mut self.current else {
            return Err(Rejection::discard(RejectReason::UnknownSession));
        };
        let (ratchet, record) = current
            .ratchet
            .open(&current.ad, msg)
            .map_err(|error| Rejection::in_current(error.into()))?;
        current.ratchet = ratchet;
        current.opened = current.opened.saturating_add(1);
        let is_newly_confirmed = match current.stage {
            Stage::Initiated { .. } => true,
            Stage::Responded => prefix == Prefix::Absent,
            Stage::Confirmed => false,
        };
        if is_newly_confirmed {
            current.stage = Stage::Confirmed;
            let previous = current.previous();
            self.record_confirmed(previous);
        }
        Ok(Decrypted {
            content: parse_content(&record),
            msg_hash: hash(&[msg]),
            new_session: None,
            is_newly_confirmed,
        })
    }

    fn open_old(&mut self, index: usize, msg: &[u8]) -> Result<Decrypted, Rejection> {
        let Some(old) = self.old.get_mut(index) else {
            return Err(Rejection::in_old(RejectReason::RetiredSession));
        };
        let (receiver, record) = old
            .receiver
            .open(&old.ad, msg)
            .map_err(|error| Rejection::in_old(error.into()))?;
        old.receiver = receiver;
        Ok(Decrypted {
            content: parse_content(&record),
            msg_hash: hash(&[msg]),
            new_session: None,
            is_newly_confirmed: false,
        })
    }

    fn open_init(
        &mut self,
        context: &OpenContext<'_>,
        init: &[u8],
    ) -> Result<Decrypted, Rejection> {
        let (prefix, msg) =
            InitPrefix::parse(init).map_err(|_| Rejection::discard(RejectReason::Malformed))?;
        if self.is_too_far_ahead(prefix.session_epoch(), context.now) {
            return Err(Rejection::discard(RejectReason::EpochTooFarAhead));
        }
        let previous_epoch = self.last_epoch;
        self.last_epoch = self.last_epoch.max(prefix.session_epoch());
        self.match_known_init(context, &prefix, msg)
            .map_err(|rejection| {
                let has_new_epoch = self.last_epoch != previous_epoch;
                Rejection {
                    has_state_change: rejection.has_state_change || has_new_epoch,
                    ..rejection
                }
            })
    }

    /// Whether the epoch is more than ten years ahead of both the clock and M.
    pub(super) fn is_too_far_ahead(&self, session_epoch: u64, now: Timestamp) -> bool {
        let latest = now.as_millis().max(self.highest_session.epoch);
        session_epoch > latest.saturating_add(millis(SESSION_EPOCH_AHEAD_MAX))
    }

    /// Opens an INIT in the session that its prefix started, unless that is retired (rows 1 and 2).
    /// An INIT with an unknown prefix starts a session.
    fn match_known_init(
        &mut self,
        context: &OpenContext<'_>,
        prefix: &InitPrefix<'_>,
        msg: &[u8],
    ) -> Result<Decrypted, Rejection> {
        let prefix_hash = prefix.hash();
        if self
            .current
            .as_ref()
            .is_some_and(|current| current.prefix_hash == Some(prefix_hash))
        {
            return self.open_current(msg, Prefix::Present);
        }
        if let Some(index) = self
            .old
            .iter()
            .position(|old| old.prefix_hash == Some(prefix_hash))
        {
            return self.open_old(index, msg);
        }
        if self.retired.prefixes.contains(&prefix_hash) {
            return Err(Rejection::in_old(RejectReason::RetiredSession));
        }
        self.open_new_init(context, prefix, prefix_hash, msg)
    }

    /// Verifies an INIT with an unknown prefix: its bundle must be stored here (rows 4 and 5), and
    /// its handshake must be valid (rows 3 and 6 to 8). If it wins against the highest session, it
    /// replaces the current session (rows 9 to 12).
    fn open_new_init(
        &mut self,
        context: &OpenContext<'_>,
        prefix: &InitPrefix<'_>,
        prefix_hash: [u8; 32],
        msg: &[u8],
    ) -> Result<Decrypted, Rejection> {
        if !prefix.is_addressed_to(
            context.identity.fingerprint(),
            Some(context.peer.fingerprint()),
        ) {
            return Err(Rejection::discard(RejectReason::HandshakeInvalid));
        }
        let Some(secrets) = context
            .bundles
            .iter()
            .find(|secrets| secrets.bundle_id() == prefix.bundle())
        else {
            return Err(self.reject_missing_bundle(prefix, prefix_hash, context.bundles));
        };
        let verified = verify_init(
            prefix,
            context.identity,
            secrets,
            context.peer,
            &context.conn_id,
        )?;
        if !self
            .highest_session
            .yields_to(prefix.session_epoch(), verified.keys.session_id)
        {
            self.retired
                .record(Some(verified.keys.session_id), Some(prefix_hash));
            let remedy = if self.has_unconfirmed_init() {
                Remedy::ResumeDue
            } else {
                Remedy::InitDesync
            };
            return Err(Rejection {
                reason: RejectReason::Superseded,
                remedy,
                has_state_change: true,
                used_bundle: Some(prefix.bundle()),
            });
        }
        self.replace_session(prefix, prefix_hash, secrets, verified, msg, context.now)
    }

    /// Rejects an INIT whose bundle is not stored here (rows 4 and 5). If all stored bundles are
    /// older, this side has lost the secrets of the bundle that it published last. The peer would
    /// use that again until it is replaced.
    fn reject_missing_bundle(
        &mut self,
        prefix: &InitPrefix<'_>,
        prefix_hash: [u8; 32],
        bundles: &[PrekeySecrets],
    ) -> Rejection {
        let is_published = bundles
            .iter()
            .all(|secrets| secrets.bundle_id().epoch < prefix.bundle().epoch);
        let used_bundle = is_published.then(|| prefix.bundle());
        if prefix.session_epoch() >= self.highest_session.epoch {
            return Rejection {
                used_bundle,
                ..Rejection::new(RejectReason::BundleUnknown, Remedy::InitDesync)
            };
        }
        self.retired.record(None, Some(prefix_hash));
        Rejection {
            has_state_change: true,
            used_bundle,
            ..Rejection::new(RejectReason::BundleUnknown, Remedy::ResumeDue)
        }
    }

    /// Replaces the current session with the one of a winning INIT, if the INIT's message opens too
    /// (rows 11 and 12).
    pub(super) fn replace_session(
        &mut self,
        prefix: &InitPrefix<'_>,
        prefix_hash: [u8; 32],
        secrets: &PrekeySecrets,
        verified: VerifiedInit,
        msg: &[u8],
        now: Timestamp,
    ) -> Result<Decrypted, Rejection> {
        let VerifiedInit { keys, hello, card } = verified;
        let ratchet = Ratchet::responder(&keys, secrets.spk());
        let (ratchet, record) = ratchet
            .open(&keys.ad, msg)
            .map_err(|error| Rejection::in_winning_init(error.into()))?;
        let new_session = NewSession {
            session_id: keys.session_id,
            session_epoch: prefix.session_epoch(),
            exp: ExporterSecret::from_bytes(keys.exp.0),
            reason: hello.reason,
            continuity: self.check_continuity(&keys, &hello),
            bundle: prefix.bundle(),
            peer_card: card,
            peer_incarnation: hello.incarnation,
            resume: hello.resume,
        };
        let stage = Stage::Responded;
        let mut current = CurrentSession::new(
            keys,
            prefix.session_epoch(),
            now,
            ratchet,
            Some(prefix_hash),
            stage,
        );
        current.opened = 1;
        self.replace_current(current, now);
        let new_session = Some(new_session);
        Ok(Decrypted {
            content: parse_content(&record),
            msg_hash: hash(&[msg]),
            new_session,
            is_newly_confirmed: false,
        })
    }

    /// Checks which session the sender of an INIT has confirmed. That session is recorded here as
    /// confirmed too: the sender names no earlier one from now on, and knows it when this side
    /// names it.
    fn check_continuity(&mut self, keys: &SessionKeys, hello: &Hello) -> Continuity {
        let current = self.current.as_ref().map(CurrentSession::previous);
        let candidates = self.confirmed.iter().chain(&current).chain(&self.replaced);
        if let Some(proven) = hello.find_proven_session(keys, candidates).cloned() {
            self.record_confirmed(proven);
            return Continuity::Proven;
        }
        let is_pairing = hello.reason == InitReason::Pairing && self.confirmed.is_empty();
        if is_pairing {
            Continuity::NotApplicable
        } else {
            Continuity::Reset
        }
    }
}

/// Verifies the handshake of an INIT: `sealed` and `hello` must open, and the card, if present,
/// must belong to the peer (rows 6 to 8).
fn verify_init(
    prefix: &InitPrefix<'_>,
    identity: &Identity,
    secrets: &PrekeySecrets,
    peer: &PeerIdentity,
    conn_id: &ConnId,
) -> Result<VerifiedInit, Rejection> {
    let invalid = || Rejection::discard(RejectReason::HandshakeInvalid);
    let responder = ResponderHandshake::new(prefix, identity, secrets).ok_or_else(invalid)?;
    let card = if prefix.has_card() {
        Some(responder.open_card().ok_or_else(invalid)?)
    } else {
        None
    };
    if card.as_ref().is_some_and(|card| card.identity() != peer) {
        return Err(Rejection::new(RejectReason::OtherIdentity, Remedy::Suspend));
    }
    let (keys, hello) = responder.finish(peer, conn_id).ok_or_else(invalid)?;
    Ok(VerifiedInit { keys, hello, card })
}
