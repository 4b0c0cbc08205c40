//! X25519 recipients and identities, and the `X25519` stanza that wraps a file key for one.

use crate::file_key::{FileKey, WRAPPED_KEY_BYTES};
use crate::primitive::{decode_base64_array, derive_key, encode_base64, random_array};
use crate::stanza::Stanza;
use bech32::{Bech32, Fe32, Hrp, primitives::decode::CheckedHrpstring};
use rand_core::CryptoRng;
use std::fmt;
use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::Zeroizing;

/// Type of the stanza.
pub(crate) const X25519_TYPE: &str = "X25519";
const WRAP_INFO: &[u8] = b"age-encryption.org/v1/X25519";
const RECIPIENT_PREFIX: &str = "age";
const IDENTITY_PREFIX: &str = "AGE-SECRET-KEY-";
/// Characters of 5 bits for 32 bytes.
const KEY_CHARACTERS: usize = 52;
/// Bits of the last character that belong to no byte.
const PADDING_BITS: u8 = 0b1111;

/// Error when a text is not an X25519 recipient.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an age recipient: expected `age1` and 58 more characters, all in lower case")]
pub struct ParseRecipientError;

/// Error when a text is not an X25519 identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "not an age identity: expected `AGE-SECRET-KEY-1` and 58 more characters, all in upper case"
)]
pub struct ParseIdentityError;

/// Public key to which a file can be encrypted: `age1…`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recipient([u8; 32]);

impl Recipient {
    /// Parses a recipient.
    ///
    /// # Errors
    /// [`ParseRecipientError`] if the text is not exactly one recipient.
    pub fn parse(text: &str) -> Result<Self, ParseRecipientError> {
        let key = decode_key(RECIPIENT_PREFIX, text).ok_or(ParseRecipientError)?;
        Ok(Self(*key))
    }
}

impl fmt::Display for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let prefix = Hrp::parse_unchecked(RECIPIENT_PREFIX);
        bech32::encode_lower_to_fmt::<Bech32, _>(f, prefix, &self.0).map_err(|_| fmt::Error)
    }
}

/// Secret key of a [`Recipient`]: `AGE-SECRET-KEY-1…`.
pub struct Identity {
    secret: StaticSecret,
    recipient: Recipient,
}

impl Identity {
    /// Parses an identity. White space and the comments of an identity file are not part of it.
    ///
    /// # Errors
    /// [`ParseIdentityError`] if the text is not exactly one identity.
    pub fn parse(text: &str) -> Result<Self, ParseIdentityError> {
        let key = decode_key(IDENTITY_PREFIX, text).ok_or(ParseIdentityError)?;
        let secret = StaticSecret::from(*key);
        let recipient = Recipient(PublicKey::from(&secret).to_bytes());
        Ok(Self { secret, recipient })
    }

    /// Returns the recipient whose files this identity opens.
    #[must_use]
    pub const fn recipient(&self) -> Recipient {
        self.recipient
    }
}

/// Error when the shared secret with an ephemeral key or a recipient is all zero, because the key
/// is a point of low order. Anyone would know the wrapping key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LowOrderPoint;

/// Error when a stanza of the type `X25519` is malformed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct MalformedX25519Stanza;

/// Stanza that wraps the file key for one recipient, which it does not name.
pub(crate) struct X25519Stanza {
    ephemeral_share: [u8; 32],
    wrapped_key: [u8; WRAPPED_KEY_BYTES],
}

impl X25519Stanza {
    pub(crate) fn parse(stanza: &Stanza) -> Result<Self, MalformedX25519Stanza> {
        let [_, ephemeral_share] = stanza.arguments.as_slice() else {
            return Err(MalformedX25519Stanza);
        };
        let ephemeral_share = decode_base64_array(ephemeral_share.as_bytes());
        let wrapped_key = stanza.body.as_slice().try_into();
        Ok(Self {
            ephemeral_share: ephemeral_share.ok_or(MalformedX25519Stanza)?,
            wrapped_key: wrapped_key.map_err(|_| MalformedX25519Stanza)?,
        })
    }

    pub(crate) fn wrap(
        file_key: &FileKey,
        recipient: &Recipient,
        rng: &mut (impl CryptoRng + ?Sized),
    ) -> Result<Stanza, LowOrderPoint> {
        let seed = Zeroizing::new(random_array(rng));
        let ephemeral = StaticSecret::from(*seed);
        let ephemeral_share = PublicKey::from(&ephemeral).to_bytes();
        let wrap_key = derive_wrap_key(&ephemeral, &recipient.0, &ephemeral_share, recipient)?;
        Ok(Stanza {
            arguments: vec![X25519_TYPE.to_owned(), encode_base64(&ephemeral_share)],
            body: file_key.wrap(&wrap_key).to_vec(),
        })
    }

