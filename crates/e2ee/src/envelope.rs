//! The outer envelope, the only form in which a relay holds a message. It hides the kind of its
//! content, binds it to a mailbox, and lets a node discard garbage before any ratchet work.

use crate::keys::{ExporterSecret, InviteSecret};
use crate::padme::padme;
use crate::primitive::{Key, NONCE_BYTES, TAG_BYTES, kdf_key, label, open, random_array, seal};
use crate::record::{Reader, push_lp};
use rand_core::CryptoRng;
use sealpost_proto::MailboxId;
use sealpost_proto::limits::{ENVELOPE_BYTES_MAX, ENVELOPE_BYTES_MIN};

/// Sizes up to this one are powers of two; larger ones follow Padmé.
const POWER_OF_TWO_MAX: usize = 64 * 1024;
/// Size of the nonce, the tag and the length field.
const OVERHEAD_BYTES: usize = NONCE_BYTES + TAG_BYTES + 4;

/// Direction of an envelope within a connection. The inviter created the invite, the invitee uses
/// it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EnvelopeDirection {
    /// `00`: from invitee to inviter, and every envelope to an invite's mailbox.
    InviteeToInviter,
    /// `01`: from inviter to invitee.
    InviterToInvitee,
}

impl EnvelopeDirection {
    /// Returns the byte that labels use.
    #[must_use]
    pub const fn to_byte(self) -> u8 {
        match self {
            Self::InviteeToInviter => 0,
            Self::InviterToInvitee => 1,
        }
    }

    /// Returns the opposite direction.
    #[must_use]
    pub const fn reverse(self) -> Self {
        match self {
            Self::InviteeToInviter => Self::InviterToInvitee,
            Self::InviterToInvitee => Self::InviteeToInviter,
        }
    }
}

/// Outer key of one mailbox. It has no forward secrecy: it protects routing and padding, while the
/// ratchet protects content.
#[derive(Clone)]
pub struct OuterKey(Key);

impl OuterKey {
    /// Derives the key of a connection's mailbox. `dir` is the direction of the envelopes into it.
    #[must_use]
    pub fn for_mailbox(exp: &ExporterSecret, dir: EnvelopeDirection) -> Self {
        Self(kdf_key(
            exp.expose(),
            &[label!("mailbox"), &[dir.to_byte()]],
        ))
    }

    /// Derives the key of an invite's mailbox.
    #[must_use]
    pub fn for_invite(secret: &InviteSecret) -> Self {
        Self(kdf_key(secret.expose(), &[label!("rendezvous")]))
    }
}

/// Error when an envelope would exceed 256 KiB.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("envelope too large: {actual_bytes} bytes before padding, limit {ENVELOPE_BYTES_MAX}")]
pub struct EnvelopeTooLarge {
    /// The size before padding.
    pub actual_bytes: usize,
}

/// Error when an envelope does not open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("envelope does not open")]
pub struct OpenEnvelopeError;

/// Returns the size that an envelope of `len` bytes is padded to, or `None` above 256 KiB.
#[must_use]
pub fn padded_len(len: usize) -> Option<usize> {
    let padded = if len <= POWER_OF_TWO_MAX {
        len.next_power_of_two().max(ENVELOPE_BYTES_MIN)
    } else {
        usize::try_from(padme(len as u64)).ok()?
    };
    (padded <= ENVELOPE_BYTES_MAX).then_some(padded)
}

/// Seals inner bytes into an envelope for one mailbox (docs/e2ee.md#envelope).
///
/// # Errors
/// [`EnvelopeTooLarge`] above 256 KiB. No output of a session is that large.
pub fn seal_envelope(
    key: &OuterKey,
    mailbox: &MailboxId,
    inner: &[u8],
    rng: &mut (impl CryptoRng + ?Sized),
) -> Result<Vec<u8>, EnvelopeTooLarge> {
    let actual_bytes = inner.len().saturating_add(OVERHEAD_BYTES);
    let total = padded_len(actual_bytes).ok_or(EnvelopeTooLarge { actual_bytes })?;
    let mut padded = Vec::with_capacity(total - NONCE_BYTES - TAG_BYTES);
    push_lp(&mut padded, inner);
    padded.resize(total - NONCE_BYTES - TAG_BYTES, 0);
    let nonce = random_array::<NONCE_BYTES>(rng);
    let sealed = seal(&key.0, &nonce, &padded, &associated_data(mailbox));
    Ok([&nonce[..], &sealed].concat())
}

