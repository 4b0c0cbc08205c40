//! Prekeys: the signed bundle that a peer needs to start a session, its secret half, and the sealed
//! form that the relay stores.

use crate::card::{CardError, SignedCard};
use crate::envelope::EnvelopeDirection;
use crate::keys::{ConnId, ExporterSecret, Identity, Incarnation, InviteSecret, PeerIdentity};
use crate::primitive::{
    Key, NONCE_BYTES, SIGNATURE_BYTES, TAG_BYTES, generate_secret, hash, is_signature_valid,
    kdf_key, label, open, random_array, seal, sign_record, split_signed,
};
use crate::record::{ParseRecordError, Reader, Writer};
use ml_kem::KeyExport as _;
use ml_kem::ml_kem_768::{DecapsulationKey, EncapsulationKey};
use rand_core::CryptoRng;
use sealpost_proto::limits::{PREKEYS_EARLY_MAX, SEALED_PREKEYS_BYTES};
use sealpost_proto::{InviteId, MailboxId, Timestamp};
use std::time::Duration;
use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::Zeroizing;

const BUNDLE_VERSION: u8 = 1;
const SECRETS_VERSION: u8 = 1;
/// Size of an ML-KEM-768 encapsulation key.
const PQSPK_BYTES: usize = 1_184;
const RECORD_BYTES: usize = 1 + 32 + 8 + 8 + 8 + 8 + 4 + 32 + PQSPK_BYTES;
/// Size of a bundle with its signature.
pub(crate) const BUNDLE_BYTES: usize = RECORD_BYTES + SIGNATURE_BYTES;
const PADDED_BYTES: usize = SEALED_PREKEYS_BYTES - NONCE_BYTES - TAG_BYTES;

/// Scope of a bundle: one connection or one invite.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Scope([u8; 32]);

impl Scope {
    /// Returns the scope of a connection's bundle, which is its `conn_id`.
    #[must_use]
    pub const fn connection(conn_id: &ConnId) -> Self {
        Self(*conn_id.as_bytes())
    }

    /// Returns the scope of an invite's bundle: `H(P" invite" || invite_id)`.
    #[must_use]
    pub fn invite(invite_id: &InviteId) -> Self {
        Self(hash(&[label!("invite"), invite_id.as_bytes()]))
    }

    /// Returns the 32 raw bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// Identifier of a bundle within its scope.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BundleId {
    /// The epoch of the bundle.
    pub epoch: u64,
    /// The number of its signed prekey.
    pub spk_id: u32,
}

/// Returns the epoch of the next bundle or session: `max(last + 1, unix_ms)`.
#[must_use]
pub const fn next_epoch(last: u64, now: Timestamp) -> u64 {
    let after = last.saturating_add(1);
    if after > now.as_millis() {
        after
    } else {
        now.as_millis()
    }
}

/// Prekey bundle with a verified signature (docs/e2ee.md#prekeys).
#[derive(Clone)]
pub struct PrekeyBundle {
    bytes: Vec<u8>,
    fields: BundleFields,
}

#[derive(Clone)]
struct BundleFields {
    scope: Scope,
    incarnation: Incarnation,
    bundle_id: BundleId,
    not_before: Timestamp,
    not_after: Timestamp,
    spk: [u8; 32],
    pqspk: EncapsulationKey,
}

/// Error when a bundle is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BundleError {
    /// Wrong layout, unknown version, or an invalid key.
    #[error("malformed prekeys")]
    Malformed,
    /// The signature is not that of the expected owner.
    #[error("the signature of the prekeys is invalid")]
    Signature,
    /// The bundle belongs to another connection or invite.
    #[error("the prekeys belong to another connection or invite")]
    Scope,
    /// `not_after` has passed.
    #[error("the prekeys have expired")]
    Expired,
    /// `not_before` is more than two days in the future.
    #[error("the prekeys are not valid yet")]
    NotYetValid,
    /// The epoch is below the highest one seen.
    #[error("the prekeys are older than earlier ones")]
    Replayed,
}

impl From<ParseRecordError> for BundleError {
    fn from(_: ParseRecordError) -> Self {
        Self::Malformed
    }
}

