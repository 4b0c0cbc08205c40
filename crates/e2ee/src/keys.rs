//! Identities, fingerprints, connections, and the secrets that two nodes share.

use crate::primitive::{hash, label, random};
use crate::record::{Reader, Writer};
use ed25519_dalek::{SigningKey, VerifyingKey};
use rand_core::CryptoRng;
use sealpost_proto::{InviteId, b64};
use std::fmt;
use subtle::ConstantTimeEq as _;
use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

const IDENTITY_VERSION: u8 = 1;

/// The 32 bytes that name an identity: `H(P" id" || IK_ed || IK_x)` (docs/e2ee.md#keys).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// Takes 32 raw bytes as they are.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 raw bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The 8 bytes that stand in the prefix of an INIT.
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

/// The first 8 bytes of a longer name.
pub(crate) fn truncate<const N: usize>(name: &[u8; N]) -> [u8; 8] {
    const { assert!(N >= 8) };
    std::array::from_fn(|i| name[i])
}

/// The name of a connection, the same on both sides and fixed at pairing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ConnId([u8; 32]);

impl ConnId {
    /// `H(P" conn" || min(F) || max(F) || invite_id)`: the order of the two fingerprints does not matter.
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

    /// Takes 32 raw bytes as they are, from our own store.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 raw bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// The name of a session: `H(P" sid" || TH)[..16]` (docs/e2ee.md#handshake).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub(crate) [u8; 16]);

impl SessionId {
    /// The 16 raw bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    pub(crate) fn truncated(&self) -> [u8; 8] {
        truncate(&self.0)
    }
}

/// One life of a node's side of a connection: 8 random bytes, new after every restore. Counts in `seq` belong to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Incarnation([u8; 8]);

impl Incarnation {
    /// `0^8`, as an invite's prekeys have it.
    pub const NONE: Self = Self([0; 8]);

    /// A new one.
    #[must_use]
    pub fn generate(rng: &mut (impl CryptoRng + ?Sized)) -> Self {
        Self(random(rng))
    }

    /// Takes 8 raw bytes as they are.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 8]) -> Self {
        Self(bytes)
    }

    /// The 8 raw bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 8] {
        &self.0
    }
}

macro_rules! shared_secret {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Zeroize, ZeroizeOnDrop)]
        pub struct $name([u8; 32]);

        impl $name {
            /// Takes 32 raw bytes as they are.
            #[must_use]
            pub const fn from_bytes(bytes: [u8; 32]) -> Self {
                Self(bytes)
            }

            /// The 32 raw bytes.
            #[must_use]
            pub const fn expose(&self) -> &[u8; 32] {
                &self.0
            }
        }

        impl PartialEq for $name {
            fn eq(&self, other: &Self) -> bool {
                self.0.ct_eq(&other.0).into()
            }
        }

        impl Eq for $name {}
    };
}

shared_secret!(
    /// The secret of an invite: whoever holds the invite has it. It keys the outer layer and the prekeys of the
    /// invite's mailbox.
    InviteSecret
);
shared_secret!(
    /// EXP of the INIT whose connection request was answered (docs/e2ee.md#keys). Both sides keep it as long as the
    /// connection: the outer layer and the prekeys of its two mailboxes are keyed from it.
    ExpPairing
);

impl InviteSecret {
    /// A new one.
    #[must_use]
    pub fn generate(rng: &mut (impl CryptoRng + ?Sized)) -> Self {
        Self(random(rng))
    }
}

/// The public half of an identity: `IK_ed`, `IK_x` and the fingerprint over both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeerIdentity {
    ik_ed: [u8; 32],
    ik_x: [u8; 32],
    fingerprint: Fingerprint,
}

/// A public key that is no point of its curve, or one of low order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a usable public key")]
pub struct WeakKey;

impl PeerIdentity {
    /// Takes both public keys.
    ///
    /// # Errors
    /// [`WeakKey`] when `ik_ed` is not a point of the curve or of low order. A weak `ik_x` shows at the handshake.
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

    /// The Ed25519 key that signs cards and prekeys.
    #[must_use]
    pub const fn ik_ed(&self) -> &[u8; 32] {
        &self.ik_ed
    }

    /// The X25519 key of the handshake.
    #[must_use]
    pub const fn ik_x(&self) -> &[u8; 32] {
        &self.ik_x
    }

    /// The fingerprint over both.
    #[must_use]
    pub const fn fingerprint(&self) -> &Fingerprint {
        &self.fingerprint
    }
}

/// An identity with its secret keys. It never signs in to a relay.
pub struct Identity {
    signing_key: SigningKey,
    agreement_key: StaticSecret,
    public: PeerIdentity,
}

/// Stored bytes that are no identity of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("stored identity is malformed")]
pub struct ParseIdentityError;

impl Identity {
    /// From two independent random seeds of 32 bytes.
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

    /// A new one.
    #[must_use]
    pub fn generate(rng: &mut (impl CryptoRng + ?Sized)) -> Self {
        let ed_seed = Zeroizing::new(random::<32>(rng));
        let x_seed = Zeroizing::new(random::<32>(rng));
        Self::from_seeds(&ed_seed, &x_seed)
    }

    /// Both seeds, for the vault: `01 || ed seed 32 || x seed 32`.
    #[must_use]
    pub fn encode(&self) -> Zeroizing<Vec<u8>> {
        let mut record = Writer::with_capacity(65);
        record
            .u8(IDENTITY_VERSION)
            .bytes(self.signing_key.as_bytes())
            .bytes(self.agreement_key.as_bytes());
        record.finish()
    }

    /// Reads what [`Identity::encode`] wrote.
    ///
    /// # Errors
    /// [`ParseIdentityError`] for another length or version.
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

    /// The public half.
    #[must_use]
    pub const fn public(&self) -> &PeerIdentity {
        &self.public
    }

    /// The fingerprint of this identity.
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
    fn a_connection_has_one_name_on_both_sides() {
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
    fn an_identity_survives_the_vault() {
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
    fn a_point_of_low_order_is_no_identity() {
        let mut identity_point = [0; 32];
        identity_point[0] = 1;
        assert_eq!(PeerIdentity::new(identity_point, [9; 32]), Err(WeakKey));
        assert_eq!(PeerIdentity::new([0; 32], [9; 32]), Err(WeakKey));
    }
}
