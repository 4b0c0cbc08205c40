//! Sealing: one plaintext becomes one envelope, and the ratchet takes one step.

use super::{Connection, Phase};
use rand_core::CryptoRng;
use sealpost_e2ee::{OuterKey, Plaintext, envelope::seal_envelope, plaintext::Kind};
use sealpost_proto::{MailboxRef, MessageId, SendKey, Timestamp};

/// Something that is on its rendezvous out.
#[derive(Debug, Clone)]
pub struct Outgoing {
    /// What it is.
    pub kind: Kind,
    /// Its id.
    pub message_id: MessageId,
    /// Its number, when it was sealed before; it keeps it.
    pub seq: Option<u64>,
    /// When it was sealed first, if it was; it keeps that too.
    pub sent_at: Option<Timestamp>,
    /// The payload.
    pub body: Vec<u8>,
}

/// One sealed envelope.
pub struct Sealed {
    /// Where it goes.
    pub mailbox: MailboxRef,
    /// The key for its proof.
    pub send_key: SendKey,
    /// The envelope.
    pub envelope: Vec<u8>,
    /// The number it has from now on.
    pub seq: u64,
    /// The time it has from now on.
    pub sent_at: Timestamp,
    /// When its life shall end, where that is not the relay's default: a request's ends with its invite.
    pub expires_at: Option<Timestamp>,
}

/// Why something is not sealed now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SealRefusal {
    /// In this phase that kind does not flow.
    #[error("the connection is not accepted")]
    NotAccepted,
    /// There is no session, or it cannot seal.
    #[error("the session is broken")]
    Broken,
}

impl Connection {
    /// Whether something of that kind may go out in the present phase.
    #[must_use]
    pub fn can_send(&self, kind: Kind) -> bool {
        match self.phase {
            Phase::RequestSent => kind == Kind::CONNECTION_REQUEST,
            Phase::RequestReceived | Phase::Blocked => false,
            Phase::Accepting => kind == Kind::CONNECTION_ACCEPT,
            Phase::Accepted => true,
            Phase::Rejected => kind == Kind::CONNECTION_REJECT,
        }
    }

    /// Seals one plaintext for the peer's mailbox, or for the invite's while we know no other. The caller commits the state
    /// together with the envelope.
    ///
    /// # Errors
    /// [`SealRefusal`]; the state is then as it was.
    pub fn seal(
        &mut self,
        outgoing: &Outgoing,
        now: Timestamp,
        rng: &mut dyn CryptoRng,
    ) -> Result<Sealed, SealRefusal> {
        if !self.can_send(outgoing.kind) {
            return Err(SealRefusal::NotAccepted);
        }
        let (mailbox, send_key, key, expires_at) =
            self.destination().ok_or(SealRefusal::NotAccepted)?;
        let seq = outgoing.seq.unwrap_or(if has_seq(outgoing.kind) {
            self.next_seq
        } else {
            0
        });
        let plaintext = Plaintext {
            kind: outgoing.kind,
            message_id: outgoing.message_id,
            incarnation: self.incarnation,
            seq,
            sent_at: outgoing.sent_at.unwrap_or(now),
            body: outgoing.body.clone(),
        };
        let inner = self
            .sessions
            .seal(&plaintext, now, rng)
            .map_err(|_| SealRefusal::Broken)?;
        let envelope =
            seal_envelope(&key, &mailbox.id, &inner, rng).map_err(|_| SealRefusal::Broken)?;
        if outgoing.seq.is_none() && seq != 0 {
            self.next_seq = seq + 1;
        }
        Ok(Sealed {
            mailbox,
            send_key,
            envelope,
            seq,
            sent_at: plaintext.sent_at,
            expires_at,
        })
    }

    fn destination(&self) -> Option<(MailboxRef, SendKey, OuterKey, Option<Timestamp>)> {
        if let Some(outbound) = &self.outbound {
            let key = OuterKey::for_mailbox(&self.exp_pairing, self.role.outbound());
            return Some((
                outbound.mailbox.clone(),
                outbound.send_key.clone(),
                key,
                None,
            ));
        }
        let rendezvous = self.rendezvous.as_ref()?;
        let key = OuterKey::for_invite(&rendezvous.secret);
        Some((
            rendezvous.mailbox.clone(),
            rendezvous.send_key.clone(),
            key,
            rendezvous.expires_at,
        ))
    }
}

/// Receipts and `resend` are not counted; everything else must be complete.
fn has_seq(kind: Kind) -> bool {
    kind != Kind::RECEIPT && kind != Kind::RESEND
}