impl PrekeyBundle {
    /// Parses a signed bundle and verifies that it is `owner`'s and of `scope`.
    ///
    /// # Errors
    /// [`BundleError::Malformed`], [`BundleError::Signature`] or [`BundleError::Scope`].
    pub fn parse_verified(
        bytes: &[u8],
        owner: &PeerIdentity,
        scope: &Scope,
    ) -> Result<Self, BundleError> {
        let (record, signature) = split_signed(bytes).ok_or(BundleError::Malformed)?;
        let fields = parse_record(record)?;
        if !is_signature_valid(owner.ik_ed(), label!("prekeys"), record, signature) {
            return Err(BundleError::Signature);
        }
        if fields.scope != *scope {
            return Err(BundleError::Scope);
        }
        Ok(Self {
            bytes: bytes.to_vec(),
            fields,
        })
    }

    /// Checks that the bundle may be used at `now`. `last_epoch` is the highest epoch seen for this
    /// owner and scope.
    ///
    /// # Errors
    /// [`BundleError::Expired`], [`BundleError::NotYetValid`] or [`BundleError::Replayed`].
    pub fn check_fresh(&self, now: Timestamp, last_epoch: u64) -> Result<(), BundleError> {
        if now > self.fields.not_after {
            return Err(BundleError::Expired);
        }
        if now.plus(PREKEYS_EARLY_MAX) < self.fields.not_before {
            return Err(BundleError::NotYetValid);
        }
        if self.fields.bundle_id.epoch < last_epoch {
            return Err(BundleError::Replayed);
        }
        Ok(())
    }

    /// Returns the record and its signature in wire form.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Returns the epoch and the number of the signed prekey.
    #[must_use]
    pub const fn bundle_id(&self) -> BundleId {
        self.fields.bundle_id
    }

    /// Returns the owner's incarnation for this connection; [`Incarnation::NONE`] for an invite.
    #[must_use]
    pub const fn incarnation(&self) -> Incarnation {
        self.fields.incarnation
    }

    /// Returns the last moment at which the bundle may be used.
    #[must_use]
    pub const fn not_after(&self) -> Timestamp {
        self.fields.not_after
    }

    pub(crate) const fn spk(&self) -> &[u8; 32] {
        &self.fields.spk
    }

    pub(crate) const fn pqspk(&self) -> &EncapsulationKey {
        &self.fields.pqspk
    }
}

fn parse_record(record: &[u8]) -> Result<BundleFields, BundleError> {
    let mut reader = Reader::new(record);
    if reader.u8()? != BUNDLE_VERSION {
        return Err(BundleError::Malformed);
    }
    let scope = Scope(reader.array()?);
    let incarnation = Incarnation::from_bytes(reader.array()?);
    let epoch = reader.u64()?;
    let not_before = Timestamp::from_millis(reader.u64()?);
    let not_after = Timestamp::from_millis(reader.u64()?);
    let bundle_id = BundleId {
        epoch,
        spk_id: reader.u32()?,
    };
    let spk = reader.array()?;
    let pqspk = EncapsulationKey::new(&reader.array::<PQSPK_BYTES>()?.into())
        .map_err(|_| BundleError::Malformed)?;
    reader.expect_end()?;
    Ok(BundleFields {
        scope,
        incarnation,
        bundle_id,
        not_before,
        not_after,
        spk,
        pqspk,
    })
}

/// Parameters of a new bundle.
#[derive(Debug, Clone, Copy)]
pub struct BundleParameters {
    /// The connection or invite that it is for.
    pub scope: Scope,
    /// The owner's incarnation for the connection; [`Incarnation::NONE`] for an invite.
    pub incarnation: Incarnation,
    /// The epoch: [`next_epoch`] after the last bundle of this scope.
    pub epoch: u64,
    /// The number of the signed prekey, counted by the owner.
    pub spk_id: u32,
    /// `not_before`: the time of creation.
    pub now: Timestamp,
    /// How long the bundle is valid: `not_after` is `now + lifetime`.
    pub lifetime: Duration,
}

/// Secret half of a bundle, with the signed bundle. The ML-KEM key is stored as its seed.
#[derive(Clone)]
pub struct PrekeySecrets {
    bundle: Vec<u8>,
    bundle_id: BundleId,
    not_after: Timestamp,
    spk: StaticSecret,
    pq_seed: Zeroizing<[u8; 64]>,
}

/// Error when stored prekey secrets cannot be parsed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("stored prekey secrets are malformed")]
pub struct ParsePrekeySecretsError;

