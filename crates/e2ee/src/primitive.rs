//! The primitives in the notation of docs/e2ee.md: `H`, `KDF`, `HMAC`, `X`, X25519 and labelled
//! Ed25519.

use chacha20poly1305::{
    KeyInit as _, XChaCha20Poly1305,
    aead::{Aead as _, Payload},
};
use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use hmac::{Hmac, Mac as _};
use rand_core::CryptoRng;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

/// `P" word"`: the label prefix, a space and a word.
macro_rules! label {
    ($word:literal) => {
        concat!("Sealpost-1 ", $word).as_bytes()
    };
}
pub(crate) use label;

/// Size of an XChaCha20-Poly1305 tag.
pub(crate) const TAG_BYTES: usize = 16;
/// Size of an XChaCha20-Poly1305 nonce.
pub(crate) const NONCE_BYTES: usize = 24;
/// Size of an Ed25519 signature.
pub(crate) const SIGNATURE_BYTES: usize = 64;
/// `0^24`: the nonce for a key that seals exactly once.
pub(crate) const ZERO_NONCE: [u8; NONCE_BYTES] = [0; NONCE_BYTES];
/// `0^32`: the default salt of `KDF`.
pub(crate) const ZERO_SALT: [u8; 32] = [0; 32];

/// Symmetric key of 32 bytes, zeroised when dropped and never printed.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub(crate) struct Key(pub(crate) [u8; 32]);

impl Key {
    /// Compares two keys in constant time.
    pub(crate) fn constant_time_eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

/// `H`: SHA-256 of the concatenated parts.
pub(crate) fn hash(parts: &[&[u8]]) -> [u8; 32] {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update(part);
    }
    hasher.finalize().into()
}

/// `KDF(salt, ikm, info, N)`: HKDF-SHA256 (RFC 5869) with `info` in parts.
pub(crate) fn kdf<const N: usize>(
    salt: &[u8; 32],
    ikm: &[u8],
    info: &[&[u8]],
) -> Zeroizing<[u8; N]> {
    let mut okm = Zeroizing::new([0; N]);
    #[expect(
        clippy::expect_used,
        reason = "HKDF-SHA256 refuses only more than 8,160 bytes"
    )]
    hkdf::Hkdf::<Sha256>::new(Some(salt), ikm)
        .expand_multi_info(info, okm.as_mut())
        .expect("length fits");
    okm
}

/// `KDF(0^32, ikm, info, 32)`.
pub(crate) fn kdf_key(ikm: &[u8], info: &[&[u8]]) -> Key {
    Key(*kdf::<32>(&ZERO_SALT, ikm, info))
}

/// `HMAC(key, message)`: HMAC-SHA256.
pub(crate) fn hmac(key: &Key, message: &[u8]) -> [u8; 32] {
    keyed_hmac(key)
        .chain_update(message)
        .finalize()
        .into_bytes()
        .into()
}

/// Returns HMAC-SHA256 initialised with the key, for several messages under one key.
pub(crate) fn keyed_hmac(key: &Key) -> Hmac<Sha256> {
    #[expect(clippy::expect_used, reason = "HMAC takes keys of any length")]
    <Hmac<Sha256> as hmac::KeyInit>::new_from_slice(&key.0).expect("any length")
}

/// `X(key, nonce, plaintext, ad)`: XChaCha20-Poly1305 with the tag after the ciphertext.
pub(crate) fn seal(key: &Key, nonce: &[u8; NONCE_BYTES], plaintext: &[u8], ad: &[u8]) -> Vec<u8> {
    let cipher = XChaCha20Poly1305::new(&key.0.into());
    #[expect(
        clippy::expect_used,
        reason = "the cipher refuses only more than 256 GiB"
    )]
    cipher
        .encrypt(
            nonce.into(),
            Payload {
                msg: plaintext,
                aad: ad,
            },
        )
        .expect("length fits")
}

/// Opens the output of [`seal`]. Returns `None` if the tag is invalid.
pub(crate) fn open(
    key: &Key,
    nonce: &[u8; NONCE_BYTES],
    sealed: &[u8],
    ad: &[u8],
) -> Option<Zeroizing<Vec<u8>>> {
    let cipher = XChaCha20Poly1305::new(&key.0.into());
    cipher
        .decrypt(
            nonce.into(),
            Payload {
                msg: sealed,
                aad: ad,
            },
        )
        .ok()
        .map(Zeroizing::new)
}

/// X25519 (RFC 7748). Returns `None` if the result is not contributory.
pub(crate) fn diffie_hellman(secret: &StaticSecret, public: &[u8; 32]) -> Option<Key> {
    let shared = secret.diffie_hellman(&PublicKey::from(*public));
    shared.was_contributory().then(|| Key(shared.to_bytes()))
}

/// Returns `N` random bytes.
pub(crate) fn random_array<const N: usize>(rng: &mut (impl CryptoRng + ?Sized)) -> [u8; N] {
    let mut bytes = [0; N];
    rng.fill_bytes(&mut bytes);
    bytes
}

/// Generates an X25519 secret.
pub(crate) fn generate_secret(rng: &mut (impl CryptoRng + ?Sized)) -> StaticSecret {
    let seed = Zeroizing::new(random_array::<32>(rng));
    StaticSecret::from(*seed)
}

/// Returns `record || sign(label || 00 || record)`.
pub(crate) fn sign_record(key: &SigningKey, label: &[u8], record: Vec<u8>) -> Vec<u8> {
    let signature = key.sign(&[label, &[0], &record].concat());
    let mut signed = record;
    signed.extend_from_slice(&signature.to_bytes());
    signed
}

/// Splits a signed record into record and signature.
pub(crate) fn split_signed(signed: &[u8]) -> Option<(&[u8], &[u8; SIGNATURE_BYTES])> {
    signed.split_last_chunk::<SIGNATURE_BYTES>()
}

/// Verifies the signature over `label || 00 || record` strictly (RFC 8032).
pub(crate) fn is_signature_valid(
    ik_ed: &[u8; 32],
    label: &[u8],
    record: &[u8],
    signature: &[u8; 64],
) -> bool {
    let signature = Signature::from_bytes(signature);
    VerifyingKey::from_bytes(ik_ed).is_ok_and(|key| {
        key.verify_strict(&[label, &[0], record].concat(), &signature)
            .is_ok()
    })
}

#[cfg(test)]
mod tests;
