//! Secrets of the prekey bundles that a peer may still use.

use sealpost_e2ee::PrekeySecrets;
use sealpost_proto::{
    Timestamp,
    limits::{ENVELOPE_LIFETIME_MAX, PREKEY_BUNDLES_MAX},
};

/// Adds the secrets of a new bundle to `bundles`, oldest first, and deletes those that no envelope
/// in delivery can use any more. Beyond [`PREKEY_BUNDLES_MAX`] the oldest are deleted: a relay that
/// claims again and again to have lost an account makes its node replace the bundles each time.
pub(crate) fn add_bundle(bundles: &mut Vec<PrekeySecrets>, new: PrekeySecrets, now: Timestamp) {
    bundles.retain(|bundle| bundle.not_after().plus(ENVELOPE_LIFETIME_MAX) > now);
    let excess = (bundles.len() + 1).saturating_sub(PREKEY_BUNDLES_MAX);
    bundles.drain(..excess);
    bundles.push(new);
}
