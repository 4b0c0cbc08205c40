//! Opening: what an envelope in our mailbox comes to, and what the node has to do about it.

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

/// What an envelope came to.
pub enum Incoming {
    /// The outer layer does not open: junk, refused to the relay.
    Junk,
    /// It opened.
    Opened(Box<Opened>),
    /// The outer layer opened, the message did not.
    Unopened(Box<Unopened>),
}

/// An envelope that opened.
pub struct Opened {
    /// The state to commit.
    pub connection: Connection,
    /// What it means to the node.
    pub event: Event,
    /// `H(MSG)`, to be remembered.
    pub msg_hash: [u8; 32],
    /// The message to confirm, if it is one that is confirmed.
    pub receipt: Option<MessageId>,
    /// The peer began a new session: what the relay has not accepted is sealed again.
    pub has_new_session: bool,
    /// The new session does not prove that it continues the old one: people are shown a reset.
    pub is_reset: bool,
    /// The peer used our base: the relay gets this one in its place.
    pub publication: Option<PrekeyPublication>,
}

/// An envelope of ours that could not be opened.
pub struct Unopened {
    /// The state to commit, when bookkeeping changed.
    pub connection: Option<Connection>,
    /// Why.
    pub reason: RejectReason,
    /// What it asks for.
    pub remedy: Remedy,
}

/// What an opened message means to the node.
pub enum Event {
    /// The peer said yes to our request.
    Accepted,
    /// The peer said no, perhaps with a word.
    Rejected(Option<String>),
    /// A message for people.
    Message {
        /// Its frame.
        frame: Frame,
        /// What it says.
        message: Message,
    },
    /// The peer stored or read messages of ours.
    Receipt(Receipt),
    /// A kind that this version does not show; kept and confirmed.
    Unsupported {
        /// Its frame.
        frame: Frame,
        /// Its number.
        kind: Kind,
        /// Its payload, as it came.
        body: Vec<u8>,
    },
    /// Something that means nothing in this phase, or that does not parse: counted, not confirmed.
    Ignored,
}

/// What frames every message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame {
    /// Its id.
    pub message_id: MessageId,
    /// Its number in the peer's count.
    pub seq: u64,
    /// When the peer sealed it first, by the peer's clock.
    pub sent_at: Timestamp,
}

impl Connection {
    /// Opens an envelope that came to our mailbox of this connection. Changes nothing; the state to commit is in the result.
    #[must_use]
    pub fn receive(
        &self,
        me: &Identity,
        envelope: &[u8],
        now: Timestamp,
        rng: &mut dyn CryptoRng,
    ) -> Incoming {
        let Some(mailbox) = &self.inbound else {
            return Incoming::Junk;
        };
        match open_envelope(&self.inbound_key(), &mailbox.id, envelope) {
            Ok(inner) => self.receive_inner(me, &inner, now, rng),
            Err(_) => Incoming::Junk,
        }
    }

    /// Opens the inner bytes of an envelope whose outer layer the caller has opened: a repetition of the request in an
    /// invite's mailbox.
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
                Incoming::Opened(Box::new(self.opened(me, *opened, now, rng)))
            }
            OpenOutcome::Rejected(verdict) => Incoming::Unopened(Box::new(Unopened {
                connection: verdict.sessions.map(|sessions| Self {
                    sessions,
                    ..self.clone()
                }),
                reason: verdict.reason,
                remedy: verdict.remedy,
            })),
        }
    }

    fn opened(
        &self,
        me: &Identity,
        opened: sessions::OpenedMessage,
        now: Timestamp,
        rng: &mut dyn CryptoRng,
    ) -> Opened {
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
        if opened.newly_confirmed {
            next.drop_used_bases(opened.new_session.as_ref().map(|new| new.base));
        }
        let publication = if has_new_session {
            next.publish_base(me, now, rng)
        } else {
            None
        };
        let (event, receipt) = match opened.content {
            Content::Plaintext(plaintext) => next.apply_plaintext(plaintext),
            Content::Unparseable => (Event::Ignored, None),
        };
        Opened {
            connection: next,
            event,
            msg_hash: opened.msg_hash,
            receipt,
            has_new_session,
            is_reset,
            publication,
        }
    }

    /// A session is confirmed: secrets of the bases used by it and by those before are not needed again. `current` is the
    /// base of a session that this very message opened, which is not confirmed yet.
    fn drop_used_bases(&mut self, current: Option<sealpost_e2ee::prekeys::BaseId>) {
        let gone: Vec<_> = self
            .used_bases
            .iter()
            .copied()
            .filter(|used| Some(*used) != current)
            .collect();
        self.bases.retain(|base| !gone.contains(&base.base_id()));
        self.used_bases.retain(|used| Some(*used) == current);
    }

    /// What a plaintext means in the present phase, and whether it is confirmed.
    fn apply_plaintext(&mut self, plaintext: Plaintext) -> (Event, Option<MessageId>) {
        let confirmed = Some(plaintext.message_id);
        match self.phase {
            Phase::RequestSent => self.apply_response(&plaintext),
            Phase::Accepting => {
                let event = self.apply_while_accepting(plaintext);
                let receipt = confirmed.filter(|_| event.is_confirmed());
                (event, receipt)
            }
            Phase::Accepted => {
                let event = event_of(plaintext);
                let receipt = confirmed.filter(|_| event.is_confirmed());
                (event, receipt)
            }
            Phase::RequestReceived | Phase::Rejected | Phase::Blocked => (Event::Ignored, None),
        }
    }

    fn apply_response(&mut self, plaintext: &Plaintext) -> (Event, Option<MessageId>) {
        if plaintext.kind == Kind::CONNECTION_ACCEPT
            && let Ok(accept) = ConnectionAccept::parse(&plaintext.body)
        {
            self.outbound = Some(accept.capability);
            self.rendezvous = None;
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

    /// Whoever confirms our accept, or sends anything else, has it.
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
    const fn is_confirmed(&self) -> bool {
        match self {
            Self::Accepted | Self::Message { .. } | Self::Unsupported { .. } => true,
            Self::Rejected(_) | Self::Receipt(_) | Self::Ignored => false,
        }
    }
}

fn event_of(plaintext: Plaintext) -> Event {
    let frame = Frame {
        message_id: plaintext.message_id,
        seq: plaintext.seq,
        sent_at: plaintext.sent_at,
    };
    match plaintext.kind {
        Kind::MESSAGE => match Message::parse(&plaintext.body) {
            Ok(message) => Event::Message { frame, message },
            Err(_) => Event::Ignored,
        },
        Kind::RECEIPT => Receipt::parse(&plaintext.body).map_or(Event::Ignored, Event::Receipt),
        kind => Event::Unsupported {
            frame,
            kind,
            body: plaintext.body,
        },
    }
}
