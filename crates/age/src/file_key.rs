//! The key of one file, from which the MAC of its header and the key of its payload derive.

use crate::chunk_cipher::ChunkCipher;
use crate::primitive::{Cipher, TAG_BYTES, derive_key, random_array};
use hmac::{Hmac, KeyInit as _, Mac as _};
use rand_core::CryptoRng;
use sealpost_proto::secret;
use sha2::Sha256;
use zeroize::Zeroizing;

const FILE_KEY_BYTES: usize = 16;
/// Size of a wrapped file key. Bodies of another size are refused before they are decrypted, which
/// mitigates partitioning oracle attacks.
pub(crate) const WRAPPED_KEY_BYTES: usize = FILE_KEY_BYTES + TAG_BYTES;
/// Size of the MAC of a header.
pub(crate) const MAC_BYTES: usize = 32;
/// Size of the nonce in front of the payload.
pub(crate) const PAYLOAD_NONCE_BYTES: usize = 16;
/// Each wrapping key encrypts once, so its nonce is fixed.
const WRAP_NONCE: [u8; 12] = [0; 12];

secret! {
    /// Key of one file.
    pub(crate) struct FileKey([u8; FILE_KEY_BYTES]);
}

impl FileKey {
    pub(crate) fn generate(rng: &mut (impl CryptoRng + ?Sized)) -> Self {
        Self::from_bytes(random_array(rng))
    }

    /// Encrypts the key for one recipient, under a key that wraps nothing else.
    pub(crate) fn wrap(&self, wrap_key: &[u8; 32]) -> [u8; WRAPPED_KEY_BYTES] {
        let mut wrapped = [0; WRAPPED_KEY_BYTES];
        let (text, tag) = wrapped.split_at_mut(FILE_KEY_BYTES);
        text.copy_from_slice(self.expose());
        tag.copy_from_slice(&Cipher::new(wrap_key).seal(WRAP_NONCE, text));
        wrapped
    }

    /// Decrypts the output of [`FileKey::wrap`]. Returns `None` for another wrapping key.
    pub(crate) fn unwrap(wrapped: &[u8; WRAPPED_KEY_BYTES], wrap_key: &[u8; 32]) -> Option<Self> {
        let (text, tag) = wrapped.split_first_chunk::<FILE_KEY_BYTES>()?;
        let mut text = Zeroizing::new(*text);
        Cipher::new(wrap_key)
            .open(WRAP_NONCE, text.as_mut(), tag.try_into().ok()?)
            .then(|| Self::from_bytes(*text))
    }

    /// Computes the MAC of a header.
    pub(crate) fn header_mac(&self, covered: &[u8]) -> [u8; MAC_BYTES] {
        self.header_hmac(covered).finalize().into_bytes().into()
    }

    /// Whether a header has this MAC; compared in constant time.
    pub(crate) fn is_header_mac(&self, covered: &[u8], mac: &[u8; MAC_BYTES]) -> bool {
        self.header_hmac(covered).verify_slice(mac).is_ok()
    }

    fn header_hmac(&self, covered: &[u8]) -> Hmac<Sha256> {
        let key = derive_key(self.expose(), b"", b"header");
        #[expect(clippy::expect_used, reason = "HMAC takes keys of any length")]
        Hmac::<Sha256>::new_from_slice(key.as_ref())
            .expect("any length")
            .chain_update(covered)
    }

    /// Returns the cipher of the payload that starts with this nonce.
    pub(crate) fn payload_cipher(&self, nonce: &[u8; PAYLOAD_NONCE_BYTES]) -> ChunkCipher {
        ChunkCipher::new(&derive_key(self.expose(), nonce, b"payload"))
    }
}
