//! Opens envelopes from our mailbox and determines what the node has to do about them.

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
    /// The outer layer cannot be opened, so the node refuses the envelope.
    OuterLayerInvalid,
    /// The envelope contained an authentic message of the peer.
    Opened(Box<OpenedEnvelope>),
    /// The outer layer was opened, but the message inside was rejected.
    Rejected(Box<RejectedEnvelope>),
}

/// Envelope whose message was opened and applied.
pub struct OpenedEnvelope {
    /// Connection to commit.
    pub connection: Connection,
    /// Event for the node.
    pub event: Event,
    /// `H(MSG)`, to be stored for deduplication.
    pub msg_hash: [u8; 32],
    /// Id of the message to send a receipt for, if its kind requires one.
    pub receipt_for: Option<MessageId>,
    /// Whether the peer started a new session, in which case the caller must seal the envelopes
    /// again that the relay has not accepted.
    pub has_new_session: bool,
    /// Whether the new session does not prove continuity with the old one. The node reports this to
    /// its users.
    pub is_reset: bool,
    /// New prekey bundle to publish, if the peer used our current one.
    pub publication: Option<PrekeyPublication>,
}

/// Envelope whose message was rejected.
pub struct RejectedEnvelope {
    /// Connection to commit, if the session state changed.
    pub connection: Option<Connection>,
    /// Why the message was rejected.
    pub reason: RejectReason,
    /// What the node must do to receive messages again.
    pub remedy: Remedy,
}

/// Event that an opened message causes.
pub enum Event {
    /// The peer accepted our request.
    Accepted,
    /// The peer rejected our request, with an optional note.
    Rejected(Option<String>),
    /// A chat message.
    Message {
        /// Metadata of the message.
        metadata: MessageMetadata,
        /// Content of the message.
        message: Message,
    },
    /// The peer stored or read messages of this node, or downloaded their files.
    Receipt(Receipt),
    /// A kind that this version does not support; the node stores it and sends a receipt.
    Unsupported {
        /// Metadata of the message.
        metadata: MessageMetadata,
        /// Number of the kind.
        kind: Kind,
        /// Payload as received.
        body: Vec<u8>,
    },
    /// A message that has no meaning in this phase or cannot be parsed; the node counts it and
    /// sends no receipt.
    Ignored,
}

/// Metadata that every message carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MessageMetadata {
    /// Id of the message, chosen by the peer.
    pub message_id: MessageId,
    /// Sequence number that the peer assigned.
    pub seq: u64,
    /// When the peer first sealed the message, by the peer's clock.
    pub sent_at: Timestamp,
}

impl Connection {
    /// Opens an envelope from our mailbox of this connection. Does not change the connection; the
    /// result contains the state to commit.
    #[must_use]
    pub fn receive(
        &self,
        identity: &Identity,
        envelope: &[u8],
        now: Timestamp,
        rng: &mut dyn CryptoRng,
    ) -> Incoming {
        let Some(mailbox) = &self.own_mailbox else {
            return Incoming::OuterLayerInvalid;
        };
        match open_envelope(&self.inbound_key(), &mailbox.id, envelope) {
            Ok(inner) => self.receive_inner(identity, &inner, now, rng),
            Err(_) => Incoming::OuterLayerInvalid,
        }
    }

    /// Opens the inner bytes of an envelope whose outer layer the caller has already opened. Used
    /// for a repeated connection request in an invite's mailbox.
    #[must_use]
    pub fn receive_inner(
        &self,
        identity: &Identity,
        inner: &[u8],
        now: Timestamp,
        rng: &mut dyn CryptoRng,
    ) -> Incoming {
        let context = OpenContext {
            identity,
            peer: &self.peer,
            conn_id: self.conn_id,
            bundles: &self.bundles,
            now,
        };
        match self.sessions.open(&context, inner) {
            OpenOutcome::Opened(opened) => {
                Incoming::Opened(Box::new(self.apply_opened(identity, *opened, now, rng)))
            }
            OpenOutcome::Rejected(rejected) => Incoming::Rejected(Box::new(RejectedEnvelope {
                connection: rejected.sessions.map(|sessions| Self {
                    sessions,
                    ..self.clone()
                }),
                reason: rejected.reason,
                remedy: rejected.remedy,
            })),
        }
    }

