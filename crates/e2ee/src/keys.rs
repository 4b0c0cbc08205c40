//! Identities, fingerprints, ids, and secrets that two nodes share.

use crate::primitive::{hash, label, random_array};
use crate::record::{Reader, Writer};
use ed25519_dalek::{SigningKey, VerifyingKey};
use rand_core::CryptoRng;
use sealpost_proto::{InviteId, b64, secret};
use std::fmt;
use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::Zeroizing;

const IDENTITY_VERSION: u8 = 1;

/// Fingerprint of an identity: `H(P" id" || IK_ed || IK_x)` (docs/e2ee.md#keys).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// Wraps 32 raw bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Returns the 32 raw bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Returns the first 8 bytes, which the prefix of an INIT contains.
    pub(crate) fn truncated(&self) -> [u8; 8] {
        truncate(&self.0)
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&b64::encode(&self.0))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fingerprint({self})")
    }
}

/// Returns the first 8 bytes of a longer id.
pub(crate) fn truncate<const N: usize>(name: &[u8; N]) -> [u8; 8] {
    const { assert!(N >= 8) };
    std::array::from_fn(|i| name[i])
}

/// Id of a connection, equal on both sides and fixed at pairing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ConnId([u8; 32]);

impl ConnId {
    /// Computes `H(P" conn" || min(F) || max(F) || invite_id)`. The order of the fingerprints does
    /// not matter.
    #[must_use]
    pub fn derive(a: &Fingerprint, b: &Fingerprint, invite_id: &InviteId) -> Self {
        let (low, high) = if a <= b { (a, b) } else { (b, a) };
        Self(hash(&[
            label!("conn"),
            &low.0,
            &high.0,
            invite_id.as_bytes(),
        ]))
    }

    /// Wraps 32 raw bytes from this node's own store.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Returns the 32 raw bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// Id of a session: `H(P" sid" || TH)[..16]` (docs/e2ee.md#handshake).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub(crate) [u8; 16]);

impl SessionId {
    /// Wraps 16 raw bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// Returns the 16 raw bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    pub(crate) fn truncated(&self) -> [u8; 8] {
        truncate(&self.0)
    }
}

/// Incarnation of a node's side of a connection: 8 random bytes, new after every restore. Each
/// incarnation has its own sequence numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Incarnation([u8; 8]);

impl Incarnation {
    /// `0^8`, the value in an invite's prekeys.
    pub const NONE: Self = Self([0; 8]);

    /// Generates a new incarnation.
    #[must_use]
    pub fn generate(rng: &mut (impl CryptoRng + ?Sized)) -> Self {
        Self(random_array(rng))
    }

    /// Wraps 8 raw bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 8]) -> Self {
        Self(bytes)
    }

    /// Returns the 8 raw bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 8] {
        &self.0
    }
}

secret! {
    /// Secret that every holder of an invite knows. The outer key and the prekeys key of the
    /// invite's mailbox derive from it.
    pub struct InviteSecret([u8; 32]);
}
secret! {
    /// Exporter secret of a session (`EXP` in docs/e2ee.md#handshake), from which keys outside the
    /// ratchet derive. Both sides retain that of the pairing (`EXP_pairing`) for the lifetime of
    /// the connection: the outer keys and the prekeys keys of its two mailboxes derive from it.
    pub struct ExporterSecret([u8; 32]);
}

impl InviteSecret {
    /// Generates a new secret.
    #[must_use]
    pub fn generate(rng: &mut (impl CryptoRng + ?Sized)) -> Self {
        Self::from_bytes(random_array(rng))
    }
}

/// Public half of an identity: `IK_ed`, `IK_x` and their fingerprint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeerIdentity {
    ik_ed: [u8; 32],
    ik_x: [u8; 32],
    fingerprint: Fingerprint,
}

/// Error when a public key is not on its curve or is of low order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a usable public key")]
pub struct WeakKey;

impl PeerIdentity {
    /// Validates and combines both public keys.
    ///
    /// # Errors
    /// [`WeakKey`] if `ik_ed` is not on the curve or is of low order. The handshake detects a weak
    /// `ik_x`.
    pub fn new(ik_ed: [u8; 32], ik_x: [u8; 32]) -> Result<Self, WeakKey> {
        let key = VerifyingKey::from_bytes(&ik_ed).map_err(|_| WeakKey)?;
        if key.is_weak() {
            return Err(WeakKey);
        }
        Ok(Self::from_valid_keys(ik_ed, ik_x))
    }

    fn from_valid_keys(ik_ed: [u8; 32], ik_x: [u8; 32]) -> Self {
        let fingerprint = Fingerprint(hash(&[label!("id"), &ik_ed, &ik_x]));
        Self {
            ik_ed,
            ik_x,
            fingerprint,
        }
    }

