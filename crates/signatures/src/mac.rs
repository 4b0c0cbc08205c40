//! HMAC-SHA256 (RFC 2104) over several parts.

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

/// The MAC over the parts, one after the other, not finished yet.
#[expect(clippy::expect_used, reason = "HMAC takes a key of any length")]
fn keyed_mac(key: &[u8], parts: &[&[u8]]) -> Hmac<Sha256> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("any length");
    for piece in parts {
        mac.update(piece);
    }
    mac
}

pub(crate) fn compute_hmac(key: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    keyed_mac(key, parts).finalize().into_bytes().into()
}

/// Whether `tag` is the whole MAC, in constant time.
pub(crate) fn is_hmac(key: &[u8], parts: &[&[u8]], tag: &[u8]) -> bool {
    keyed_mac(key, parts).verify_slice(tag).is_ok()
}
