//! The key schedule of the handshake: from DH1, DH2, DH3 and SS to the session's keys.

use super::prefix::SUITE;
use super::{AD_BYTES, CT_BYTES};
use crate::keys::{ConnId, PeerIdentity, SessionId};
use crate::primitive::{Key, ZERO_SALT, hash, hmac, kdf, kdf_key, label};
use crate::record::len_u32;
use zeroize::Zeroizing;

/// Keys and identifiers that the handshake gives both sides.
pub(crate) struct SessionKeys {
    pub(crate) root: Key,
    /// HKA: the header key of A's first chain.
    pub(crate) header_a: Key,
    /// NHKB: the header key of B's first chain.
    pub(crate) header_b: Key,
    pub(crate) exp: Key,
    pub(crate) ad: [u8; AD_BYTES],
    pub(crate) session_id: SessionId,
    transcript: [u8; 32],
}

/// Input of TH, the transcript hash.
pub(super) struct Transcript<'a> {
    pub(super) conn_id: &'a ConnId,
    pub(super) initiator: &'a PeerIdentity,
    pub(super) responder: &'a PeerIdentity,
    pub(super) session_epoch: u64,
    pub(super) ek: &'a [u8; 32],
    pub(super) bundle: &'a [u8],
    pub(super) ct: &'a [u8; CT_BYTES],
}

/// The four shared secrets: DH1, DH2, DH3 and SS.
pub(super) struct SharedSecrets<'a> {
    pub(super) dh1: &'a Key,
    pub(super) dh2: &'a Key,
    pub(super) dh3: &'a Key,
    pub(super) ss: &'a Key,
}

impl SessionKeys {
    pub(super) fn derive(secrets: &SharedSecrets<'_>, transcript: &Transcript<'_>) -> Self {
        let mut ikm = Zeroizing::new([0xff; 32 * 5]);
        for (part, secret) in ikm.chunks_exact_mut(32).skip(1).zip([
            secrets.dh1,
            secrets.dh2,
            secrets.dh3,
            secrets.ss,
        ]) {
            part.copy_from_slice(&secret.0);
        }
        let okm = kdf::<128>(
            &ZERO_SALT,
            ikm.as_ref(),
            &[b"Sealpost-1_CURVE25519_SHA-256_ML-KEM-768"],
        );
        let th = transcript.hash();
        let part = |at: usize| Key(std::array::from_fn(|i| okm[32 * at + i]));
        let id = hash(&[label!("sid"), &th]);
        Self {
            root: part(0),
            header_a: part(1),
            header_b: part(2),
            exp: part(3),
            ad: transcript.associated_data(&th),
            session_id: SessionId(std::array::from_fn(|i| id[i])),
            transcript: th,
        }
    }

    /// Builds keys without a handshake.
    #[cfg(test)]
    pub(crate) fn for_tests(okm: [[u8; 32]; 4], session_id: SessionId) -> Self {
        let [root, header_a, header_b, exp] = okm.map(Key);
        Self {
            root,
            header_a,
            header_b,
            exp,
            ad: [5; AD_BYTES],
            session_id,
            transcript: [0; 32],
        }
    }

    /// Derives the key of `hello`.
    pub(super) fn derive_hello_key(&self) -> Key {
        kdf_key(&self.exp.0, &[label!("hello")])
    }

    /// Computes the tag that proves knowledge of the EXP of an earlier session.
    pub(super) fn compute_continuity_tag(&self, previous: &Key) -> [u8; 32] {
        hmac(&kdf_key(&previous.0, &[label!("cont")]), &self.transcript)
    }
}

impl Transcript<'_> {
    fn hash(&self) -> [u8; 32] {
        hash(&[
            label!("th"),
            &SUITE.to_be_bytes(),
            self.conn_id.as_bytes(),
            self.initiator.fingerprint().as_bytes(),
            self.responder.fingerprint().as_bytes(),
            &self.session_epoch.to_be_bytes(),
            self.ek,
            &len_u32(self.bundle.len()).to_be_bytes(),
            self.bundle,
            self.ct,
        ])
    }

    /// Builds AD: `05 || IK_xA || 05 || IK_xB || TH`.
    fn associated_data(&self, th: &[u8; 32]) -> [u8; AD_BYTES] {
        let mut ad = [5; AD_BYTES];
        ad[1..33].copy_from_slice(self.initiator.ik_x());
        ad[34..66].copy_from_slice(self.responder.ik_x());
        ad[66..].copy_from_slice(th);
        ad
    }
}

/// Derives the key of `sealed`. It does not depend on IK_xA because B opens `sealed` to learn who A
/// is.
pub(super) fn derive_static_key(dh3: &Key, ss: &Key) -> Key {
    let mut ikm = Zeroizing::new([0; 64]);
    ikm[..32].copy_from_slice(&dh3.0);
    ikm[32..].copy_from_slice(&ss.0);
    kdf_key(ikm.as_ref(), &[label!("static")])
}