    /// Returns the Ed25519 key that signs cards and prekeys.
    #[must_use]
    pub const fn ik_ed(&self) -> &[u8; 32] {
        &self.ik_ed
    }

    /// Returns the X25519 key of the handshake.
    #[must_use]
    pub const fn ik_x(&self) -> &[u8; 32] {
        &self.ik_x
    }

    /// Returns the fingerprint of both keys.
    #[must_use]
    pub const fn fingerprint(&self) -> &Fingerprint {
        &self.fingerprint
    }
}

/// Identity with its secret keys. It is not used to sign in to a relay.
pub struct Identity {
    signing_key: SigningKey,
    agreement_key: StaticSecret,
    public: PeerIdentity,
}

/// Error when a stored identity cannot be parsed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("stored identity is malformed")]
pub struct ParseIdentityError;

impl Identity {
    /// Derives an identity from two independent random seeds.
    #[must_use]
    pub fn from_seeds(ed_seed: &[u8; 32], x_seed: &[u8; 32]) -> Self {
        let signing_key = SigningKey::from_bytes(ed_seed);
        let agreement_key = StaticSecret::from(*x_seed);
        let ik_x = PublicKey::from(&agreement_key).to_bytes();
        let public = PeerIdentity::from_valid_keys(signing_key.verifying_key().to_bytes(), ik_x);
        Self {
            signing_key,
            agreement_key,
            public,
        }
    }

    /// Generates a new identity.
    #[must_use]
    pub fn generate(rng: &mut (impl CryptoRng + ?Sized)) -> Self {
        let ed_seed = Zeroizing::new(random_array::<32>(rng));
        let x_seed = Zeroizing::new(random_array::<32>(rng));
        Self::from_seeds(&ed_seed, &x_seed)
    }

    /// Encodes both seeds for the vault: `01 || ed seed 32 || x seed 32`.
    #[must_use]
    pub fn encode(&self) -> Zeroizing<Vec<u8>> {
        let mut record = Writer::with_capacity(65);
        record
            .u8(IDENTITY_VERSION)
            .bytes(self.signing_key.as_bytes())
            .bytes(self.agreement_key.as_bytes());
        record.finish()
    }

    /// Parses the output of [`Identity::encode`].
    ///
    /// # Errors
    /// [`ParseIdentityError`] for a wrong length or version.
    pub fn parse(bytes: &[u8]) -> Result<Self, ParseIdentityError> {
        let mut reader = Reader::new(bytes);
        let version = reader.u8().map_err(|_| ParseIdentityError)?;
        let ed_seed = Zeroizing::new(reader.array::<32>().map_err(|_| ParseIdentityError)?);
        let x_seed = Zeroizing::new(reader.array::<32>().map_err(|_| ParseIdentityError)?);
        if version != IDENTITY_VERSION || reader.expect_end().is_err() {
            return Err(ParseIdentityError);
        }
        Ok(Self::from_seeds(&ed_seed, &x_seed))
    }

    /// Returns the public half.
    #[must_use]
    pub const fn public(&self) -> &PeerIdentity {
        &self.public
    }

    /// Returns the fingerprint of this identity.
    #[must_use]
    pub const fn fingerprint(&self) -> &Fingerprint {
        self.public.fingerprint()
    }

    pub(crate) const fn signing_key(&self) -> &SigningKey {
        &self.signing_key
    }

    pub(crate) const fn agreement_key(&self) -> &StaticSecret {
        &self.agreement_key
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connection_id_is_equal_on_both_sides() {
        let (a, b) = (Fingerprint([1; 32]), Fingerprint([2; 32]));
        let invite = InviteId::from_bytes([3; 16]);
        assert_eq!(
            ConnId::derive(&a, &b, &invite),
            ConnId::derive(&b, &a, &invite)
        );
        assert_ne!(
            ConnId::derive(&a, &b, &invite),
            ConnId::derive(&a, &a, &invite)
        );
    }

    #[test]
    fn encoded_identity_round_trips() {
        let identity = Identity::from_seeds(&[1; 32], &[2; 32]);
        let bytes = identity.encode();
        assert_eq!(
            Identity::parse(&bytes).ok().unwrap().public(),
            identity.public()
        );
        assert!(Identity::parse(&bytes[..64]).is_err());
        assert!(Identity::parse(&[&bytes[..], &[0]].concat()).is_err());
    }

    #[test]
    fn low_order_key_is_refused() {
        let mut identity_point = [0; 32];
        identity_point[0] = 1;
        assert_eq!(PeerIdentity::new(identity_point, [9; 32]), Err(WeakKey));
        assert_eq!(PeerIdentity::new([0; 32], [9; 32]), Err(WeakKey));
    }
}
