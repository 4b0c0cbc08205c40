//! Sealing of plaintexts into envelopes; each advances the ratchet by one step.

use super::{Connection, Phase};
use rand_core::CryptoRng;
use sealpost_e2ee::{
    Incarnation, OuterKey, Plaintext, envelope::seal_envelope, payload::Resend, plaintext::Kind,
};
use sealpost_proto::{MailboxRef, MessageId, SendKey, Timestamp};

/// Plaintext to seal.
#[derive(Debug, Clone)]
pub struct Outgoing {
    /// Kind of the plaintext.
    pub kind: Kind,
    /// Id of the message.
    pub message_id: MessageId,
    /// What the first sealing determined, if it was sealed before; it stays the same.
    pub first_sealing: Option<FirstSealing>,
    /// Encoded payload.
    pub body: Vec<u8>,
}

/// Parts of a plaintext that its first sealing determines. Sealing again keeps them, so that the
/// plaintext stays the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FirstSealing {
    /// Incarnation of this node at that time.
    pub incarnation: Incarnation,
    /// Sequence number in that incarnation.
    pub seq: u64,
    /// When it was.
    pub sent_at: Timestamp,
}

/// Envelope that is ready to be submitted.
pub struct SealedEnvelope {
    /// Mailbox that the envelope is for.
    pub mailbox: MailboxRef,
    /// Key with which the proof is computed.
    pub send_key: SendKey,
    /// Bytes of the envelope.
    pub envelope: Vec<u8>,
    /// Values to store for sealing again.
    pub first_sealing: FirstSealing,
    /// Requested expiry, unless the relay's default applies: a request expires with its invite.
    pub expires_at: Option<Timestamp>,
}

/// Error returned by [`Connection::seal`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SealRefusal {
    /// The phase does not allow this kind.
    #[error("the connection is not accepted")]
    NotAccepted,
    /// There is no session that can seal.
    #[error("the session is broken")]
    Broken,
}

impl Connection {
    /// Whether the current phase allows sending this kind.
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

    /// Seals one plaintext for the peer's mailbox, or for the invite's until the peer's is known.
    /// The caller commits the state together with the envelope.
    ///
    /// # Errors
    /// [`SealRefusal`]; the state is then unchanged.
    pub fn seal(
        &mut self,
        outgoing: &Outgoing,
        now: Timestamp,
        rng: &mut dyn CryptoRng,
    ) -> Result<SealedEnvelope, SealRefusal> {
        if !self.can_send(outgoing.kind) {
            return Err(SealRefusal::NotAccepted);
        }
        let (mailbox, send_key, key, expires_at) =
            self.destination().ok_or(SealRefusal::NotAccepted)?;
        let first_sealing = outgoing.first_sealing.unwrap_or(FirstSealing {
            incarnation: self.incarnation,
            seq: if has_seq(outgoing.kind) {
                self.next_seq
            } else {
                0
            },
            sent_at: now,
        });
        let plaintext = Plaintext {
            kind: outgoing.kind,
            message_id: outgoing.message_id,
            incarnation: first_sealing.incarnation,
            seq: first_sealing.seq,
            sent_at: first_sealing.sent_at,
            body: self.encode_body(outgoing),
        };
        let inner = self
            .sessions
            .seal(&plaintext, now, rng)
            .map_err(|_| SealRefusal::Broken)?;
        let envelope =
            seal_envelope(&key, &mailbox.id, &inner, rng).map_err(|_| SealRefusal::Broken)?;
        if outgoing.first_sealing.is_none() && first_sealing.seq != 0 {
            self.next_seq += 1;
        }
        Ok(SealedEnvelope {
            mailbox,
            send_key,
            envelope,
            first_sealing,
            expires_at,
        })
    }

    /// Returns the body to seal. A request to send again states what has arrived until now.
    fn encode_body(&self, outgoing: &Outgoing) -> Vec<u8> {
        match (outgoing.kind, Resend::parse(&outgoing.body)) {
            (Kind::RESEND, Ok(mut request)) => {
                self.refresh_request(&mut request);
                request.encode()
            }
            _ => outgoing.body.clone(),
        }
    }

    fn destination(&self) -> Option<(MailboxRef, SendKey, OuterKey, Option<Timestamp>)> {
        if let Some(peer) = &self.peer_mailbox {
            let key = OuterKey::for_mailbox(&self.exp_pairing, self.role.outbound());
            return Some((peer.mailbox.clone(), peer.send_key.clone(), key, None));
        }
        let invite = self.invite_mailbox.as_ref()?;
        let key = OuterKey::for_invite(&invite.secret);
        Some((
            invite.mailbox.clone(),
            invite.send_key.clone(),
            key,
            invite.expires_at,
        ))
    }
}

/// Whether plaintexts of this kind are numbered: all except receipts and `resend`.
fn has_seq(kind: Kind) -> bool {
    kind != Kind::RECEIPT && kind != Kind::RESEND
}
