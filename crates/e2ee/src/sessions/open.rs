//! Opening: which session a message belongs to, and which INIT wins.

use super::state::{Current, Stage};
use super::verdict::{
    Content, Continuity, NewSession, NotOpened, NotOpenedVerdict, Opened, Pairing, Reason, Remedy,
    Verdict,
};
use super::{INIT_NAME, OpenContext, Sessions};
use crate::card::SignedCard;
use crate::handshake::{Agreed, Answering, Hello, Prefix, Previous};
use crate::keys::{ConnId, ExpPairing, Identity, PeerIdentity};
use crate::plaintext::Plaintext;
use crate::prekeys::PrekeySecrets;
use crate::primitive::hash;
use crate::ratchet::Ratchet;
use sealpost_proto::limits::SESSION_EPOCH_AHEAD_MAX;
use sealpost_proto::time::millis;
use sealpost_proto::{InviteId, Timestamp};

/// A message that opened, before it is put beside the state that follows.
struct Step {
    content: Content,
    msg_hash: [u8; 32],
    new_session: Option<NewSession>,
    newly_confirmed: bool,
}

/// A message that did not open, and whether bookkeeping changed all the same.
struct Fault {
    why: NotOpened,
    remedy: Remedy,
    changed: bool,
}

impl Fault {
    const fn new(why: NotOpened, remedy: Remedy) -> Self {
        Self {
            why,
            remedy,
            changed: false,
        }
    }

    const fn discard(why: NotOpened) -> Self {
        Self::new(why, Remedy::Discard)
    }

    /// In the current session.
    const fn in_current(why: NotOpened) -> Self {
        let remedy = match why {
            NotOpened::NoHeaderKey | NotOpened::GapTooLarge => Remedy::InitDesync,
            NotOpened::Consumed { .. } => Remedy::AlertAndInit,
            NotOpened::KeyEvicted => Remedy::ResumeDue,
            _ => Remedy::Discard,
        };
        Self::new(why, remedy)
    }

    /// In a session that has been replaced.
    const fn in_old(why: NotOpened) -> Self {
        Self::new(why, Remedy::ResumeDue)
    }
}

/// An INIT whose handshake opened.
struct Answer {
    agreed: Agreed,
    hello: Hello,
    card: Option<SignedCard>,
}

fn content(record: &[u8]) -> Content {
    Plaintext::parse(record).map_or(Content::Unparseable, Content::Plaintext)
}

impl Sessions {
    /// Opens the inner bytes of an envelope that came to one of this connection's mailboxes. Works on a copy.
    #[must_use]
    pub fn open(&self, context: &OpenContext<'_>, inner: &[u8]) -> Verdict {
        let mut sessions = self.clone();
        sessions.expire(context.now);
        match sessions.step(context, inner) {
            Ok(Step {
                content,
                msg_hash,
                new_session,
                newly_confirmed,
            }) => Verdict::Opened(Box::new(Opened {
                sessions,
                content,
                msg_hash,
                new_session,
                newly_confirmed,
            })),
            Err(Fault {
                why,
                remedy,
                changed,
            }) => {
                let sessions = changed.then_some(sessions);
                Verdict::NotOpened(Box::new(NotOpenedVerdict {
                    sessions,
                    why,
                    remedy,
                }))
            }
        }
    }

    fn step(&mut self, context: &OpenContext<'_>, inner: &[u8]) -> Result<Step, Fault> {
        let (name, rest) = inner
            .split_first_chunk()
            .ok_or(Fault::discard(NotOpened::Malformed))?;
        if *name == INIT_NAME {
            self.open_init(context, rest)
        } else {
            self.open_message(*name, rest)
        }
    }

    fn open_message(&mut self, name: [u8; 8], msg: &[u8]) -> Result<Step, Fault> {
        if self
            .current
            .as_ref()
            .is_some_and(|current| current.id.short() == name)
        {
            return self.open_current(msg, false);
        }
        if let Some(index) = self.old.iter().position(|old| old.id.short() == name) {
            return self.open_old(index, msg);
        }
        if self.retired.ids.iter().any(|id| id.short() == name) {
            return Err(Fault::in_old(NotOpened::RetiredSession));
        }
        Err(Fault::new(NotOpened::UnknownSession, Remedy::InitDesync))
    }

    fn open_current(&mut self, msg: &[u8], with_prefix: bool) -> Result<Step, Fault> {
        let Some(current) = &mut self.current else {
            return Err(Fault::discard(NotOpened::UnknownSession));
        };
        let (ratchet, record) = current
            .ratchet
            .open(&current.ad, msg)
            .map_err(Fault::in_current)?;
        current.ratchet = ratchet;
        current.opened = current.opened.saturating_add(1);
        let newly_confirmed = match current.stage {
            Stage::Offered { .. } => true,
            Stage::Answered => !with_prefix,
            Stage::Confirmed => false,
        };
        if newly_confirmed {
            current.stage = Stage::Confirmed;
            let previous = current.previous();
            self.remember_confirmed(previous);
        }
        Ok(Step {
            content: content(&record),
            msg_hash: hash(&[msg]),
            new_session: None,
            newly_confirmed,
        })
    }