    fn apply_opened(
        &self,
        identity: &Identity,
        message: sessions::OpenedMessage,
        now: Timestamp,
        rng: &mut dyn CryptoRng,
    ) -> OpenedEnvelope {
        let mut next = Self {
            sessions: message.sessions,
            ..self.clone()
        };
        let (has_new_session, is_reset) = match &message.new_session {
            Some(new) => (true, new.continuity == Continuity::Reset),
            None => (false, false),
        };
        if let Some(new) = &message.new_session {
            next.peer_incarnation = Some(new.peer_incarnation);
            next.used_bundles.push(new.bundle);
        }
        if message.is_newly_confirmed {
            next.drop_used_bundles(message.new_session.as_ref().map(|new| new.bundle));
        }
        let publication = if has_new_session {
            next.renew_prekeys(identity, now, rng)
        } else {
            None
        };
        let (event, receipt) = match message.content {
            Content::Plaintext(plaintext) => next.apply_plaintext(plaintext),
            Content::Unparseable => (Event::Ignored, None),
        };
        OpenedEnvelope {
            connection: next,
            event,
            msg_hash: message.msg_hash,
            receipt_for: receipt,
            has_new_session,
            is_reset,
            publication,
        }
    }

    /// Deletes the secrets of used bundles after a session was confirmed. `current` is the bundle
    /// of a session that this message opened, which is not confirmed yet.
    fn drop_used_bundles(&mut self, current: Option<sealpost_e2ee::prekeys::BundleId>) {
        let obsolete: Vec<_> = self
            .used_bundles
            .iter()
            .copied()
            .filter(|used| Some(*used) != current)
            .collect();
        self.bundles
            .retain(|bundle| !obsolete.contains(&bundle.bundle_id()));
        self.used_bundles.retain(|used| Some(*used) == current);
    }

    /// Applies a plaintext in the current phase. Returns its event, and the message id if a receipt
    /// must be sent.
    fn apply_plaintext(&mut self, plaintext: Plaintext) -> (Event, Option<MessageId>) {
        let message_id = plaintext.message_id;
        match self.phase {
            Phase::RequestSent => self.apply_response(&plaintext),
            Phase::Accepting => {
                let event = self.apply_while_accepting(plaintext);
                let receipt_for = event.requires_receipt().then_some(message_id);
                (event, receipt_for)
            }
            Phase::Accepted => {
                let event = Event::from(plaintext);
                let receipt_for = event.requires_receipt().then_some(message_id);
                (event, receipt_for)
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

    /// Handles a plaintext while we wait for the receipt of our `connection.accept`. Anything but a
    /// repeated request shows that the peer received it.
    fn apply_while_accepting(&mut self, plaintext: Plaintext) -> Event {
        if plaintext.kind == Kind::CONNECTION_REQUEST {
            return Event::Ignored;
        }
        self.accept_id = None;
        self.phase = Phase::Accepted;
        Event::from(plaintext)
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

impl From<Plaintext> for Event {
    fn from(plaintext: Plaintext) -> Self {
        let metadata = MessageMetadata {
            message_id: plaintext.message_id,
            seq: plaintext.seq,
            sent_at: plaintext.sent_at,
        };
        match plaintext.kind {
            Kind::MESSAGE => match Message::parse(&plaintext.body) {
                Ok(message) => Self::Message { metadata, message },
                Err(_) => Self::Ignored,
            },
            Kind::RECEIPT => Receipt::parse(&plaintext.body).map_or(Self::Ignored, Self::Receipt),
            kind => Self::Unsupported {
                metadata,
                kind,
                body: plaintext.body,
            },
        }
    }
}
