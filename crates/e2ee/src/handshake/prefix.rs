//! The prefix of an INIT: everything before its first MSG.

use super::{CT_BYTES, InitiateArgs};
use crate::keys::Fingerprint;
use crate::prekeys::BundleId;
use crate::primitive::{Key, TAG_BYTES, ZERO_NONCE, hash, open, seal};
use crate::record::{ParseRecordError, Reader, len_u32};
use zeroize::Zeroizing;

/// `01 01`: version and frame type of an INIT.
const INIT_FRAME: [u8; 2] = [1, 1];
pub(super) const SUITE: u16 = 1;
const FLAGS: u8 = 0;

/// Encodes every field before `sealed`.
pub(super) fn encode_fixed_prefix(
    args: &InitiateArgs<'_>,
    session_epoch: u64,
    ek: &[u8; 32],
    ct: &[u8; CT_BYTES],
) -> Vec<u8> {
    let bundle = args.bundle.bundle_id();
    let initiator = if args.sealed_card.is_some() {
        [0; 8]
    } else {
        args.identity.fingerprint().truncated()
    };
    let mut prefix = Vec::with_capacity(1_600);
    prefix.extend_from_slice(&INIT_FRAME);
    prefix.extend_from_slice(&SUITE.to_be_bytes());
    prefix.push(FLAGS);
    prefix.extend_from_slice(ek);
    prefix.extend_from_slice(&session_epoch.to_be_bytes());
    prefix.extend_from_slice(&bundle.epoch.to_be_bytes());
    prefix.extend_from_slice(&bundle.spk_id.to_be_bytes());
    prefix.extend_from_slice(&initiator);
    prefix.extend_from_slice(&args.peer.fingerprint().truncated());
    prefix.extend_from_slice(ct);
    prefix
}

/// Appends `LP(X(key, 0^24, plaintext, ad))`. `ad` is all of the prefix so far, including the
/// length.
pub(super) fn push_sealed(prefix: &mut Vec<u8>, key: &Key, plaintext: &[u8]) {
    prefix.extend_from_slice(&len_u32(plaintext.len() + TAG_BYTES).to_be_bytes());
    let sealed = seal(key, &ZERO_NONCE, plaintext, prefix);
    prefix.extend_from_slice(&sealed);
}

/// Parsed prefix of a received INIT. Nothing in it is authenticated yet.
pub(crate) struct InitPrefix<'a> {
    raw: &'a [u8],
    pub(super) ek: [u8; 32],
    pub(super) session_epoch: u64,
    bundle: BundleId,
    initiator: [u8; 8],
    responder: [u8; 8],
    pub(super) ct: &'a [u8; CT_BYTES],
    pub(super) sealed: SealedField<'a>,
    pub(super) hello: SealedField<'a>,
}

/// A sealed field, and the bytes before it, which are its associated data.
pub(super) struct SealedField<'a> {
    before: &'a [u8],
    sealed: &'a [u8],
}

impl<'a> SealedField<'a> {
    fn read(reader: &mut Reader<'a>) -> Result<Self, ParseRecordError> {
        let len = reader.lp_len()?;
        Ok(Self {
            before: reader.consumed(),
            sealed: reader.bytes(len)?,
        })
    }

    pub(super) fn open(&self, key: &Key) -> Option<Zeroizing<Vec<u8>>> {
        open(key, &ZERO_NONCE, self.sealed, self.before)
    }
}

impl<'a> InitPrefix<'a> {
    /// Splits an INIT into its prefix and the MSG that follows.
    pub(crate) fn parse(init: &'a [u8]) -> Result<(Self, &'a [u8]), ParseRecordError> {
        let mut reader = Reader::new(init);
        let head = (reader.array()?, reader.u16()?, reader.u8()?);
        if head != (INIT_FRAME, SUITE, FLAGS) {
            return Err(ParseRecordError);
        }
        let ek = reader.array()?;
        let session_epoch = reader.u64()?;
        let bundle = BundleId {
            epoch: reader.u64()?,
            spk_id: reader.u32()?,
        };
        let (initiator, responder) = (reader.array()?, reader.array()?);
        let ct = reader
            .bytes(CT_BYTES)?
            .try_into()
            .map_err(|_| ParseRecordError)?;
        let (sealed, hello) = (
            SealedField::read(&mut reader)?,
            SealedField::read(&mut reader)?,
        );
        let raw = reader.consumed();
        Ok((
            Self {
                raw,
                ek,
                session_epoch,
                bundle,
                initiator,
                responder,
                ct,
                sealed,
                hello,
            },
            reader.remaining(),
        ))
    }

    /// Computes `H(prefix)`.
    pub(crate) fn hash(&self) -> [u8; 32] {
        hash(&[self.raw])
    }

    pub(crate) const fn session_epoch(&self) -> u64 {
        self.session_epoch
    }

    pub(crate) const fn bundle(&self) -> BundleId {
        self.bundle
    }

    /// Whether the prefix names `own` as the responder and `peer` as the initiator. With a sealed
    /// card, the initiator must be zero.
    pub(crate) fn is_addressed_to(&self, own: &Fingerprint, peer: Option<&Fingerprint>) -> bool {
        let expected = if self.has_card() {
            Some([0; 8])
        } else {
            peer.map(Fingerprint::truncated)
        };
        self.responder == own.truncated() && expected == Some(self.initiator)
    }

    pub(crate) const fn has_card(&self) -> bool {
        !self.sealed.sealed.is_empty()
    }
}
