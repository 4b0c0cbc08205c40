//! Opening of envelopes from our mailbox, and what the node has to do about them.

use super::{Connection, Phase, PrekeyPublication};
use rand_core::CryptoRng;
use sealpost_e2ee::{
    Identity, Plaintext,
    envelope::open_envelope,
    payload::{ConnectionAccept, ConnectionReject, Message, Receipt},
    plaintext::Kind,
    sessions::{self, Content, Continuity, OpenContext, OpenOutcome, RejectReason, Remedy},
};
use sealpost_proto::{MessageId, Timestamp};

/// Result of opening an envelope.
pub enum Incoming {
    /// The outer layer cannot be opened: junk, which the node refuses.
    OuterLayerInvalid,
    /// It opened.
    Opened(Box<OpenedEnvelope>),
    /// The outer layer was opened, the message was not.
    Rejected(Box<RejectedEnvelope>),
}

/// Opened envelope.
pub struct OpenedEnvelope {
    /// State to commit.
    pub connection: Connection,
    /// Event for the node.
    pub event: Event,
    /// `H(MSG)`, to be stored for deduplication.
    pub msg_hash: [u8; 32],
    /// Id of the message to send a receipt for, if its kind requires one.
    pub receipt_for: Option<MessageId>,
    /// Whether the peer started a new session, so that envelopes that the relay has not accepted
    /// are sealed again.
    pub has_new_session: bool,
    /// Whether the new session does not prove continuity with the old one, which is reported to
    /// people.
    pub is_reset: bool,
    /// New prekey base to publish, if the peer used our current one.
    pub publication: Option<PrekeyPublication>,
}

/// Envelope that could not be opened.
pub struct RejectedEnvelope {
    /// State to commit, if it changed.
    pub connection: Option<Connection>,
    /// Reason.
    pub reason: RejectReason,
    /// Remedy.
    pub remedy: Remedy,
}

/// Event that an opened message causes.
pub enum Event {
    /// The peer accepted our request.
    Accepted,
    /// The peer rejected our request, with an optional note.
    Rejected(Option<String>),
    /// A message for people.
    Message {
        /// Frame of the message.
        metadata: MessageMetadata,
        /// Content of the message.
        message: Message,
    },
    /// The peer stored or read messages of this node.
    Receipt(Receipt),
    /// A kind that this version does not support; it is stored and confirmed.
    Unsupported {
        /// Frame of the message.
        metadata: MessageMetadata,
        /// Number of the kind.
        kind: Kind,
        /// Payload as received.
        body: Vec<u8>,
    },
    /// A message that has no meaning in this phase or cannot be parsed; it is counted and not
    /// confirmed.
    Ignored,
}

/// Metadata of every message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MessageMetadata {
    /// Message id.
    pub message_id: MessageId,
    /// Sequence number of the peer.
    pub seq: u64,
    /// When the peer first sealed it, by the peer's clock.
    pub sent_at: Timestamp,
}

impl Connection {
    /// Opens an envelope from our mailbox of this connection. Does not change the connection; the
    /// result contains the state to commit.
    #[must_use]
    pub fn receive(
        &self,
        me: &Identity,
        envelope: &[u8],
        now: Timestamp,
        rng: &mut dyn CryptoRng,
    ) -> Incoming {
        let Some(mailbox) = &self.own_mailbox else {
            return Incoming::OuterLayerInvalid;
        };
        match open_envelope(&self.inbound_key(), &mailbox.id, envelope) {
            Ok(inner) => self.receive_inner(me, &inner, now, rng),
            Err(_) => Incoming::OuterLayerInvalid,
        }
    }

    /// Opens the inner bytes of an envelope whose outer layer the caller has opened: a repeated
    /// request in an invite's mailbox.
    #[must_use]
    pub fn receive_inner(
        &self,
        me: &Identity,
        inner: &[u8],
        now: Timestamp,
        rng: &mut dyn CryptoRng,
    ) -> Incoming {
        let context = OpenContext {
            me,
            peer: &self.peer,
            conn_id: self.conn_id,
            bases: &self.bases,
            now,
        };
        match self.sessions.open(&context, inner) {
            OpenOutcome::Opened(opened) => {
                Incoming::Opened(Box::new(self.apply_opened(me, *opened, now, rng)))
            }
            OpenOutcome::Rejected(verdict) => Incoming::Rejected(Box::new(RejectedEnvelope {
                connection: verdict.sessions.map(|sessions| Self {
                    sessions,
                    ..self.clone()
                }),
                reason: verdict.reason,
                remedy: verdict.remedy,
            })),
        }
    }

