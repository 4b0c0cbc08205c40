//! Opens envelopes from our mailbox and determines what the node has to do about them.

use super::{Connection, Phase, PrekeyPublication};
use rand_core::CryptoRng;
use sealpost_e2ee::{
    Identity, Incarnation, Plaintext,
    envelope::open_envelope,
    payload::{ConnectionAccept, ConnectionReject, Message, Receipt, Resend, Resume},
    plaintext::Kind,
    prekeys::BundleId,
    sessions::{
        self, Content, Continuity, InitReason, NewSession, OpenContext, OpenOutcome, RejectReason,
        Remedy,
    },
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
    /// Session that the peer started, in which the caller must seal again everything that has no
    /// receipt.
    pub new_session: Option<StartedSession>,
    /// New prekey bundle to publish, if the peer used our current one.
    pub publication: Option<PrekeyPublication>,
}

/// Session that the peer started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StartedSession {
    /// Why the peer started it.
    pub reason: InitReason,
    /// Whether the peer failed to prove that it had the previous session. The node reports this to
    /// its users.
    pub is_reset: bool,
    /// Which of our messages have arrived at the peer.
    pub resume: Option<Resume>,
}

/// Envelope whose message was rejected.
pub struct RejectedEnvelope {
    /// Connection to commit, if the session state changed.
    pub connection: Option<Connection>,
    /// Why the message was rejected.
    pub reason: RejectReason,
    /// What the node must do to receive messages again.
    pub remedy: Remedy,
    /// New prekey bundle to publish, if the peer used our current one in an INIT that loses.
    pub publication: Option<PrekeyPublication>,
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
    /// The peer asks for messages, or states that it will not send some.
    Resend(Resend),
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
    /// Incarnation of the peer that sealed the message first.
    pub incarnation: Incarnation,
    /// Sequence number that the peer assigned in that incarnation.
    pub seq: u64,
    /// When the peer first sealed the message, by the peer's clock.
    pub sent_at: Timestamp,
}

impl Connection {
    /// Opens an envelope from our mailbox of this connection, which our relay accepted at
    /// `accepted_at`. Does not change the connection; the result contains the state to commit.
    #[must_use]
    pub fn receive(
        &self,
        identity: &Identity,
        envelope: &[u8],
        accepted_at: Timestamp,
        now: Timestamp,
        rng: &mut dyn CryptoRng,
    ) -> Incoming {
        let Some(mailbox) = &self.own_mailbox else {
            return Incoming::OuterLayerInvalid;
        };
        let Ok(inner) = open_envelope(&self.inbound_key(), &mailbox.id, envelope) else {
            return Incoming::OuterLayerInvalid;
        };
        let mut incoming = self.receive_inner(identity, &inner, now, rng);
        if let Incoming::Rejected(rejected) = &mut incoming
            && rejected.reason == RejectReason::UnknownSession
            && self.is_from_before_recovery(accepted_at)
        {
            rejected.remedy = Remedy::ResumeDue;
        }
        incoming
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
            OpenOutcome::Rejected(rejected) => {
                Incoming::Rejected(Box::new(self.apply_rejected(identity, *rejected, now, rng)))
            }
        }
    }

    fn apply_rejected(
        &self,
        identity: &Identity,
        message: sessions::RejectedMessage,
        now: Timestamp,
        rng: &mut dyn CryptoRng,
    ) -> RejectedEnvelope {
        let mut connection = message.sessions.map(|sessions| Self {
            sessions,
            ..self.clone()
        });
        let publication = message.used_bundle.and_then(|bundle| {
            let next = connection.get_or_insert_with(|| self.clone());
            next.record_used_bundle(bundle);
            // An older bundle has been replaced at the relay already.
            let is_published = bundle.epoch >= next.latest_bundle.epoch;
            is_published
                .then(|| next.renew_prekeys(identity, now, rng))
                .flatten()
        });
        RejectedEnvelope {
            connection,
            reason: message.reason,
            remedy: message.remedy,
            publication,
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
        if let Some(new) = &message.new_session {
            next.received_seqs.record_incarnation(new.peer_incarnation);
            next.has_used_own_bundle = true;
            next.record_used_bundle(new.bundle);
        }
        if message.is_newly_confirmed {
            next.drop_used_bundles(message.new_session.as_ref().map(|new| new.bundle));
        }
        let publication = message
            .new_session
            .as_ref()
            .and_then(|_| next.renew_prekeys(identity, now, rng));
        let (event, receipt) = match message.content {
            Content::Plaintext(plaintext) => next.apply_plaintext(plaintext),
            Content::Unparseable => (Event::Ignored, None),
        };
        OpenedEnvelope {
            connection: next,
            event,
            msg_hash: message.msg_hash,
            receipt_for: receipt,
            new_session: message.new_session.map(StartedSession::from),
            publication,
        }
    }

    /// Records that an INIT used a bundle, so that its secrets are deleted when a session is
    /// confirmed next. Until then, they remain: the peer may have used the bundle in another INIT
    /// too, before it was replaced.
    fn record_used_bundle(&mut self, bundle: BundleId) {
        let is_stored = |used: &BundleId| {
            let mut stored = self.bundles.iter();
            stored.any(|secrets| secrets.bundle_id() == *used)
        };
        self.used_bundles.retain(is_stored);
        if is_stored(&bundle) && !self.used_bundles.contains(&bundle) {
            self.used_bundles.push(bundle);
        }
    }

    /// Deletes the secrets of used bundles after a session was confirmed. `current` is the bundle
    /// of a session that this message opened, which is not confirmed yet.
    fn drop_used_bundles(&mut self, current: Option<BundleId>) {
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
        self.record_received(&plaintext);
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

    fn record_received(&mut self, plaintext: &Plaintext) {
        self.received_seqs
            .record(plaintext.incarnation, plaintext.seq);
        if plaintext.kind == Kind::RESEND
            && let Ok(Resend {
                void: Some(void), ..
            }) = Resend::parse(&plaintext.body)
        {
            for seq in void.seqs {
                self.received_seqs.record(void.incarnation, seq);
            }
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
            Self::Rejected(_) | Self::Receipt(_) | Self::Resend(_) | Self::Ignored => false,
        }
    }
}

impl From<NewSession> for StartedSession {
    fn from(new: NewSession) -> Self {
        Self {
            reason: new.reason,
            is_reset: new.continuity == Continuity::Reset,
            resume: new.resume,
        }
    }
}

impl From<Plaintext> for Event {
    fn from(plaintext: Plaintext) -> Self {
        let metadata = MessageMetadata {
            message_id: plaintext.message_id,
            incarnation: plaintext.incarnation,
            seq: plaintext.seq,
            sent_at: plaintext.sent_at,
        };
        match plaintext.kind {
            Kind::MESSAGE => match Message::parse(&plaintext.body) {
                Ok(message) => Self::Message { metadata, message },
                Err(_) => Self::Ignored,
            },
            Kind::RECEIPT => Receipt::parse(&plaintext.body).map_or(Self::Ignored, Self::Receipt),
            Kind::RESEND => Resend::parse(&plaintext.body).map_or(Self::Ignored, Self::Resend),
            kind => Self::Unsupported {
                metadata,
                kind,
                body: plaintext.body,
            },
        }
    }
}
