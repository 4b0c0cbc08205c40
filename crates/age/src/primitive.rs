//! The primitives of the specification: base64, HKDF-SHA-256 and ChaCha20-Poly1305 under a key that
//! encrypts once.

use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};
use chacha20poly1305::{AeadInOut as _, ChaCha20Poly1305, KeyInit as _, Nonce, Tag};
use hkdf::Hkdf;
use rand_core::CryptoRng;
use sha2::Sha256;
use zeroize::Zeroizing;

/// Size of a tag of ChaCha20-Poly1305.
pub(crate) const TAG_BYTES: usize = 16;
const NONCE_BYTES: usize = 12;

/// Encodes bytes as base64 without padding.
pub(crate) fn encode_base64(bytes: &[u8]) -> String {
    STANDARD_NO_PAD.encode(bytes)
}

/// Decodes base64 without padding. Only the canonical encoding is accepted, because two encodings
/// of one header would make files malleable.
pub(crate) fn decode_base64(text: &[u8]) -> Option<Vec<u8>> {
    STANDARD_NO_PAD.decode(text).ok()
}

/// Decodes the canonical base64 of exactly `N` bytes.
pub(crate) fn decode_base64_array<const N: usize>(text: &[u8]) -> Option<[u8; N]> {
    decode_base64(text)?.try_into().ok()
}

/// Returns `N` random bytes.
pub(crate) fn random_array<const N: usize>(rng: &mut (impl CryptoRng + ?Sized)) -> [u8; N] {
    let mut bytes = [0; N];
    rng.fill_bytes(&mut bytes);
    bytes
}

/// HKDF-SHA-256 with 32 bytes of output.
pub(crate) fn derive_key(ikm: &[u8], salt: &[u8], info: &[u8]) -> Zeroizing<[u8; 32]> {
    let mut key = Zeroizing::new([0; 32]);
    #[expect(
        clippy::expect_used,
        reason = "HKDF-SHA256 refuses only more than 8,160 bytes"
    )]
    Hkdf::<Sha256>::new(Some(salt), ikm)
        .expand(info, key.as_mut())
        .expect("length fits");
    key
}

/// ChaCha20-Poly1305 (RFC 8439) without associated data.
pub(crate) struct Cipher(ChaCha20Poly1305);

impl Cipher {
    pub(crate) fn new(key: &[u8; 32]) -> Self {
        Self(ChaCha20Poly1305::new(key.into()))
    }

    /// Encrypts in place and returns the tag.
    pub(crate) fn seal(&self, nonce: [u8; NONCE_BYTES], text: &mut [u8]) -> [u8; TAG_BYTES] {
        #[expect(
            clippy::expect_used,
            reason = "the cipher refuses only more than 256 GiB"
        )]
        let tag = self
            .0
            .encrypt_inout_detached(&Nonce::from(nonce), b"", text.into())
            .expect("length fits");
        tag.into()
    }

    /// Decrypts in place. If the tag is invalid, `text` is left as it was and the result is false.
    #[must_use]
    pub(crate) fn open(
        &self,
        nonce: [u8; NONCE_BYTES],
        text: &mut [u8],
        tag: [u8; TAG_BYTES],
    ) -> bool {
        self.0
            .decrypt_inout_detached(&Nonce::from(nonce), b"", text.into(), &Tag::from(tag))
            .is_ok()
    }
}