impl PrekeySecrets {
    /// Generates and signs a bundle. Returns the secret half and the signed bundle to publish.
    #[must_use]
    pub fn generate(
        identity: &Identity,
        parameters: &BundleParameters,
        rng: &mut (impl CryptoRng + ?Sized),
    ) -> (Self, Vec<u8>) {
        let spk = generate_secret(rng);
        let pq_seed = Zeroizing::new(random_array::<64>(rng));
        let not_after = parameters.now.plus(parameters.lifetime);
        let record = encode_record(parameters, not_after, &spk, &pq_seed);
        let bundle = sign_record(identity.signing_key(), label!("prekeys"), record);
        let bundle_id = BundleId {
            epoch: parameters.epoch,
            spk_id: parameters.spk_id,
        };
        (
            Self {
                bundle: bundle.clone(),
                bundle_id,
                not_after,
                spk,
                pq_seed,
            },
            bundle,
        )
    }

    /// Encodes the secrets for the vault: `01 || LP(bundle) || SPK secret 32 || ML-KEM seed 64`.
    #[must_use]
    pub fn encode(&self) -> Zeroizing<Vec<u8>> {
        let mut record = Writer::with_capacity(5 + BUNDLE_BYTES + 96);
        record
            .u8(SECRETS_VERSION)
            .lp(&self.bundle)
            .bytes(self.spk.as_bytes())
            .bytes(self.pq_seed.as_ref());
        record.finish()
    }

    /// Parses the output of [`PrekeySecrets::encode`].
    ///
    /// # Errors
    /// [`ParsePrekeySecretsError`] for a wrong layout or version.
    pub fn parse(bytes: &[u8]) -> Result<Self, ParsePrekeySecretsError> {
        parse_secrets(bytes).map_err(|_| ParsePrekeySecretsError)
    }

    /// Returns the epoch and the number of the signed prekey. With the scope, an INIT names its
    /// bundle by these.
    #[must_use]
    pub const fn bundle_id(&self) -> BundleId {
        self.bundle_id
    }

    /// Returns the last moment at which a peer may use the bundle.
    #[must_use]
    pub const fn not_after(&self) -> Timestamp {
        self.not_after
    }

    /// Returns the signed bundle as published.
    #[must_use]
    pub fn bundle(&self) -> &[u8] {
        &self.bundle
    }

    pub(crate) const fn spk(&self) -> &StaticSecret {
        &self.spk
    }

    pub(crate) fn decapsulation_key(&self) -> DecapsulationKey {
        DecapsulationKey::from_seed((*self.pq_seed).into())
    }
}

fn encode_record(
    parameters: &BundleParameters,
    not_after: Timestamp,
    spk: &StaticSecret,
    pq_seed: &[u8; 64],
) -> Vec<u8> {
    let pqspk = DecapsulationKey::from_seed((*pq_seed).into())
        .encapsulation_key()
        .to_bytes();
    let mut record = Vec::with_capacity(BUNDLE_BYTES);
    record.push(BUNDLE_VERSION);
    record.extend_from_slice(&parameters.scope.0);
    record.extend_from_slice(parameters.incarnation.as_bytes());
    record.extend_from_slice(&parameters.epoch.to_be_bytes());
    record.extend_from_slice(&parameters.now.as_millis().to_be_bytes());
    record.extend_from_slice(&not_after.as_millis().to_be_bytes());
    record.extend_from_slice(&parameters.spk_id.to_be_bytes());
    record.extend_from_slice(PublicKey::from(spk).as_bytes());
    record.extend_from_slice(&pqspk);
    record
}

fn parse_secrets(bytes: &[u8]) -> Result<PrekeySecrets, BundleError> {
    let mut reader = Reader::new(bytes);
    if reader.u8()? != SECRETS_VERSION {
        return Err(BundleError::Malformed);
    }
    let bundle = reader.lp()?;
    let spk = StaticSecret::from(*Zeroizing::new(reader.array::<32>()?));
    let pq_seed = Zeroizing::new(reader.array::<64>()?);
    reader.expect_end()?;
    let (record, _) = split_signed(bundle).ok_or(BundleError::Malformed)?;
    let fields = parse_record(record)?;
    Ok(PrekeySecrets {
        bundle: bundle.to_vec(),
        bundle_id: fields.bundle_id,
        not_after: fields.not_after,
        spk,
        pq_seed,
    })
}

/// PKEY: the key that seals a bundle for storage at the relay. It keeps the relay from linking two
/// mailboxes and from testing a guessed identity.
pub struct SealedPrekeysKey {
    key: Key,
    has_card: bool,
}