    fn open_old(&mut self, index: usize, msg: &[u8]) -> Result<Step, Fault> {
        let Some(old) = self.old.get_mut(index) else {
            return Err(Fault::in_old(NotOpened::RetiredSession));
        };
        let (receiver, record) = old.receiver.open(&old.ad, msg).map_err(Fault::in_old)?;
        old.receiver = receiver;
        Ok(Step {
            content: content(&record),
            msg_hash: hash(&[msg]),
            new_session: None,
            newly_confirmed: false,
        })
    }

    fn open_init(&mut self, context: &OpenContext<'_>, init: &[u8]) -> Result<Step, Fault> {
        let (prefix, msg) =
            Prefix::parse(init).map_err(|_| Fault::discard(NotOpened::Malformed))?;
        if self.is_too_far_ahead(prefix.session_epoch(), context.now) {
            return Err(Fault::discard(NotOpened::EpochTooFarAhead));
        }
        let seen_before = self.last;
        self.last = self.last.max(prefix.session_epoch());
        self.open_parsed_init(context, &prefix, msg)
            .map_err(|fault| {
                let changed = fault.changed || self.last != seen_before;
                Fault { changed, ..fault }
            })
    }

    /// More than ten years ahead of the clock and of M.
    fn is_too_far_ahead(&self, session_epoch: u64, now: Timestamp) -> bool {
        let latest = now.as_millis().max(self.top.epoch);
        session_epoch > latest.saturating_add(millis(SESSION_EPOCH_AHEAD_MAX))
    }

    /// (1) A known prefix belongs to the session it opened, or opens nothing any more.
    fn open_parsed_init(
        &mut self,
        context: &OpenContext<'_>,
        prefix: &Prefix<'_>,
        msg: &[u8],
    ) -> Result<Step, Fault> {
        let prefix_hash = prefix.hash();
        if self
            .current
            .as_ref()
            .is_some_and(|current| current.prefix_hash == Some(prefix_hash))
        {
            return self.open_current(msg, true);
        }
        if let Some(index) = self
            .old
            .iter()
            .position(|old| old.prefix_hash == Some(prefix_hash))
        {
            return self.open_old(index, msg);
        }
        if self.retired.prefixes.contains(&prefix_hash) {
            return Err(Fault::in_old(NotOpened::RetiredSession));
        }
        self.open_new_init(context, prefix, prefix_hash, msg)
    }

    /// (2) An unknown prefix needs its base.
    fn open_new_init(
        &mut self,
        context: &OpenContext<'_>,
        prefix: &Prefix<'_>,
        prefix_hash: [u8; 32],
        msg: &[u8],
    ) -> Result<Step, Fault> {
        if !prefix.names(context.me.fingerprint(), Some(context.peer.fingerprint())) {
            return Err(Fault::discard(NotOpened::HandshakeInvalid));
        }
        let Some(secrets) = context
            .bases
            .iter()
            .find(|secrets| secrets.base_ref() == prefix.base())
        else {
            return Err(self.without_base(prefix.session_epoch(), prefix_hash));
        };
        let answer = answer(prefix, context.me, secrets, context.peer, &context.conn_id)?;
        if !self
            .top
            .loses_to(prefix.session_epoch(), answer.agreed.session_id)
        {
            self.retired
                .record(Some(answer.agreed.session_id), Some(prefix_hash));
            let remedy = if self.is_offered() {
                Remedy::ResumeDue
            } else {
                Remedy::InitDesync
            };
            return Err(Fault {
                why: NotOpened::LosesToOtherInit,
                remedy,
                changed: true,
            });
        }
        self.accept(prefix, prefix_hash, secrets, answer, msg, context.now)
    }

    fn without_base(&mut self, session_epoch: u64, prefix_hash: [u8; 32]) -> Fault {
        if session_epoch >= self.top.epoch {
            return Fault::new(NotOpened::BaseNotHeld, Remedy::InitDesync);
        }
        self.retired.record(None, Some(prefix_hash));
        Fault {
            why: NotOpened::BaseNotHeld,
            remedy: Remedy::ResumeDue,
            changed: true,
        }
    }

