//! Invite as the node that issued it stores it: the invite and the secrets of the prekey bundles in
//! its mailbox.

use crate::prekey_bundles::add_bundle;
use minicbor::{Decoder, Encoder, decode, encode};
use rand_core::CryptoRng;
use sealpost_e2ee::{
    Identity, Incarnation, PrekeySecrets, Scope, SignedCard,
    invite::Invite,
    prekeys::{BundleParameters, SealedPrekeysKey, next_epoch, seal_prekeys},
};
use sealpost_proto::{Timestamp, limits};
use std::{convert::Infallible, time::Duration};
use zeroize::Zeroizing;

const VERSION: u8 = 1;

/// Invite that this node has issued, with the secrets that open its requests.
#[derive(Clone)]
pub struct IssuedInvite {
    /// Invite as it is sent to the partner.
    pub invite: Invite,
    /// Secrets of its prekey bundles, oldest first.
    pub bundles: Vec<PrekeySecrets>,
}

/// Error for stored bytes that are not an invite of this version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a stored invite is malformed")]
pub struct ParseIssuedInviteError;

impl IssuedInvite {
    /// Wraps a new invite that has no prekey bundle yet.
    #[must_use]
    pub const fn new(invite: Invite) -> Self {
        Self {
            invite,
            bundles: Vec::new(),
        }
    }

    /// Generates a new prekey bundle, stores its secrets and seals it together with our card for
    /// the relay. `lifetime` is how long the bundle may be used.
    pub fn generate_bundle(
        &mut self,
        identity: &Identity,
        card: &SignedCard,
        lifetime: Duration,
        now: Timestamp,
        rng: &mut dyn CryptoRng,
    ) -> Option<[u8; limits::SEALED_PREKEYS_BYTES]> {
        let last = self.bundles.last().map(PrekeySecrets::bundle_id);
        let parameters = BundleParameters {
            scope: Scope::invite(&self.invite.id()),
            incarnation: Incarnation::NONE,
            epoch: next_epoch(last.map_or(0, |last| last.epoch), now),
            spk_id: last.map_or(1, |last| last.spk_id.wrapping_add(1)),
            now,
            lifetime,
        };
        let (secrets, bundle) = PrekeySecrets::generate(identity, &parameters, rng);
        let key = SealedPrekeysKey::for_invite(self.invite.secret());
        let sealed =
            seal_prekeys(&key, &self.invite.mailbox().id, Some(card), &bundle, rng).ok()?;
        add_bundle(&mut self.bundles, secrets, now);
        Some(sealed)
    }

    /// Whether the latest bundle is due for replacement (every 7 days, for a contact address).
    #[must_use]
    pub fn is_bundle_rotation_due(&self, now: Timestamp) -> bool {
        let last = self.bundles.last().map_or(0, |last| last.bundle_id().epoch);
        now.since(Timestamp::from_millis(last)) >= limits::PREKEYS_ROTATION_INTERVAL
    }

    /// Encodes the invite for the vault: `[version, invite, [bundle, …]]` in CBOR.
    #[must_use]
    pub fn encode(&self) -> Zeroizing<Vec<u8>> {
        let mut bytes = Zeroizing::new(Vec::with_capacity(4 * 1024));
        // Writing to a vector cannot fail.
        let _ = self.write(&mut Encoder::new(&mut *bytes));
        bytes
    }

    fn write(&self, out: &mut Encoder<&mut Vec<u8>>) -> Result<(), encode::Error<Infallible>> {
        out.array(3)?
            .u8(VERSION)?
            .str(&self.invite.encode_uri())?
            .array(self.bundles.len() as u64)?;
        for bundle in &self.bundles {
            out.bytes(&bundle.encode())?;
        }
        Ok(())
    }

    /// Decodes the output of [`IssuedInvite::encode`].
    ///
    /// # Errors
    /// [`ParseIssuedInviteError`] for a different layout or version.
    pub fn parse(bytes: &[u8]) -> Result<Self, ParseIssuedInviteError> {
        let mut input = Decoder::new(bytes);
        if input.array()? != Some(3) || input.u8()? != VERSION {
            return Err(ParseIssuedInviteError);
        }
        let invite = Invite::parse(input.str()?).map_err(|_| ParseIssuedInviteError)?;
        let len = input.array()?.ok_or(ParseIssuedInviteError)?;
        let bundles = (0..len)
            .map(|_| PrekeySecrets::parse(input.bytes()?).map_err(|_| ParseIssuedInviteError))
            .collect::<Result<_, _>>()?;
        Ok(Self { invite, bundles })
    }
}

impl From<decode::Error> for ParseIssuedInviteError {
    fn from(_: decode::Error) -> Self {
        Self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand_chacha::ChaCha20Rng;
    use rand_core::SeedableRng as _;
    use sealpost_e2ee::invite::InviteKind;
    use sealpost_proto::{MailboxId, MailboxRef, Origin};

    #[test]
    fn number_of_bundles_is_bounded() {
        let rng = &mut ChaCha20Rng::seed_from_u64(1);
        let identity = Identity::generate(rng);
        let mailbox = MailboxRef {
            relay: Origin::parse("https://relay.example").unwrap(),
            id: MailboxId::from_bytes([1; 16]),
        };
        let kind = InviteKind::ContactAddress;
        let mut issued = IssuedInvite::new(Invite::generate(
            kind,
            mailbox,
            *identity.fingerprint(),
            rng,
        ));
        let now = Timestamp::from_millis(1_766_000_000_000);
        let card = identity.sign_card("Acme", now).unwrap();
        for _ in 0..3 * limits::PREKEY_BUNDLES_MAX {
            let lifetime = limits::PREKEYS_LIFETIME;
            issued
                .generate_bundle(&identity, &card, lifetime, now, rng)
                .unwrap();
        }
        assert_eq!(issued.bundles.len(), limits::PREKEY_BUNDLES_MAX);
        let epochs = issued.bundles.iter().map(|bundle| bundle.bundle_id().epoch);
        assert!(epochs.is_sorted(), "the latest remain");
    }
}
