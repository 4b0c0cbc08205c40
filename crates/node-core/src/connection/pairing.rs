//! Pairing: the invitee sends a request with an invite, and the inviter accepts or rejects it.

use super::{
    Connection, InviteMailbox, OwnMailbox, Phase, PrekeyPublication, ReceivedSeqs, RepairRate, Role,
};
use rand_core::CryptoRng;
use sealpost_e2ee::{
    ConnId, Identity, Incarnation, PrekeySecrets, Scope, Sessions, SignedCard,
    invite::{Invite, InviteKind},
    payload::{Capability, ConnectionAccept, ConnectionReject, ConnectionRequest},
    plaintext::Kind,
    prekeys::{BundleId, PrekeyBundle, SealedPrekeysKey, open_prekeys},
    sessions::{Content, InitReason, InitiateArgs, Pairing, open_pairing},
};
use sealpost_proto::{MailboxId, MailboxRef, MessageId, Origin, SendKey, Timestamp, limits};

/// Arguments of [`Connection::request`].
pub struct RequestArgs<'a> {
    /// Identity of this node.
    pub identity: &'a Identity,
    /// Identity card of this node.
    pub card: &'a SignedCard,
    /// Relay of this node, where the mailbox will be opened.
    pub relay: &'a Origin,
    /// Invite to use.
    pub invite: &'a Invite,
    /// Sealed prekeys from the invite's mailbox.
    pub sealed_prekeys: &'a [u8],
    /// Note to the partner, up to 200 bytes.
    pub note: Option<String>,
    /// Current time by the node's clock.
    pub now: Timestamp,
}

/// Connection whose request is ready to be sent.
pub struct SentRequest {
    /// State of the connection.
    pub connection: Connection,
    /// Identity card of the inviter, which matches the invite's fingerprint.
    pub peer_card: SignedCard,
    /// Changes to make at the relay first.
    pub publication: PrekeyPublication,
    /// Body of the `connection.request` to send.
    pub body: Vec<u8>,
}

/// Error returned by [`Connection::request`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// The prekeys at the relay cannot be opened, or are not signed by the identity in the invite.
    #[error("the keys at the relay do not match the invite")]
    Untrusted,
    /// The prekeys at the relay have expired or are not valid yet.
    #[error("the invite's keys have expired, or a clock is wrong")]
    Stale,
}

/// Connection request that arrived at one of our invites.
pub struct ReceivedRequest {
    /// State of the connection.
    pub connection: Connection,
    /// Identity card of the invitee.
    pub peer_card: SignedCard,
    /// Note of the invitee.
    pub note: Option<String>,
    /// Id of the `connection.request`.
    pub message_id: MessageId,
    /// `H(MSG)`, to be stored for deduplication.
    pub msg_hash: [u8; 32],
    /// Session epoch; of several requests from one identity, the highest wins.
    pub session_epoch: u64,
}

/// Error returned by [`Connection::accept`] and [`Connection::reject`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AcceptError {
    /// There is no request, or it was already accepted or rejected.
    #[error("there is no request to accept or reject")]
    NoPendingRequest,
}