    /// (4) A winning INIT replaces the current session, provided its MSG opens too.
    fn accept(
        &mut self,
        prefix: &Prefix<'_>,
        prefix_hash: [u8; 32],
        secrets: &PrekeySecrets,
        answer: Answer,
        msg: &[u8],
        now: Timestamp,
    ) -> Result<Step, Fault> {
        let Answer {
            agreed,
            hello,
            card,
        } = answer;
        let ratchet = Ratchet::responder(&agreed, secrets.spk());
        let (ratchet, record) = ratchet.open(&agreed.ad, msg).map_err(Fault::discard)?;
        let new_session = NewSession {
            session_id: agreed.session_id,
            session_epoch: prefix.session_epoch(),
            exp: ExpPairing::from_bytes(agreed.exp.0),
            reason: hello.reason,
            continuity: self.continuity(&agreed, &hello),
            base: prefix.base(),
            peer_card: card,
            peer_incarnation: hello.incarnation,
            resume: hello.resume,
        };
        let stage = Stage::Answered;
        let mut current = Current::new(
            agreed,
            prefix.session_epoch(),
            now,
            ratchet,
            Some(prefix_hash),
            stage,
        );
        current.opened = 1;
        self.replace_current(current, now);
        let new_session = Some(new_session);
        Ok(Step {
            content: content(&record),
            msg_hash: hash(&[msg]),
            new_session,
            newly_confirmed: false,
        })
    }

    fn continuity(&self, agreed: &Agreed, hello: &Hello) -> Continuity {
        let current = self.current.as_ref().map(Current::previous);
        let candidates: Vec<&Previous> = self.confirmed.iter().chain(&current).collect();
        if hello.proves(agreed, candidates) {
            return Continuity::Proven;
        }
        let pairs = hello.reason == Reason::Pairing && self.confirmed.is_empty();
        if pairs {
            Continuity::NotApplicable
        } else {
            Continuity::Reset
        }
    }
}

/// (3) `sealed` and `hello` must open, and a card must be the peer's.
fn answer(
    prefix: &Prefix<'_>,
    me: &Identity,
    secrets: &PrekeySecrets,
    peer: &PeerIdentity,
    conn_id: &ConnId,
) -> Result<Answer, Fault> {
    let invalid = || Fault::discard(NotOpened::HandshakeInvalid);
    let answering = Answering::new(prefix, me, secrets).ok_or_else(invalid)?;
    let card = if prefix.has_card() {
        Some(answering.card().ok_or_else(invalid)?)
    } else {
        None
    };
    if card.as_ref().is_some_and(|card| card.identity() != peer) {
        return Err(Fault::new(NotOpened::OtherIdentity, Remedy::Suspend));
    }
    let (agreed, hello) = answering.finish(peer, conn_id).ok_or_else(invalid)?;
    Ok(Answer {
        agreed,
        hello,
        card,
    })
}

/// Opens an INIT that came to an invite's mailbox, from a peer that is not known yet, with the secrets of that
/// invite's bases.
///
/// # Errors
/// [`NotOpened`]: whatever it is, it is discarded and counted, and nothing is answered.
pub fn open_pairing(
    me: &Identity,
    invite_id: &InviteId,
    bases: &[PrekeySecrets],
    inner: &[u8],
    now: Timestamp,
) -> Result<Pairing, NotOpened> {
    let init = inner
        .strip_prefix(&INIT_NAME)
        .ok_or(NotOpened::UnknownSession)?;
    let (prefix, msg) = Prefix::parse(init).map_err(|_| NotOpened::Malformed)?;
    let mut sessions = Sessions::new();
    if sessions.is_too_far_ahead(prefix.session_epoch(), now) {
        return Err(NotOpened::EpochTooFarAhead);
    }
    if !prefix.names(me.fingerprint(), None) {
        return Err(NotOpened::HandshakeInvalid);
    }
    let secrets = bases
        .iter()
        .find(|secrets| secrets.base_ref() == prefix.base())
        .ok_or(NotOpened::BaseNotHeld)?;
    let (answer, peer_card, conn_id) = answer_stranger(&prefix, me, secrets, invite_id)?;
    let prefix_hash = prefix.hash();
    let step = sessions
        .accept(&prefix, prefix_hash, secrets, answer, msg, now)
        .map_err(|fault| fault.why)?;
    let Step {
        content,
        msg_hash,
        new_session,
        ..
    } = step;
    let new_session = new_session.ok_or(NotOpened::HandshakeInvalid)?;
    Ok(Pairing {
        sessions,
        conn_id,
        peer_card,
        new_session,
        content,
        msg_hash,
        prefix_hash,
    })
}

/// At pairing the card says who asks, and that names the connection. Nobody connects with itself.
fn answer_stranger(
    prefix: &Prefix<'_>,
    me: &Identity,
    secrets: &PrekeySecrets,
    invite_id: &InviteId,
) -> Result<(Answer, SignedCard, ConnId), NotOpened> {
    let invalid = NotOpened::HandshakeInvalid;
    let answering = Answering::new(prefix, me, secrets).ok_or(invalid)?;
    let card = answering.card().ok_or(invalid)?;
    if card.identity() == me.public() {
        return Err(invalid);
    }
    let conn_id = ConnId::derive(me.fingerprint(), card.identity().fingerprint(), invite_id);
    let (agreed, hello) = answering.finish(card.identity(), &conn_id).ok_or(invalid)?;
    if hello.reason != Reason::Pairing || !hello.has_no_previous() {
        return Err(invalid);
    }
    Ok((
        Answer {
            agreed,
            hello,
            card: Some(card.clone()),
        },
        card,
        conn_id,
    ))
}
