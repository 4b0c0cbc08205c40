//! New sessions: rotation, and recovery from a state in which envelopes cannot be opened
//! (docs/e2ee.md#healing).

use super::{Connection, Phase, Role};
use rand_core::CryptoRng;
use sealpost_e2ee::{
    Identity, Incarnation, Scope, Sessions,
    payload::{Resend, Resume},
    prekeys::{PrekeyBundle, SealedPrekeysKey, open_prekeys},
    sessions::{InitReason, InitiateArgs},
};
use sealpost_proto::Timestamp;

/// Error returned by [`Connection::start_session`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum StartSessionError {
    /// The prekeys at the relay are not a bundle of the peer for this connection, or they are too
    /// old.
    #[error("the peer's prekeys cannot be used")]
    UnusablePrekeys,
    /// The connection is not accepted yet, so the mailbox of the peer is not known.
    #[error("the connection is not accepted")]
    NotAccepted,
}

impl Connection {
    /// Whether the session is due for rotation: because of its age or its number of messages, or
    /// because it is the session of the pairing, whose prekeys served an invite. The invitee
    /// replaces that one at once.
    #[must_use]
    pub fn is_rotation_due(&self, identity: &Identity, now: Timestamp) -> bool {
        let is_lower = identity.fingerprint() < self.peer.fingerprint();
        self.phase == Phase::Accepted
            && (self.sessions.is_rotation_due(now, is_lower) || self.is_pairing_session())
    }

    /// Whether the session is still the one of the pairing, which this node has to replace: it is
    /// the invitee, and neither side has used prekeys of the connection yet.
    #[must_use]
    pub fn is_pairing_session(&self) -> bool {
        self.role == Role::Invitee
            && self.peer_bundle_epoch == 0
            && !self.has_used_own_bundle
            && self.sessions.current_id().is_some()
    }

    /// Starts a new session with the peer's prekey bundle from the relay. The next message carries
    /// its INIT, which states what has arrived of the peer's current incarnation.
    ///
    /// # Errors
    /// [`StartSessionError`]; the old session then stays in use.
    pub fn start_session(
        &mut self,
        identity: &Identity,
        sealed_bundle: &[u8],
        reason: InitReason,
        now: Timestamp,
        rng: &mut dyn CryptoRng,
    ) -> Result<(), StartSessionError> {
        let bundle = self.open_peer_bundle(sealed_bundle, now)?;
        let mut received_seqs = self.received_seqs.clone();
        received_seqs.record_incarnation(bundle.incarnation());
        let resume = received_seqs.resumes().into_iter().next();
        let args = InitiateArgs {
            identity,
            peer: &self.peer,
            conn_id: self.conn_id,
            bundle: &bundle,
            reason,
            incarnation: self.incarnation,
            resume: resume.as_ref(),
            sealed_card: None,
            now,
        };
        self.sessions
            .initiate(&args, rng)
            .map_err(|_| StartSessionError::UnusablePrekeys)?;
        self.peer_bundle_epoch = bundle.bundle_id().epoch;
        self.received_seqs = received_seqs;
        Ok(())
    }

    fn open_peer_bundle(
        &self,
        sealed_bundle: &[u8],
        now: Timestamp,
    ) -> Result<PrekeyBundle, StartSessionError> {
        let unusable = StartSessionError::UnusablePrekeys;
        let peer = self
            .peer_mailbox
            .as_ref()
            .filter(|_| matches!(self.phase, Phase::Accepting | Phase::Accepted))
            .ok_or(StartSessionError::NotAccepted)?;
        let key = SealedPrekeysKey::for_mailbox(&self.exp_pairing, self.role.outbound());
        let (_, bundle) =
            open_prekeys(&key, &peer.mailbox.id, sealed_bundle).map_err(|_| unusable)?;
        let scope = Scope::connection(&self.conn_id);
        let bundle =
            PrekeyBundle::parse_verified(&bundle, &self.peer, &scope).map_err(|_| unusable)?;
        bundle
            .check_fresh(now, self.peer_bundle_epoch)
            .map_err(|_| unusable)?;
        Ok(bundle)
    }

    /// Returns requests to send again what has not arrived, one for each known incarnation of the
    /// peer, the current one first.
    #[must_use]
    pub fn request_missing(&self) -> Vec<Resend> {
        let to_resend = |resume| Resend {
            resume: Some(resume),
            ..Resend::default()
        };
        self.received_seqs
            .resumes()
            .into_iter()
            .map(to_resend)
            .collect()
    }

    /// Updates a request that has waited to be sealed: more may have arrived since.
    pub(super) fn refresh_request(&self, request: &mut Resend) {
        if let Some(stale) = &request.resume {
            let mut current = self.received_seqs.resumes().into_iter();
            request.resume = current
                .find(|resume| resume.incarnation == stale.incarnation)
                .or_else(|| request.resume.clone());
        }
    }

    /// Whether the peer has received more of our current incarnation than this node has sealed in it:
    /// the state is older than what an earlier copy of this node, or a second one, has sent.
    #[must_use]
    pub fn is_ahead(&self, resume: &Resume) -> bool {
        resume.incarnation == self.incarnation && resume.highest() >= self.next_seq
    }

    /// Generates a new incarnation, whose numbers do not collide with those that another copy of
    /// this node has used. The sessions remain.
    pub fn renew_incarnation(&mut self, rng: &mut dyn CryptoRng) {
        self.incarnation = Incarnation::generate(rng);
        self.next_seq = 1;
    }

    /// Prepares a connection for use after a restore from a backup: an earlier copy of the same
    /// state may have sealed with these ratchets and published these prekeys since. A new
    /// incarnation separates what is sent from now on.
    pub fn discard_sessions(&mut self, now: Timestamp, rng: &mut dyn CryptoRng) {
        self.remove_session_secrets();
        self.renew_incarnation(rng);
        self.recovered_at = Some(now);
    }

    /// Removes the sessions and the secrets of the prekeys, for a backup: whoever takes it can then
    /// open nothing that was sent.
    pub fn remove_session_secrets(&mut self) {
        self.sessions = Sessions::new();
        self.bundles.clear();
        self.used_bundles.clear();
    }

    /// Whether the relay accepted an envelope before the sessions were discarded. It cannot be
    /// opened, but its messages are sent again anyway.
    pub(super) fn is_from_before_recovery(&self, accepted_at: Timestamp) -> bool {
        self.recovered_at.is_some_and(|at| accepted_at < at)
    }
}