impl Connection {
    /// Uses an invite: checks the prekeys in its mailbox against the invite's fingerprint, starts a
    /// session with them and generates our mailbox, whose capability is sent with the request.
    ///
    /// # Errors
    /// [`RequestError`] if the prekeys cannot be used.
    pub fn request(
        args: &RequestArgs<'_>,
        rng: &mut dyn CryptoRng,
    ) -> Result<SentRequest, RequestError> {
        let (peer_card, bundle) = open_invite_prekeys(args)?;
        let peer = *peer_card.identity();
        let conn_id = ConnId::derive(
            args.identity.fingerprint(),
            peer.fingerprint(),
            &args.invite.id(),
        );
        let incarnation = Incarnation::generate(rng);
        let mut sessions = Sessions::new();
        let initiate = InitiateArgs {
            identity: args.identity,
            peer: &peer,
            conn_id,
            bundle: &bundle,
            reason: InitReason::Pairing,
            incarnation,
            resume: None,
            sealed_card: Some(args.card),
            now: args.now,
        };
        let initiated = sessions
            .initiate(&initiate, rng)
            .map_err(|_| RequestError::Untrusted)?;
        let mailbox = generate_mailbox(rng);
        let mut connection = Self {
            role: Role::Invitee,
            phase: Phase::RequestSent,
            invite_id: args.invite.id(),
            conn_id,
            peer,
            exp_pairing: initiated.exp,
            own_mailbox: Some(mailbox.clone()),
            peer_mailbox: None,
            invite_mailbox: Some(InviteMailbox {
                mailbox: args.invite.mailbox().clone(),
                secret: args.invite.secret().clone(),
                send_key: args.invite.send_key(),
                expires_at: match args.invite.kind() {
                    InviteKind::SingleUse { expires } => Some(expires),
                    InviteKind::ContactAddress => None,
                },
            }),
            accept_id: None,
            sessions,
            bundles: Vec::new(),
            used_bundles: Vec::new(),
            latest_bundle: BundleId {
                epoch: 0,
                spk_id: 0,
            },
            peer_bundle_epoch: 0,
            incarnation,
            next_seq: 1,
            received_seqs: ReceivedSeqs::default(),
            recovered_at: None,
            session_repairs: RepairRate::default(),
            resume_repairs: RepairRate::default(),
            answers: RepairRate::default(),
            has_used_own_bundle: false,
        };
        let publication = connection
            .renew_prekeys(args.identity, args.now, rng)
            .ok_or(RequestError::Untrusted)?;
        let capability = create_capability(args.relay, &mailbox);
        let body = ConnectionRequest {
            capability,
            note: args.note.clone(),
        }
        .encode();
        Ok(SentRequest {
            connection,
            peer_card,
            publication,
            body,
        })
    }

    /// Opens a request that arrived at one of our invites. `None` means that the caller discards
    /// and counts it without a response.
    #[must_use]
    pub fn receive_request(
        identity: &Identity,
        invite: &Invite,
        bundles: &[PrekeySecrets],
        inner: &[u8],
        now: Timestamp,
        rng: &mut dyn CryptoRng,
    ) -> Option<ReceivedRequest> {
        let pairing = open_pairing(identity, &invite.id(), bundles, inner, now).ok()?;
        let Content::Plaintext(plaintext) = &pairing.content else {
            return None;
        };
        if plaintext.kind != Kind::CONNECTION_REQUEST {
            return None;
        }
        let request = ConnectionRequest::parse(&plaintext.body).ok()?;
        let (incarnation, seq) = (plaintext.incarnation, plaintext.seq);
        let message_id = plaintext.message_id;
        let mut received = Self::from_pairing(pairing, invite, request, message_id, rng);
        received.connection.received_seqs.record(incarnation, seq);
        Some(received)
    }

    fn from_pairing(
        pairing: Pairing,
        invite: &Invite,
        request: ConnectionRequest,
        message_id: MessageId,
        rng: &mut dyn CryptoRng,
    ) -> ReceivedRequest {
        let connection = Self {
            role: Role::Inviter,
            phase: Phase::RequestReceived,
            invite_id: invite.id(),
            conn_id: pairing.conn_id,
            peer: *pairing.peer_card.identity(),
            exp_pairing: pairing.new_session.exp,
            own_mailbox: None,
            peer_mailbox: Some(request.capability),
            invite_mailbox: None,
            accept_id: None,
            sessions: pairing.sessions,
            bundles: Vec::new(),
            used_bundles: Vec::new(),
            latest_bundle: BundleId {
                epoch: 0,
                spk_id: 0,
            },
            peer_bundle_epoch: 0,
            incarnation: Incarnation::generate(rng),
            next_seq: 1,
            received_seqs: ReceivedSeqs::default(),
            recovered_at: None,
            session_repairs: RepairRate::default(),
            resume_repairs: RepairRate::default(),
            answers: RepairRate::default(),
            has_used_own_bundle: false,
        };
        ReceivedRequest {
            connection,
            peer_card: pairing.peer_card,
            note: request.note,
            message_id,
            msg_hash: pairing.msg_hash,
            session_epoch: pairing.new_session.session_epoch,
        }
    }