impl SealedPrekeysKey {
    /// Derives the key of a connection's mailbox. `dir` is the direction of the envelopes into it.
    #[must_use]
    pub fn for_mailbox(exp: &ExporterSecret, dir: EnvelopeDirection) -> Self {
        Self {
            key: kdf_key(exp.expose(), &[label!("prekeys"), &[dir.to_byte()]]),
            has_card: false,
        }
    }

    /// Derives the key of an invite's mailbox. The owner's card is stored with the bundle there.
    #[must_use]
    pub fn for_invite(secret: &InviteSecret) -> Self {
        let dir = EnvelopeDirection::InviteeToInviter.to_byte();
        Self {
            key: kdf_key(secret.expose(), &[label!("prekeys"), &[dir]]),
            has_card: true,
        }
    }
}

/// Error when prekeys cannot be sealed for the relay, or sealed prekeys cannot be opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SealedPrekeysError {
    /// An invite's bundle has no card, a connection's bundle has one, or both together are too
    /// long.
    #[error("an invite's prekeys require a card and a connection's prekeys must have none")]
    CardMismatch,
    /// The bytes do not open with this key for this mailbox, or their padding is not zero.
    #[error("sealed prekeys do not open")]
    Invalid,
    /// The card inside is invalid.
    #[error(transparent)]
    Card(#[from] CardError),
}

impl From<ParseRecordError> for SealedPrekeysError {
    fn from(_: ParseRecordError) -> Self {
        Self::Invalid
    }
}

/// Seals a bundle, for an invite after its card, into the 2,048 bytes that the relay stores
/// (docs/e2ee.md#prekeys-at-the-relay).
///
/// # Errors
/// [`SealedPrekeysError::CardMismatch`] if a connection's bundle has a card or an invite's has
/// none.
pub fn seal_prekeys(
    key: &SealedPrekeysKey,
    mailbox: &MailboxId,
    card: Option<&SignedCard>,
    bundle: &[u8],
    rng: &mut (impl CryptoRng + ?Sized),
) -> Result<[u8; SEALED_PREKEYS_BYTES], SealedPrekeysError> {
    if card.is_some() != key.has_card {
        return Err(SealedPrekeysError::CardMismatch);
    }
    let mut padded = Vec::with_capacity(PADDED_BYTES);
    if let Some(card) = card {
        crate::record::push_lp(&mut padded, card.as_bytes());
    }
    crate::record::push_lp(&mut padded, bundle);
    if padded.len() > PADDED_BYTES {
        return Err(SealedPrekeysError::CardMismatch);
    }
    padded.resize(PADDED_BYTES, 0);
    let nonce = random_array::<NONCE_BYTES>(rng);
    let sealed = seal(&key.key, &nonce, &padded, mailbox.as_bytes());
    let mut bytes = [0; SEALED_PREKEYS_BYTES];
    bytes[..NONCE_BYTES].copy_from_slice(&nonce);
    bytes[NONCE_BYTES..].copy_from_slice(&sealed);
    Ok(bytes)
}

/// Opens sealed prekeys. Returns the verified card of an invite, and the bundle, which the caller
/// verifies with [`PrekeyBundle::parse_verified`].
///
/// # Errors
/// [`SealedPrekeysError`] if the bytes do not open with this key for this mailbox, their padding is
/// not zero, or the card is invalid.
pub fn open_prekeys(
    key: &SealedPrekeysKey,
    mailbox: &MailboxId,
    bytes: &[u8],
) -> Result<(Option<SignedCard>, Vec<u8>), SealedPrekeysError> {
    let (nonce, sealed) = bytes
        .split_first_chunk::<NONCE_BYTES>()
        .ok_or(SealedPrekeysError::Invalid)?;
    if bytes.len() != SEALED_PREKEYS_BYTES {
        return Err(SealedPrekeysError::Invalid);
    }
    let padded =
        open(&key.key, nonce, sealed, mailbox.as_bytes()).ok_or(SealedPrekeysError::Invalid)?;
    let mut reader = Reader::new(&padded);
    let card = if key.has_card {
        Some(SignedCard::parse_verified(reader.lp()?)?)
    } else {
        None
    };
    let bundle = reader.lp()?.to_vec();
    if reader.remaining().iter().any(|byte| *byte != 0) {
        return Err(SealedPrekeysError::Invalid);
    }
    Ok((card, bundle))
}
