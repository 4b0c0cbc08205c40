//! What opening one envelope came to.

use super::Sessions;
use crate::card::SignedCard;
use crate::handshake::InitReason;
use crate::keys::{ConnId, ExpPairing, Incarnation, SessionId};
use crate::payload::Resume;
use crate::plaintext::Plaintext;
use crate::prekeys::BaseId;
use crate::ratchet;

/// Whether a new session proved that its sender also held the one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Continuity {
    /// The tag over the previous confirmed session holds.
    Proven,
    /// The tag is missing or wrong: people are shown a reset.
    Reset,
    /// At pairing there is nothing before.
    NotApplicable,
}

/// A session that an INIT of the peer opened. It is the current one from now on.
pub struct NewSession {
    /// Its name.
    pub session_id: SessionId,
    /// Its epoch.
    pub session_epoch: u64,
    /// Its EXP: becomes `EXP_pairing` if the connection request it carries is answered.
    pub exp: ExpPairing,
    /// Why the peer sent it.
    pub reason: InitReason,
    /// Whether the peer still held what came before.
    pub continuity: Continuity,
    /// The base it used: to be replaced at once, its secrets dropped when this session or a later one is confirmed.
    pub base: BaseId,
    /// The peer's card, when it stood in the INIT.
    pub peer_card: Option<SignedCard>,
    /// The peer's incarnation for this connection.
    pub peer_incarnation: Incarnation,
    /// What the peer holds of ours; everything else is sealed again in this session.
    pub resume: Option<Resume>,
}

/// What a message opened to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// A plaintext of this version.
    Plaintext(Plaintext),
    /// Authentic, but of an unknown version or malformed: the state is committed, it is counted, no receipt.
    Unparseable,
}

/// A message that opened.
pub struct OpenedMessage {
    /// The state to commit in place of the one that opened it.
    pub sessions: Sessions,
    /// What it carried.
    pub content: Content,
    /// `H(MSG)`, to be remembered with the connection.
    pub msg_hash: [u8; 32],
    /// When it came in an INIT that opened a session.
    pub new_session: Option<NewSession>,
    /// The current session is confirmed by this message: secrets of bases that it, or an earlier one, used can go.
    pub newly_confirmed: bool,
}

/// A message that did not open.
pub struct RejectedMessage {
    /// The state to commit, when bookkeeping alone changed.
    pub sessions: Option<Sessions>,
    /// Why.
    pub reason: RejectReason,
    /// What the node does about it.
    pub remedy: Remedy,
}

/// What opening one inner message came to. The state it was opened with is unchanged.
pub enum OpenOutcome {
    /// It opened.
    Opened(Box<OpenedMessage>),
    /// It did not.
    Rejected(Box<RejectedMessage>),
}

/// Why a message did not open. For the node's own decisions and tests; the outside sees one answer for all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RejectReason {
    /// Not the layout of a message, or an unknown version, suite, flag or frame type.
    #[error("malformed")]
    Malformed,
    /// Of a session that was never known here.
    #[error("unknown session")]
    UnknownSession,
    /// Of a session, or an INIT, that has been replaced or refused.
    #[error("retired session")]
    RetiredSession,
    /// No header key of the session fits.
    #[error("no header key fits")]
    NoHeaderKey,
    /// More than 1,000 messages of one chain are missing before it.
    #[error("gap over 1,000")]
    GapTooLarge,
    /// The header opened with a ratchet key that does not belong to its header key.
    #[error("header refused")]
    HeaderRefused,
    /// Its key was evicted before it came.
    #[error("key evicted")]
    KeyEvicted,
    /// Its key was used before. The caller looks the hash up: known is a plain replay and is discarded; new is a peer
    /// that was rolled back or cloned, and the remedy applies.
    #[error("key consumed")]
    Consumed {
        /// `H(MSG)`.
        msg_hash: [u8; 32],
    },
    /// Header and key fit, the body does not open.
    #[error("body does not open")]
    BodyInvalid,
    /// The INIT uses a base whose secrets are not held.
    #[error("prekeys not held")]
    BaseNotHeld,
    /// The INIT names other identities, or `sealed` or `hello` does not open.
    #[error("handshake does not open")]
    HandshakeInvalid,
    /// The INIT opens but comes from another identity than the connection's.
    #[error("another identity")]
    OtherIdentity,
    /// The INIT loses to the current session, or to our own INIT.
    #[error("loses to another session")]
    LosesToOtherInit,
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

/// What the node does about a message that did not open (docs/e2ee.md#which-init-wins and the table of failures there).
/// On an invite's mailbox none of it applies: what does not open is discarded and counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Remedy {
    /// Discard and count.
    Discard,
    /// Discard, and ask the peer what is missing, in the current session.
    ResumeDue,
    /// Start a new session, reason desync, with prekeys fetched afresh.
    InitDesync,
    /// As [`Remedy::InitDesync`], and people are alerted: the peer was rolled back or cloned.
    AlertAndInit,
    /// Suspend the connection until a person decides.
    Suspend,
}

/// A request that came to an invite's mailbox and opened: a connection in the making.
pub struct Pairing {
    /// The connection's state from now on.
    pub sessions: Sessions,
    /// The name of the connection.
    pub conn_id: ConnId,
    /// The peer's verified card.
    pub peer_card: SignedCard,
    /// The session, with `exp` as it becomes `EXP_pairing` by the answer.
    pub new_session: NewSession,
    /// What the first message carried.
    pub content: Content,
    /// `H(MSG)`.
    pub msg_hash: [u8; 32],
    /// `H(prefix)`: the same INIT again, or its later messages, go to this connection's [`Sessions::open`].
    pub prefix_hash: [u8; 32],
}
