//! Prekeys: the signed base that a peer needs to start a session, its secret half, and the sealed
//! form that the relay stores.

use crate::card::{CardError, SignedCard};
use crate::envelope::EnvelopeDirection;
use crate::keys::{ConnId, ExpPairing, Identity, Incarnation, InviteSecret, PeerIdentity};
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

const BASE_VERSION: u8 = 1;
const SECRETS_VERSION: u8 = 1;
/// Size of an ML-KEM-768 encapsulation key.
const PQSPK_BYTES: usize = 1_184;
const RECORD_BYTES: usize = 1 + 32 + 8 + 8 + 8 + 8 + 4 + 32 + PQSPK_BYTES;
/// Size of a base with its signature.
pub(crate) const BASE_BYTES: usize = RECORD_BYTES + SIGNATURE_BYTES;
const PADDED_BYTES: usize = SEALED_PREKEYS_BYTES - NONCE_BYTES - TAG_BYTES;

/// Scope of a base: one connection or one invite.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Scope([u8; 32]);

impl Scope {
    /// Returns the scope of a connection's base, which is its `conn_id`.
    #[must_use]
    pub const fn connection(conn_id: &ConnId) -> Self {
        Self(*conn_id.as_bytes())
    }

    /// Returns the scope of an invite's base: `H(P" invite" || invite_id)`.
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

/// Identifier of a base within its scope.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BaseId {
    /// The epoch of the base.
    pub epoch: u64,
    /// The number of its signed prekey.
    pub spk_id: u32,
}

/// Returns the epoch of the next base or session: `max(last + 1, unix_ms)`.
#[must_use]
pub const fn next_epoch(last: u64, now: Timestamp) -> u64 {
    let after = last.saturating_add(1);
    if after > now.as_millis() {
        after
    } else {
        now.as_millis()
    }
}

/// Prekey base with a verified signature (docs/e2ee.md#prekeys).
#[derive(Clone)]
pub struct PrekeyBase {
    bytes: Vec<u8>,
    fields: BaseFields,
}

#[derive(Clone)]
struct BaseFields {
    scope: Scope,
    incarnation: Incarnation,
    base_id: BaseId,
    not_before: Timestamp,
    not_after: Timestamp,
    spk: [u8; 32],
    pqspk: EncapsulationKey,
}

/// Error when a base is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BaseError {
    /// Wrong layout, unknown version, or an invalid key.
    #[error("malformed prekeys")]
    Malformed,
    /// The signature is not that of the expected owner.
    #[error("the signature of the prekeys is invalid")]
    Signature,
    /// The base belongs to another connection or invite.
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

impl From<ParseRecordError> for BaseError {
    fn from(_: ParseRecordError) -> Self {
        Self::Malformed
    }
}

impl PrekeyBase {
    /// Parses a signed base and verifies that it is `owner`'s and of `scope`.
    ///
    /// # Errors
    /// [`BaseError::Malformed`], [`BaseError::Signature`] or [`BaseError::Scope`].
    pub fn parse_verified(
        bytes: &[u8],
        owner: &PeerIdentity,
        scope: &Scope,
    ) -> Result<Self, BaseError> {
        let (record, signature) = split_signed(bytes).ok_or(BaseError::Malformed)?;
        let fields = parse_record(record)?;
        if !is_signature_valid(owner.ik_ed(), label!("prekeys"), record, signature) {
            return Err(BaseError::Signature);
        }
        if fields.scope != *scope {
            return Err(BaseError::Scope);
        }
        Ok(Self {
            bytes: bytes.to_vec(),
            fields,
        })
    }