    /// Returns the file key, or `None` if the stanza is for another recipient.
    pub(crate) fn unwrap(&self, identity: &Identity) -> Result<Option<FileKey>, LowOrderPoint> {
        let wrap_key = derive_wrap_key(
            &identity.secret,
            &self.ephemeral_share,
            &self.ephemeral_share,
            &identity.recipient,
        )?;
        Ok(FileKey::unwrap(&self.wrapped_key, &wrap_key))
    }
}

/// Derives the wrapping key from the shared secret of `secret` and `public`.
fn derive_wrap_key(
    secret: &StaticSecret,
    public: &[u8; 32],
    ephemeral_share: &[u8; 32],
    recipient: &Recipient,
) -> Result<Zeroizing<[u8; 32]>, LowOrderPoint> {
    let shared = secret.diffie_hellman(&PublicKey::from(*public));
    if !shared.was_contributory() {
        return Err(LowOrderPoint);
    }
    let salt = [*ephemeral_share, recipient.0].concat();
    Ok(derive_key(shared.as_bytes(), &salt, WRAP_INFO))
}

/// Decodes the canonical Bech32 of a 32-byte key, with its prefix in this case. The key is written
/// to one place only, because it can be secret.
fn decode_key(prefix: &str, text: &str) -> Option<Zeroizing<[u8; 32]>> {
    let checked = CheckedHrpstring::new::<Bech32>(text).ok()?;
    let is_canonical = checked.hrp().as_str() == prefix
        && checked.fe32_iter().len() == KEY_CHARACTERS
        && checked.fe32_iter().last().map(Fe32::to_u8)? & PADDING_BITS == 0;
    let mut key = Zeroizing::new([0; 32]);
    key.iter_mut()
        .zip(checked.byte_iter())
        .for_each(|(byte, decoded)| *byte = decoded);
    is_canonical.then_some(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The examples of the specification.
    const IDENTITY: &str =
        "AGE-SECRET-KEY-1GFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPQ4EGAEX";
    const RECIPIENT: &str = "age1zvkyg2lqzraa2lnjvqej32nkuu0ues2s82hzrye869xeexvn73equnujwj";

    #[test]
    fn identity_gives_the_specified_recipient() {
        let recipient = Identity::parse(IDENTITY).unwrap().recipient();
        assert_eq!(recipient.to_string(), RECIPIENT);
        assert_eq!(Recipient::parse(RECIPIENT), Ok(recipient));
    }

    #[test]
    fn other_case_is_refused() {
        assert!(Identity::parse(&IDENTITY.to_lowercase()).is_err());
        assert!(Recipient::parse(&RECIPIENT.to_uppercase()).is_err());
    }

    #[test]
    fn identity_is_no_recipient() {
        assert!(Recipient::parse(IDENTITY).is_err());
        assert!(Identity::parse(RECIPIENT).is_err());
    }

    #[test]
    fn altered_keys_are_refused() {
        for (at, _) in RECIPIENT.char_indices() {
            let mut altered = RECIPIENT.to_owned();
            let other = if &altered[at..=at] == "q" { "p" } else { "q" };
            altered.replace_range(at..=at, other);
            assert!(Recipient::parse(&altered).is_err(), "{altered}");
            assert!(Recipient::parse(&RECIPIENT[..at]).is_err());
        }
        for surrounded in [format!(" {RECIPIENT}"), format!("{RECIPIENT}\n")] {
            assert!(Recipient::parse(&surrounded).is_err());
        }
    }

    #[test]
    fn keys_of_other_encodings_are_refused() {
        let prefix = Hrp::parse(RECIPIENT_PREFIX).unwrap();
        let encode = |bytes: &[u8]| bech32::encode::<Bech32>(prefix, bytes).unwrap();
        assert!(Recipient::parse(&encode(&[9; 32])).is_ok());
        // The zeros end in zero bits, whatever the length.
        for byte in [9, 0] {
            assert!(Recipient::parse(&encode(&[byte; 31])).is_err());
            assert!(Recipient::parse(&encode(&[byte; 33])).is_err());
        }
        let modified = bech32::encode::<bech32::Bech32m>(prefix, &[9; 32]).unwrap();
        assert!(Recipient::parse(&modified).is_err());
        let other_prefix = Hrp::parse("age1pq").unwrap();
        let hybrid = bech32::encode::<Bech32>(other_prefix, &[9; 32]).unwrap();
        assert!(Recipient::parse(&hybrid).is_err());
    }

    #[test]
    fn padding_bits_must_be_zero() {
        use bech32::primitives::iter::{ByteIterExt as _, Fe32IterExt as _};
        let prefix = Hrp::parse(RECIPIENT_PREFIX).unwrap();
        let mut characters: Vec<_> = [9; 32].into_iter().bytes_to_fes().collect();
        let last = characters.last_mut().unwrap();
        *last = Fe32::try_from(last.to_u8() | 1).unwrap();
        let encoded = characters.into_iter().with_checksum::<Bech32>(&prefix);
        assert!(Recipient::parse(&encoded.chars().collect::<String>()).is_err());
    }
}
