//! HMAC-SHA256 (RFC 2104) over several pieces.

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

/// The MAC over the pieces, one after the other, not finished yet.
#[expect(clippy::expect_used, reason = "HMAC takes a key of any length")]
fn over(key: &[u8], pieces: &[&[u8]]) -> Hmac<Sha256> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("any length");
    for piece in pieces {
        mac.update(piece);
    }
    mac
}

pub(crate) fn hmac(key: &[u8], pieces: &[&[u8]]) -> [u8; 32] {
    over(key, pieces).finalize().into_bytes().into()
}

/// Whether `tag` is the whole MAC, in constant time.
pub(crate) fn is_hmac(key: &[u8], pieces: &[&[u8]], tag: &[u8]) -> bool {
    over(key, pieces).verify_slice(tag).is_ok()
}