    /// Checks that the base may be used at `now`. `last_epoch` is the highest epoch seen for this
    /// owner and scope.
    ///
    /// # Errors
    /// [`BaseError::Expired`], [`BaseError::NotYetValid`] or [`BaseError::Replayed`].
    pub fn check_fresh(&self, now: Timestamp, last_epoch: u64) -> Result<(), BaseError> {
        if now > self.fields.not_after {
            return Err(BaseError::Expired);
        }
        if now.plus(PREKEYS_EARLY_MAX) < self.fields.not_before {
            return Err(BaseError::NotYetValid);
        }
        if self.fields.base_id.epoch < last_epoch {
            return Err(BaseError::Replayed);
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
    pub const fn base_id(&self) -> BaseId {
        self.fields.base_id
    }

    /// Returns the owner's incarnation for this connection; [`Incarnation::NONE`] for an invite.
    #[must_use]
    pub const fn incarnation(&self) -> Incarnation {
        self.fields.incarnation
    }

    /// Returns the last moment at which the base may be used.
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

fn parse_record(record: &[u8]) -> Result<BaseFields, BaseError> {
    let mut reader = Reader::new(record);
    if reader.u8()? != BASE_VERSION {
        return Err(BaseError::Malformed);
    }
    let scope = Scope(reader.array()?);
    let incarnation = Incarnation::from_bytes(reader.array()?);
    let epoch = reader.u64()?;
    let not_before = Timestamp::from_millis(reader.u64()?);
    let not_after = Timestamp::from_millis(reader.u64()?);
    let base_id = BaseId {
        epoch,
        spk_id: reader.u32()?,
    };
    let spk = reader.array()?;
    let pqspk = EncapsulationKey::new(&reader.array::<PQSPK_BYTES>()?.into())
        .map_err(|_| BaseError::Malformed)?;
    reader.expect_end()?;
    Ok(BaseFields {
        scope,
        incarnation,
        base_id,
        not_before,
        not_after,
        spk,
        pqspk,
    })
}

/// Parameters of a new base.
#[derive(Debug, Clone, Copy)]
pub struct BaseParameters {
    /// The connection or invite that it is for.
    pub scope: Scope,
    /// The owner's incarnation for the connection; [`Incarnation::NONE`] for an invite.
    pub incarnation: Incarnation,
    /// The epoch: [`next_epoch`] after the last base of this scope.
    pub epoch: u64,
    /// The number of the signed prekey, counted by the owner.
    pub spk_id: u32,
    /// `not_before`: the time of creation.
    pub now: Timestamp,
    /// How long the base is valid: `not_after` is `now + lifetime`.
    pub lifetime: Duration,
}

/// Secret half of a base, with the signed base. The ML-KEM key is stored as its seed.
#[derive(Clone)]
pub struct PrekeySecrets {
    base: Vec<u8>,
    base_id: BaseId,
    not_after: Timestamp,
    spk: StaticSecret,
    pq_seed: Zeroizing<[u8; 64]>,
}

/// Error when stored prekey secrets cannot be parsed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("stored prekey secrets are malformed")]
pub struct ParsePrekeySecretsError;

impl PrekeySecrets {
    /// Generates and signs a base. Returns the secret half and the signed base to publish.
    #[must_use]
    pub fn generate(
        identity: &Identity,
        parameters: &BaseParameters,
        rng: &mut (impl CryptoRng + ?Sized),
    ) -> (Self, Vec<u8>) {
        let spk = generate_secret(rng);
        let pq_seed = Zeroizing::new(random_array::<64>(rng));
        let not_after = parameters.now.plus(parameters.lifetime);
        let record = encode_record(parameters, not_after, &spk, &pq_seed);
        let base = sign_record(identity.signing_key(), label!("prekeys"), record);
        let base_id = BaseId {
            epoch: parameters.epoch,
            spk_id: parameters.spk_id,
        };
        (
            Self {
                base: base.clone(),
                base_id,
                not_after,
                spk,
                pq_seed,
            },
            base,
        )
    }

    /// Encodes the secrets for the vault: `01 || LP(base) || SPK secret 32 || ML-KEM seed 64`.
    #[must_use]
    pub fn encode(&self) -> Zeroizing<Vec<u8>> {
        let mut record = Writer::with_capacity(5 + BASE_BYTES + 96);
        record
            .u8(SECRETS_VERSION)
            .lp(&self.base)
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
    /// base by these.
    #[must_use]
    pub const fn base_id(&self) -> BaseId {
        self.base_id
    }

    /// Returns the last moment at which a peer may use the base.
    #[must_use]
    pub const fn not_after(&self) -> Timestamp {
        self.not_after
    }

    /// Returns the signed base as published.
    #[must_use]
    pub fn base(&self) -> &[u8] {
        &self.base
    }

    pub(crate) const fn spk(&self) -> &StaticSecret {
        &self.spk
    }

    pub(crate) fn decapsulation_key(&self) -> DecapsulationKey {
        DecapsulationKey::from_seed((*self.pq_seed).into())
    }
}

fn encode_record(
    parameters: &BaseParameters,
    not_after: Timestamp,
    spk: &StaticSecret,
    pq_seed: &[u8; 64],
) -> Vec<u8> {
    let pqspk = DecapsulationKey::from_seed((*pq_seed).into())
        .encapsulation_key()
        .to_bytes();
    let mut record = Vec::with_capacity(BASE_BYTES);
    record.push(BASE_VERSION);
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

fn parse_secrets(bytes: &[u8]) -> Result<PrekeySecrets, BaseError> {
    let mut reader = Reader::new(bytes);
    if reader.u8()? != SECRETS_VERSION {
        return Err(BaseError::Malformed);
    }
    let base = reader.lp()?;
    let spk = StaticSecret::from(*Zeroizing::new(reader.array::<32>()?));
    let pq_seed = Zeroizing::new(reader.array::<64>()?);
    reader.expect_end()?;
    let (record, _) = split_signed(base).ok_or(BaseError::Malformed)?;
    let fields = parse_record(record)?;
    Ok(PrekeySecrets {
        base: base.to_vec(),
        base_id: fields.base_id,
        not_after: fields.not_after,
        spk,
        pq_seed,
    })
}

/// PKEY: the key that seals a base for storage at the relay. It keeps the relay from linking two
/// mailboxes and from testing a guessed identity.
pub struct SealedPrekeysKey {
    key: Key,
    has_card: bool,
}

impl SealedPrekeysKey {
    /// Derives the key of a connection's mailbox. `dir` is the direction of the envelopes into it.
    #[must_use]
    pub fn for_mailbox(exp: &ExpPairing, dir: EnvelopeDirection) -> Self {
        Self {
            key: kdf_key(exp.expose(), &[label!("prekeys"), &[dir.to_byte()]]),
            has_card: false,
        }
    }

    /// Derives the key of an invite's mailbox. The owner's card is stored with the base there.
    #[must_use]
    pub fn for_invite(secret: &InviteSecret) -> Self {
        let dir = EnvelopeDirection::AcceptorToInviter.to_byte();
        Self {
            key: kdf_key(secret.expose(), &[label!("prekeys"), &[dir]]),
            has_card: true,
        }
    }
}

/// Error when prekeys cannot be sealed for the relay, or sealed prekeys cannot be opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SealedPrekeysError {
    /// An invite's base has no card, a connection's base has one, or both together are too long.
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

/// Seals a base, for an invite after its card, into the 2,048 bytes that the relay stores
/// (docs/e2ee.md#prekeys-at-the-relay).
///
/// # Errors
/// [`SealedPrekeysError::CardMismatch`] if a connection's base has a card or an invite's has none.
pub fn seal_prekeys(
    key: &SealedPrekeysKey,
    mailbox: &MailboxId,
    card: Option<&SignedCard>,
    base: &[u8],
    rng: &mut (impl CryptoRng + ?Sized),
) -> Result<[u8; SEALED_PREKEYS_BYTES], SealedPrekeysError> {
    if card.is_some() != key.has_card {
        return Err(SealedPrekeysError::CardMismatch);
    }
    let mut padded = Vec::with_capacity(PADDED_BYTES);
    if let Some(card) = card {
        crate::record::push_lp(&mut padded, card.as_bytes());
    }
    crate::record::push_lp(&mut padded, base);
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

/// Opens sealed prekeys. Returns the verified card of an invite, and the base, which the caller
/// verifies with [`PrekeyBase::parse_verified`].
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
    let base = reader.lp()?.to_vec();
    if reader.remaining().iter().any(|byte| *byte != 0) {
        return Err(SealedPrekeysError::Invalid);
    }
    Ok((card, base))
}