/// Opens an envelope received in one mailbox and returns its inner bytes.
///
/// # Errors
/// [`OpenEnvelopeError`] for every cause: wrong size, key, mailbox or tag, or padding that is not
/// zero or of the wrong length.
pub fn open_envelope(
    key: &OuterKey,
    mailbox: &MailboxId,
    envelope: &[u8],
) -> Result<Vec<u8>, OpenEnvelopeError> {
    if !(ENVELOPE_BYTES_MIN..=ENVELOPE_BYTES_MAX).contains(&envelope.len()) {
        return Err(OpenEnvelopeError);
    }
    let (nonce, sealed) = envelope
        .split_first_chunk::<NONCE_BYTES>()
        .ok_or(OpenEnvelopeError)?;
    let padded = open(&key.0, nonce, sealed, &associated_data(mailbox)).ok_or(OpenEnvelopeError)?;
    let mut reader = Reader::new(&padded);
    let inner = reader.lp().map_err(|_| OpenEnvelopeError)?;
    let in_its_bucket = padded_len(inner.len() + OVERHEAD_BYTES) == Some(envelope.len());
    if !in_its_bucket || reader.remaining().iter().any(|byte| *byte != 0) {
        return Err(OpenEnvelopeError);
    }
    Ok(inner.to_vec())
}

fn associated_data(mailbox: &MailboxId) -> Vec<u8> {
    [label!("m"), mailbox.as_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand_chacha::{ChaCha20Rng, rand_core::SeedableRng as _};

    fn key() -> OuterKey {
        OuterKey::for_mailbox(
            &ExporterSecret::from_bytes([1; 32]),
            EnvelopeDirection::InviteeToInviter,
        )
    }

    #[test]
    fn envelope_sizes_are_rounded_up() {
        for (len, padded) in [
            (44, 2_048),
            (2_048, 2_048),
            (2_049, 4_096),
            (65_536, 65_536),
            (65_537, 67_584),
            (131_072, 131_072),
            (131_073, 135_168),
            (262_144, 262_144),
        ] {
            assert_eq!(padded_len(len), Some(padded), "{len}");
        }
        assert_eq!((padded_len(262_145), padded_len(usize::MAX)), (None, None));
    }

    #[test]
    fn envelope_opens_only_for_its_mailbox() {
        let mut rng = ChaCha20Rng::seed_from_u64(1);
        let (mailbox, other) = (
            MailboxId::from_bytes([1; 16]),
            MailboxId::from_bytes([2; 16]),
        );
        let envelope = seal_envelope(&key(), &mailbox, b"inner", &mut rng).unwrap();
        assert_eq!(
            open_envelope(&key(), &mailbox, &envelope).as_deref(),
            Ok(&b"inner"[..])
        );
        assert!(open_envelope(&key(), &other, &envelope).is_err());
        let back = OuterKey::for_mailbox(
            &ExporterSecret::from_bytes([1; 32]),
            EnvelopeDirection::InviterToInvitee,
        );
        assert!(open_envelope(&back, &mailbox, &envelope).is_err());
    }

    #[test]
    fn altered_envelopes_do_not_open() {
        let mut rng = ChaCha20Rng::seed_from_u64(2);
        let mailbox = MailboxId::from_bytes([1; 16]);
        let envelope = seal_envelope(&key(), &mailbox, b"inner", &mut rng).unwrap();
        for bit in 0..envelope.len() * 8 {
            let mut changed = envelope.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(
                open_envelope(&key(), &mailbox, &changed).is_err(),
                "bit {bit}"
            );
        }
        assert!(open_envelope(&key(), &mailbox, &envelope[..2_047]).is_err());
        assert!(open_envelope(&key(), &mailbox, &[&envelope[..], &[0]].concat()).is_err());
    }

    #[test]
    fn wrong_padding_or_size_is_refused() {
        let mailbox = MailboxId::from_bytes([1; 16]);
        let seal_raw = |padded: &[u8]| {
            let nonce = [7; NONCE_BYTES];
            [
                &nonce[..],
                &seal(&key().0, &nonce, padded, &associated_data(&mailbox)),
            ]
            .concat()
        };
        let mut padded = vec![0; 2_048 - 40];
        padded[3] = 1;
        assert!(open_envelope(&key(), &mailbox, &seal_raw(&padded)).is_ok());
        padded.resize(4_096 - 40, 0);
        assert!(
            open_envelope(&key(), &mailbox, &seal_raw(&padded)).is_err(),
            "too large a bucket"
        );
        padded.truncate(2_048 - 40);
        padded[2_000] = 1;
        assert!(
            open_envelope(&key(), &mailbox, &seal_raw(&padded)).is_err(),
            "padding"
        );
    }
}
