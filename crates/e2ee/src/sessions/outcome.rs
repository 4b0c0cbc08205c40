//! Outcome of opening one envelope.

use super::Sessions;
use crate::card::SignedCard;
use crate::handshake::InitReason;
use crate::keys::{ConnId, ExporterSecret, Incarnation, SessionId};
use crate::payload::Resume;
use crate::plaintext::Plaintext;
use crate::prekeys::BundleId;
use crate::ratchet;

/// Whether the sender of an INIT proved that it held an earlier session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Continuity {
    /// The tag over a previous confirmed session is valid.
    Proven,
    /// The tag is missing or invalid. The node reports a reset to its users.
    Reset,
    /// At pairing there is no earlier session.
    NotApplicable,
}

/// Session that an INIT from the peer started. It is now the current session.
pub struct NewSession {
    /// Id of the session.
    pub session_id: SessionId,
    /// Epoch of the session.
    pub session_epoch: u64,
    /// EXP of the session. At pairing it becomes `EXP_pairing` when this side answers the
    /// connection request.
    pub exp: ExporterSecret,
    /// Why the peer sent the INIT.
    pub reason: InitReason,
    /// Whether the peer proved that it held an earlier session.
    pub continuity: Continuity,
    /// Bundle that the INIT used. It must be replaced at once; its secrets can be deleted when this
    /// session or a later one is confirmed.
    pub bundle: BundleId,
    /// The peer's card, if the INIT carried one.
    pub peer_card: Option<SignedCard>,
    /// The peer's incarnation for this connection.
    pub peer_incarnation: Incarnation,
    /// Which of our messages the peer has received. All others are sealed again in this session.
    pub resume: Option<Resume>,
}

/// Content of an opened message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// Plaintext of a known version.
    Plaintext(Plaintext),
    /// An authentic record that is malformed or of an unknown version. The state is committed, the
    /// message counted, and no receipt sent.
    Unparseable,
}

/// Decrypted message and the state to commit.
pub struct OpenedMessage {
    /// The state to commit.
    pub sessions: Sessions,
    /// Plaintext of the message.
    pub content: Content,
    /// `H(MSG)`, which the caller stores with the connection.
    pub msg_hash: [u8; 32],
    /// Present if the message came in an INIT that started a session.
    pub new_session: Option<NewSession>,
    /// Whether this message confirmed the current session. Secrets of bundles that it or an earlier
    /// session used can then be deleted.
    pub is_newly_confirmed: bool,
}

/// Rejected message.
pub struct RejectedMessage {
    /// The state to commit, if the message changed it nevertheless.
    pub sessions: Option<Sessions>,
    /// Why the message did not open.
    pub reason: RejectReason,
    /// What the node must do.
    pub remedy: Remedy,
    /// Bundle that the message, a losing INIT, used. Like [`NewSession::bundle`], it must be
    /// replaced at once; its secrets can be deleted when a session is confirmed afterwards.
    pub used_bundle: Option<BundleId>,
}

/// Outcome of opening one inner message. The state that opened it is unchanged.
pub enum OpenOutcome {
    /// The message opened.
    Opened(Box<OpenedMessage>),
    /// The message did not open.
    Rejected(Box<RejectedMessage>),
}

/// Why a message did not open. For the node's own decisions and for tests; outsiders cannot tell
/// the reasons apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RejectReason {
    /// Wrong layout, or unknown version, suite, flag or frame type.
    #[error("malformed")]
    Malformed,
    /// The message carried no prefix, and its session was never known here. If the relay accepted
    /// the envelope before this node was restored, the caller requests what is missing instead of
    /// starting a session.
    #[error("unknown session")]
    UnknownSession,
    /// The session or the INIT was replaced or refused.
    #[error("retired session")]
    RetiredSession,
    /// No header key of the session opens the header.
    #[error("no header key fits")]
    NoHeaderKey,
    /// More than 1,000 messages of one chain are missing before this one.
    #[error("gap over 1,000")]
    GapTooLarge,
    /// The header opened with a ratchet key that does not belong to the header key.
    #[error("header refused")]
    HeaderRefused,
    /// The message key was evicted before the message arrived.
    #[error("key evicted")]
    KeyEvicted,
    /// The message key was used before. The caller looks up the hash: if it is known, the message
    /// is a replay and is discarded; if not, the peer was rolled back or cloned, and the remedy
    /// applies.
    #[error("key consumed")]
    Consumed {
        /// `H(MSG)`.
        msg_hash: [u8; 32],
    },
    /// The header opened, but the body does not.
    #[error("body does not open")]
    BodyInvalid,
    /// This node does not store the secrets of the bundle that the INIT uses.
    #[error("unknown prekeys")]
    BundleUnknown,
    /// The INIT names other identities, or `sealed` or `hello` does not open.
    #[error("handshake does not open")]
    HandshakeInvalid,
    /// The INIT opens but comes from another identity than the connection's peer.
    #[error("another identity")]
    OtherIdentity,
    /// The current session or this side's own INIT wins over the INIT.
    #[error("superseded by another session")]
    Superseded,
    /// The INIT's epoch is more than ten years ahead.
    #[error("session epoch too far ahead")]
    EpochTooFarAhead,
}

impl From<ratchet::OpenError> for RejectReason {
    fn from(error: ratchet::OpenError) -> Self {
        match error {
            ratchet::OpenError::Malformed => Self::Malformed,
            ratchet::OpenError::NoHeaderKey => Self::NoHeaderKey,
            ratchet::OpenError::GapTooLarge => Self::GapTooLarge,
            ratchet::OpenError::HeaderRefused => Self::HeaderRefused,
            ratchet::OpenError::KeyEvicted => Self::KeyEvicted,
            ratchet::OpenError::Consumed { msg_hash } => Self::Consumed { msg_hash },
            ratchet::OpenError::BodyInvalid => Self::BodyInvalid,
        }
    }
}

/// What the node must do about a message that did not open (docs/e2ee.md#what-does-not-open). In an
/// invite's mailbox, every such message is discarded and counted instead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Remedy {
    /// Discard the message and count it.
    Discard,
    /// Discard the message, and request what is missing in the current session.
    ResumeDue,
    /// Start a new session with reason desync, using newly fetched prekeys.
    InitDesync,
    /// Like [`Remedy::InitDesync`], and alert the users: the peer was rolled back or cloned.
    AlertAndInit,
    /// Suspend the connection until a person decides.
    Suspend,
}

/// An opened connection request from an invite's mailbox.
pub struct Pairing {
    /// The state of the new connection.
    pub sessions: Sessions,
    /// Id of the connection.
    pub conn_id: ConnId,
    /// The peer's verified card.
    pub peer_card: SignedCard,
    /// The new session. Its `exp` becomes `EXP_pairing` when the request is answered.
    pub new_session: NewSession,
    /// The content of the first message.
    pub content: Content,
    /// `H(MSG)`.
    pub msg_hash: [u8; 32],
    /// `H(prefix)`. Repetitions of this INIT and its later messages belong to this connection's
    /// [`Sessions::open`].
    pub prefix_hash: [u8; 32],
}