    fn apply_opened(
        &self,
        me: &Identity,
        opened: sessions::OpenedMessage,
        now: Timestamp,
        rng: &mut dyn CryptoRng,
    ) -> OpenedEnvelope {
        let mut next = Self {
            sessions: opened.sessions,
            ..self.clone()
        };
        let (has_new_session, is_reset) = match &opened.new_session {
            Some(new) => (true, new.continuity == Continuity::Reset),
            None => (false, false),
        };
        if let Some(new) = &opened.new_session {
            next.peer_incarnation = Some(new.peer_incarnation);
            next.used_bases.push(new.base);
        }
        if opened.is_newly_confirmed {
            next.drop_used_bases(opened.new_session.as_ref().map(|new| new.base));
        }
        let publication = if has_new_session {
            next.renew_prekeys(me, now, rng)
        } else {
            None
        };
        let (event, receipt) = match opened.content {
            Content::Plaintext(plaintext) => next.apply_plaintext(plaintext),
            Content::Unparseable => (Event::Ignored, None),
        };
        OpenedEnvelope {
            connection: next,
            event,
            msg_hash: opened.msg_hash,
            receipt_for: receipt,
            has_new_session,
            is_reset,
            publication,
        }
    }

    /// Deletes the secrets of used bases after a session was confirmed. `current` is the base of a
    /// session that this message opened, which is not confirmed yet.
    fn drop_used_bases(&mut self, current: Option<sealpost_e2ee::prekeys::BaseId>) {
        let obsolete: Vec<_> = self
            .used_bases
            .iter()
            .copied()
            .filter(|used| Some(*used) != current)
            .collect();
        self.bases
            .retain(|base| !obsolete.contains(&base.base_id()));
        self.used_bases.retain(|used| Some(*used) == current);
    }

    /// Applies a plaintext in the current phase; returns its event and the id to confirm.
    fn apply_plaintext(&mut self, plaintext: Plaintext) -> (Event, Option<MessageId>) {
        let confirmed = Some(plaintext.message_id);
        match self.phase {
            Phase::RequestSent => self.apply_response(&plaintext),
            Phase::Accepting => {
                let event = self.apply_while_accepting(plaintext);
                let receipt = confirmed.filter(|_| event.requires_receipt());
                (event, receipt)
            }
            Phase::Accepted => {
                let event = event_of(plaintext);
                let receipt = confirmed.filter(|_| event.requires_receipt());
                (event, receipt)
            }
            Phase::RequestReceived | Phase::Rejected | Phase::Blocked => (Event::Ignored, None),
        }
    }

    fn apply_response(&mut self, plaintext: &Plaintext) -> (Event, Option<MessageId>) {
        if plaintext.kind == Kind::CONNECTION_ACCEPT
            && let Ok(accept) = ConnectionAccept::parse(&plaintext.body)
        {
            self.peer_mailbox = Some(accept.capability);
            self.invite_mailbox = None;
            self.phase = Phase::Accepted;
            return (Event::Accepted, Some(plaintext.message_id));
        }
        if plaintext.kind == Kind::CONNECTION_REJECT
            && let Ok(reject) = ConnectionReject::parse(&plaintext.body)
        {
            self.phase = Phase::Rejected;
            return (Event::Rejected(reject.note), None);
        }
        (Event::Ignored, None)
    }

    /// Handles a plaintext while our accept is unconfirmed. Anything but a repeated request shows
    /// that the peer received it.
    fn apply_while_accepting(&mut self, plaintext: Plaintext) -> Event {
        if plaintext.kind == Kind::CONNECTION_REQUEST {
            return Event::Ignored;
        }
        self.accept_id = None;
        self.phase = Phase::Accepted;
        event_of(plaintext)
    }
}

impl Event {
    const fn requires_receipt(&self) -> bool {
        match self {
            Self::Accepted | Self::Message { .. } | Self::Unsupported { .. } => true,
            Self::Rejected(_) | Self::Receipt(_) | Self::Ignored => false,
        }
    }
}

fn event_of(plaintext: Plaintext) -> Event {
    let frame = MessageMetadata {
        message_id: plaintext.message_id,
        seq: plaintext.seq,
        sent_at: plaintext.sent_at,
    };
    match plaintext.kind {
        Kind::MESSAGE => match Message::parse(&plaintext.body) {
            Ok(message) => Event::Message { metadata: frame, message },
            Err(_) => Event::Ignored,
        },
        Kind::RECEIPT => Receipt::parse(&plaintext.body).map_or(Event::Ignored, Event::Receipt),
        kind => Event::Unsupported {
            metadata: frame,
            kind,
            body: plaintext.body,
        },
    }
}