    /// Accepts a request and generates our mailbox. Returns the changes to make at the relay first,
    /// and the body of the `connection.accept` to send with the id `accept_id`.
    ///
    /// # Errors
    /// [`AcceptError::NoPendingRequest`] in every phase but [`Phase::RequestReceived`].
    pub fn accept(
        &mut self,
        identity: &Identity,
        relay: &Origin,
        accept_id: MessageId,
        now: Timestamp,
        rng: &mut dyn CryptoRng,
    ) -> Result<(PrekeyPublication, Vec<u8>), AcceptError> {
        if self.phase != Phase::RequestReceived {
            return Err(AcceptError::NoPendingRequest);
        }
        let mailbox = generate_mailbox(rng);
        let body = ConnectionAccept {
            capability: create_capability(relay, &mailbox),
        }
        .encode();
        self.own_mailbox = Some(mailbox);
        let publication = self
            .renew_prekeys(identity, now, rng)
            .ok_or(AcceptError::NoPendingRequest)?;
        self.phase = Phase::Accepting;
        self.accept_id = Some(accept_id);
        Ok((publication, body))
    }

    /// Rejects a request. Returns the body of the `connection.reject` to send.
    ///
    /// # Errors
    /// [`AcceptError::NoPendingRequest`] in every phase but [`Phase::RequestReceived`].
    pub fn reject(&mut self, note: Option<String>) -> Result<Vec<u8>, AcceptError> {
        if self.phase != Phase::RequestReceived {
            return Err(AcceptError::NoPendingRequest);
        }
        self.phase = Phase::Rejected;
        Ok(ConnectionReject { note }.encode())
    }
}

fn open_invite_prekeys(args: &RequestArgs<'_>) -> Result<(SignedCard, PrekeyBundle), RequestError> {
    let key = SealedPrekeysKey::for_invite(args.invite.secret());
    let (card, bundle) = open_prekeys(&key, &args.invite.mailbox().id, args.sealed_prekeys)
        .map_err(|_| RequestError::Untrusted)?;
    let card = card.ok_or(RequestError::Untrusted)?;
    if card.identity().fingerprint() != args.invite.fingerprint() {
        return Err(RequestError::Untrusted);
    }
    let scope = Scope::invite(&args.invite.id());
    let bundle = PrekeyBundle::parse_verified(&bundle, card.identity(), &scope)
        .map_err(|_| RequestError::Untrusted)?;
    bundle
        .check_fresh(args.now, 0)
        .map_err(|_| RequestError::Stale)?;
    Ok((card, bundle))
}

fn generate_mailbox(rng: &mut dyn CryptoRng) -> OwnMailbox {
    let mut id = [0; 16];
    let mut send_key = [0; 32];
    rng.fill_bytes(&mut id);
    rng.fill_bytes(&mut send_key);
    OwnMailbox {
        id: MailboxId::from_bytes(id),
        send_key: SendKey::from_bytes(send_key),
    }
}

fn create_capability(relay: &Origin, mailbox: &OwnMailbox) -> Capability {
    Capability {
        mailbox: MailboxRef {
            relay: relay.clone(),
            id: mailbox.id,
        },
        send_key: mailbox.send_key.clone(),
    }
}

/// Truncates a note to the limit of a request, on a character boundary. Returns `None` for a blank
/// note.
#[must_use]
pub fn truncate_note(note: &str) -> Option<String> {
    let note = note.trim();
    let end = (0..=note.len().min(limits::REQUEST_NOTE_BYTES_MAX))
        .rev()
        .find(|end| note.is_char_boundary(*end))?;
    (end > 0).then(|| note[..end].to_owned())
}
